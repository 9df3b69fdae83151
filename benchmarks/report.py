"""The results as tables: on the terminal, and between the marks of benchmarks/README.md."""

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import plot
from benchmarks.aims import app_cpu, rate, verdicts, whole_cpu
from benchmarks.results import Results
from benchmarks.servers import CATALOGUES, HELLO, OURS, OURS_WHOLE, PEERS
from tests.servers import PROJECT

README = PROJECT / "benchmarks" / "README.md"
PLOT = PROJECT / "benchmarks" / "results.svg"
_TITLES = {server.name: server.title for server in (OURS, OURS_WHOLE, HELLO, *CATALOGUES)}
_PACKAGES = ("fastapi", "django", "djangorestframework", "litestar", "msgspec", "asyncpg", "psycopg", "uvicorn")


def print_results(results: Results) -> None:
    """Print every table."""
    print("\n".join(_lines(results)))


def write_results(results: Results) -> None:
    """Put every table between the marks of the README, and the plot beside it."""
    replace_section(README, "comparison", _lines(results))
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


def _lines(results: Results) -> Iterator[str]:
    yield ""
    yield (
        f"`{results.command}`, {datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, Python"
        f" {platform.python_version()}, {results.database}, {results.products:,} products, two workers each;"
        f" rounds of {results.seconds:.0f} s in turns, {results.rounds} of them, {results.minutes:.0f} minutes in all."
        f" gunicorn {version('gunicorn')}, {', '.join(_versions())}."
    )
    for scenario, connections in results.measured:
        yield from ("", f"### {scenario}, {connections} connections", "")
        yield from _scenario(results, scenario, connections)
    yield from ("", "### Workers", "")
    yield from _workers(results)
    if results.steady is not None:
        yield ""
        yield (
            f"A steady mix of {results.steady.requests:,} requests at a fixed rate: p50 {results.steady.p50_ms:.0f} ms,"
            f" p99 {results.steady.p99_ms:.0f} ms, {results.steady.errors} errors."
        )
    yield from ("", "### Aims", "")
    rows = [
        (
            verdict.what,
            f"{'≤' if verdict.at_most else '≥'} {verdict.floor:g}",
            f"{verdict.aim:g}",
            "–" if verdict.measured is None else str(verdict.measured),
            verdict.word,
        )
        for verdict in verdicts(results)
    ]
    yield from table(("What", "Floor", "Aim", "Measured (range)", ""), rows)
    yield ""


def _scenario(results: Results, scenario: str, connections: int) -> Iterator[str]:
    names = list(results.measured[scenario, connections])
    first = names[0]
    head = (
        "", "CPU, µs", "of the database, µs", f"CPU / {_TITLES.get(first, first)} (range)", "with the database",
        "requests/s", "p50, ms", "p99, ms",
    )  # fmt: skip
    rows = []
    for name in names:
        cpu = results.ratio(scenario, connections, name, first, app_cpu)
        whole = results.ratio(scenario, connections, name, first, whole_cpu)
        rows.append(
            (
                _TITLES.get(name, name),
                f"{results.of(scenario, connections, name, app_cpu).median:,.0f}",
                f"{results.of(scenario, connections, name, lambda m: m.database_cpu_us).median:,.0f}",
                str(cpu),
                "–" if whole is None else f"{whole.median:.2f}",
                f"{results.of(scenario, connections, name, rate).median:,.0f}",
                f"{results.of(scenario, connections, name, lambda m: m.p50_ms).median:.1f}",
                f"{results.of(scenario, connections, name, lambda m: m.p99_ms).median:.1f}",
            )
        )
    yield from table(head, rows)


def _workers(results: Results) -> Iterator[str]:
    rows = [
        (
            _TITLES[name],
            f"{results.private_mib.get(name, 0):.0f}",
            f"{seconds:.2f}",
            f"{results.start_cpu_seconds[name]:.2f}",
        )
        for name, seconds in results.start_seconds.items()
        if name in results.private_mib
    ]
    yield from table(("", "private memory of a worker, MiB", "from start to first answer, s", "CPU of it, s"), rows)


def _versions() -> Iterator[str]:
    """The versions that the peers are pinned to."""
    pinned: dict[str, str] = {}
    for server in CATALOGUES:
        for line in (PEERS / server.name / "requirements.txt").read_text("utf-8").splitlines():
            name, _, number = line.partition(";")[0].strip().partition("==")
            pinned.setdefault(name, number)
    return (f"{name} {pinned[name]}" for name in _PACKAGES)
