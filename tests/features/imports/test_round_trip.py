"""What is exported and imported again is the same catalogue, whatever the texts in it."""

import csv
import io
import json
import random
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from app.core.errors import Invalid
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.attributes.models import Attribute
from app.features.attributes.service import create_attribute
from app.features.brands.service import create_brand
from app.features.bulk import upserts
from app.features.categories.models import Category
from app.features.categories.service import create_category
from app.features.exports import service as exports
from app.features.exports.files import FileFormat, write_products
from app.features.product_types.service import create_product_type
from app.features.products import ledger, values
from app.features.products.models import PRODUCTS
from app.features.samples import service as samples
from tests.conftest import empty, rows_of
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
        sku: {
            name: value for name, value in product.items() if name not in {"id", "category_id", "brand_id", "type_id"}
        }
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


def create_types() -> int:
    """A product type with a text, a number and a choice, of which that is an option; its id."""
    for code, kind in (("fabric", "text"), ("width_cm", "decimal"), ("size", "choice")):
        choices = [{"code": each, "label": each} for each in "SML"] if kind == "choice" else []
        create_attribute(code=code, label=code, type=kind, choices=choices, filterable=True, searchable=True)
    listed = [{"code": code, "required": False, "is_option": code == "size"} for code in ("fabric", "width_cm", "size")]
    return int(create_product_type(code="shirt", label="Shirt", attributes=listed).id)


@pytest.fixture
def families(app: Flask) -> None:
    """Parents with options and without any, with variants in another order than their ids, and a single product."""
    with app.app_context(), unit_of_work():
        home, brand = create_category(name="Shirts").id, create_brand(name="Oak").id
        of_type = {"type_id": create_types(), "attributes": {"fabric": "linen, 100%"}}
        common = {"name": "Shirt", "currency": "USD", "category_id": home}
        members = {"brand_id": brand, "tags": ["a|b", "new"], "description": "=Airy\n", "status": "draft"}
        rows: list[dict[str, Any]] = [
            {"sku": "P", **common, **members, **of_type, "options": ["size"], "low_stock_at": 3},
            {"sku": "=Q", **common, "options": [], "compare_at_price": Decimal("9.50")},
            {"sku": "R", **common, "options": ["length", "new"]},
            {"sku": "S", **common, **of_type, "price": Decimal(7), "stock": 1},
        ]
        of_p = {"parent_sku": "P", "price": Decimal("9.90"), "stock": 4}
        rows += [
            {"sku": "P-L", **of_p, "options": {"size": "L"}, "position": 9, "attributes": {"width_cm": 4.5}},
            {"sku": "P-M", **of_p, "options": {"size": "M"}, "position": 2, "gtin": "4006381333931"},
            {"sku": "P-none", **of_p, "options": {}, "track_stock": False, "stock": 0, "status": "archived"},
            {"sku": "Q-1", **of_p, "parent_sku": "=Q"},
            {"sku": "R-1", **of_p, "parent_sku": "R", "options": {"length": 42, "new": True}},
            {"sku": "R-2", **of_p, "parent_sku": "R", "options": {"length": "42", "new": "true"}},
        ]
        upserted = upserts.upsert_products(random.Random(7).sample(rows, len(rows)))
        assert not [one for one in upserted.values() if isinstance(one, Invalid)]


@pytest.mark.usefixtures("families")
@pytest.mark.parametrize("file_format", list(FileFormat))
class TestFamilies:
    def test_are_the_same_after_an_import_into_an_empty_database(
        self, app: Flask, import_text: Import, catalogue: Catalogue, file_format: FileFormat
    ) -> None:
        before, values, exported = catalogue(), values_of(app), export(app, file_format)
        empty(app)
        with app.app_context(), unit_of_work():
            create_types()

        report = import_text(exported, file_format=file_format, rows_per_chunk=3)

        assert (report.created, report.errors) == (len(before), [])
        assert without_ids(catalogue()) == without_ids(before)
        assert values_of(app) == values

    def test_are_left_alone_by_their_own_export(self, app: Flask, import_text: Import, file_format: FileFormat) -> None:
        before, exported = rows_of(app, "products"), export(app, file_format)

        report = import_text(exported, file_format=file_format, rows_per_chunk=3)

        assert (report.unchanged, report.rows, report.errors) == (10, 10, [])
        assert rows_of(app, "products") == before

    def test_say_once_what_belongs_to_a_whole_family(self, app: Flask, file_format: FileFormat) -> None:
        text = export(app, file_format)
        lines = (
            csv.DictReader(io.StringIO(text, newline=""))
            if file_format is FileFormat.CSV
            else map(json.loads, text.splitlines())
        )
        rows = {row["sku"].removeprefix("'"): {name for name in FOREIGN_NAMES if row.get(name)} for row in lines}

        assert rows["P"] == {"name", "category", "currency", "type", "tags"}
        assert rows["P-L"] == {"price", "stock", "parent_sku"}
        assert rows["S"] == {"name", "category", "currency", "type", "price", "stock"}


FOREIGN_NAMES = ("name", "category", "currency", "type", "tags", "price", "stock", "parent_sku")


def values_of(app: Flask) -> set[tuple[Any, ...]]:
    """What products are found by."""
    listed, table, attributes = PRODUCTS.alias(), values.TABLE, Attribute.__table__
    found = (
        select(PRODUCTS.c.sku, listed.c.sku.label("listed"), attributes.c.code, table.c.text, table.c.number)
        .join(table, table.c.product_id == PRODUCTS.c.id)
        .outerjoin(listed, listed.c.id == table.c.listed_id)
        .outerjoin(attributes, attributes.c.id == table.c.attribute_id)
    )
    with app.app_context(), unit_of_work(reading=True):
        return {tuple(row) for row in db.session.execute(found)}


@pytest.mark.usefixtures("awkward")
class TestExportedCsv:
    def test_has_no_cell_that_a_spreadsheet_would_calculate(self, app: Flask) -> None:
        for record in csv.reader(io.StringIO(export(app, FileFormat.CSV), newline="")):
            assert not [cell for cell in record if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
