"""The commands of ``flask``, one module per group."""

from flask import Flask

from app.cli import api_keys, catalog, housekeeping, spec, users, worker


def init_app(app: Flask) -> None:
    """Register the commands."""
    app.cli.add_command(users.create_user)
    app.cli.add_command(api_keys.group)
    app.cli.add_command(housekeeping.prune)
    app.cli.add_command(catalog.catalog)
    app.cli.add_command(spec.openapi)
    app.cli.add_command(worker.worker)
