"""``flask worker``: runs the background jobs."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import structlog
from flask.cli import ScriptInfo, pass_script_info

from app.api.tasks import LANES, SOURCES, TASKS
from app.core import jobs
from app.core.lanes import MAX_CONCURRENCY, Crew
from app.core.scheduling import Scheduler
from app.core.worker import Worker

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
    help="Imports, and as many letters beside them, that run at once.",
)
@pass_script_info
def worker(info: ScriptInfo, *, once: bool, lease: int, concurrency: int) -> None:
    """Run background jobs: imports, and the mails of password resets.

    Any number of workers may run, on any machine. After SIGTERM or Ctrl-C a worker finishes the current steps and
    exits; the jobs continue from there in another worker, or after a restart.
    """
    app = info.load_app()
    context = app.app_context
    with _stop_signals() as (is_stopped, sleep):
        if once:
            with context():
                Scheduler(TASKS, SOURCES).tick()
            click.echo(f"Ran {Worker(TASKS, context, stop=is_stopped, lease=lease).drain()} jobs.")
            return
        log.info("worker_started", runs_on=app.config["RUNS_ON"], kinds=[*TASKS], concurrency=concurrency)
        crew = Crew(LANES, context, concurrency=concurrency, sources=SOURCES, stop=is_stopped, lease=lease)
        crew.run(sleep)
        log.info("worker_stopped", is_complete=crew.join())


@contextmanager
def _stop_signals() -> Iterator[tuple[Callable[[], bool], Callable[[float], object]]]:
    """Within the block, SIGTERM and SIGINT do not end the process.

    Yields two functions: whether a signal was received, and a sleep of some seconds that a signal ends.
    """
    stopped = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped.is_set, stopped.wait
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
