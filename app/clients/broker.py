"""Wakes Celery workers when a job has been committed, by a message that another thread sends.

The table of jobs is the queue; a message only makes a worker poll it. So several messages at once become one, and a
message that is lost while the broker is unavailable only delays its job until the next periodic poll.
"""

import threading
from importlib import import_module
from typing import Any

import structlog
from flask import Flask, current_app
from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from app.core import jobs

#: The name of the one Celery task, which runs all jobs that are due.
DRAIN_TASK = "jobs.drain"
#: Seconds between the workers' periodic polls.
POLL_SECONDS = 1
#: Seconds after which a poll that no worker has begun is dropped: while all are busy no more than so many pile up, and
#: the clocks of two machines may differ by less than that.
POLL_EXPIRES = 10

log = structlog.get_logger(__name__)


def make_celery(broker_url: str, **transport: Any) -> Any:
    """A Celery application on this broker. Celery is an optional dependency, for deployments with a broker."""
    celery: Any = import_module("celery").Celery("catalog", broker=broker_url, set_as_current=False)
    celery.conf.update(
        task_default_queue="catalog",
        task_ignore_result=True,
        task_publish_retry=False,
        broker_transport_options=transport,
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
        # The default scheduler stores its state in a file in the working directory.
        beat_scheduler="celery.beat:Scheduler",
        beat_schedule={"sweep": {"task": DRAIN_TASK, "schedule": POLL_SECONDS, "options": {"expires": POLL_EXPIRES}}},
    )
    return celery


class Notifier:
    """Sends the messages from a thread of its own, so that a slow broker delays no request; thread-safe."""

    def __init__(self, broker_url: str) -> None:
        self._celery = make_celery(broker_url, socket_timeout=2, socket_connect_timeout=2, max_retries=0)
        self._is_pending = threading.Event()
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def notify(self) -> None:
        """Have the thread send a message soon; returns at once."""
        self._is_pending.set()
        # The thread starts at the first message: one from before a fork would not exist in the worker.
        with self._start_lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._send, name="notifier", daemon=True)
                self._thread.start()

    def _send(self) -> None:
        while self._is_pending.wait():
            self._is_pending.clear()
            try:
                self._celery.send_task(DRAIN_TASK, retry=False)
            except Exception as error:  # noqa: BLE001 -- each transport has its own classes, and the periodic poll makes up for all
                log.warning("broker", error=type(error).__name__)


def init_app(app: Flask) -> None:
    """Register the notifier, where CELERY_BROKER_URL is set."""
    if url := app.config["CELERY_BROKER_URL"]:
        app.extensions["notifier"] = Notifier(url)


@event.listens_for(Session, "after_commit")
def _notify(session: Session) -> None:
    # The event is also sent for a released savepoint, which commits nothing yet.
    if not session.in_nested_transaction() and session.info.pop(jobs.ENQUEUED, False):
        notifier: Notifier | None = current_app.extensions.get("notifier")
        if notifier is not None:
            notifier.notify()


@event.listens_for(Session, "after_transaction_end")
def _forget(session: Session, transaction: SessionTransaction) -> None:
    # A job that was rolled back, as in a dry run, must not notify workers at the next commit of this session.
    if transaction.parent is None:
        session.info.pop(jobs.ENQUEUED, None)
