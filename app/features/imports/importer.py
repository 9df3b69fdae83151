"""The importer: rows are validated and saved in chunks, each in a transaction of its own.

The command line and the API share it. Their loops take the report of each chunk as it comes; a crash leaves the chunks
before it whole. The command line remembers what a file has had in a temporary file, and importing the file again finds
those products unchanged; the API remembers it in the transaction of each chunk, and goes on after the last of them.
"""

import random
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import marshmallow as ma
from sqlalchemy.exc import IntegrityError, OperationalError

from app.core.errors import Fault, Invalid
from app.core.slugs import SlugTaken
from app.core.transactions import unit_of_work
from app.features.brands.models import BrandNameTaken
from app.features.exports.files import PARENT
from app.features.imports import service
from app.features.imports.filing import MAKERS
from app.features.imports.first_rows import FirstRow, TemporaryFirstRows, fingerprint
from app.features.imports.parents import Parents
from app.features.imports.reading.columns import ATTRIBUTE, OPTION
from app.features.imports.reading.files import RowFile
from app.features.imports.reading.forms import explain
from app.features.imports.reading.types import TypedCells
from app.features.imports.report import Report
from app.features.imports.row_schema import ImportRowSchema
from app.features.imports.rows import BadRow, Row, RowError, shortened
from app.features.media.models import MediaBusy
from app.features.product_types.rules import Definition, all_definitions
from app.features.products.models import DEFAULTS, KEYS
from app.web.schemas import shared
from app.web.validation import faults_of

ROWS_PER_CHUNK = 1000

#: What another transaction can do to a chunk: a slug or name taken or a category deleted meanwhile, a deadlock, a lock.
_TRANSIENT = (IntegrityError, OperationalError, SlugTaken, BrandNameTaken, MediaBusy)
_ATTEMPTS = 4


class KeyMissing(Invalid):
    """Every row needs its key."""


@dataclass
class Chunk:
    """What became of a chunk of rows: the report, the failed rows, and the keys that its rows are the first with.

    ``waiting`` are the lines of rows, and the assets of pictures that each waits for.
    """

    report: Report
    bad: Sequence[BadRow]
    first_rows: Mapping[str, FirstRow]
    waiting: Sequence[tuple[int, int]] = ()


class _Keyed(NamedTuple):
    """A row with its key, as it is compared; None where it has no valid one."""

    row: Row | BadRow
    key: str | None = None


class Memory:
    """What later chunks of a file must know of those before: here of one run, in a temporary file."""

    def __init__(self) -> None:
        self._first_rows = TemporaryFirstRows()

    def begin(self) -> None:
        """Begin the transaction of a chunk."""

    def recall(self, keys: Collection[str]) -> Mapping[str, FirstRow]:
        """The first rows with these keys, of earlier chunks."""
        return self._first_rows.find(keys)

    def record(self, chunk: Chunk) -> None:
        """Take note of a chunk, in its transaction."""

    def keep(self, chunk: Chunk) -> None:
        """Take note of a chunk that is saved."""
        self._first_rows.add(chunk.first_rows)

    def close(self) -> None:
        """Forget everything."""
        self._first_rows.close()


def import_rows(
    file: RowFile,
    *,
    status: str | None = None,
    dry_run: bool = False,
    rows_per_chunk: int = ROWS_PER_CHUNK,
    makes: Collection[str] = tuple(MAKERS),
    may_fetch: bool = True,
    memory: Memory | None = None,
    skip: int = 0,
) -> Iterator[Chunk]:
    """Import the rows of a file after the first ``skip``; report on each chunk of ``rows_per_chunk`` once it is saved.

    A new product whose row states no status gets ``status``. The row of a parent is saved with the first chunk that has
    a variant of it, wherever it stands. A dry run saves nothing and reports the same. A category or brand that is not
    there is made where it is among what the import ``makes``, and the URL of a picture is fetched in the background,
    but not without ``may_fetch``. Raises the error of the database where a chunk fails again and again; the chunks
    before it stay.
    """
    defaults = dict(DEFAULTS) | {"currency": file.reading.currency or file.reading.default_currency}
    defaults |= {"status": status} if status else {}
    with closing(memory or Memory()) as remembered, closing(Parents(file)) as parents:
        saving = _Saving(file, remembered, defaults, makes, parents, dry_run=dry_run, may_fetch=may_fetch)
        file.skip(skip)
        while read := list(islice(file.rows, rows_per_chunk)):
            yield saving.save([saving.check(row) for row in read])


@dataclass(frozen=True)
class _Saving:
    """How the chunks of a file are saved."""

    file: RowFile
    memory: Memory
    defaults: Mapping[str, Any]
    makes: Collection[str]
    parents: Parents
    dry_run: bool
    may_fetch: bool

    @cached_property
    def _types(self) -> TypedCells:
        # NDJSON has types of its own.
        definitions: Mapping[str, Definition] = {}
        if any(name.startswith((ATTRIBUTE, OPTION)) for name in (*self.file.sources, *self.file.reading.constants)):
            with unit_of_work(reading=True):
                definitions = all_definitions()
        return TypedCells(self.file.reading, definitions)

    def check(self, row: Row | BadRow) -> _Keyed:
        """A row with valid values, or a bad one; each with its key."""
        if isinstance(row, BadRow):
            return self._keyed(row, row.values)
        self._types.convert(row.values)
        try:
            values = shared(ImportRowSchema).load(row.values)
        except ma.ValidationError as error:
            return self._keyed(BadRow.of_faults(row.line, faults_of(error.messages), row.source), row.values)
        if values.get(self.file.reading.key) is None:
            faults = [Fault(KeyMissing.sentence(), "required", pointer=f"/{self.file.reading.key}")]
            return _Keyed(BadRow.of_faults(row.line, faults, row.source))
        return self._keyed(Row(row.line, values, row.source), values)

    def save(self, checked: Sequence[_Keyed]) -> Chunk:
        """Save a chunk, again where others were in the way."""
        # A chunk that was saved although its COMMIT seemed to fail is harmless: the repetition finds it unchanged.
        for attempt in range(1, _ATTEMPTS):
            try:
                return self._save_once(checked)
            except _TRANSIENT:
                time.sleep(random.uniform(0, 0.2) * attempt)  # noqa: S311 -- jitter, not a secret
        return self._save_once(checked)

    def _save_once(self, checked: Sequence[_Keyed]) -> Chunk:
        with _undone() if self.dry_run else unit_of_work():
            self.memory.begin()
            chunk = self._save_first(checked)
            if not self.dry_run:
                self.memory.record(chunk)
        if self.dry_run:
            # The assets of what it waits for are gone.
            chunk.waiting = ()
            with unit_of_work():
                self.memory.record(chunk)
        self.memory.keep(chunk)
        return chunk

    def _save_first(self, checked: Sequence[_Keyed]) -> Chunk:
        """Save the rows that are the first with their key, and compare the others with them."""
        ahead = self._parents_of(checked)
        seen = self.memory.recall({each.key for each in (*ahead, *checked) if each.key is not None})
        first_rows: dict[str, FirstRow] = {}
        bad: list[BadRow] = []
        first: dict[int, _Keyed] = {}
        repeats: list[_Keyed] = []
        again: list[Row] = []
        for each in (*ahead, *checked):
            earlier = None if each.key is None else first_rows.get(each.key) or seen.get(each.key)
            if earlier is not None and earlier.line == each.row.line:
                # It was saved before, for its variants perhaps, and a dry run has undone that.
                again += [each.row] if self.dry_run and isinstance(each.row, Row) else []
                continue
            if each.key is not None and earlier is None:
                content = fingerprint(each.row.source.cells)
                first_rows[each.key] = FirstRow(each.row.line, content, is_saved=isinstance(each.row, Row))
            if isinstance(each.row, BadRow):
                bad.append(each.row)
            elif earlier is None:
                first[each.row.line] = each
            elif fault := self._difference(each, earlier):
                bad.append(BadRow(each.row.line, (fault,), each.row.source))
            else:
                repeats.append(each)
        good = [each.row for each in first.values() if isinstance(each.row, Row)]
        saved = self._save_good(good, again) if good else None
        report = saved.report if saved else Report()
        bad += saved.bad if saved else []
        for row in saved.bad if saved else ():
            key = str(first[row.line].key)
            first_rows[key] = first_rows[key]._replace(is_saved=False)
        for each in repeats:
            self._merge(each, first_rows.get(str(each.key)) or seen[str(each.key)], report, bad)
        report.read = len(checked)
        chunk = self._complete(report, bad, first_rows, checked[-1].row.line)
        return replace(chunk, waiting=saved.waiting if saved else ())

    def _parents_of(self, checked: Sequence[_Keyed]) -> Sequence[_Keyed]:
        """The good rows of the parents that a chunk names and does not have."""
        rows = [each.row for each in checked if isinstance(each.row, Row)]
        named = {row.values[PARENT] for row in rows if row.values.get(PARENT)}
        found = self.parents.find(named - {row.values.get("sku") for row in rows})
        parents = [self.check(row) for row in found]
        return [each for each in parents if each.key is not None and isinstance(each.row, Row)]

    def _save_good(self, rows: Sequence[Row], again: Sequence[Row]) -> service.SavedChunk:
        """Save rows, beside those that were saved before ``again``."""
        how: dict[str, Any] = {"key": self.file.reading.key, "defaults": self.defaults, "makes": self.makes}
        how["may_fetch"] = self.may_fetch
        return service.save_chunk([*again, *rows], reported={row.line for row in again}, **how)

    def _merge(self, each: _Keyed, earlier: FirstRow, report: Report, bad: list[BadRow]) -> None:
        """Count a row that repeats another, or leave it out as that was."""
        if earlier.is_saved:
            report.merged += 1
            return
        sentence = f"This is the same as line {earlier.line}, which failed."
        bad.append(BadRow(each.row.line, (RowError(each.row.line, "", "same_as_failed", sentence),), each.row.source))

    def _difference(self, each: _Keyed, earlier: FirstRow) -> RowError | None:
        """In what a row differs from the first one with its key; None where it is the same."""
        cells = each.row.source.cells
        places = earlier.differing(fingerprint(cells))
        if places is None:
            return None
        names = self.file.names
        columns = [names[place] or f"column {place + 1}" for place in places if place < len(names)]
        fields = {column: name for name, column in self.file.sources.items()}
        # A member of the product first: that is what the catalogue would have to choose between.
        columns.sort(key=lambda column: column in self.file.unread)
        key, column = self.file.reading.key, columns[0] if columns else ""
        listed = shortened(", ".join(columns) or "something", 200)
        return RowError(
            each.row.line,
            fields.get(column, "" if column in self.file.unread else column),
            "rows_differ",
            f"Line {earlier.line} has the same {key} ({shortened(str(each.key))}) and differs in {listed}.",
            column=shortened(column),
            value=shortened(self.file.cell_of(column, cells)),
            expected=f"one row for each {key}, or the same again",
        )

    def _keyed(self, row: Row | BadRow, values: Mapping[str, Any]) -> _Keyed:
        """The row with its key, where that is valid."""
        name = self.file.reading.key
        value = values.get(name)
        if isinstance(row, BadRow):
            with suppress(ma.ValidationError):
                value = shared(ImportRowSchema).fields[name].deserialize(value, name, values)
                return _Keyed(row, KEYS[name].normalize(value)) if value else _Keyed(row)
            return _Keyed(row)
        return _Keyed(row, KEYS[name].normalize(str(value)))

    def _complete(
        self, report: Report, bad: Sequence[BadRow], first_rows: Mapping[str, FirstRow], last_line: int
    ) -> Chunk:
        explained = [
            replace(row, errors=tuple(explain(self.file, error, row.source.cells) for error in row.errors))
            for row in sorted(bad, key=lambda row: row.line)
        ]
        for row in explained:
            report.fail(row)
        report.group_faults()
        report.unread_columns = dict(self.file.unread)
        report.last_line = last_line
        return Chunk(report, explained, first_rows)


class _Undo(Exception):
    """Ends a transaction that is to leave nothing."""


@contextmanager
def _undone() -> Iterator[None]:
    with suppress(_Undo), unit_of_work():
        yield
        raise _Undo
