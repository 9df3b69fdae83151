"""The brands that rows of a file name or state by their ids."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from app.core.transactions import unit_of_work
from app.features.brands.models import BrandNameTaken
from app.features.brands.service import create_brand
from app.features.exports.files import COLUMNS, FileFormat
from app.features.imports import service
from tests.conftest import rows_of
from tests.features.imports.conftest import Catalogue, Import

HEADER = "sku,name,price,category,brand,brand_id\n"


@pytest.fixture
def make(app: Flask) -> Callable[[str], int]:
    """Make a brand with a name; its id."""

    def make(name: str) -> int:
        with app.app_context(), unit_of_work():
            return create_brand(name=name).id

    return make


@pytest.fixture
def brands(catalogue: Catalogue) -> Callable[[], dict[str, str | None]]:
    """Read the name of each product's brand."""
    return lambda: {sku: product["brand"] for sku, product in catalogue().items()}


Brands = Callable[[], dict[str, str | None]]


class TestARow:
    def test_names_a_brand_which_is_made_when_there_is_none(
        self, import_text: Import, make: Callable[[str], int], brands: Brands
    ) -> None:
        make("Oakworks")
        rows = "A-1,Chair,1,C,Oakworks,\nA-2,Chair,1,C,  Ash  & Co ,\nA-3,Chair,1,C,Ash & Co,\nA-4,Chair,1,C,,\n"

        report = import_text(HEADER + rows)

        assert (report.created, list(report.made_brands)) == (4, ["Ash & Co"])
        assert brands() == {"A-1": "Oakworks", "A-2": "Ash & Co", "A-3": "Ash & Co", "A-4": None}

    def test_states_a_brand_by_its_id(self, import_text: Import, make: Callable[[str], int], brands: Brands) -> None:
        report = import_text(HEADER + f"A-1,Chair,1,C,,{make('Oakworks')}\nA-2,Chair,1,C,,{2**40}\n")

        assert [(error.line, error.field, error.code) for error in report.errors] == [(3, "brand_id", "brand_unknown")]
        assert brands() == {"A-1": "Oakworks"}

    @pytest.mark.parametrize("known", [True, False])
    def test_means_the_name_where_it_has_both(
        self, import_text: Import, make: Callable[[str], int], brands: Brands, known: bool
    ) -> None:
        brand_id = make("Oakworks") if known else 2**40

        report = import_text(HEADER + f"A-1,Chair,1,C,Ash,{brand_id}\n")

        assert (report.errors, list(report.made_brands), brands()) == ([], ["Ash"], {"A-1": "Ash"})

    def test_that_does_not_say_leaves_the_brand(self, import_text: Import, brands: Brands) -> None:
        import_text(HEADER + "A-1,Chair,1,C,Oakworks,\n")

        import_text(HEADER + "A-1,Stool,1,C,,\n")

        assert brands() == {"A-1": "Oakworks"}

    def test_with_a_null_takes_the_brand_away(self, import_text: Import, brands: Brands) -> None:
        import_text(HEADER + "A-1,Chair,1,C,Oakworks,\n")

        for row in ({"brand": None}, {"brand": "Oakworks"}, {"brand_id": None}):
            line = {"sku": "A-1", "name": "Chair", "price": "1.00", "category": "C", **row}
            import_text(json.dumps(line), file_format=FileFormat.NDJSON)
            assert brands() == {"A-1": row.get("brand")}

    def test_of_an_exported_file_empties_it(
        self, import_text: Import, brands: Brands, make: Callable[..., int]
    ) -> None:
        import_text(HEADER + "A-1,Chair,1,C,Oakworks,\n")
        members: dict[str, Any] = {"sku": "A-1", "slug": "chair", "name": "Chair", "price": "1", "category": "C"}
        members |= {"currency": "USD", "stock": "0", "track_stock": "true", "status": "active", "attributes": "{}"}
        # The name counts here as well.
        members |= {"brand_id": str(make("Ash"))}
        row = ",".join(members.get(column, "") for column in COLUMNS)

        report = import_text(f"{','.join(COLUMNS)}\n{row}\n")

        assert (report.errors, brands()) == ([], {"A-1": None})

    @pytest.mark.parametrize(("brand", "code"), [("x" * 121, "too_long"), ("\u200b", "malformed")])
    def test_with_a_bad_name_fails(self, import_text: Import, brand: str, code: str) -> None:
        report = import_text(HEADER + f"A-1,Chair,1,C,{brand},\n")

        assert [(error.field, error.code) for error in report.errors] == [("brand", code)]


class TestManyRows:
    def test_make_each_brand_once(self, app: Flask, import_text: Import) -> None:
        rows = "".join(f"A-{number},Chair,1,C,Brand {number % 7},\n" for number in range(50))

        report = import_text(HEADER + rows, rows_per_chunk=10)

        assert len(report.made_brands) == len(rows_of(app, "brands")) == 7

    def test_leave_no_brand_after_a_dry_run(self, app: Flask, import_text: Import) -> None:
        report = import_text(HEADER + "A-1,Chair,1,C,Oakworks,\n", dry_run=True)

        assert (list(report.made_brands), rows_of(app, "brands")) == (["Oakworks"], [])

    def test_are_saved_again_where_another_takes_the_name_of_a_brand(
        self, import_text: Import, brands: Brands, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refusals = [BrandNameTaken(), BrandNameTaken()]
        save_chunk = service.save_chunk

        def interrupted(*args: Any, **options: Any) -> Any:
            if refusals:
                raise refusals.pop()
            return save_chunk(*args, **options)

        monkeypatch.setattr(service, "save_chunk", interrupted)
        import_text(HEADER + "A-1,Chair,1,C,Oakworks,\n")

        assert brands() == {"A-1": "Oakworks"}

    def test_can_name_their_brand_in_a_column_of_another_name(self, import_text: Import, brands: Brands) -> None:
        import_text("sku,name,price,category,Maker\nA-1,Chair,1,C,Oakworks\n", pairs=("brand=Maker",))

        assert brands() == {"A-1": "Oakworks"}
