"""The importer: rows are validated and saved in chunks, each in a transaction of its own.

The command line and the API share it. Their loops take the report of each chunk as it comes; a crash leaves the chunks
before it whole. The command line remembers what a file has had in memory, and importing the file again finds
those products unchanged; the API remembers it in the transaction of each chunk, and goes on after the last of them.
"""

import random
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice

import marshmallow as ma
from sqlalchemy.exc import IntegrityError, OperationalError

from app.core.slugs import SlugTaken
from app.core.transactions import unit_of_work
from app.features.brands.models import BrandNameTaken
from app.features.imports import service
from app.features.imports.models import BadRow, Report, Row
from app.features.imports.schemas import ImportRowSchema
from app.web.schemas import shared
from app.web.validation import faults_of

ROWS_PER_CHUNK = 1000

#: What another transaction can do to a chunk: a slug or name taken or a category deleted meanwhile, a deadlock, a lock.
_TRANSIENT = (IntegrityError, OperationalError, SlugTaken, BrandNameTaken)
_ATTEMPTS = 4


class Memory:
    """What later chunks of a file must know of those before: here of one run, in this process."""

    def __init__(self) -> None:
        self._filed: dict[str, str] = {}

    def recall(self, _skus: Collection[str]) -> Mapping[str, str]:
        """The category's name of each of these skus that an earlier chunk had."""
        return self._filed

    def record(self, report: Report, filed: Mapping[str, str]) -> None:
        """Take note of a chunk, in its transaction."""

    def keep(self, filed: Mapping[str, str]) -> None:
        """Take note of a chunk that is saved."""
        self._filed |= filed


def import_rows(
    rows: Iterable[Row | BadRow],
    *,
    currency: str,
    dry_run: bool = False,
    rows_per_chunk: int = ROWS_PER_CHUNK,
    memory: Memory | None = None,
) -> Iterator[Report]:
    """Import rows, and report on each chunk of ``rows_per_chunk`` once it is saved.

    A new product whose row states no currency gets ``currency``. A dry run saves nothing and reports the same. Raises
    the error of the database where a chunk fails again and again; the chunks before it stay.
    """
    memory = memory or Memory()
    source = iter(rows)
    while read := list(islice(source, rows_per_chunk)):
        checked = [_check(row) for row in read]
        chunk = _save(checked, currency=currency, memory=memory, dry_run=dry_run)
        memory.keep(chunk.filed)
        yield chunk.report


def _check(row: Row | BadRow) -> Row | BadRow:
    if isinstance(row, BadRow):
        return row
    try:
        values = shared(ImportRowSchema).load(row.values)
    except ma.ValidationError as error:
        return BadRow.of_faults(row.line, faults_of(error.messages))
    return Row(row.line, values)


def _save(checked: list[Row | BadRow], *, currency: str, memory: Memory, dry_run: bool) -> service.SavedChunk:
    # A chunk that was saved although its COMMIT seemed to fail is harmless: the repetition finds it unchanged.
    for attempt in range(1, _ATTEMPTS):
        try:
            return _save_once(checked, currency=currency, memory=memory, dry_run=dry_run)
        except _TRANSIENT:
            time.sleep(random.uniform(0, 0.2) * attempt)  # noqa: S311 -- jitter, not a secret
    return _save_once(checked, currency=currency, memory=memory, dry_run=dry_run)


def _save_once(checked: list[Row | BadRow], *, currency: str, memory: Memory, dry_run: bool) -> service.SavedChunk:
    good = [row for row in checked if isinstance(row, Row)]
    with _undone() if dry_run else unit_of_work():
        seen = memory.recall({row.values["sku"] for row in good})
        chunk = service.save_chunk(good, seen=seen, currency=currency) if good else service.SavedChunk(Report())
        _complete(chunk.report, checked)
        memory.record(chunk.report, chunk.filed)
    return chunk


class _Undo(Exception):
    """Ends a transaction that is to leave nothing."""


@contextmanager
def _undone() -> Iterator[None]:
    with suppress(_Undo), unit_of_work():
        yield
        raise _Undo


def _complete(report: Report, checked: list[Row | BadRow]) -> None:
    for row in checked:
        if isinstance(row, BadRow):
            report.fail(row)
    report.errors.sort(key=lambda error: error.line)
    report.last_line = checked[-1].line
