"""Which breaking changes a decision record accepts: each on a line of its own that repeats the line of the gate."""

import re
from collections.abc import Iterable
from pathlib import Path

from compatibility.changes import Change

_LINE = re.compile(r"^Breaks: (.+?) *$", re.MULTILINE)


def accepted_in(folder: Path) -> frozenset[str]:
    """The texts of the changes that the records in a folder accept."""
    return frozenset(text for record in folder.glob("[0-9]*.md") for text in _LINE.findall(record.read_text("utf-8")))


def undecided(changes: Iterable[Change], accepted: frozenset[str]) -> list[Change]:
    """The changes that no record accepts."""
    return [change for change in changes if str(change) not in accepted]
