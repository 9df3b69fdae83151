"""The logins of the demo catalogue, which pages offer in development."""

from collections.abc import Callable, Sequence
from typing import Protocol

from flask import Flask, current_app
from sqlalchemy.exc import SQLAlchemyError

from app.core.errors import Unavailable


class DemoLogin(Protocol):
    """A user of the demo catalogue, whose password is public."""

    @property
    def role(self) -> str: ...
    @property
    def email(self) -> str: ...
    @property
    def password(self) -> str: ...


FindLogins = Callable[[], Sequence[DemoLogin]]


def init_app(app: Flask, *, find_logins: FindLogins | None) -> None:
    """Register the function that finds the demo logins that work; None where pages must offer none."""
    app.extensions["find_demo_logins"] = find_logins


def demo_logins() -> Sequence[DemoLogin]:
    """The demo logins to offer: none outside development, nor where the demo catalogue is not loaded."""
    find_logins: FindLogins | None = current_app.extensions["find_demo_logins"]
    if find_logins is None:
        return ()
    try:
        return find_logins()
    except (SQLAlchemyError, Unavailable):
        # The pages do not need the database.
        return ()
