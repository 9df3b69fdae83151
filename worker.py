"""The Celery entry point, for deployments with a broker: `celery --app worker worker --beat`."""

import sys
import time

from app.api.tasks import SOURCES, TASKS
from app.clients.broker import DRAIN_TASK, make_celery
from app.core.leases import Heartbeat
from app.core.scheduling import Scheduler
from app.core.worker import Worker
from wsgi import app as catalog

#: Seconds after which a task passes its job on to a new task, which bounds the wait of a shutdown.
MAX_TASK_SECONDS = 60

if not catalog.config["CELERY_BROKER_URL"]:
    sys.exit("catalog-api: CELERY_BROKER_URL must be set for a Celery worker; `flask worker` does without")
app = make_celery(catalog.config["CELERY_BROKER_URL"])
scheduler = Scheduler(TASKS, SOURCES)


@app.task(name=DRAIN_TASK)  # type: ignore[untyped-decorator]  # Celery is published without types
def drain() -> None:
    """Run the jobs that are due."""
    with catalog.app_context():
        scheduler.tick()
    deadline = time.monotonic() + MAX_TASK_SECONDS
    with Heartbeat(catalog.app_context) as heartbeat:
        Worker(TASKS, catalog.app_context, stop=lambda: time.monotonic() > deadline, heartbeat=heartbeat).drain()
    if time.monotonic() > deadline:
        drain.delay()
