"""The Celery entry, for deployments that have a broker: `celery --app worker worker --beat`."""

import sys
import time

from app.api.tasks import TASKS
from app.clients.broker import DRAIN_TASK, make_celery
from app.core.worker import Worker
from wsgi import app as catalog

#: Seconds after which a drain leaves its job to the next one, so that a shutdown waits no longer than that.
SLICE = 60

if not catalog.config["CELERY_BROKER_URL"]:
    sys.exit("catalog-api: CELERY_BROKER_URL must be set for a Celery worker; `flask worker` does without")
app = make_celery(catalog.config["CELERY_BROKER_URL"])


@app.task(name=DRAIN_TASK)  # type: ignore[untyped-decorator]  # Celery is published without types
def drain() -> None:
    """Do what is due."""
    end = time.monotonic() + SLICE
    Worker(TASKS, catalog.app_context, stop=lambda: time.monotonic() > end).drain()
    if time.monotonic() > end:
        drain.delay()
