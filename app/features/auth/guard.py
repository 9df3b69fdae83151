"""The limit on failed logins: how many guesses at the password of one account are checked (decision 26).

It counts in the database, because limits in Redis do not hold while Redis is down; and by account and client network (a
/24 of IPv4, a /64 of IPv6), because a limit by account alone lets an attacker lock the owner out. Unknown accounts are
counted in the same way, by a hash of the address, so that the limit does not reveal whether an account exists.
"""

import hashlib
import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, case, delete, exists, select, update

from app.core import clock
from app.core.pruning import delete_batch
from app.core.upserts import insert_into
from app.extensions import db
from app.features.auth.models import (
    MAX_FAILURES_PER_ACCOUNT,
    MAX_FAILURES_PER_NETWORK,
    LoginFailures,
    NetworkLoginFailures,
    TooManyFailures,
)
from app.features.sessions.models import SessionNetwork
from app.features.sessions.service import KNOWN_NETWORK_RETENTION
from app.features.users.models import User
from app.security.networks import network_of

#: Failures are counted in a fixed window, which begins with the first of them.
FAILURE_WINDOW = timedelta(minutes=5)


class _Counter(NamedTuple):
    """The key and the limit of a row that counts failures; the row may not exist yet."""

    model: type[LoginFailures | NetworkLoginFailures]
    key: dict[str, str]
    max_failures: int

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        """The conditions that select the row."""
        return [self.model.__table__.c[name] == value for name, value in self.key.items()]


def require_few_failures(email: str, address: str) -> None:
    """Refuse an attempt before any work is done for it, if there are too many failures (``TooManyFailures``)."""
    for counter in _counters(email, address):
        model = counter.model
        has_too_many = model.failures >= counter.max_failures, model.first_at > clock.now() - FAILURE_WINDOW
        row = db.session.execute(select(model.first_at).where(*counter.conditions, *has_too_many)).one_or_none()
        if row is not None:
            _refuse_unless_known_network(counter, row.first_at, email, address)


def count_attempt(email: str, address: str) -> bool:
    """Count an attempt as a failure before its password is accepted or refused; whether this attempt reaches a limit.

    Refuses an attempt beyond a limit (``TooManyFailures``). The counters stay locked until the transaction ends, so
    concurrent attempts, in any number of workers, are decided one after the other.
    """
    reaches_limit = False
    for counter in _counters(email, address):
        failures, first_at = _increment(counter)
        if failures > counter.max_failures:
            _refuse_unless_known_network(counter, first_at, email, address)
        reaches_limit |= failures == counter.max_failures
    return reaches_limit


def clear_failures(email: str, address: str) -> None:
    """Subtract an attempt that was counted and succeeded, and delete the earlier failures from the same network.

    Failures from other networks stay: the owner's logins must not give an attacker elsewhere more guesses.
    """
    by_network, by_account = _counters(email, address)
    db.session.execute(delete(by_network.model).where(*by_network.conditions))
    model = by_account.model
    db.session.execute(update(model).where(*by_account.conditions).values(failures=model.failures - 1))


def prune_failures() -> int:
    """Delete a batch of the counters whose window has ended; the number of counters."""
    before = clock.now() - FAILURE_WINDOW
    counters = (NetworkLoginFailures, LoginFailures)
    return sum(delete_batch(counter, counter.first_at < before) for counter in counters)


def _counters(email: str, address: str) -> Iterator[_Counter]:
    # Always in this order: two attempts that lock the rows in different orders would deadlock.
    account = hashlib.sha256(email.lower().encode()).hexdigest()
    account_and_network = {"account": account, "network": network_of(address)}
    yield _Counter(NetworkLoginFailures, account_and_network, MAX_FAILURES_PER_NETWORK)
    yield _Counter(LoginFailures, {"account": account}, MAX_FAILURES_PER_ACCOUNT)


def _increment(counter: _Counter) -> tuple[int, datetime]:
    model, now = counter.model, clock.now()
    is_expired = model.first_at <= now - FAILURE_WINDOW
    row = db.session.execute(
        insert_into(model)
        .values(**counter.key, failures=1, first_at=now)
        .on_conflict_do_update(
            index_elements=list(counter.key),
            set_={
                "failures": case((is_expired, 1), else_=model.failures + 1),
                "first_at": case((is_expired, now), else_=model.first_at),
            },
        )
        .returning(model.failures, model.first_at)
    ).one()
    return row.failures, row.first_at


def _refuse_unless_known_network(counter: _Counter, first_at: datetime, email: str, address: str) -> None:
    # A network's own failures always count against it; those of others only if the account had no session in it.
    if counter.model is NetworkLoginFailures or not _is_known_network(email, address):
        remaining = first_at + FAILURE_WINDOW - clock.now()
        raise TooManyFailures(retry_after=max(1, math.ceil(remaining.total_seconds())))


def _is_known_network(email: str, address: str) -> bool:
    """Whether the account opened or refreshed a session in this network within ``KNOWN_NETWORK_RETENTION``."""
    known = exists().where(
        SessionNetwork.user_id == User.id,
        User.email == email.lower(),
        SessionNetwork.network == network_of(address),
        SessionNetwork.seen_at > clock.now() - KNOWN_NETWORK_RETENTION,
    )
    return bool(db.session.scalar(select(known)))
