"""Importing texts, and looking at what is there afterwards."""

import io
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask

from app.core.transactions import unit_of_work
from app.features.exports import service as exports
from app.features.exports.files import FileFormat
from app.features.imports.importer import import_rows
from app.features.imports.reading.columns import Columns
from app.features.imports.reading.files import read_rows
from app.features.imports.reading.options import Reading
from app.features.imports.report import Report

Import = Callable[..., Report]
Catalogue = Callable[[], dict[str, dict[str, Any]]]


@pytest.fixture
def import_text(app: Flask) -> Import:
    """Import a text, CSV unless told otherwise, and return the whole report; ``on`` is another application."""

    def import_text(
        text: str | bytes,
        *,
        file_format: FileFormat = FileFormat.CSV,
        pairs: tuple[str, ...] = (),
        reading: Mapping[str, Any] | None = None,
        currency: str = "USD",
        status: str = "active",
        on: Flask | None = None,
        **options: Any,
    ) -> Report:
        how = Reading(
            file_format=file_format, columns=Columns.parse(pairs), default_currency=currency, **(reading or {})
        )
        report = Report()
        content = text if isinstance(text, bytes) else text.encode()
        with (on or app).app_context():
            for chunk in import_rows(read_rows(io.BytesIO(content), how), status=status, **options):
                report.add(chunk.report)
        return report

    return import_text


@pytest.fixture
def catalogue(app: Flask) -> Catalogue:
    """Read every living product, by sku."""

    def read() -> dict[str, dict[str, Any]]:
        with app.app_context(), unit_of_work(reading=True):
            return {row["sku"]: dict(row) for batch in exports.iter_products() for row in batch}

    return read


def prices(products: dict[str, dict[str, Any]]) -> dict[str, Decimal]:
    """The price of each product."""
    return {sku: product["price"] for sku, product in products.items()}
