"""What tests/leaks.py finds, and that a test which writes it fails."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry, Counter, generate_latest

from app.features.passwords.service import sign_reset
from app.security import api_keys, signatures
from app.security.passwords import hash_password
from app.security.permissions import Role
from app.security.tokens import issue_access_token
from tests.conftest import PASSWORD, on_one_database, settings_for
from tests.leaks import SEARCHED, leaks_in
from tests.live.conftest import SECRETS
from tests.servers import PROJECT

#: Each as the application makes it.
SECRETS_OF = {
    "token": lambda _: issue_access_token(user_id=1, session_id=2, role=Role.ADMIN),
    "API key": lambda _: api_keys.format_key(12, api_keys.make_secret()),
    "secret of an app": lambda _: api_keys.format_key(12, api_keys.make_secret(), prefix=api_keys.CLIENT_PREFIX),
    "webhook": lambda _: signatures.make_secret(),
    "reset": lambda app: sign_reset(1, 0, "bob@example.com", keys=app.config["SECRET_KEYS"]),
    "hash": lambda _: hash_password(PASSWORD),
    "password": lambda _: PASSWORD,
    "password in a form": lambda _: PASSWORD.replace(" ", "+"),
    "address": lambda _: "bob@example.com",
    "address in a path": lambda _: "/users/bob%40shop.example",
    "signing key": lambda _: str(settings_for("sqlite://").jwt_secret_key),
    "signing key of a server": lambda _: SECRETS["SECRET_KEY"],
    "search text": lambda _: f"search={SEARCHED.title()}",
}
WRITES = """
import sys
from prometheus_client import Counter

def test_writes_nothing():
    sys.stderr.write("a line\\n")

def test_writes_a_secret():
    sys.stderr.write("a line\\nbob@example.com is here\\n")

def test_counts_by_address():
    Counter("logins", "Logins.", ("account",)).labels("carol@example.com").inc()
"""


@on_one_database
@pytest.mark.parametrize("made", SECRETS_OF.values(), ids=SECRETS_OF)
def test_finds_whatever_is_made(app: Flask, made: Callable[[Flask], str]) -> None:
    with app.app_context():
        secret = made(app)

    for line in (secret, f'{{"event":"any","told":"{secret}"}}', f"told={secret} more"):
        assert len(leaks_in(f"before\n{line}\nafter")) == 1


def test_finds_it_in_metrics() -> None:
    registry = CollectorRegistry()
    Counter("logins", "Logins.", ("account",), registry=registry).labels("bob@example.com").inc()

    assert leaks_in(generate_latest(registry).decode())


@pytest.mark.parametrize(
    "line",
    [
        "GET /api/v1/products/by/sku/WIDGET-1 200 4 ms 2 q req=1c58d087",
        '{"event":"request","path":"/api/v1/api-keys","user_id":7,"request_id":"ff3d4bb1d761779ddadcd9edefc83ab8"}',
        "connecting to postgresql+psycopg://postgres@/catalog?host=/tmp/pg and redis://127.0.0.1:6379/0",
        'catalog_http_requests_total{route="/api/v1/auth/login",status="4xx"} 5.0',
        'File "app/core/worker.py", line 12, in run: @property',
    ],
)
def test_finds_nothing_in_an_ordinary_line(line: str) -> None:
    assert leaks_in(line) == []


def test_fails_the_test_that_writes_it_and_the_session_that_counts_it(tmp_path: Path) -> None:
    test = tmp_path / "test_writing.py"
    test.write_text(WRITES)

    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "tests.no_leaks", "-p", "no:cacheprovider"),
            *("-p", "no:randomly", "-c", "/dev/null", "--rootdir", tmp_path, test),
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert "1 failed, 2 passed, 1 error" in done.stdout
    assert re.search(r"^FAILED \S*test_writing.py::test_writes_a_secret", done.stdout, re.MULTILINE)
    assert "an e-mail address: bob@example.com is here" in done.stdout
    assert re.search(r"^ERROR \S*test_writing.py::test_counts_by_address", done.stdout, re.MULTILINE)
    assert 'an e-mail address: logins_total{account="carol@example.com"} 1.0' in done.stdout
