"""The migrations of the database: Flask-Migrate, loaded lazily for ``flask db``, and the newest one for `health`.

A server runs no migration, and Flask-Migrate imports Alembic, Mako and Pygments.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask

from app.extensions import db

VERSIONS = Path(__file__).resolve().parents[2] / "migrations" / "versions"


class LazyMigrate:
    """A placeholder in ``app.extensions`` that replaces itself by Flask-Migrate at its first use."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def __getattr__(self, name: str) -> Any:
        from flask_migrate import Migrate  # noqa: PLC0415 -- at the top it would cost 9 MiB in each worker

        Migrate(self._app, db, compare_type=True, render_as_batch=False)
        return getattr(self._app.extensions["migrate"], name)


def init_app(app: Flask) -> None:
    """Register the placeholder for ``flask db``."""
    app.extensions["migrate"] = LazyMigrate(app)


@cache
def newest_revision() -> str:
    """The id of the newest migration of this release."""
    texts = "\n".join(path.read_text("utf-8") for path in VERSIONS.glob("*.py"))
    revisions, predecessors = (
        set(re.findall(rf'^{name} = "(\w+)"$', texts, re.MULTILINE)) for name in ("revision", "down_revision")
    )
    newest: str
    (newest,) = revisions - predecessors
    return newest
