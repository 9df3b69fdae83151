"""Parents and variants in files: in any order, checked by their types, and blank where another row speaks."""

import json
import random
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.attributes.service import create_attribute
from app.features.exports.files import FileFormat
from app.features.imports.models import FileUnreadable
from app.features.imports.report import Report
from app.features.product_types.service import create_product_type
from app.features.products.models import PRODUCTS
from tests.conftest import rows_of
from tests.features.imports.conftest import Catalogue, Import

HEADER = "sku,parent_sku,options,option.size,option.colour,name,price,stock,category\n"


def parent(sku: str, name: str = "Shirt") -> str:
    return f"{sku},,size|colour,,,{name},,,Clothing\n"


def variant(sku: str, parent_sku: str, size: str, *, price: str = "10.00", stock: str = "1") -> str:
    return f"{sku},{parent_sku},,{size},red,,{price},{stock},\n"


def family(sku: str) -> list[str]:
    return [parent(sku), *(variant(f"{sku}-{size}", sku, size) for size in "SML")]


def faults(report: Report) -> list[tuple[int, str, str]]:
    return [(error.line, error.field, error.code) for error in report.errors]


def numbers(report: Report) -> dict[str, int]:
    names = ("created", "updated", "unchanged", "merged", "failed", "read")
    return {name: number for name in names if (number := getattr(report, name))}


def parents(app: Flask) -> dict[str, Any]:
    """What the parents show, by sku."""
    with app.app_context(), unit_of_work(reading=True):
        rows = db.session.execute(select(PRODUCTS).where(PRODUCTS.c.kind == "parent")).mappings()
        return {row["sku"]: (row["price"], row["stock"], row["variant_count"], row["options"]) for row in rows}


class TestVariants:
    @pytest.mark.parametrize("rows_per_chunk", [2, 3, 1000])
    @pytest.mark.parametrize("seed", range(3))
    def test_may_stand_anywhere_before_or_after_their_parents(
        self, app: Flask, import_text: Import, catalogue: Catalogue, rows_per_chunk: int, seed: int
    ) -> None:
        rows = [row for number in range(4) for row in family(f"P{number}")]
        random.Random(seed).shuffle(rows)

        report = import_text(HEADER + "".join(rows), rows_per_chunk=rows_per_chunk)

        assert numbers(report) == {"created": 16, "read": 16}
        assert {sku: row["parent_sku"] for sku, row in catalogue().items() if "-" in sku} == {
            f"P{number}-{size}": f"P{number}" for number in range(4) for size in "SML"
        }
        assert {shown[:3] for shown in parents(app).values()} == {(Decimal(10), 3, 3)}
        assert {row["name"] for row in catalogue().values()} == {"Shirt"}

    @pytest.mark.parametrize("rows_per_chunk", [2, 1000])
    def test_of_a_file_that_comes_again_change_nothing(
        self, app: Flask, import_text: Import, rows_per_chunk: int
    ) -> None:
        text = HEADER + "".join(reversed([*family("A"), *family("B")]))
        import_text(text, rows_per_chunk=rows_per_chunk)
        tables = ("products", "audit_events", "stock_movements")
        before = [rows_of(app, table) for table in tables]

        report = import_text(text, rows_per_chunk=rows_per_chunk)

        assert numbers(report) == {"unchanged": 8, "read": 8}
        assert [rows_of(app, table) for table in tables] == before

    @pytest.mark.parametrize("rows_per_chunk", [1, 2, 1000])
    def test_whose_parent_never_comes_are_faults_of_their_rows(
        self, import_text: Import, catalogue: Catalogue, rows_per_chunk: int
    ) -> None:
        bad = ",,size|colour,,,No key,,,C\n" + "Q,,size|colour,,,No category,,,\n"

        report = import_text(
            HEADER + variant("X", "NONE", "S") + variant("Q-S", "Q", "S") + bad + "".join(family("P")),
            rows_per_chunk=rows_per_chunk,
        )

        assert numbers(report) == {"created": 4, "failed": 4, "read": 8}
        assert sorted(faults(report)) == [
            *((2, "parent_sku", "parent_sku_unknown"), (3, "parent_sku", "parent_sku_unknown")),
            *((4, "sku", "required"), (5, "category_id", "product_incomplete")),
        ]
        error = next(error for error in report.errors if error.line == 2)
        assert (error.column, error.value) == ("parent_sku", "NONE")

    @pytest.mark.parametrize("rows_per_chunk", [1, 2, 1000])
    def test_of_a_dry_run_are_told_as_they_will_be(self, app: Flask, import_text: Import, rows_per_chunk: int) -> None:
        rows = [*family("A"), *reversed(family("B")), variant("X", "NONE", "S"), parent("A"), variant("S", "S", "S")]
        text = HEADER + "".join(rows)

        dry = import_text(text, rows_per_chunk=rows_per_chunk, dry_run=True)
        nothing = rows_of(app, "products")
        wet = import_text(text, rows_per_chunk=rows_per_chunk)

        assert nothing == []
        assert numbers(dry) == numbers(wet) == {"created": 8, "merged": 1, "failed": 2, "read": 11}
        assert faults(dry) == faults(wet)

    @pytest.mark.parametrize("rows_per_chunk", [1, 2, 1000])
    def test_may_repeat_what_their_parents_say_and_no_more(
        self, import_text: Import, catalogue: Catalogue, rows_per_chunk: int
    ) -> None:
        import_text(HEADER + "".join(family("P")))
        rows = ["P-S,P,,,,Blouse,,,Clothing\n", "P-M,P,,,,Other,,,\n", "P-L,P,,,,,,,Shoes\n", parent("P", "Blouse")]

        report = import_text(HEADER + "".join(rows), rows_per_chunk=rows_per_chunk)

        assert faults(report) == [(3, "name", "member_of_parent"), (4, "category_id", "member_of_parent")]
        assert {row["name"] for row in catalogue().values()} == {"Blouse"}

    def test_before_what_cannot_be_read_go_in(self, import_text: Import, catalogue: Catalogue) -> None:
        rows = variant("P-S", "P", "S") + parent("P")

        with pytest.raises(FileUnreadable, match="line 4: a record is longer"):
            import_text(f'{HEADER}{rows}"{"x" * 2**20}\n', rows_per_chunk=2)

        assert catalogue().keys() == {"P", "P-S"}

    def test_are_drafts_unless_a_row_says_otherwise(self, import_text: Import, catalogue: Catalogue) -> None:
        report = import_text(HEADER + "".join(family("P")), status="draft")

        assert report.made_draft == 4
        assert {row["status"] for row in catalogue().values()} == {"draft"}

    def test_count_as_rows_without_a_stock_and_their_parents_do_not(self, import_text: Import) -> None:
        report = import_text(HEADER + parent("P") + variant("P-S", "P", "S", stock=""))

        assert report.stock_assumed == 1

    def test_take_no_constant_that_is_their_parents(self, import_text: Import, catalogue: Catalogue) -> None:
        constants = {"category": "Shelf", "track_stock": "false", "description": "Fine."}
        text = "sku,parent_sku,options,name,price\nP-1,P,,,1.00\nP,,size,Shirt,\nS,,,Single,2.00\n"

        report = import_text(text, reading={"constants": constants})

        assert numbers(report) == {"created": 3, "read": 3}
        assert {row["description"] for row in catalogue().values()} == {"Fine."}
        assert [catalogue()[sku]["track_stock"] for sku in ("P", "P-1", "S")] == [False] * 3

    @pytest.mark.parametrize("key", ["gtin", "external_id"])
    def test_are_found_by_another_key(self, app: Flask, import_text: Import, key: str) -> None:
        codes = {"gtin": ("4006381333931", "9780306406157"), "external_id": ("e-1", "e-2")}[key]
        text = (
            f"{key},sku,parent_sku,options,name,price,category\n{codes[0]},V,P,,,3.00,\n{codes[1]},P,,size,Shirt,,C\n"
        )

        reports = [import_text(text, reading={"key": key}, rows_per_chunk=1) for _ in range(2)]

        assert [numbers(report) for report in reports] == [{"created": 2, "read": 2}, {"unchanged": 2, "read": 2}]
        assert parents(app)["P"][0] == Decimal(3)

    def test_of_ndjson_have_options_as_objects(self, app: Flask, import_text: Import, catalogue: Catalogue) -> None:
        rows: list[dict[str, Any]] = [
            {"sku": "V", "parent_sku": "P", "price": "2.00", "options": {"size": 42}},
            {"sku": "W", "parent_sku": "P", "price": "2.00", "option.size": "L"},
            {"sku": "P", "options": ["size"], "name": "Shirt", "category": "C", "kind": "parent"},
        ]

        report = import_text("\n".join(map(json.dumps, rows)), file_format=FileFormat.NDJSON, rows_per_chunk=1)

        assert numbers(report) == {"created": 3, "read": 3}
        assert [catalogue()[sku]["options"] for sku in "VW"] == [{"size": 42}, {"size": "L"}]

    @pytest.mark.parametrize(
        ("row", "code"),
        [
            ("V,P,variant,\n", None),
            ("V,P,parent,\n", "kind_differs"),
            ("V,P,single,\n", "kind_differs"),
            ("V,,variant,\n", "kind_differs"),
            ("V,P,other,\n", "not_a_choice"),
            ("V,,parent,x\n", "kind_differs"),
            ("N,,parent,New\n", None),
            ("P,,parent,\n", None),
        ],
        ids=str,
    )
    def test_are_of_the_kind_that_a_row_states(self, import_text: Import, row: str, code: str | None) -> None:
        import_text("sku,name,price,category,options,parent_sku\nP,Shirt,,C,size,\nV,Single,1.00,C,,\n")

        report = import_text(f"sku,parent_sku,kind,name\n{row}", reading={"constants": {"category": "C"}})

        assert [error.code for error in report.errors] == ([code] if code else [])


class TestTypes:
    @pytest.fixture(autouse=True)
    def types(self, app: Flask) -> None:
        """A type with an attribute of each type, of which one is an option."""
        choices = [{"code": code, "label": code.upper()} for code in ("red", "blue")]
        kinds = ["text", "integer", "decimal", "boolean", "date", "choice", "choices"]
        with app.app_context(), unit_of_work():
            for kind in kinds:
                of_choices = choices if kind.startswith("choice") else []
                create_attribute(
                    code=f"a_{kind}", label=kind, type=kind, choices=of_choices, filterable=True, searchable=False
                )
            listed = [{"code": f"a_{kind}", "required": False, "is_option": kind == "integer"} for kind in kinds]
            create_product_type(code="thing", label="Thing", attributes=listed)

    def test_give_the_cells_of_attributes_their_types(self, import_text: Import, catalogue: Catalogue) -> None:
        header = "sku,name,price,category,type,attribute.a_text,attribute.a_decimal,attribute.a_boolean"
        row = "A,Cup,1.00,C,thing,07,2.50,TRUE"
        more = {"attribute.a_date": "2026-01-31", "Attributes.a_choice": "red", "attribute.a_choices": "red|blue"}

        report = import_text(f"{','.join([header, *more])}\n{','.join([row, *more.values()])}\n")

        assert (report.created, report.errors) == (1, [])
        assert catalogue()["A"]["type"] == "thing"
        assert catalogue()["A"]["attributes"] == {
            "a_text": "07",
            "a_decimal": 2.5,
            "a_boolean": True,
            "a_date": "2026-01-31",
            "a_choice": "red",
            "a_choices": ["red", "blue"],
        }

    def test_take_decimals_as_the_file_writes_them(self, import_text: Import, catalogue: Catalogue) -> None:
        reading = {"decimal": ",", "delimiter": ";"}
        import_text("sku;name;price;category;attribute.a_decimal\nA;Cup;1,00;C;2,50\nB;Cup;1,00;C;x\n", reading=reading)

        assert [catalogue()[sku]["attributes"] for sku in "AB"] == [{"a_decimal": 2.5}, {"a_decimal": "x"}]

    def test_refuse_what_does_not_fit_at_the_column(self, import_text: Import) -> None:
        header = "sku,name,price,category,type,attribute.a_integer,attribute.other\n"

        report = import_text(f"{header}A,Cup,1,C,thing,many,\nB,Cup,1,C,thing,,x\n")

        assert [(error.line, error.column, error.value, error.code) for error in report.errors] == [
            (2, "attribute.a_integer", "many", "attribute_invalid"),
            (3, "attribute.other", "x", "attribute_unknown"),
        ]

    def test_that_are_unknown_are_faults(self, import_text: Import) -> None:
        (error,) = import_text("sku,name,price,category,type\nA,Cup,1.00,C,nothing\n").errors

        assert (error.line, error.column, error.value, error.code) == (2, "type", "nothing", "product_type_unknown")

    def test_are_not_read_of_a_column_that_others_call_so(self, import_text: Import) -> None:
        report = import_text("sku,name,price,category,Type,Position\nA,Cup,1.00,C,simple,3\n")

        assert (report.created, report.unread) == (1, ["Type", "Position"])

    def test_give_the_cells_of_options_their_types(self, import_text: Import, catalogue: Catalogue) -> None:
        header = "sku,parent_sku,options,option.a_integer,name,price,category,type\n"

        report = import_text(f"{header}V,P,,42,,1.00,,\nP,,a_integer,,Shirt,,C,thing\nW,P,,x,,1.00,,\n")

        assert [(error.line, error.column, error.code) for error in report.errors] == [
            (4, "option.a_integer", "attribute_invalid")
        ]
        assert catalogue()["V"]["options"] == {"a_integer": 42}
