"""Money and names: amounts with four decimals, a price of 0, a crossed-out price, and usernames of up to 50 characters.

Every price keeps its value, also one that its currency cannot have (100.50 JPY was stored once).
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

from migrations.tables import rebuild_table

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

OLD_CHECK = "CONSTRAINT ck_products_price_positive CHECK (price > 0)"
NEW_CHECKS = (
    "CONSTRAINT ck_products_price_not_negative CHECK (price >= 0), \n"
    "\tCONSTRAINT ck_products_compare_at_price_not_negative CHECK (compare_at_price >= 0)"
)
OLD_COLUMN = "price BIGINT NOT NULL"
NEW_COLUMNS = "price BIGINT NOT NULL, \n\tcompare_at_price BIGINT"
OLD_NAME, NEW_NAME = "username VARCHAR(32) NOT NULL", "username VARCHAR(50) NOT NULL"

#: What the release before cannot have: how many rows of it there are, and what is said of them.
UNFIT = (
    ("products", "price = 0", "have a price of 0"),
    ("products", "price % {hundredth} <> 0", "have a price with more than two decimals"),
    ("users", "length(username) > 32", "have a username of more than 32 characters"),
)


def upgrade() -> None:
    """Store amounts in ten-thousandths, and let a price be 0 and a username longer."""
    if op.get_bind().dialect.name == "sqlite":
        rebuild_table("products", {OLD_COLUMN: NEW_COLUMNS, OLD_CHECK: NEW_CHECKS}, values={"price": "price * 100"})
        rebuild_table("users", {OLD_NAME: NEW_NAME})
        return
    op.drop_constraint(op.f("ck_products_price_positive"), "products")
    op.alter_column("products", "price", type_=sa.Numeric(14, 4))
    op.add_column("products", sa.Column("compare_at_price", sa.Numeric(14, 4), nullable=True))
    for amount in ("price", "compare_at_price"):
        op.create_check_constraint(op.f(f"ck_products_{amount}_not_negative"), "products", f"{amount} >= 0")
    op.alter_column("users", "username", type_=sa.String(50))


def downgrade() -> None:
    """Go back to hundredths; refuses, and changes nothing, where a row does not fit. Crossed-out prices are lost."""
    if op.get_bind().dialect.name == "postgresql":
        # What is written between the check and the change would be rounded.
        op.execute("LOCK TABLE products, users IN ACCESS EXCLUSIVE MODE")
    require_fit()
    if op.get_bind().dialect.name == "sqlite":
        rebuild_table("products", {NEW_COLUMNS: OLD_COLUMN, NEW_CHECKS: OLD_CHECK}, values={"price": "price / 100"})
        rebuild_table("users", {NEW_NAME: OLD_NAME})
        return
    for amount in ("price", "compare_at_price"):
        op.drop_constraint(op.f(f"ck_products_{amount}_not_negative"), "products")
    op.drop_column("products", "compare_at_price")
    op.alter_column("products", "price", type_=sa.Numeric(12, 2))
    op.create_check_constraint(op.f("ck_products_price_positive"), "products", "price > 0")
    op.alter_column("users", "username", type_=sa.String(32))


def require_fit() -> None:
    """Refuse where a row has what the release before cannot store."""
    connection = op.get_bind()
    hundredth = "100" if connection.dialect.name == "sqlite" else "0.01"
    for table, condition, what in UNFIT:
        statement = f"SELECT count(*) FROM {table} WHERE {condition.format(hundredth=hundredth)}"  # noqa: S608 -- UNFIT
        if unfit := connection.scalar(sa.text(statement)):
            raise CommandError(f"{unfit} {table} {what}, which the release before cannot store; nothing was changed")
