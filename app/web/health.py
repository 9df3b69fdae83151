"""Liveness and readiness, for whoever runs this."""

import sqlalchemy as sa

from app.core.errors import Unavailable
from app.extensions import db
from app.web import fields
from app.web.contract import Blueprint, public, refuses, returns
from app.web.migrations import newest_revision
from app.web.schemas import Schema

blueprint = Blueprint("health", __name__, about="For operators: is it alive, and ready?")


_READINESS = {
    # A standby is read-only, and so is a primary that was demoted; SQLite has neither.
    "postgresql": sa.text(
        "SELECT version_num, current_setting('transaction_read_only') = 'on' AS is_read_only FROM alembic_version"
    ),
    "sqlite": sa.text("SELECT version_num, FALSE AS is_read_only FROM alembic_version"),
}


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
        found = db.session.execute(_READINESS[db.engine.dialect.name]).one()
    except (sa.exc.SQLAlchemyError, Unavailable):
        raise DatabaseNotReady from None
    if found.version_num != newest_revision() or found.is_read_only:
        raise DatabaseNotReady
    return {"status": "ok"}
