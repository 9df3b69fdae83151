"""Conditions that a column has one of several values, in the form that each database looks up in an index."""

from collections.abc import Collection, Iterable
from typing import Any

import orjson
from sqlalchemy import ARRAY, Dialect, String, Text, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Boolean, TypeDecorator, TypeEngine


class ValueList(TypeDecorator[Iterable[Any]]):
    """Any number of texts or integers as one parameter: an array on PostgreSQL, and on SQLite the text of a JSON array.

    So the SQL is the same for two values and for a hundred.
    """

    impl = Text
    cache_ok = True

    def __init__(self, item: TypeEngine[Any]) -> None:
        super().__init__()
        # A cast to the type of a column would cut a longer text off, and then find it.
        self.item: TypeEngine[Any] = Text() if isinstance(item, String) else item

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The type of the parameter."""
        return dialect.type_descriptor(ARRAY(self.item) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Iterable[Any] | None, dialect: Dialect) -> Any:
        """The values as the driver takes them."""
        if value is None:
            return None
        return list(value) if dialect.name == "postgresql" else orjson.dumps(list(value)).decode()


class Condition(FunctionElement[bool]):
    """A condition that stands as it is between AND and OR."""

    type = Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> Any:  # noqa: ARG002 -- SQLAlchemy passes the operator
        """The condition itself: SQLite has no booleans, and SQLAlchemy would add `= 1`, which no index can serve."""
        return self


def among(column: Any, values: Collection[str]) -> "is_one_of":
    """The condition that a column, or the expression of an index, has one of these texts."""
    return is_one_of(column, literal(values, ValueList(Text())))


class is_one_of(Condition):  # noqa: N801 -- reads as the condition that it compiles to
    """Whether a column (first) has one of the values of a `ValueList` (second)."""

    inherit_cache = True


class is_found_by(Condition):  # noqa: N801 -- reads as the condition that it compiles to
    """Whether a column (first) has a value that a scalar subquery (second) finds."""

    inherit_cache = True


@compiles(is_one_of, "postgresql")
def _is_one_of_postgresql(element: is_one_of, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY ({values})"


@compiles(is_one_of, "sqlite")
def _is_one_of_sqlite(element: is_one_of, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 -- compiled clauses


@compiles(is_found_by, "postgresql")
def _is_found_by_postgresql(element: is_found_by, compiler: Any, **options: Any) -> str:
    column, query = (compiler.process(clause, **options) for clause in element.clauses)
    # As an array, because the planner misestimates the rows of a recursive query (decision 17).
    return f"{column} = ANY (ARRAY{query})"


@compiles(is_found_by, "sqlite")
def _is_found_by_sqlite(element: is_found_by, compiler: Any, **options: Any) -> str:
    column, query = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN {query}"
