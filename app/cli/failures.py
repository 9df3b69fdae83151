"""Failures of commands: one line and exit code 1 instead of a traceback, where the cause is no bug."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.core.errors import Refusal
from app.core.sqlstates import code_of

#: PostgreSQL's SQLSTATE for a missing table.
UNDEFINED_TABLE = "42P01"


@contextmanager
def failures_in_one_line() -> Iterator[None]:
    """Turn refusals, and errors of an unavailable, busy, empty or outdated database, into a ``ClickException``."""
    try:
        yield
    except Refusal as refusal:
        raise click.ClickException(refusal.sentence()) from None
    except (DBAPIError, PoolTimeoutError) as error:
        raise click.ClickException(f"the database failed: {describe_failure(error)}") from None


def describe_failure(error: DBAPIError | PoolTimeoutError) -> str:
    """The driver's message on one line of at most 300 characters, without values or passwords."""
    # The messages of the first two quote the row, and the pool's contains no cause.
    if isinstance(error, DataError | IntegrityError | PoolTimeoutError):
        return type(error).__name__
    message = " ".join(str(error.orig).split())[:300]
    is_empty = message.startswith("no such table") or code_of(error) == UNDEFINED_TABLE
    return f"{message} (is `flask db upgrade` done?)" if is_empty else message
