"""The Celery entry point, for deployments with a broker: `celery --app worker worker --beat`."""

import atexit
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

from celery.signals import worker_ready, worker_shutdown  # type: ignore[import-untyped]  # Celery is published without types


def _share_metrics() -> None:
    """Have the processes of Celery, which run the jobs, count in a folder, for this one to report them all.

    The application decides where it counts as it is imported, so it is not imported for this.
    """
    files = runpy.run_path(str(Path(__file__).parent / "app" / "core" / "metric_files.py"))
    name = f"catalog-metrics-{os.geteuid()}-celery-{os.environ['METRICS_PORT']}"
    folder, own = files["open_folder"](name, uid=os.geteuid(), gid=os.getegid()), os.getpid()
    os.environ[files["FOLDER"]] = str(folder.path)
    atexit.register(lambda: folder.close() if os.getpid() == own else None)


if os.environ.get("METRICS_PORT", "").isdigit():
    _share_metrics()

# ruff: noqa: E402 -- the application is imported after that
from app.api.tasks import SOURCES, TASKS
from app.clients.broker import DRAIN_TASK, make_celery
from app.core.leases import Heartbeat
from app.core.scheduling import Scheduler
from app.core.worker import Worker
from app.core.workers import Presence, WorkerKind
from app.web.metrics_server import serve_metrics
from wsgi import app as catalog

#: Seconds after which a task passes its job on to a new task, which bounds the wait of a shutdown.
MAX_TASK_SECONDS = 60

if not catalog.config["CELERY_BROKER_URL"]:
    sys.exit("catalog-api: CELERY_BROKER_URL must be set for a Celery worker; `flask worker` does without")
app = make_celery(catalog.config["CELERY_BROKER_URL"])
scheduler = Scheduler(TASKS, SOURCES)
#: Of this worker: the processes of its pool have the same one, and each notes that it is there.
presence = Presence(WorkerKind.CELERY, version=catalog.config["VERSION"])


@app.task(name=DRAIN_TASK)  # type: ignore[untyped-decorator]  # as above
def drain() -> None:
    """Run the jobs that are due."""
    with catalog.app_context():
        presence.note()
        scheduler.tick()
    deadline = time.monotonic() + MAX_TASK_SECONDS
    with Heartbeat(catalog.app_context) as heartbeat, presence.kept_up(catalog.app_context):
        Worker(TASKS, catalog.app_context, stop=lambda: time.monotonic() > deadline, heartbeat=heartbeat).drain()
    if time.monotonic() > deadline:
        drain.delay()


@worker_shutdown.connect  # type: ignore[untyped-decorator]  # as above
def withdraw(**_: Any) -> None:
    """Withdraw the worker, after its pool has ended."""
    with catalog.app_context():
        presence.withdraw()


@worker_ready.connect  # type: ignore[untyped-decorator]  # as above
def serve_metrics_of_all(**_: Any) -> None:
    """Serve the metrics, in the process that runs no jobs and has begun the others."""
    serve_metrics(catalog)
