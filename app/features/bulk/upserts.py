"""Many products at once: upsert by sku, in a handful of statements however many they are.

A stock that is stated here goes into the ledger: as a receipt of a new product, as a correction of one that is there.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import orjson
from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    RowMapping,
    TableValuedAlias,
    Text,
    any_,
    bindparam,
    cast,
    column,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from app.core import clock
from app.core.changelog import record_in_log
from app.core.changes import record_write
from app.core.errors import Invalid
from app.core.locks import advisory_lock
from app.core.model import Money
from app.core.slugs import SlugChange
from app.core.upserts import insert_into
from app.extensions import db
from app.features.products import keys, ledger
from app.features.products.ledger import Reason
from app.features.products.models import (
    DEFAULTS,
    MAX_ATTRIBUTES,
    MEMBERS,
    PRODUCTS,
    AttributePatch,
    Product,
    ProductIncomplete,
    StockNotTracked,
    TooManyAttributes,
    TooPrecise,
    missing_members,
    new_row,
    search_text,
    too_precise_amounts,
)
from app.features.products.values import MADE_OF, Definitions, listed_id_of, store

_IS_ALIVE = PRODUCTS.c.deleted_at.is_(None)


class Effect(StrEnum):
    """What an upsert did to a product."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Upserted:
    """One product after an upsert."""

    product_id: int
    effect: Effect
    #: The status that it has now; None where it had it before.
    status: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ProductChange:
    """What an upsert changes of a product: the product as it is, which is locked, and the members that differ."""

    there: RowMapping
    differing: Mapping[str, Any]

    @classmethod
    def between(cls, there: RowMapping, row: Mapping[str, Any]) -> "ProductChange | None":
        """The change that brings a product to what a row states; None if it is as stated."""
        # The column's own comparison: to Python, a 1 and a true among the attributes are the same.
        columns = PRODUCTS.c
        differing = {
            name: value for name, value in row.items() if not columns[name].type.compare_values(there[name], value)
        }
        return cls(there, differing) if differing else None

    @property
    def product_id(self) -> int:
        """The product's id."""
        return int(self.there["id"])

    @property
    def counters(self) -> dict[str, int]:
        """Both counters after the change: ``live`` counts a stock that differs, ``version`` any other member."""
        moved = "stock" in self.differing
        return {
            "version": self.there["version"] + (len(self.differing) > moved),
            "live": self.there["live"] + moved,
        }

    @property
    def slug_change(self) -> SlugChange | None:
        """The slug that the product gives up, and the one that it gets."""
        if "slug" not in self.differing:
            return None
        return SlugChange(self.product_id, self.there["slug"], self.differing["slug"])

    @cached_property
    def words(self) -> str:
        """What a search reads, made anew: after a release that makes other words it may differ by itself."""
        return search_text(**self._members)

    def row(self) -> dict[str, Any]:
        """The parameters of the UPDATE."""
        return {**self._members, **self.counters, "search_text": self.words, "product_id": self.product_id}

    def record(self) -> None:
        """Record the change in the audit trail and in the log, as a movement if only the stock differs."""
        record_write(
            Product,
            before=dict(self.there),
            after={**self.there, **self.differing, **self.counters},
            members=[*self.differing, *(["search_text"] if self.words != self.there["search_text"] else [])],
            kind="stock.moved" if set(self.differing) == {"stock"} else None,
        )

    @property
    def _members(self) -> dict[str, Any]:
        return {name: self.differing.get(name, self.there[name]) for name in MEMBERS}


def upsert_products(
    rows: Iterable[Mapping[str, Any]], *, defaults: Mapping[str, Any] = DEFAULTS
) -> dict[str, Upserted | Invalid]:
    """Create the products whose sku no living product has and update the others; what became of each, by sku.

    No two rows have the same sku. A row holds the members that it states: a product that exists keeps the others, and a
    new one takes ``defaults``; an ``AttributePatch`` keeps the attributes that it does not set. A row that the
    product's rules do not allow writes nothing and is refused by itself, with a fault at each member that is wrong.
    Only a product that really differs is written: its version counts changes of what clients write, and ``live`` those
    of its stock. The audit trail has the members of each product before and after. The caller has validated the
    values, owns the transaction and has looked the references up: an unknown one raises ``IntegrityError``.
    """
    wanted = {row["sku"]: row for row in rows}
    created, found, refused = _insert_new_and_lock_others(wanted, defaults)
    wanted |= {sku: _with_all_attributes(wanted[sku], there) for sku, there in found.items()}
    refused |= _refusals({sku: wanted[sku] for sku in found}, found, defaults)
    ids = {sku: there["id"] for sku, there in found.items()}
    refused |= keys.find_taken({sku: row for sku, row in wanted.items() if sku in found and sku not in refused}, ids)
    changed = _update_different({sku: there for sku, there in found.items() if sku not in refused}, wanted)
    upserted = {sku: Upserted(made["id"], Effect.CREATED, made["status"]) for sku, made in created.items()}
    for sku, there in found.items():
        change = changed.get(there["id"])
        effect = Effect.UNCHANGED if change is None else Effect.UPDATED
        upserted[sku] = Upserted(there["id"], effect, None if change is None else change.differing.get("status"))
    return upserted | refused


def insert_products(rows: Sequence[Mapping[str, Any]]) -> None:
    """Create the sample products whose keys no living product has."""
    for made in _insert(rows, DEFAULTS).values():
        # By intention the audit trail has none of the samples. The log has them: caches and the change feed follow it.
        counters = {"version": made["version"], "live": made["live"]}
        record_in_log(Product, "product.created", made["id"], **counters, before=None, after=made)


def is_one_of(column: Column[Any], values: list[Any]) -> ColumnElement[bool]:
    """Whether a column has one of the values: one parameter on PostgreSQL, however many they are."""
    return column == any_(literal(values, ARRAY(column.type))) if _is_postgresql() else column.in_(values)


def _insert_new_and_lock_others(
    wanted: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Any]
) -> tuple[dict[str, Mapping[str, Any]], dict[str, RowMapping], dict[str, Invalid]]:
    """Insert the wanted products that are not there and lock the living ones: what is made, and what is found.

    The refusals of those that cannot be made come third; all are by sku. All inserts come first, in the order of the
    sku, and the locks after them, in that order too: two transactions that want the same products cannot wait for each
    other.
    """
    living = _living_ids(wanted)
    new = wanted.keys() - living.keys()
    if new:
        # They wait for others at several unique indexes, and only one of these can give the order of the rows.
        advisory_lock("create-products")
    created: dict[str, Mapping[str, Any]] = {}
    found: dict[str, RowMapping] = {}
    stated_slugs = {row["slug"] for row in wanted.values() if "slug" in row}
    # One round is enough, unless another transaction deletes one of the products in between.
    while True:
        refused = _refusals({sku: wanted[sku] for sku in new}, {}, defaults)
        # Of two rows that state one key the first has it, whether it makes a product or changes one.
        taken = keys.find_taken({sku: row for sku, row in wanted.items() if sku not in refused}, living)
        refused |= {sku: refusal for sku, refusal in taken.items() if sku in new}
        rows = [wanted[sku] for sku in sorted(new - refused.keys())]
        made = _insert(rows, defaults, stated_slugs=stated_slugs)
        for row in made.values():
            record_write(Product, before=None, after=row, members=MEMBERS)
        created |= made
        found |= _lock_living(wanted.keys() - created.keys() - found.keys())
        new = wanted.keys() - created.keys() - found.keys()
        if new <= refused.keys():
            return created, found, {sku: refused[sku] for sku in new}


def _insert(
    rows: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any], *, stated_slugs: Collection[str] = ()
) -> dict[str, Mapping[str, Any]]:
    """Create the products whose keys no living product has; every column of each, by sku. The caller records them.

    Slugs are made where none is stated, but none of ``stated_slugs``. Where another transaction is creating one of the
    products, this one waits, and then leaves it alone.
    """
    if not rows:
        return {}
    statement = insert_into(PRODUCTS).on_conflict_do_nothing().returning(PRODUCTS.c.sku, PRODUCTS.c.id)
    now = clock.now()
    new = [new_row(row, defaults, now) for row in keys.with_slugs(rows, stated=stated_slugs)]
    if _is_postgresql():
        created = db.session.execute(statement.from_select(list(new[0]), select(_table_of(new))))
    else:
        created = db.session.execute(statement, new)
    ids = {row.sku: row.id for row in created}
    _balance(ids.values(), Reason.RECEIPT)
    made: dict[str, Mapping[str, Any]] = {
        row["sku"]: {**row, "id": ids[row["sku"]]} for row in new if row["sku"] in ids
    }
    _index(made.values(), are_new=True)
    return made


def _refusals(
    wanted: Mapping[str, Mapping[str, Any]], found: Mapping[str, RowMapping], defaults: Mapping[str, Any]
) -> dict[str, Invalid]:
    """The refusals of the wanted rows that can neither make a product nor change the one that is found, by sku."""
    refusals = {sku: _refusal_of(row, found.get(sku), defaults) for sku, row in wanted.items()}
    return {sku: refusal for sku, refusal in refusals.items() if refusal is not None}


def _refusal_of(row: Mapping[str, Any], there: Mapping[Any, Any] | None, defaults: Mapping[str, Any]) -> Invalid | None:
    """Why a row cannot make a product, or change the one that is there; None where it can."""
    if there is None and (missing := missing_members(row, defaults)):
        return ProductIncomplete.at(*missing)
    if wrong := too_precise_amounts(row if there is not None else {**defaults, **row}, there):
        return TooPrecise.at(*wrong)
    if len(row.get("attributes", ())) > MAX_ATTRIBUTES:
        return TooManyAttributes()
    if there is not None and _moves_untracked_stock(row, there):
        return Invalid.because(StockNotTracked, "stock")
    return None


def _with_all_attributes(row: Mapping[str, Any], there: Mapping[Any, Any]) -> Mapping[str, Any]:
    """The row, with the attributes that its product has beside those that it sets."""
    stated = row.get("attributes")
    return {**row, "attributes": {**there["attributes"], **stated}} if isinstance(stated, AttributePatch) else row


def _moves_untracked_stock(row: Mapping[str, Any], there: Mapping[Any, Any]) -> bool:
    return not row.get("track_stock", there["track_stock"]) and row.get("stock", there["stock"]) != there["stock"]


def _update_different(
    found: Mapping[str, RowMapping], wanted: Mapping[str, Mapping[str, Any]]
) -> dict[int, ProductChange]:
    """Bring the locked products to what their rows state; the changes of those that differed, by their ids."""
    changes = [change for sku, there in found.items() if (change := ProductChange.between(there, wanted[sku]))]
    _update_products([change.row() for change in changes])
    keys.retire(renaming for change in changes if (renaming := change.slug_change))
    for change in changes:
        change.record()
    changed = {change.product_id: change for change in changes}
    _index([{**each.there, **each.differing} for each in changes if not each.differing.keys().isdisjoint(MADE_OF)])
    _balance(changed, Reason.CORRECTION)
    return changed


def _living_ids(skus: Iterable[str]) -> dict[str, int]:
    living = select(PRODUCTS.c.sku, PRODUCTS.c.id).where(is_one_of(PRODUCTS.c.sku, list(skus)), _IS_ALIVE)
    return {row.sku: row.id for row in db.session.execute(living)}


def _lock_living(skus: Iterable[str]) -> dict[str, RowMapping]:
    rows = (
        select(PRODUCTS)
        .where(is_one_of(PRODUCTS.c.sku, list(skus)), _IS_ALIVE)
        .order_by(PRODUCTS.c.sku)
        .with_for_update()
    )
    return {row["sku"]: row for row in db.session.execute(rows).mappings()}


def _index(rows: Collection[Mapping[str, Any]], *, are_new: bool = False) -> None:
    """Keep what products are found by."""
    definitions = Definitions.of(rows)
    store({row["id"]: (listed_id_of(row), definitions.assess(row).values) for row in rows}, are_new=are_new)


def _balance(product_ids: Collection[int], reason: Reason) -> None:
    if product_ids:
        ledger.balance(is_one_of(PRODUCTS.c.id, list(product_ids)), reason=reason)


def _update_products(changes: list[dict[str, Any]]) -> None:
    if not changes:
        return
    statement = update(PRODUCTS).values(updated_at=clock.now())
    if _is_postgresql():
        table = _table_of(changes)
        changed = {name: table.c[name] for name in changes[0] if name != "product_id"}
        db.session.execute(statement.where(PRODUCTS.c.id == table.c.product_id).values(changed))
    else:
        db.session.execute(statement.where(PRODUCTS.c.id == bindparam("product_id")), changes)


def _is_postgresql() -> bool:
    return db.engine.dialect.name == "postgresql"


def _table_of(rows: Sequence[Mapping[str, Any]]) -> TableValuedAlias:
    """The rows as a table. They are one JSON parameter, which PostgreSQL spreads.

    With one parameter for each value of a thousand rows, the driver takes longer to count them than PostgreSQL does to
    insert them; SQLite's driver does not count.
    """
    columns = [column(name, _type_of(name)) for name in rows[0]]
    amounts = [each.name for each in columns if isinstance(each.type, Money)]
    # JSON bypasses the column's type, which refuses an amount that PostgreSQL would round.
    exact, dialect = Money().process_bind_param, db.engine.dialect
    content = [{**row, **{name: exact(row[name], dialect) for name in amounts}} for row in rows]
    return (
        func.jsonb_to_recordset(cast(literal(orjson.dumps(content, default=str).decode(), Text), JSONB))
        .table_valued(*columns)
        .render_derived(with_types=True)
    )


def _type_of(name: str) -> TypeEngine[Any]:
    return PRODUCTS.c.id.type if name == "product_id" else PRODUCTS.c[name].type
