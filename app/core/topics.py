"""Topics: the words in which a change of the catalogue says what it touches, and a response what it depends on.

- ``product/42``: any change of this row.
- ``product.price``: the price of some product changed.
- ``product*``: a product was created, deleted or restored.
- ``product``: any change of any product; ``*``: any change of anything.

All but the first and the last also exist within a scope, the rows that refer to one row: ``product.price?brand_id=2``.
(decision 42)
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Column, Table

from app.core.changelog import LoggedChange, Published
from app.extensions import Model

#: Any change of anything.
EVERYTHING = "*"
#: In the ``info`` of a derived column: the names of the columns that it is made of. Nothing else reads it.
DERIVED_FROM = "derived_from"
#: These columns change with every change of their row, and the log need not name them.
_ALWAYS_MOVING = frozenset({"updated_at", "version", "live"})


def topic_of_row(kind: str, row_id: int) -> str:
    """Any change of one row."""
    return f"{kind}/{row_id}"


def topic_of_rows(kind: str) -> str:
    """Which rows there are: one was created, deleted or restored."""
    return f"{kind}*"


def topic_of_any(kind: str) -> str:
    """Any change of any row of a kind."""
    return kind


def topic_of_column(kind: str, column: Column[Any]) -> str:
    """The values of a column; any change of any row, where the log does not say that the column changed."""
    is_named = column.info.get("audited", True) or DERIVED_FROM in column.info
    return f"{kind}.{column.key}" if is_named and column.key not in _ALWAYS_MOVING else kind


def scope_of(reference: str, row_id: int) -> str:
    """What is added to a topic of the rows that refer to one row."""
    return f"?{reference}={row_id}"


def topics_of_change(change: LoggedChange) -> Iterator[str]:
    """All topics that a change touches."""
    kind = change.resource
    yield EVERYTHING
    yield topic_of_row(kind, change.resource_id)
    touched = [topic_of_any(kind)]
    if change.members is None:
        touched.append(topic_of_rows(kind))
    else:
        # The mapper names the derived columns that it wrote; a statement past it may name their sources alone.
        made = {name for name, sources in _derived_columns(kind) if not sources.isdisjoint(change.members)}
        touched += [f"{kind}.{name}" for name in change.members | made]
    yield from touched
    for reference, ids in change.scopes.items():
        for row_id in ids:
            scope = scope_of(reference, row_id)
            yield from [topic + scope for topic in touched]


def kind_of_table(name: str) -> str | None:
    """The name that the audit trail has for the rows of a table; None where these are not published."""
    model = _published_models().get(name)
    return model.audited_as if model is not None else None


@cache
def _published_models() -> Mapping[str, type[Published]]:
    """The published models, by their tables."""
    return {
        table.name: mapper.class_
        for mapper in Model.registry.mappers
        if issubclass(mapper.class_, Published) and isinstance(table := mapper.local_table, Table)
    }


@cache
def _derived_columns(kind: str) -> Sequence[tuple[str, frozenset[str]]]:
    """The derived columns of a kind that say what they are made of."""
    tables = (Model.metadata.tables[name] for name, model in _published_models().items() if model.audited_as == kind)
    columns = (column for table in tables for column in table.columns)
    return [(column.key, frozenset(column.info[DERIVED_FROM])) for column in columns if DERIVED_FROM in column.info]
