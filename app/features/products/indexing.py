"""The index of values made anew, with what else follows from attributes: after these were written past it, or changed.

A change of an attribute rewrites no product. So what products are found by is as their attributes were when they were
last written, until this has come by.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, func, or_, select

from app.core import clock
from app.extensions import db
from app.features.products import families, values
from app.features.products.models import PRODUCTS, ProductKind, search_text
from app.features.products.statements import has_id, update_rows

Row = Mapping[Any, Any]

#: Products of one transaction, beside their variants.
BATCH = 200

_IS_LISTED = and_(PRODUCTS.c.parent_id.is_(None), PRODUCTS.c.deleted_at.is_(None))
#: What follows from the attributes of a product, on its row.
_FOLLOWING = (*families.ASSESSED, "search_text")


class Rebuilt(NamedTuple):
    """A batch: the id of its last product, how many products it has, and how many rows were wrong."""

    last_id: int
    products: int
    changed: int


def rebuild_next(after: int, *, code: str | None = None) -> Rebuilt | None:
    """Make the index of the next products after an id anew, and of their variants; None where there are no more.

    With the ``code`` of an attribute only those that state it. The rows are locked as every writer locks them. A row
    that was wrong counts as changed, so that nothing that was read of it before stays in a cache.
    """
    next_ids = select(PRODUCTS.c.id).where(_IS_LISTED, PRODUCTS.c.id > after).order_by(PRODUCTS.c.id).limit(BATCH)
    ids = db.session.scalars(next_ids).all()
    if not ids:
        return None
    stating = ids if code is None else db.session.scalars(_stating(code, ids)).all()
    return Rebuilt(ids[-1], len(ids), _rebuild(stating) if stating else 0)


def count_listed() -> int:
    """How many products there are beside variants."""
    return db.session.execute(select(func.count()).select_from(PRODUCTS).where(_IS_LISTED)).scalar_one()


def _stating(code: str, ids: Collection[int]) -> Any:
    """The products among these ids that state a value of an attribute, or whose variants do."""
    states = or_(*(PRODUCTS.c[name][code].as_string().is_not(None) for name in ("attributes", "options")))
    return select(func.coalesce(PRODUCTS.c.parent_id, PRODUCTS.c.id)).where(_is_of_family(ids), states).distinct()


def _is_of_family(ids: Collection[int]) -> ColumnElement[bool]:
    return or_(has_id(ids), has_id(ids, PRODUCTS.c.parent_id))


def _rebuild(ids: Collection[int]) -> int:
    """Make the index of products and of their variants anew; how many rows were wrong."""
    sold, parents = _lock(ids)
    definitions = values.Definitions.of([*sold, *parents.values()])
    assessed = {row["id"]: definitions.assess(row, parents.get(row["parent_id"])) for row in (*sold, *parents.values())}
    found_by = {row["id"]: (values.listed_id_of(row), assessed[row["id"]].values) for row in (*sold, *parents.values())}
    stored = values.find_stored(found_by.keys())
    strange = {each: of for each, of in found_by.items() if _differ(stored.get(each, ()), values.rows_of(each, *of))}
    values.store(strange)
    written = [
        (row, after)
        for row in (*sold, *parents.values())
        if (after := _after(row, assessed[row["id"]])) is not None or row["id"] in strange
    ]
    _write([(row, after or row) for row, after in written])
    families.roll_up(row["parent_id"] for row, _ in written)
    return len(written)


def _lock(ids: Collection[int]) -> tuple[Sequence[Row], Mapping[int, Row]]:
    """The living rows that are sold of some products, and then the parents among these by id, locked in this order."""
    is_sold = and_(_is_of_family(ids), PRODUCTS.c.kind != ProductKind.PARENT, PRODUCTS.c.deleted_at.is_(None))
    rows = select(PRODUCTS).where(is_sold).order_by(PRODUCTS.c.id).with_for_update(key_share=True)
    sold = db.session.execute(rows).mappings().all()
    # One that was sold by itself may have become a variant of another meanwhile.
    parent_ids = {*ids, *(row["parent_id"] for row in sold if row["parent_id"] is not None)} - {
        row["id"] for row in sold
    }
    return sold, {row["id"]: row for row in families.lock_rows(PRODUCTS.c.id, parent_ids)}


def _differ(rows: Sequence[Row], others: Sequence[Row]) -> bool:
    first, second = ({tuple(sorted(row.items())) for row in some} for some in (rows, others))
    return first != second or len(rows) != len(others)


def _after(row: Row, assessment: values.Assessment) -> Row | None:
    """The row as it follows from its attributes; None where it is so already."""
    follows = dict(assessment.columns)
    if row["kind"] == ProductKind.PARENT:
        # What a parent lacks is what its variants lack.
        del follows["missing"]
    after = {**row, **follows}
    after["search_text"] = search_text(**after)
    return after if any(after[name] != row[name] for name in _FOLLOWING) else None


def _write(changes: Sequence[tuple[Row, Row]]) -> None:
    written: dict[int, Row] = {}
    for row, after in changes:
        counted = {**after, "live": row["live"] + 1}
        written[row["id"]] = {name: counted[name] for name in (*_FOLLOWING, "live")}
        members = [name for name in _FOLLOWING if counted[name] != row[name]]
        # The log has no name for the values.
        families.record(row["id"], "product.updated", dict(row), counted, {"attribute_words", *members})
    update_rows(written, moment=clock.now())
