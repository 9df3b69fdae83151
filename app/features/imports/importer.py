"""The importer: rows are validated and saved in chunks, each in a transaction of its own.

The command line and the API share it. Whoever drives it takes the report of each chunk as it comes; a crash leaves the
chunks before it whole, and importing the file again finds those products unchanged.
"""

import random
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice

import marshmallow as ma
from sqlalchemy.exc import IntegrityError, OperationalError

from app.core.database import unit_of_work
from app.features.categories import models as categories
from app.features.imports import service
from app.features.imports.models import BadRow, Report, Row
from app.features.imports.schemas import ImportRowSchema
from app.web.schemas import shared
from app.web.validation import faults_of

ROWS_PER_CHUNK = 1000

#: What another transaction can do to a chunk: a slug taken or a category deleted meanwhile, a deadlock, a lock held.
_TRANSIENT = (IntegrityError, OperationalError, categories.SlugTaken)
_ATTEMPTS = 4


def import_rows(
    rows: Iterable[Row | BadRow], *, currency: str, dry_run: bool = False, rows_per_chunk: int = ROWS_PER_CHUNK
) -> Iterator[Report]:
    """Import rows, and report on each chunk once it is saved. A row without a currency gets this one.

    A dry run saves nothing and reports the same.
    """
    seen: dict[str, str] = {}
    source = iter(rows)
    while read := list(islice(source, rows_per_chunk)):
        checked = [_check(row, currency) for row in read]
        good = [row for row in checked if isinstance(row, Row)]
        chunk = _save(good, seen=seen, dry_run=dry_run) if good else service.SavedChunk(Report())
        seen |= chunk.filed
        yield _complete(chunk.report, checked)


def _check(row: Row | BadRow, currency: str) -> Row | BadRow:
    if isinstance(row, BadRow):
        return row
    try:
        values = shared(ImportRowSchema).load(row.values)
    except ma.ValidationError as error:
        return BadRow.of_faults(row.line, faults_of(error.messages))
    return Row(row.line, {"currency": currency, **values})


def _save(rows: list[Row], *, seen: Mapping[str, str], dry_run: bool) -> service.SavedChunk:
    # A chunk that was saved although its COMMIT seemed to fail is harmless: the repetition finds it unchanged.
    for attempt in range(1, _ATTEMPTS):
        try:
            return _save_once(rows, seen=seen, dry_run=dry_run)
        except _TRANSIENT:
            time.sleep(random.uniform(0, 0.2) * attempt)  # noqa: S311 -- apart from the other, not hidden from anybody
    return _save_once(rows, seen=seen, dry_run=dry_run)


def _save_once(rows: list[Row], *, seen: Mapping[str, str], dry_run: bool) -> service.SavedChunk:
    with _undone() if dry_run else unit_of_work():
        return service.save_chunk(rows, seen=seen)


class _Undo(Exception):
    """Ends a transaction that is to leave nothing."""


@contextmanager
def _undone() -> Iterator[None]:
    with suppress(_Undo), unit_of_work():
        yield
        raise _Undo


def _complete(report: Report, checked: list[Row | BadRow]) -> Report:
    for row in checked:
        if isinstance(row, BadRow):
            report.fail(row)
    report.errors.sort(key=lambda error: error.line)
    report.last_line = checked[-1].line
    return report
