"""Parents and their variants: what a variant has of its parent, and what a parent's row shows of its variants.

A list stays one statement and sorts by an index, because what it shows of a product stands on the product's row. So
each write of a variant recomputes its parent in the same transaction (`roll_up`), and a write of a parent is copied to
its variants (`pass_on`). Both count as ``live``: neither makes an edit of the other row stale. (decision 48)

A transaction locks variants by their ids and then parents by theirs. It locks a parent in one statement, and reads the
variants in the next: a statement that has waited for a lock sees the row that it waited for as it is then, but all
others as they were before (READ COMMITTED).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, RowMapping, Select, func, inspect, or_, select, update

from app.core import clock
from app.core.changelog import record_in_log
from app.core.changes import record_write
from app.core.constraints import refusing, save
from app.core.errors import Invalid, NotFound
from app.core.money import CURRENCY
from app.extensions import db
from app.features.products.models import (
    DEFAULTS,
    INHERITED,
    MAX_VARIANTS,
    PRODUCTS,
    REFUSALS,
    CurrencyOfVariantDiffers,
    MemberOfParent,
    NotAVariant,
    OptionsChanged,
    OptionsInUse,
    OptionsUnfit,
    ParentDeleted,
    Product,
    ProductKind,
    ProductStatus,
    RolledUp,
    TooManyVariants,
    TooPrecise,
    labels_of,
    search_text,
    too_precise_amounts,
)
from app.features.products.statements import has_id, update_rows
from app.features.products.values import MADE_OF, Assessment, Definitions, listed_id_of, store

Row = Mapping[Any, Any]
Locked = TypeVar("Locked")

_IS_ALIVE = PRODUCTS.c.deleted_at.is_(None)
#: The most characters that a search finds a parent by, of its variants: PostgreSQL indexes no more than a megabyte.
MAX_WORDS = 100_000
#: The columns that follow from attributes.
ASSESSED = ("missing", "attribute_words")
#: The columns of a variant that `read_variants` reads.
SHOWN = (
    *("id", "parent_id", "status", "price", "stock", "track_stock", "sku", "gtin", "mpn", "options"),
    *("position", "option_key", *ASSESSED),
)
#: The columns of a variant that comes back with its parent which may differ then.
RESTORED = ("deleted_at", "slug", *ASSESSED, "search_text", "version")
#: What follows from the variants of a parent.
ROLLED_UP = ("price", "price_max", "stock", "track_stock", "variant_count", "missing")


def inherited_from(parent: Any) -> dict[str, Any]:
    """What a variant has of ``parent``, a row or an object, by the names of the variant's columns."""
    return {name: getattr(parent, name) for name in (*INHERITED, "image")} | {"parent_status": parent.status}


def lock_family(rows: Select[Any], is_it: ColumnElement[bool], is_of_it: ColumnElement[bool]) -> Product:
    """The one of ``rows`` that ``is_it``, locked; a parent after those that ``is_of_it``, as its variants are.

    Raises ``NotFound`` where there is none. One statement where it is no parent, as most are not.
    """
    others = rows.where(is_it, Product.kind != ProductKind.PARENT)
    product: Product | None = db.session.scalar(others.with_for_update(key_share=True))
    return product or lock_whole(lambda: _lock_parent(rows, is_it, is_of_it))


def lock_whole(lock: Callable[[], Locked | None]) -> Locked:
    """What ``lock`` locks; where it returns None, as a row has come late, that is undone and done again.

    To lock the late row after those that come behind it could wait in a circle.
    """
    while True:
        with db.session.begin_nested() as attempt:
            locked = lock()
            if locked is not None:
                return locked
            attempt.rollback()


def _lock_parent(rows: Select[Any], is_it: ColumnElement[bool], is_of_it: ColumnElement[bool]) -> Product | None:
    """What `lock_family` does of a parent; None where a row of it has come while this waited."""
    found = rows.where(or_(is_it, is_of_it)).order_by(Product.kind == ProductKind.PARENT, Product.id)
    locking = found.with_for_update(key_share=True).execution_options(populate_existing=True)
    locked = db.session.scalars(locking).all()
    if not locked:
        raise NotFound
    product: Product = locked[-1]
    # Where the parent was given another key meanwhile, its variants alone are found.
    if product.kind != ProductKind.PARENT:
        if db.session.scalar(rows.where(is_it, Product.id == product.id)) is None:
            raise NotFound
        return product
    is_whole = db.session.scalar(rows.where(is_of_it).with_only_columns(func.count())) == len(locked) - 1
    return product if is_whole else None


def delete_variants(parent: Product, moment: datetime) -> None:
    """Delete the living variants of a parent, which this transaction has locked, as it is deleted itself."""
    variants = lock_rows(PRODUCTS.c.parent_id, [parent.id])
    written = {one["id"]: {"deleted_at": moment, "version": one["version"] + 1} for one in variants}
    update_rows(written, moment=moment)
    for one in variants:
        record_write(Product, before=dict(one), after={**one, **written[one["id"]]}, members=["deleted_at"])
    store({one["id"]: (None, ()) for one in variants})
    expire(written)


def variants_deleted_with(product: Product) -> Sequence[Row]:
    """The variants of a deleted parent that were deleted with it, locked in the order of their ids."""
    if product.kind != ProductKind.PARENT:
        return []
    rows = select(PRODUCTS).where(PRODUCTS.c.parent_id == product.id, PRODUCTS.c.deleted_at == product.deleted_at)
    return db.session.execute(rows.order_by(PRODUCTS.c.id).with_for_update(key_share=True)).mappings().all()


def restore_variants(parent: Product, variants: Sequence[Row], slugs: Mapping[int, str]) -> None:
    """Bring variants back with their parent, as they were, but for what follows from attributes by now.

    ``slugs`` are those that they get, by id. Raises the refusals of `models.REFUSALS`.
    """
    if not variants:
        return
    back = [{**one, "deleted_at": None, "slug": slugs[one["id"]], "version": one["version"] + 1} for one in variants]
    assessed = _assess_variants(parent, back)
    written: dict[int, Row] = {}
    for before, row in zip(variants, back, strict=True):
        after = _after(row, assessed[row["id"]])
        names = [name for name in ("deleted_at", "slug", *ASSESSED, "search_text") if after[name] != before[name]]
        written[row["id"]] = {name: after[name] for name in RESTORED}
        record_write(Product, before=dict(before), after=after, members=names)
    with refusing(REFUSALS):
        update_rows(written, moment=clock.now())
    store({row["id"]: (listed_id_of(row), assessed[row["id"]].values) for row in back})
    expire(written)
    roll_up([parent.id])


def inherited_by_now(product: Product) -> Mapping[str, Any]:
    """What a deleted variant that comes back has of its parent, by the names of columns; nothing of another product.

    Raises ``ParentDeleted``, ``OptionsChanged``, ``CurrencyOfVariantDiffers`` and ``TooManyVariants``. The parent is
    locked: else it could be changed or deleted meanwhile by a transaction that takes the variant for a deleted one.
    """
    if product.parent_id is None:
        return {}
    found = select(Product).where(Product.id == product.parent_id, Product.deleted_at.is_(None))
    locked = found.with_for_update(key_share=True).execution_options(populate_existing=True)
    parent = db.session.scalar(locked)
    if parent is None:
        raise ParentDeleted
    if product.options and product.options.keys() != set(parent.options):
        raise OptionsChanged
    if too_precise_amounts({CURRENCY: parent.currency}, row_of(product)):
        raise CurrencyOfVariantDiffers
    siblings = select(func.count()).where(Product.parent_id == parent.id, Product.deleted_at.is_(None))
    if db.session.execute(siblings).scalar_one() >= MAX_VARIANTS:
        raise TooManyVariants
    return inherited_from(parent)


def without_foreign(product: Product, stated: Mapping[str, Any], *, replaces: bool = False) -> dict[str, Any]:
    """The members that a product has itself; raises the refusal of what follows from its family.

    That may be stated as it is. Where the body ``replaces`` the product, it has a default for what it does not state.
    """
    members = dict(stated)
    foreign: Mapping[str, type[Invalid]] = {}
    if product.kind == ProductKind.VARIANT:
        foreign = dict.fromkeys(INHERITED, MemberOfParent)
    elif product.kind == ProductKind.PARENT:
        foreign = dict.fromkeys(("price", "track_stock"), RolledUp)
    wrong: list[str] = []
    for name in [one for one in foreign if one in members]:
        there, value = getattr(product, name), members.pop(name)
        if value not in (there, DEFAULTS.get(name, there) if replaces else there):
            wrong.append(name)
    if wrong:
        raise foreign[wrong[0]].at(*wrong)
    if members.get("position") is not None and product.kind != ProductKind.VARIANT:
        raise NotAVariant.at("position")
    if "options" in members:
        members["options"] = _fitting_options(product, members["options"])
    return members


def _fitting_options(product: Product, options: Any) -> Any:
    """The options as a product of its kind has them; raises the refusal of those that it cannot have."""
    if product.kind == ProductKind.VARIANT:
        parent = db.session.execute(select(PRODUCTS.c.options).where(PRODUCTS.c.id == product.parent_id)).scalar_one()
        if isinstance(options, list):
            raise OptionsUnfit
        require_fitting(options, parent)
        return options or {}
    if product.kind == ProductKind.PARENT:
        if not isinstance(options, list):
            raise OptionsUnfit
        if set(options) != set(product.options) and any(one["options"] for one in read_variants([product.id])):
            raise OptionsInUse
    elif options is not None:
        raise NotAVariant.at("options")
    return options


def require_fitting(options: Any, names: Sequence[str]) -> None:
    """Raise ``OptionsUnfit`` unless a variant's options have just these names, or there are none."""
    if isinstance(options, list) or (options and options.keys() != set(names)):
        raise OptionsUnfit


def totals_of(variants: Iterable[Row]) -> dict[str, Any]:
    """What a parent's row shows of its living variants; each has the columns that `roll_up` reads.

    The active ones count, and no others: shoppers see the parent. Its prices are 0 where none is active.
    """
    active = [one for one in variants if one["status"] == ProductStatus.ACTIVE]
    prices = [one["price"] for one in active] or [Decimal(0)]
    tracked = [one["stock"] for one in active if one["track_stock"]]
    labels = [label for one in active for label in labels_of(**one)]
    labels += [one["attribute_words"] or "" for one in active]
    missing = dict.fromkeys(code for one in active for code in one["missing"] or ())
    return {
        "price": min(prices),
        "price_max": max(prices),
        "stock": sum(tracked),
        "track_stock": len(tracked) == len(active),
        "variant_count": len(active),
        "missing": [*missing] or None,
        "variant_words": " ".join(filter(None, dict.fromkeys(labels)))[:MAX_WORDS],
    }


def roll_up(parent_ids: Iterable[int | None], *, kind: str = "product.updated") -> None:
    """Bring parents to what their variants, which this transaction has written, say; ``kind`` is the type of the event.

    Each gets a new ``live``, and so another ETag, whether or not its own columns differ: it may be shown with its
    variants. Three statements, however many there are.
    """
    ids = {each for each in parent_ids if each is not None}
    if not ids:
        return
    parents = lock_rows(PRODUCTS.c.id, ids)
    variants: dict[int, list[Row]] = {each: [] for each in ids}
    for row in read_variants(ids):
        variants[row["parent_id"]].append(row)
    _write([(parent, totals_of(variants[parent["id"]])) for parent in parents], kind=kind)
    expire(ids)


def move_stock(parent_id: int, delta: int, known: Sequence[Column[Any]]) -> None:
    """Add ``delta`` to the stock of a parent, one of whose variants has moved by it; one statement.

    It is 0 for a variant that does not count. ``known`` are the columns that the log of changes has to know.
    """
    moved = {"stock": PRODUCTS.c.stock + delta, "live": PRODUCTS.c.live + 1}
    statement = update(PRODUCTS).where(PRODUCTS.c.id == parent_id).values(moved).returning(*known)
    row = db.session.execute(statement).mappings().one()
    before = {**row, "stock": row["stock"] - delta}
    record(parent_id, "stock.moved", before, dict(row), ["stock"] if delta else [])
    expire({parent_id})


def save_with_values(product: Product, parent: Row | None = None) -> None:
    """Write a mapped product with what follows from its attributes; ``parent`` is that of a variant.

    Raises what is wrong with the attributes, unless it is deleted or restored, and the refusals of `models.REFUSALS`.
    """
    row = row_of(product)
    states = [row] if parent is None else [row, parent]
    assessment = Definitions.of(states).assess(row, parent)
    # What goes or comes back stays as it was, fit or not.
    if not inspect(product).attrs.deleted_at.history.has_changes():
        assessment.require()
    for name, value in assessment.columns.items():
        # What a parent lacks is what its variants lack.
        if name != "missing" or product.kind != ProductKind.PARENT:
            setattr(product, name, value)
    save(product, REFUSALS)
    store({product.id: (listed_id_of(row), assessment.values)})


def parent_of(product: Product) -> Row | None:
    """The row of a variant's parent; None of any other product."""
    if product.parent_id is None:
        return None
    return db.session.execute(select(PRODUCTS).where(PRODUCTS.c.id == product.parent_id)).mappings().one()


def row_of(product: Product) -> Row:
    """The columns of a mapped product."""
    return {each.key: getattr(product, each.key) for each in inspect(product).mapper.column_attrs}


def pass_on(parent: Product, changed: Set[str]) -> None:
    """Copy what ``changed`` of a parent to its living variants, which this transaction has locked.

    Raises ``TooPrecise`` for a currency in which one has too many decimals, and what is wrong with the attributes of
    one, by the type, the attributes and the status that the parent has now.
    """
    copied = {name: value for name, value in inherited_from(parent).items() if name in changed}
    if "status" in changed:
        copied["parent_status"] = parent.status
    is_valued = not changed.isdisjoint(MADE_OF)
    if not copied and not is_valued:
        return
    variants = lock_rows(PRODUCTS.c.parent_id, [parent.id])
    if any(too_precise_amounts(copied, variant) for variant in variants):
        raise TooPrecise.at(CURRENCY)
    assessed = _assess_variants(parent, [{**variant, **copied} for variant in variants]) if is_valued else {}
    for assessment in assessed.values():
        assessment.require()
    written: dict[int, Row] = {}
    names = [*copied, *(ASSESSED if assessed else ()), "search_text"]
    for variant in variants:
        after = _after({**variant, **copied, "live": variant["live"] + 1}, assessed.get(variant["id"]))
        written[variant["id"]] = {name: after[name] for name in (*names, "live")}
        # The values may differ though their words do not.
        members = {name for name in names if after[name] != variant[name]} | {*(ASSESSED if assessed else ())}
        record(variant["id"], "product.updated", dict(variant), after, members)
    update_rows(written, moment=clock.now())
    store({each["id"]: (listed_id_of(each), assessed[each["id"]].values) for each in variants if assessed})
    expire(variant["id"] for variant in variants)
    if assessed:
        # What a parent lacks is what its variants lack.
        roll_up([parent.id])


def _assess_variants(parent: Product, variants: Sequence[Row]) -> dict[int, Assessment]:
    """What the attributes of variants come to beside those of their parent, by the ids of the variants."""
    state = row_of(parent)
    definitions = Definitions.of([state, *variants])
    return {variant["id"]: definitions.assess(variant, state) for variant in variants}


def _after(row: Row, assessment: Assessment | None) -> Row:
    """The columns of a product with what follows from them."""
    after = {**row, **(assessment.columns if assessment else {})}
    return {**after, "search_text": search_text(**after)}


def lock_rows(column: Column[Any], ids: Collection[int]) -> Sequence[RowMapping]:
    """The living products that have one of these ids in a column, locked in the order of their own ids.

    No statement without ids.
    """
    if not ids:
        return []
    rows = select(PRODUCTS).where(has_id(ids, column), _IS_ALIVE).order_by(PRODUCTS.c.id)
    return db.session.execute(rows.with_for_update(key_share=True)).mappings().all()


def read_variants(parent_ids: Collection[int]) -> Sequence[RowMapping]:
    """What parents show of their living variants, and what these must not share, in the order of their positions."""
    rows = select(*(PRODUCTS.c[name] for name in SHOWN)).where(has_id(parent_ids, PRODUCTS.c.parent_id), _IS_ALIVE)
    return db.session.execute(rows.order_by(PRODUCTS.c.position, PRODUCTS.c.id)).mappings().all()


def _write(totals: Sequence[tuple[Row, Row]], *, kind: str) -> None:
    """Write parents with what follows from their variants."""
    written: dict[int, Row] = {}
    for parent, follows in totals:
        after = {**parent, **follows, "live": parent["live"] + 1}
        after["search_text"] = search_text(**after)
        written[parent["id"]] = {name: after[name] for name in (*follows, "search_text", "live")}
        members = [name for name in (*ROLLED_UP, "search_text") if after[name] != parent[name]]
        # The first time, what a parent gets of its variants is no change of a price or a stock that anybody has seen.
        before = after if parent["live"] == 0 else dict(parent)
        record(parent["id"], kind, before, after, members)
    update_rows(written, moment=None if kind == "stock.moved" else clock.now())


def record(product_id: int, kind: str, before: Row, after: Row, members: Collection[str]) -> None:
    """Record a change of a row that was written past the mapper; ``members`` are the columns that changed."""
    counters = {"version": after["version"], "live": after["live"]}
    record_in_log(Product, kind, product_id, **counters, members=members, before=before, after=after)


def expire(product_ids: Iterable[int]) -> None:
    """Let the session read again what these statements have written past it."""
    mapper = inspect(Product)
    for product_id in product_ids:
        product = db.session.identity_map.get(mapper.identity_key_from_primary_key((product_id,)))
        if product is not None:
            db.session.expire(product)
