"""``flask prune``: deletes expired rows."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import click
from flask import current_app
from flask.cli import with_appcontext

from app.core import clock
from app.core.changelog import LOG_RETENTION
from app.core.idempotency import prune_responses
from app.core.jobs import JOB_RETENTION, prune_jobs
from app.core.pruning import delete_all
from app.core.transactions import unit_of_work
from app.features.auth import guard
from app.features.events import service as events
from app.features.imports import service as imports
from app.features.sessions import service as sessions
from app.features.stock import service as stock


@click.command("prune")
@with_appcontext
def prune() -> None:
    """Delete expired sessions, failed logins, holds, imports, responses to idempotency keys, and events.

    A used refresh token is stored until it expires, because its second use reveals a theft. The command deletes in
    small batches: it may be stopped at any time, and run beside writes.
    """
    lifetime = timedelta(seconds=current_app.config["REFRESH_TOKEN_TTL"])
    retention = timedelta(seconds=current_app.config["EVENT_RETENTION"])
    # One moment for all: a job is deleted after its import, not before.
    now = clock.now()
    with unit_of_work(reading=True):
        events.number_all_changes()
    with unit_of_work():
        events.expire_events(before=now - retention)
    batches: dict[str, Callable[[], int]] = {
        "sessions": partial(sessions.prune_sessions, before=now - lifetime),
        "networks of sessions": sessions.prune_networks,
        "counters of failed logins": guard.prune_failures,
        "holds": stock.prune_holds,
        "imports": partial(imports.prune_imports, before=now - JOB_RETENTION),
        "jobs": partial(prune_jobs, before=now - JOB_RETENTION),
        "responses to idempotency keys": prune_responses,
        "changes of the log": partial(events.prune_log, before=now - LOG_RETENTION),
        "events of the change feed": events.prune_events,
    }
    for what, batch in batches.items():
        click.echo(f"Deleted {delete_all(batch)} {what}.")
