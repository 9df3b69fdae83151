"""``flask catalog``: what the commands print, how they exit, and what they leave."""

import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from app.cli import progress
from app.clients.object_store import ObjectStore
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.exports.files import COLUMNS
from app.features.imports import service as imports
from app.features.products.models import Product
from app.features.samples import service as samples
from app.features.samples.gallery import Drawing
from config import Environment
from tests.conftest import Caller, body_of, rows_of
from tests.rows import mappings_of
from tests.servers import PROJECT

HEADER = "sku,name,price,category\n"
TWO = HEADER + "A-1,Chair,9.90,Chairs\nA-2,Table,19.90,Tables\n"

Run = Callable[..., Result]


@pytest.fixture
def catalog(runner: FlaskCliRunner) -> Run:
    """Run ``flask catalog`` with arguments."""

    def run(*arguments: str | Path, **options: Any) -> Result:
        return runner.invoke(args=["catalog", *map(str, arguments)], **options)

    return run


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Write a file."""

    def write(content: str | bytes, name: str = "products.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def numbers(result: Result) -> dict[str, int]:
    """The numbers of a report."""
    found = re.findall(r"^  (created|updated|unchanged|merged|failed|rows) +([\d,]+)", result.stdout, re.MULTILINE)
    return {name: int(number.replace(",", "")) for name, number in found}


class TestImport:
    def test_reports_its_numbers(self, catalog: Run, file: Callable[..., Path]) -> None:
        result = catalog("import", file(TWO + "A-1,Chair,9.90,Chairs\n"))

        assert result.exit_code == 0
        assert numbers(result) == {"created": 2, "updated": 0, "unchanged": 0, "merged": 1, "failed": 0, "rows": 3}

    def test_says_what_became_public_and_what_has_no_stock(self, catalog: Run, file: Callable[..., Path]) -> None:
        drafts = catalog("import", file(TWO))
        public = catalog("import", file(TWO + "A-3,Lamp,1.00,Lamps\n"), "--set", "status=active")

        assert "Products made draft: 2\nNew products without a stock in the file, which have 0: 2\n" in drafts.stdout
        assert "Products made active, and public: 3\n" in public.stdout
        assert (numbers(public)["created"], numbers(public)["updated"]) == (1, 2)

    def test_says_which_categories_were_made(self, catalog: Run, file: Callable[..., Path]) -> None:
        assert "Categories created: 2\n  Chairs\n  Tables\n" in catalog("import", file(TWO)).stdout

    def test_says_which_columns_feed_no_field(self, catalog: Run, file: Callable[..., Path]) -> None:
        result = catalog("import", file("sku,name,price,category,weight\nA,Chair,1.00,Chairs,3\n"))

        assert "Columns that set no field: weight" in result.stdout

    def test_says_what_is_wrong_in_which_line_and_exits_with_3(self, catalog: Run, file: Callable[..., Path]) -> None:
        result = catalog("import", file(TWO + "A-3,Stool,free,Chairs\n"))

        assert result.exit_code == 3
        assert re.search(
            r"^  line 4: price: 'free' .+ Expected: an amount .+ \[invalid\]$", result.stdout, re.MULTILINE
        )

    def test_lists_the_first_errors_and_counts_all(self, catalog: Run, file: Callable[..., Path]) -> None:
        result = catalog("import", file(TWO + "A,Chair,free,Chairs\nB,Chair,gratis,Chairs\n" * 150))

        assert "Rows that failed: 300\n  300 times, lines 4, 5, 6, ...: price: 'free' 'gratis' Not a" in result.stdout
        assert result.stdout.count("[invalid]") == 1

    def test_fails_where_no_row_went_in(self, catalog: Run, file: Callable[..., Path]) -> None:
        for content, reason in (
            (HEADER + "A,Chair,free,Chairs\n", "no row went in: all 1 failed"),
            (HEADER, "no rows"),
        ):
            result = catalog("import", file(content))

            assert result.exit_code == 1
            assert reason in result.stderr

    def test_lets_no_control_sequence_through_to_the_terminal(self, catalog: Run, file: Callable[..., Path]) -> None:
        result = catalog("import", file("sku,name,price,category,\x1b[31mred\nA,Chair,1.00,\x9b31mred,\n"))

        assert result.exit_code == 0
        assert "\x1b" not in result.stdout
        assert "\x9b" not in result.stdout

    def test_saves_nothing_in_a_dry_run(self, catalog: Run, file: Callable[..., Path], app: Flask) -> None:
        result = catalog("import", file(TWO), "--dry-run")

        assert result.stdout.startswith("Dry run: nothing was saved.\n")
        assert numbers(result)["created"] == 2
        assert rows_of(app, "products") == []

    def test_takes_a_supplier_s_file(self, catalog: Run, file: Callable[..., Path], app: Flask) -> None:
        path = file("nr;titel;preis;gruppe;breite\n7;Stuhl grün;1234,5;Stühle;45\n".encode("cp1252"), "liste.txt")

        result = catalog(
            "import", path, "--delimiter", ";", "--decimal", ",", "--encoding", "cp1252", "--currency", "EUR",
            "--map", "sku=nr", "--map", "name=titel", "--map", "price=preis", "--map", "category=gruppe",
            "--map", "attributes.width=breite",
        )  # fmt: skip

        assert result.exit_code == 0, result.output
        exported = list(csv.DictReader(catalog("export").stdout.splitlines()))
        assert exported[0]["name"] == "Stuhl grün"
        assert (exported[0]["price"], exported[0]["currency"]) == ("1234.50", "EUR")
        assert exported[0]["attributes"] == '{"width":"45"}'

    def test_takes_the_default_currency(self, catalog: Run, file: Callable[..., Path]) -> None:
        catalog("import", file(TWO))

        assert {row["currency"] for row in csv.DictReader(catalog("export").stdout.splitlines())} == {"USD"}

    @pytest.mark.parametrize("delimiter", ["\t", "\\t", "tab"])
    def test_takes_tabs(self, catalog: Run, file: Callable[..., Path], delimiter: str) -> None:
        result = catalog("import", file(TWO.replace(",", "\t"), "products.tsv"), "--delimiter", delimiter)

        assert numbers(result)["created"] == 2

    def test_tells_ndjson_by_the_suffix(self, catalog: Run, file: Callable[..., Path]) -> None:
        line = '{"sku": "A", "name": "Chair", "price": "1.00", "category": "Chairs"}\n'

        assert numbers(catalog("import", file(line, "products.jsonl")))["created"] == 1

    def test_reads_standard_input(self, catalog: Run) -> None:
        assert numbers(catalog("import", "-", input=TWO))["created"] == 2

    def test_reads_a_pipe(self, app: Flask, file: Callable[..., Path]) -> None:
        # A real process: what the runner calls standard input can be rewound.
        command = [sys.executable, "-m", "flask", "catalog", "import", "-"]
        environment = {**os.environ, "DATABASE_URL": app.config["DATABASE_URL"]}

        done = subprocess.run(
            command, cwd=PROJECT, env=environment, input=TWO.encode(), capture_output=True, check=False
        )

        assert done.returncode == 0, done.stderr
        assert len(rows_of(app, "products")) == 2


class TestImportOfAFileThatCannotBeRead:
    @pytest.fixture
    def failure(self, catalog: Run, app: Flask) -> Callable[..., str]:
        """The one line that is said; nothing is saved."""

        def run(*arguments: str | Path) -> str:
            result = catalog("import", *arguments)
            assert result.exit_code == 1
            assert result.stdout == ""
            assert rows_of(app, "products") == []
            (line,) = result.stderr.splitlines()
            return line

        return run

    def test_is_not_there(self, failure: Callable[..., str], tmp_path: Path) -> None:
        assert failure(tmp_path / "none.csv").endswith("none.csv: No such file or directory.")

    def test_is_a_folder(self, failure: Callable[..., str], tmp_path: Path) -> None:
        assert failure(tmp_path, "--format", "csv").endswith(": Is a directory.")

    def test_has_a_suffix_that_says_nothing(self, failure: Callable[..., str], file: Callable[..., Path]) -> None:
        assert "--format" in failure(file(TWO, "products.dat"))

    @pytest.mark.parametrize(
        ("name", "advice"),
        [("a.xlsx", "save the sheet as CSV"), ("a.csv.gz", "unpack it first"), ("a.json", "one object per line")],
    )
    def test_has_a_suffix_of_another_kind(
        self, failure: Callable[..., str], file: Callable[..., Path], name: str, advice: str
    ) -> None:
        assert advice in failure(file(TWO, name))

    def test_is_empty(self, failure: Callable[..., str], file: Callable[..., Path]) -> None:
        assert "the file is empty" in failure(file(""))

    def test_is_in_another_encoding(self, failure: Callable[..., str], file: Callable[..., Path]) -> None:
        assert "line 2: this is not UTF-8" in failure(file((HEADER + "A,Café,1.00,C\n").encode("latin-1")))

    def test_is_no_text_at_all(self, failure: Callable[..., str], file: Callable[..., Path]) -> None:
        assert "this is not UTF-8" in failure(file(bytes(range(256)) * 100))

    def test_lacks_a_mapped_column(self, failure: Callable[..., str], file: Callable[..., Path]) -> None:
        assert "no column 'preis' for price" in failure(file(TWO), "--map", "price=preis")

    def test_has_a_header_that_is_no_line_for_a_terminal(
        self, failure: Callable[..., str], file: Callable[..., Path]
    ) -> None:
        line = failure(file('sku,"a\nb\x1b[31m",' + "x" * 5000 + "\n"))

        assert line.isprintable()
        assert len(line) < 600

    def test_has_another_delimiter(self, failure: Callable[..., str], file: Callable[..., Path]) -> None:
        assert "Is the delimiter right" in failure(file(TWO.replace(",", ";")))


class TestImportThatStops:
    def test_reports_what_is_saved_and_where_it_stopped(
        self, catalog: Run, file: Callable[..., Path], app: Flask
    ) -> None:
        rows = "".join(f"S{number},Chair,1.00,Chairs\n" for number in range(1000))

        result = catalog("import", file(HEADER + rows + 'B,"' + "x" * 2_000_000))

        assert result.exit_code == 1
        assert "line 1002: a record is longer" in result.stderr
        assert "stopped after the row in line 1001" in result.stderr
        assert numbers(result)["created"] == len(rows_of(app, "products")) == 1000

    def test_says_in_one_line_that_the_database_failed(
        self, catalog: Run, file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise OperationalError("SELECT secret", {}, Exception("gone"))

        monkeypatch.setattr(imports, "save_chunk", fail)
        monkeypatch.setattr("time.sleep", lambda _: None)

        result = catalog("import", file(TWO))

        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1
        assert "secret" not in result.stderr


class TestImportUsage:
    @pytest.mark.parametrize(
        "option",
        [
            ("--delimiter", ""),
            ("--delimiter", ";;"),
            ("--delimiter", '"'),
            ("--delimiter", "\n"),
            ("--delimiter", "a"),
            ("--decimal", ";"),
            ("--currency", "eur"),
            ("--currency", "XXX"),
            ("--format", "xlsx"),
            ("--encoding", "klingon"),
            ("--map", "colour=name"),
            ("--map", "name"),
            ("--set", "status=public"),
            ("--skip-lines", "some"),
            ("--thousands", "x"),
        ],
        ids=repr,
    )
    def test_is_refused_with_2(self, catalog: Run, file: Callable[..., Path], option: tuple[str, str]) -> None:
        assert catalog("import", file(TWO), *option).exit_code == 2


class TestExport:
    def test_gives_a_file_that_an_import_finds_unchanged(
        self, catalog: Run, file: Callable[..., Path], tmp_path: Path
    ) -> None:
        catalog("import", file(TWO))

        for name in ("out.csv", "out.ndjson"):
            assert catalog("export", tmp_path / name).exit_code == 0
            assert numbers(catalog("import", tmp_path / name))["unchanged"] == 2

    def test_with_ids_is_imported_to_the_letter_too(
        self, catalog: Run, app: Flask, file: Callable[..., Path], tmp_path: Path
    ) -> None:
        catalog("import", file("sku,name,price,category,description\nA-1,Chair,9.90,Chairs,Old\n"))
        exported = catalog("export", "--with-ids").stdout
        (row,) = csv.DictReader(exported.splitlines())

        result = catalog("import", file(exported.replace("Old", "")))

        assert list(row) == ["id", *COLUMNS]
        assert row["id"] == str(rows_of(app, "products")[0][0])
        # The empty cell of another file would leave the description as it was.
        assert numbers(result)["updated"] == 1

    def test_says_the_cursor_of_its_moment_if_wanted(
        self, catalog: Run, file: Callable[..., Path], bob: Caller
    ) -> None:
        catalog("import", file(TWO))

        result = catalog("export", "--cursor")
        catalog("import", file(HEADER + "A-3,Lamp,29.90,Chairs\n"))

        assert len(result.stdout.splitlines()) == 3
        page = body_of(bob.get(f"/events?cursor={result.stderr.strip()}"))
        assert [item["type"] for item in page["items"]] == ["product.hidden"]
        assert catalog("export").stderr == ""

    def test_replaces_a_file_only_when_it_is_whole(
        self, catalog: Run, file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def crash(*_: Any) -> Any:
            yield "half a"
            raise OperationalError("", {}, Exception("gone"))

        monkeypatch.setattr("app.cli.catalog.write_products", crash)
        path = file("what was there", "out.csv")

        result = catalog("export", path)

        assert result.exit_code == 1
        assert path.read_text() == "what was there"
        assert list(tmp_path.iterdir()) == [path]

    def test_writes_into_what_is_no_file(self, catalog: Run, file: Callable[..., Path]) -> None:
        catalog("import", file(TWO))

        assert catalog("export", "/dev/null", "--format", "csv").exit_code == 0
        assert not Path("/dev/null").is_file()

    def test_says_in_one_line_that_the_folder_is_not_there(self, catalog: Run, tmp_path: Path) -> None:
        result = catalog("export", tmp_path / "none" / "out.csv")

        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1

    def test_of_an_empty_catalogue_is_a_header(self, catalog: Run) -> None:
        assert catalog("export").stdout.splitlines() == [",".join(COLUMNS)]


def listed_skus(app: Flask) -> list[str]:
    """The skus of the products that lists show."""
    with app.app_context(), unit_of_work(reading=True):
        return sorted(db.session.scalars(select(Product.sku).where(Product.parent_id.is_(None))))


class TestGenerate:
    def test_adds_products(self, catalog: Run, app: Flask) -> None:
        result = catalog("generate", "--count", "5000")

        assert result.exit_code == 0, result.output
        assert result.stdout.startswith("Generated 5,000 products in ")
        assert len(listed_skus(app)) == 5000
        assert len(rows_of(app, "products")) > 7000

    def test_adds_single_products_alone_if_asked(self, catalog: Run, app: Flask) -> None:
        catalog("generate", "--count", "50", "--parents", "0")

        assert len(rows_of(app, "products")) == 50

    def test_goes_on_where_the_last_run_ended(self, catalog: Run, app: Flask) -> None:
        catalog("generate", "--count", "30")
        catalog("generate", "--count", "20")

        skus = listed_skus(app)
        assert (len(skus), skus[-1]) == (50, "GEN-1-000000050")

    def test_makes_what_an_import_takes(self, catalog: Run, app: Flask, tmp_path: Path) -> None:
        catalog("generate", "--count", "30")
        catalog("export", tmp_path / "out.csv")

        assert numbers(catalog("import", tmp_path / "out.csv"))["unchanged"] == len(rows_of(app, "products"))

    def test_draws_pictures_which_its_products_show_in_turn(self, catalog: Run, app: Flask) -> None:
        result = catalog("generate", "--count", "6", "--images", "2", "--parents", "0")

        assert re.match(r"Drew 2 pictures in ", result.stdout)
        one, other = (row["id"] for row in mappings_of(app, "media_assets"))
        products = sorted(mappings_of(app, "products"), key=lambda row: row["sku"])
        assert [row["image"]["media_id"] for row in products] == [other, one] * 3


class TestDemo:
    def test_loads_into_an_empty_database(self, catalog: Run, app: Flask) -> None:
        result = catalog("demo", "--no-images")

        assert result.exit_code == 0
        assert result.stdout.startswith("Loaded the demo catalogue: ")
        assert len(rows_of(app, "products")) >= 300

    def test_does_nothing_in_another(self, catalog: Run, app: Flask) -> None:
        catalog("demo", "--no-images")
        before = rows_of(app, "products")

        result = catalog("demo", "--no-images")

        assert result.exit_code == 0
        assert result.stdout == "The database is not empty: nothing was loaded.\n"
        assert rows_of(app, "products") == before

    def test_refuses_to_in_production(self, catalog: Run, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(app.config, "APP_ENV", Environment.PRODUCTION)

        result = catalog("demo", "--no-images")

        assert result.exit_code == 1
        assert rows_of(app, "users") == []

    def test_announces_where_and_as_whom(self, catalog: Run) -> None:
        output = catalog("demo", "--announce", "--no-images").stdout

        assert re.findall(r"http://\S+", output) == ["http://127.0.0.1:8000/", "http://127.0.0.1:8000/docs"]
        for login in samples.DEMO_LOGINS:
            assert f"{login.email}  {login.password}" in output

    @pytest.mark.parametrize(
        ("host", "url"),
        [
            ("0.0.0.0", "http://127.0.0.1:80/docs"),
            ("::", "http://[::1]:80/docs"),
            ("fe80::1", "http://[fe80::1]:80/docs"),
        ],
    )
    def test_announces_an_address_that_a_browser_can_open(
        self, catalog: Run, app: Flask, monkeypatch: pytest.MonkeyPatch, host: str, url: str
    ) -> None:
        monkeypatch.setitem(app.config, "HOST", host)
        monkeypatch.setitem(app.config, "PORT", 80)

        assert url in catalog("demo", "--announce", "--no-images").stdout

    def test_announces_no_login_that_does_not_work(self, catalog: Run, file: Callable[..., Path]) -> None:
        catalog("import", file(TWO))

        output = catalog("demo", "--announce", "--no-images").stdout

        assert "flask create-user" in output
        assert "password" not in output

    def test_draws_pictures_that_its_products_show_at_once(
        self, catalog: Run, app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        few = samples.demo_drawings()[:2]
        monkeypatch.setattr(samples, "demo_drawings", lambda: few)

        result = catalog("demo")

        assert re.match(r"Drew 2 pictures in \d+\.\d s\.\nLoaded the demo", result.stdout)
        assert "job_" not in result.stderr
        assert {job["status"] for job in mappings_of(app, "jobs")} == {"succeeded"}
        shown = [row["image"] for row in mappings_of(app, "products") if row["image"] is not None]
        assert {image["media_id"] for image in shown} == {row["id"] for row in mappings_of(app, "media_assets")}
        answer = client.get(f"/media/{shown[0]['sources'][0]['file']}")
        assert (answer.status_code, answer.mimetype) == (200, "image/webp")

    def test_draws_nothing_where_nothing_is_loaded(
        self, catalog: Run, app: Flask, make_product: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_product()
        monkeypatch.setattr(Drawing, "draw", None)

        assert catalog("demo").stdout == "The database is not empty: nothing was loaded.\n"
        assert mappings_of(app, "media_assets") == []

    def test_loads_without_pictures_where_the_store_fails(
        self, catalog: Run, app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setitem(app.extensions, "media_store", ObjectStore((tmp_path / "file" / "media").as_uri()))

        result = catalog("demo")

        assert result.exit_code == 0
        assert "There are no pictures: The media store cannot be reached now" in result.stderr
        assert not any(row["image"] for row in mappings_of(app, "products"))
        assert mappings_of(app, "media_assets") == []


class TestProgress:
    @pytest.mark.parametrize("backend", ["sqlite"])
    def test_is_a_line_now_and_then_where_there_is_no_terminal(
        self, catalog: Run, file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)

        assert catalog("import", file(TWO)).stderr == "Importing: 3 of 3 lines\n"

    @pytest.mark.parametrize("backend", ["sqlite"])
    def test_is_a_bar_on_a_terminal(self, app: Flask, file: Callable[..., Path]) -> None:
        rows = HEADER + "".join(f"S{number},Chair,1.00,Chairs\n" for number in range(3000))
        command = [sys.executable, "-m", "flask", "catalog", "import", str(file(rows))]
        environment = {**os.environ, "DATABASE_URL": app.config["DATABASE_URL"], "TERM": "xterm", "COLUMNS": "100"}
        here, there = os.openpty()

        with subprocess.Popen(
            command, cwd=PROJECT, env=environment, stderr=there, stdout=subprocess.DEVNULL
        ) as process:
            os.close(there)
            shown = b""
            try:
                while piece := os.read(here, 4096):
                    shown += piece
            except OSError:
                pass  # Linux says EIO when the other end is closed
            finally:
                os.close(here)

        assert process.returncode == 0, shown
        assert "━" in shown.decode()


class TestFailures:
    def test_are_one_line_that_hints_at_the_migration(self, catalog: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise OperationalError("SELECT secret", {}, Exception("no such table"))

        monkeypatch.setattr(samples, "load_demo", fail)

        result = catalog("demo", "--no-images")

        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert "flask db upgrade" in line
        assert "secret" not in line


class TestKeptAnswers:
    """A command is another process than those that keep answers, and changes the version as any writer does."""

    def totals(self, bob: Caller) -> tuple[int, int, int]:
        paths = ("/products", "/categories", "/products/facets")
        products, categories, facets = (body_of(bob.get(path)) for path in paths)
        return products["meta"]["total"], categories["meta"]["total"], facets["total"]

    def test_do_not_outlive_an_import(self, bob: Caller, catalog: Run, file: Callable[..., Path]) -> None:
        assert self.totals(bob) == (0, 0, 0)

        assert catalog("import", file(TWO), "--set", "status=active").exit_code == 0

        assert self.totals(bob) == (2, 2, 2)

        changed = TWO.replace("Table", "Desk")
        assert catalog("import", file(changed)).exit_code == 0

        names = {item["name"] for item in body_of(bob.get("/products"))["items"]}
        assert names == {"Chair", "Desk"}

    def test_do_not_outlive_what_is_generated(self, bob: Caller, catalog: Run) -> None:
        assert self.totals(bob) == (0, 0, 0)

        assert catalog("generate", "--count", "5").exit_code == 0

        products, categories, facets = self.totals(bob)
        assert products == facets > 0 < categories
