"""What is deleted once its time is over: by the periodic job, and by ``flask prune``."""

from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import timedelta
from functools import partial

import structlog
from flask import current_app

from app.clients.object_store import StoreUnavailable, current_store
from app.core import clock, jobs
from app.core.changelog import LOG_RETENTION
from app.core.idempotency import prune_responses
from app.core.jobs import JOB_RETENTION, Claim, prune_jobs
from app.core.pruning import iter_batches
from app.core.transactions import unit_of_work
from app.core.workers import WORKER_RETENTION, prune_workers
from app.features.auth import guard
from app.features.events import service as events
from app.features.identities import service as identities
from app.features.imports import service as imports
from app.features.media import removal
from app.features.oauth import codes
from app.features.search_terms import service as search_terms
from app.features.sessions import service as sessions
from app.features.stock import service as stock
from app.features.webhooks import service as webhooks

#: The kind of the periodic job.
KIND = "prune"
EVERY = timedelta(hours=1)

log = structlog.get_logger(__name__)


def run_prune(claim: Claim) -> Generator[None, None, None]:
    """Delete what has expired, yielding after each batch. It may stop at any time; the next run goes on."""
    for _ in delete_expired():
        yield
        with unit_of_work(reading=True):
            # No batch writes to the job, so that only this notices that it was cancelled.
            jobs.confirm(claim, claim.progress)


def delete_expired() -> Iterator[tuple[str, int]]:
    """Delete what has expired; for each batch that is committed what it was, and how many rows. Each ends with a 0.

    Pictures come last: a media store that cannot be reached is logged, and stops nothing.
    """
    _expire_events()
    for what, batch in _batches().items():
        for number in iter_batches(batch):
            yield what, number
    for number in _remove_media():
        yield "media", number


def _remove_media() -> Iterator[int]:
    now, store = clock.now(), current_store()
    try:
        yield from removal.remove(before=now - removal.UNPLACED_RETENTION, store=store)
    except StoreUnavailable as refusal:
        log.warning("media_not_removed", reason=refusal.sentence())
    yield 0


def _expire_events() -> None:
    retention = timedelta(seconds=current_app.config["EVENT_RETENTION"])
    with unit_of_work(reading=True):
        events.number_all_changes()
    with unit_of_work():
        events.expire_events(before=clock.now() - retention)


def _batches() -> Mapping[str, Callable[[], int]]:
    lifetime = timedelta(seconds=current_app.config["REFRESH_TOKEN_TTL"])
    # One moment for all: a job is deleted after its import, not before.
    now = clock.now()
    return {
        "sessions": partial(sessions.prune_sessions, before=now - lifetime),
        "networks of sessions": sessions.prune_networks,
        "codes of logins": identities.prune_codes,
        "authorization codes": codes.prune_codes,
        "counters of failed logins": guard.prune_failures,
        "holds": stock.prune_holds,
        "deliveries of webhooks": webhooks.prune_deliveries,
        "webhooks": webhooks.prune_webhooks,
        "imports": partial(imports.prune_imports, before=now - JOB_RETENTION),
        "jobs": partial(prune_jobs, before=now - JOB_RETENTION),
        "workers": partial(prune_workers, before=now - WORKER_RETENTION),
        "responses to idempotency keys": prune_responses,
        "search terms": search_terms.prune_terms,
        "changes of the log": partial(events.prune_log, before=now - LOG_RETENTION),
        "events of the change feed": events.prune_events,
    }
