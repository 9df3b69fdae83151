"""``flask openapi``: prints the OpenAPI document."""

import click
import orjson
from flask import current_app
from flask.cli import with_appcontext

from app.web.openapi import describe


@click.command("openapi")
@with_appcontext
def openapi() -> None:
    """Print the OpenAPI 3.1 document."""
    click.echo(orjson.dumps(describe(current_app), option=orjson.OPT_INDENT_2).decode())
