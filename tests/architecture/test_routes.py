"""No route without access and contract; the table of routes and the table of who may call what, reviewed as text.

When a change of a table is meant, run the test with UPDATE_REVIEWED=1.
"""

import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from app import create_app
from app.core.listing import RELEVANCE, Listing, OneOf
from app.features.categories.models import Category
from app.features.products import listing
from app.features.products.schemas import ProductQuerySchema
from app.security.permissions import Permission, Role
from app.web import fields
from app.web.contract import Blueprint, ContractMissing, lists, public, requires, returns
from app.web.health import HealthSchema
from app.web.operation import Operation
from app.web.schemas import ListQuerySchema, Order, Schema
from tests.architecture.reviewed import assert_reviewed, table_of
from tests.conftest import PASSWORD, Caller, on_one_database, settings_for
from tests.operations import Operation as Documented
from tests.operations import Scene


@pytest.fixture
def unserved() -> Flask:
    """An application that answers nothing, since its database is nowhere."""
    return create_app(settings_for("sqlite:////nowhere/catalog.db"))


def undeclared(app: Flask) -> list[str]:
    """The routes that do not say who may call them and what they answer."""
    return [str(rule) for rule in app.url_map.iter_rules() if not _is_declared(app.view_functions[rule.endpoint])]


def operation_at(app: Flask, endpoint: str) -> Operation:
    view: Any = app.view_functions[endpoint]
    operation: Operation = view.operation
    return operation


def _is_declared(view: Any) -> bool:
    operation = getattr(view, "operation", None)
    return isinstance(operation, Operation) and operation.access is not None and operation.status is not None


class TestRoutes:
    def test_declare_access_and_contract(self, unserved: Flask) -> None:
        assert undeclared(unserved) == []

    def test_that_bypass_the_contract_are_found_out(self, unserved: Flask) -> None:
        unserved.add_url_rule("/bypass", view_func=lambda: "hello")

        assert undeclared(unserved) == ["/bypass"]

    def test_are_named_after_their_views(self, unserved: Flask) -> None:
        for endpoint in unserved.view_functions:
            assert endpoint.rpartition(".")[2] == operation_at(unserved, endpoint).name

    def test_take_ids_and_names_of_the_settings_from_paths(self, unserved: Flask) -> None:
        others = {
            str(rule)
            for rule in unserved.url_map.iter_rules()
            for converter in re.findall(r"<([^>]+)>", rule.rule)
            if not re.fullmatch(r"id:[a-z]+_id|name:provider", converter)
        }

        assert {rule for rule in others if not re.search(r"/by/<any\([a-z_, ]+\):key>/<value:value>$", rule)} == {
            "/docs/<name>",
            "/media/<name>",
        }

    def test_are_as_reviewed(self, unserved: Flask) -> None:
        rows = [
            (method, rule.rule, operation.name, _access(operation))
            for rule in sorted(unserved.url_map.iter_rules(), key=lambda rule: (rule.rule, rule.endpoint))
            for operation in [operation_at(unserved, rule.endpoint)]
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        ]

        assert_reviewed("routes.txt", table_of(("method", "path", "operation", "access"), rows))


def _access(operation: Operation) -> str:
    assert operation.access is not None  # see undeclared
    if operation.access.is_public:
        return "public"
    return str(operation.access.permission or f"{operation.access.token} token")


class TestBlueprint:
    @staticmethod
    def register(*decorators: Callable[[Any], Any]) -> None:
        def view() -> dict[str, str]:
            return {"status": "ok"}

        for decorator in decorators:
            view = decorator(view)
        Blueprint("new", __name__, about="New.").get("/new")(view)

    def test_takes_a_view_with_access_and_contract(self) -> None:
        self.register(returns(HealthSchema), requires(Permission.PRODUCTS_READ))

    def test_takes_no_view_that_declares_nothing(self) -> None:
        with pytest.raises(ContractMissing, match="who may call it"):
            self.register()

    def test_takes_no_view_without_access(self) -> None:
        with pytest.raises(ContractMissing, match="who may call it"):
            self.register(returns(HealthSchema))

    @pytest.mark.parametrize("access", [public, requires(Permission.PRODUCTS_READ)])
    def test_takes_no_view_without_contract(self, access: Callable[[Any], Any]) -> None:
        with pytest.raises(ContractMissing, match="what it returns"):
            self.register(access)

    def test_takes_no_view_by_another_door(self) -> None:
        with pytest.raises(ContractMissing):
            Blueprint("new", __name__, about="New.").add_url_rule("/new", view_func=lambda: "hello")
        with pytest.raises(ContractMissing):
            Blueprint("new", __name__, about="New.").route("/new", methods=["GET", "POST"])(lambda: "hello")


class ThingSchema(Schema):
    id = fields.Integer(dump_only=True)


class ThingQuerySchema(ListQuerySchema):
    sort_by = fields.Choice(["name", "id"], name="RowSort", load_default="name")
    order = fields.Choice(Order, load_default="asc")
    slug = fields.Text(max_length=10)


SLUG = {"slug": lambda slug: Category.slug == slug}
SORTS = {"name": Category.name, "id": Category.id}


class TestLists:
    @staticmethod
    def register(listing: Listing) -> None:
        declared = public(lists(ThingSchema, ThingQuerySchema, listing)(lambda: select(Category)))
        Blueprint("things", __name__, about="Things.").get("/things")(declared)

    def test_are_taken_when_the_query_and_the_listing_agree(self) -> None:
        self.register(Listing(filters=SLUG, sorts=SORTS, tie_breaker=Category.id))

    def test_are_not_taken_with_a_filter_that_no_query_can_name(self) -> None:
        more = SLUG | {"name": lambda name: Category.name == name}

        with pytest.raises(ContractMissing, match="filters differ"):
            self.register(Listing(filters=more, sorts=SORTS, tie_breaker=Category.id))

    def test_are_not_taken_with_a_filter_that_nothing_applies(self) -> None:
        with pytest.raises(ContractMissing, match="filters differ"):
            self.register(Listing(filters={}, sorts=SORTS, tie_breaker=Category.id))

    def test_are_not_taken_with_several_values_that_no_query_can_state(self) -> None:
        with pytest.raises(ContractMissing, match="slug takes several values in its Listing alone"):
            self.register(Listing(filters={"slug": OneOf(Category.slug)}, sorts=SORTS, tie_breaker=Category.id))

    @pytest.mark.parametrize("sorts", [{"name": Category.name}, {**SORTS, "slug": Category.slug}])
    def test_are_not_taken_with_other_sorts(self, sorts: dict[str, Any]) -> None:
        with pytest.raises(ContractMissing, match="sort_by differs"):
            self.register(Listing(filters=SLUG, sorts=sorts, tie_breaker=Category.id))

    def test_are_compared_as_they_are_served(self) -> None:
        wire = set(ProductQuerySchema().fields)

        assert set(listing.LISTING.filters) < wire
        choices = list(ProductQuerySchema().fields["sort_by"].choices)  # type: ignore[attr-defined]  # a Choice
        assert [*listing.LISTING.sorts, RELEVANCE] == choices


CAST = ("anonymous", *Role)


# Each operation is asked by four callers. Who may is decided by what the database says of the caller alone.
@pytest.mark.timeout(400)
@on_one_database
class TestRoleByRoute:
    def test_is_what_the_document_says_and_as_reviewed(
        self, app: Flask, password_hash: str, sign_in: Callable[..., Caller]
    ) -> None:
        rows = []
        for operation, told in self.answers(Scene(app, password_hash), sign_in):
            roles = operation.described.get("x-roles", list(Role))
            expected = {str(role): "yes" if role in roles else "403" for role in Role}
            expected["anonymous"] = "yes" if operation.credentials is None else "401"
            assert told == expected, operation
            rows.append((operation.method, operation.path, *(told[str(who)] for who in CAST)))

        assert_reviewed("roles.txt", table_of(("method", "path", *map(str, CAST)), rows))

    @staticmethod
    def answers(scene: Scene, sign_in: Callable[..., Caller]) -> Iterator[tuple[Documented, dict[str, str]]]:
        """What each operation answers to everybody who sends its own example with their own credentials."""
        numbers = count(1)
        for operation in scene.operations:
            told = {}
            for who in CAST:
                scene.path(operation)
                caller = None if who == "anonymous" else sign_in(f"{who}-{next(numbers)}", Role(who))
                header = _credentials(caller, operation) if caller else None
                status = scene.send(operation, headers={"Authorization": header}).status_code
                told[str(who)] = str(status) if status in {401, 403} else "yes"
                if status < 400 and not operation.is_safe:
                    # It may have taken away what the next one needs.
                    scene.reset()
            yield operation, told

    def test_opens_the_catalogue_to_anybody_where_it_is_public(
        self, app: Flask, password_hash: str, app_with: Callable[..., Flask]
    ) -> None:
        scene = Scene(app, password_hash)
        scene.path(scene.operations[0])
        scene.app = app_with(catalog_public_read=True)

        opened = {
            str(operation)
            for operation in scene.operations
            if operation.credentials
            and scene.send(operation, headers={"Authorization": None}).status_code not in {401, 403}
        }

        said = {str(one) for one in scene.operations if one.described.get("x-public-when") == "CATALOG_PUBLIC_READ"}
        assert opened == said
        assert opened


def _credentials(caller: Caller, operation: Documented) -> str:
    if operation.credentials != "refresh":
        return f"Bearer {caller.token}"
    email = caller.get("/users/me").get_json()["email"]
    tokens = caller.app.test_client().post("/api/v1/auth/login", json={"email": email, "password": PASSWORD}).json
    assert tokens is not None
    return f"Bearer {tokens['refresh_token']}"
