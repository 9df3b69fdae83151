"""What products are found by, made anew: by the job that follows a change of an attribute, and by the command."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import delete, select, update

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.products import indexing
from app.features.products.models import PRODUCTS
from app.features.products.values import TABLE
from tests.conftest import Caller, body_of

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def work(runner: FlaskCliRunner) -> Callable[[], None]:
    """Do what is due, as a worker does."""

    def work() -> None:
        done = runner.invoke(args=["worker", "--once"])
        assert done.exit_code == 0, done.output

    return work


@pytest.fixture
def shop(alice: Caller, make_category: Make, make_attribute: Make) -> dict[str, int]:
    """A table and a chair in two colours, whose attributes are neither filtered by nor searched."""
    make_attribute(code="material")
    make_attribute(code="colour", type="choice")
    home = {"category_id": make_category()["id"]}
    table = {"name": "Table", "price": "1.00", "attributes": {"material": "oak"}, "tags": ["new"], **home}
    variants = [{"options": {"colour": colour}, "price": "2.00"} for colour in ("red", "blue")]
    variants[1]["attributes"] = {"material": "oak"}
    chair = {"name": "Chair", "options": ["colour"], "variants": variants, "tags": ["new"], **home}
    plain = {"name": "Plain", "price": "1.00", **home}
    made = {body["name"]: alice.post("/products", body) for body in (table, chair, plain)}
    assert {answer.status_code for answer in made.values()} == {201}
    return {name: body_of(answer)["id"] for name, answer in made.items()}


def names_of(caller: Caller, query: str) -> list[str]:
    """The names of the products that a list shows."""
    answer = caller.get(f"/products?sort_by=id&order=asc&{query}")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return [item["name"] for item in body_of(answer)["items"]]


class TestAChangeOfAnAttribute:
    def test_by_which_products_are_filtered_from_now_on_is_soon_true(
        self, alice: Caller, bob: Caller, shop: dict[str, int], work: Callable[[], None]
    ) -> None:
        for code in ("material", "colour"):
            assert alice.patch(f"/attributes/by/code/{code}", {"filterable": True}).status_code == 200
        assert (names_of(bob, "attr.material=oak"), names_of(bob, "attr.colour=red")) == ([], [])

        work()

        assert names_of(bob, "attr.material=oak") == ["Table", "Chair"]
        assert names_of(bob, "attr.material=oak&attr.colour=blue") == ["Chair"]
        assert names_of(bob, "attr.material=oak&attr.colour=red") == []

    def test_that_is_searched_from_now_on_finds_parents_as_well(
        self, alice: Caller, bob: Caller, shop: dict[str, int], work: Callable[[], None]
    ) -> None:
        alice.patch("/attributes/by/code/material", {"searchable": True})
        work()

        assert names_of(bob, "search=oak") == ["Table", "Chair"]
        alice.patch("/attributes/by/code/material", {"searchable": False})
        work()
        assert names_of(bob, "search=oak") == []

    def test_takes_a_choice_away_and_gives_it_back(
        self, alice: Caller, bob: Caller, shop: dict[str, int], work: Callable[[], None]
    ) -> None:
        red, blue = ({"code": code, "label": code} for code in ("red", "blue"))
        for choices in ([blue], [red, blue]):
            alice.patch("/attributes/by/code/colour", {"filterable": True, "choices": choices})
            work()

        assert names_of(bob, "attr.colour=red") == ["Chair"]

    def test_writes_the_products_alone_that_are_found_otherwise(
        self, app: Flask, alice: Caller, shop: dict[str, int], work: Callable[[], None]
    ) -> None:
        tags = {name: alice.get(f"/products/{each}").headers["ETag"] for name, each in shop.items()}

        alice.patch("/attributes/by/code/material", {"label": "Made of"})
        work()
        assert {name: alice.get(f"/products/{each}").headers["ETag"] for name, each in shop.items()} == tags

        alice.patch("/attributes/by/code/material", {"filterable": True})
        work()
        changed = {name for name, each in shop.items() if alice.get(f"/products/{each}").headers["ETag"] != tags[name]}
        assert changed == {"Table", "Chair"}

    def test_makes_no_edit_stale(self, alice: Caller, shop: dict[str, int], work: Callable[[], None]) -> None:
        etag = alice.get(f"/products/{shop['Table']}").headers["ETag"]
        alice.patch("/attributes/by/code/material", {"filterable": True})
        work()

        assert alice.patch(f"/products/{shop['Table']}", {"name": "Desk"}, if_match=etag).status_code == 200

    def test_of_an_attribute_that_is_deleted_meanwhile_is_nothing(
        self, alice: Caller, root: Caller, shop: dict[str, int], work: Callable[[], None], make_attribute: Make
    ) -> None:
        made = make_attribute(code="gone")
        alice.patch("/attributes/by/code/gone", {"filterable": True})
        assert root.delete(f"/attributes/{made['id']}").status_code == 204

        work()

        jobs = body_of(root.get("/jobs"))["items"]
        assert {job["status"] for job in jobs if job["kind"] == "attribute_index"} == {"succeeded"}


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def _few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(indexing, "BATCH", 2)

    def spoil(self, app: Flask, shop: dict[str, int]) -> None:
        """Leave products as a server of the release before would have written them."""
        with app.app_context(), unit_of_work():
            db.session.execute(delete(TABLE))
            stale = {"attribute_words": None, "search_text": "stale"}
            db.session.execute(update(PRODUCTS).where(PRODUCTS.c.id != shop["Plain"]).values(stale))

    def rows(self, app: Flask) -> tuple[list[Any], list[Any]]:
        """The index, and what else follows from attributes."""
        names = ("id", "missing", "attribute_words", "variant_words", "search_text")
        with app.app_context(), unit_of_work(reading=True):
            follows = db.session.execute(select(*(PRODUCTS.c[name] for name in names)).order_by(PRODUCTS.c.id)).all()
            index = db.session.execute(select(TABLE)).all()
        return sorted(map(repr, index)), list(map(tuple, follows))

    def test_makes_everything_as_writers_do(
        self, alice: Caller, bob: Caller, runner: FlaskCliRunner, shop: dict[str, int]
    ) -> None:
        app = alice.app
        alice.patch("/attributes/by/code/material", {"filterable": True, "searchable": True})
        runner.invoke(args=["worker", "--once"])
        before = self.rows(app)
        self.spoil(app, shop)
        assert names_of(bob, "tag=new") == []

        done = runner.invoke(args=["catalog", "reindex"])

        assert done.exit_code == 0
        # The table, the chair and its two variants.
        assert done.stdout == "Indexed 3 products; 4 rows were wrong.\n"
        assert self.rows(app) == before
        assert names_of(bob, "tag=new") == ["Table", "Chair"]
        assert runner.invoke(args=["catalog", "reindex"]).stdout == "Indexed 3 products; 0 rows were wrong.\n"

    def test_says_what_is_missing_since_a_type_was_changed(
        self, alice: Caller, runner: FlaskCliRunner, make_type: Make, make_product: Make, make_attribute: Make
    ) -> None:
        make_attribute(code="width_cm", type="integer")
        kind = make_type(attributes=[{"code": "width_cm"}])
        made = make_product(type_id=kind["id"])
        needed = [{"code": "width_cm", "required": True}]
        assert alice.patch(f"/product-types/{kind['id']}", {"attributes": needed}).status_code == 200

        runner.invoke(args=["catalog", "reindex"])

        assert body_of(alice.get(f"/products/{made['id']}"))["missing"] == ["width_cm"]
        assert names_of(alice, "complete=false") == [made["name"]]
