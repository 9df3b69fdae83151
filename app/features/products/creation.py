"""New products: their rows, with what is made for those that do not state it, and the first receipt of their stock."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import select, text

from app.core import clock
from app.core.audit import origin
from app.core.changes import record_write
from app.core.constraints import refusing
from app.core.errors import Fault, Invalid
from app.core.fastsql import insert_row
from app.core.references import require_references, stated_references
from app.core.slugs import SlugTaken, find_reserved, make_random_slug, make_slug, make_spare_slug, require_unreserved
from app.extensions import db
from app.features.products import keys, ledger, values
from app.features.products.models import (
    DEFAULTS,
    REFUSALS,
    UNIQUE_SLUG,
    Product,
    ProductKind,
    SkuTaken,
    TooPrecise,
    free_slug,
    new_row,
    title_of,
    too_precise_amounts,
)
from app.features.products.statements import has_id, insert_rows
from app.features.products.values import Assessment, Definitions

Row = Mapping[Any, Any]

#: What a new product is unless it is stated.
NEW: Row = {**DEFAULTS, "kind": ProductKind.SINGLE, "options": None, "parent_status": None, "deleted_at": None}

_LIVING = select(Product).where(Product.deleted_at.is_(None))

#: Any other constraint is refused where the references are known.
_SKU_ALONE = {"uq_products_sku": SkuTaken}

_NEXT_IDS = {
    "postgresql": text("SELECT nextval('products_id_seq') FROM generate_series(1, CAST(:wanted AS integer))"),
    # SQLite has one writer at a time, so no other takes these ids.
    "sqlite": text(
        "WITH RECURSIVE further (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM further WHERE number < :wanted)"
        " SELECT number + (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'products') FROM further"
    ),
}


def create_row(
    members: dict[str, Any],
    parent: Row | None = None,
    *,
    definitions: Definitions | None = None,
    is_nested: bool = False,
) -> Any:
    """Add a product of any kind, and return what answers have of it; ``parent`` is that of a variant.

    ``definitions`` are found unless they are given. Where it ``is_nested`` in a savepoint, its references are looked up
    before.

    Raises the refusals of `models.REFUSALS`, and what `assess_new` raises.
    """
    assessment = assess_new(members, parent, definitions)
    references = stated_references(Product, members)
    if is_nested:
        require_references(references)
    with refusing(REFUSALS, references={} if is_nested else references):
        row = _insert_with_key({**members, **assessment.columns})
    state = {**NEW, **members, "id": row.id}
    values.store({row.id: (values.listed_id_of(state), assessment.values)}, are_new=True)
    return row


def create_together(rows: Sequence[Row], assessments: Sequence[Assessment]) -> Collection[int]:
    """Add products, which `assess_new` has assessed and whose references are there; the places of those left out.

    These have a key of another product, or of one before them, and `create_row` refuses them, unless the key was made.
    The same few statements however many there are. Raises ``SlugTaken`` for a slug that another product had.
    """
    if not rows:
        return ()
    places: dict[str, int] = {}
    ids = _next_ids(len(rows))
    for place, row in enumerate(rows):
        places.setdefault(row.get("sku", f"P-{ids[place]}"), place)
    assessed = {sku: assessments[place] for sku, place in places.items()}
    new = [{**rows[place], **assessed[sku].columns, "id": ids[place], "sku": sku} for sku, place in places.items()]
    made = insert_together(new, DEFAULTS, assessed)
    for row in made.values():
        record_write(Product, before=None, after=row, members=row)
    _require_unreserved({row["slug"]: row["id"] for row in made.values() if "slug" in rows[places[row["sku"]]]})
    return set(range(len(rows))) - {places[sku] for sku in made}


def insert_together(
    rows: Sequence[Row], defaults: Row, assessed: Mapping[str, Assessment], *, stated_slugs: Collection[str] = ()
) -> dict[str, Row]:
    """Create the products whose keys no living product has; every column of each, by sku. The caller records them.

    No two have one sku. Slugs are made where none is stated, but none of ``stated_slugs``. Where another transaction is
    creating one of the products, this one waits, and then leaves it alone.
    """
    if not rows:
        return {}
    now = clock.now()
    # An id is stated by all or by none.
    new = [
        {**new_row(row, defaults, now), **{name: row[name] for name in row.keys() & {"id"}}}
        for row in keys.with_slugs(rows, stated=stated_slugs)
    ]
    ids = insert_rows(new)
    made: dict[str, Row] = {row["sku"]: {**row, "id": ids[row["sku"]]} for row in new if row["sku"] in ids}
    if sold := [row["id"] for row in made.values() if row["kind"] != ProductKind.PARENT]:
        ledger.balance(has_id(sold), reason=ledger.Reason.RECEIPT)
    found_by = {row["id"]: (values.listed_id_of(row), assessed[row["sku"]].values) for row in made.values()}
    values.store(found_by, are_new=True)
    return made


def assess_new(members: Row, parent: Row | None, definitions: Definitions | None = None) -> Assessment:
    """What the attributes of a new product come to; ``parent`` is that of a variant.

    Raises ``TooPrecise``, the refusal of a missing price, and what is wrong with the attributes.
    """
    require_price(members)
    require_exact(members)
    row = {**NEW, **members}
    if definitions is None:
        definitions = definitions_of([row] if parent is None else [row, parent])
    assessment = definitions.assess(row, parent)
    assessment.require()
    return assessment


def definitions_of(rows: Sequence[Row]) -> Definitions:
    """The types and attributes of products; no statement where none has any, as in most catalogues moved here."""
    is_plain = not any(row["attributes"] or row["type_id"] or row["options"] for row in rows)
    return Definitions() if is_plain else Definitions.of(rows)


def require_exact(members: Row, there: dict[str, Any] | None = None) -> None:
    """Raise ``TooPrecise`` for amounts that the currency cannot have; ``there`` are those of a product that exists."""
    if wrong := too_precise_amounts(members, there):
        raise TooPrecise.at(*wrong)


def require_price(members: Row) -> None:
    """Refuse members without a price, as the schema of a body would: only a parent has none of its own."""
    if "price" not in members:
        raise Invalid(Fault("This is required.", "required", pointer="/price"))


def _next_ids(wanted: int) -> list[int]:
    found = db.session.scalars(_NEXT_IDS[db.engine.dialect.name], {"wanted": wanted})
    return sorted(int(each) for each in found)


def _require_unreserved(slugs: Mapping[str, int]) -> None:
    """Raise ``SlugTaken`` where another product had one of these slugs of new products, whose ids they have."""
    if slugs and any(holder != slugs[slug] for slug, holder in find_reserved(_LIVING, slugs.keys()).items()):
        raise SlugTaken


def _insert_with_key(members: dict[str, Any]) -> Any:
    """Insert a product, without a sku with P-<id>, or P-<id>-<random> where another product has that one already."""
    if "sku" in members:
        return _insert(members)
    (product_id,) = _next_ids(1)
    for sku in (f"P-{product_id}", f"P-{product_id}-{secrets.token_hex(4)}"):
        # The savepoint keeps what the transaction did before, and lets the second name be tried.
        with suppress(SkuTaken), db.session.begin_nested(), refusing(_SKU_ALONE):
            return _insert({**members, "sku": sku}, id=product_id)
    raise RuntimeError("a random sku was taken")


def _insert(members: dict[str, Any], **key: int) -> Any:
    """Insert a product that states its sku, without a slug with one made from its name."""
    base = make_slug(title_of(members), "product")
    values = {**new_row({"slug": base, **members}, DEFAULTS, clock.now()), **key}
    options: dict[str, Any] = {"along": ledger.opening if values["stock"] else None, "mover": origin.get().user_id}
    if "slug" in members:
        row = insert_row(Product, values, **options)
        require_unreserved(row, _LIVING)
        return row
    slugs = {"wanted_slug": values.pop("slug"), "spare_slug": make_spare_slug(base, values["sku"])}
    row = insert_row(Product, values, computed={"slug": free_slug}, unless_taken=UNIQUE_SLUG, **slugs, **options)
    # Another request has taken the slug at the same moment, or a product has the spare one as well.
    return row or insert_row(Product, values | {"slug": make_random_slug(base)}, **options)
