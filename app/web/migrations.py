"""The migrations of the database: Flask-Migrate, loaded lazily for ``flask db``, and the newest one for `health`.

A server runs no migration, and Flask-Migrate imports Alembic, Mako and Pygments.
"""

import ast
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask

from app.extensions import db

VERSIONS = Path(__file__).resolve().parents[2] / "migrations" / "versions"


class LazyMigrate:
    """A lazy proxy in ``app.extensions``, which replaces itself by Flask-Migrate when it is first used."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def __getattr__(self, name: str) -> Any:
        from flask_migrate import Migrate  # noqa: PLC0415 -- at the top it would cost 9 MiB in each worker

        Migrate(self._app, db, compare_type=True, render_as_batch=False)
        return getattr(self._app.extensions["migrate"], name)


def init_app(app: Flask) -> None:
    """Register the lazy proxy, which ``flask db`` uses."""
    app.extensions["migrate"] = LazyMigrate(app)


@cache
def newest_revision() -> str:
    """The migration of this release that no other follows, as Alembic's own script directory would find it."""
    migrations = [found for path in VERSIONS.glob("*.py") if "revision" in (found := _assignments(path))]
    followed: set[object] = set()
    for migration in migrations:
        before = migration["down_revision"]
        followed.update(before if isinstance(before, tuple | list) else {before})
    newest: str
    (newest,) = {migration["revision"] for migration in migrations} - followed
    return newest


def _assignments(path: Path) -> dict[str, Any]:
    """``revision`` and ``down_revision`` of a migration, which is read and not run: Alembic stays unloaded."""
    found = {}
    for statement in ast.parse(path.read_bytes()).body:
        target, value = None, None
        if isinstance(statement, ast.Assign):
            (target, *_), value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign):
            target, value = statement.target, statement.value
        if isinstance(target, ast.Name) and target.id in {"revision", "down_revision"} and value is not None:
            found[target.id] = ast.literal_eval(value)
    return found
