"""Small files in the shapes that shops really export, by the command and by the API: nothing is lost in silence."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
from flask.testing import FlaskCliRunner

from app.core.money import amount_text
from tests.conftest import Caller, body_of
from tests.features.imports.conftest import Catalogue
from tests.servers import PROJECT

FOLDER = PROJECT.parent / "shared" / "data" / "field"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the field files are not beside the project")

WOO = {
    "sku": "SKU",
    "name": "Name",
    "price": "Regular price",
    "category": "Categories",
    "stock": "Stock",
    "tags": "Tags",
    "status": "Published",
}
SHOPIFY = {
    "sku": "Handle",
    "name": "Title",
    "price": "Variant Price",
    "compare_at_price": "Variant Compare At Price",
    "stock": "Variant Inventory Qty",
    "tags": "Tags",
}
PRESTASHOP = {
    "sku": "Reference #",
    "name": "Name *",
    "price": "Price tax excluded",
    "category": "Categories (x,y,z...)",
    "stock": "Quantity",
    "tags": "Tags (x,y,z...)",
    "status": "Active (0/1)",
}
YES_OR_NO = {"1": "active", "0": "draft"}
URUGUAY = {"sku": "link", "name": "nombre", "price": "precio", "category": "categoria", "brand": "marca"}
LETTERHEAD = {"sku": "Article", "name": "Article", "price": "Euro"}
CATEGORY = {"set": {"category": "Things"}}


@dataclass(frozen=True)
class Case:
    """A file, how it is read, and what comes of it: the numbers of rows, and each fault by line, column and code."""

    file: str
    options: Mapping[str, Any] = field(default_factory=dict)
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    merged: int = 0
    faults: tuple[tuple[int, str, str], ...] = ()
    #: Values that stand in the report.
    values: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    #: Said of the file as a whole.
    error: str = ""
    before: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """How many rows failed."""
        return len({line for line, _, _ in self.faults})

    @property
    def went_in(self) -> int:
        """How many rows went in."""
        return self.created + self.updated + self.unchanged + self.merged


CASES = [
    Case(
        "01-woo-variants.csv",
        {"map": WOO, "status_words": YES_OR_NO, "list_separator": ","},
        faults=(
            (2, "Regular price", "product_incomplete"),
            (3, "", "variant_unsupported"),
            (4, "", "variant_unsupported"),
            (5, "Categories", "categories_several"),
            (6, "Published", "not_a_choice"),
        ),
        values=("Clothing > Caps, Sale", "-1"),
        unread=("ID", "Type", "In stock?", "Sale price", "Parent", "Attribute 1 name"),
        error="no row went in: all 5 failed",
    ),
    Case(
        "02-shopify-variants.csv",
        {"map": SHOPIFY, "list_separator": ",", **CATEGORY},
        created=2,
        faults=((3, "Title", "rows_differ"), (4, "Title", "rows_differ")),
        unread=("Vendor", "Type", "Published", "Option1 Name", "Option1 Value", "Image Src", "Image Position"),
    ),
    Case(
        "02b-variants-repeat-the-name.csv",
        {
            "map": {
                "sku": "Handle",
                "name": "Title",
                "category": "Type",
                "price": "Variant Price",
                "stock": "Variant Inventory Qty",
            }
        },
        created=1,
        faults=((3, "Variant Inventory Qty", "rows_differ"), (4, "Variant Price", "rows_differ")),
        unread=("Option1 Value",),
    ),
    Case(
        "02b-variants-repeat-the-name.csv",
        {"map": {"sku": "Handle", "name": "Title", "category": "Type"}, "set": {"price": "60"}},
        created=1,
        faults=((3, "Option1 Value", "rows_differ"), (4, "Option1 Value", "rows_differ")),
        values=("Medium", "Large"),
        unread=("Option1 Value", "Variant Price", "Variant Inventory Qty"),
    ),
    Case(
        "04-prestashop.csv",
        {"map": PRESTASHOP, "status_words": YES_OR_NO, "list_separator": ",", "delimiter": ";", "currency": "EUR"},
        created=1,
        faults=((2, "Categories (x,y,z...)", "categories_several"),),
        values=("Audio,Offers",),
        unread=("Wholesale price", "Discount amount", "EAN13", "Image URLs (x,y,z...)"),
    ),
    Case(
        "06-currency-sign.csv",
        {
            "map": URUGUAY,
            "delimiter": ";",
            "decimal": ",",
            "thousands": ".",
            "currency_marks": True,
            "currency": "UYU",
        },
        created=2,
        unread=("departamento",),
    ),
    Case(
        "06-currency-sign.csv",
        {
            "map": URUGUAY,
            "delimiter": ";",
            "decimal": ",",
            "thousands": ".",
            "currency_marks": True,
            "currency": "EUR",
        },
        faults=((2, "precio", "currency_differs"), (3, "precio", "currency_differs")),
        values=("$136,00", "$1.120,50"),
        error="no row went in",
    ),
    Case(
        "06b-euro.csv",
        {"delimiter": ";", "decimal": ",", "thousands": ". ", "currency_marks": True, "currency": "EUR"},
        created=5,
    ),
    Case(
        "06b-euro.csv",
        {"delimiter": ";", "decimal": ",", "currency": "EUR"},
        created=1,
        faults=tuple((line, "price", "invalid") for line in (2, 3, 4, 5)),
        values=("1.299,00", "€ 899,00", "1 299,00"),
    ),
    Case(
        "06c-us.csv",
        {"thousands": ",", "currency_marks": True, "trailing_zeros": True},
        created=4,
        faults=((4, "price", "too_precise"), (7, "price", "too_precise")),
        values=("59.900000000000006", "0.0375"),
    ),
    Case("07-base.csv", created=2),
    Case("07b-prices-only.csv", before=("07-base.csv",), updated=2),
    Case("07c-stock-only.csv", before=("07-base.csv",), updated=2),
    Case("07d-price-only.ndjson", before=("07-base.csv",), updated=1),
    Case(
        "07d-price-only.ndjson",
        faults=((1, "name", "product_incomplete"), (1, "category_id", "product_incomplete")),
        error="no row went in",
    ),
    Case(
        "10-excel-codes.csv",
        faults=tuple((line, "sku", "key_shortened") for line in (2, 3, 4)),
        values=("8.71E+12",),
        error="no row went in",
    ),
    Case("11-sku-characters.csv", created=9),
    Case(
        "12-letterhead.csv",
        {"skip_lines": 4, "map": LETTERHEAD, "decimal": ",", "currency": "EUR", **CATEGORY},
        created=2,
        unread=("group", "Remarks"),
    ),
    Case("12-letterhead.csv", error="lines above the header to be skipped"),
    Case(
        "12b-no-category.csv",
        {"delimiter": ";", "map": {"sku": "product_code", "price": "price_gross"}, **CATEGORY},
        created=2,
        unread=("vat",),
    ),
    Case("12c-capitalised.csv", created=1),
    Case("12d-excel-sep.csv", created=1),
    Case("12e-duplicate-header.csv", error="more than one column 'price' (columns 3 and 5)"),
    Case(
        "15-stock.csv",
        {"thousands": ","},
        created=2,
        faults=(
            (2, "stock", "too_small"),
            (4, "stock", "invalid"),
            (6, "stock", "invalid"),
            (7, "stock", "too_small"),
        ),
        values=("-3", ">50", "in stock", "'-3"),
    ),
    Case(
        "15-stock.csv",
        created=1,
        faults=(
            (2, "stock", "too_small"),
            *((line, "stock", "invalid") for line in (4, 5, 6)),
            (7, "stock", "too_small"),
        ),
        values=("1,000",),
    ),
    Case("16-clear-before.csv", created=1),
    Case("16b-clear-after.csv", before=("16-clear-before.csv",), unchanged=1),
    Case("16b-clear-after.csv", {"clear_with": ""}, before=("16-clear-before.csv",), updated=1),
    Case("17-monday.csv", created=2),
    Case("17b-tuesday.csv", before=("17-monday.csv",), unchanged=1),
    Case(
        "18-languages.csv",
        created=1,
        faults=((3, "name", "rows_differ"), (4, "price", "rows_differ")),
        values=("Hängematte",),
        unread=("store",),
    ),
    Case("19-windows-1252.csv", {"delimiter": ";", "decimal": ",", "encoding": "windows-1252"}, created=1),
    Case("19-windows-1252.csv", {"delimiter": ";", "decimal": ","}, error="line 2: this is not UTF-8"),
    Case(
        "19b-json-dump.ndjson",
        faults=((1, "category", "invalid"),),
        unread=("upc", "image"),
        error="no row went in",
    ),
    Case("20-unquoted-tsv.tsv", {"delimiter": "tab", "quoting": "none"}, created=3),
    Case(
        "20-unquoted-tsv.tsv",
        {"delimiter": "tab"},
        created=1,
        faults=((2, "", "csv_malformed"), (3, "", "csv_malformed")),
    ),
    Case("21-html.csv", created=2),
]


class Way(Protocol):
    """A way to import a file: its report as the API has it."""

    def __call__(self, file: str, **options: Any) -> dict[str, Any]: ...


@pytest.fixture
def by_command(runner: FlaskCliRunner) -> Callable[..., Any]:
    """Import a field file by the command; what it printed, and its exit code."""

    def run(file: str, *, dry_run: bool = False, failed_rows: Path | None = None, **options: Any) -> Any:
        arguments = [f"--{name.replace('_', '-')}" for name in ("dry_run",) if dry_run]
        arguments += ["--failed-rows", str(failed_rows)] if failed_rows else []
        for name, value in options.items():
            switch = f"--{name.replace('_', '-')}"
            if isinstance(value, Mapping):
                arguments += [part for key, text in value.items() for part in (switch, f"{key}={text}")]
            else:
                arguments += [switch] if value is True else [switch, str(value)]
        return runner.invoke(args=["catalog", "import", str(FOLDER / file), *arguments])

    return run


@pytest.fixture
def by_api(alice: Caller, runner: FlaskCliRunner) -> Way:
    """Import a field file through the API; the import, with its faults."""

    def run(file: str, **options: Any) -> dict[str, Any]:
        texts = {
            name: json.dumps(value) if isinstance(value, Mapping) else str(value).lower() if value is True else value
            for name, value in options.items()
        }
        media_type = "application/x-ndjson" if file.endswith("ndjson") else "text/csv"
        content = (FOLDER / file).read_bytes()
        headers = {"Content-Type": media_type}
        sent = alice.call("POST", "/imports", data=content, query_string=texts, headers=headers)
        assert sent.status_code == 202, sent.get_data(as_text=True)
        assert runner.invoke(args=["worker", "--once"]).exit_code == 0
        path = sent.headers["Location"].removeprefix("/api/v1")
        return {**body_of(alice.get(path)), "faults": body_of(alice.get(f"{path}/errors"))["items"]}

    return run


def name_of(case: Case) -> str:
    return f"{case.file}-{','.join(case.options)}-{case.error[:20]}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
class TestEachFile:
    @pytest.mark.parametrize("backend", ["sqlite"])
    def test_has_its_outcome_by_the_api(self, by_api: Way, case: Case) -> None:
        for file in case.before:
            by_api(file)

        done = by_api(case.file, **case.options)

        assert done["status"] == ("succeeded" if case.went_in else "failed"), done
        assert case.error in (done["error"] or "")
        assert (done["created"], done["updated"], done["unchanged"]) == (case.created, case.updated, case.unchanged)
        assert (done["merged"], done["failed"]) == (case.merged, case.failed)
        found = [(fault["line"], fault["column"] or "", fault["code"]) for fault in done["faults"]]
        assert found == list(case.faults)
        assert set(case.values) <= {fault["value"] for fault in done["faults"]}
        assert set(case.unread) <= set(done["unread_columns"])
        assert sum(group["count"] for group in done["fault_groups"]) == len(case.faults)

    @pytest.mark.parametrize("backend", ["sqlite"])
    def test_has_the_same_by_the_command(self, by_command: Callable[..., Any], case: Case) -> None:
        for file in case.before:
            by_command(file)

        result = by_command(case.file, **case.options)

        assert result.exit_code == (1 if not case.went_in else 3 if case.failed else 0), result.output
        assert case.error in result.stderr
        numbers = {"created": case.created, "updated": case.updated, "unchanged": case.unchanged}
        numbers |= {"merged": case.merged, "failed": case.failed}
        if case.went_in or case.failed:
            for name, number in numbers.items():
                assert f"  {name:<10}{number:>10,}\n" in result.stdout
        assert all(f"[{code}]" in result.stdout and column in result.stdout for _, column, code in case.faults)
        assert all(f"'{value}'" in result.stdout for value in case.values)
        assert all(column in result.stdout for column in case.unread)


def prices(products: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {sku: amount_text(product["price"], product["currency"]) for sku, product in products.items()}


class TestWhatIsThen:
    def test_a_product_that_is_not_published_is_a_draft(self, by_api: Way, catalogue: Catalogue) -> None:
        options = next(case.options for case in CASES if case.file == "04-prestashop.csv")

        done = by_api("04-prestashop.csv", **options)

        assert [(row["status"], row["tags"]) for row in catalogue().values()] == [("draft", ["music"])]
        assert (done["made_active"], done["made_draft"]) == (0, 1)

    def test_amounts_are_read_as_they_are_written(self, by_api: Way, catalogue: Catalogue) -> None:
        for case in CASES:
            if case.file.startswith("06") and case.created > 1:
                by_api(case.file, **case.options)

        found = catalogue()
        assert prices(found) == {
            "aceite-girasol": "136.00",
            "jugo-limon": "1120.50",
            "A1": "1299.00",
            "A2": "899.00",
            "A3": "1299.00",
            "A4": "79.90",
            "A5": "49.90",
            "B1": "1299.00",
            "B2": "49.90",
            "B4": "123.00",
            "B5": "0.00",
        }
        assert {sku: row["currency"] for sku, row in found.items() if sku[0] in "aB"} == {
            "aceite-girasol": "UYU",
            **dict.fromkeys(["B1", "B2", "B4", "B5"], "USD"),
        }

    def test_an_update_changes_what_it_states(self, by_api: Way, catalogue: Catalogue) -> None:
        for file in ("07-base.csv", "07b-prices-only.csv", "07c-stock-only.csv", "07d-price-only.ndjson"):
            by_api(file)

        found = catalogue()
        assert prices(found) == {"A1": "1199.00", "A2": "44.90"}
        assert [(row["name"], row["stock"]) for row in found.values()] == [("Sofa", 3), ("Lamp", 0)]

    def test_quantities_are_whole_numbers(self, by_api: Way, catalogue: Catalogue) -> None:
        by_api("15-stock.csv", thousands=",")

        assert {sku: row["stock"] for sku, row in catalogue().items()} == {"N2": 2, "N4": 1000}

    def test_a_path_is_filed_in_the_tree_and_a_bare_name_of_two_is_a_fault(
        self, by_api: Way, runner: FlaskCliRunner, alice: Caller, catalogue: Catalogue
    ) -> None:
        assert runner.invoke(args=["catalog", "import-categories", str(FOLDER / "13-tree.json")]).exit_code == 0
        ids = {each["slug"]: each["id"] for each in body_of(alice.get("/categories"))["items"]}

        done = by_api("13b-paths.csv")

        assert [(fault["line"], fault["code"], fault["value"]) for fault in done["faults"]] == [
            (4, "category_ambiguous", "Citrus")
        ]
        filed = {sku: row["category_id"] for sku, row in catalogue().items()}
        assert filed == {"P1": ids["men-citrus"], "P2": ids["women-citrus"]}
        assert done["made_categories"] == []

    def test_a_field_is_emptied_by_the_stated_word(self, by_api: Way, catalogue: Catalogue) -> None:
        by_api("16-clear-before.csv")
        by_api("16b-clear-after.csv", clear_with="")

        product = catalogue()["C1"]
        assert (product["description"], product["tags"]) == ("", [])

    def test_what_a_later_file_lacks_is_still_there(self, by_api: Way, catalogue: Catalogue) -> None:
        by_api("17-monday.csv")
        by_api("17b-tuesday.csv")

        assert {sku: row["stock"] for sku, row in catalogue().items()} == {"F1": 4, "F2": 4}

    def test_a_text_of_windows_is_read_by_the_charset_of_its_media_type(
        self, alice: Caller, runner: FlaskCliRunner, catalogue: Catalogue
    ) -> None:
        content = (FOLDER / "19-windows-1252.csv").read_bytes()
        headers = {"Content-Type": "text/csv; charset=Windows-1252"}
        query = {"delimiter": ";", "decimal": ","}

        assert alice.call("POST", "/imports", data=content, query_string=query, headers=headers).status_code == 202
        runner.invoke(args=["worker", "--once"])

        assert [(row["name"], row["category"]) for row in catalogue().values()] == [("Müsli – 500 g", "Frühstück")]

    def test_quotation_marks_stay_where_there_is_no_quoting(self, by_api: Way, catalogue: Catalogue) -> None:
        by_api("20-unquoted-tsv.tsv", delimiter="tab", quoting="none")

        assert [row["name"] for row in catalogue().values()] == ['"Organic" oats', '"Best" milk', 'Tea "green"']

    def test_html_is_searched_as_a_browser_shows_it(self, by_api: Way, alice: Caller) -> None:
        by_api("21-html.csv")

        found = {
            word: [each["sku"] for each in body_of(alice.get("/products", query_string={"search": word}))["items"]]
            for word in ("café", "small", "strong", "lead")
        }
        assert found == {"café": ["X1"], "small": ["X1"], "strong": ["X2"], "lead": []}
