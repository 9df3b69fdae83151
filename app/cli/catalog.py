"""``flask catalog``: imports and exports products, and creates sample products."""

import contextlib
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import IO, Any

import click
from flask import Flask, current_app
from flask.cli import AppGroup, ScriptInfo, pass_script_info
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.api.tasks import BATCHES, PICTURES
from app.cli.failures import describe_failure
from app.cli.import_options import import_options, load_reading
from app.cli.import_report import print_report, printable
from app.cli.progress import progress
from app.clients.object_store import current_store
from app.core.errors import Refusal
from app.core.snapshots import Snapshot, open_snapshot
from app.core.transactions import unit_of_work
from app.core.worker import Worker
from app.features.categories import service as categories
from app.features.events import service as events
from app.features.exports import service as exports
from app.features.exports.files import SUFFIXES, FileFormat, write_products
from app.features.imports import failed_rows as failed_rows_of
from app.features.imports.importer import Chunk, import_rows
from app.features.imports.models import FileUnreadable
from app.features.imports.reading.files import RowFile, advice_on, read_rows
from app.features.imports.report import NothingImported, Report
from app.features.imports.trees import read_tree
from app.features.media import settling
from app.features.products import indexing
from app.features.samples import gallery, storing
from app.features.samples import service as samples
from app.features.samples.gallery import Drawing, Gallery

#: The exit code of an import in which rows failed.
SOME_ROWS_FAILED = 3

catalog = AppGroup("catalog", help="Import and export products, or create sample products.")


_format = click.option(
    "--format",
    "given_format",
    type=click.Choice([known.value for known in FileFormat]),
    help="Of the file. The default is by its suffix, and csv for standard input and output.",
)


@catalog.command("import", short_help="Create and update products from a CSV or NDJSON file.")
@click.argument("file", type=click.Path(allow_dash=True))
@import_options
@click.option("--dry-run", is_flag=True, help="Report what would happen, and save nothing.")
@click.option(
    "--failed-rows",
    type=click.Path(dir_okay=False),
    help="Write the rows that failed into this file, to be mended and imported again with the same options. Where none"
    " fails, the file stays as it is.",
)
def import_products(*, file: str, dry_run: bool, failed_rows: str | None, **given: Any) -> None:
    """Create and update products from FILE, CSV with a header or NDJSON; - reads standard input.

    A row creates or updates the product with its key, which is the sku unless --key says otherwise; it needs no more
    than the key and what changes. A missing or empty value leaves the field unchanged. A new product needs a sku, a
    name, a price, and a category or category_id, and is a draft unless its row or --set status=active says otherwise
    (DEFAULT_IMPORT_STATUS). Of several rows with one key the first counts: the same again is merged, and another
    content is a fault.

    A category is given by its name, slug or external id, or by its path from the root (Garden > Chairs), and created
    where there is none; so is a brand by its name. Tags are separated by |, attributes are a JSON object, or have a
    column each (attribute.width_cm), read by the type of the attribute. The column type has the code of a product type.

    A product with variants is a row whose options are their names (size|colour). A variant is a row with the sku of
    that product as its parent_sku, and a column for each option (option.size); it needs no more than a sku and a price,
    and has the rest of its product. They may stand in any order.

    The column images has URLs of pictures, or SHA-256 hashes of media that is there, with | between them. They come
    before what a product shows already, and none is taken away. A worker fetches URLs; what fails is listed by
    GET /media?status=failed.

    A column sets the field of its own name, or the one that --map says; the case of names does not matter. Spaces
    around cells are removed, repeated ones within texts collapsed, and what spreadsheets put before a number to keep it
    is taken off. A file whose columns are exactly those of an export is imported literally: spaces are preserved, and
    an empty description, tags, brand or external_id clears the field.

    Rows are saved in chunks of 1,000, each in one transaction. An invalid row is reported with its line and stops no
    other.

    Exits with 0 when all rows were imported, 1 when no row was, or the file or the database failed, 2 on wrong usage, 3
    when some rows failed.
    """
    if failed_rows:
        _require_writable(failed_rows, file)
    started, report, failure = time.monotonic(), Report(), ""
    reading = load_reading(given, lambda options: _defaults(file, options))
    try:
        with _seekable(file) as stream, _failed_rows(failed_rows) as write:
            _import(read_rows(stream, reading), report, dry_run=dry_run, write=write)
        report.require_a_row()
    except (FileUnreadable, NothingImported) as unreadable:
        failure = str(unreadable)
    except OSError as error:
        failure = error.strerror or str(error)
    except (DBAPIError, PoolTimeoutError) as error:
        failure = f"the database failed: {describe_failure(error)}"
    if report.rows:
        print_report(report, seconds=time.monotonic() - started, dry_run=dry_run)
    if failure:
        stopped = f" The import stopped after the row in line {report.last_line}." if report.went_in else ""
        end = "" if failure.endswith("?") else "."
        raise click.ClickException(printable(f"{file}: {failure}{end}{stopped}"))
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
@click.option("--with-ids", is_flag=True, help="Begin each product with its id, by which the change feed names it.")
@click.option(
    "--cursor",
    "with_cursor",
    is_flag=True,
    help="Print the cursor of the change feed at that moment on standard error.",
)
def export_products(*, file: str, given_format: str | None, with_ids: bool, with_cursor: bool) -> None:
    """Write every product to FILE, or to standard output, so that an import restores the same products.

    All are of one moment, however much is written meanwhile. In CSV, a cell that a spreadsheet would interpret as a
    formula gets an apostrophe as prefix, which an import removes; tags are separated by |, and a | within a tag is
    escaped by a backslash. A variant names its product in parent_sku and leaves empty what it has of it. FILE appears
    when it is complete.
    """
    file_format = _format_of(file, given_format)
    pieces = write_products(exports.iter_products(), file_format, with_ids=with_ids)
    with unit_of_work(reading=True):
        snapshot, cursor = _open_snapshot(with_cursor=with_cursor)
    try:
        with snapshot, _output(file) as output, snapshot.reading():
            for piece in pieces:
                output.write(piece.encode())
    except BrokenPipeError:
        raise  # the reader of a pipe has closed it; click exits silently
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
    if cursor:
        click.echo(cursor, err=True)


@catalog.command("generate")
@click.option("--count", type=click.IntRange(1, 10**8), required=True, help="How many products to add.")
@click.option(
    "--seed", type=click.IntRange(0, 10**6), default=1, show_default=True, help="Another seed generates other products."
)
@click.option(
    "--parents",
    type=click.IntRange(0, 100),
    default=15,
    show_default=True,
    help="How many of a hundred products have 2 to 8 variants.",
)
@click.option(
    "--images",
    type=click.IntRange(0, gallery.MAX_DRAWINGS),
    default=0,
    show_default=True,
    help="How many pictures to draw, which the products show in turn.",
)
@pass_script_info
def generate(info: ScriptInfo, *, count: int, seed: int, parents: int, images: int) -> None:
    """Add realistic products, also millions.

    A seed always generates the same products in the same order, with skus GEN-<seed>-<number>; another run continues
    after the last number. The count is of the products that lists show: variants come on top of it.
    """
    pictures = _draw(gallery.various(images), info.load_app())
    started, currency = time.monotonic(), current_app.config["DEFAULT_CURRENCY"]
    with unit_of_work():
        shelves = samples.plant_tree()
        first = samples.next_number(seed)
    with progress("Generating", count, "products") as advance:
        for start in range(first, first + count, samples.PRODUCTS_PER_CHUNK):
            numbers = range(start, min(start + samples.PRODUCTS_PER_CHUNK, first + count))
            with unit_of_work():
                options = {"currency": currency, "parents": parents, "pictures": pictures}
                samples.generate_products(seed, numbers, shelves, **options)
            advance(numbers.stop - first)
    with unit_of_work():
        samples.refresh_statistics()
    seconds = time.monotonic() - started
    click.echo(f"Generated {count:,} products in {seconds:.1f} s, {count / seconds:,.0f} a second.")


@catalog.command("reindex")
def reindex() -> None:
    """Make anew what products are found by: their words and values, and which required attributes they lack.

    For after an upgrade beside servers of the release before, which do not write it all. It may run beside writers, in
    transactions of 200 products each, and may be stopped and run again. Products that were right stay as they are.
    """
    with unit_of_work(reading=True):
        total = indexing.count_listed()
    last_id = done = changed = 0
    with progress("Indexing", total, "products") as advance:
        while True:
            with unit_of_work():
                rebuilt = indexing.rebuild_next(last_id)
            if rebuilt is None:
                break
            last_id, done, changed = rebuilt.last_id, done + rebuilt.products, changed + rebuilt.changed
            advance(done)
    click.echo(f"Indexed {done:,} products; {changed:,} rows were wrong.")


@catalog.command("demo")
@click.option("--announce", is_flag=True, help="Print the API's address and the demo logins.")
@click.option("--images/--no-images", default=True, help="Whether its products have pictures.")
@pass_script_info
def demo(info: ScriptInfo, *, announce: bool, images: bool) -> None:
    """Load the demo catalogue and its three users into an empty database, in one transaction; else do nothing.

    Its pictures are drawn, kept in the media store and rendered before; without the store, it is loaded without them.
    """
    if current_app.config["APP_ENV"] == "production":
        raise click.ClickException("APP_ENV is production: the passwords of the demo users are public.")
    with unit_of_work(reading=True):
        drawings = samples.demo_drawings() if images and samples.is_empty() else ()
    pictures = _draw(drawings, info.load_app())
    with unit_of_work():
        loaded = samples.load_demo(currency=current_app.config["DEFAULT_CURRENCY"], pictures=pictures)
    if loaded:
        products = f"{loaded.products} products with {loaded.variants} variants"
        rows = f"{products} of {loaded.brands} brands in {loaded.categories} categories"
        click.echo(f"Loaded the demo catalogue: {rows}.")
    elif not announce:
        click.echo("The database is not empty: nothing was loaded.")
    if announce:
        _announce()


def _draw(drawings: Sequence[Drawing], app: Flask) -> Gallery:
    """Draw pictures, keep them in the media store, and render them; none, which it says, where the store fails."""
    if not drawings:
        return {}
    started = time.monotonic()
    try:
        with progress("Drawing", len(drawings), "pictures") as advance:
            max_pixels = app.config["MAX_MEDIA_PIXELS"]
            pictures = storing.store_drawings(drawings, current_store(), max_pixels=max_pixels, advance=advance)
    except Refusal as refusal:
        click.echo(f"There are no pictures: {refusal.sentence()}", err=True)
        return {}

    def count_waiting() -> int:
        with app.app_context(), unit_of_work(reading=True):
            return storing.count_unrendered(pictures)

    # The jobs of the pictures, which need no other worker: a picture that is just being rendered elsewhere comes later.
    Worker(PICTURES, app.app_context, stop=lambda: not count_waiting(), level=logging.DEBUG).drain()
    Worker({settling.KIND: BATCHES[settling.KIND]}, app.app_context, level=logging.DEBUG).drain()
    waiting = count_waiting()
    later = f", but for {waiting}, which a worker renders" if waiting else ""
    click.echo(f"Drew {len(pictures)} pictures in {time.monotonic() - started:.1f} s{later}.")
    return pictures


def _open_snapshot(*, with_cursor: bool) -> tuple[Snapshot, str | None]:
    return (
        events.open_snapshot_with_cursor(current_app.config["SECRET_KEYS"]) if with_cursor else (open_snapshot(), None)
    )


def _defaults(file: str, options: dict[str, Any]) -> dict[str, Any]:
    """What the name of a file and the settings say where no option does."""
    return {
        "format": _format_of(file, options.get("format")),
        "delimiter": "\t" if file.lower().endswith(".tsv") else ",",
        "default_currency": current_app.config["DEFAULT_CURRENCY"],
    }


def _import(rows: RowFile, report: Report, *, dry_run: bool, write: Callable[[RowFile, Chunk], None]) -> None:
    status = current_app.config["DEFAULT_IMPORT_STATUS"]
    with progress("Importing", rows.lines, "lines") as advance:
        for chunk in import_rows(rows, status=status, dry_run=dry_run):
            report.add(chunk.report)
            write(rows, chunk)
            advance(report.last_line)


def _require_writable(failed_rows: str, file: str) -> None:
    """Refuse a file of failed rows that cannot be written, before any row is saved."""
    path = Path(failed_rows)
    if file != "-" and path.resolve() == Path(file).resolve():
        raise click.BadParameter("it is the file that is read", param_hint="--failed-rows")
    is_there = path.exists()
    if is_there and not path.is_file():
        return  # to open a pipe twice would end what reads it
    try:
        path.open("ab").close()
        if not is_there:
            path.unlink()
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint="--failed-rows") from None


@contextlib.contextmanager
def _failed_rows(path: str | None) -> Iterator[Callable[[RowFile, Chunk], None]]:
    """A function that writes the failed rows of each chunk into a file, which is made, or made anew, by the first."""
    with contextlib.ExitStack() as stack:
        opened: list[IO[str]] = []

        def write(rows: RowFile, chunk: Chunk) -> None:
            if path is None or not chunk.bad:
                return
            if not opened:
                encoding = failed_rows_of.encoding_of(rows.reading.encoding)
                opened.append(
                    stack.enter_context(Path(path).open("w", encoding=encoding, errors="replace", newline=""))
                )
                opened[0].write(failed_rows_of.head_of(rows))
            opened[0].write(failed_rows_of.text_of(rows, chunk.bad))

        yield write


def _format_of(file: str, given: str | None) -> FileFormat:
    if given:
        return FileFormat(given)
    if file == "-":
        return FileFormat.CSV
    try:
        return SUFFIXES[Path(file).suffix.lower()]
    except KeyError:
        advice = advice_on(file) or "Give --format csv or ndjson; the suffix is of neither."
        raise click.ClickException(f"{file}: {advice}") from None


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
