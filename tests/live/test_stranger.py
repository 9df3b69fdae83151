"""schemathesis as a stranger runs it: its command line and all checks, over the wire, against the demo catalogue.

tests/web/test_schemathesis.py runs the same within the process, with credentials that no request can end. The phase
``coverage`` would take two minutes more here; with STRANGER=whole it runs too, and as many examples as by default.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.security.permissions import Role
from tests.live.conftest import SECRETS
from tests.live.wire import Answer, Client
from tests.servers import INHERITED, PROJECT, GunicornServer, gunicorn_server

IS_WHOLE = os.environ.get("STRANGER", "") == "whole"
SEED = os.environ.get("SCHEMATHESIS_SEED", "20")
#: What keeps a run short.
FEW = ["--phases", "examples,fuzzing,stateful", "--max-examples", "1"]
BUDGET_SECONDS = 3600 if IS_WHOLE else 240

pytestmark = [pytest.mark.live, pytest.mark.timeout(BUDGET_SECONDS + 30)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornServer]:
    """The demo catalogue, on a database of its own."""
    database = tmp_path_factory.mktemp("stranger") / "catalog.db"
    settings = {"DATABASE_URL": f"sqlite:///{database}", "RATE_LIMIT_ENABLED": "false", "LOG_LEVEL": "ERROR", **SECRETS}
    for command in (("db", "upgrade"), ("catalog", "demo", "--no-images")):
        subprocess.run([sys.executable, "-m", "flask", *command], cwd=PROJECT, env=_environment(settings), check=True)
    with gunicorn_server(settings, workers=1, threads=4) as server:
        yield server


def _environment(settings: dict[str, str]) -> dict[str, str]:
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | settings


@pytest.mark.parametrize("role", [None, Role.USER, Role.ADMIN], ids=lambda role: role or "nobody")
def test_a_stranger_finds_no_failure(server: GunicornServer, role: Role | None) -> None:
    token = _log_in(server, role) if role else None

    run = _run_schemathesis(f"{server.url}/openapi.json", *(["-H", f"Authorization: Bearer {token}"] if token else []))

    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr
    assert re.search(r"✅ +Stateful", run.stdout), run.stdout
    # Or else the run may have been one of an anonymous client.
    assert not token or _ask(server, "GET", "/users/me", token=token).status == 200


def _run_schemathesis(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("st")), "run", *arguments, "--seed", SEED]
    command += ["--generation-database", "none", "--no-color", *([] if IS_WHOLE else FEW)]
    return subprocess.run(
        command,
        cwd=PROJECT,
        env=_environment({}),
        capture_output=True,
        text=True,
        timeout=BUDGET_SECONDS,
        check=False,
    )


def _log_in(server: GunicornServer, role: Role) -> str:
    credentials = {"email": f"{role}@example.com", "password": f"demo-{role}-password"}
    answer = _ask(server, "POST", "/auth/login", credentials)
    assert answer.status == 200, answer.body
    return str(answer.json["access_token"])


def _ask(server: GunicornServer, method: str, path: str, content: Any = None, token: str | None = None) -> Answer:
    with closing(Client(server.port, token)) as client:
        return client.call(method, path, content)
