"""The collector of these metrics: asked at each scrape, it asks the database every few seconds at most."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app.core.errors import Unavailable
from app.core.probes import Probe
from app.core.sqlstates import Meaning, meaning_of
from app.features.monitoring import service
from app.features.monitoring.service import Queues

#: Seconds for which one answer of the database is good, however many scrape.
MAX_AGE = 5.0
#: Seconds after which a scrape goes on without it.
TIMEOUT = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Answer:
    """Whether the database is there, and what it says: None where that takes it too long, or it has another schema."""

    is_up: bool
    queues: Queues | None = None


class DatabaseCollector(Collector):
    """What the database knows; thread-safe. ``context`` makes a context of the application.

    A database that hangs gives `catalog_database_up` 0 and none of the others.
    """

    def __init__(self, context: Callable[[], AbstractContextManager[object]]) -> None:
        self._context = context
        self._probe = Probe(self._ask, max_age=MAX_AGE, timeout=TIMEOUT)

    def collect(self) -> Iterator[Metric]:
        """The metrics, within TIMEOUT."""
        sight = self._probe.read()
        is_up = sight is not None and sight.value.is_up
        yield GaugeMetricFamily("catalog_database_up", "1 where the database answers, else 0.", value=is_up)
        if sight is not None and sight.value.queues is not None:
            yield from metrics_of(sight.value.queues)

    def _ask(self) -> Answer:
        try:
            with self._context():
                return Answer(is_up=True, queues=service.read_queues())
        except DBAPIError as error:
            log.warning("queues_unread", error=type(error.orig).__name__)
            return Answer(is_up=meaning_of(error) is not Meaning.UNAVAILABLE)
        except (SQLAlchemyError, Unavailable) as error:
            log.warning("queues_unread", error=type(error).__name__)
            return Answer(is_up=False)


def metrics_of(queues: Queues) -> Iterator[Metric]:
    """What is read of the database, as metrics."""
    jobs = GaugeMetricFamily(
        "catalog_jobs", "Jobs that have not ended, or have failed, by kind and status.", labels=("kind", "status")
    )
    for (kind, status), number in queues.jobs.items():
        jobs.add_metric((kind, status), number)
    yield jobs
    yield _gauge("jobs_oldest_due_seconds", "For how long the oldest job has been due.", kind=queues.oldest_due)
    yield _gauge("workers", "Processes that run jobs.", kind=queues.workers)
    yield _gauge("workers_silent", "Workers that died, or hang, within a day.", kind=queues.silent_workers)
    yield _gauge("worker_last_seen_seconds", "The age of the latest heartbeat of a worker.", kind=queues.last_seen)
    yield _gauge("webhooks", "Endpoints, by state.", state=queues.webhooks)
    yield _gauge(
        "webhook_lag_seconds",
        "The age of the oldest change that no message was made of, and for how long the oldest message has been due.",
        stage={"feed": queues.feed_lag, "delivery": queues.delivery_lag},
    )
    yield _gauge("media", "Pictures that are not ready, by status.", status=queues.media)
    yield GaugeMetricFamily(
        "catalog_accounts_blocked", "Accounts that refuse logins for now.", value=queues.blocked_accounts
    )


def _gauge(name: str, text: str, **by_label: Mapping[str, float]) -> Metric:
    """A gauge by one label, which the keyword names."""
    [(label, values)] = by_label.items()
    family = GaugeMetricFamily(f"catalog_{name}", text, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family
