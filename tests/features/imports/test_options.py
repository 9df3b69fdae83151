"""What each option of an import does, and that the command, the API and the reader have the same."""

import json
from collections.abc import Callable
from dataclasses import fields as dataclass_fields
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask

from app.cli.catalog import catalog as commands
from app.core.money import CURRENCIES
from app.core.transactions import unit_of_work
from app.features.brands.service import create_brand
from app.features.categories.service import create_category
from app.features.exports.files import FileFormat
from app.features.imports.reading.amounts import SIGNS, NumberReader
from app.features.imports.reading.options import Reading
from app.features.imports.report import Report
from app.features.imports.schemas import ImportOptionsSchema
from app.web.schemas import shared
from tests.conftest import rows_of
from tests.features.imports.conftest import Catalogue, Import, prices

HEADER = "sku,name,price,category\n"


def faults(report: Report) -> list[tuple[int, str, str]]:
    return [(error.line, error.field, error.code) for error in report.errors]


def reader(**options: Any) -> NumberReader:
    return NumberReader(Reading(file_format=FileFormat.CSV, **options))


class TestOptions:
    def test_are_the_same_in_the_command_the_api_and_the_reader(self) -> None:
        api = set(shared(ImportOptionsSchema).fields)
        command = {parameter.name for parameter in commands.commands["import"].params}
        own = {each.name for each in dataclass_fields(Reading)}

        assert command - {"file", "dry_run", "failed_rows"} == api
        renamed = {"file_format": "format", "columns": "map", "constants": "set"}
        assert {renamed.get(name, name) for name in own} - {"default_currency"} == api

    def test_have_a_note_each(self) -> None:
        for parameter in commands.commands["import"].params[1:]:
            assert getattr(parameter, "help", None), parameter.name

    def test_of_a_job_of_the_release_before_are_read(self) -> None:
        payload = {"format": "csv", "encoding": "cp1252", "delimiter": ";", "decimal": ",", "columns": ["sku=nr"]}

        reading = Reading.of({**payload, "currency": "EUR"})

        assert (reading.encoding, reading.delimiter, reading.decimal, reading.currency) == ("cp1252", ";", ",", "EUR")
        assert reading.columns.named == {"sku": "nr"}


class TestAmounts:
    @pytest.mark.parametrize(
        ("cell", "options", "text"),
        [
            ("1299.00", {}, "1299.00"),
            ("1,299.00", {"thousands": ","}, "1299.00"),
            ("1,234,567", {"thousands": ","}, "1234567"),
            ("1.299,00", {"decimal": ",", "thousands": "."}, "1299.00"),
            ("1 299,00", {"decimal": ",", "thousands": ". "}, "1299.00"),
            ("1\u00a0299,5", {"decimal": ",", "thousands": " "}, "1299.5"),
            ("1\u202f299", {"decimal": ",", "thousands": " "}, "1299"),
            ("1'299.00", {"thousands": "'"}, "1299.00"),
            ("1\u2019299.00", {"thousands": "'"}, "1299.00"),
            ("12.9900", {"trailing_zeros": True}, "12.99"),
            ("12.000", {"trailing_zeros": True}, "12"),
            ("-5.00", {"thousands": ","}, "-5.00"),
        ],
    )
    def test_are_read_by_the_stated_marks(self, cell: str, options: dict[str, Any], text: str) -> None:
        assert reader(**options).amount(cell).text == text

    @pytest.mark.parametrize(
        ("cell", "options"),
        [
            ("1.234", {"decimal": ","}),
            ("1.23", {"decimal": ","}),
            ("1.23", {"decimal": ",", "thousands": "."}),
            ("1.2345,00", {"decimal": ",", "thousands": "."}),
            ("1.234 567,00", {"decimal": ",", "thousands": ". "}),
            ("12,99", {"thousands": ","}),
            ("1,2,3", {"thousands": ","}),
            (",123", {"thousands": ","}),
            ("1,299.00.", {"thousands": ","}),
            ("1e3", {"thousands": ","}),
            ("\u0661,000", {"thousands": ","}),
            ("", {"thousands": ","}),
            ("free", {"currency_marks": True, "thousands": ","}),
            ("$5", {"thousands": ","}),
            ("EUR", {"currency_marks": True, "thousands": ","}),
        ],
    )
    @pytest.mark.parametrize("backend", ["sqlite"])
    def test_that_the_marks_do_not_explain_are_refused(
        self, app: Flask, import_text: Import, cell: str, options: dict[str, Any]
    ) -> None:
        line = json.dumps({"sku": "A", "name": "Cup", "price": cell, "category": "C"})

        report = import_text(line, file_format=FileFormat.NDJSON, reading=options)

        assert faults(report) == [(1, "price", "invalid")]
        assert rows_of(app, "products") == []

    @pytest.mark.parametrize(
        ("cell", "expected"),
        [
            ("2.0000", 2),
            ("1000.0000", 1000),
            ("2.0", 2),
            ("-3", -3),
            ("2.000", "2.000"),
            ("2.5", "2.5"),
            ("1,000", "1,000"),
            (">50", ">50"),
            ("9" * 400, "9" * 400),
        ],
    )
    def test_that_are_whole_are_whole_numbers(self, cell: str, expected: Any) -> None:
        assert reader().integer(cell) == expected

    def test_of_three_zeros_are_whole_where_that_is_stated(self) -> None:
        assert reader(trailing_zeros=True).integer("2.000") == 2
        assert reader(decimal=",", trailing_zeros=True).integer("2,000") == 2
        assert reader(thousands=",").integer("2,000") == 2000


class TestCurrencyMarks:
    HEADER = "sku;name;price;category;currency\n"

    @pytest.mark.parametrize(
        ("row", "options", "currency"),
        [
            (("€ 5", "EUR"), {}, "EUR"),
            (("5 €", ""), {"currency": "EUR"}, "EUR"),
            (("5 EUR", ""), {}, "EUR"),
            (("EUR5", ""), {}, "EUR"),
            (("$5", ""), {}, "USD"),
            (("$5", "CAD"), {}, "CAD"),
            (("$5 CAD", ""), {}, "CAD"),
            (("5 kr.", "SEK"), {}, "SEK"),
            (("R$ 5", "BRL"), {}, "BRL"),
            (("5", ""), {"currency": "CHF"}, "CHF"),
        ],
    )
    @pytest.mark.parametrize("backend", ["sqlite"])
    def test_agree_with_the_currency_or_say_it(
        self, import_text: Import, catalogue: Catalogue, row: tuple[str, str], options: dict[str, Any], currency: str
    ) -> None:
        options = {"delimiter": ";", "currency_marks": True, **options}

        import_text(f"{self.HEADER}A;Cup;{row[0]};C;{row[1]}\n", reading=options)

        assert (catalogue()["A"]["price"], catalogue()["A"]["currency"]) == (Decimal(5), currency)

    @pytest.mark.parametrize(
        ("cell", "row", "options"),
        [
            ("€ 5", "USD", {}),
            ("€ 5", "", {}),
            ("5 EUR", "USD", {}),
            ("5 EUR", "", {"currency": "USD"}),
            ("$5", "EUR", {}),
            ("$5 EUR", "", {}),
            ("€5 GBP", "GBP", {}),
        ],
    )
    @pytest.mark.parametrize("backend", ["sqlite"])
    def test_that_contradict_the_currency_are_faults(
        self, app: Flask, import_text: Import, cell: str, row: str, options: dict[str, Any]
    ) -> None:
        options = {"delimiter": ";", "currency_marks": True, **options}

        report = import_text(f"{self.HEADER}A;Cup;{cell};C;{row}\n", reading=options)

        assert faults(report) == [(2, "price", "currency_differs")]
        assert report.errors[0].value == cell
        assert rows_of(app, "products") == []

    @pytest.mark.parametrize("blanks", [50, 10**6])
    def test_are_not_looked_for_in_a_long_cell(self, blanks: int) -> None:
        # The search would take a time that grows with the square of the length.
        amount = reader(currency_marks=True).amount(f"1{' ' * blanks}x")

        assert (amount.text, amount.currencies) == (f"1{' ' * blanks}x", None)

    @pytest.mark.parametrize("backend", ["sqlite"])
    def test_are_not_looked_for_in_a_long_amount(self, import_text: Import) -> None:
        report = import_text(f"{HEADER}A,Cup,1{' ' * 10**5}EUR,C\n", reading={"currency_marks": True})

        assert faults(report) == [(2, "price", "invalid")]
        assert report.errors[0].value.startswith("1   ")
        assert report.errors[0].expected.startswith("an amount such as ")

    def test_name_currencies_that_there_are(self) -> None:
        assert {code for codes in SIGNS.values() for code in codes} <= CURRENCIES


@pytest.mark.parametrize("backend", ["sqlite"])
class TestSpreadsheetGuards:
    @pytest.mark.parametrize("cell", ["'0012", '"=""0012"""', '" =""0012"" "'])
    def test_are_taken_off_keys_and_numbers(self, import_text: Import, catalogue: Catalogue, cell: str) -> None:
        import_text(f"sku,name,price,category,stock\n{cell},Cup,1.00,C,{cell}\n")

        assert [(sku, row["stock"]) for sku, row in catalogue().items()] == [("0012", 12)]

    def test_stay_in_texts(self, import_text: Import, catalogue: Catalogue) -> None:
        import_text(f"{HEADER}A,'90s poster,1.00,C\n")

        assert catalogue()["A"]["name"] == "'90s poster"


class TestKey:
    @pytest.fixture
    def there(self, import_text: Import) -> None:
        """A product with every key."""
        header = "sku,name,price,category,gtin,external_id,slug\n"
        import_text(f"{header}A-1,Cup,1.00,C,4006381333931,erp-1,a-cup\nA-2,Mug,1.00,C,,,\n")

    @pytest.mark.usefixtures("there")
    @pytest.mark.parametrize(
        ("key", "value"), [("gtin", "04006381333931"), ("external_id", "erp-1"), ("slug", "a-cup"), ("sku", "A-1")]
    )
    def test_finds_the_product_that_changes(
        self, import_text: Import, catalogue: Catalogue, key: str, value: str
    ) -> None:
        report = import_text(f"{key},price\n{value},2.00\n", reading={"key": key})

        assert (report.updated, report.errors) == (1, [])
        assert prices(catalogue()) == {"A-1": Decimal(2), "A-2": Decimal(1)}

    @pytest.mark.usefixtures("there")
    @pytest.mark.parametrize(
        ("row", "field", "code"),
        [
            ("erp-1,A-2,9.00", "sku", "key_of_another"),
            ("erp-9,A-2,9.00", "sku", "sku_taken"),
            ("erp-9,,9.00", "sku", "product_incomplete"),
            (",A-1,9.00", "external_id", "required"),
        ],
    )
    def test_that_is_not_the_row_s_product_s_is_a_fault(
        self, import_text: Import, catalogue: Catalogue, row: str, field: str, code: str
    ) -> None:
        report = import_text(f"external_id,sku,price\n{row}\n", reading={"key": "external_id"})

        assert faults(report) == [(2, field, code)]
        assert prices(catalogue()) == {"A-1": Decimal(1), "A-2": Decimal(1)}

    def test_makes_a_product_that_has_a_sku_as_well(self, import_text: Import, catalogue: Catalogue) -> None:
        report = import_text(
            "external_id,sku,name,price,category\nerp-1,A,Cup,1.00,C\nerp-2,A,Mug,1.00,C\n",
            reading={"key": "external_id"},
        )

        assert faults(report) == [(3, "sku", "sku_repeated")]
        assert [row["external_id"] for row in catalogue().values()] == ["erp-1"]

    @pytest.mark.usefixtures("there")
    def test_of_two_rows_is_compared_as_the_product_s(self, import_text: Import) -> None:
        report = import_text("gtin,price\n4006381333931,2.00\n04006381333931,3.00\n", reading={"key": "gtin"})

        assert (report.updated, faults(report)) == (1, [(3, "gtin", "rows_differ")])


class TestSet:
    def test_states_what_rows_do_not(self, import_text: Import, catalogue: Catalogue) -> None:
        constants = {"category": "Home > Cups", "status": "archived", "stock": "3", "attributes.size": "L"}

        report = import_text(
            "sku,name,price,status,attributes.colour\nA,Cup,1.00,,red\nB,Mug,1.00,active,\n",
            reading={"constants": constants},
        )

        found = catalogue()
        assert [(row["category"], row["status"], row["stock"]) for row in found.values()] == [
            ("Home > Cups", "archived", 3),
            ("Home > Cups", "active", 3),
        ]
        assert [row["attributes"] for row in found.values()] == [{"size": "L", "colour": "red"}, {"size": "L"}]
        assert (report.made_active, report.made_archived, report.stock_assumed) == (1, 1, 0)

    def test_states_it_in_ndjson_as_well(self, import_text: Import, catalogue: Catalogue) -> None:
        line = json.dumps({"sku": "A", "name": "Cup", "price": 5.49})

        import_text(line, file_format=FileFormat.NDJSON, reading={"constants": {"category": "Cups"}})

        assert catalogue()["A"]["category"] == "Cups"


@pytest.mark.parametrize("backend", ["sqlite"])
class TestClearWith:
    ROW = "sku,name,price,category,description,tags,external_id,brand\nA,Cup,1.00,C,Old,a|b,erp-1,Oak\n"

    @pytest.mark.parametrize(("word", "cell"), [("-", "-"), ("CLEAR", "CLEAR"), ("", "")])
    def test_empties_a_field(self, import_text: Import, catalogue: Catalogue, word: str, cell: str) -> None:
        import_text(self.ROW)

        import_text(
            f"sku,name,description,tags,external_id,brand\nA,,{cell},{cell},{cell},{cell}\n",
            reading={"clear_with": word},
        )

        row = catalogue()["A"]
        assert (row["name"], row["price"]) == ("Cup", Decimal(1))
        assert (row["description"], row["tags"], row["external_id"], row["brand"]) == ("", [], None, None)

    @pytest.mark.parametrize("column", ["price", "stock", "attributes.size"])
    def test_of_what_cannot_be_empty_is_a_fault(self, import_text: Import, column: str) -> None:
        import_text(self.ROW)

        report = import_text(f"sku,{column}\nA,CLEAR\n", reading={"clear_with": "CLEAR"})

        assert [(error.column, error.value, error.code) for error in report.errors] == [
            (column, "CLEAR", "not_clearable")
        ]

    def test_leaves_empty_cells_as_they_were(self, import_text: Import, catalogue: Catalogue) -> None:
        import_text(self.ROW)

        import_text("sku,description\nA,\n", reading={"clear_with": "CLEAR"})

        assert catalogue()["A"]["description"] == "Old"


class TestAttributes:
    def test_that_are_set_one_by_one_leave_the_others(self, import_text: Import, catalogue: Catalogue) -> None:
        import_text(f'{HEADER.strip()},attributes\nA,Cup,1.00,C,"{{""a"": 1, ""b"": 2}}"\n')

        import_text("sku,attributes.b\nA,two\n")
        assert catalogue()["A"]["attributes"] == {"a": 1, "b": "two"}

        import_text('sku,attributes\nA,"{""c"": 3}"\n')
        assert catalogue()["A"]["attributes"] == {"c": 3}

    def test_of_a_product_are_not_more_than_a_hundred(self, import_text: Import, catalogue: Catalogue) -> None:
        many = json.dumps({f"a{number}": number for number in range(100)})
        import_text(
            json.dumps({"sku": "A", "name": "Cup", "price": "1", "category": "C", "attributes": json.loads(many)}),
            file_format=FileFormat.NDJSON,
        )

        report = import_text("sku,attributes.more\nA,1\n")

        assert faults(report) == [(2, "attributes", "too_many_attributes")]
        assert len(catalogue()["A"]["attributes"]) == 100


class TestCategories:
    @pytest.fixture
    def make(self, app: Flask) -> Callable[..., int]:
        def make(name: str, parent_id: int | None = None, **members: Any) -> int:
            with app.app_context(), unit_of_work():
                return create_category(name=name, parent_id=parent_id, **members).id

        return make

    def filed(self, catalogue: Catalogue) -> dict[str, str]:
        return {sku: row["category"] for sku, row in catalogue().items()}

    def test_are_made_along_their_path(self, import_text: Import, catalogue: Catalogue, app: Flask) -> None:
        rows = "A,Cup,1.00,Home > Kitchen > Cups\nB,Mug,1.00,Home>Kitchen\nC,Pan,1.00,Cups\nD,Pot,1.00,> Cups\n"

        report = import_text(HEADER + rows)

        assert list(report.made_categories) == ["Home", "Home > Kitchen", "Home > Kitchen > Cups", "Cups"]
        assert len(rows_of(app, "categories")) == 4
        assert self.filed(catalogue)["A"] == "Home > Kitchen > Cups"

    def test_are_found_with_another_separator(
        self, import_text: Import, catalogue: Catalogue, make: Callable[..., int]
    ) -> None:
        cups = make("Cups", make("Home"))

        import_text(f"{HEADER}A,Cup,1.00,Home/Cups\n", reading={"category_separator": "/"})

        assert catalogue()["A"]["category_id"] == cups

    def test_are_found_by_slug_and_external_id(
        self, import_text: Import, catalogue: Catalogue, make: Callable[..., int]
    ) -> None:
        cups = make("Cups", slug="all-cups", external_id="c-7")

        report = import_text(f"{HEADER}A,Cup,1.00,all-cups\nB,Cup,1.00,c-7\nC,Cup,1.00,Cups\n")

        assert {row["category_id"] for row in catalogue().values()} == {cups}
        assert report.made_categories == {}

    def test_of_two_that_could_be_meant_are_faults(self, import_text: Import, make: Callable[..., int]) -> None:
        make("Cups", make("Home"))
        make("Cups", make("Office"))
        make("Twins")
        make("Twins")

        report = import_text(f"{HEADER}A,Cup,1.00,Cups\nB,Cup,1.00,Twins > Cups\nC,Cup,1.00,Home > Cups\n")

        assert faults(report) == [(2, "category", "category_ambiguous"), (3, "category", "category_ambiguous")]

    @pytest.mark.parametrize("cell", ["Audio,Offers", "Audio;Offers", "Audio|Offers", "Home > Cups, Offers"])
    def test_of_which_a_cell_has_several_are_a_fault(self, app: Flask, import_text: Import, cell: str) -> None:
        report = import_text(f'{HEADER}A,Cup,1.00,"{cell}"\n')

        assert faults(report) == [(2, "category", "categories_several")]
        assert rows_of(app, "categories") == []

    def test_are_several_where_a_part_is_one(self, import_text: Import, make: Callable[..., int]) -> None:
        make("Audio")

        report = import_text(
            f'{HEADER}A,Cup,1.00,"Audio, Offers"\nB,Cup,1.00,"Sale, News"\nC,Cup,1.00,News\n'
            'D,Cup,1.00,"Sideboards, buffets"\n'
        )

        assert faults(report) == [(2, "category", "categories_several"), (3, "category", "categories_several")]

    @pytest.mark.parametrize("cell", ["Home -> Cups", "Home \u00bb Cups", "Home::Cups", "Default Category/Home/Cups"])
    def test_of_a_path_with_another_separator_are_faults(self, app: Flask, import_text: Import, cell: str) -> None:
        report = import_text(f"{HEADER}A,Cup,1.00,{cell}\n")
        other = import_text(f"{HEADER}A,Cup,1.00,Home > Cups\n", reading={"category_separator": "/"})

        assert faults(report) == faults(other) == [(2, "category", "category_separator_unclear")]
        assert rows_of(app, "categories") == []

    def test_of_names_that_look_so_are_taken_where_they_are_meant(self, import_text: Import) -> None:
        names = f"{HEADER}A,Cup,1.00,Cups/Mugs\nB,Cup,1.00,24\\/7\\/365\nC,Cup,1.00,Home -\\> Cups\n"

        assert import_text(names).created == 3
        assert import_text(f"{HEADER}D,Cup,1.00,A/B/C\n", reading={"category_separator": None}).created == 1
        assert import_text(f"{HEADER}E,Cup,1.00,A/B/C\n").created == 1

    def test_of_one_name_with_a_comma_are_one(
        self, import_text: Import, catalogue: Catalogue, make: Callable[..., int]
    ) -> None:
        make("Audio,Offers")

        import_text(f'{HEADER}A,Cup,1.00,"Audio,Offers"\nB,Cup,1.00,"Bed\\,Bath"\nC,Cup,1.00,Red \\> Green\n')

        assert self.filed(catalogue) == {"A": "Audio,Offers", "B": "Bed,Bath", "C": "Red \\> Green"}

    def test_are_one_name_where_there_is_no_separator(self, import_text: Import, catalogue: Catalogue) -> None:
        import_text(f"{HEADER}A,Cup,1.00,Red > Green;x\n", reading={"category_separator": None})

        assert self.filed(catalogue) == {"A": "Red \\> Green;x"}

    @pytest.mark.parametrize(
        ("cell", "code"),
        [("Home > > Cups", "too_short"), ("Home >", "too_short"), (">", "too_short"), ("A>" * 25 + "A", "too_deep")],
    )
    def test_have_a_name_at_each_step(self, import_text: Import, cell: str, code: str) -> None:
        assert faults(import_text(f"{HEADER}A,Cup,1.00,{cell}\n")) == [(2, "category", code)]


@pytest.mark.parametrize("backend", ["sqlite"])
class TestStatusWords:
    def test_mean_what_is_stated(self, import_text: Import, catalogue: Catalogue) -> None:
        report = import_text(
            "sku,name,price,category,status\nA,Cup,1.00,C,Yes\nB,Mug,1.00,C,no\nC,Pan,1.00,C,ACTIVE\nD,Pot,1.00,C,-1\n",
            reading={"status_words": {"yes": "active", "NO": "draft"}},
        )

        assert {sku: row["status"] for sku, row in catalogue().items()} == {"A": "active", "B": "draft", "C": "active"}
        assert [(error.line, error.value, error.code) for error in report.errors] == [(5, "-1", "not_a_choice")]
        assert (report.made_active, report.made_draft) == (2, 1)

    @pytest.mark.parametrize("value", [1, "1", True], ids=repr)
    def test_are_numbers_and_booleans_in_ndjson(self, import_text: Import, catalogue: Catalogue, value: Any) -> None:
        line = json.dumps({"sku": "A", "name": "Cup", "price": "1.00", "category": "C", "status": value})
        words = {"1": "archived", "true": "archived"}

        import_text(line, file_format=FileFormat.NDJSON, reading={"status_words": words})

        assert catalogue()["A"]["status"] == "archived"


@pytest.mark.parametrize("backend", ["sqlite"])
class TestLists:
    def test_have_the_stated_separator(self, import_text: Import, catalogue: Catalogue) -> None:
        import_text(f'{HEADER.strip()},tags\nA,Cup,1.00,C,"music, player ,"\n', reading={"list_separator": ","})

        assert catalogue()["A"]["tags"] == ["music", "player"]

    @pytest.mark.parametrize("cell", ["music, player", "music;player"])
    def test_of_which_the_separator_is_another_are_faults(self, import_text: Import, cell: str) -> None:
        report = import_text(f'{HEADER.strip()},tags\nA,Cup,1.00,C,"{cell}"\nB,Cup,1.00,C,"{cell}|"\n')

        assert [(error.line, error.column, error.value) for error in report.errors] == [(2, "tags", cell)]


@pytest.mark.parametrize("backend", ["sqlite"])
class TestVariants:
    @pytest.mark.parametrize("column", ["Parent", "parent id", "Parent-SKU", " Item Group ID "])
    def test_are_faults(self, import_text: Import, catalogue: Catalogue, column: str) -> None:
        report = import_text(f"sku,name,price,category,{column}\nA,Cup,1.00,C,\nA-1,Cup,1.00,C,A\n")

        assert [(error.line, error.code) for error in report.errors] == [(3, "variant_unsupported")]
        assert list(catalogue()) == ["A"]

    def test_are_faults_of_lines_as_well(self, import_text: Import) -> None:
        rows = [{"sku": "A", "name": "Cup", "price": "1.00", "category": "C", "Parent": parent} for parent in ("", "B")]

        report = import_text("\n".join(map(json.dumps, rows)), file_format=FileFormat.NDJSON)

        assert (report.created, [(error.line, error.code) for error in report.errors]) == (
            1,
            [(2, "variant_unsupported")],
        )

    def test_are_none_where_the_column_feeds_a_field(self, import_text: Import) -> None:
        report = import_text("sku,name,price,category,parent\nA-1,Cup,1.00,C,A\n", pairs=("attributes.parent=parent",))

        assert report.created == 1


@pytest.mark.parametrize("backend", ["sqlite"])
class TestWrappings:
    def test_header_names_are_the_same_in_any_case(self, import_text: Import, catalogue: Catalogue) -> None:
        report = import_text(
            " SKU ,Name,PRICE,Category,Attributes.Size,MAKER\nA,Cup,1.00,C,L,Oak\n", pairs=("brand=maker",)
        )

        assert report.unread_columns == {}
        assert (catalogue()["A"]["attributes"], catalogue()["A"]["brand"]) == ({"Size": "L"}, "Oak")

    def test_header_names_may_have_lines(self, import_text: Import, catalogue: Catalogue) -> None:
        import_text('sku,name,"Price\n EUR",category\nA,Cup,1.00,C\n', pairs=("price=price eur",))

        assert prices(catalogue()) == {"A": Decimal("1.00")}

    def test_lines_above_the_header_are_skipped_and_counted(self, import_text: Import) -> None:
        report = import_text(
            f'Some "letterhead\n\nsep=;\n{HEADER.replace(",", ";")}A;Cup;free;C\n', reading={"skip_lines": 2}
        )

        assert faults(report) == [(5, "price", "invalid")]

    @pytest.mark.parametrize("line", ["sep=;", "SEP=;", "\ufeffsep=;"])
    def test_sep_states_the_delimiter(self, import_text: Import, line: str) -> None:
        report = import_text(f"{line}\r\n{HEADER.replace(',', ';')}A;Cup;1.00;C\n")

        assert (report.created, report.last_line) == (1, 3)

    def test_numbers_of_json_are_amounts_and_keys_where_they_are_exact(
        self, import_text: Import, catalogue: Catalogue
    ) -> None:
        rows: list[dict[str, Any]] = [
            {"sku": 43900, "price": 5.49},
            {"sku": "B", "price": 7},
            {"sku": "C", "price": 7.0},
        ]
        lines = [json.dumps({"name": "Cup", "category": "C", **row}) for row in rows]

        import_text("\n".join(lines), file_format=FileFormat.NDJSON)

        assert prices(catalogue()) == {"43900": Decimal("5.49"), "B": Decimal(7), "C": Decimal(7)}


def test_brands_are_made_where_rows_name_them(app: Flask, import_text: Import, catalogue: Catalogue) -> None:
    with app.app_context(), unit_of_work():
        create_brand(name="Oak")

    report = import_text(f"{HEADER.strip()},brand\nA,Cup,1.00,C,Oak\nB,Cup,1.00,C,Ash\n")

    assert report.brands == ["Ash"]


@pytest.mark.parametrize("backend", ["sqlite"])
def test_faults_say_how_to_mend_the_row(import_text: Import) -> None:
    rows = [
        "A,4006381333931,Cup,1.00,C",
        "B,4006381333931,Cup,1.00,C",
        "C,,Cup,1.00,",
        '"4,E+12",,Cup,1.00,C',
        "D\u00a01,,Cup,1.00,C",
        "E,,Cup,1,00,C",
    ]

    report = import_text("\n".join(["sku,gtin,name,price,Group", *rows]), pairs=("category=Group",))

    assert [(error.line, error.column, error.code, error.expected) for error in report.errors] == [
        (3, "gtin", "gtin_taken", "a gtin that no other product has"),
        (4, "Group", "product_incomplete", "a value, for a new product"),
        (5, "sku", "key_shortened", "the key with all of its digits"),
        (6, "sku", "malformed", "at most 64 visible characters, with no blanks but ordinary ones between them"),
        (
            7,
            "",
            "cell_count",
            "5 cells as in the header, with quotation marks around one in which the delimiter is text",
        ),
    ]
    assert report.errors[-1].value == "E,,Cup,1,00,C"


@pytest.mark.parametrize("backend", ["sqlite"])
def test_faults_of_json_ask_for_the_types_of_json(import_text: Import) -> None:
    line = {"sku": "A", "name": "Cup", "price": "1.00", "category": "C", "stock": "5", "tags": "oak"}

    report = import_text(json.dumps(line), file_format=FileFormat.NDJSON)

    assert {error.column: error.expected.partition(" of")[0] for error in report.errors} == {
        "stock": "a JSON number from 0 to 9007199254740992, whole and without quotation marks",
        "tags": "a list",
    }
