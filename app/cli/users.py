"""``flask create-user``: creates the first administrator, or any other user."""

import sys

import click
import marshmallow as ma
from flask.cli import with_appcontext

from app.core.transactions import unit_of_work
from app.features.auth.schemas import RegisterSchema
from app.features.users import service
from app.security.permissions import Role


@click.command("create-user")
@click.option("--email", required=True, help="The address to log in with.")
@click.option("--username", required=True, help="3 to 32 letters, digits, '_', '.' or '-'.")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.USER.value, show_default=True)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of a prompt.")
@with_appcontext
def create_user(email: str, username: str, role: str, password_stdin: bool) -> None:
    """Create a user with any role."""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    try:
        values = RegisterSchema().load({"email": email, "username": username, "password": password})
        with unit_of_work():
            user = service.create_user(**values, role=Role(role))
    except ma.ValidationError as error:
        faults = [f"{name}: {' '.join(messages)}" for name, messages in error.messages_dict.items()]
        raise click.ClickException("; ".join(faults)) from None
    click.echo(f"Created {role} {user.username} with id {user.id}.")
