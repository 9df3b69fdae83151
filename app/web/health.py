"""Liveness and readiness probes, for operators."""

import sqlalchemy as sa
from flask import current_app

from app.core.errors import Unavailable
from app.extensions import db
from app.web import fields
from app.web.contract import Blueprint, public, refuses, returns
from app.web.migrations import newest_revision
from app.web.schemas import Schema

blueprint = Blueprint("health", __name__, about="Liveness and readiness probes, for operators.")


_READINESS = {
    # A standby and a demoted primary are read-only; SQLite has neither.
    "postgresql": sa.text(
        "SELECT version_num, current_setting('transaction_read_only') = 'on' AS is_read_only FROM alembic_version"
    ),
    "sqlite": sa.text("SELECT version_num, FALSE AS is_read_only FROM alembic_version"),
}


class DatabaseNotReady(Unavailable):
    """The database does not respond, is read-only, or has the schema of another release."""


class LivenessSchema(Schema):
    """The state of the process: it responds."""

    status = fields.Choice(["ok"], required=True, example="ok")


class HealthSchema(LivenessSchema):
    """The state of the process, and which release it runs."""

    version = fields.Text(max_length=64, required=True, example="1.0.0")
    commit = fields.Text(
        max_length=64,
        required=True,
        note='The commit that the release was built from; "unknown" where the build did not say it.',
        example="9060526b07c9a3f1d2e4586879aabbccddeeff00",
    )


@blueprint.get("/health")
@public
@returns(HealthSchema)
def read_health() -> dict[str, str]:
    """Check that this process responds, and read which release it runs; no dependency is checked."""
    return {"status": "ok", **release()}


@blueprint.get("/livez")
@public
@returns(LivenessSchema)
def read_liveness() -> dict[str, str]:
    """Check that this process is alive; restart it when it is not. No dependency is checked."""
    return {"status": "ok"}


@blueprint.get("/readyz")
@public
@refuses(DatabaseNotReady)
@returns(LivenessSchema)
def read_readiness() -> dict[str, str]:
    """Check that requests can be served: the database accepts writes and has the schema of this release."""
    try:
        found = db.session.execute(_READINESS[db.engine.dialect.name]).one()
    except (sa.exc.SQLAlchemyError, Unavailable):
        raise DatabaseNotReady from None
    if found.version_num != newest_revision() or found.is_read_only:
        raise DatabaseNotReady
    return {"status": "ok"}


def release() -> dict[str, str]:
    """The version and the commit of this release."""
    return {"version": current_app.config["VERSION"], "commit": current_app.config["COMMIT"]}
