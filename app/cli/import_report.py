"""The report that ``flask catalog import`` prints at its end."""

from collections.abc import Collection, Iterable, Iterator

import click

from app.features.imports.models import Report

#: Lines per section of the report.
MAX_LINES = 20


def print_report(report: Report, *, seconds: float, ignored: Iterable[str], dry_run: bool) -> None:
    """Print the counts, the ignored columns, the categories, the brands and the errors."""
    click.echo("Dry run: nothing was saved." if dry_run else "Imported.")
    for name in ("created", "updated", "unchanged", "merged", "failed"):
        click.echo(f"  {name:<10}{getattr(report, name):>10,}")
    click.echo(f"  {'rows':<10}{report.rows:>10,}  in {seconds:.1f} s, {report.rows / max(seconds, 0.001):,.0f} rows/s")
    for line in (*_columns(list(ignored)), *_other_rows(report), *_errors(report)):
        click.echo(printable(line))


def printable(line: str) -> str:
    """The line, with U+FFFD for unprintable characters: a name in a file may contain terminal control sequences."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


def _columns(ignored: list[str]) -> Iterator[str]:
    if ignored:
        yield f"Columns that set no field: {', '.join(ignored)}"


def _other_rows(report: Report) -> Iterator[str]:
    yield from _made("Categories", report.made_categories)
    yield from _made("Brands", report.made_brands)
    if report.kept_categories:
        yield "Merged rows whose category differs from that of the sku's first row, which was kept:"
        pairs = report.kept_categories.most_common()
        yield from _first([f"  {count:>7,}  kept {kept!r}, not {other!r}" for (kept, other), count in pairs])


def _made(what: str, names: Collection[str]) -> Iterator[str]:
    if names:
        yield f"{what} created: {len(names)}"
        yield from _first([f"  {name}" for name in names])


def _errors(report: Report) -> Iterator[str]:
    if report.failed:
        yield f"Rows that failed: {report.failed:,}"
        lines = [
            f"  line {error.line}: {error.field + ': ' if error.field else ''}{error.sentence} [{error.code}]"
            for error in report.errors
        ]
        yield from _first(lines)


def _first(lines: list[str]) -> Iterator[str]:
    yield from lines[:MAX_LINES]
    if len(lines) > MAX_LINES:
        yield "  ... and more"
