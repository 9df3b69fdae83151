"""Wakes Celery workers when a job has been committed, by a message that is sent behind the answer.

The table of jobs is the truth and a message carries nothing but "look": several at once become one, and one that is
lost, because the broker is away, is made up for when the workers look by themselves.
"""

import threading
from importlib import import_module
from typing import Any

import structlog
from flask import Flask, current_app
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.core import jobs

#: The name of the one task: do what is due.
DRAIN = "jobs.drain"
#: Seconds between the workers' own looks.
SWEEP = 10

log = structlog.get_logger(__name__)


def make_celery(broker_url: str, **transport: Any) -> Any:
    """A Celery application on this broker. The package is an extra: it is needed only where a broker is set."""
    celery: Any = import_module("celery").Celery("catalog", broker=broker_url, set_as_current=False)
    celery.conf.update(
        task_default_queue="catalog",
        task_ignore_result=True,
        task_publish_retry=False,
        broker_transport_options=transport,
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
        # The usual one keeps its state in a pickle beside the code.
        beat_scheduler="celery.beat:Scheduler",
        # A look that nobody had time for is not worth having later.
        beat_schedule={"sweep": {"task": DRAIN, "schedule": SWEEP, "options": {"expires": SWEEP}}},
    )
    return celery


class Notifier:
    """Sends the messages from a thread of its own, so that a broker that is slow or dead delays no request."""

    def __init__(self, broker_url: str) -> None:
        self._celery = make_celery(broker_url, socket_timeout=2, socket_connect_timeout=2, max_retries=0)
        self._wanted = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def notify(self) -> None:
        """Have a worker look, soon."""
        self._wanted.set()
        # Not before it is needed: a thread does not survive the fork of a worker.
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._send, name="notifier", daemon=True)
                self._thread.start()

    def _send(self) -> None:
        while self._wanted.wait():
            self._wanted.clear()
            try:
                self._celery.send_task(DRAIN, retry=False)
            except Exception as error:  # noqa: BLE001 -- each transport has its own classes, and all mean the same here
                log.warning("broker", error=type(error).__name__)


def init_app(app: Flask) -> None:
    """Wake the workers of this application, where it has a broker."""
    if url := app.config["CELERY_BROKER_URL"]:
        app.extensions["notifier"] = Notifier(url)


@event.listens_for(Session, "after_commit")
def _notify(session: Session) -> None:
    # A savepoint that is released is none yet.
    if not session.in_nested_transaction() and session.info.pop(jobs.ENQUEUED, False):
        notifier: Notifier | None = current_app.extensions.get("notifier")
        if notifier is not None:
            notifier.notify()
