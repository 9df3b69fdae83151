"""docs/extending.md, followed to the letter in a copy of the project."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import INHERITED, PROJECT

DOCUMENT = (PROJECT / "docs" / "extending.md").read_text("utf-8")
FILES = re.compile(r"^`([\w./]+)`:\n\n```(python|diff)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NOT_COPIED = (".git", ".venv", "instance", "__pycache__", ".hypothesis", ".pytest_cache", ".bench")


def patched(text: str, diff: str) -> str:
    """A text with the lines of a diff that has no line numbers.

    Lines with a blank or a minus are in the text, in this order. One with a plus goes behind the line before it, or
    before the first.
    """
    lines, place, first = text.splitlines(), 0, []
    for line in diff.splitlines():
        mark, content = line[:1], line[1:]
        if mark == "+" and not place:
            first.append(content)
        elif mark == "+":
            lines.insert(place, content)
            place += 1
        else:
            place = lines.index(content, place)
            lines[place:place], place, first = first, place + len(first), []
            if mark == "-":
                del lines[place]
            else:
                place += 1
    return "\n".join(lines) + "\n"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project with the same installed packages."""
    copy = tmp_path / "catalog"
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
    (copy / ".venv").symlink_to(PROJECT / ".venv")
    return copy


def run(copy: Path, command: str) -> None:
    """Run a command in the copy, with nothing of this test's environment."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | {"UV": ""}
    done = subprocess.run(
        command, shell=True, cwd=copy, env=environment, capture_output=True, text=True, timeout=300, check=False
    )  # the commands are the document's own
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def documented_commands() -> Iterator[str]:
    for block in COMMANDS.findall(DOCUMENT):
        yield from block.splitlines()


@pytest.mark.timeout(600)
def test_a_new_resource_takes_what_the_document_says(copy: Path) -> None:
    edited = []
    for name, kind, text in FILES.findall(DOCUMENT):
        path = copy / name
        if kind == "diff":
            edited.append(name)
            text = patched(path.read_text("utf-8"), text)  # noqa: PLW2901 -- the file's new text
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")

    run(copy, next(command for command in documented_commands() if command.startswith("make migration")))
    run(copy, "make openapi")
    run(copy, "make layers types")
    run(copy, ".venv/bin/python -m ruff check . && .venv/bin/python -m ruff format --check .")
    run(copy, ".venv/bin/python -m pytest -q tests/features/brands tests/architecture/test_resources.py")

    assert len(edited) <= 3
    migrations = {path.name for path in (copy / "migrations" / "versions").glob("*.py")}
    assert [name for name in migrations if not (PROJECT / "migrations" / "versions" / name).exists()] == [
        "0009_add_brands.py"
    ]


def test_every_make_target_of_the_document_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = {word for command in documented_commands() for word in command.split()[1:] if "=" not in word}

    assert {word for word in named if re.fullmatch("[a-z-]+", word)} <= targets


def test_a_diff_is_applied_in_order() -> None:
    assert patched("a\nb\nc\n", "+0\n a\n-b\n+B\n c\n+d") == "0\na\nB\nc\nd\n"
