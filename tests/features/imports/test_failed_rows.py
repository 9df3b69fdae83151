"""The failed rows of an import: a file that can be mended and sent again."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskCliRunner
from werkzeug.test import TestResponse

from app.features.exports.files import COLUMNS
from app.features.imports import importer
from app.features.imports.reading.columns import REASON
from app.security.permissions import Role
from tests.conftest import Caller, body_of
from tests.features.imports.conftest import Catalogue, Import

HEADER = "Nr;Name;Preis;Kategorie\r\n"
OPTIONS = {
    "delimiter": ";",
    "decimal": ",",
    "encoding": "windows-1252",
    "map": json.dumps({"sku": "Nr", "price": "Preis", "category": "Kategorie"}),
}
TEXT = (
    f"Preisliste\r\n{HEADER}1;Stühle;9,90;Möbel\r\n2;Stühle;gratis;Möbel\r\n"
    '3;"Tisch; groß";neun;Möbel\r\n4;Bett;9,90\r\n5;"Bett"x;9,90;Möbel\r\n'
)

Send = Callable[..., TestResponse]


@pytest.fixture
def send(alice: Caller, runner: FlaskCliRunner) -> Send:
    """Import a file through the API, and ask for its failed rows."""

    def send(content: bytes, media_type: str = "text/csv", **options: Any) -> TestResponse:
        sent = alice.call("POST", "/imports", data=content, query_string=options, headers={"Content-Type": media_type})
        assert sent.status_code == 202, sent.get_data(as_text=True)
        runner.invoke(args=["worker", "--once"])
        return alice.get(f"/imports/{body_of(sent)['id']}/failed-rows")

    return send


class TestFailedRowsOfTheApi:
    def test_have_the_header_and_the_dialect_of_the_file_and_a_reason(self, send: Send) -> None:
        answer = send(TEXT.encode("cp1252"), skip_lines=1, **OPTIONS)

        assert answer.headers["Content-Type"] == "text/csv; charset=windows-1252"
        assert answer.headers["Content-Disposition"].endswith('-failed-rows.csv"')
        first, *lines = answer.get_data().decode("cp1252").splitlines()
        assert first == "Preisliste"
        assert lines[0] == f"Nr;Name;Preis;Kategorie;{REASON}"
        assert lines[1] == "2;Stühle;gratis;Möbel;Preis: Not a decimal string from 0 to 9999999999 and its fraction."
        assert lines[2].startswith('3;"Tisch; groß";neun;Möbel;Preis: ')
        assert lines[3] == "4;Bett;9,90;This row has 3 cells, and the header 4."
        assert lines[4] == '5;"Bett"x;9,90;Möbel;'
        assert len(lines) == 5

    def test_are_taken_when_they_are_mended(self, send: Send, alice: Caller, catalogue: Catalogue) -> None:
        failed = send(TEXT.encode("cp1252"), skip_lines=1, **OPTIONS).get_data()
        mended = failed.replace(b"gratis", b"1,00").replace(b"neun", b"9,00")

        again = send(mended, skip_lines=1, **OPTIONS)

        done = body_of(alice.get("/imports"))["items"][0]
        assert (done["created"], done["failed"], done["unread_columns"]) == (2, 2, [])
        assert catalogue()["3"]["name"] == "Tisch; groß"
        assert again.get_data().decode("cp1252").splitlines()[1:3] == [
            f"Nr;Name;Preis;Kategorie;{REASON}",
            "4;Bett;9,90;This row has 4 cells, and the header 5.",
        ]

    @pytest.mark.parametrize("row", ["4;Bett;9,90", "4;Bett;9;90;Möbel"])
    def test_of_another_number_of_cells_fail_however_often_they_are_sent(
        self, send: Send, catalogue: Catalogue, row: str
    ) -> None:
        content = f"{HEADER}{row}\r\n".encode()
        for _ in range(3):
            content = send(content, **OPTIONS).get_data()

        assert content.decode().splitlines()[1].startswith(f"{row};This row has ")
        assert catalogue() == {}

    @pytest.mark.parametrize(
        ("row", "said", "mended"),
        [
            ("4;Bett;9,90", ";This row has 3", "4;Bett;9,90;M"),
            ("4;Bett;9,90", ";This row has 3", "4;Bett;9,90;M;"),
            ("4;Bett;9,90", ";This row has 3", "4;Bett;9,90;M;This row has 3 cells, and the header 4."),
            ("4;Be;tt;9,90;M", ";This row has 5", "4;Bett;9,90;M"),
            ("4;Be;tt;9,90;M", ";This row has 5", '4;"Be;tt";9,90;M;This row has 5 cells, and the header 4.'),
            ('4;"Bett"x;9,90;M', "", "4;Bettx;9,90;M"),
            ('4;"Bett; breit"x;9,90;M', "", '4;"Bett; breit";9,90;M'),
        ],
    )
    def test_are_taken_however_the_reason_was_dealt_with(
        self, send: Send, catalogue: Catalogue, row: str, said: str, mended: str
    ) -> None:
        header, failed = send(f"{HEADER}{row}\r\n".encode(), **OPTIONS).get_data(as_text=True).splitlines()
        assert failed.startswith(f"{row}{said}")

        send(f"{header}\r\n{mended}\r\n".encode(), **OPTIONS)

        assert [(product["sku"], product["category"]) for product in catalogue().values()] == [("4", "M")]

    def test_that_were_one_record_are_taken_without_their_quotation_marks(
        self, send: Send, catalogue: Catalogue
    ) -> None:
        failed = send(f'{HEADER}1;"Bett;9,90;C\r\n2;Rohr 5";1,00;C'.encode(), **OPTIONS).get_data()

        send(failed.replace(b'"', b""), **OPTIONS)

        assert [row["name"] for row in catalogue().values()] == ["Bett", "Rohr 5"]

    def test_are_the_same_whatever_was_wrong_with_them(self, import_text: Import) -> None:
        rows = f"sku,name,price,category,{REASON}\nA,Cup,1.00,C,price: This.\nA,Cup,1.00,C,\n"

        assert import_text(rows).merged == 1

    def test_are_of_every_chunk(self, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importer, "ROWS_PER_CHUNK", 2)
        rows = "".join(f"A{number},Cup,{'free' if number % 3 else 1},C\n" for number in range(20))

        answer = send(f"sku,name,price,category\n{rows}".encode())

        found = [row["sku"] for row in csv.DictReader(io.StringIO(answer.get_data(as_text=True)))]
        assert found == [f"A{number}" for number in range(20) if number % 3]

    def test_of_ndjson_are_objects(self, send: Send) -> None:
        lines: list[dict[str, Any]] = [
            {"sku": "A", "name": "Cup", "price": "free", "category": "C", "more": {"x": [1]}},
            {"sku": "B", "n": 1},
        ]

        answer = send(("\n".join(map(json.dumps, lines)) + "\n{broken\n").encode(), "application/x-ndjson")

        first, second, third = answer.get_data(as_text=True).splitlines()
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert json.loads(first) == {**lines[0], REASON: json.loads(first)[REASON]}
        assert json.loads(first)[REASON].startswith("price: Not a decimal string")
        assert json.loads(second)[REASON].startswith("name: ")
        assert third == "{broken"

    def test_without_quoting_stay_one_line(self, send: Send) -> None:
        answer = send(b'sku\tname\tprice\tcategory\nA\t"Cup" a\tfree\tC\n', delimiter="tab", quoting="none")

        assert answer.get_data(as_text=True).splitlines()[1].startswith('A\t"Cup" a\tfree\tC\tprice: Not a decimal')

    @pytest.mark.parametrize(("word", "mark"), [("space", " "), ("_", "_"), ("tab", "\t")])
    def test_without_quoting_can_be_sent_again_with_any_delimiter(
        self, send: Send, catalogue: Catalogue, alice: Caller, word: str, mark: str
    ) -> None:
        options = {"delimiter": word, "quoting": "none"}
        text = mark.join(["sku", "name", "price", "category"]) + "\n" + mark.join(["A", "Cup", "free", "C"]) + "\n"

        failed = send(text.encode(), **options).get_data(as_text=True)
        send(failed.replace("free", "1.00").encode(), **options)

        done = body_of(alice.get("/imports"))["items"][0]
        assert (done["created"], done["failed"], done["unread_columns"]) == (1, 0, [])
        assert list(catalogue()) == ["A"]

    def test_are_there_for_who_ordered_the_import(
        self, send: Send, alice: Caller, root: Caller, sign_in: Callable[..., Caller]
    ) -> None:
        send(b"sku,price\nA,free\n")
        path = f"/imports/{body_of(alice.get('/imports'))['items'][0]['id']}/failed-rows"

        statuses = [who.get(path).status_code for who in (alice, root, sign_in("dave", Role.EDITOR))]
        assert statuses == [200, 200, 404]

    def test_are_not_there_where_none_failed(self, send: Send) -> None:
        assert send(b"sku,name,price,category\nA,Cup,1,C\n").status_code == 404


class TestFailedRowsOfTheCommand:
    def test_are_written_into_a_file_that_is_taken_again(
        self, runner: FlaskCliRunner, tmp_path: Path, catalogue: Catalogue
    ) -> None:
        path, failed = tmp_path / "a.csv", tmp_path / "failed.csv"
        path.write_text("sku,name,price,category\nA,Cup,1.00,C\nB,Mug,free,C\n")

        result = runner.invoke(args=["catalog", "import", str(path), "--failed-rows", str(failed)])
        failed.write_text(failed.read_text("utf-8-sig").replace("free", "2.00"))
        again = runner.invoke(args=["catalog", "import", str(failed)])

        assert (result.exit_code, again.exit_code) == (3, 0)
        assert set(catalogue()) == {"A", "B"}

    def test_leave_no_file_where_none_failed(self, runner: FlaskCliRunner, tmp_path: Path) -> None:
        path, failed = tmp_path / "a.csv", tmp_path / "failed.csv"
        path.write_text("sku,name,price,category\nA,Cup,1.00,C\n")

        assert runner.invoke(args=["catalog", "import", str(path), "--failed-rows", str(failed)]).exit_code == 0
        assert not failed.exists()

    def test_leave_an_older_file_where_none_failed(self, runner: FlaskCliRunner, tmp_path: Path) -> None:
        path, failed = tmp_path / "a.csv", tmp_path / "failed.csv"
        path.write_text("sku,name,price,category\nA,Cup,1.00,C\n")
        failed.write_text("older")

        assert runner.invoke(args=["catalog", "import", str(path), "--failed-rows", str(failed)]).exit_code == 0
        assert failed.read_text() == "older"

    def test_that_cannot_be_written_are_refused_before_any_row_is_saved(
        self, runner: FlaskCliRunner, tmp_path: Path, catalogue: Catalogue
    ) -> None:
        path, failed = tmp_path / "a.csv", tmp_path / "missing" / "failed.csv"
        path.write_text("sku,name,price,category\nA,Cup,1.00,C\nB,Cup,free,C\n")

        result = runner.invoke(args=["catalog", "import", str(path), "--failed-rows", str(failed)])

        assert result.exit_code == 2
        assert "Invalid value for --failed-rows" in result.stderr
        assert "No such file or directory" in result.stderr
        assert catalogue() == {}

    def test_do_not_replace_the_file_that_is_read(self, runner: FlaskCliRunner, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_text("sku,name,price,category\nA,Cup,free,C\n")

        result = runner.invoke(args=["catalog", "import", str(path), "--failed-rows", str(path)])

        assert result.exit_code == 2
        assert path.read_text() == "sku,name,price,category\nA,Cup,free,C\n"


class TestTheReasonColumn:
    def test_does_not_make_an_export_another_file(self, import_text: Import, catalogue: Catalogue) -> None:
        row = {"sku": "A", "name": " Cup ", "price": "1.00", "category": "C", "attributes": "{}", "slug": "cup"}
        text = ",".join([*COLUMNS, REASON]) + "\n" + ",".join([*(row.get(name, "") for name in COLUMNS), "why"]) + "\n"

        report = import_text(text)

        assert (report.unread_columns, catalogue()["A"]["name"]) == ({}, " Cup ")
