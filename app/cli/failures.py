"""How commands fail: what is no fault of this program is one line and exit code 1, instead of a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.core.errors import Refusal
from app.core.sqlstates import code_of

#: PostgreSQL's code for a table that is not there.
UNDEFINED_TABLE = "42P01"


@contextmanager
def failures_in_one_line() -> Iterator[None]:
    """For refusals, and for a database that is away, busy, empty or of another release."""
    try:
        yield
    except Refusal as refusal:
        raise click.ClickException(refusal.sentence()) from None
    except (DBAPIError, PoolTimeoutError) as error:
        raise click.ClickException(f"the database failed: {describe_failure(error)}") from None


def describe_failure(error: DBAPIError | PoolTimeoutError) -> str:
    """What the driver says, on one line of at most 300 characters, without values or passwords."""
    # The first two quote what was to be stored; the pool's names no cause either.
    if isinstance(error, DataError | IntegrityError | PoolTimeoutError):
        return type(error).__name__
    said = " ".join(str(error.orig).split())[:300]
    is_empty = said.startswith("no such table") or code_of(error) == UNDEFINED_TABLE
    return f"{said} (is `flask db upgrade` done?)" if is_empty else said
