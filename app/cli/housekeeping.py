"""``flask prune``: forget what has served its time."""

from datetime import timedelta

import click
from flask import current_app
from flask.cli import with_appcontext

from app.core import clock
from app.core.database import unit_of_work
from app.core.idempotency import prune_answers
from app.features.auth import service as auth
from app.features.sessions import service as sessions


@click.command("prune")
@with_appcontext
def prune() -> None:
    """Forget sessions whose every token has expired, failed logins whose window has ended, and old answers.

    A used refresh token stays as long as anybody could still present it: its second use betrays a theft.
    """
    lifetime = timedelta(seconds=current_app.config["REFRESH_TOKEN_TTL"])
    with unit_of_work():
        ended = sessions.prune_sessions(before=clock.now() - lifetime)
        accounts = auth.prune_failures()
        answers = prune_answers()
    click.echo(
        f"Forgot {ended} sessions, the failed logins of {accounts} accounts and {answers} answers to idempotency keys."
    )
