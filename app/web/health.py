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
    """The database does not answer, or its schema is not the one that this release knows."""


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
    """Tell whether requests can be answered: the database is there, with the schema of this release."""
    try:
        revision = db.session.scalar(sa.text("SELECT version_num FROM alembic_version"))
    except sa.exc.SQLAlchemyError:
        raise DatabaseNotReady from None
    if revision != newest_revision():
        raise DatabaseNotReady
    return {"status": "ok"}
