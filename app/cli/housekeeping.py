"""``flask prune``: forget what has served its time."""

from datetime import timedelta

import click
from flask import current_app
from flask.cli import with_appcontext

from app.core import clock
from app.core.idempotency import prune_answers
from app.core.jobs import prune_jobs
from app.core.transactions import unit_of_work
from app.features.auth import guard
from app.features.events import service as events
from app.features.imports import service as imports
from app.features.sessions import service as sessions
from app.features.stock import service as stock


@click.command("prune")
@with_appcontext
def prune() -> None:
    """Forget what has served its time: sessions, failed logins, holds, imports, answers to idempotency keys, events.

    A used refresh token stays as long as anybody could still present it: its second use betrays a theft.
    """
    lifetime = timedelta(seconds=current_app.config["REFRESH_TOKEN_TTL"])
    retention = timedelta(seconds=current_app.config["EVENT_RETENTION"])
    with unit_of_work():
        forgotten = {
            "sessions": sessions.prune_sessions(before=clock.now() - lifetime),
            "networks of sessions": sessions.prune_networks(),
            "accounts with failed logins": guard.prune_failures(),
            "holds": stock.prune_holds(),
            "imports": imports.prune_imports(),
            "jobs": prune_jobs(),
            "answers to idempotency keys": prune_answers(),
            "events of the change feed": events.prune_events(before=clock.now() - retention),
        }
    for what, number in forgotten.items():
        click.echo(f"Forgot {number} {what}.")
