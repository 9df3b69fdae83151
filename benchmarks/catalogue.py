"""The catalogue that all servers read: a PostgreSQL of its own with generated products, and an editor."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from flask_migrate import upgrade
from sqlalchemy import make_url

from app import create_app
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.users import service as users
from app.security.permissions import Role
from benchmarks import procfs
from config import Config, Environment
from tests.servers import INHERITED, PROJECT, create_database, postgres_server

EMAIL, PASSWORD = "alice@example.com", "a long enough password"
SECRETS = {"secret_key": "benchmark-signing-" * 3, "jwt_secret_key": "benchmark-tokens-" * 3}
#: Nothing may work beside what is measured: the tables are vacuumed and analysed once, when they are full.
POSTGRES = {"shared_buffers": "256MB", "autovacuum": "off"}


@dataclass(frozen=True)
class Catalogue:
    """A database with products in it."""

    url: str
    version: str
    postmaster: int

    @property
    def conninfo(self) -> str:
        """The URL as libpq and asyncpg read it."""
        return make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)

    @property
    def our_environment(self) -> dict[str, str]:
        """What this application needs to serve it."""
        secrets = {name.upper(): value for name, value in SECRETS.items()}
        return {**secrets, "APP_ENV": "production", "DATABASE_URL": self.url, "ACCESS_TOKEN_TTL": "86400"}

    @property
    def peer_environment(self) -> dict[str, str]:
        """What a peer needs to serve it."""
        return {"DATABASE_URL": self.conninfo, "JWT_SECRET_KEY": SECRETS["jwt_secret_key"]}

    def cpu_seconds(self) -> float:
        """The CPU time of all processes of the database since they began."""
        return procfs.cpu_seconds(self.postmaster)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What a statement of ours finds."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()

    def execute(self, statement: str) -> None:
        """Execute a statement of ours."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def catalogue(products: int, *, options: Mapping[str, str] | None = None) -> Iterator[Catalogue]:
    """Start PostgreSQL, and yield a database with that many generated products and one editor."""
    with postgres_server(binaries=_debian(), options=POSTGRES | dict(options or {})) as server:
        url = create_database(server, "bench")
        app = create_app(Config.from_environment({}, app_env=Environment.TESTING, database_url=url, **SECRETS))
        with app.app_context():
            upgrade()
            with unit_of_work():
                users.create_user(email=EMAIL, username="alice", password=PASSWORD, role=Role.EDITOR)
            db.engine.dispose()
        with psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string()) as connection:
            (backend, version) = connection.execute("SELECT pg_backend_pid(), version()").fetchone() or (0, "")
            postmaster = procfs.parent_of(backend)
        made = Catalogue(url, " ".join(version.split()[:2]), postmaster)
        _generate(made, products)
        made.execute("VACUUM ANALYZE")
        yield made


def _generate(catalogue: Catalogue, products: int) -> None:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    command = [sys.executable, "-m", "flask", "catalog", "generate", "--count", str(products)]
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env=inherited | catalogue.our_environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=900,
    )
    if done.returncode:
        sys.exit(f"the products could not be generated:\n{done.stdout}{done.stderr}")


def _debian() -> Path | None:
    """Debian's PostgreSQL where there is one; pip's otherwise."""
    given = os.environ.get("DEBIAN_PG_BIN")
    if given:
        return Path(given)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None
