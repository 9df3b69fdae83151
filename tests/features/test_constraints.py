"""The rules that the database itself keeps, whatever the application does: CHECK, UNIQUE and FOREIGN KEY."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, UniqueConstraint, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.core.constraints import violated_constraint
from app.core.transactions import unit_of_work
from app.extensions import db
from tests.rows import ROWS

OTHERS: dict[str, dict[str, Any]] = {
    "users": {"id": 2, "email": "e@example.com", "username": "eve"},
    "categories": {"id": 2, "slug": "d", "external_id": None},
    "brands": {"id": 2, "name": "d", "slug": "d", "external_id": None},
    "attributes": {"id": 2, "code": "size"},
    "products": {"id": 2, "sku": "A-2", "slug": "p2", "gtin": None, "external_id": None},
}

#: A parent and its variant, beside the rows that fit.
FAMILY: list[dict[str, Any]] = [
    {"id": 18, "sku": "A-8", "slug": "p8", "kind": "parent"},
    {"id": 19, "sku": "A-9", "slug": "p9", "kind": "variant", "parent_id": 18, "position": 0, "option_key": "{}"},
]
VARIANT = {"kind": "variant", "parent_id": 18, "position": 0, "option_key": "{}"}
#: No row has the generated key of another without its primary key.
GENERATED = {"uq_products_parent_key"}

#: What breaks each named rule: a table, and how a second row of it differs from the one that fits.
BREAKS: dict[str, tuple[str, dict[str, Any]]] = {
    "ck_users_role": ("users", {**OTHERS["users"], "role": "owner"}),
    "ck_users_email_lower": ("users", {**OTHERS["users"], "email": "Eve@example.com"}),
    "uq_users_email": ("users", {**OTHERS["users"], "email": "bob@example.com"}),
    "uq_users_username": ("users", {**OTHERS["users"], "username": "BOB"}),
    "fk_sessions_user_id_users": ("sessions", {"id": 2, "user_id": 9}),
    "fk_sessions_client_id_oauth_clients": ("sessions", {"id": 2, "client_id": 9}),
    "fk_sessions_identity_id_identities": ("sessions", {"id": 2, "identity_id": 9}),
    "uq_identities_issuer_subject": ("identities", {"id": 2}),
    "fk_identities_user_id_users": ("identities", {"id": 2, "subject": "other", "user_id": 9}),
    "ck_oauth_clients_type": ("oauth_clients", {"id": 2, "type": "native", "secret_hash": None}),
    "ck_oauth_clients_secret": ("oauth_clients", {"id": 2, "type": "public"}),
    "fk_authorization_codes_client_id_oauth_clients": ("authorization_codes", {"code_hash": "1", "client_id": 9}),
    "fk_authorization_codes_user_id_users": ("authorization_codes", {"code_hash": "1", "user_id": 9}),
    "fk_authorization_codes_session_id_sessions": ("authorization_codes", {"code_hash": "1", "session_id": 9}),
    "fk_login_codes_user_id_users": ("login_codes", {"code_hash": "1", "user_id": 9}),
    "fk_login_codes_identity_id_identities": ("login_codes", {"code_hash": "1", "identity_id": 9}),
    "fk_login_codes_session_id_sessions": ("login_codes", {"code_hash": "1", "session_id": 9}),
    "fk_session_networks_user_id_users": ("session_networks", {"user_id": 9}),
    "fk_api_keys_user_id_users": ("api_keys", {"id": 2, "user_id": 9}),
    "fk_refresh_tokens_session_id_sessions": ("refresh_tokens", {"id": "other", "session_id": 9}),
    "ck_categories_not_its_own_parent": ("categories", {**OTHERS["categories"], "parent_id": 2}),
    "uq_categories_slug": ("categories", {**OTHERS["categories"], "slug": "c"}),
    "uq_categories_external_id": ("categories", {**OTHERS["categories"], "external_id": "erp-1"}),
    "fk_categories_parent_id_categories": ("categories", {**OTHERS["categories"], "parent_id": 9}),
    "uq_brands_name": ("brands", {**OTHERS["brands"], "name": "b"}),
    "uq_brands_slug": ("brands", {**OTHERS["brands"], "slug": "b"}),
    "uq_brands_external_id": ("brands", {**OTHERS["brands"], "external_id": "erp-1"}),
    "ck_attributes_type": ("attributes", {**OTHERS["attributes"], "type": "colour"}),
    "uq_attributes_code": ("attributes", {"id": 2}),
    "uq_product_types_code": ("product_types", {"id": 2}),
    "fk_product_type_attributes_type_id_product_types": ("product_type_attributes", {"type_id": 9}),
    "fk_product_type_attributes_attribute_id_attributes": ("product_type_attributes", {"attribute_id": 9}),
    "ck_catalogue_state_one_row": ("catalogue_state", {"id": 2}),
    "ck_products_price_not_negative": ("products", {**OTHERS["products"], "price": -1}),
    "ck_products_compare_at_price_not_negative": ("products", {**OTHERS["products"], "compare_at_price": -1}),
    "uq_products_slug": ("products", {**OTHERS["products"], "slug": "p"}),
    "uq_products_gtin": ("products", {**OTHERS["products"], "gtin": "04006381333931"}),
    "uq_products_external_id": ("products", {**OTHERS["products"], "external_id": "erp-1"}),
    "ck_products_stock_not_negative": ("products", {**OTHERS["products"], "stock": -1}),
    "ck_products_low_stock_at_not_negative": ("products", {**OTHERS["products"], "low_stock_at": -1}),
    "ck_products_status": ("products", {**OTHERS["products"], "status": "gone"}),
    "ck_products_currency": ("products", {**OTHERS["products"], "currency": "US"}),
    "uq_products_sku": ("products", {**OTHERS["products"], "sku": "A-1"}),
    "fk_products_category_id_categories": ("products", {**OTHERS["products"], "category_id": 9}),
    "fk_products_brand_id_brands": ("products", {**OTHERS["products"], "brand_id": 9}),
    "fk_products_type_id_product_types": ("products", {**OTHERS["products"], "type_id": 9}),
    "fk_products_parent_id_products": ("products", {**OTHERS["products"], **VARIANT, "parent_id": 9}),
    "ck_products_kind": ("products", {**OTHERS["products"], "kind": "bundle"}),
    "ck_products_parent_id_of_variant": ("products", {**OTHERS["products"], "parent_id": 18}),
    "ck_products_position_of_variant": ("products", {**OTHERS["products"], "position": 0}),
    "uq_products_parent_id_option_key": ("products", {**OTHERS["products"], **VARIANT}),
    "ck_stock_movements_delta_fits_reason": ("stock_movements", {"id": 2, "reason": "sale"}),
    "ck_stock_movements_stock_after_not_negative": ("stock_movements", {"id": 2, "stock_after": -1}),
    "fk_stock_movements_product_id_products": ("stock_movements", {"id": 2, "product_id": 9}),
    "ck_holds_quantity_positive": ("holds", {"id": 2, "quantity": 0}),
    "ck_holds_outcome": ("holds", {"id": 2, "outcome": "expired"}),
    "fk_holds_product_id_products": ("holds", {"id": 2, "product_id": 9}),
    "uq_search_terms_week_term": ("search_terms", {"id": 2}),
    "ck_search_terms_searches_positive": ("search_terms", {"id": 2, "term": "oak", "searches": 0, "empty_searches": 0}),
    "ck_search_terms_empty_searches_among_searches": ("search_terms", {"id": 2, "term": "oak", "empty_searches": 4}),
    "ck_jobs_status": ("jobs", {"id": 2, "status": "lost"}),
    "ck_jobs_leased_while_running": ("jobs", {"id": 2, "lease": "0" * 32}),
    "uq_jobs_key": ("jobs", {"id": 2}),
    "ck_workers_kind": ("workers", {"id": "1" * 32, "kind": "cron"}),
    "uq_imports_job_id": ("imports", {"id": 2}),
    "fk_imports_user_id_users": ("imports", {"id": 2, "user_id": 9, "job_id": 9}),
    "fk_imports_job_id_jobs": ("imports", {"id": 2, "job_id": 9}),
    "fk_import_chunks_import_id_imports": ("import_chunks", {"import_id": 9}),
    "fk_import_skus_import_id_imports": ("import_skus", {"import_id": 9}),
    "fk_import_faults_import_id_imports": ("import_faults", {"id": 2, "import_id": 9}),
    "fk_webhooks_user_id_users": ("webhooks", {"id": 2, "user_id": 9}),
    "fk_webhooks_job_id_jobs": ("webhooks", {"id": 2, "job_id": 9}),
    "ck_webhook_deliveries_status": ("webhook_deliveries", {"id": 2, "status": "lost"}),
    "uq_webhook_deliveries_webhook_id_resource_type_resource_id": ("webhook_deliveries", {"id": 2}),
    "fk_webhook_deliveries_webhook_id_webhooks": ("webhook_deliveries", {"id": 2, "webhook_id": 9}),
    "ck_webhook_dispatch_one_row": ("webhook_dispatch", {"id": 2}),
}

Execute = Callable[..., None]


@pytest.fixture
def execute(app: Flask) -> Execute:
    """Run a statement past the application, on a database with a row in each table."""

    def execute(statement: str, values: dict[str, Any] | None = None) -> None:
        with app.app_context(), unit_of_work():
            db.session.execute(text(statement), values or {})

    for table, row in ROWS.items():
        execute(insert(table, row), row)
    for own in FAMILY:
        other = {**ROWS["products"], **OTHERS["products"], **own}
        execute(insert("products", other), other)
    return execute


def insert(table: str, row: dict[str, Any]) -> str:
    """The statement that inserts a row."""
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"


class TestTheTable:
    def test_breaks_every_rule_of_the_models(self) -> None:
        kinds = CheckConstraint | ForeignKeyConstraint | UniqueConstraint
        tables = [db.metadata.tables[name] for name in ROWS]

        of_columns = [rule for table in tables for column in table.columns for rule in column.constraints]
        rules = [*(rule for table in tables for rule in table.constraints), *of_columns]
        unique = {str(index.name) for table in tables for index in table.indexes if index.unique}

        assert set(BREAKS) == {str(rule.name) for rule in rules if isinstance(rule, kinds)} | unique - GENERATED


@pytest.mark.parametrize("name", BREAKS)
class TestEveryRule:
    def test_is_kept_by_the_database(self, execute: Execute, name: str) -> None:
        table, changed = BREAKS[name]
        row = {**ROWS[table], **changed}

        with pytest.raises(IntegrityError):
            execute(insert(table, row), row)

    def test_is_told_by_its_name(self, execute: Execute, name: str, backend: str) -> None:
        table, changed = BREAKS[name]
        row = {**ROWS[table], **changed}

        with pytest.raises(IntegrityError) as raised:
            execute(insert(table, row), row)

        # SQLite does not tell which reference it refuses.
        unnamed = backend == "sqlite" and name.startswith("fk_")
        assert violated_constraint(raised.value) == (None if unnamed else name)


class TestEveryConstraint:
    def test_is_checked_by_its_statement(self, app: Flask, backend: str) -> None:
        """A dry run ends in a rollback, and would not see what only the COMMIT refuses."""
        deferrable = {
            "sqlite": "SELECT name FROM sqlite_master WHERE upper(sql) LIKE '%DEFERRABLE%'",
            "postgresql": "SELECT conname FROM pg_constraint WHERE condeferrable "
            "UNION SELECT tgname FROM pg_trigger WHERE tgdeferrable",
        }

        with app.app_context(), unit_of_work(reading=True):
            assert db.session.scalars(text(deferrable[backend])).all() == []


class TestDeleting:
    def test_is_refused_for_a_category_with_products(self, execute: Execute) -> None:
        with pytest.raises(IntegrityError):
            execute("DELETE FROM categories")

    def test_is_refused_for_a_brand_with_products(self, execute: Execute) -> None:
        with pytest.raises(IntegrityError):
            execute("DELETE FROM brands")

    def test_is_refused_for_an_attribute_that_a_type_lists(self, execute: Execute) -> None:
        with pytest.raises(IntegrityError):
            execute("DELETE FROM attributes")

    def test_takes_the_list_of_a_type_along_with_the_type(self, app: Flask, execute: Execute) -> None:
        execute("DELETE FROM product_types")

        with app.app_context():
            assert db.session.scalar(text("SELECT count(*) FROM product_type_attributes")) == 0

    def test_is_refused_for_a_category_with_children(self, execute: Execute) -> None:
        for table in ("holds", "stock_movements", "products WHERE parent_id IS NOT NULL", "products"):
            execute(f"DELETE FROM {table}")
        child = {**ROWS["categories"], **OTHERS["categories"], "parent_id": 1}
        execute(insert("categories", child), child)

        with pytest.raises(IntegrityError):
            execute("DELETE FROM categories WHERE id = 1")

    def test_takes_sessions_and_tokens_along_with_the_user(self, app: Flask, execute: Execute) -> None:
        execute("DELETE FROM users")

        with app.app_context():
            left = [
                db.session.scalar(text(f"SELECT count(*) FROM {table}")) for table in ("sessions", "refresh_tokens")
            ]
        assert left == [0, 0]


class TestASkuOfADeletedProduct:
    @pytest.fixture(autouse=True)
    def _rows(self, execute: Execute) -> None:
        execute("UPDATE products SET deleted_at = created_at")

    def test_can_be_used_again(self, execute: Execute) -> None:
        row = ROWS["products"] | {"id": 2}

        execute(insert("products", row), row)

    def test_cannot_be_used_twice_by_the_living(self, execute: Execute) -> None:
        row = ROWS["products"] | {"id": 2}
        execute(insert("products", row), row)

        with pytest.raises(IntegrityError):
            execute("UPDATE products SET deleted_at = NULL WHERE id = 1")


class TestEveryColumn:
    @pytest.mark.parametrize("table", ROWS)
    def test_that_a_rule_needs_is_never_null(self, execute: Execute, table: str) -> None:
        columns = [column.name for column in db.metadata.tables[table].columns if not column.nullable]
        needed = [name for name in columns if name != "id"]

        taken = []
        for name in needed:
            try:
                execute(f"UPDATE {table} SET {name} = NULL")
            except IntegrityError:
                continue
            taken.append(name)

        assert taken == []

    @pytest.mark.parametrize("table", ["users", "categories", "brands", "attributes", "product_types", "products"])
    def test_version_has_no_default_that_hides_a_forgotten_one(self, execute: Execute, table: str) -> None:
        row = {name: value for name, value in ROWS[table].items() if name != "version"} | {"id": 2}

        with pytest.raises(DBAPIError):
            execute(insert(table, row), row)
