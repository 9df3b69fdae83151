"""Statements that are compiled once, and executed by the driver without the layers between."""

import time
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Dialect, Insert, Select
from sqlalchemy.exc import DBAPIError

from app.core import pool_metrics, query_stats, reads, tracing
from app.core.sqlstates import error_name_of
from app.core.transactions import connection, is_fast, is_reading, note_answer
from app.extensions import db

#: A SELECT of columns, or an INSERT of one row with RETURNING.
Statement = Select[*tuple[Any, ...]] | Insert


class Prepared:
    """A SELECT of columns, or an INSERT of one row with RETURNING; many threads may use it at once.

    Its parameters are bindparams with a default, which may be None.
    """

    def __init__(self, statement: Statement) -> None:
        self.statement = statement
        self._compiled: dict[str, Compiled] = {}

    @cached_property
    def extent(self) -> reads.Extent:
        """What it reads."""
        return reads.extent_of(self.statement)

    def all(self, values: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """The rows that it finds with ``values`` for its parameters, as tuples with names.

        Raises SQLAlchemy's errors.
        """
        if not is_fast():
            return db.session.execute(self.statement, values).all()
        if (gathered := reads.gathered()) is not None:
            gathered.add(self.extent)
        here = connection()
        compiled = self._compiled.get(here.dialect.name)
        if compiled is None:
            compiled = self._compiled[here.dialect.name] = Compiled(self.statement, here.dialect)
        with _errors_of(here, compiled.sql):
            return compiled.all(here, values or {})

    def one_or_none(self, values: Mapping[str, Any] | None = None) -> Any:
        """The first row that it finds; None when there is none."""
        rows = self.all(values)
        return rows[0] if rows else None


class Compiled:
    """A statement in the SQL of one dialect, and how values go in and come out."""

    def __init__(self, statement: Statement, dialect: Dialect) -> None:
        # Lists are rendered now: they are part of the statement.
        compiled: Any = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        columns = list(statement.selected_columns if isinstance(statement, Select) else statement.exported_columns)
        self._is_postgresql = dialect.name == "postgresql"
        if self._is_postgresql:
            placeholders = _Placeholders()
            self.sql: str = compiled.string % placeholders
            self._order: Sequence[str] = list(placeholders)
        else:
            self.sql, self._order = compiled.string, compiled.positiontup or ()
        self._into = {
            name: convert
            for name, parameter in compiled.binds.items()
            if (convert := parameter.type.dialect_impl(dialect).bind_processor(dialect))
        }
        self._constants = self._bound(compiled.params)
        self._types = [column.type.dialect_impl(dialect) for column in columns]
        names = [str(column.key) for column in columns]
        self._row: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]  # mypy wants the names in the source
        self._dialect = dialect
        self._out_of: list[tuple[int, Callable[[Any], Any]]] | None = None

    def all(self, here: Connection, values: Mapping[str, Any]) -> Sequence[Any]:
        """The rows that it finds over a connection."""
        started = time.perf_counter()
        driver: Any = here.connection.dbapi_connection
        execute = self._execute_postgresql if self._is_postgresql else self._execute_sqlite
        found, cursor = execute(driver, self.parameters(values))
        note_answer()
        seconds = time.perf_counter() - started
        query_stats.record_query(seconds)
        if tracing.recorder is not None:
            tracing.recorder.record_statement(self._dialect.name, self.sql, seconds)
        if self._out_of is None:
            # How some types convert depends on the type that the driver reports.
            self._out_of = self._conversions([column[1] for column in cursor.description])
        return [self._row_of(list(row)) for row in found] if self._out_of else [*map(self._row._make, found)]

    def parameters(self, values: Mapping[str, Any]) -> Sequence[Any]:
        """All that the driver takes: ``values`` and the statement's constants, in the order of its placeholders."""
        given = self._bound(values) if self._into else values
        return [given[name] if name in given else self._constants[name] for name in self._order]

    def _execute_postgresql(self, driver: Any, parameters: Sequence[Any]) -> tuple[Sequence[tuple[Any, ...]], Any]:
        if is_reading() and not driver.autocommit:
            driver.autocommit = True
        cursor = driver.execute_prepared(self.sql, parameters)
        return cursor.fetchall(), cursor

    def _execute_sqlite(self, driver: Any, parameters: Sequence[Any]) -> tuple[Sequence[tuple[Any, ...]], Any]:
        cursor = driver.execute(self.sql, parameters)
        try:
            return cursor.fetchall(), cursor
        finally:
            cursor.close()

    def _row_of(self, values: list[Any]) -> Any:
        for index, convert in self._out_of or ():
            values[index] = convert(values[index])
        return self._row(*values)

    def _bound(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._into[name](value) if name in self._into else value for name, value in values.items()}

    def _conversions(self, reported: Sequence[Any]) -> list[tuple[int, Callable[[Any], Any]]]:
        types = zip(self._types, reported, strict=True)
        converters = [type_.result_processor(self._dialect, kind) for type_, kind in types]
        return [(index, convert) for index, convert in enumerate(converters) if convert is not None]


class _Placeholders(dict[str, str]):
    """Makes $1, $2 and so on of the names in a statement, and remembers their order."""

    def __missing__(self, name: str) -> str:
        self[name] = f"${len(self) + 1}"
        return self[name]


@contextmanager
def _errors_of(here: Connection, sql: str) -> Iterator[None]:
    """Raise the driver's errors as SQLAlchemy's, and give a connection up that was lost."""
    started = time.perf_counter()
    try:
        yield
    except here.dialect.loaded_dbapi.Error as error:
        if tracing.recorder is not None:
            seconds = time.perf_counter() - started
            tracing.recorder.record_statement(here.dialect.name, sql, seconds, error=error_name_of(error))
        pool_metrics.count_error(error)
        base, driver = here.dialect.loaded_dbapi.Error, here.connection.dbapi_connection
        is_lost = here.dialect.is_disconnect(error, driver, None)
        if is_lost:
            here.invalidate(error)
            # The idle connections of the pool are probably lost as well. SQLAlchemy invalidates them too when it
            # loses one.
            here.engine.dispose()
        raise DBAPIError.instance(
            None, None, error, base, hide_parameters=True, connection_invalidated=is_lost, dialect=here.dialect
        ) from error
