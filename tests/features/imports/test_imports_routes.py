"""Importing a file through the API: sent by a client, kept, and done by a worker."""

import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import delete
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from app.core import clock
from app.core.jobs import Task
from app.core.money import amount_text
from app.core.transactions import unit_of_work
from app.core.worker import Worker
from app.extensions import db
from app.features.exports.files import MEDIA_TYPES, FileFormat
from app.features.imports import importer, tasks
from app.features.imports.report import MAX_ERRORS
from app.features.imports.service import CHUNK_SIZE, KIND
from app.features.products.ledger import StockMovement
from app.features.products.models import PRODUCTS
from app.security.permissions import Role
from tests.conftest import Caller, body_of, code_of, faults_of, rows_of
from tests.features.imports.conftest import Catalogue, prices

HEADER = "sku,name,price,category\n"
TWO = f"{HEADER}A-1,Chair,10.00,Chairs\nA-2,Table,20.00,Tables\n"
#: What each import has of its own.
OWN = ("id", "created_at", "started_at", "finished_at", "made_categories")
MAPPED = urlencode({"map": json.dumps({"sku": "Nr", "price": "Preis"})})
Work = Callable[[], None]
Imported = Callable[..., dict[str, Any]]


def send(caller: Caller, text: str | bytes, *, query: str = "", media_type: str = "text/csv") -> TestResponse:
    """Send a file as the body."""
    data = text.encode() if isinstance(text, str) else text
    return caller.call("POST", f"/imports{query}", data=data, headers={"Content-Type": media_type})


def send_form(
    caller: Caller, text: str, *, name: str = "products.csv", media_type: str = "", **fields: str
) -> TestResponse:
    """Send a file as a part of a form."""
    file = FileStorage(io.BytesIO(text.encode()), name, content_type=media_type or "text/csv")
    # The test client would put a large form into a temporary file, and leave it to the garbage collector.
    # Its boundary may be longer than RFC 2046 has it, too.
    boundary, content = encode_multipart({**fields, "file": file}, boundary="----boundary")
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return caller.call("POST", "/imports", data=content, headers=headers)


def many(count: int, *, first: int = 0) -> str:
    """A file of so many products."""
    return HEADER + "".join(f"S-{number},Thing {number},1.50,Things\n" for number in range(first, first + count))


def follow(caller: Caller, sent: TestResponse) -> dict[str, Any]:
    """The import that was ordered, as it stands."""
    assert sent.status_code == 202, sent.get_data(as_text=True)
    return body_of(caller.get(sent.headers["Location"].removeprefix("/api/v1")))


def errors_of(caller: Caller, ordered: dict[str, Any], query: str = "") -> list[tuple[Any, ...]]:
    page = body_of(caller.get(f"/imports/{ordered['id']}/errors{query}"))
    return [(error["line"], error["pointer"], error["code"]) for error in page["items"]]


def remains(app: Flask) -> int:
    """How many rows there are that only a running import needs."""
    with app.app_context():
        return sum(
            db.session.scalar(db.select(db.func.count()).select_from(db.metadata.tables[name])) or 0
            for name in ("import_chunks", "import_first_rows")
        )


@pytest.fixture
def work(runner: FlaskCliRunner) -> Work:
    """Do what is due, as a worker does."""

    def work() -> None:
        done = runner.invoke(args=["worker", "--once"])
        assert done.exit_code == 0, done.output

    return work


@pytest.fixture
def imported(alice: Caller, work: Work) -> Callable[..., dict[str, Any]]:
    """Send a file, have it done, and hand out the import."""

    def imported(text: str | bytes, **options: Any) -> dict[str, Any]:
        sent = send(alice, text, **options)
        work()
        return follow(alice, sent)

    return imported


class TestCreateImport:
    def test_is_done_by_a_worker(self, alice: Caller, work: Work, catalogue: Catalogue) -> None:
        sent = send(alice, TWO)
        before = follow(alice, sent)
        work()
        after = follow(alice, sent)

        assert body_of(sent) == before
        assert (before["status"], before["rows_read"], before["size"]) == ("queued", 0, len(TWO))
        assert (after["status"], after["rows_read"], after["created"]) == ("succeeded", 2, 2)
        assert after["finished_at"] >= after["started_at"] >= after["created_at"]
        assert {sku: row["category"] for sku, row in catalogue().items()} == {"A-1": "Chairs", "A-2": "Tables"}

    def test_takes_ndjson(self, imported: Imported, catalogue: Catalogue) -> None:
        line = {"sku": "A-1", "name": "Chair", "price": "10.00", "category": "Chairs"}

        done = imported(json.dumps(line), media_type="application/x-ndjson")

        assert (done["status"], done["format"], done["created"]) == ("succeeded", "ndjson", 1)
        assert list(catalogue()) == ["A-1"]

    @pytest.mark.parametrize(
        "part",
        [
            {"name": "products.csv"},
            {"name": "products", "media_type": "text/csv"},
            {"name": "products.bin", "format": "csv"},
        ],
    )
    def test_takes_a_form(self, alice: Caller, work: Work, catalogue: Catalogue, part: dict[str, str]) -> None:
        sent = send_form(alice, TWO, **part)
        work()

        assert follow(alice, sent)["created"] == 2
        assert catalogue().keys() == {"A-1", "A-2"}

    @pytest.mark.parametrize("as_form", [True, False])
    def test_reads_a_file_as_it_is_told(self, alice: Caller, work: Work, catalogue: Catalogue, as_form: bool) -> None:
        text = "Artikel;Bezeichnung;Preis;Gruppe;Breite\nA-1;Stühle;1,50;Möbel;45\n"
        names = {"sku": "Artikel", "name": "Bezeichnung", "price": "Preis", "category": "Gruppe"}
        options = {
            "delimiter": ";",
            "decimal": ",",
            "currency": "EUR",
            "map": json.dumps({**names, "attributes.width": "Breite"}),
        }

        if as_form:
            sent = send_form(alice, text, **options)
        else:
            sent = alice.call(
                "POST",
                "/imports",
                data=text.encode("cp1252"),
                query_string={**options, "encoding": "windows-1252"},
                headers={"Content-Type": "text/csv"},
            )
        work()

        assert follow(alice, sent)["error"] is None
        row = catalogue()["A-1"]
        assert (row["name"], amount_text(row["price"], "EUR"), row["currency"], row["category"], row["attributes"]) == (
            *("Stühle", "1.50", "EUR", "Möbel"),
            {"width": "45"},
        )

    @pytest.mark.parametrize("sending", [send, send_form])
    def test_takes_a_file_of_many_pieces(
        self, alice: Caller, work: Work, sending: Callable[[Caller, str], TestResponse]
    ) -> None:
        text = HEADER + "".join(f"S-{number},{'x' * 150},1.50,Things\n" for number in range(8000))
        assert len(text) > 2 * CHUNK_SIZE

        sent = sending(alice, text)
        work()

        done = follow(alice, sent)
        assert (done["status"], done["created"], done["size"]) == ("succeeded", 8000, len(text))

    def test_keeps_nothing_but_the_report(self, app: Flask, imported: Imported) -> None:
        imported(TWO)

        assert remains(app) == 0

    def test_merges_rows_with_the_same_sku_across_chunks(
        self, imported: Imported, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(importer, "ROWS_PER_CHUNK", 2)

        done = imported(f"{TWO}A-3,Lamp,3.00,Lamps\nA-1,Chair,10.00,Chairs\nA-2,Other,99.00,Others\n")

        assert (done["rows_read"], done["created"], done["merged"], done["failed"]) == (5, 3, 1, 1)
        assert catalogue()["A-1"]["name"] == "Chair"

    def test_is_the_doing_of_who_ordered_it(self, alice: Caller, root: Caller, imported: Imported) -> None:
        imported(TWO)
        imported(TWO.replace("A-1,Chair", "A-1,Stool"))

        created = body_of(root.get("/audit-events?action=product.created"))["items"]
        [updated] = body_of(root.get("/audit-events?action=product.updated"))["items"]
        assert [event["actor_id"] for event in [*created, updated]] == [alice.user_id] * 3
        assert {event["after"]["sku"] for event in created} == {"A-1", "A-2"}
        assert (updated["before"], updated["after"]) == ({"name": "Chair"}, {"name": "Stool"})


class TestRefusals:
    @pytest.mark.parametrize(
        ("query", "where", "code"),
        [
            ("?encoding=rot13", "encoding", "encoding_unknown"),
            ("?encoding=unicode_escape", "encoding", "encoding_unknown"),
            ("?delimiter=x", "delimiter", "not_a_mark"),
            ("?delimiter=%3B%3B", "delimiter", "not_a_mark"),
            ("?thousands=,&decimal=,", "thousands", "same_mark"),
            ("?skip_lines=-1", "skip_lines", "too_small"),
            ("?key=name", "key", "not_a_choice"),
            ("?quoting=all", "quoting", "not_a_choice"),
            ("?currency_marks=1", "currency_marks", "invalid"),
            ("?set=%7B%22colour%22:%22x%22%7D", "set", "not_a_map"),
            ("?set=%7B%22status%22:%22public%22%7D", "set", "not_a_choice"),
            ("?status_words=%7B%221%22:%22public%22%7D", "status_words", "not_a_map"),
            ("?decimal=%3B", "decimal", "not_a_choice"),
            ("?currency=XXQ", "currency", "not_a_choice"),
            ("?format=xlsx", "format", "not_a_choice"),
            ("?map=sku", "map", "not_a_map"),
            ("?map=%5B%5D", "map", "not_a_map"),
            ("?map=%7B%22sku%22:1%7D", "map", "not_a_map"),
            ("?map=%7B%22colour%22:%22x%22%7D", "map", "not_a_map"),
            ("?columns=1", "columns", "unknown_parameter"),
        ],
    )
    def test_names_the_option(self, app: Flask, alice: Caller, query: str, where: str, code: str) -> None:
        assert faults_of(send(alice, TWO, query=query)) == [(where, code)]
        assert rows_of(app, "jobs") == []

    def test_names_the_field_of_a_form(self, alice: Caller) -> None:
        assert faults_of(send_form(alice, TWO, delimiter="x")) == [("delimiter", "not_a_mark")]
        assert faults_of(send_form(alice, TWO, colour="x")) == [("colour", "unknown_parameter")]

    def test_of_a_form_without_a_file(self, alice: Caller) -> None:
        sent = alice.call("POST", "/imports", data={"delimiter": ";"}, headers={"Content-Type": "multipart/form-data"})

        assert faults_of(sent) == [("/file", "file_missing")]

    def test_of_a_file_that_nothing_tells_the_format_of(self, alice: Caller) -> None:
        sent = send_form(alice, TWO, name="products", media_type="application/octet-stream")

        assert faults_of(sent) == [("format", "format_unknown")]

    @pytest.mark.parametrize(
        ("name", "advice"), [("a.xlsx", "save the sheet as CSV"), ("a.csv.gz", "unpack it"), ("a.json", "jq -c")]
    )
    def test_of_a_file_of_another_kind_says_what_to_do(self, alice: Caller, name: str, advice: str) -> None:
        sent = send_form(alice, TWO, name=name, media_type="application/octet-stream")

        (fault,) = sent.get_json()["errors"]
        assert (fault["code"], fault["parameter"]) == ("format_unknown", "format")
        assert advice in fault["detail"]

    @pytest.mark.parametrize("media_type", ["application/json", "text/plain"])
    def test_of_another_media_type(self, alice: Caller, media_type: str) -> None:
        sent = send(alice, TWO, media_type=media_type)

        assert (sent.status_code, code_of(sent)) == (415, "unsupported_media_type")

    @pytest.mark.parametrize(
        "body",
        [b"", b"--x", b"no form at all", b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\nsku", b"\xff" * 99],
    )
    def test_of_a_broken_form(self, app: Flask, alice: Caller, body: bytes) -> None:
        sent = send(alice, body, media_type="multipart/form-data; boundary=x")

        assert sent.status_code in {400, 422}
        assert rows_of(app, "imports") == []

    def test_of_a_form_cut_off_within_the_file(self, app: Flask, alice: Caller) -> None:
        whole = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n' + TWO.encode()

        sent = send(alice, whole, media_type="multipart/form-data; boundary=x")

        assert (sent.status_code, code_of(sent)) == (400, "form_malformed")
        assert rows_of(app, "imports") == []

    @pytest.mark.parametrize("where", ["preamble", "headers", "epilogue"])
    def test_of_a_form_that_would_be_kept_in_memory(self, app: Flask, alice: Caller, where: str) -> None:
        much = dict.fromkeys(("preamble", "headers", "epilogue"), b"") | {where: b"x" * 2**20}
        head = b'Content-Disposition: form-data; name="file"; filename="a.csv"\r\nX-Much: ' + much["headers"]
        whole = b"\r\n".join(
            [much["preamble"], b"--x", head, b"", TWO.encode(), b"--x--", much["epilogue"]],
        )

        sent = send(alice, whole, media_type="multipart/form-data; boundary=x")

        assert (sent.status_code, code_of(sent)) == (400, "form_malformed")
        assert rows_of(app, "imports") == []

    @pytest.mark.parametrize("over", [0, 1])
    def test_of_a_file_over_the_limit(
        self, app: Flask, alice: Caller, app_with: Callable[..., Flask], over: int
    ) -> None:
        text = many(500)
        limited = alice.on(app_with(max_upload_bytes=len(text) - over))

        sent = send(limited, text)

        assert sent.status_code == (413 if over else 202)
        assert len(rows_of(app, "imports")) == 1 - over

    def test_of_people_who_do_not_write_products(self, bob: Caller, anonymous: Caller) -> None:
        assert send(bob, TWO).status_code == 403
        assert send(anonymous, TWO).status_code == 401


class TestFaults:
    def test_are_told_by_line(self, alice: Caller, imported: Imported, catalogue: Catalogue) -> None:
        done = imported(f"{HEADER}A-1,Chair,ten,Chairs\nA-2,Table,2.00,Tables\nA-3,Lamp,3.00\n,,1.00,Lamps\n")

        assert (done["status"], done["rows_read"], done["created"], done["failed"]) == ("succeeded", 4, 1, 3)
        assert errors_of(alice, done) == [
            *((2, "/price", "invalid"), (4, "", "cell_count")),
            (5, "/sku", "required"),
        ]
        assert done["errors"] == 3
        assert catalogue().keys() == {"A-2"}

    def test_are_kept_up_to_a_number_and_counted_beyond(self, app: Flask, alice: Caller, imported: Imported) -> None:
        done = imported(HEADER + "A-1,Chair,ten,Chairs\n" * (MAX_ERRORS + 7))

        assert (done["failed"], done["errors"]) == (MAX_ERRORS + 7, MAX_ERRORS + 7)
        assert [(group["column"], group["count"]) for group in done["fault_groups"]] == [("price", MAX_ERRORS + 7)]
        assert len(rows_of(app, "import_faults")) == MAX_ERRORS
        assert errors_of(alice, done, "?per_page=1&order=desc") == [(MAX_ERRORS + 1, "/price", "invalid")]

    def test_of_hostile_names_can_be_stored(self, alice: Caller, imported: Imported) -> None:
        name = "a\0b\x1b" + "x" * 1000
        line = json.dumps({"attributes": {name: 1}, name: "\0", "sku": "A-1"})

        done = imported(line, media_type="application/x-ndjson")

        assert (done["status"], done["failed"]) == ("failed", 1)
        assert any(pointer.startswith("/attributes/a\ufffdb") for _, pointer, _ in errors_of(alice, done))
        assert done["unread_columns"][0].startswith("a\ufffdb\ufffdxxx")

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "the file is empty"),
            ("name,price\nChair,1.00\n", "no column feeds sku"),
            (b"\xff\xfe\xff", "this is not UTF-8"),
            ("sku\0,name\n", "no column feeds"),
            (HEADER, "the file has no rows"),
            (b"PK\x03\x04" + b"\0" * 99, "save the sheet as CSV"),
            (b"\x1f\x8b\x08" + b"\0" * 99, "unpack it first"),
            ('[{"sku": "A"}]', "one object per line"),
        ],
    )
    def test_of_the_whole_file_fail_the_import(
        self, app: Flask, imported: Imported, text: str | bytes, reason: str
    ) -> None:
        done = imported(text)

        assert done["status"] == "failed"
        assert reason in done["error"]
        assert remains(app) == 0


class TestWhoMayMakeCategoriesAndBrands:
    FILE = "sku,name,price,category,brand\nA,Cup,1,Cups,\nB,Pan,1,Pans,\nC,Jug,1,Cups,Oakworks\nD,Mug,1,Cups,Ash\n"

    @pytest.fixture(autouse=True)
    def there_are(self, make_category: Callable[..., Any], make_brand: Callable[..., Any]) -> None:
        make_category(name="Cups")
        make_brand(name="Ash")

    @pytest.fixture
    def errors_with(self, app: Flask, alice: Caller, work: Work) -> Callable[..., Any]:
        """Import the file with an API key that has these scopes too; its errors."""

        def errors_with(*scopes: str) -> Any:
            made = alice.post("/api-keys", {"name": "Sync", "scopes": ["products:write", *scopes]})
            headers = {"X-API-Key": body_of(made)["key"], "Content-Type": "text/csv"}
            sent = Caller(app).call("POST", "/imports", data=self.FILE, headers=headers)
            work()
            return body_of(alice.get(f"/imports/{body_of(sent)['id']}/errors"))["items"]

        return errors_with

    @pytest.mark.parametrize(
        ("scopes", "made", "faults"),
        [
            ([], {"A", "D"}, [(3, "/category", "category_unknown"), (4, "/brand", "brand_unknown")]),
            (["categories:write"], {"A", "B", "D"}, [(4, "/brand", "brand_unknown")]),
            (["brands:write"], {"A", "C", "D"}, [(3, "/category", "category_unknown")]),
            (["categories:write", "brands:write"], {"A", "B", "C", "D"}, []),
        ],
    )
    def test_is_said_by_the_permissions_of_the_order(
        self, catalogue: Catalogue, errors_with: Callable[..., Any], scopes: list[str], made: set[str], faults: Any
    ) -> None:
        errors = errors_with(*scopes)

        assert [(each["line"], each["pointer"], each["code"]) for each in errors] == faults
        assert set(catalogue()) == made

    def test_is_said_in_the_fault(self, errors_with: Callable[..., Any]) -> None:
        category, brand = errors_with()

        assert (category["column"], category["value"]) == ("category", "Pans")
        assert "needs the permission categories:write" in category["detail"]
        assert (brand["column"], brand["value"]) == ("brand", "Oakworks")
        assert "needs the permission brands:write" in brand["detail"]


class TestDryRun:
    def test_runs_the_whole_import_and_changes_nothing(
        self, app: Flask, alice: Caller, work: Work, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(importer, "ROWS_PER_CHUNK", 2)
        text = f"{TWO}A-3,Lamp,free,Lamps\nA-1,Chair,10.00,Chairs\nA-2,Desk,20.00,Tables\nA-4,Lamp,1.00,Home > Lamps\n"

        sent = send(alice, text, query="?dry_run=true")
        work()
        tried = follow(alice, sent)
        before = [rows_of(app, table) for table in ("products", "categories", "stock_movements")]
        changes = [event["type"] for event in body_of(alice.get("/events"))["items"]]
        real = send(alice, text)
        work()
        done = follow(alice, real)

        assert before == [[], [], []]
        assert changes == ["import.finished"]
        assert (sent.headers["Dry-Run"], tried["dry_run"], done["dry_run"]) == ("true", True, False)
        own = (*OWN[:-1], "dry_run")
        assert {**tried, **dict.fromkeys(own)} == {**done, **dict.fromkeys(own)}
        assert (tried["status"], tried["created"], tried["merged"], tried["failed"]) == ("succeeded", 3, 1, 2)
        assert tried["made_categories"] == ["Chairs", "Tables", "Home", "Home > Lamps"]
        assert (
            errors_of(alice, tried) == errors_of(alice, done) == [(4, "/price", "invalid"), (6, "/name", "rows_differ")]
        )
        assert len(catalogue()) == 3

    def test_can_be_a_field_of_the_form(self, app: Flask, alice: Caller, work: Work) -> None:
        sent = send_form(alice, TWO, dry_run="true")
        work()

        assert follow(alice, sent)["created"] == 2
        assert rows_of(app, "products") == []

    def test_is_ordered_once_with_an_idempotency_key(self, app: Flask, alice: Caller) -> None:
        headers = {"Content-Type": "text/csv", "Idempotency-Key": "k"}

        first, again = (alice.call("POST", "/imports?dry_run=true", data=TWO, headers=headers) for _ in range(2))
        real = alice.call("POST", "/imports", data=TWO, headers=headers)

        assert (first.status_code, again.status_code, body_of(again)) == (202, 202, body_of(first))
        assert [answer.headers.get("Idempotency-Replayed") for answer in (first, again)] == [None, "true"]
        assert [answer.headers.get("Dry-Run") for answer in (first, again)] == ["true", "true"]
        assert (real.status_code, code_of(real)) == (422, "idempotency_key_reused")
        assert len(rows_of(app, "imports")) == 1

    @pytest.mark.parametrize(("name", "query", "field"), [("dry_run", "true", "false"), ("decimal", ",", ".")])
    def test_and_every_option_is_the_same_in_query_and_form(
        self, app: Flask, alice: Caller, name: str, query: str, field: str
    ) -> None:
        def answer(field: str) -> TestResponse:
            boundary, content = encode_multipart(
                {name: field, "file": FileStorage(io.BytesIO(TWO.encode()), "a.csv")}, boundary="----boundary"
            )
            headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
            return alice.call("POST", f"/imports?{urlencode({name: query})}", data=content, headers=headers)

        assert faults_of(answer(field)) == [(name, "repeated")]
        assert rows_of(app, "imports") == []
        assert answer(query).status_code == 202

    def test_of_a_file_that_would_fail_fails(self, alice: Caller, work: Work) -> None:
        sent = send(alice, HEADER + "A-1,Chair,ten,Chairs\n", query="?dry_run=true")
        work()

        assert follow(alice, sent)["status"] == "failed"


class TestTheReport:
    def test_says_what_was_made_assumed_and_left_unread(self, imported: Imported) -> None:
        text = "sku,name,price,category,brand,status,stock,Remarks\n"
        text += "A,Cup,1,Home > Cups,Oak,active,3,x\nB,Mug,1,Home,,,,\nC,Pan,1,Home,,archived,0,\n"

        done = imported(text)

        assert (done["made_active"], done["made_draft"], done["made_archived"]) == (1, 1, 1)
        assert (done["stock_assumed"], done["unread_columns"]) == (1, ["Remarks"])
        assert (done["made_categories"], done["made_brands"]) == (["Home", "Home > Cups"], ["Oak"])

    def test_counts_what_an_update_publishes(self, imported: Imported) -> None:
        imported(TWO)

        done = imported("sku,status\nA-1,active\nA-2,draft\n")

        assert (done["updated"], done["unchanged"], done["made_active"], done["made_draft"]) == (1, 1, 1, 0)

    def test_groups_equal_faults_by_column_and_kind(self, alice: Caller, imported: Imported) -> None:
        rows = "".join(f"A-{number},Cup,{price},C\n" for number, price in enumerate(["free", "1", "gratis", "free"]))

        done = imported(f"Nr,name,Preis,category\n{rows}A-9,,1,C\n", query="?" + MAPPED)

        assert [(group["column"], group["code"], group["count"]) for group in done["fault_groups"]] == [
            ("Preis", "invalid", 3),
            ("name", "product_incomplete", 1),
        ]
        group = done["fault_groups"][0]
        assert (group["lines"], group["values"]) == ([2, 4, 5], ["free", "gratis"])
        assert group["expected"].startswith("an amount such as 1299.00")
        page = body_of(alice.get(f"/imports/{done['id']}/errors"))["items"]
        assert [(error["line"], error["column"], error["value"]) for error in page][:2] == [
            (2, "Preis", "free"),
            (4, "Preis", "gratis"),
        ]

    def test_shortens_values(self, alice: Caller, imported: Imported) -> None:
        done = imported(f"{HEADER}A,Cup,{'9x' * 500}\x1b,C\n")

        (error,) = body_of(alice.get(f"/imports/{done['id']}/errors"))["items"]
        assert error["value"] == "9x" * 38 + "9..."

    def test_takes_the_status_of_the_setting(
        self, alice: Caller, app_with: Callable[..., Flask], catalogue: Catalogue
    ) -> None:
        app = app_with(default_import_status="active")
        sent = send(alice.on(app), TWO)

        app.test_cli_runner().invoke(args=["worker", "--once"])

        assert follow(alice, sent)["made_active"] == 2
        assert {row["status"] for row in catalogue().values()} == {"active"}


class TestCharset:
    @pytest.mark.parametrize(
        ("charset", "codec"), [("windows-1252", "cp1252"), ("UTF-16", "utf-16"), ("utf-8", "utf-8")]
    )
    def test_of_the_media_type_is_that_of_the_file(
        self, imported: Imported, catalogue: Catalogue, charset: str, codec: str
    ) -> None:
        imported((HEADER + "A,Müsli –,1.00,C\n").encode(codec), media_type=f'text/csv; charset="{charset}"')

        assert catalogue()["A"]["name"] == "Müsli –"

    def test_of_the_part_of_a_form_is_taken_too(self, alice: Caller, work: Work, catalogue: Catalogue) -> None:
        sent = send_form(alice, HEADER + "A,M\u00fcsli,1.00,C\n", media_type="text/csv; charset=iso-8859-1")
        work()

        # The form was sent in UTF-8, and is read as it says.
        assert follow(alice, sent)["created"] == 1
        assert catalogue()["A"]["name"] == "M\u00c3\u00bcsli"

    def test_goes_after_the_option(self, imported: Imported, catalogue: Catalogue) -> None:
        content = (HEADER + "A,Müsli,1.00,C\n").encode("cp1252")

        imported(content, media_type="text/csv; charset=utf-8", query="?encoding=windows-1252")

        assert catalogue()["A"]["name"] == "Müsli"

    def test_that_there_is_not_is_refused(self, app: Flask, alice: Caller) -> None:
        assert faults_of(send(alice, TWO, media_type="text/csv; charset=klingon")) == [("encoding", "encoding_unknown")]
        assert rows_of(app, "imports") == []


class TestReadImport:
    @pytest.mark.parametrize("path", ["", "/errors"])
    def test_is_for_who_ordered_it_and_for_administrators(
        self, alice: Caller, root: Caller, sign_in: Callable[..., Caller], path: str
    ) -> None:
        sent = send(alice, TWO)
        where = f"/imports/{body_of(sent)['id']}{path}"
        dave = sign_in("dave", Role.EDITOR)

        assert [who.get(where).status_code for who in (alice, root, dave)] == [200, 200, 404]

    def test_lists_the_newest_first_by_status(
        self, alice: Caller, root: Caller, sign_in: Callable[..., Caller], work: Work
    ) -> None:
        done = body_of(send(alice, TWO))["id"]
        work()
        waiting = [body_of(send(alice, TWO))["id"] for _ in range(2)]
        dave = sign_in("dave", Role.EDITOR)

        def listed(who: Caller, query: str = "") -> list[int]:
            return [one["id"] for one in body_of(who.get(f"/imports{query}"))["items"]]

        assert listed(alice) == [*reversed(waiting), done]
        assert listed(alice, "?status=succeeded") == [done]
        assert listed(alice, "?status=succeeded,failed") == [done]
        assert listed(alice, "?status=queued,succeeded&sort_by=id&order=asc") == sorted([done, *waiting])
        assert listed(alice, "?status=queued&sort_by=id&order=asc") == waiting
        assert listed(alice, "?cursor=&per_page=2") == [*reversed(waiting)]
        assert listed(root) == listed(alice)
        assert listed(dave) == []


class TestCancelImport:
    def test_before_it_begins_leaves_nothing(self, app: Flask, alice: Caller, work: Work, catalogue: Catalogue) -> None:
        sent = send(alice, TWO)

        cancelled = alice.post(f"/imports/{body_of(sent)['id']}/cancel")
        work()

        assert cancelled.status_code == 200
        assert body_of(cancelled) == follow(alice, sent)
        assert body_of(cancelled)["status"] == "cancelled"
        assert catalogue() == {}
        assert remains(app) == 0

    def test_while_it_runs_keeps_whole_chunks_alone(
        self, app: Flask, alice: Caller, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(importer, "ROWS_PER_CHUNK", 10)
        sent = send(alice, many(100))
        steps = 0

        def run(claim: Any) -> Any:
            nonlocal steps
            for step in tasks.run_import(claim):
                steps += 1
                yield step
                if steps == 3:
                    assert alice.post(f"/imports/{body_of(sent)['id']}/cancel").status_code == 200

        Worker({KIND: Task(run, tasks.end_import)}, app.app_context).drain()

        after = follow(alice, sent)
        assert steps == 3
        assert (after["status"], after["rows_read"], after["created"]) == ("cancelled", 30, 30)
        assert len(catalogue()) == 30
        assert remains(app) == 0

    def test_after_it_ended_is_refused(self, alice: Caller, imported: Imported) -> None:
        done = imported(TWO)

        again = alice.post(f"/imports/{done['id']}/cancel")

        assert (again.status_code, code_of(again)) == (409, "import_ended")

    def test_is_in_the_audit_trail(self, alice: Caller, root: Caller) -> None:
        import_id = body_of(send(alice, TWO))["id"]
        alice.post(f"/imports/{import_id}/cancel")

        events = body_of(root.get(f"/audit-events?resource=import/{import_id}&order=asc"))["items"]

        assert [(event["action"], event["actor_id"]) for event in events] == [
            ("import.created", alice.user_id),
            ("import.cancelled", alice.user_id),
        ]

    def test_of_somebody_elses_is_not_there(self, alice: Caller, sign_in: Callable[..., Caller]) -> None:
        sent = send(alice, TWO)

        assert sign_in("dave", Role.EDITOR).post(f"/imports/{body_of(sent)['id']}/cancel").status_code == 404


def without_ids(products: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {sku: {**product, "id": 0} for sku, product in products.items()}


class TestGoingOn:
    def test_after_any_chunk_ends_where_an_undisturbed_run_does(
        self, app: Flask, alice: Caller, work: Work, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(importer, "ROWS_PER_CHUNK", 7)
        text = (
            many(30)
            + "S-3,Thing 3,1.50,Things\nS-4,Twin,9.00,Twins\nS-40,,1.00,Things\n"
            + many(20, first=30).removeprefix(HEADER)
        )
        sent = send(alice, text)
        work()
        undisturbed, products = follow(alice, sent), catalogue()
        with app.app_context(), unit_of_work():
            db.session.execute(delete(StockMovement))
            db.session.execute(PRODUCTS.delete())

        sent, steps = send(alice, text), 0
        while follow(alice, sent)["status"] == "queued":
            # A worker that is told to stop as soon as it has begun.
            told = iter([False, True, True])
            Worker({KIND: Task(tasks.run_import, tasks.end_import)}, app.app_context, stop=told.__next__).drain()
            steps += 1
        interrupted = follow(alice, sent)

        assert (undisturbed["rows_read"], undisturbed["created"], undisturbed["merged"]) == (53, 49, 1)
        assert (undisturbed["failed"], len(undisturbed["fault_groups"])) == (3, 2)
        assert steps == 53 // 7 + 2  # the last finds nothing more
        assert {**interrupted, **dict.fromkeys(OWN)} == {**undisturbed, **dict.fromkeys(OWN)}
        assert without_ids(catalogue()) == without_ids(products)
        assert prices(products)["S-3"] == prices(products)["S-4"]

    def test_after_any_chunk_counts_a_parent_once_that_was_saved_before_it_was_read(
        self, app: Flask, alice: Caller, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(importer, "ROWS_PER_CHUNK", 2)
        rows = [f"V-{number},P-{number % 2},,,1.50," for number in range(5)]
        rows += ["P-1,,size,Shirt,,Things", "P-1,,size,Other,,Things", "P-0,,size,Shirt,,Things"]

        sent, steps = send(alice, "\n".join(["sku,parent_sku,options,name,price,category", *rows])), 0
        while follow(alice, sent)["status"] == "queued":
            stops = iter([False, True, True])
            Worker({KIND: Task(tasks.run_import, tasks.end_import)}, app.app_context, stop=stops.__next__).drain()
            steps += 1
        done = follow(alice, sent)

        assert (steps, done["status"]) == (5, "succeeded")
        assert (done["rows_read"], done["created"], done["failed"]) == (8, 7, 1)
        assert errors_of(alice, done) == [(8, "/name", "rows_differ")]
        assert {row["parent_sku"] for row in catalogue().values()} == {None, "P-0", "P-1"}


def jobs_of_imports(app: Flask) -> list[tuple[Any, ...]]:
    """The jobs beside those that a worker keeps for itself."""
    return [row for row in rows_of(app, "jobs") if "import" in row]


class TestTheEndOfAnImport:
    def test_is_forgotten_after_a_month(
        self, app: Flask, alice: Caller, imported: Imported, runner: FlaskCliRunner, catalogue: Catalogue
    ) -> None:
        done = imported(f"{TWO}A-3,,30.00,Tables\n")
        waiting = follow(alice, send(alice, TWO))

        with time_machine.travel(clock.now() + timedelta(days=29), tick=False):
            runner.invoke(args=["prune"])
            assert len(rows_of(app, "imports")) == len(jobs_of_imports(app)) == 2
        with time_machine.travel(clock.now() + timedelta(days=31), tick=False):
            said = runner.invoke(args=["prune"]).output

        assert "1 imports" in said
        assert [row[0] for row in rows_of(app, "imports")] == [waiting["id"]] != [done["id"]]
        assert len(jobs_of_imports(app)) == 1
        assert rows_of(app, "import_faults") == []
        assert set(catalogue()) == {"A-1", "A-2"}


class TestExportedFile:
    @pytest.mark.parametrize("file_format", list(FileFormat))
    def test_gives_the_same_catalogue_again(
        self, alice: Caller, imported: Imported, make_product: Imported, file_format: FileFormat
    ) -> None:
        def export() -> bytes:
            return alice.get(f"/products/export?format={file_format}").get_data()

        # An import creates products in the order of their skus, an export has them in that of their ids.
        odd = {"description": " a \n'b", "tags": ["a|b", "c"], "attributes": {"width": 4, "is_new": True}}
        make_product(sku="E-1", name="=1+1", **odd)
        make_product(sku="E-2", price="9999999999.99", status="archived", stock=7, external_id="+49")
        before = export()
        with alice.app.app_context(), unit_of_work():
            db.session.execute(delete(StockMovement))
            db.session.execute(PRODUCTS.delete())

        done = imported(before, media_type=MEDIA_TYPES[file_format])

        assert done["created"] == 2
        assert export() == before
