"""`make compatible`: fail for a change of openapi.json that breaks clients and that no decision record accepts."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from compatibility.decisions import accepted_in, undecided
from compatibility.documents import breaking_changes
from compatibility.sunsets import past_sunset

PROJECT = Path(__file__).resolve().parent.parent


def newest_release(folder: Path) -> Path:
    """The document of the last release, by the numbers of its version."""
    return max(folder.glob("*.json"), key=lambda path: tuple(map(int, path.stem.split("."))))


def main(arguments: Sequence[str], project: Path = PROJECT) -> int:
    """Compare, print, and return the exit code; arguments are another document, and another of a release."""
    document = Path(arguments[0]) if arguments else project / "openapi.json"
    release = Path(arguments[1]) if arguments[1:] else newest_release(project / "docs" / "releases")
    old, new = (json.loads(path.read_text("utf-8")) for path in (release, document))
    for overdue in past_sunset(new, datetime.now(UTC).date()):
        print(f"Past its sunset, remove it with the next release: {overdue}")
    changes = breaking_changes(old, new)
    open_changes = undecided(changes, accepted_in(project / "docs" / "decisions"))
    if not open_changes:
        print(f"{document.name} breaks no client of {release.stem}; {len(changes)} changes are decided.")
        return 0
    print(f"{len(open_changes)} changes of {document.name} break clients of {release.stem}. Take them back, or let a")
    print("decision record in docs/decisions accept each with a line of its own (docs/versions.md):\n")
    for change in open_changes:
        print(f"Breaks: {change}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
