"""Keeps the leases of jobs whose steps take long: a thread renews them while the steps run.

A process that dies renews nothing, so that its jobs are taken over when their leases expire. A step that hangs is given
up after a while: then its lease expires as well, and whatever it does later is rolled back.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import structlog

from app.core import jobs
from app.core.jobs import Claim
from app.core.transactions import unit_of_work

#: Seconds of one step after which its lease is renewed no more, and another worker takes its job over.
MAX_STEP_SECONDS = 15 * 60.0

log = structlog.get_logger(__name__)


@dataclass
class _Held:
    claim: Claim
    #: When the step at hand began, as `time.monotonic` has it.
    since: float
    is_given_up: bool = False


class Heartbeat:
    """Renews the leases of what runs in this process, each third of their length of ``lease`` seconds; thread-safe.

    Used as a context manager, its thread runs for the length of the block. ``context`` makes a context of the
    application for it.
    """

    def __init__(
        self,
        context: Callable[[], AbstractContextManager[object]],
        *,
        lease: int = jobs.LEASE_SECONDS,
        max_step: float = MAX_STEP_SECONDS,
    ) -> None:
        self._context, self._lease, self._max_step = context, lease, max_step
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=5)

    @contextmanager
    def holding(self, claim: Claim) -> Iterator[Callable[[], None]]:
        """Renew the lease of a claim for the length of the block; yields what to call when a new step begins."""
        held = _Held(claim, time.monotonic())

        def note_step() -> None:
            held.since, held.is_given_up = time.monotonic(), False

        with self._lock:
            self._held[claim.lease] = held
        try:
            yield note_step
        finally:
            with self._lock:
                self._held.pop(claim.lease, None)

    def _beat(self) -> None:
        pause = self._lease / 3
        while not self._over.wait(pause):
            # A renewal that failed is repeated soon: two thirds of the lease are left at most.
            pause = self._lease / 3 if self._renew() else self._lease / 12

    def _renew(self) -> bool:
        claims = self._current()
        if not claims:
            return True
        try:
            with self._context(), unit_of_work():
                jobs.renew(claims)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the next beat may succeed
            log.warning("renewal_failed", error=type(error).__name__, jobs=[claim.job_id for claim in claims])
            return False
        return True

    def _current(self) -> list[Claim]:
        """The claims whose steps may go on; one that hangs is given up."""
        with self._lock:
            all_held = [held for held in self._held.values() if not held.is_given_up]
        for held in all_held:
            if time.monotonic() - held.since > self._max_step:
                held.is_given_up = True
                log.error("job_hangs", job_id=held.claim.job_id, kind=held.claim.kind, seconds=self._max_step)
        return [held.claim for held in all_held if not held.is_given_up]
