"""What an import does to the catalogue, and what it reports."""

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError

from app.core.slugs import SlugTaken
from app.core.transactions import unit_of_work
from app.features.categories.service import create_category
from app.features.exports.files import FileFormat
from app.features.imports import importer, service
from app.features.imports.report import MAX_ERRORS, Report
from app.features.imports.row_schema import ImportRowSchema
from app.features.imports.rows import RowError
from app.web import fields
from tests.conftest import rows_of
from tests.features.imports.conftest import Catalogue, Import, prices
from tests.references import let_stock_refer_to_users

HEADER = "sku,name,price,category\n"


def outcome(report: Report) -> dict[str, int]:
    """The numbers of a report that are not zero."""
    names = ("created", "updated", "unchanged", "merged", "failed")
    return {name: number for name in names if (number := getattr(report, name))}


def faults(report: Report) -> list[tuple[int, str, str]]:
    return [(error.line, error.field, error.code) for error in report.errors]


def many(count: int) -> str:
    return HEADER + "".join(f"S{number:04},Chair {number},9.90,Category {number % 7}\n" for number in range(count))


class TestImport:
    def test_creates_products(self, import_text: Import, catalogue: Catalogue) -> None:
        report = import_text(HEADER + "A-1,Chair,9.90,Chairs\nA-2,Table,19.90,Tables\n")

        assert outcome(report) == {"created": 2}
        assert prices(catalogue()) == {"A-1": Decimal("9.90"), "A-2": Decimal("19.90")}

    def test_updates_products_by_their_sku(self, import_text: Import, catalogue: Catalogue) -> None:
        import_text(HEADER + "A-1,Chair,9.90,Chairs\nA-2,Table,19.90,Tables\n")

        report = import_text(HEADER + "A-1,Stool,8.90,Chairs\nA-2,Table,19.90,Tables\n")

        assert outcome(report) == {"updated": 1, "unchanged": 1}
        assert catalogue()["A-1"]["name"] == "Stool"

    def test_finds_nothing_to_do_the_second_time(self, import_text: Import, app: Flask) -> None:
        row = 'A-1,Chair,9.90,Chairs,3,oak|new,"{""width"": 45, ""new"": true}"\n'
        text = f"sku,name,price,category,stock,tags,attributes\n{row}{row}"
        import_text(text)
        before = rows_of(app, "products"), rows_of(app, "categories")

        report = import_text(text)

        assert outcome(report) == {"unchanged": 1, "merged": 1}
        assert (rows_of(app, "products"), rows_of(app, "categories")) == before

    def test_keeps_what_the_file_does_not_state(self, import_text: Import, catalogue: Catalogue) -> None:
        import_text("sku,name,price,category,stock,description\nA-1,Chair,9.90,Chairs,3,Solid oak\n")

        import_text("sku,name,price,category,stock,description\nA-1,Chair,8.90,Chairs,,\n")

        product = catalogue()["A-1"]
        assert (product["price"], product["stock"], product["description"]) == (Decimal("8.90"), 3, "Solid oak")

    def test_gives_rows_without_a_currency_the_one_it_is_told(self, import_text: Import, catalogue: Catalogue) -> None:
        import_text("sku,name,price,category,currency\nA-1,C,1,D,\nA-2,C,1,D,EUR\n", currency="SAR")

        assert [product["currency"] for product in catalogue().values()] == ["SAR", "EUR"]

    def test_takes_ndjson(self, import_text: Import, catalogue: Catalogue) -> None:
        line = {"sku": "A-1", "name": "Chair", "price": "9.90", "category": "Chairs", "attributes": {"width": 4.5}}

        report = import_text(json.dumps(line), file_format=FileFormat.NDJSON)

        assert outcome(report) == {"created": 1}
        assert catalogue()["A-1"]["attributes"] == {"width": 4.5}

    def test_of_no_rows_reports_nothing(self, import_text: Import) -> None:
        assert outcome(import_text(HEADER)) == {}


class TestRowsWithTheSameKey:
    TEXT = HEADER + "A,First,1.00,Chairs\nA,Second,2.00,Chairs\nB,Other,3.00,Beds\nA, First ,1.00,Chairs\n"

    @pytest.mark.parametrize("rows_per_chunk", [1, 2, 100])
    def test_are_merged_if_they_are_the_same_and_else_are_faults(
        self, import_text: Import, catalogue: Catalogue, rows_per_chunk: int
    ) -> None:
        report = import_text(self.TEXT, rows_per_chunk=rows_per_chunk)

        assert outcome(report) == {"created": 2, "merged": 1, "failed": 1}
        assert faults(report) == [(3, "name", "rows_differ")]
        assert catalogue()["A"]["name"] == "First"

    def test_name_both_lines_the_key_and_the_members(self, import_text: Import) -> None:
        (error,) = import_text(self.TEXT).errors

        assert error.sentence == "Line 2 has the same sku (A) and differs in name, price."
        assert (error.line, error.column, error.value) == (3, "name", "Second")

    def test_differ_in_columns_that_feed_no_field_as_well(self, import_text: Import) -> None:
        report = import_text("sku,name,price,category,size\nA,Top,1.00,C,S\nA,Top,1.00,C,M\nA,Top,1.00,C,S\n")

        assert outcome(report) == {"created": 1, "merged": 1, "failed": 1}
        assert [(error.line, error.field, error.column, error.value) for error in report.errors] == [
            (3, "", "size", "M")
        ]

    def test_differ_in_what_only_one_of_them_states(self, import_text: Import) -> None:
        report = import_text("sku,name,price,category,stock\nA,Top,1.00,C,\nA,,1.00,C,\nA,Top,1.00,C,3\n")

        assert [(error.line, error.column) for error in report.errors] == [(3, "name"), (4, "stock")]

    def test_are_compared_in_ndjson_by_their_members(self, import_text: Import) -> None:
        rows: list[dict[str, Any]] = [
            {"sku": "A", "name": "Top", "price": "1.00", "category": "C"},
            {"category": "C", "sku": "A", "price": "1.00", "name": "Top"},
            {"sku": "A", "name": "Top", "price": "1.00", "category": "C", "tags": ["new"]},
            {"sku": "A", "name": "Top", "price": "1.00"},
        ]

        report = import_text("\n".join(map(json.dumps, rows)), file_format=FileFormat.NDJSON)

        assert outcome(report) == {"created": 1, "merged": 1, "failed": 2}
        assert [(error.line, error.column) for error in report.errors] == [(3, "tags"), (4, "category")]

    def test_make_no_category_where_they_fail(self, import_text: Import, app: Flask) -> None:
        report = import_text(HEADER + "A,First,1.00,Chairs\nA,First,1.00,Tables\n")

        assert list(report.made_categories) == ["Chairs"]
        assert len(rows_of(app, "categories")) == 1

    @pytest.mark.parametrize("rows_per_chunk", [1, 100])
    @pytest.mark.parametrize("first", ["A,First,free,Chairs", "A,First,1.005,Chairs", "A,First,1.00,"])
    def test_do_not_take_the_place_of_one_that_failed(
        self, import_text: Import, catalogue: Catalogue, first: str, rows_per_chunk: int
    ) -> None:
        report = import_text(f"{HEADER}{first}\nA,Second,2.00,Tables\n", rows_per_chunk=rows_per_chunk)

        assert outcome(report) == {"failed": 2}
        assert faults(report)[1] == (3, "name", "rows_differ")
        assert catalogue() == {}

    @pytest.mark.parametrize("rows_per_chunk", [1, 100])
    def test_fail_like_the_one_that_they_repeat(self, import_text: Import, rows_per_chunk: int) -> None:
        report = import_text(
            "sku,name,price,category_id\nA,First,1.00,77\nA,First,1.00,77\n", rows_per_chunk=rows_per_chunk
        )

        assert outcome(report) == {"failed": 2}
        assert faults(report) == [(2, "category_id", "category_unknown"), (3, "", "same_as_failed")]

    def test_are_found_among_many(self, import_text: Import) -> None:
        text = many(3000) + "S0007,Chair 7,9.90,Category 0\nS0008,Chair 8,9.80,Category 1\n"

        report = import_text(text, rows_per_chunk=500)

        assert outcome(report) == {"created": 3000, "merged": 1, "failed": 1}
        assert report.errors[0].sentence == "Line 10 has the same sku (S0008) and differs in price."


class TestAKeyThatASpreadsheetShortened:
    @pytest.mark.parametrize("key", ["8.71E+12", "8,71E+12", "1E+05", "8.7e+012"])
    def test_is_refused_as_that(self, import_text: Import, catalogue: Catalogue, key: str) -> None:
        rows = "".join(f'"{key}",{name},4.99,Care\n' for name in ("Shampoo", "Conditioner"))

        report = import_text(HEADER + rows)

        assert faults(report) == [(2, "sku", "key_shortened"), (3, "sku", "key_shortened")]
        assert (report.errors[0].column, report.errors[0].value) == ("sku", key)
        assert catalogue() == {}

    @pytest.mark.parametrize("key", ["1E5", "E+12", "8.71E12X", "12E+", "1E-5"])
    def test_is_not_every_key_with_an_e(self, import_text: Import, catalogue: Catalogue, key: str) -> None:
        import_text(f"{HEADER}{key},Shampoo,4.99,Care\n")

        assert list(catalogue()) == [key]


class TestAMemberThatIsNew:
    """A row schema with one member more, which a new product has a default for."""

    class WithColour(ImportRowSchema):
        colour = fields.Text(max_length=14, allow_none=True, load_default=None)
        grade = fields.Integer(load_default=1)

    ROW: ClassVar[dict[str, Any]] = {"sku": "A", "name": "Chair", "price": "1.00", "category_id": 7}

    def test_is_not_set_by_a_row_that_omits_it(self) -> None:
        values = self.WithColour().load(self.ROW)

        assert values.keys() == self.ROW.keys()

    def test_is_set_by_a_row_that_states_it(self) -> None:
        values = self.WithColour().load({**self.ROW, "colour": None, "grade": 2})

        assert (values["colour"], values["grade"]) == (None, 2)


class TestCategories:
    @pytest.fixture
    def make(self, app: Flask) -> Any:
        def make(name: str, parent_id: int | None = None) -> int:
            with app.app_context(), unit_of_work():
                return create_category(name=name, parent_id=parent_id).id

        return make

    def test_are_found_by_their_exact_name(self, import_text: Import, catalogue: Catalogue, make: Any) -> None:
        category_id = make("Chairs", make("Furniture"))

        report = import_text(HEADER + "A,Chair,1.00,Chairs\n")

        assert catalogue()["A"]["category_id"] == category_id
        assert report.made_categories == {}

    def test_are_made_as_roots_when_there_is_none_of_that_name(
        self, import_text: Import, app: Flask, make: Any
    ) -> None:
        make("Chairs")

        report = import_text(HEADER + "A,Chair,1.00,CHAIRS\nB,Chair,1.00,CHAIRS\n")

        assert list(report.made_categories) == ["CHAIRS"]
        assert len(rows_of(app, "categories")) == 2

    def test_are_found_by_their_id(self, import_text: Import, catalogue: Catalogue, make: Any) -> None:
        category_id = make("Chairs")

        import_text(f"sku,name,price,category_id\nA,Chair,1.00,{category_id}\n")

        assert catalogue()["A"]["category_id"] == category_id

    def test_that_are_unknown_by_id_fail_the_row(self, import_text: Import) -> None:
        report = import_text("sku,name,price,category_id\nA,Chair,1.00,77\n")

        assert faults(report) == [(2, "category_id", "category_unknown")]

    def test_of_the_same_name_are_told_apart_by_id(self, import_text: Import, catalogue: Catalogue, make: Any) -> None:
        make("Chairs", make("Indoor"))
        outdoor = make("Chairs", make("Outdoor"))

        import_text(f"sku,name,price,category,category_id\nA,Chair,1.00,Chairs,{outdoor}\n")

        assert catalogue()["A"]["category_id"] == outdoor

    def test_of_the_same_name_without_an_id_fail_the_row(self, import_text: Import, make: Any) -> None:
        make("Chairs", make("Indoor"))
        make("Chairs", make("Outdoor"))

        report = import_text(HEADER + "A,Chair,1.00,Chairs\nB,Table,1.00,Tables\n")

        assert faults(report) == [(2, "category", "category_ambiguous")]
        assert outcome(report) == {"created": 1, "failed": 1}

    def test_go_by_their_name_where_the_id_is_of_another(
        self, import_text: Import, catalogue: Catalogue, make: Any
    ) -> None:
        chairs, tables = make("Chairs"), make("Tables")

        import_text(f"sku,name,price,category,category_id\nA,Chair,1.00,Chairs,{tables}\n")

        assert catalogue()["A"]["category_id"] == chairs

    def test_are_not_made_for_a_row_that_fails(self, import_text: Import, app: Flask) -> None:
        import_text(HEADER + "A,Chair,free,Chairs\n")

        assert rows_of(app, "categories") == []


class TestBadRows:
    @pytest.mark.parametrize(
        ("cells", "field", "code"),
        [
            (",Chair,1.00,Chairs", "sku", "required"),
            ("A\u200bb,Chair,1.00,Chairs", "sku", "malformed"),
            ("A\tb,Chair,1.00,Chairs", "sku", "malformed"),
            ("A" * 65 + ",Chair,1.00,Chairs", "sku", "too_long"),
            ("A,,1.00,Chairs", "name", "product_incomplete"),
            ("A,Cha\0ir,1.00,Chairs", "name", "malformed"),
            ("A,\u200b\u3164,1.00,Chairs", "name", "malformed"),
            ("A," + "x" * 201 + ",1.00,Chairs", "name", "too_long"),
            ("A,Chair,,Chairs", "price", "product_incomplete"),
            ("A,Chair,-1.00,Chairs", "price", "invalid"),
            ("A,Chair,1.005,Chairs", "price", "too_precise"),
            ("A,Chair,1e3,Chairs", "price", "invalid"),
            ("A,Chair,NaN,Chairs", "price", "invalid"),
            ("A,Chair,１,Chairs", "price", "invalid"),
            ('A,Chair,"1,234.00",Chairs', "price", "invalid"),
            ("A,Chair,12345678901.00,Chairs", "price", "invalid"),
            ("A,Chair,1.00,", "category_id", "product_incomplete"),
            ("A,Chair,1.00," + "x" * 121, "category", "too_long"),
        ],
    )
    def test_are_reported_with_their_field_and_code(
        self, import_text: Import, app: Flask, cells: str, field: str, code: str
    ) -> None:
        report = import_text(f"{HEADER}{cells}\n")

        assert faults(report) == [(2, field, code)]
        assert rows_of(app, "products") == []

    @pytest.mark.parametrize(
        ("column", "cell", "field", "code"),
        [
            ("stock", "-1", "stock", "too_small"),
            ("stock", "1.5", "stock", "invalid"),
            ("stock", "99999999999999999999", "stock", "too_large"),
            ("stock", "9" * 400, "stock", "invalid"),
            ("status", "gone", "status", "not_a_choice"),
            ("currency", "eur", "currency", "not_a_choice"),
            ("category_id", "0", "category_id", "too_small"),
            ("category_id", "9223372036854775808", "category_id", "too_large"),
            ("tags", "a|b|a", "tags", "repeated"),
            ("tags", "ok|" + "x" * 51, "tags/1", "too_long"),
            ("attributes", "{", "attributes", "invalid"),
            ("attributes", '"{""a"": 1, ""a"": 2}"', "attributes", "invalid"),
            ("attributes", '"{""a"": [1]}"', "attributes/a", "not_a_scalar"),
            ("description", "x" * 10_001, "description", "too_long"),
        ],
    )
    def test_are_bad_for_an_optional_field_too(
        self, import_text: Import, column: str, cell: str, field: str, code: str
    ) -> None:
        report = import_text(f"sku,name,price,category,{column}\nA,Chair,1.00,Chairs,{cell}\n")

        assert faults(report) == [(2, field, code)]

    @pytest.mark.parametrize(
        ("member", "field", "code"),
        [
            ({"price": 59.900000000000006}, "price", "invalid"),
            ({"price": 1e300}, "price", "invalid"),
            ({"price": True}, "price", "invalid"),
            ({"sku": 1.5}, "sku", "invalid"),
            ({"category": [{"id": 1, "name": "Home"}]}, "category", "invalid"),
            ({"stock": "7"}, "stock", "invalid"),
            ({"stock": True}, "stock", "invalid"),
            ({"tags": "oak"}, "tags", "invalid"),
            ({"name": None}, "name", "null"),
        ],
    )
    def test_are_as_strict_in_ndjson_as_a_request_body(
        self, import_text: Import, member: dict[str, Any], field: str, code: str
    ) -> None:
        line = {"sku": "A", "name": "Chair", "price": "1.00", "category": "Chairs", **member}

        assert faults(import_text(json.dumps(line), file_format=FileFormat.NDJSON)) == [(1, field, code)]

    def test_stop_no_other(self, import_text: Import, catalogue: Catalogue) -> None:
        report = import_text(HEADER + 'A,One,1.00,C\nB,Two\nC,"Th"ree,1,C\nD,Four,x,C\nE,Five,5.00,C\n')

        assert outcome(report) == {"created": 2, "failed": 3}
        assert [line for line, _, _ in faults(report)] == [3, 4, 5]
        assert set(catalogue()) == {"A", "E"}

    def test_fail_alone_for_an_unknown_reference_of_any_member(
        self, import_text: Import, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        let_stock_refer_to_users(monkeypatch)

        report = import_text("sku,name,price,category,stock\nA,One,1.00,C,\nB,Two,2.00,C,77\nC,Three,3.00,C,\n")

        assert outcome(report) == {"created": 2, "failed": 1}
        assert faults(report) == [(3, "supplier_id", "supplier_unknown")]
        assert set(catalogue()) == {"A", "C"}

    def test_are_reported_in_the_order_of_the_file_with_all_their_faults(self, import_text: Import) -> None:
        report = import_text("sku,name,price,category_id\nA,Chair,1.00,77\nB,\u200b,free,1\n")

        assert [line for line, _, _ in faults(report)] == [2, 3, 3]
        assert {field for _, field, _ in faults(report)} == {"category_id", "name", "price"}

    def test_are_all_counted_though_not_all_are_listed(self, import_text: Import) -> None:
        report = import_text(HEADER + "A,Chair,free,Chairs\n" * (MAX_ERRORS + 500))

        assert (report.failed, len(report.errors)) == (MAX_ERRORS + 500, MAX_ERRORS)

    def test_carry_a_sentence(self, import_text: Import) -> None:
        assert import_text("Artikel,name,price,category\nA,Chair,free,C\n", pairs=("sku=Artikel",)).errors == [
            RowError(
                line=2,
                field="price",
                code="invalid",
                sentence="Not a decimal string from 0 to 9999999999 and its fraction.",
                column="price",
                value="free",
                expected="an amount such as 1299.00, a point before decimals and nothing between thousands,"
                " and no more decimals than its currency has",
            )
        ]


class TestCrash:
    @pytest.fixture
    def second_chunk_crashes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        save, calls = service.save_chunk, []

        def save_chunk(*args: Any, **options: Any) -> service.SavedChunk:
            chunk = save(*args, **options)
            calls.append(chunk)
            if len(calls) == 2:
                raise RuntimeError("the plug was pulled")
            return chunk

        monkeypatch.setattr(service, "save_chunk", save_chunk)

    @pytest.mark.usefixtures("second_chunk_crashes")
    def test_leaves_the_chunks_before_it_whole(self, import_text: Import, catalogue: Catalogue) -> None:
        with pytest.raises(RuntimeError):
            import_text(many(30), rows_per_chunk=10)

        assert sorted(catalogue()) == [f"S{number:04}" for number in range(10)]

    @pytest.mark.usefixtures("second_chunk_crashes")
    def test_is_made_good_by_the_next_run(self, import_text: Import, catalogue: Catalogue) -> None:
        with pytest.raises(RuntimeError):
            import_text(many(30), rows_per_chunk=10)

        report = import_text(many(30), rows_per_chunk=10)

        assert outcome(report) == {"created": 20, "unchanged": 10}
        assert len(catalogue()) == 30


class TestWhatOthersDoMeanwhile:
    @pytest.mark.parametrize("error", [SlugTaken(), OperationalError("", {}, Exception("deadlock detected"))], ids=str)
    def test_makes_a_chunk_be_tried_again(
        self, import_text: Import, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        save, failures = service.save_chunk, [error, error]

        def save_chunk(*args: Any, **options: Any) -> service.SavedChunk:
            chunk = save(*args, **options)
            if failures:
                raise failures.pop()
            return chunk

        monkeypatch.setattr(service, "save_chunk", save_chunk)

        report = import_text(many(5))

        assert outcome(report) == {"created": 5}
        assert len(catalogue()) == 5

    def test_is_not_tried_for_ever(self, import_text: Import, monkeypatch: pytest.MonkeyPatch) -> None:
        def save_chunk(*_: Any, **__: Any) -> service.SavedChunk:
            raise SlugTaken

        monkeypatch.setattr(service, "save_chunk", save_chunk)
        monkeypatch.setattr("time.sleep", lambda _: None)

        with pytest.raises(SlugTaken):
            import_text(many(5))


class TestDryRun:
    def test_saves_nothing(self, import_text: Import, app: Flask) -> None:
        import_text(many(30), rows_per_chunk=10, dry_run=True)

        assert rows_of(app, "products") == rows_of(app, "categories") == []

    def test_reports_what_a_run_would(self, import_text: Import) -> None:
        import_text(HEADER + "S0001,Chair,1.00,Chairs\nS0002,Chair 2,9.90,Category 2\n")
        text = many(30) + "S0003,Chair 3,9.90,Category 3\nS0004,Again,1.00,Elsewhere\nBAD,,,\n"

        dry = import_text(text, rows_per_chunk=10, dry_run=True)

        assert outcome(dry) == {"created": 28, "updated": 1, "unchanged": 1, "merged": 1, "failed": 2}
        assert dry == import_text(text, rows_per_chunk=10)


class TestTwoImportsOfTheSameFile:
    @pytest.fixture(autouse=True)
    def only_one_attempt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importer, "_ATTEMPTS", 1)

    def test_at_once_make_each_product_and_category_once(
        self, app: Flask, import_text: Import, catalogue: Catalogue
    ) -> None:
        with ThreadPoolExecutor(3) as pool:
            reports = list(pool.map(lambda _: import_text(many(300), rows_per_chunk=50), range(3)))

        assert [report.failed for report in reports] == [0, 0, 0]
        assert sum(report.created for report in reports) == 300
        assert len(catalogue()) == 300
        assert len(rows_of(app, "categories")) == 7

    def test_at_once_in_other_orders_end_all_the_same(self, import_text: Import, catalogue: Catalogue) -> None:
        header, *lines = many(300).splitlines(keepends=True)
        texts = [header + "".join(lines), header + "".join(reversed(lines)), header + "".join(sorted(lines, key=hash))]

        with ThreadPoolExecutor(3) as pool:
            reports = list(pool.map(lambda text: import_text(text, rows_per_chunk=50), texts))

        assert [report.failed for report in reports] == [0, 0, 0]
        assert len(catalogue()) == 300
