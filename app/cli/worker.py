"""``flask worker``: do the background jobs."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from flask.cli import ScriptInfo, pass_script_info

from app.api.tasks import TASKS
from app.core import jobs
from app.core.worker import Worker


@click.command("worker")
@click.option("--once", is_flag=True, help="Do what is due, and leave.")
@click.option(
    "--lease",
    type=click.IntRange(1, 3600),
    default=jobs.LEASE_SECONDS,
    show_default=True,
    help="Seconds after which another worker takes over a job from one that gives no sign of life.",
)
@pass_script_info
def worker(info: ScriptInfo, *, once: bool, lease: int) -> None:
    """Do background jobs, such as imports, as they come.

    Any number of workers may run, on any machine. SIGTERM and Ctrl-C let a worker finish the step that it is at; the
    job goes on where it was left, here or elsewhere.
    """
    with _told_to_stop() as (is_over, pause):
        working = Worker(TASKS, info.load_app().app_context, stop=is_over, lease=lease)
        if once:
            click.echo(f"Did {working.drain()} jobs.")
        else:
            working.poll(pause)


@contextmanager
def _told_to_stop() -> Iterator[tuple[Callable[[], bool], Callable[[float], object]]]:
    """Whether a signal has come, and how to sleep until one does, instead of dying of it."""
    over = threading.Event()
    before = {number: signal.signal(number, lambda *_: over.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield over.is_set, over.wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
