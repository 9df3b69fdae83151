"""What keeps a command from its work is one line, exit code 1, and no password."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from click.testing import Result
from flask.testing import FlaskCliRunner

from app import create_app
from tests.conftest import settings_for
from tests.servers import PROJECT, free_port

COMMANDS = [
    ["db", "upgrade"],
    ["db", "current"],
    ["prune"],
    ["worker", "--once"],
    ["catalog", "demo"],
    ["catalog", "generate", "--count", "1"],
    ["create-user", "--email", "a@example.com", "--username", "abc", "--password-stdin"],
    ["api-key", "create", "--email", "a@example.com", "--name", "x", "--scope", "products:read"],
]


def run(database_url: str, command: list[str]) -> Result:
    app = create_app(settings_for(database_url))
    runner: FlaskCliRunner = app.test_cli_runner()
    return runner.invoke(args=command, input="correct horse battery\n")


def ids(command: list[str]) -> str:
    return " ".join(command[:2])


class TestDatabaseFailure:
    @pytest.mark.parametrize("command", COMMANDS, ids=ids)
    def test_is_one_line_when_the_server_is_away(self, command: list[str]) -> None:
        ended = run(f"postgresql+psycopg://catalog:hunter2@127.0.0.1:{free_port()}/catalog", command)

        assert ended.exit_code == 1
        assert ended.stderr.startswith("Error: the database failed: ")
        assert "refused" in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
        assert "hunter2" not in ended.output

    @pytest.mark.parametrize("command", COMMANDS[2:], ids=ids)
    def test_is_one_line_when_the_tables_are_missing(
        self, backend: str, new_database: Callable[[str], str], command: list[str]
    ) -> None:
        ended = run(new_database(backend), command)

        assert ended.exit_code == 1
        assert ended.stderr.endswith("(is `flask db upgrade` done?)\n")
        assert len(ended.stderr.splitlines()) == 1


class TestSettings:
    """What create_app refuses must not be hidden by Flask behind "No such command"."""

    @pytest.mark.parametrize(
        ("package", "environ", "line"),
        [
            ("redis", {"REDIS_URL": "redis://h"}, "REDIS_URL needs the package redis, which requirements/production"),
            (
                "celery",
                {"CELERY_BROKER_URL": "redis://h"},
                "CELERY_BROKER_URL needs the package celery, which requirem",
            ),
            (
                "psycopg",
                {"DATABASE_URL": "postgresql://u:hunter2@h/d"},
                "DATABASE_URL needs the package psycopg, which",
            ),
            ("unused", {"CORS_ORIGIN": "https://hunter2.test"}, "CORS_ORIGIN: did you mean CORS_ORIGINS?"),
        ],
    )
    @pytest.mark.parametrize(
        "program",
        [("flask.cli:main", "db", "upgrade"), ("gunicorn.app.wsgiapp:run", "wsgi:app")],
        ids=["flask", "gunicorn"],
    )
    def test_are_refused_in_one_line(
        self, program: tuple[str, ...], package: str, environ: dict[str, str], line: str
    ) -> None:
        start = "import pkgutil, sys; sys.modules[sys.argv[1]] = None; name = sys.argv[2]; del sys.argv[:2]; "
        ended = subprocess.run(
            [sys.executable, "-c", f"{start}pkgutil.resolve_name(name)()", package, *program],
            cwd=PROJECT,
            env={"PATH": os.environ["PATH"], "APP_ENV": "testing", "SECRET_KEY": "s", "JWT_SECRET_KEY": "j", **environ},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

        assert ended.returncode == 1
        assert ended.stderr.startswith(f"catalog-api: {line}")
        assert len((ended.stdout + ended.stderr).splitlines()) == 1
        assert "hunter2" not in ended.stderr
