"""``flask worker``: runs the background jobs."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import click
import structlog
from flask import Flask
from flask.cli import ScriptInfo, pass_script_info

from app.api.tasks import LANES, SOURCES, TASKS, WIDTHS
from app.core import jobs
from app.core.lanes import MAX_CONCURRENCY, Crew
from app.core.leases import Heartbeat
from app.core.scheduling import Scheduler
from app.core.wakeups import Alarm, Listener
from app.core.worker import Worker
from app.core.workers import Presence, WorkerKind
from app.extensions import db
from app.web.metrics_server import serve_metrics

log = structlog.get_logger(__name__)


@click.command("worker")
@click.option("--once", is_flag=True, help="Run the jobs that are due, and exit.")
@click.option(
    "--lease",
    type=click.IntRange(1, 3600),
    default=jobs.LEASE_SECONDS,
    show_default=True,
    help="Seconds without a renewal after which another worker may take over a job.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, MAX_CONCURRENCY),
    default=4,
    show_default=True,
    help="Imports at once; beside them four times as many deliveries. Each takes a connection while it writes.",
)
@click.option(
    "--heartbeat-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Touch this file about once a second, so that a supervisor can see that the worker is alive.",
)
@pass_script_info
def worker(info: ScriptInfo, *, once: bool, lease: int, concurrency: int, heartbeat_file: Path | None) -> None:
    """Run background jobs: imports, webhooks, the mails of password resets, and deleting what has expired.

    Any number of workers may run, on any machine. After SIGTERM or Ctrl-C a worker finishes the current steps and
    exits; the jobs continue from there in another worker, or after a restart.
    """
    app = info.load_app()
    alarm = Alarm()
    with _stop_signals(alarm) as is_stopped:
        if once:
            click.echo(f"Ran {_run_due_jobs(app, is_stopped, lease)} jobs.")
            return
        listens = _can_listen(app)
        log.info(
            "worker_started",
            version=app.config["VERSION"],
            commit=app.config["COMMIT"],
            runs_on=app.config["RUNS_ON"],
            kinds=[*TASKS],
            concurrency=concurrency,
            woken_by="notify and poll" if listens else "poll",
            pooling=app.config["DATABASE_POOLING"],
        )
        crew = Crew(
            LANES,
            app.app_context,
            concurrency=concurrency,
            widths=WIDTHS,
            sources=SOURCES,
            stop=is_stopped,
            lease=lease,
            presence=Presence(WorkerKind.WORKER, version=app.config["VERSION"]),
            on_poll=lambda: _touch(heartbeat_file),
        )
        stop_metrics = serve_metrics(app)
        with Listener(app.app_context, alarm.ring) if listens else nullcontext():
            is_complete = crew.run(alarm.wait)
        stop_metrics()
        log.info("worker_stopped", is_complete=is_complete)


def _run_due_jobs(app: Flask, is_stopped: Callable[[], bool], lease: int) -> int:
    with app.app_context():
        Scheduler(TASKS, SOURCES).tick()
    with Heartbeat(app.app_context, lease=lease) as heartbeat:
        return Worker(TASKS, app.app_context, stop=is_stopped, lease=lease, heartbeat=heartbeat).drain()


def _touch(path: Path | None) -> None:
    if path is not None:
        # A full disk must not stop the jobs.
        with suppress(OSError):
            path.touch()


def _can_listen(app: Flask) -> bool:
    """Whether a connection stays the same one, so that NOTIFY finds it: not on SQLite, nor behind a pooler."""
    with app.app_context():
        return db.engine.dialect.name == "postgresql" and app.config["DATABASE_POOLING"] == "session"


@contextmanager
def _stop_signals(alarm: Alarm) -> Iterator[Callable[[], bool]]:
    """Within the block, SIGTERM and SIGINT do not end the process but ring the alarm.

    Yields a function that says whether one was received.
    """
    received: list[int] = []

    def receive(number: int, _frame: object) -> None:
        received.append(number)
        alarm.ring()

    previous = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
