"""Liveness and readiness, for whoever runs this."""

import sqlalchemy as sa

from app.core.errors import Unavailable
from app.extensions import db
from app.web import fields
from app.web.contract import Blueprint, public, refuses, returns
from app.web.migrations import newest_revision
from app.web.schemas import Schema

blueprint = Blueprint("health", __name__)


class DatabaseNotReady(Unavailable):
    """The database does not answer or takes no writes, or its schema is not the one that this release knows."""


class HealthSchema(Schema):
    """That the process answers."""

    status = fields.Choice(["ok"], required=True, example="ok")


@blueprint.get("/health")
@public
@returns(HealthSchema)
def read_health() -> dict[str, str]:
    """Tell whether this process answers; it asks nothing else."""
    return {"status": "ok"}


@blueprint.get("/livez")
@public
@returns(HealthSchema)
def read_liveness() -> dict[str, str]:
    """Tell whether this process is alive, whatever it depends on; restart it when not."""
    return {"status": "ok"}


@blueprint.get("/readyz")
@public
@refuses(DatabaseNotReady)
@returns(HealthSchema)
def read_readiness() -> dict[str, str]:
    """Tell whether requests can be answered: the database takes writes, and has the schema of this release."""
    try:
        revision = db.session.scalar(sa.text("SELECT version_num FROM alembic_version"))
        # A standby, or a primary that was demoted; SQLite has neither.
        is_postgresql = db.engine.dialect.name == "postgresql"
        is_read_only = is_postgresql and db.session.scalar(sa.text("SHOW transaction_read_only")) == "on"
    except (sa.exc.SQLAlchemyError, Unavailable):
        raise DatabaseNotReady from None
    if revision != newest_revision() or is_read_only:
        raise DatabaseNotReady
    return {"status": "ok"}
