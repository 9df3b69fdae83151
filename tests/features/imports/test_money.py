"""Amounts in files: each row by its currency, and every currency with its decimals, in CSV and in NDJSON."""

import csv
import io
from decimal import Decimal

import orjson
import pytest
from flask import Flask

from app.core.money import CURRENCIES, decimals_of, max_amount
from app.core.transactions import unit_of_work
from app.features.exports import service as exports
from app.features.exports.files import FileFormat, write_products
from tests.features.imports.conftest import Catalogue, Import, prices

HEADER = "sku,name,price,category,currency\n"
ROWS = [
    {"sku": code, "name": code, "price": str(max_amount(code)), "category": "Money", "currency": code}
    for code in sorted(CURRENCIES)
]


def written(rows: list[dict[str, str]], file_format: FileFormat) -> str:
    """The text of a file of rows."""
    if file_format is FileFormat.NDJSON:
        return "".join(f"{orjson.dumps(row).decode()}\n" for row in rows)
    return HEADER + "".join(f"{','.join(row.values())}\n" for row in rows)


def exported(app: Flask, file_format: FileFormat) -> dict[str, str]:
    """The price of each product in an export, as it is written there."""
    with app.app_context(), unit_of_work(reading=True):
        text = "".join(write_products(exports.iter_products(), file_format))
    lines = csv.DictReader(io.StringIO(text)) if file_format is FileFormat.CSV else map(orjson.loads, text.splitlines())
    return {line["sku"]: line["price"] for line in lines}


@pytest.mark.parametrize("file_format", list(FileFormat))
class TestEveryCurrency:
    def test_goes_in_and_out_with_its_decimals(self, app: Flask, import_text: Import, file_format: FileFormat) -> None:
        report = import_text(written(ROWS, file_format), file_format=file_format)

        assert (report.created, report.errors) == (len(ROWS), [])
        assert exported(app, file_format) == {row["sku"]: row["price"] for row in ROWS}

    def test_is_refused_with_one_more(self, import_text: Import, catalogue: Catalogue, file_format: FileFormat) -> None:
        rows = [row | {"price": row["price"] + ("0" if decimals_of(row["sku"]) else ".0")} for row in ROWS]

        report = import_text(written(rows, file_format), file_format=file_format)

        assert [(error.field, error.code) for error in report.errors] == [("price", "too_precise")] * len(rows)
        assert (report.failed, catalogue()) == (len(rows), {})


class TestARow:
    def test_is_measured_by_its_currency_its_products_or_the_default(
        self, import_text: Import, catalogue: Catalogue
    ) -> None:
        import_text(f"{HEADER}YEN,C,12,D,JPY\nDINAR,C,1.250,D,KWD\n")

        report = import_text(
            f"{HEADER}YEN,C,12.5,D,\nDINAR,C,1.255,D,\nNEW,C,1.255,D,\nOWN,C,1.255,D,TND\n", currency="SAR"
        )

        assert [(error.line, error.code) for error in report.errors] == [(2, "too_precise"), (4, "too_precise")]
        assert prices(catalogue()) == {"YEN": Decimal(12), "DINAR": Decimal("1.255"), "OWN": Decimal("1.255")}

    def test_keeps_the_currency_that_it_does_not_state(self, import_text: Import, catalogue: Catalogue) -> None:
        import_text(f"{HEADER}A,C,1,D,EUR\n")

        import_text("sku,name,price,category\nA,C,2,D\n", currency="SAR")

        assert (catalogue()["A"]["price"], catalogue()["A"]["currency"]) == (Decimal(2), "EUR")

    def test_is_refused_in_a_dry_run_as_well(self, import_text: Import, catalogue: Catalogue) -> None:
        report = import_text(f"{HEADER}A,C,1.5,D,JPY\nB,C,1,D,JPY\n", dry_run=True)

        assert (report.created, report.failed, [error.line for error in report.errors]) == (1, 1, [2])
        assert catalogue() == {}
