"""The report that ``flask catalog import`` prints at its end."""

from collections.abc import Collection, Iterator

import click

from app.features.imports.report import FaultGroup, Report

#: Lines per section of the report.
MAX_LINES = 20


def print_report(report: Report, *, seconds: float, dry_run: bool) -> None:
    """Print the counts, what became public, what was left unread or made, and the faults."""
    click.echo("Dry run: nothing was saved." if dry_run else "Imported.")
    for name in ("created", "updated", "unchanged", "merged", "failed"):
        click.echo(f"  {name:<10}{getattr(report, name):>10,}")
    click.echo(f"  {'rows':<10}{report.rows:>10,}  in {seconds:.1f} s, {report.rows / max(seconds, 0.001):,.0f} rows/s")
    for line in (*_products(report), *_images(report), *_named(report), *_faults(report)):
        click.echo(printable(line))


def printable(line: str) -> str:
    """The line, with U+FFFD for unprintable characters: a name in a file may contain terminal control sequences."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


def _products(report: Report) -> Iterator[str]:
    for status in ("active", "draft", "archived"):
        if number := getattr(report, f"made_{status}"):
            public = ", and public" if status == "active" else ""
            yield f"Products made {status}{public}: {number:,}"
    if report.stock_assumed:
        yield f"New products without a stock in the file, which have 0: {report.stock_assumed:,}"


def _images(report: Report) -> Iterator[str]:
    if report.images:
        later = f", of which a worker fetches or renders {report.images_pending:,}" if report.images_pending else ""
        yield f"Images stated by rows: {report.images:,}{later}"


def _named(report: Report) -> Iterator[str]:
    if report.unread_columns:
        yield f"Columns that set no field: {', '.join(report.unread_columns)}"
    yield from _made("Categories", report.made_categories)
    yield from _made("Brands", report.made_brands)


def _made(what: str, names: Collection[str]) -> Iterator[str]:
    if names:
        yield f"{what} created: {len(names)}"
        yield from _first([f"  {name}" for name in names])


def _faults(report: Report) -> Iterator[str]:
    if report.failed:
        yield f"Rows that failed: {report.failed:,}"
        yield from _first([_fault(group) for group in report.fault_groups])


def _fault(group: FaultGroup) -> str:
    lines = ", ".join(map(str, group.lines))
    where = f"line {lines}" if group.count == 1 else f"{group.count:,} times, lines {lines}"
    more = ", ..." if group.count > len(group.lines) else ""
    values = " ".join(f"'{value}'" for value in group.values)
    said = " ".join(part for part in (f"{group.column}:" if group.column else "", values, group.detail) if part)
    expected = f" Expected: {group.expected}." if group.expected else ""
    return f"  {where}{more}: {said}{expected} [{group.code}]"


def _first(lines: list[str]) -> Iterator[str]:
    yield from lines[:MAX_LINES]
    if len(lines) > MAX_LINES:
        yield "  ... and more"
