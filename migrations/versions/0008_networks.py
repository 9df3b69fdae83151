"""Networks: failed logins of each, and those in which an account has had a session."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

import sqlalchemy as sa
from alembic import op

from app.core.model import UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def big_integer() -> sa.types.TypeEngine[int]:
    """A 64-bit integer; SQLite makes only INTEGER a row id."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the failures of each network, and the networks of the sessions of the last 90 days.

    Failures of each account over all networks stay where they are: servers of the release before go on counting them.
    """
    op.create_table(
        "network_login_failures",
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("network", sa.String(45), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("first_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("account", "network", name="pk_network_login_failures"),
    )
    # Found before the reference locks the users: registrations go on meanwhile.
    found = _networks_of_sessions()
    networks = op.create_table(
        "session_networks",
        sa.Column("user_id", big_integer(), nullable=False),
        sa.Column("network", sa.String(45), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_session_networks_user_id_users", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "network", name="pk_session_networks"),
    )
    op.create_index("ix_session_networks_seen_at", "session_networks", ["seen_at"])
    op.bulk_insert(networks, found)


def downgrade() -> None:
    """Take both away."""
    op.drop_table("session_networks")
    op.drop_table("network_login_failures")


def _networks_of_sessions() -> list[dict[str, object]]:
    columns = [sa.column("user_id"), sa.column("address"), sa.column("last_seen_at", UtcDateTime())]
    sessions = sa.table("sessions", *columns)
    user_id, address, last_seen_at = sessions.c
    since = datetime.now(UTC) - timedelta(days=90)
    found = op.get_bind().execute(
        sa.select(user_id, address, sa.func.max(last_seen_at, type_=UtcDateTime()))
        .where(last_seen_at > since)
        .group_by(user_id, address)
    )
    seen: dict[tuple[int, str], datetime] = {}
    for whose, where, when in found:
        key = whose, _network_of(where)
        seen[key] = max(when, seen.get(key, when))
    return [{"user_id": whose, "network": network, "seen_at": when} for (whose, network), when in seen.items()]


def _network_of(address: str) -> str:
    # As the application had it when this was written.
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(IPv6Network((int(parsed), 64), strict=False))
        parsed = parsed.ipv4_mapped
    return str(IPv4Network((parsed, 24), strict=False))
