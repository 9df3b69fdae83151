"""The commands of ``flask``, one module per group."""

from flask import Flask

from app.cli import catalog, spec, users


def init_app(app: Flask) -> None:
    """Register the commands."""
    app.cli.add_command(users.create_user)
    app.cli.add_command(catalog.catalog)
    app.cli.add_command(spec.openapi)
