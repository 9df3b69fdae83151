"""The results as tables: on the terminal, and between the marks of benchmarks/README.md."""

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks import plot
from benchmarks.aims import app_cpu, rate, verdicts, whole_cpu
from benchmarks.results import Results, Section
from benchmarks.servers import CATALOGUES, HELLO, OURS, OURS_WHOLE, PEERS, version_of
from tests.servers import PROJECT

README = PROJECT / "benchmarks" / "README.md"
RESULTS = PROJECT / "benchmarks" / "results.json"
PLOT = PROJECT / "benchmarks" / "results.svg"
_TITLES = {server.name: server.title for server in (OURS, OURS_WHOLE, HELLO, *CATALOGUES)}
_PACKAGES = (
    "fastapi", "django", "djangorestframework", "django-ninja", "litestar", "msgspec", "asyncpg", "psycopg", "uvicorn",
)  # fmt: skip
#: What a reader must know of a scenario.
_NOTES = {
    "list": "The first pages of a category by price, with the exact total.",
    "category": "Pages of a category and of everything below it.",
    "search": "Two words that begin words of a name, newest first.",
    "search-miss": "A word that nothing is like: the search is repeated for words that are alike, and finds nothing.",
    "facets": "Of a category: counts by category, brand, tag, price, stock and status, each without its filter.",
    "create": "This application writes the audit trail, the stock ledger and the change feed besides; no peer does.",
    "create-durable": "The same with `fsync` and `synchronous_commit` on: each commit waits for the disk.",
    "stock": "A receipt or a sale of one, holds looked at; this application writes audit trail and feed besides.",
    "mix": "95 % reads (details, lists, categories, searches) and 5 % writes (a product, a movement of stock).",
    "repeated": "What real traffic is: the same request again, with limits, log and cache on, beside a bare hello.",
    "keyset": "Two pages of one walk by cursors, of this application alone.",
    "login": "argon2id of the same cost; this application counts failures and stores a refresh token besides.",
}


def print_section(section: Section) -> None:
    """Print one table."""
    print("\n".join(_section(section)), flush=True)


def print_results(results: Results) -> None:
    """Print what goes beyond single scenarios: the workers and the aims."""
    print("\n".join(_summary(results)), flush=True)


def write_results(results: Results) -> None:
    """Keep everything: the figures, every table between the marks of the README, and the plot."""
    results.write(RESULTS)
    lines = [line for section in results.sections for line in _section(section)]
    replace_section(README, "comparison", ["", _versions(), *lines, *_summary(results)])
    PLOT.write_text(plot.draw(results, _TITLES), "utf-8")


def replace_section(file: Path, name: str, lines: Iterable[str]) -> None:
    """Replace what stands between <!-- name --> and <!-- /name --> in a file."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    before, _, rest = file.read_text("utf-8").partition(begin)
    _, _, after = rest.partition(end)
    file.write_text(before + begin + "\n".join(lines) + "\n" + end + after, "utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table whose first column is text and whose others are numbers, aligned for the terminal."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        padded = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True))]
        return f"| {' | '.join(padded)} |"

    yield line(head)
    yield f"|{'-' * (widths[0] + 2)}|" + "|".join(f"{'-' * (width + 1)}:" for width in widths[1:]) + "|"
    yield from map(line, rows)


def _section(section: Section) -> Iterator[str]:
    yield from ("", f"### {section.scenario}, {section.connections} connections", "")
    yield f"{_NOTES.get(section.scenario, '')} {section.how}".strip()
    yield ""
    names = list(section.measured)
    first = names[0]
    head = (
        "", "CPU, µs", "of the database, µs", f"CPU / {_TITLES.get(first, first)} (range)", "with the database",
        "requests/s", "p50, ms", "p99, ms",
    )  # fmt: skip
    rows: list[Sequence[str]] = []
    for name in names:
        whole = section.ratio(name, first, whole_cpu)
        rows.append(
            (
                _TITLES.get(name, name),
                f"{section.of(name, app_cpu).median:,.0f}",
                f"{section.of(name, lambda m: m.database_cpu_us).median:,.0f}",
                str(section.ratio(name, first, app_cpu)),
                "–" if whole is None else f"{whole.median:.2f}",
                f"{section.of(name, rate).median:,.0f}",
                f"{section.of(name, lambda m: m.p50_ms).median:.1f}",
                f"{section.of(name, lambda m: m.p99_ms).median:.1f}",
            )
        )
    if first == OURS.name:
        absent = [server.title for server in CATALOGUES if server.name not in section.measured]
        rows.extend([title, *("–" for _ in head[1:])] for title in absent)
    yield from table(head, rows)


def _summary(results: Results) -> Iterator[str]:
    if results.workers:
        yield from ("", "### Workers", "")
        rows = [
            (_TITLES[name], f"{each.private_mib:.0f}", f"{each.start_seconds:.2f}", f"{each.start_cpu_seconds:.2f}")
            for name, each in results.workers.items()
        ]
        yield from table(("", "private memory of a worker, MiB", "from start to first answer, s", "CPU of it, s"), rows)
    if results.steady is not None:
        yield ""
        yield (
            f"A steady mix of {results.steady.requests:,} requests at a fixed rate: p50 {results.steady.p50_ms:.0f} ms,"
            f" p99 {results.steady.p99_ms:.0f} ms, {results.steady.errors} errors."
        )
    loads = [
        section.of(name, lambda m: m.load_cpu_us / m.app_cpu_us).most
        for section in results.sections
        for name in section.measured
        if name != HELLO.name
    ]
    if loads:
        yield from ("", f"wrk took at most {max(loads):.0%} of the CPU of the server that it loaded.")
    yield from ("", "### Aims", "")
    aims = [
        (
            verdict.what,
            f"{'≤' if verdict.at_most else '≥'} {verdict.floor:g}",
            f"{verdict.aim:g}",
            "–" if verdict.measured is None else str(verdict.measured),
            verdict.word,
        )
        for verdict in verdicts(results)
    ]
    yield from table(("What", "Floor", "Aim", "Measured (range)", ""), aims)
    yield ""


def _versions() -> str:
    """What was compared."""
    pinned: dict[str, str] = {}
    for server in CATALOGUES:
        for line in (PEERS / server.name / "requirements.txt").read_text("utf-8").splitlines():
            name, _, number = line.partition(";")[0].strip().partition("==")
            pinned.setdefault(name, number)
    parser = version_of("gunicorn_h1c")
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, two workers each."
        f" gunicorn {version('gunicorn')} with {f'the C parser {parser}' if parser else 'its parser in Python'},"
        f" {', '.join(f'{name} {pinned[name]}' for name in _PACKAGES)}."
    )
