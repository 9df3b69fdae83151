"""The guard on failed logins: how many guesses at one account are answered.

It counts in the database, so that no outage of Redis opens the door, and by the network of the client (a /24 of IPv4, a
/64 of IPv6) beside the account, so that no attacker can lock an owner out. Unknown accounts are counted
alike, by a hash.
"""

import hashlib
import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, case, delete, exists, select, update
from sqlalchemy.dialects import postgresql, sqlite

from app.core import clock
from app.core.pruning import delete_batch
from app.extensions import db
from app.features.auth.models import LoginFailures, NetworkLoginFailures, TooManyFailures
from app.features.sessions.models import SessionNetwork
from app.features.sessions.service import NETWORK_KNOWN_FOR
from app.features.users.models import User
from app.security.networks import network_of

#: The time in which failures are counted together: from the first of them on.
FAILURE_WINDOW = timedelta(minutes=5)
#: This many failures of one network close the account to it.
MAX_FAILURES_PER_NETWORK = 10
#: This many failures of all networks close the account to those that it has had no session in lately.
MAX_FAILURES_PER_ACCOUNT = 50


class _Counter(NamedTuple):
    """A row that counts failures, whether it is there yet or not."""

    model: type[LoginFailures | NetworkLoginFailures]
    key: dict[str, str]
    max_failures: int

    @property
    def row(self) -> list[ColumnElement[bool]]:
        """The condition that selects the counter's row."""
        return [self.model.__table__.c[name] == value for name, value in self.key.items()]


def require_few_failures(email: str, address: str) -> None:
    """Refuse an attempt, before any work is done for it, while there were too many failures (``TooManyFailures``)."""
    for counter in _counters(email, address):
        model = counter.model
        has_too_many = model.failures >= counter.max_failures, model.first_at > clock.now() - FAILURE_WINDOW
        row = db.session.execute(select(model.first_at).where(*counter.row, *has_too_many)).one_or_none()
        if row is not None:
            _refuse_unless_known(counter, row.first_at, email, address)


def count_attempt(email: str, address: str) -> bool:
    """Count an attempt as a failure before its password is judged; returns whether the limit is reached with it.

    Refuses one too many (``TooManyFailures``). The count stays locked until the transaction ends: several attempts at
    the same moment, in any number of workers, are judged one after the other.
    """
    is_last = False
    for counter in _counters(email, address):
        failures, first_at = _count(counter)
        if failures > counter.max_failures:
            _refuse_unless_known(counter, first_at, email, address)
        is_last |= failures == counter.max_failures
    return is_last


def forgive(email: str, address: str) -> None:
    """Take back an attempt that was counted and was right, and forget the failures before it in the same network.

    Those of other networks stay: the owner's logins must not give an attacker elsewhere more guesses.
    """
    of_network, of_account = _counters(email, address)
    db.session.execute(delete(of_network.model).where(*of_network.row))
    of_all = of_account.model
    db.session.execute(update(of_all).where(*of_account.row).values(failures=of_all.failures - 1))


def prune_failures() -> int:
    """Delete a batch of the failures whose window has ended; how many counters they were."""
    before = clock.now() - FAILURE_WINDOW
    counters = (NetworkLoginFailures, LoginFailures)
    return sum(delete_batch(counter, counter.first_at < before) for counter in counters)


def _counters(email: str, address: str) -> Iterator[_Counter]:
    # Always in this order, so that two attempts never wait for each other's row.
    account = hashlib.sha256(email.lower().encode()).hexdigest()
    of_network = {"account": account, "network": network_of(address)}
    yield _Counter(NetworkLoginFailures, of_network, MAX_FAILURES_PER_NETWORK)
    yield _Counter(LoginFailures, {"account": account}, MAX_FAILURES_PER_ACCOUNT)


def _count(counter: _Counter) -> tuple[int, datetime]:
    model, now = counter.model, clock.now()
    insert = postgresql.insert if db.engine.dialect.name == "postgresql" else sqlite.insert
    is_old = model.first_at <= now - FAILURE_WINDOW
    row = db.session.execute(
        insert(model)
        .values(**counter.key, failures=1, first_at=now)
        .on_conflict_do_update(
            index_elements=list(counter.key),
            set_={
                "failures": case((is_old, 1), else_=model.failures + 1),
                "first_at": case((is_old, now), else_=model.first_at),
            },
        )
        .returning(model.failures, model.first_at)
    ).one()
    return row.failures, row.first_at


def _refuse_unless_known(counter: _Counter, first_at: datetime, email: str, address: str) -> None:
    # A network has its own failures to answer for; those of all others it only has to answer for as a stranger.
    if counter.model is NetworkLoginFailures or not _is_known_in(email, address):
        left = first_at + FAILURE_WINDOW - clock.now()
        raise TooManyFailures(retry_after=max(1, math.ceil(left.total_seconds())))


def _is_known_in(email: str, address: str) -> bool:
    """Whether the account has had a session in this network lately."""
    known = exists().where(
        SessionNetwork.user_id == User.id,
        User.email == email.lower(),
        SessionNetwork.network == network_of(address),
        SessionNetwork.seen_at > clock.now() - NETWORK_KNOWN_FOR,
    )
    return bool(db.session.scalar(select(known)))
