"""SELECTs that are compiled once, and that readers put to the driver without the layers between.

For a small query, SQLAlchemy's own way from the statement to the rows costs several times what the driver and the
database do. A `Prepared` takes that way where something may be written, or where the connection was lost, and must find
the same either way: tests hold the two against each other.
"""

import time
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Dialect, Select
from sqlalchemy.exc import DBAPIError

from app.core.database import reading, run, tally


class Prepared:
    """A SELECT of columns. Its parameters are bindparams with a default, which may be None."""

    def __init__(self, statement: Select[*tuple[Any, ...]]) -> None:
        self.statement = statement
        self._compiled: dict[str, Compiled] = {}

    def all(self, values: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """The rows that it finds with ``values`` for its parameters, as tuples with names."""
        here = reading()
        if here is None:
            return run(self.statement, values).all()
        dialect = here.engine.dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = Compiled(self.statement, dialect)
        try:
            return compiled.all(here.driver(), values or {})
        except dialect.loaded_dbapi.Error as error:
            there: Any = here.pooled and here.pooled.dbapi_connection
            if there and not dialect.is_disconnect(error, there, None):
                base = dialect.loaded_dbapi.Error
                raise DBAPIError.instance(None, None, error, base, hide_parameters=True) from error
        # Without a connection, SQLAlchemy meets the same, and knows that the rest of the pool is lost as well.
        return run(self.statement, values).all()

    def one_or_none(self, values: Mapping[str, Any] | None = None) -> Any:
        """The first row that it finds; None when there is none."""
        rows = self.all(values)
        return rows[0] if rows else None


class Compiled:
    """A statement in the SQL of one dialect, and how values go in and come out."""

    def __init__(self, statement: Select[Any], dialect: Dialect) -> None:
        # What stands for lists is filled in now: the lists are part of the statement.
        compiled: Any = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        columns = list(statement.selected_columns)
        self.sql: str = compiled.string
        self._order: Sequence[str] | None = compiled.positiontup
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

    def all(self, driver: Any, values: Mapping[str, Any]) -> Sequence[Any]:
        """The rows that it finds over a connection of the driver's."""
        started = time.perf_counter()
        cursor = driver.cursor()
        try:
            cursor.execute(self.sql, self.parameters(values))
            found = cursor.fetchall()
            if self._out_of is None:
                # Some types read differently by what the driver calls the column's.
                self._out_of = self._conversions([column[1] for column in cursor.description])
        finally:
            cursor.close()
        if (current := tally.get()) is not None:
            current.statements += 1
            current.seconds += time.perf_counter() - started
        return [self._row_of(list(row)) for row in found]

    def parameters(self, values: Mapping[str, Any]) -> Mapping[str, Any] | Sequence[Any]:
        """All that the driver takes: ``values``, and the constants of the statement."""
        given = self._constants | self._bound(values)
        return given if self._order is None else [given[name] for name in self._order]

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
