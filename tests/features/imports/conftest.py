"""Importing texts, and looking at what is there afterwards."""

import io
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask

from app.core.transactions import unit_of_work
from app.features.imports.columns import Columns
from app.features.imports.importer import import_rows
from app.features.imports.models import Report
from app.features.imports.reading import Reading, read_rows
from app.features.products import bulk
from app.features.products.files import FileFormat

Import = Callable[..., Report]
Catalogue = Callable[[], dict[str, dict[str, Any]]]


@pytest.fixture
def import_text(app: Flask) -> Import:
    """Import a text, CSV unless told otherwise, and return the whole report."""

    def import_text(
        text: str,
        *,
        file_format: FileFormat = FileFormat.CSV,
        pairs: tuple[str, ...] = (),
        decimal_mark: str = ".",
        **options: Any,
    ) -> Report:
        reading = Reading(file_format=file_format, columns=Columns.parse(pairs), decimal_mark=decimal_mark)
        report = Report()
        with app.app_context():
            rows = read_rows(io.BytesIO(text.encode()), reading).rows
            for chunk in import_rows(rows, **{"currency": "USD", **options}):
                report.add(chunk)
        return report

    return import_text


@pytest.fixture
def catalogue(app: Flask) -> Catalogue:
    """Read every living product, by sku."""

    def read() -> dict[str, dict[str, Any]]:
        with app.app_context(), unit_of_work(reading=True):
            return {row["sku"]: dict(row) for batch in bulk.iter_products() for row in batch}

    return read


def prices(products: dict[str, dict[str, Any]]) -> dict[str, Decimal]:
    """The price of each product."""
    return {sku: product["price"] for sku, product in products.items()}
