"""The application without the change feed, which is measured beside it: what a transaction changed is not published."""

from flask import Flask
from sqlalchemy import event
from sqlalchemy.orm import Session

from app import create_app as create_whole_app
from app.core.recorder import Recorder, recorder_of
from config import Config


def drop_feed(session: Session) -> None:
    """Let a transaction that is about to commit store the audit trail alone; a listener of ``before_commit``."""
    if session.in_nested_transaction():
        return
    session.flush()
    # Only the trail is taken over, whatever else the recorder has collected and however that is kept.
    kept = Recorder()
    kept.trail = recorder_of(session).trail
    session.info[Recorder] = kept


def leave_out_feed() -> None:
    """Let no transaction of this process publish anything from now on."""
    # Before the application's own listener, which stores what was recorded.
    event.listen(Session, "before_commit", drop_feed, insert=True)


def create_app() -> Flask:
    """The WSGI application of the environment variables, without its feed."""
    leave_out_feed()
    return create_whole_app(Config.from_environment())
