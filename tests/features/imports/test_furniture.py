"""A real file that we did not write: semicolons, decimal commas, a byte order mark, and repeated skus."""

import csv
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from flask import Flask

from app.features.exports.files import FileFormat
from app.features.imports.importer import import_rows
from app.features.imports.reading.columns import Columns
from app.features.imports.reading.files import read_rows
from app.features.imports.reading.options import Reading
from app.features.imports.report import Report
from tests.conftest import rows_of
from tests.features.imports.conftest import Catalogue, prices
from tests.servers import PROJECT

FILE = PROJECT.parent / "shared" / "data" / "ikea.csv"
MAPPING = ["sku=item_id", "name=name", "category=category", "price=price", "description=short_description"]

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="the furniture file is not beside the project")


def import_furniture(app: Flask) -> Report:
    reading = Reading(
        file_format=FileFormat.CSV, delimiter=";", decimal=",", currency="SAR", columns=Columns.parse(MAPPING)
    )
    report = Report()
    with app.app_context(), FILE.open("rb") as stream:
        for chunk in import_rows(read_rows(stream, reading)):
            report.add(chunk.report)
    return report


def first_rows(path: Path) -> Iterator[dict[str, str]]:
    """The file read another way: the first row of each article."""
    seen = set()
    with path.open(encoding="utf-8-sig", newline="") as lines:
        for row in csv.DictReader(lines, delimiter=";"):
            if row["item_id"] not in seen:
                seen.add(row["item_id"])
                yield row


class TestTheFurnitureFile:
    def test_becomes_2962_products_in_17_categories(self, app: Flask) -> None:
        report = import_furniture(app)

        # Those that name an article again differ in the category, or at least in the number of the row.
        assert (report.created, report.merged, report.failed) == (2962, 0, 732)
        assert {error.code for error in report.errors} == {"rows_differ"}
        assert len(rows_of(app, "products")) == 2962
        assert len(rows_of(app, "categories")) == len(report.made_categories) == 17

    def test_keeps_every_price_exactly(self, app: Flask, catalogue: Catalogue) -> None:
        import_furniture(app)

        assert prices(catalogue()) == {
            row["item_id"]: Decimal(row["price"].replace(",", ".")) for row in first_rows(FILE)
        }

    def test_keeps_the_category_of_each_first_row(self, app: Flask, catalogue: Catalogue) -> None:
        import_furniture(app)

        kept = {sku: product["category"] for sku, product in catalogue().items()}
        assert kept == {row["item_id"]: row["category"] for row in first_rows(FILE)}

    def test_has_its_blanks_collapsed_and_its_currency_told(self, app: Flask, catalogue: Catalogue) -> None:
        import_furniture(app)

        product = catalogue()["90420332"]
        assert (product["description"], product["currency"]) == ("Bar table, in/outdoor, 51x51 cm", "SAR")

    def test_changes_nothing_the_second_time(self, app: Flask) -> None:
        import_furniture(app)
        before = rows_of(app, "products"), rows_of(app, "categories")

        report = import_furniture(app)

        assert (report.created, report.updated, report.unchanged, report.failed) == (0, 0, 2962, 732)
        assert (rows_of(app, "products"), rows_of(app, "categories")) == before
