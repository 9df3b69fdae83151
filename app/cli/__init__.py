"""The commands of ``flask``, one module per group, each imported at its first use: a server uses none."""

import click
from flask import Flask
from flask.cli import AppGroup
from werkzeug.utils import import_string

from app.cli.failures import failures_in_one_line

COMMANDS = {
    "api-key": "app.cli.api_keys:group",
    "catalog": "app.cli.catalog:catalog",
    "create-user": "app.cli.users:create_user",
    "db": "flask_migrate.cli:db",
    "jobs": "app.cli.jobs:group",
    "openapi": "app.cli.spec:openapi",
    "prune": "app.cli.housekeeping:prune",
    "worker": "app.cli.worker:worker",
}


class Commands(AppGroup):
    """The group of all commands; imports one of `COMMANDS` when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The sorted names of all commands, of extensions too."""
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command with this name; its refusals become one line."""
        if cmd_name in COMMANDS:
            ctx.with_resource(failures_in_one_line())
            command: click.Command = import_string(COMMANDS[cmd_name])
            return command
        return super().get_command(ctx, cmd_name)


def init_app(app: Flask) -> None:
    """Register the commands."""
    app.cli = Commands(app.name)
