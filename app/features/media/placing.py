"""Which pictures products show: read for the answers, and what of it stands on the rows of products."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, literal, select, update

from app.core import clock
from app.core.membership import ValueList, is_one_of
from app.core.model import big_integer
from app.core.transactions import run
from app.core.upserts import insert_unless_there
from app.extensions import db
from app.features.media.models import ASSETS, PLACEMENTS, TABLE, AssetStatus

Row = Mapping[Any, Any]

_OF_ASSET = (
    *("sha256", "status", "merged_into_id", "source_url", "media_type"),
    *("width", "height", "colour", "is_animated", "sources"),
)


#: What names an asset in a file.
_NAMING = ("sha256", "status", "source_url")


def _placed(table: Any, names: Sequence[str] = _OF_ASSET) -> Select[Any]:
    columns = (*table.c, *(ASSETS.c[name] for name in names))
    found = select(*columns).join_from(table, ASSETS, ASSETS.c.id == table.c.media_id)
    return found.order_by(table.c.product_id, table.c.position)


_PLACED, _PLACED_NOW = _placed(PLACEMENTS), _placed(TABLE)
_NAMED, _NAMED_NOW = _placed(PLACEMENTS, _NAMING), _placed(TABLE, _NAMING)


def find_placed(product_ids: Collection[int]) -> Mapping[int, Sequence[Any]]:
    """The placements of products with what is to be read of their assets, in their order, for reads; one statement."""
    return _by_product(run(_PLACED.where(_is_of(PLACEMENTS, product_ids)))) if product_ids else {}


def find_named(product_ids: Collection[int]) -> Mapping[int, Sequence[Any]]:
    """The same with what names the assets alone, for many products at once: most of what is known are the sources."""
    return _by_product(run(_NAMED.where(_is_of(PLACEMENTS, product_ids)))) if product_ids else {}


def find_placed_now(product_ids: Collection[int]) -> Mapping[int, Sequence[Any]]:
    """The same within a transaction that writes."""
    return _by_product(db.session.execute(_PLACED_NOW.where(_is_of(TABLE, product_ids)))) if product_ids else {}


def find_named_now(product_ids: Collection[int]) -> Mapping[int, Sequence[Any]]:
    """The same as `find_named` within a transaction that writes."""
    return _by_product(db.session.execute(_NAMED_NOW.where(_is_of(TABLE, product_ids)))) if product_ids else {}


def products_showing(media_ids: Collection[int]) -> Sequence[int]:
    """The ids of the products that show any of these assets, in ascending order."""
    found = select(TABLE.c.product_id).where(TABLE.c.media_id.in_(media_ids)).distinct().order_by(TABLE.c.product_id)
    return db.session.scalars(found).all()


def replace_placements(product_id: int, rows: Sequence[Row]) -> None:
    """Write what a product shows, in place of what it showed; it is locked, and so are the assets.

    What it does not show any more counts as used until now.
    """
    shown = TABLE.c.product_id == product_id
    before = set(db.session.scalars(select(TABLE.c.media_id).where(shown)))
    db.session.execute(delete(TABLE).where(shown))
    if rows:
        db.session.execute(TABLE.insert(), [{**row, "product_id": product_id} for row in rows])
    if gone := before - {row["media_id"] for row in rows}:
        db.session.execute(update(ASSETS).where(ASSETS.c.id.in_(gone)).values(used_at=clock.now()))


def rewrite_placements(rows: Mapping[int, Sequence[Row]]) -> None:
    """Write what products show, by their ids, in place of what they showed; no picture is lost by it.

    The products are locked. Two statements, however many there are.
    """
    if rows:
        db.session.execute(delete(TABLE).where(_is_of(TABLE, rows)))
        insert_unless_there(TABLE, [{**row, "product_id": each} for each, some in rows.items() for row in some])


def replace_merged(placed: Mapping[int, Sequence[Any]]) -> bool:
    """Place, where products show merged assets, what these lead to; whether any did. ``placed`` is by product.

    The products are locked. A merge moves placements itself, but for those that a transaction is just rewriting, which
    does not lock the assets of those that it leaves as they are.
    """
    merged = {each: _led_on(rows) for each, rows in placed.items() if any(row.merged_into_id for row in rows)}
    rewrite_placements(merged)
    return bool(merged)


def move_placements(media_id: int, other_id: int) -> Sequence[int]:
    """Let products show another asset in the place of one that turned out to be the same; the ids of these products.

    The assets are locked.
    """
    of_asset = TABLE.c.media_id == media_id
    product_ids = db.session.scalars(select(TABLE.c.product_id).where(of_asset)).all()
    _join_placements(media_id, other_id)
    shows_other = select(TABLE.c.product_id).where(TABLE.c.media_id == other_id)
    moved = update(TABLE).where(of_asset, TABLE.c.product_id.not_in(shows_other)).values(media_id=other_id)
    db.session.execute(moved)
    db.session.execute(delete(TABLE).where(of_asset))
    return product_ids


def _join_placements(media_id: int, other_id: int) -> None:
    """Where products show both assets, let the place of the other stand for both.

    It is the former of the two, with its alternative text, and is of the variants of both.
    """
    mine, others = TABLE.alias(), TABLE.alias()
    pairs = select(mine, *(others.c[name].label(f"other_{name}") for name in ("position", "alt", "variants")))
    pairs = pairs.join_from(mine, others, mine.c.product_id == others.c.product_id)
    for row in db.session.execute(pairs.where(mine.c.media_id == media_id, others.c.media_id == other_id)).all():
        is_former = row.position < row.other_position
        joined = {
            "position": min(row.position, row.other_position),
            "alt": row.alt if is_former else row.other_alt,
            "variants": [*dict.fromkeys([*row.other_variants, *row.variants])],
        }
        is_it = (TABLE.c.product_id == row.product_id, TABLE.c.media_id == other_id)
        db.session.execute(update(TABLE).where(*is_it).values(joined))


def image_of(placed: Iterable[Any]) -> dict[str, Any] | None:
    """What a product's row has of the first of its pictures that is ready."""
    return next((_image(each) for each in placed if each.status == AssetStatus.READY), None)


def image_of_variant(placed: Sequence[Any], variant_id: int) -> dict[str, Any] | None:
    """The same of a variant: of the first that is ready and names it, or else of the first of its product."""
    return image_of(each for each in placed if variant_id in each.variants) or image_of(placed)


def shown_for(placed: Sequence[Any], variant_id: int | None) -> Sequence[Any]:
    """The placements that are to be shown: of a variant those that name it, or all where none does."""
    return [each for each in placed if variant_id in each.variants] or placed


def _led_on(placed: Sequence[Any]) -> list[Row]:
    """The rows of placements, each asset once; one that is placed itself stays as it is."""
    own = {row.media_id for row in placed if row.merged_into_id is None}
    rows: dict[int, Row] = {}
    for row in placed:
        media_id = row.merged_into_id or row.media_id
        if row.media_id == media_id or media_id not in own:
            members = {name: getattr(row, name) for name in ("position", "alt", "variants")}
            rows.setdefault(media_id, {"media_id": media_id, **members})
    return [*rows.values()]


def _image(placed: Any) -> dict[str, Any]:
    return {name: getattr(placed, name) for name in ("media_id", "alt", "width", "height", "colour", "sources")}


def _is_of(table: Any, product_ids: Iterable[int]) -> ColumnElement[bool]:
    return is_one_of(table.c.product_id, literal(sorted(product_ids), ValueList(big_integer)))


def _by_product(rows: Iterable[Any]) -> Mapping[int, Sequence[Any]]:
    found: dict[int, list[Any]] = {}
    for row in rows:
        found.setdefault(row.product_id, []).append(row)
    return found
