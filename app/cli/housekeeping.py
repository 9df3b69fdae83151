"""``flask prune``: deletes expired rows."""

from itertools import groupby
from operator import itemgetter

import click
from flask.cli import with_appcontext

from app.api.pruning import delete_expired


@click.command("prune")
@with_appcontext
def prune() -> None:
    """Delete what has expired, from sessions to deliveries of webhooks; the output names each kind.

    Workers do the same every hour. A used refresh token is stored until it expires, because its second use reveals a
    theft. The command deletes in small batches: it may be stopped at any time, and run beside writes.
    """
    for what, batches in groupby(delete_expired(), key=itemgetter(0)):
        click.echo(f"Deleted {sum(number for _, number in batches)} {what}.")
