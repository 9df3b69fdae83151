"""From the bytes of a file to rows."""

import io
import json
import time
from typing import Any

import pytest

from app.features.exports.files import COLUMNS, FileFormat
from app.features.imports.models import FileUnreadable
from app.features.imports.paths import CategoryPath
from app.features.imports.reading.columns import MAX_COLUMNS, Columns
from app.features.imports.reading.files import MAX_RECORD_LENGTH, RowFile, read_rows
from app.features.imports.reading.options import Reading
from app.features.imports.rows import BadRow, Row

HEADER = "sku,name,price,category\n"


def csv_file(text: str | bytes, *pairs: str, **how: Any) -> RowFile:
    content = text if isinstance(text, bytes) else text.encode()
    return read_rows(io.BytesIO(content), Reading(file_format=FileFormat.CSV, columns=Columns.parse(pairs), **how))


def csv_rows(text: str | bytes, *pairs: str, **how: Any) -> list[Row | BadRow]:
    return list(csv_file(text, *pairs, **how).rows)


def csv_values(text: str | bytes, *pairs: str, **how: Any) -> dict[str, Any]:
    (row,) = csv_rows(text, *pairs, **how)
    assert isinstance(row, Row)
    return row.values


def ndjson_rows(text: str, *pairs: str) -> list[Row | BadRow]:
    reading = Reading(file_format=FileFormat.NDJSON, columns=Columns.parse(pairs))
    return list(read_rows(io.BytesIO(text.encode()), reading).rows)


def codes(rows: list[Row | BadRow]) -> list[tuple[int, str]]:
    return [(row.line, row.errors[0].code) for row in rows if isinstance(row, BadRow)]


class TestCsvRows:
    def test_hold_what_the_columns_of_fields_say(self) -> None:
        values = csv_values("sku,name,price,category,stock\nA-1,Chair,9.90,Chairs,7\n")

        category = CategoryPath(("Chairs",))
        assert values == {"sku": "A-1", "name": "Chair", "price": "9.90", "category": category, "stock": 7}

    def test_state_nothing_where_a_cell_is_empty(self) -> None:
        values = csv_values("sku,name,price,category,stock,tags\nA-1,Chair,9.90,Chairs,,\n")

        assert values.keys() == {"sku", "name", "price", "category"}

    def test_lose_blanks_around_cells_and_repeated_ones_in_names(self) -> None:
        values = csv_values(HEADER + " A-1 ,  Oak \t chair ,\u00a09.90 ,Bar   furniture\n")

        category = CategoryPath(("Bar furniture",))
        assert values == {"sku": "A-1", "name": "Oak chair", "price": "9.90", "category": category}

    def test_keep_the_lines_of_a_description_and_collapse_within_them(self) -> None:
        text = 'sku,name,price,category,description\nA-1,Chair,9.90,Chairs,"  Oak,   oiled. \r\n\r\n  Two   arms. "\n'

        assert csv_values(text)["description"] == "Oak, oiled.\n\nTwo arms."

    def test_split_tags(self) -> None:
        values = csv_values("sku,name,price,category,tags\nA-1,Chair,9.90,Chairs,oak | garden||new\n")

        assert values["tags"] == ["oak", "garden", "new"]

    def test_read_attributes_as_json(self) -> None:
        text = 'sku,name,price,category,attributes\nA-1,Chair,9.90,Chairs,"{""width"": 4.5, ""new"": true}"\n'

        assert csv_values(text)["attributes"] == {"width": 4.5, "new": True}

    def test_put_a_mapped_column_among_the_attributes(self) -> None:
        text = 'sku,name,price,category,w,attributes\nA-1,Chair,9.90,Chairs,45,"{""new"": true}"\n'

        assert csv_values(text, "attributes.width=w")["attributes"] == {"new": True, "width": "45"}

    def test_put_a_column_that_is_named_so_among_the_attributes(self) -> None:
        text = 'sku,name,price,category,attributes.width,attributes\nA-1,Chair,9.90,Chairs,45,"{""new"": true}"\n'

        assert csv_values(text)["attributes"] == {"new": True, "width": "45"}

    def test_may_be_more_than_a_record_may_be_long(self) -> None:
        row = f"A-1,{'x' * 1000},9.90,Chairs\n"

        assert len(csv_rows(HEADER + row * (MAX_RECORD_LENGTH // 1000))) == MAX_RECORD_LENGTH // 1000

    def test_take_a_decimal_comma_when_told(self) -> None:
        assert (
            csv_values(HEADER.replace(",", ";") + "A-1;Chair;9,90;Chairs\n", delimiter=";", decimal=",")["price"]
            == "9.90"
        )

    @pytest.mark.parametrize("price", ["1.234,50", "1.234", "1 234,50", "1'234,50"])
    def test_make_no_price_of_thousands_separators(self, price: str) -> None:
        values = csv_values(f"sku;name;price;category\nA-1;Chair;{price};Chairs\n", delimiter=";", decimal=",")

        assert values["price"] not in {"1234.50", "1.234", "1234"}

    @pytest.mark.parametrize("stock", ["1_000", "1.5", "１", "0x10", "1,000", "seven"])
    def test_leave_what_is_no_integer_to_the_schema(self, stock: str) -> None:
        values = csv_values(f'sku,name,price,category,stock\nA-1,Chair,9.90,Chairs,"{stock}"\n')

        assert values["stock"] == stock

    def test_lose_the_apostrophe_that_guards_a_formula(self) -> None:
        assert csv_values(HEADER + "A-1,'=SUM(A1),9.90,Chairs\n")["name"] == "=SUM(A1)"

    def test_keep_other_apostrophes(self) -> None:
        assert csv_values(HEADER + "A-1,'s Gravenhage,9.90,Chairs\n")["name"] == "'s Gravenhage"

    def test_can_feed_two_fields_from_one_column(self) -> None:
        values = csv_values("id,name,price,category\nA-1,Chair,9.90,Chairs\n", "sku=id", "external_id=id")

        assert (values["sku"], values["external_id"]) == ("A-1", "A-1")


class TestCsvLines:
    def test_are_counted_from_the_header(self) -> None:
        rows = csv_rows(HEADER + "A-1,Chair,9.90,Chairs\nA-2,Table,9.90,Tables\n")

        assert [row.line for row in rows] == [2, 3]

    def test_are_where_a_record_begins_when_cells_have_several(self) -> None:
        rows = csv_rows(HEADER + 'A-1,"Chair\nwith\narms",9.90,Chairs\nA-2,Table,9.90,Tables\n')

        assert [row.line for row in rows] == [2, 5]

    def test_count_blank_ones_and_rows_of_nothing(self) -> None:
        rows = csv_rows(HEADER + "\n,,,\nA-1,Chair,9.90,Chairs\n\n")

        assert [row.line for row in rows] == [4]

    def test_end_as_windows_and_old_macs_end_them(self) -> None:
        assert [row.line for row in csv_rows((HEADER + "A-1,C,1,D\nA-2,C,1,D\n").replace("\n", "\r\n"))] == [2, 3]
        assert [row.line for row in csv_rows((HEADER + "A-1,C,1,D\nA-2,C,1,D\n").replace("\n", "\r"))] == [2, 3]

    def test_do_not_end_at_other_separators(self) -> None:
        rows = csv_rows(HEADER + "A-1,Chair\u2028two,9.90,Chairs\nA-2,Table,9.90,Tables\n")

        assert [row.line for row in rows] == [2, 3]

    def test_are_told_in_advance(self) -> None:
        assert csv_file(HEADER + "A-1,Chair,9.90,Chairs").lines == 2


class TestCsvRowsThatAreBad:
    @pytest.mark.parametrize("record", ["A-1,Chair,9.90", "A-1,Chair,9.90,Chairs,more"])
    def test_have_another_number_of_cells_than_the_header(self, record: str) -> None:
        assert codes(csv_rows(HEADER + record + "\n")) == [(2, "cell_count")]

    def test_say_how_many_they_have(self) -> None:
        [row] = csv_rows(f"{HEADER}A-1\n")

        assert isinstance(row, BadRow)
        assert row.errors[0].sentence == "This row has 1 cell, and the header 4."

    def test_are_quoted_wrongly(self) -> None:
        rows = csv_rows(HEADER + 'A-1,"Chair"x,9.90,Chairs\nA-2,Table,9.90,Tables\n')

        assert codes(rows) == [(2, "csv_malformed")]
        category = CategoryPath(("Tables",))
        assert rows[1] == Row(3, {"sku": "A-2", "name": "Table", "price": "9.90", "category": category})

    def test_leave_a_quote_open_to_the_end(self) -> None:
        rows = csv_rows(HEADER + 'A-1,"Chair,9.90,Chairs\nA-2,Table,9.90,Tables\n')

        assert codes(rows) == [(2, "csv_malformed")]

    @pytest.mark.parametrize(
        "rows",
        [
            'A-1,"Organic oats,9.90,Food\nA-2,Pipe 5",1.00,Food\n',
            'A-1,Oats,9.90,"Food\nA-2,Pipe,1.00,5"\n',
        ],
    )
    def test_hold_other_rows_between_two_stray_quotation_marks(self, rows: str) -> None:
        (bad,) = [row for row in csv_rows(HEADER + rows) if isinstance(row, BadRow)]

        assert ([error.code for error in bad.errors], bad.source.text) == (["csv_malformed"], rows)

    def test_are_not_those_whose_texts_have_lines(self) -> None:
        header = "sku,name,price,description\n"
        rows = csv_rows(
            header + 'A-1,"Chair\nof oak",9.90,"of oak, beech, ash\nor pine, fir, larch, yew"\n'
            'A-2,Table,9.90,"of oak\nor pine"\nA-3,Bed,1.00,"oak\nash,elm,fir, yew"\n'
        )

        assert all(isinstance(row, Row) for row in rows)


class TestCsvFilesThatAreUnreadable:
    @pytest.mark.parametrize(
        ("content", "encoding", "reason"),
        [
            ((HEADER + "A,Cup,1.00,C\n").encode("utf-16"), "utf-8-sig", "^line 1: .* begins as utf-16 does"),
            ((HEADER + "A,Cup,1.00,C\n").encode("utf-8-sig"), "cp1252", "^line 1: .* begins as utf-8 does"),
            ((HEADER + "A,Cup,1.00,5 €\n").encode("cp1252"), "iso8859-1", "^line 2: .* windows-1252"),
        ],
    )
    def test_are_in_another_encoding_than_stated(self, content: bytes, encoding: str, reason: str) -> None:
        with pytest.raises(FileUnreadable, match=reason):
            csv_file(content, encoding=encoding)

    @pytest.mark.parametrize("content", ["", "\n\n", ",,,\n"])
    def test_have_no_header(self, content: str) -> None:
        with pytest.raises(FileUnreadable, match="empty"):
            csv_file(content)

    def test_are_in_another_encoding(self) -> None:
        with pytest.raises(FileUnreadable, match=r"^line 3: this is not UTF-8"):
            csv_file((HEADER + "A-1,Chair,9.90,Chairs\nA-2,Café,9.90,Chairs\n").encode("cp1252"))

    def test_are_refused_for_their_encoding_before_the_first_row(self) -> None:
        rows = "".join(f"A-{number},Chair,9.90,Chairs\n" for number in range(10_000))

        with pytest.raises(FileUnreadable, match=r"^line 10002"):
            csv_file((HEADER + rows).encode() + b"A,\xff,1,C\n")

    @pytest.mark.parametrize("encoding", ["no-such", "hex", "rot13"])
    def test_are_said_to_be_in_no_text_encoding(self, encoding: str) -> None:
        with pytest.raises(FileUnreadable, match="no text encoding"):
            csv_file(HEADER, encoding=encoding)

    def test_hold_halves_of_characters(self) -> None:
        with pytest.raises(FileUnreadable, match="not unicode_escape"):
            csv_file(HEADER.encode() + b"A-1,\\ud800,1,C\n", encoding="unicode_escape")

    def test_lack_a_column_that_is_mapped(self) -> None:
        with pytest.raises(FileUnreadable, match="no column 'colour'"):
            csv_file(HEADER, "attributes.colour=colour")

    def test_have_two_columns_of_a_field(self) -> None:
        with pytest.raises(FileUnreadable, match="more than one column 'name'"):
            csv_file("sku,name,name,price,category\n")

    def test_lack_the_key_that_every_row_needs(self) -> None:
        with pytest.raises(FileUnreadable, match="no column feeds sku"):
            csv_file("name,price\n")
        with pytest.raises(FileUnreadable, match="no column feeds gtin"):
            csv_file("sku,name\n", key="gtin")

    def test_have_a_record_without_end(self) -> None:
        rows = csv_file(HEADER + 'A-1,"' + "x\n" * (MAX_RECORD_LENGTH // 2 + 1)).rows

        with pytest.raises(FileUnreadable, match=r"^line \d+: a record is longer"):
            next(rows)

    @pytest.mark.parametrize(
        ("pair", "reason"),
        [
            ("name", "not of the form"),
            ("name=", "not of the form"),
            ("colour=c", "no field 'colour'"),
            ("id=c", "no field 'id'"),
            ("attributes.=c", "no field 'attributes.'"),
            ("attributes.9=c", "no field 'attributes.9'"),
        ],
    )
    def test_are_mapped_wrongly(self, pair: str, reason: str) -> None:
        with pytest.raises(FileUnreadable, match=reason):
            Columns.parse([pair])

    def test_are_mapped_twice(self) -> None:
        with pytest.raises(FileUnreadable, match="mapped twice"):
            Columns.parse(["name=a", "name=b"])


class TestCsvEncodings:
    def test_may_have_a_byte_order_mark(self) -> None:
        assert csv_values(("\ufeff" + HEADER + "A-1,Café,9.90,Chairs\n").encode())["name"] == "Café"

    def test_may_have_a_byte_order_mark_that_the_encoding_does_not_know_of(self) -> None:
        assert csv_values(("\ufeff" + HEADER + "A-1,C,1,D\n").encode(), encoding="utf-8")["sku"] == "A-1"

    @pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "latin-1"])
    def test_are_what_they_are_said_to_be(self, encoding: str) -> None:
        assert csv_values((HEADER + "A-1,Café,9.90,Chairs\n").encode(encoding), encoding=encoding)["name"] == "Café"


class TestIgnoredColumns:
    def test_are_those_that_feed_no_field(self) -> None:
        assert csv_file("sku,name,price,category,,weight,desciption\n").ignored == ("weight", "desciption")

    def test_are_not_those_that_are_mapped(self) -> None:
        assert csv_file("id,name,price,category,weight\n", "sku=id", "attributes.weight=weight").ignored == ()


class TestExportedFiles:
    def export(self, **cells: str) -> dict[str, Any]:
        row = {"sku": "A-1", "name": "Chair", "price": "9.90", "category": "Chairs", **cells}
        return csv_values(",".join(COLUMNS) + "\n" + ",".join(row.get(column, "") for column in COLUMNS) + "\n")

    def test_are_taken_to_the_letter(self) -> None:
        assert self.export(name="  Oak   chair ")["name"] == "  Oak   chair "

    def test_empty_what_can_be_empty(self) -> None:
        values = self.export()

        assert (values["description"], values["tags"], values["external_id"]) == ("", [], None)

    def test_state_nothing_where_an_empty_cell_means_nothing(self) -> None:
        assert {"stock", "status", "category_id", "currency"}.isdisjoint(self.export())


class TestNdjsonRows:
    def test_are_the_objects_of_the_lines(self) -> None:
        rows = ndjson_rows('{"sku": "A-1"}\n\n  \n{"sku": "A-2", "tags": []}')

        assert rows == [Row(1, {"sku": "A-1"}), Row(4, {"sku": "A-2", "tags": []})]

    @pytest.mark.parametrize(
        ("line", "code"),
        [
            ("{", "json_malformed"),
            ('{"sku": "A"} {}', "json_malformed"),
            ('{"price": NaN}', "json_malformed"),
            ("[" * 5000, "json_malformed"),
            ('{"sku": "\\ud800"}', "json_malformed"),
            ('{"sku": "A", "sku": "B"}', "duplicate_key"),
            ('{"stock": 99999999999999999999}', "number_out_of_range"),
            ("[]", "not_an_object"),
            ("null", "not_an_object"),
        ],
    )
    def test_are_bad_where_a_line_is_no_json_object(self, line: str, code: str) -> None:
        rows = ndjson_rows(f'{line}\n{{"sku": "A-2"}}\n')

        assert codes(rows) == [(1, code)]
        assert rows[1] == Row(2, {"sku": "A-2"})

    def test_say_nothing_of_a_request(self) -> None:
        (row,) = ndjson_rows("{")

        assert isinstance(row, BadRow)
        assert "request" not in row.errors[0].sentence

    def test_leave_members_unread_that_are_no_fields_and_say_so(self) -> None:
        lines = '{"sku": "A-1", "colour": 1}\n{"sku": "A-2", "id": 7}\n'
        file = read_rows(io.BytesIO(lines.encode()), Reading(file_format=FileFormat.NDJSON))

        assert list(file.rows) == [Row(1, {"sku": "A-1"}), Row(2, {"sku": "A-2"})]
        assert file.ignored == ("colour", "id")

    def test_take_mapped_members_and_those_of_fields(self) -> None:
        line = json.dumps({"id": "A-1", "name": "Chair", "w": 45, "other": 1})

        assert ndjson_rows(line, "sku=id", "attributes.width=w") == [
            Row(1, {"name": "Chair", "sku": "A-1", "attributes": {"width": 45}})
        ]

    def test_do_not_take_the_member_of_a_field_that_another_feeds(self) -> None:
        assert ndjson_rows('{"id": null, "sku": "not this"}', "sku=id") == [Row(1, {})]


class TestLargeFiles:
    """What reading costs grows with the file, and no faster."""

    #: Longer than any of these takes, in seconds of CPU, and a small part of what it took before it was bounded.
    MAX_SECONDS = 10

    def test_may_have_so_many_columns_and_no_more(self) -> None:
        def header(columns: int) -> str:
            return ",".join([HEADER.strip(), *(f"c{number}" for number in range(columns - 4))])

        assert len(csv_file(header(MAX_COLUMNS)).ignored) == MAX_COLUMNS - 4
        with pytest.raises(FileUnreadable, match="501 columns"):
            csv_file(header(MAX_COLUMNS + 1))

    @pytest.mark.parametrize("column", ["attributes.a{}", "c{}", "name"])
    def test_are_refused_at_once_for_a_header_of_a_mebibyte(self, column: str) -> None:
        name = column.format(1000)
        header = ",".join(column.format(number) for number in range(1000, 1000 + 1_000_000 // (len(name) + 6)))

        started = time.process_time()
        with pytest.raises(FileUnreadable, match="columns, and 500 are the most"):
            csv_file(HEADER.strip() + "," + header)

        assert time.process_time() - started < self.MAX_SECONDS

    def test_may_have_as_many_attributes_as_columns_in_every_row(self) -> None:
        names = [f"attributes.a{number}" for number in range(MAX_COLUMNS - 4)]
        row = ",".join(["A-1", "Chair", "9.90", "Chairs", *map(str, range(len(names)))])

        rows = csv_rows("\n".join([",".join([HEADER.strip(), *names]), *[row] * 20]))

        assert [len(one.values["attributes"]) for one in rows if isinstance(one, Row)] == [len(names)] * 20

    @pytest.mark.parametrize("cell", [",", '"",', "x,"])
    def test_may_have_a_row_of_many_cells_against_few_columns(self, cell: str) -> None:
        started = time.process_time()
        rows = csv_rows(HEADER + "\n".join([cell * (MAX_RECORD_LENGTH // 4) + "x"] * 3) + "\nA-1,Chair,9.90,Chairs\n")

        assert codes(rows) == [(line, "cell_count") for line in (2, 3, 4)]
        assert len(rows) == 4
        assert time.process_time() - started < self.MAX_SECONDS

    def test_may_have_an_object_of_many_members(self) -> None:
        line = json.dumps({f"member{number}": 0 for number in range(50_000)})

        started = time.process_time()
        rows = ndjson_rows("\n".join([line] * 3) + '\n{"sku": "A-1"}\n')

        assert codes(rows) == [(number, "too_many_members") for number in (1, 2, 3)]
        assert len(rows) == 4
        assert time.process_time() - started < self.MAX_SECONDS

    def test_may_feed_the_attributes_and_one_of_them_from_one_member(self) -> None:
        (row,) = ndjson_rows('{"sku": "A-1", "x": {"w": 1}}\n', "attributes=x", "attributes.whole=x")

        assert isinstance(row, Row)
        assert row.values["attributes"] == {"w": 1, "whole": {"w": 1}}
