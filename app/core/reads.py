"""What a response reads: gathered while it is made, as the topics that it depends on (decision 42).

By default a statement reads every column that occurs in it, of all rows, and which rows there are. A column that is not
found would make a cached response stale, so what this module does not understand reads everything. A few doors, such as
`find_row` and the pages of a `Listing`, know better what their statements read, and state it themselves.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Column, Join, Select, Table, TableClause, TextClause, inspect
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql.elements import TableValuedColumn
from sqlalchemy.sql.expression import AliasedReturnsRows, ColumnClause, SelectBase, TextualSelect
from sqlalchemy.sql.functions import count

from app.core.topics import EVERYTHING, kind_of_table, topic_of_any, topic_of_column, topic_of_row, topic_of_rows


@dataclass(frozen=True)
class Extent:
    """What a statement reads: topics, by the kind of the rows."""

    topics: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: The kinds whose table occurs once in the statement: what it says of them, it says of the rows that it finds.
    once: frozenset[str] = frozenset()
    #: Whether the log of changes has every change of what it reads.
    is_logged: bool = True

    def beside(self, kind: str) -> "Extent":
        """The same without the rows of a kind."""
        return replace(self, topics={each: topics for each, topics in self.topics.items() if each != kind})

    def within(self, kind: str, scopes: Sequence[str]) -> "Extent":
        """The same, of the rows of a kind only those in ``scopes``, if the statement's conditions are on one row."""
        if not scopes or kind not in self.once:
            return self
        topics = frozenset(topic + scope for topic in self.topics[kind] for scope in scopes)
        return replace(self, topics={**self.topics, kind: topics})

    def with_any_change_of(self, kind: str) -> "Extent":
        """The same, and all that there is to the rows of a kind."""
        return replace(self, topics={**self.topics, kind: frozenset({topic_of_any(kind)})})


class Reads:
    """What the response at hand has read so far. One thread uses it."""

    def __init__(self) -> None:
        self.topics: set[str] = set()
        #: Whether the log has every change of what was read, so that a cache may keep the response.
        self.is_logged = True

    def add(self, extent: Extent) -> None:
        """Add what a statement reads."""
        self.topics.update(*extent.topics.values())
        self.is_logged &= extent.is_logged

    def add_rows(self, kind: str, ids: Iterable[int]) -> None:
        """Add rows of a published kind."""
        self.topics.update([topic_of_row(kind, one) for one in ids])


#: The reads of the response that is being made for a cache. A ContextVar, because listeners of the engine add to it.
_gathering: ContextVar[Reads | None] = ContextVar("gathering", default=None)


@contextmanager
def gathering() -> Iterator[Reads]:
    """Gather what the statements of a block read."""
    reads = Reads()
    token = _gathering.set(reads)
    try:
        yield reads
    finally:
        _gathering.reset(token)


@contextmanager
def stating() -> Iterator[Reads | None]:
    """Execute statements of which the caller states itself what they read, to the reads that this returns, if any."""
    reads = _gathering.get()
    token = _gathering.set(None)
    try:
        yield reads
    finally:
        _gathering.reset(token)


def gathered() -> Reads | None:
    """The reads that are gathered here; None where nothing is, or where a door states them."""
    return _gathering.get()


def note_statement(statement: Any) -> None:
    """Note a statement that SQLAlchemy executes; None for one that is a text of the driver's."""
    if (reads := _gathering.get()) is not None:
        reads.add(extent_of(statement))


def kind_of(model: type[Any]) -> str:
    """The kind of a model's rows; of one that is not published, a name that no topic has."""
    table = model.__tablename__
    return kind_of_table(table) or f"{table} unpublished"


def is_key_of_published_rows(column: Any, model: type[Any]) -> bool:
    """Whether ``column`` is a reference of ``model`` to published rows, and not one of an alias."""
    element = column.expression if isinstance(column, InstrumentedAttribute) else column
    if not isinstance(element, Column) or not model.__table__.c.contains_column(element):
        return False
    return any(kind_of_table(key.column.table.name) for key in element.foreign_keys)


def is_primary_key(column: InstrumentedAttribute[Any], model: type[Any]) -> bool:
    """Whether ``column`` alone identifies the rows of ``model``."""
    return [key.key for key in inspect(model).primary_key] == [column.key]


def stand_for(column: InstrumentedAttribute[Any], *others: ColumnClause[Any] | TableClause) -> None:
    """Declare texts of SQL, or a table that the metadata lacks, to be made of a column by the database itself."""
    _MADE_OF.update({other.name: column for other in others})


#: By their texts or names: what the metadata lacks, and the column that it is made of. Modules declare it as they load.
_MADE_OF: dict[str, InstrumentedAttribute[Any]] = {}


def extent_of(statement: Any) -> Extent:
    """What a statement reads: every column that occurs in it, and which rows there are of every table."""
    if not isinstance(statement, SelectBase) or isinstance(statement, TextualSelect):
        # A write, or text.
        return Extent({EVERYTHING: frozenset({EVERYTHING})}, is_logged=False)
    survey = _Survey()
    survey.visit(statement)
    return survey.extent()


class _Survey:
    """Visits each element of a statement once. `sqlalchemy.sql.visitors.iterate` visits a CTE at each mention."""

    def __init__(self) -> None:
        #: By identity, and kept, so that no other element gets the identity of one that was visited.
        self._visited: dict[int, Any] = {}
        self._columns: dict[int, Column[Any]] = {}
        #: How often each table occurs, by its name.
        self._tables: dict[str, int] = {}
        self._is_known = True

    def visit(self, statement: SelectBase) -> None:
        """Visit a statement and all that is in it."""
        waiting: list[Any] = [statement]
        while waiting:
            element = waiting.pop()
            if id(element) in self._visited:
                continue
            self._visited[id(element)] = element
            if isinstance(element, count) and _is_of_rows(element):
                continue
            self._look_at(element)
            waiting.extend(element.get_children())

    def extent(self) -> Extent:
        """What was found."""
        kinds = {name: kind_of_table(name) for name in self._tables}
        topics: dict[str, set[str]] = {kind: {topic_of_rows(kind)} for kind in kinds.values() if kind is not None}
        for column in self._columns.values():
            kind = kinds[column.table.name]
            # A primary key never changes.
            if kind is not None and not column.primary_key:
                topics[kind].add(topic_of_column(kind, column))
        # Any change of a kind is also one of its columns.
        stated = {
            kind: frozenset({topic_of_any(kind)} if topic_of_any(kind) in some else some)
            for kind, some in topics.items()
        }
        if not self._is_known:
            stated[EVERYTHING] = frozenset({EVERYTHING})
        once = frozenset(kind for name, kind in kinds.items() if kind is not None and self._tables[name] == 1)
        return Extent(stated, once, is_logged=None not in kinds.values())

    def _look_at(self, element: Any) -> None:
        if isinstance(element, Select):
            self._add_tables(element)
            # An entity or a whole table among the columns stands for all of its columns.
            for column in element.selected_columns:
                if isinstance(column, ColumnClause):
                    self._add_column(column)
        elif isinstance(element, ColumnClause):
            self._add_column(element)
        elif isinstance(element, Table):
            self._tables.setdefault(element.name, 1)
        elif isinstance(element, TableClause):
            self._add_made(element.name)
        elif isinstance(element, TextClause | TextualSelect | TableValuedColumn):
            self._is_known = False

    def _add_tables(self, select: Select[Any]) -> None:
        """Count the tables that a SELECT reads itself; one under another name is counted as two."""
        seen: dict[int | str, int] = {}
        waiting = list(select.get_children())
        while waiting:
            source = waiting.pop()
            if isinstance(source, Join):
                waiting += [source.left, source.right]
            elif isinstance(source, Table):
                seen[source.name] = max(1, seen.get(source.name, 0))
            elif isinstance(source, AliasedReturnsRows) and isinstance(source.element, Table):
                seen[source.element.name] = 2
        for name, times in seen.items():
            self._tables[str(name)] = self._tables.get(str(name), 0) + times

    def _add_column(self, column: ColumnClause[Any]) -> None:
        if not isinstance(column, Column):
            self._add_named(column)
            return
        for base in column.base_columns:
            if isinstance(base, Column) and isinstance(base.table, Table):
                self._columns[id(base)] = base
                self._tables.setdefault(base.table.name, 0)

    def _add_named(self, column: ColumnClause[Any]) -> None:
        """Add a column that is in no table of the metadata."""
        if column.is_literal:
            self._add_made(column.name)
        elif column.table is None:
            self._is_known = False
        # Else its table is visited as well.

    def _add_made(self, name: str) -> None:
        if name in _MADE_OF:
            self._add_column(inspect(_MADE_OF[name].class_).columns[_MADE_OF[name].key])
        else:
            self._is_known = False


def _is_of_rows(function: count) -> bool:
    """Whether it is ``count(*)``, which reads no column."""
    return all(isinstance(one, ColumnClause) and one.is_literal and one.name == "*" for one in function.clauses)
