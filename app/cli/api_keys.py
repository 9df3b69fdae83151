"""``flask api-key``: creates API keys for programs, without a login."""

from datetime import timedelta

import click
from flask.cli import AppGroup, with_appcontext
from sqlalchemy import select

from app.core import clock
from app.core.errors import Refusal
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.api_keys import service
from app.features.users.models import User
from app.security.identity import Identity
from app.security.permissions import GRANTS, SCOPES, Role

group = AppGroup("api-key", help="Keys for programs.")


@group.command("create")
@click.option("--email", required=True, help="The owner's address; the key can do no more than its owner.")
@click.option("--name", required=True, help="What the key is for.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice([scope.value for scope in SCOPES]),
    help="May be repeated.",
)
@click.option("--days", type=click.IntRange(1, 3650), help="Days until it expires; without it, never.")
@with_appcontext
def create(email: str, name: str, scopes: tuple[str, ...], days: int | None) -> None:
    """Create a key and print it; it cannot be shown again."""
    expires_at = clock.now() + timedelta(days=days) if days else None
    with unit_of_work():
        user = db.session.scalar(select(User).where(User.email == email.lower(), User.is_active))
        if user is None:
            raise click.ClickException("There is no active account with this address.")
        identity = Identity(permissions=GRANTS[Role(user.role)], user_id=user.id, role=Role(user.role))
        try:
            made = service.create_key(name=name, scopes=set(scopes), expires_at=expires_at, identity=identity)
        except Refusal as refusal:
            raise click.ClickException(f"{user.role} {user.username}: {refusal.sentence()}") from None
    click.echo(made.key)
