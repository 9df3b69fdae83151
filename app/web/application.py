"""Flask without what this API does not have, and would pay for at each request: sessions in cookies, and coroutines."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request, Response
from flask.sessions import NullSession, SessionInterface, SessionMixin


class _NoSessions(SessionInterface):
    def open_session(self, _app: Flask, _request: Request) -> SessionMixin:
        return NullSession()

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Nothing is in it."""


class Application(Flask):
    """The application's class."""

    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Views and hooks as they are: none is a coroutine."""
        return func
