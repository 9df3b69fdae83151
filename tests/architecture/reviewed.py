"""Tables that a person has reviewed, kept beside the tests."""

import os
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent


def assert_reviewed(name: str, table: str) -> None:
    """Compare with the stored table; with UPDATE_REVIEWED=1 in the environment, store this one for review instead."""
    path = HERE / name
    if os.environ.get("UPDATE_REVIEWED"):
        path.write_text(table, "utf-8")
    assert table == path.read_text("utf-8"), f"{name}: review, then store it with UPDATE_REVIEWED=1:\n{table}"


def table_of(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Rows of text below their head, in columns."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join(text.rstrip() for text in texts) + "\n"
