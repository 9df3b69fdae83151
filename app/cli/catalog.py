"""``flask catalog``: imports and exports products, and creates sample products."""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import IO

import click
from flask import current_app
from flask.cli import AppGroup
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.cli.failures import describe_failure
from app.cli.import_report import print_report, printable
from app.cli.progress import progress
from app.core.money import CURRENCIES
from app.core.transactions import unit_of_work
from app.features.categories import service as categories
from app.features.imports.columns import Columns
from app.features.imports.importer import import_rows
from app.features.imports.models import FileUnreadable, Report
from app.features.imports.reading import Reading, RowFile, read_rows
from app.features.imports.trees import read_tree
from app.features.products import bulk
from app.features.products.files import SUFFIXES, FileFormat, write_products
from app.features.samples import service as samples

#: The exit code of an import in which rows failed.
SOME_ROWS_FAILED = 3

catalog = AppGroup("catalog", help="Import and export products, or create sample products.")


_format = click.option(
    "--format",
    "given_format",
    type=click.Choice([known.value for known in FileFormat]),
    help="Of the file. The default is by its suffix, and csv for standard input and output.",
)


def _one_character(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    value = {"\\t": "\t", "tab": "\t"}.get(value, value)
    if len(value) != 1 or value in '"\r\n\0 ' or value.isalnum():
        raise click.BadParameter("one character that is no letter, digit, quote or space; tab for a tab")
    return value


def _currency(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and value not in CURRENCIES:
        raise click.BadParameter("not an ISO 4217 currency code, such as EUR")
    return value


@catalog.command("import", short_help="Create and update products from a CSV or NDJSON file.")
@click.argument("file", type=click.Path(allow_dash=True))
@_format
@click.option(
    "--delimiter", default=",", show_default=True, callback=_one_character, help="Between a CSV file's cells."
)
@click.option(
    "--decimal", type=click.Choice([".", ","]), default=".", show_default=True, help="The decimal mark of CSV prices."
)
@click.option("--encoding", default="utf-8-sig", show_default=True, help="Of the file, such as cp1252 or utf-16.")
@click.option(
    "--map",
    "pairs",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="The column that sets a field; attributes.NAME=COLUMN sets an attribute.",
)
@click.option(
    "--currency", callback=_currency, help="Of new products whose rows have none.  [default: DEFAULT_CURRENCY]"
)
@click.option("--dry-run", is_flag=True, help="Report what would happen, and save nothing.")
def import_products(
    *,
    file: str,
    given_format: str | None,
    delimiter: str,
    decimal: str,
    encoding: str,
    pairs: tuple[str, ...],
    currency: str | None,
    dry_run: bool,
) -> None:
    """Create and update products from FILE, CSV with a header or NDJSON; - reads standard input.

    A row needs sku, name, price, and category or category_id. It updates the product with its sku; a missing or empty
    value leaves the field unchanged. Of several rows with one sku the first counts and the others are merged. A
    category is given by its name, and created when no category has that name; category_id distinguishes categories of
    the same name. So is a brand; its name takes precedence over brand_id. Tags are separated by |, attributes are a
    JSON object.

    A column sets the field of its own name, or the one that --map says. Spaces around cells are removed, repeated ones
    within texts collapsed; prices have no thousands separators. A file whose columns are exactly those of an export is
    imported literally: spaces are preserved, and an empty description, tags, brand or external_id clears the field.

    Rows are saved in chunks of 1,000, each in one transaction. An invalid row is reported with its line and stops no
    other.

    Exits with 0 when all rows were imported, 1 when the file or the database failed, 2 on wrong usage, 3 when rows
    failed.
    """
    started, report, failure = time.monotonic(), Report(), ""
    ignored: tuple[str, ...] = ()
    try:
        reading = Reading(
            file_format=_format_of(file, given_format),
            encoding=encoding,
            delimiter=delimiter,
            decimal_mark=decimal,
            columns=Columns.parse(pairs),
        )
        with _seekable(file) as stream:
            rows = read_rows(stream, reading)
            ignored = rows.ignored
            _import(rows, report, currency=currency or current_app.config["DEFAULT_CURRENCY"], dry_run=dry_run)
    except FileUnreadable as unreadable:
        failure = str(unreadable)
    except OSError as error:
        failure = error.strerror or str(error)
    except (DBAPIError, PoolTimeoutError) as error:
        failure = f"the database failed: {describe_failure(error)}"
    if report.rows or not failure:
        print_report(report, seconds=time.monotonic() - started, ignored=ignored, dry_run=dry_run)
    if failure:
        stopped = f" The import stopped after the row in line {report.last_line}." if report.rows else ""
        raise click.ClickException(printable(f"{file}: {failure}.{stopped}"))
    if report.failed:
        sys.exit(SOME_ROWS_FAILED)


@catalog.command("import-categories")
@click.argument("file", type=click.File("rb"))
def import_categories(file: IO[bytes]) -> None:
    """Create and update categories from FILE, a JSON array of objects with id, name and path, gzipped or not.

    The path is the list of a category's ancestors, each with id and name, from the root down. The id becomes the slug,
    which identifies the category at the next import. All or nothing.
    """
    try:
        nodes = read_tree(file)
    except FileUnreadable as unreadable:
        raise click.ClickException(printable(f"{file.name}: {unreadable}.")) from None
    with unit_of_work():
        created, changed = categories.upsert_tree(nodes)
    unchanged = len(nodes) - created - changed
    click.echo(f"{len(nodes):,} categories: {created:,} created, {changed:,} changed, {unchanged:,} unchanged.")


@catalog.command("export")
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False), default="-")
@_format
def export_products(file: str, given_format: str | None) -> None:
    """Write every product to FILE, or to standard output, so that an import restores the same products.

    In CSV, a cell that a spreadsheet would interpret as a formula gets an apostrophe as prefix, which an import
    removes; tags are separated by |, and a | within a tag is escaped by a backslash. FILE appears when it is complete.
    """
    pieces = write_products(bulk.iter_products(), _format_of(file, given_format))
    try:
        with _output(file) as output, unit_of_work(reading=True):
            for piece in pieces:
                output.write(piece.encode())
    except BrokenPipeError:
        raise  # the reader of a pipe has closed it; click exits silently
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None


@catalog.command("generate")
@click.option("--count", type=click.IntRange(1, 10**8), required=True, help="How many products to add.")
@click.option(
    "--seed", type=click.IntRange(0, 10**6), default=1, show_default=True, help="Another seed generates other products."
)
def generate(count: int, seed: int) -> None:
    """Add realistic products, also millions.

    A seed always generates the same products in the same order, with skus GEN-<seed>-<number>; another run continues
    after the last number.
    """
    started = time.monotonic()
    with unit_of_work():
        shelves = samples.plant_tree()
        first = samples.next_number(seed)
    with progress("Generating", count, "products") as advance:
        for start in range(first, first + count, samples.PRODUCTS_PER_CHUNK):
            numbers = range(start, min(start + samples.PRODUCTS_PER_CHUNK, first + count))
            with unit_of_work():
                samples.generate_products(seed, numbers, shelves, currency=current_app.config["DEFAULT_CURRENCY"])
            advance(numbers.stop - first)
    with unit_of_work():
        samples.refresh_statistics()
    seconds = time.monotonic() - started
    click.echo(f"Generated {count:,} products in {seconds:.1f} s, {count / seconds:,.0f} a second.")


@catalog.command("demo")
@click.option("--announce", is_flag=True, help="Print the API's address and the demo logins.")
def demo(announce: bool) -> None:
    """Load the demo catalogue and its three users into an empty database, in one transaction; else do nothing."""
    if current_app.config["APP_ENV"] == "production":
        raise click.ClickException("APP_ENV is production: the passwords of the demo users are public.")
    with unit_of_work():
        loaded = samples.load_demo(currency=current_app.config["DEFAULT_CURRENCY"])
    if loaded:
        rows = f"{loaded.products} products of {loaded.brands} brands in {loaded.categories} categories"
        click.echo(f"Loaded the demo catalogue: {rows}.")
    elif not announce:
        click.echo("The database is not empty: nothing was loaded.")
    if announce:
        _announce()


def _import(rows: RowFile, report: Report, *, currency: str, dry_run: bool) -> None:
    with progress("Importing", rows.lines, "lines") as advance:
        for chunk in import_rows(rows.rows, currency=currency, dry_run=dry_run):
            report.add(chunk)
            advance(report.last_line)


def _format_of(file: str, given: str | None) -> FileFormat:
    if given:
        return FileFormat(given)
    if file == "-":
        return FileFormat.CSV
    try:
        return SUFFIXES[Path(file).suffix.lower()]
    except KeyError:
        raise click.ClickException(f"{file}: give --format csv or ndjson; the suffix is of neither.") from None


@contextlib.contextmanager
def _seekable(file: str) -> Iterator[IO[bytes]]:
    """The file, open for reading. A stream, such as standard input, is copied into a temporary file first."""
    with contextlib.ExitStack() as stack:
        given: IO[bytes] = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
        if given.seekable():
            yield given
            return
        copy = stack.enter_context(tempfile.TemporaryFile())
        shutil.copyfileobj(given, copy)
        copy.seek(0)
        yield copy


@contextlib.contextmanager
def _output(file: str) -> Iterator[IO[bytes]]:
    """The output of an export. A regular file gets its name when it is complete, by an atomic rename."""
    if file == "-":
        yield sys.stdout.buffer
        return
    path = Path(file).resolve()
    if path.exists() and not path.is_file():
        with path.open("wb") as pipe:
            yield pipe
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as output:
            yield output
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _announce() -> None:
    host, port = _reachable(current_app.config["HOST"]), current_app.config["PORT"]
    click.echo(f"\n  Begin at        http://{host}:{port}/")
    click.echo(f"  API reference   http://{host}:{port}/docs")
    with unit_of_work(reading=True):
        logins = samples.working_logins()
    for login in logins:
        click.echo(f"  Log in as       {login.email}  {login.password}  ({login.role}, demo only)")
    if not logins:
        click.echo("  Log in as       a user created by: flask create-user")
    click.echo()


def _reachable(host: str) -> str:
    """The host of URLs for a browser on this machine: a loopback address where the server listens on all interfaces."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "[::1]" if address.version == 6 else "127.0.0.1"
    return f"[{host}]" if address.version == 6 else host
