"""The migrations of the database: Flask-Migrate for whoever runs them, and which is the newest for `health`.

A server runs none, and Flask-Migrate brings Alembic, Mako and Pygments: it is loaded when it is first used.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask

from app.extensions import db

VERSIONS = Path(__file__).resolve().parents[2] / "migrations" / "versions"


class LazyMigrate:
    """Stands in ``app.extensions`` where Flask-Migrate looks for itself, and puts that there at its first use."""

    def __init__(self, app: Flask) -> None:
        self._app = app

    def __getattr__(self, name: str) -> Any:
        from flask_migrate import Migrate  # noqa: PLC0415 -- 9 MiB in each worker, were it above

        Migrate(self._app, db, compare_type=True, render_as_batch=False)
        return getattr(self._app.extensions["migrate"], name)


def init_app(app: Flask) -> None:
    """Let ``flask db`` find the database."""
    app.extensions["migrate"] = LazyMigrate(app)


@cache
def newest_revision() -> str:
    """The migration of this release that no other follows."""
    texts = "\n".join(path.read_text("utf-8") for path in VERSIONS.glob("*.py"))
    revisions, followed = (
        set(re.findall(rf'^{name} = "(\w+)"$', texts, re.MULTILINE)) for name in ("revision", "down_revision")
    )
    newest: str
    (newest,) = revisions - followed
    return newest
