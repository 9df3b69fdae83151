"""Rows that are inserted without the mapper's doing, in a third of its time, and told of as if it had."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import insert, inspect
from sqlalchemy.orm import Mapper

from app.core.audit import record_creation
from app.core.feed import Change, Published, publish
from app.core.prepared import Prepared


def insert_row(model: type[Published], values: Mapping[str, Any]) -> Any:
    """Insert a row of ``model``: what it has that answers tell, as a tuple with names.

    ``values`` are for its columns, of which the database sets none but the key. The audit trail and the change feed
    have it as created. Raises ``IntegrityError``.
    """
    row = _insertion(inspect(model), tuple(values)).one_or_none(values)
    record_creation(model, row)
    publish([Change(f"{model.audited_as}.created", model.audited_as, row.id, row.version)])
    return row


@cache
def _insertion(mapper: Mapper[Any], names: tuple[str, ...]) -> Prepared:
    told = [column for column in mapper.columns if column.info.get("audited", True)]
    return Prepared(insert(mapper.entity).returning(*told), takes=names)
