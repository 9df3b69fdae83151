"""docs/extending.md, followed to the letter in a copy of the project."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers import INHERITED, PROJECT

DOCUMENT = (PROJECT / "docs" / "extending.md").read_text("utf-8")
FILES = re.compile(r"^`([\w./]+)`:\n\n```(python|diff)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: What was compiled, and what mypy has found, is copied with the rest: it is as good there.
NOT_COPIED = (
    ".git",
    ".venv",
    "instance",
    ".hypothesis",
    ".pytest_cache",
    ".bench",
    "build",
    "node_modules",
)


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


def commands_of(chapter: str) -> list[str]:
    """The commands of a chapter, in their order."""
    return [command for block in COMMANDS.findall(chapter) for command in block.splitlines()]


def follow(copy: Path, chapter: str) -> list[str]:
    """Write and change the files of a chapter, and run its commands that make files; the names of those changed."""
    changed = []
    for name, kind, text in FILES.findall(chapter):
        path = copy / name
        if kind == "diff":
            changed.append(name)
            text = patched(path.read_text("utf-8"), text)  # noqa: PLW2901 -- the file's new text
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    for command in commands_of(chapter):
        if command.startswith(("make migration", "make openapi")):
            run(copy, command)
    return changed


@pytest.mark.timeout(900)
def test_a_resource_and_a_reference_take_what_the_document_says(copy: Path) -> None:
    resource, reference = DOCUMENT.split("## A reference from another table")

    assert len(follow(copy, resource)) <= 3
    run(copy, "UPDATE_REVIEWED=1 .venv/bin/python -m pytest -q tests/architecture tests/features/suppliers")

    follow(copy, reference)
    run(copy, ".venv/bin/python -m pytest -q tests/features/suppliers tests/architecture/test_product_members.py")
    run(copy, ".venv/bin/python -m ruff check . && .venv/bin/python -m ruff format --check .")
    run(copy, "make layers types")
    migrations = copy / "migrations" / "versions"
    new = [path.name for path in migrations.glob("*.py") if not (PROJECT / path.relative_to(copy)).exists()]
    number = len([*(PROJECT / "migrations" / "versions").glob("*.py")]) + 1
    assert sorted(new) == [f"{number:04}_add_suppliers.py", f"{number + 1:04}_give_products_a_supplier.py"]


def test_every_make_target_of_the_document_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = {word for command in commands_of(DOCUMENT) for word in shlex.split(command)[1:] if "=" not in word}

    assert named <= targets


def test_a_diff_is_applied_in_order() -> None:
    assert patched("a\nb\nc\n", "+0\n a\n-b\n+B\n c\n+d") == "0\na\nB\nc\nd\n"
