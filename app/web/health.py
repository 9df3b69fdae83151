"""Liveness and readiness probes, for operators."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flask import current_app

from app.core.errors import Unavailable
from app.web import fields
from app.web.contract import Blueprint, public, refuses, returns
from app.web.monitoring import holds_metrics_token
from app.web.readiness import Check, CheckName, CheckReason, CheckStatus, Readiness, status_of
from app.web.schemas import Schema

blueprint = Blueprint("health", __name__, about="Liveness and readiness probes, for operators.")

_COMMIT = "9060526b07c9a3f1d2e4586879aabbccddeeff00"


class DatabaseNotReady(Unavailable):
    """The database does not respond, is read-only, or has the schema of another release."""

    def __init__(self, details: Mapping[str, Any]) -> None:
        super().__init__()
        # Members that only operators get, so that the document does not name them.
        self.data = dict(details)


class LivenessSchema(Schema):
    """The state of the process: it responds."""

    status = fields.Choice(["ok"], required=True, example="ok")


class HealthSchema(LivenessSchema):
    """The state of the process, and which release it runs."""

    version = fields.Text(max_length=64, required=True, dump_only=True, example="1.0.0")
    commit = fields.Text(
        max_length=64,
        required=True,
        note='The commit that the release was built from; "unknown" where the build did not say it.',
        example=_COMMIT,
    )


class CheckSchema(Schema):
    """Something that the server depends on."""

    name = fields.Choice(CheckName, required=True, example="redis")
    status = fields.Choice(CheckStatus, required=True, note="`failed` is what no request can do without.", example="ok")
    reason = fields.Choice(CheckReason, required=True, allow_none=True, note="What is wrong.", example=fields.NULL)
    age_seconds = fields.Integer(
        minimum=0,
        required=True,
        note="Since it was looked at; of `worker`, since the last heartbeat of any.",
        example=3,
    )
    milliseconds = fields.Integer(minimum=0, required=True, note="What it took to answer.", example=1)


class ReadinessSchema(Schema):
    """Whether requests can be served. Who sends METRICS_TOKEN gets the other members too."""

    status = fields.Choice(
        ["ok", "degraded"],
        name="ReadinessStatus",
        required=True,
        note="`degraded`: requests are served, but something beside the database is missing.",
        example="ok",
    )
    version = fields.Text(max_length=64, dump_only=True, schema={"x-optional": True}, example="1.0.0")
    commit = fields.Text(max_length=64, schema={"x-optional": True}, example=_COMMIT)
    checks = fields.Nested(CheckSchema, many=True, schema={"x-optional": True})


@blueprint.get("/health")
@public
@returns(HealthSchema)
def read_health() -> dict[str, str]:
    """Check that this process responds, and read which release it runs; no dependency is checked."""
    return {"status": "ok", **_release()}


@blueprint.get("/livez")
@public
@returns(LivenessSchema)
def read_liveness() -> dict[str, str]:
    """Check that this process is alive; restart it when it is not. No dependency is checked."""
    return {"status": "ok"}


@blueprint.get("/readyz")
@public
@refuses(DatabaseNotReady)
@returns(ReadinessSchema)
def read_readiness() -> dict[str, Any]:
    """Check that requests can be served: the database accepts writes and has the schema of this release.

    What else is missing (Redis, a worker, the media store) makes the server `degraded`. It is looked at every few
    seconds at most, however often this is called. With METRICS_TOKEN as the bearer token, the answer has each check,
    and so has the problem.
    """
    readiness: Readiness = current_app.extensions["readiness"]
    checks = readiness.check()
    details = _describe(checks) if holds_metrics_token() else {}
    status = status_of(checks)
    if status is CheckStatus.FAILED:
        raise DatabaseNotReady(details)
    return {"status": status, **details}


def _describe(checks: Sequence[Check]) -> dict[str, Any]:
    return {**_release(), "checks": [asdict(check) for check in checks]}


def _release() -> dict[str, str]:
    return {"version": current_app.config["VERSION"], "commit": current_app.config["COMMIT"]}
