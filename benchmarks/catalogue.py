"""The catalogue that all servers read: a PostgreSQL of its own with generated products, and an editor."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from flask_migrate import upgrade
from sqlalchemy import insert, make_url

from app import create_app
from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.sessions.models import UserSession
from app.features.users import service as users
from app.features.users.models import User
from app.security.permissions import Role
from app.security.tokens import MAX_CACHED_TOKENS, issue_access_token
from benchmarks import procfs
from config import Config, Environment
from tests.servers import INHERITED, PROJECT, create_database, postgres_server

EMAIL, PASSWORD = "alice@example.com", "a long enough password"
SECRETS = {"secret_key": "benchmark-signing-" * 3, "jwt_secret_key": "benchmark-tokens-" * 3}
#: Editors who are logged in. Each is heard of again only after all the others, and by then neither of two workers of
#: ours, which remember some tokens, has kept its.
EDITORS = 10 * MAX_CACHED_TOKENS
#: Nothing may work beside what is measured: the tables are vacuumed and analysed once, when they are full.
POSTGRES: dict[str, str | None] = {"shared_buffers": "256MB", "autovacuum": "off"}
#: Whether a commit waits for the disk: on in production, off in most of what is measured. None leaves them to
#: ALTER SYSTEM, which the command line would outdo.
_DURABILITY = ("fsync", "full_page_writes", "synchronous_commit")


@dataclass(frozen=True)
class Catalogue:
    """A database with products in it."""

    url: str
    version: str
    postmaster: int
    #: One for each editor.
    tokens: Sequence[str]

    @property
    def conninfo(self) -> str:
        """The URL as libpq and asyncpg read it."""
        return make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)

    @property
    def our_environment(self) -> dict[str, str]:
        """What this application needs to serve it."""
        secrets = {name.upper(): value for name, value in SECRETS.items()}
        media = Path(tempfile.gettempdir(), "catalog-benchmark-media").as_uri()
        return {
            **secrets,
            "APP_ENV": "production",
            "DATABASE_URL": self.url,
            "MEDIA_STORE": media,
            "ACCESS_TOKEN_TTL": "86400",
        }

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
    def durable(self) -> Iterator[None]:
        """Let commits wait until the disk has them, as in production."""
        self.set_durability(on=True)
        try:
            yield
        finally:
            self.set_durability(on=False)

    def set_durability(self, *, on: bool) -> None:
        """Whether commits wait, from now on, until the disk has them."""
        self.configure(dict.fromkeys(_DURABILITY, "on" if on else "off"))

    def configure(self, settings: Mapping[str, str]) -> None:
        """Change settings that need no restart, as SHOW prints them, and wait until they hold."""
        for name, value in settings.items():
            self.execute(f"ALTER SYSTEM SET {name} = {value}")
        self.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + 10
        while any(self.rows(f"SHOW {name}") != [(value,)] for name, value in settings.items()):
            if time.monotonic() > deadline:
                sys.exit(f"PostgreSQL does not take {dict(settings)}")
            time.sleep(0.05)

    def copy(self, name: str) -> "Catalogue":
        """A database of its own with the same content, on the same server."""
        self.execute(f"CREATE DATABASE {name} TEMPLATE {make_url(self.url).database}")
        # The copy is written to the disk now, and not while something is measured.
        self.execute("CHECKPOINT")
        return replace(self, url=make_url(self.url).set(database=name).render_as_string(hide_password=False))


@contextmanager
def catalogue(products: int, *, parents: int = 0, options: Mapping[str, str] | None = None) -> Iterator[Catalogue]:
    """Start PostgreSQL, and yield a database with that many generated products and the editors.

    Of a hundred products, ``parents`` have 2 to 8 variants.
    """
    settings = POSTGRES | dict.fromkeys(_DURABILITY) | dict(options or {})
    with postgres_server(binaries=_debian(), options=settings) as server:
        url = create_database(server, "bench")
        with psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string()) as connection:
            (backend, version) = connection.execute("SELECT pg_backend_pid(), version()").fetchone() or (0, "")
            postmaster = procfs.parent_of(backend)
        empty = Catalogue(url, " ".join(version.split()[:2]), postmaster, ())
        empty.set_durability(on=False)
        made = replace(empty, tokens=_fill(url))
        _generate(made, products, parents)
        made.execute("VACUUM ANALYZE")
        yield made


def _fill(url: str) -> list[str]:
    """Make the tables, and in them alice and the editors; gives the editors' tokens."""
    config = Config.from_environment(
        {}, app_env=Environment.TESTING, database_url=url, access_token_ttl=86400, **SECRETS
    )
    app = create_app(config)
    with app.app_context():
        upgrade()
        with unit_of_work():
            users.create_user(email=EMAIL, username="alice", password=PASSWORD, role=Role.EDITOR)
            tokens = _log_editors_in()
        db.engine.dispose()
    return tokens


def _log_editors_in() -> list[str]:
    """Add the editors, each with a session, and give a token for each."""
    people = [
        {
            "email": f"editor-{number}@example.com",
            "username": f"editor-{number}",
            "password_hash": "!",
            "role": Role.EDITOR,
            "search_text": f"editor-{number}",
        }
        for number in range(EDITORS)
    ]
    made = insert(User).returning(User.id, sort_by_parameter_order=True)
    ids = db.session.scalars(made, people).all()
    # The last use lies ahead and so is never stored: we alone would otherwise do that, once a minute for each session.
    now = clock.now()
    seen = {"last_seen_at": now + timedelta(days=1), "expires_at": now + timedelta(days=2)}
    opened = insert(UserSession).returning(UserSession.id, sort_by_parameter_order=True)
    rows = [{"user_id": user_id, "device": "benchmark", "address": "127.0.0.1", **seen} for user_id in ids]
    sessions = db.session.scalars(opened, rows).all()
    return [
        issue_access_token(user_id=user_id, session_id=session_id, role=Role.EDITOR)
        for user_id, session_id in zip(ids, sessions, strict=True)
    ]


def _generate(catalogue: Catalogue, products: int, parents: int) -> None:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    options = {"count": products, "parents": parents}
    stated = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "flask", "catalog", "generate", *stated]
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
