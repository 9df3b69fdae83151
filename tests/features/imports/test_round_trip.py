"""What is exported and imported again is the same catalogue, whatever the texts in it."""

import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.brands.service import create_brand
from app.features.bulk import upserts
from app.features.categories.models import Category
from app.features.categories.service import create_category
from app.features.exports import service as exports
from app.features.exports.files import FileFormat, write_products
from app.features.products import ledger
from app.features.products.models import PRODUCTS
from app.features.samples import service as samples
from tests.conftest import empty
from tests.features.imports.conftest import Catalogue, Import

AWKWARD: list[dict[str, Any]] = [
    {"name": "Chair"},
    {"name": "=1+1", "description": "-SUM(A1)\n@x", "external_id": "+49 30"},
    {"name": "'=quoted", "description": "''+twice", "external_id": "'plain"},
    {"name": " two  blanks ", "description": "  \t\n a  b \n"},
    {"name": 'say "hello", he; said', "description": 'a "quoted"\r\nline,\nand; another\r'},
    {"name": "Ünïcödé 椅子 \U0001fa91 \u00a0x", "description": "\ufeffmark\u2028separator"},
    {"tags": ["a|b", "back\\slash", "\\|", "=1", " blank "]},
    {"attributes": {"text": 'a,b\n"c"', "whole": 7, "fraction": 0.1, "exact": 1.0, "yes": True, "large": -(2**53)}},
    {"price": Decimal(0), "currency": "JPY", "stock": 0},
    {"price": Decimal("0.001"), "compare_at_price": Decimal(1), "currency": "KWD"},
    {"price": Decimal("9999999999.99"), "compare_at_price": Decimal(0), "stock": 2**53},
    {"status": "draft", "external_id": None},
    {"status": "archived", "external_id": "erp-1"},
]


@pytest.fixture
def awkward(app: Flask) -> None:
    """A catalogue of awkward products, under two categories of the same name and others."""
    with app.app_context(), unit_of_work():
        indoor, outdoor = create_category(name="=Indoor"), create_category(name="Outdoor")
        shelves = [indoor, outdoor, *(create_category(name="Chairs", parent_id=root.id) for root in (indoor, outdoor))]
        makers = [None, create_brand(name='=Oak | & "Sons"').id, create_brand(name=" Ash  ").id]
        default = {"name": "Chair", "price": Decimal("9.90"), "currency": "USD"}
        upserts.upsert_products(
            {
                **default,
                "sku": f"A-{number}",
                "category_id": shelves[number % 4].id,
                "brand_id": makers[number % 3],
                **row,
            }
            for number, row in enumerate(AWKWARD)
        )


def export(app: Flask, file_format: FileFormat) -> str:
    with app.app_context(), unit_of_work(reading=True):
        return "".join(write_products(exports.iter_products(batch=5), file_format))


def delete_products(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        db.session.execute(ledger.MOVEMENTS.delete())
        db.session.execute(PRODUCTS.delete())


def without_ids(products: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        sku: {name: value for name, value in product.items() if name not in {"id", "category_id", "brand_id"}}
        for sku, product in products.items()
    }


@pytest.mark.usefixtures("awkward")
@pytest.mark.parametrize("file_format", list(FileFormat))
class TestRoundTrip:
    def test_gives_the_same_file_again(self, app: Flask, import_text: Import, file_format: FileFormat) -> None:
        exported = export(app, file_format)
        delete_products(app)

        report = import_text(exported, file_format=file_format)

        assert (report.created, report.errors) == (len(AWKWARD), [])
        assert export(app, file_format) == exported

    def test_gives_the_same_products_again(
        self, app: Flask, import_text: Import, catalogue: Catalogue, file_format: FileFormat
    ) -> None:
        before, exported = catalogue(), export(app, file_format)
        delete_products(app)

        import_text(exported, file_format=file_format)

        assert without_ids(catalogue()) == without_ids(before)

    def test_finds_nothing_to_do_where_nothing_changed(
        self, app: Flask, import_text: Import, file_format: FileFormat
    ) -> None:
        report = import_text(export(app, file_format), file_format=file_format)

        assert (report.unchanged, report.rows) == (len(AWKWARD), len(AWKWARD))

    def test_takes_back_what_was_changed_since(
        self, app: Flask, import_text: Import, catalogue: Catalogue, file_format: FileFormat
    ) -> None:
        before, exported = catalogue(), export(app, file_format)
        with app.app_context(), unit_of_work():
            changed = {"description": "New.", "tags": ["new"], "attributes": {"a": 1}, "external_id": "new", "stock": 5}
            upserts.upsert_products({"sku": sku, **changed} for sku in before)

        import_text(exported, file_format=file_format)

        assert catalogue() == before

    def test_goes_by_the_names_of_categories_and_brands_in_an_empty_database(
        self, app: Flask, import_text: Import, catalogue: Catalogue, file_format: FileFormat
    ) -> None:
        before, exported = catalogue(), export(app, file_format)
        empty(app)

        import_text(exported, file_format=file_format)

        assert without_ids(catalogue()) == without_ids(before)


def tree(app: Flask) -> set[tuple[str, ...]]:
    """The categories as the names from their root down."""
    with app.app_context():
        found = db.session.execute(select(Category.id, Category.name, Category.parent_id)).all()
    rows = {row.id: row for row in found}

    def line(category_id: int | None) -> tuple[str, ...]:
        return () if category_id is None else (*line(rows[category_id].parent_id), rows[category_id].name)

    return {line(category_id) for category_id in rows}


@pytest.mark.parametrize("file_format", list(FileFormat))
class TestTheTree:
    def test_of_the_samples_is_the_same_after_an_import_into_an_empty_database(
        self, app: Flask, import_text: Import, catalogue: Catalogue, file_format: FileFormat
    ) -> None:
        with app.app_context(), unit_of_work():
            samples.generate_products(1, range(300), samples.plant_tree(), currency="USD")
        before, products, exported = tree(app), catalogue(), export(app, file_format)
        empty(app)

        report = import_text(exported, file_format=file_format)

        assert (tree(app), len(report.made_categories)) == (before, len(before))
        assert len([path for path in before if len(path) < 3]) > 20
        assert without_ids(catalogue()) == without_ids(products)

    def test_of_awkward_names_is_the_same(
        self, app: Flask, import_text: Import, catalogue: Catalogue, file_format: FileFormat
    ) -> None:
        names = ["A > B", "back\\slash", "\\>", "Bed, Bath", "x;y|z", "Chairs", "Chairs", ">"]
        with app.app_context(), unit_of_work():
            root = create_category(name="=Root, all").id
            shelves = [
                create_category(name=name, parent_id=(None, root)[number % 2]).id for number, name in enumerate(names)
            ]
            upserts.upsert_products(
                {"sku": f"A-{number}", "name": "X", "price": Decimal(1), "currency": "USD", "category_id": shelf}
                for number, shelf in enumerate(shelves)
            )
        before, products, exported = tree(app), catalogue(), export(app, file_format)
        empty(app)

        import_text(exported, file_format=file_format)

        assert tree(app) == before
        assert without_ids(catalogue()) == without_ids(products)


@pytest.mark.usefixtures("awkward")
class TestExportedCsv:
    def test_has_no_cell_that_a_spreadsheet_would_calculate(self, app: Flask) -> None:
        for record in csv.reader(io.StringIO(export(app, FileFormat.CSV), newline="")):
            assert not [cell for cell in record if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
