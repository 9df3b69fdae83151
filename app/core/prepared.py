"""Statements that are compiled once, and put to the driver without the layers between.

For a small question, SQLAlchemy's own way from the statement to the rows costs several times what the driver and the
database do. `Prepared.plainly` takes that way, and must find the same: tests hold the two against each other.
"""

import time
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from sqlalchemy import Dialect, Insert, Select, TextClause
from sqlalchemy.exc import DBAPIError

from app.core.database import driver_connection, driver_errors, reading, run, tally

Statement = Select[*tuple[Any, ...]] | Insert | TextClause


class Prepared:
    """A SELECT of columns, an INSERT that is given a value for each column that it names, or a text without rows.

    The parameters of a SELECT are bindparams with a default, which may be None. An INSERT says which columns it
    ``takes``, and may have RETURNING.
    """

    def __init__(self, statement: Statement, *, takes: Sequence[str] | None = None) -> None:
        self.statement = statement
        self._takes = takes
        self._compiled: dict[str, Compiled] = {}

    def all(self, values: Mapping[str, Any] | None = None, *, commits: bool = False) -> Sequence[Any]:
        """The rows that it finds with ``values`` for its parameters, as tuples with names.

        On PostgreSQL it can be the last of a transaction, which it ``commits`` on the same way to the server.
        """
        driver, dialect = driver_connection()
        try:
            with driver_errors(driver, dialect):
                return self._for(dialect).all(driver, values or {}, **({"commits": True} if commits else {}))
        except DBAPIError as error:
            if not error.connection_invalidated or reading() is None:
                raise
        # Without a connection, SQLAlchemy meets the same, and knows that the rest of the pool is lost as well.
        return self.plainly(values)

    def later(self, values: Mapping[str, Any]) -> None:
        """Execute it before whatever comes next in this transaction, if only its end; nobody needs its rows.

        On PostgreSQL it goes along with that, and what is wrong with it is told there.
        """
        driver, dialect = driver_connection()
        with driver_errors(driver, dialect):
            self._for(dialect).later(driver, values)

    def _for(self, dialect: Dialect) -> "Compiled":
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = Compiled(self.statement, dialect, self._takes)
        return compiled

    def plainly(self, values: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """The same, as SQLAlchemy does it."""
        found = run(self.statement, values)
        return found.all() if found.returns_rows else ()

    def one_or_none(self, values: Mapping[str, Any] | None = None) -> Any:
        """The first row that it finds; None when there is none."""
        rows = self.all(values)
        return rows[0] if rows else None


class Compiled:
    """A statement in the SQL of one dialect, and how values go in and come out."""

    def __init__(self, statement: Statement, dialect: Dialect, takes: Sequence[str] | None = None) -> None:
        # What stands for lists is filled in now: the lists are part of the statement.
        options = {"render_postcompile": True}
        compiled: Any = statement.compile(dialect=dialect, column_keys=takes, compile_kwargs=options)
        columns = list(_columns(statement))
        self.sql: str = compiled.string
        self._ask: Callable[..., tuple[Sequence[tuple[Any, ...]], Sequence[Any]]] = _ask_sqlite
        self._put_off: Callable[..., None] | None = None
        self._order: Sequence[str] = compiled.positiontup or ()
        if dialect.name == "postgresql":
            # Psycopg may not be there, where nobody needs it.
            libpq = import_module("app.core.libpq")
            self._ask, self._put_off = libpq.ask, libpq.put_off
            places = _Places()
            self.sql, self._order = compiled.string % places, list(places)
        self._into = {
            name: convert
            for name, parameter in compiled.binds.items()
            if (convert := parameter.type.dialect_impl(dialect).bind_processor(dialect))
        }
        self._constants = self._bound({} if takes else compiled.params)
        self._types = [column.type.dialect_impl(dialect) for column in columns]
        names = [str(column.key) for column in columns]
        self._row: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]  # mypy wants the names in the source
        self._dialect = dialect
        self._out_of: list[tuple[int, Callable[[Any], Any]]] | None = None

    def all(self, driver: Any, values: Mapping[str, Any], **options: bool) -> Sequence[Any]:
        """The rows that it finds over a connection of the driver's."""
        started = time.perf_counter()
        found, kinds = self._ask(driver, self.sql, self.parameters(values), **options)
        if (current := tally.get()) is not None:
            current.statements += 1
            current.seconds += time.perf_counter() - started
        if self._out_of is None:
            # Some types read differently by what the driver calls the column's.
            self._out_of = self._conversions(kinds)
        return [self._row_of(list(row)) for row in found] if self._out_of else [*map(self._row._make, found)]

    def later(self, driver: Any, values: Mapping[str, Any]) -> None:
        """Execute it before the next one over this connection of the driver's."""
        if self._put_off is None:
            self.all(driver, values)
            return
        self._put_off(driver, self.sql, self.parameters(values))
        if (current := tally.get()) is not None:
            current.statements += 1

    def parameters(self, values: Mapping[str, Any]) -> Sequence[Any]:
        """All that the driver takes: ``values``, and the constants of the statement, in their places."""
        given = self._bound(values) if self._into else values
        return [given[name] if name in given else self._constants[name] for name in self._order]

    def _row_of(self, values: list[Any]) -> Any:
        for index, convert in self._out_of or ():
            values[index] = convert(values[index])
        return self._row(*values)

    def _bound(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._into[name](value) if name in self._into else value for name, value in values.items()}

    def _conversions(self, kinds: Sequence[Any]) -> list[tuple[int, Callable[[Any], Any]]]:
        types = zip(self._types, kinds, strict=True)
        converts = [type_.result_processor(self._dialect, kind) for type_, kind in types]
        return [(index, convert) for index, convert in enumerate(converts) if convert is not None]


class _Places(dict[str, str]):
    """Makes $1, $2 and so on of the names in a statement, and remembers their order."""

    def __missing__(self, name: str) -> str:
        self[name] = f"${len(self) + 1}"
        return self[name]


def _columns(statement: Statement) -> Sequence[Any]:
    if isinstance(statement, TextClause):
        return ()
    return list(statement.selected_columns if isinstance(statement, Select) else statement.exported_columns)


def _ask_sqlite(driver: Any, sql: str, values: Sequence[Any]) -> tuple[Sequence[tuple[Any, ...]], Sequence[Any]]:
    cursor = driver.execute(sql, values)
    try:
        return cursor.fetchall(), [column[1] for column in cursor.description or ()]
    finally:
        cursor.close()
