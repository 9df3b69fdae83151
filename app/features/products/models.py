"""The products table, its rules and its refusals."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import (
    DDL,
    CheckConstraint,
    Column,
    ColumnElement,
    Computed,
    ForeignKeyConstraint,
    Index,
    String,
    Text,
    and_,
    bindparam,
    case,
    event,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.orm import Mapped, aliased, mapped_column

from app.core.audit import SHOWN_UNAUDITED, UNAUDITED
from app.core.changelog import Published, Row
from app.core.errors import Conflict, Invalid
from app.core.keys import ExternalIdTaken, Key
from app.core.model import (
    Keyed,
    Live,
    Moment,
    Money,
    Stamped,
    Versioned,
    big_integer,
    json_type,
    nullable_json_type,
    ordered_text,
)
from app.core.money import CURRENCY, fits, is_written_exactly
from app.core.references import refers_to, refusals_of_references
from app.core.slugs import MAX_SLUG_LENGTH, Slugged, SlugTaken, is_reserved
from app.core.text import plain_text, words
from app.core.topics import DERIVED_FROM
from app.extensions import Model
from app.features.brands.models import BrandUnknown
from app.features.categories.models import CategoryUnknown
from app.features.product_types.models import ProductTypeUnknown


class ProductStatus(StrEnum):
    """Where a product is in its life; plain users see active ones only."""

    DRAFT = "draft"
    ACTIVE = "active"
    ARCHIVED = "archived"


class ProductKind(StrEnum):
    """What a row is: sold by itself; the parent of variants, which is not sold; or one of them (decision 48)."""

    SINGLE = "single"
    PARENT = "parent"
    VARIANT = "variant"


class SkuTaken(Conflict):
    """Another product has this sku."""


class GtinTaken(Conflict):
    """Another product has this GTIN."""


class OptionsTaken(Conflict):
    """Another variant of this product has these options."""


class OptionsInUse(Conflict):
    """Variants have these options; give them others, or none, first."""


class OptionsChanged(Conflict):
    """The product of this variant has other options by now; give it those of the variant, and this comes back."""


class ParentDeleted(Conflict):
    """The product of this variant is deleted; restore that, and this comes back with it."""


class TooManyVariants(Conflict):
    """A product has at most 250 variants."""


class CurrencyOfVariantDiffers(Conflict):
    """A variant has the currency of its product; change one of them first."""


class NotSellable(Conflict):
    """This product is sold by its variants; name one of them."""


class StockNotTracked(Conflict):
    """The stock of this product is not tracked, so it does not move; set `track_stock` first."""


class TooManyAttributes(Invalid):
    """A product has at most 100 attributes."""

    pointer = "/attributes"


class TooPrecise(Invalid):
    """An amount has more decimals than its currency."""

    pointer = "/price"


class ProductIncomplete(Invalid):
    """No product has this sku, and a new one needs more members."""


class OptionsUnfit(Invalid):
    """A variant has a value for each option of its product, or no options."""

    pointer = "/options"


class VariantUnknown(Invalid):
    """There is no product with this id."""

    pointer = "/id"


class NotSingle(Conflict):
    """Only a product that is sold by itself can become a variant."""


class KeptAsItIs(Invalid):
    """A product that becomes a variant keeps this; change it afterwards."""


class NotAVariant(Invalid):
    """Only a variant has this."""


class NotAParent(Conflict):
    """This product has no options: it was made without variants, and can only become a variant itself."""


class RolledUp(Invalid):
    """This follows from the variants of the product, and cannot be written."""


class MemberOfParent(Invalid):
    """A variant has this of its product: change it there."""


#: The members whose words a search finds.
SEARCHED = ("name", "sku", "description", "tags", "gtin", "mpn", "options", "attributes", "type_id")
#: The members of which the values are made that products are filtered by.
VALUED = ("attributes", "options", "tags", "type_id", "status", "kind")

#: What a variant has of its parent: copied to its row whenever the parent changes (decision 48).
INHERITED = ("name", "description", "tags", "category_id", "brand_id", "type_id", "currency")

MAX_ATTRIBUTES = 100
MAX_OPTIONS = 5
MAX_OPTION_LENGTH = 100
#: The living variants of a product: each change of one recomputes what follows from all.
MAX_VARIANTS = 250
MAX_STOCK = 2**53


class AttributePatch(dict[str, Any]):
    """Attributes that are set beside those that a product has, as a row of a batch may state them."""


class Product(Keyed, Stamped, Versioned, Live, Slugged, Published, Model):
    """Something for sale, or the parent of variants, which are for sale (decision 48).

    ``search_text`` is what `search` reads, and ``option_key`` what distinguishes the variants of one parent; the
    listener below updates both. A parent's ``price``, ``price_max``, ``stock``, ``track_stock`` and ``variant_count``
    follow from its variants (`families`).
    """

    __tablename__ = "products"
    audited_as = "product"
    __table_args__ = (
        CheckConstraint("price >= 0", name="price_not_negative"),
        CheckConstraint("compare_at_price >= 0", name="compare_at_price_not_negative"),
        CheckConstraint("stock >= 0", name="stock_not_negative"),
        CheckConstraint(f"status IN ({', '.join(repr(s.value) for s in ProductStatus)})", name="status"),
        CheckConstraint("length(currency) = 3", name="currency"),
        # PostgreSQL gets it below, when there is the unique index that it needs.
        ForeignKeyConstraint(
            ["parent_id"], ["products.parent_key"], name="fk_products_parent_id_products", ondelete="RESTRICT"
        ).ddl_if(dialect="sqlite"),
        {"sqlite_autoincrement": True},
    )

    sku: Mapped[str] = mapped_column(ordered_text(64))
    slug: Mapped[str] = mapped_column(ordered_text(MAX_SLUG_LENGTH))
    #: As it was written; `gtin_14` compares it.
    gtin: Mapped[str | None] = mapped_column(String(14))
    mpn: Mapped[str | None] = mapped_column(String(70))
    name: Mapped[str] = mapped_column(ordered_text(200))
    description: Mapped[str] = mapped_column(Text, default="")
    price: Mapped[Decimal] = mapped_column(Money)
    compare_at_price: Mapped[Decimal | None] = mapped_column(Money)
    currency: Mapped[str] = mapped_column(String(3))
    category_id: Mapped[int] = mapped_column(big_integer, refers_to("categories.id", unknown=CategoryUnknown))
    brand_id: Mapped[int | None] = mapped_column(big_integer, refers_to("brands.id", unknown=BrandUnknown))
    type_id: Mapped[int | None] = mapped_column(big_integer, refers_to("product_types.id", unknown=ProductTypeUnknown))
    stock: Mapped[int] = mapped_column(big_integer, default=0)
    #: Without it a product is always in stock, and its stock does not move.
    track_stock: Mapped[bool] = mapped_column(default=True, server_default=true())
    #: A tracked stock of so many or fewer is low; None for a product of which none is.
    low_stock_at: Mapped[int | None] = mapped_column(
        big_integer, CheckConstraint("low_stock_at >= 0", name="low_stock_at_not_negative")
    )
    status: Mapped[ProductStatus] = mapped_column(String(16), default=ProductStatus.ACTIVE)
    tags: Mapped[list[str]] = mapped_column(json_type, default=list)
    attributes: Mapped[dict[str, Any]] = mapped_column(json_type, default=dict)
    weight_g: Mapped[int | None] = mapped_column(big_integer)
    external_id: Mapped[str | None] = mapped_column(String(128))
    kind: Mapped[ProductKind] = mapped_column(
        String(8),
        CheckConstraint(f"kind IN ({', '.join(repr(kind.value) for kind in ProductKind)})", name="kind"),
        default=ProductKind.SINGLE,
        server_default="single",
    )
    parent_id: Mapped[int | None] = mapped_column(
        big_integer,
        CheckConstraint("(kind = 'variant') = (parent_id IS NOT NULL)", name="parent_id_of_variant"),
    )
    #: Of a parent the names of its options, of a variant its value for each.
    options: Mapped[Any] = mapped_column(nullable_json_type, nullable=True)
    #: The place of a variant among those of its parent, from 0.
    position: Mapped[int | None] = mapped_column(
        big_integer, CheckConstraint("(kind = 'variant') = (position IS NOT NULL)", name="position_of_variant")
    )
    #: The greatest price of a parent's variants, of which ``price`` is the least.
    price_max: Mapped[Decimal | None] = mapped_column(Money)
    #: How many active variants a parent has.
    variant_count: Mapped[int | None] = mapped_column(big_integer)
    #: The codes of attributes that its type requires and it lacks, and of a parent those that its variants lack.
    missing: Mapped[Any] = mapped_column(nullable_json_type, nullable=True)
    option_key: Mapped[str | None] = mapped_column(Text, info=UNAUDITED)
    #: The status of a variant's parent: shoppers see a variant where both are active.
    parent_status: Mapped[str | None] = mapped_column(String(16), info={**UNAUDITED, DERIVED_FROM: ()})
    #: What a search finds a parent by, of its variants.
    variant_words: Mapped[str | None] = mapped_column(Text, info=UNAUDITED)
    #: What a search finds it by, of its attributes. The index of values is made of the same columns (`values`).
    attribute_words: Mapped[str | None] = mapped_column(Text, info={**UNAUDITED, DERIVED_FROM: VALUED})
    #: The first of its pictures that is ready, or of a variant the first that is of it (`pictures`).
    image: Mapped[Any] = mapped_column(nullable_json_type, nullable=True, info={**SHOWN_UNAUDITED, DERIVED_FROM: ()})
    search_text: Mapped[str] = mapped_column(Text, info={**UNAUDITED, DERIVED_FROM: SEARCHED})
    deleted_at: Mapped[Moment | None]

    @classmethod
    def event_names(cls) -> Mapping[str, str]:
        """The names of the changes of products, with a sentence each."""
        return _EVENT_NAMES

    @classmethod
    def names_of(cls, kind: str, before: Row | None, after: Row | None) -> list[str]:
        """The type of a change of a product, and then its other names in the order of the list."""
        found = {*_changes_of_visibility(before, after), *_changes_of_members(before, after)}
        return [kind, *(name for name in _EVENT_NAMES if name in found and name != kind)]

    def replace_attributes(self, attributes: dict[str, Any]) -> None:
        """Set all attributes; at most 100."""
        if len(attributes) > MAX_ATTRIBUTES:
            raise TooManyAttributes
        self.attributes = attributes

    def merge_attributes(self, patch: dict[str, Any]) -> None:
        """Merge as RFC 7396 does: a null removes its member."""
        merged = {**self.attributes, **patch}
        self.replace_attributes({name: value for name, value in merged.items() if value is not None})

    def restore(self) -> None:
        """Bring the product back under its sku."""
        self.deleted_at = None


_EVENT_NAMES: Mapping[str, str] = {
    "product.created": "The product was created.",
    "product.updated": "Members of the product changed, its stock alone excepted.",
    "product.published": "Shoppers see the product from now on: it became active, or was created or restored as such.",
    "product.hidden": "Shoppers do not see the product any more; or it is one that you may not see.",
    "product.deleted": "The product was deleted.",
    "product.restored": "The deleted product is back.",
    "price.changed": "Its `price`, its `compare_at_price` or its `currency` changed after it was created.",
    "stock.moved": "Its `stock` changed after it was created.",
    "stock.low": "Its tracked `stock` is at or below `low_stock_at`, and was not before.",
    "stock.out": "It is sold out, and was in stock before.",
    "stock.back": "It is in stock, and was sold out before; a stock that is not tracked is always in stock.",
}
_PRICE = ("price", "compare_at_price", "currency")


def _changes_of_visibility(before: Row | None, after: Row | None) -> Iterator[str]:
    """The names of a change by which shoppers see a product, or see it no more."""
    was, is_now = _is_visible(before), _is_visible(after)
    if is_now and not was:
        yield "product.published"
    if was and not is_now:
        yield "product.hidden"


def _changes_of_members(before: Row | None, after: Row | None) -> Iterator[str]:
    """The names of a change of the price and the stock of a product; a new one has changed neither."""
    if before is None or after is None:
        return
    if any(before.get(name) != after.get(name) for name in _PRICE):
        yield "price.changed"
    if before["stock"] != after["stock"]:
        yield "stock.moved"
    if _is_low(after) and not _is_low(before):
        yield "stock.low"
    if _is_sold_out(after) != _is_sold_out(before):
        yield "stock.out" if _is_sold_out(after) else "stock.back"


def _is_visible(product: Row | None) -> bool:
    # A movement records none of these columns, and changes none.
    if product is None or product.get("deleted_at") is not None:
        return False
    return product.get("status") == ProductStatus.ACTIVE and product.get("parent_status") in {
        None,
        ProductStatus.ACTIVE,
    }


def _is_low(product: Row) -> bool:
    threshold = product["low_stock_at"]
    return bool(product["track_stock"]) and threshold is not None and product["stock"] <= threshold


def _is_sold_out(product: Row) -> bool:
    """What `is_in_stock` says in SQL."""
    return bool(product["track_stock"]) and product["stock"] <= 0


PRODUCTS = Product.metadata.tables["products"]

# The id of a row that is a parent. Variants refer to it, so that none has another for its parent. It is not mapped: the
# mapper would read it again after each UPDATE.
PRODUCTS.append_column(
    Column("parent_key", big_integer, Computed("CASE WHEN kind = 'parent' THEN id END", persisted=True))
)


def gtin_14(gtin: Any) -> ColumnElement[str]:
    """The fourteen digits of a GTIN of 8, 12, 13 or 14, in SQL: zeros before it do not make another number of it."""
    # The constants are part of the SQL, as they are of the index.
    zeros, start = (literal(value, literal_execute=True) for value in ("000000", 7))
    return func.substr(zeros + gtin, func.length(gtin) - start, type_=String(14))


def pad_gtin(gtin: str, length: int = 14) -> str:
    """A GTIN with zeros before it; any other text as it is."""
    return gtin.zfill(length) if len(gtin) in {8, 12, 13, 14} else gtin


def has_key(name: str, value: str) -> ColumnElement[bool]:
    """Whether a product has this value of a key, as it is compared."""
    key = KEYS[name]
    condition: ColumnElement[bool] = key.column == key.normalize(value)
    return condition


def is_in_stock(wanted: bool = True, of: Any = Product) -> ColumnElement[bool]:
    """Whether a product can be bought, or, if not ``wanted``, whether it is sold out; untracked stock never is.

    ``of`` is the model, or an alias of it.
    """
    # A range and not an equality, which SQLite would take for rare (see the filter by status).
    if wanted:
        return or_(of.stock > 0, of.track_stock.is_(False))
    return and_(of.stock <= 0, of.track_stock.is_(True))


#: The keys by which others know a product.
KEYS: Mapping[str, Key] = {
    "sku": Key(column=Product.sku, taken=SkuTaken),
    "slug": Key(column=Product.slug, taken=SlugTaken),
    "gtin": Key(column=gtin_14(Product.gtin), taken=GtinTaken, normalize=pad_gtin),
    "external_id": Key(column=Product.external_id, taken=ExternalIdTaken),
}

#: What makes a product single, a parent or a variant.
FAMILY = ("kind", "parent_id", "options", "position")
#: What follows from other rows, and is stored beside the members.
DERIVED = ("price_max", "variant_count", "parent_status", "variant_words", "missing", "attribute_words", "image")
#: The columns that no client writes; every other one is a member, also where many products are written at once.
_SERVER_SET = {"id", "created_at", "updated_at", "version", "live", "search_text", "deleted_at", "parent_key"}
_SERVER_SET |= {*FAMILY, *DERIVED, "option_key"}
MEMBERS = tuple(column.name for column in PRODUCTS.columns if column.name not in _SERVER_SET)
#: The members that are amounts in the product's currency.
AMOUNTS = tuple(name for name in MEMBERS if isinstance(PRODUCTS.columns[name].type, Money))


def _defaults() -> Mapping[str, Any]:
    columns = [PRODUCTS.columns[name] for name in MEMBERS]
    return {column.name: _default_of(column) for column in columns if column.default is not None or column.nullable}


def _default_of(column: Column[Any]) -> Any:
    default: Any = column.default
    if default is None:
        return None
    return default.arg(None) if default.is_callable else default.arg


#: What a new product takes for the members that are not stated: the defaults of the columns.
DEFAULTS = _defaults()
#: The members that are made for a new product which does not state them.
MADE = frozenset({"slug"})


def new_row(members: Mapping[str, Any], defaults: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Every column of a new product but its id; ``members`` are stated, ``defaults`` stand for the others.

    Of `FAMILY` and `DERIVED` what ``members`` do not state is as of a single product.
    """
    stated = {name: members[name] if name in members else defaults[name] for name in MEMBERS}
    stated |= {name: members.get(name) for name in (*FAMILY, *DERIVED)}
    stated["kind"] = members.get("kind", ProductKind.SINGLE)
    return {
        **stated,
        "option_key": option_key(stated["options"]),
        "search_text": search_text(**stated),
        "created_at": now,
        "updated_at": now,
        "version": 1,
        "live": 0,
        "deleted_at": None,
    }


def free_slug() -> ColumnElement[str]:
    """The parameter ``wanted_slug``, or ``spare_slug`` where another living product has or had that one, in SQL."""
    wanted, spare = (bindparam(name, None, Product.slug.type) for name in ("wanted_slug", "spare_slug"))
    other = aliased(Product)
    living = select(other).where(other.deleted_at.is_(None))
    is_taken = or_(living.where(other.slug == wanted).exists(), is_reserved(living, wanted))
    return case((is_taken, spare), else_=wanted)


def missing_members(row: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """The members that a row does not state and that a new product needs."""
    return [name for name in MEMBERS if name not in row and name not in defaults and name not in MADE]


def too_precise_amounts(stated: Mapping[str, Any], there: Mapping[Any, Any] | None = None) -> list[str]:
    """The amounts that a product's currency cannot have, as it will be with the stated members.

    ``there`` are the amounts and the currency of a product that exists. Those that stay, or are
    stated as they are, are compared only where the currency changes: what was stored before currencies had their own
    decimals keeps its value.
    """
    currency = stated[CURRENCY] if there is None else stated.get(CURRENCY, there[CURRENCY])
    written = {name: stated[name] for name in AMOUNTS if stated.get(name) is not None}
    if there is not None and currency == there[CURRENCY]:
        written = {name: amount for name, amount in written.items() if amount != there[name] or fits(amount, currency)}
    wrong = [name for name, amount in written.items() if not is_written_exactly(amount, currency)]
    if there is not None and currency != there[CURRENCY]:
        stay = {name: there[name] for name in AMOUNTS if name not in stated and there[name] is not None}
        wrong += [name for name, amount in stay.items() if not fits(amount, currency)]
    return wrong


def search_text(
    *,
    name: str,
    sku: str,
    description: str | None,
    tags: list[str] | None,
    gtin: str | None = None,
    mpn: str | None = None,
    options: Any = None,
    variant_words: str | None = None,
    attribute_words: str | None = None,
    **_: Any,
) -> str:
    """The words that a product is found by: a line of the name's, of the labels', of the description's.

    Its labels are those of `labels_of`, the tags, the words of its attributes, and of a parent those of its variants.

    A word stands in the first of these places that has it; a blank follows it. Other members are not searched. The
    description may be HTML. A description or tags that are None are empty: the mapper fills in their defaults later.
    """
    seen: set[str] = set()
    lines = []
    labels = " ".join(
        [
            *labels_of(sku=sku, gtin=gtin, mpn=mpn, options=options),
            *(tags or []),
            attribute_words or "",
            variant_words or "",
        ]
    )
    for place in (name, labels, plain_text(description or "")):
        found = [word for word in words(place) if word not in seen]
        seen.update(found)
        lines.append(" ".join([*found, ""]))
    return "\n".join(lines)


def labels_of(*, sku: str, gtin: str | None, mpn: str | None, options: Any, **_: Any) -> Iterator[str]:
    """The sku of a product, its GTIN, the number of its maker, and the values of a variant's options."""
    yield sku
    if gtin:
        # A scanner reads a GTIN with other zeros before it than the one who wrote it.
        yield from sorted({gtin, pad_gtin(gtin, 13), pad_gtin(gtin)})
    if mpn:
        yield mpn
    if isinstance(options, dict):
        yield from map(str, options.values())


def title_of(members: Mapping[str, Any]) -> str:
    """The name of a product, and of a variant the values of its options as well."""
    options = members.get("options")
    return " ".join([members["name"], *(map(str, options.values()) if isinstance(options, dict) else ())])


def option_key(options: Any) -> str | None:
    """What the options of a variant are compared by: equal options have one; None without any."""
    if not isinstance(options, dict) or not options:
        return None
    # To JSON, 1 and 1.0 are one number.
    exact = {name: int(one) if isinstance(one, float) and one.is_integer() else one for name, one in options.items()}
    return orjson.dumps(exact, option=orjson.OPT_SORT_KEYS).decode()


@event.listens_for(Product, "before_insert")
@event.listens_for(Product, "before_update")
def _update_derived(_mapper: object, _connection: object, product: Product) -> None:
    stated = {name: getattr(product, name) for name in (*MEMBERS, "options", "attribute_words", "variant_words")}
    product.search_text = search_text(**stated)
    product.option_key = option_key(product.options)


# A deleted product is in no list, so every index but the primary key leaves it out.
_ALIVE = Product.deleted_at.is_(None)
# Lists show singles and parents, unless a filter asks for variants.
_LISTED = and_(_ALIVE, Product.parent_id.is_(None))
_OF_PARENT = Product.parent_id.is_not(None)
_SORTS = (Product.created_at, Product.updated_at, Product.name, Product.price, Product.stock)


def _index(*columns: Any, of: Any = _LISTED) -> None:
    name = "_".join(column.key for column in columns)
    Index(f"ix_products_{name}", *columns, postgresql_where=of, sqlite_where=of)


_UNIQUE = {
    member: Index(f"uq_products_{member}", key.column, unique=True, postgresql_where=_ALIVE, sqlite_where=_ALIVE)
    for member, key in KEYS.items()
}
UNIQUE_SLUG = _UNIQUE["slug"]
# By these variants are read as well: by those who copy the catalogue, and the variants of a parent.
for _columns in ((), (Product.created_at,), (Product.updated_at,)):
    _index(*_columns, Product.id, of=_ALIVE)
# Of variants alone: SQLite would look up in them which products have no parent, and sort these.
_index(Product.parent_id, Product.position, Product.id, of=and_(_ALIVE, _OF_PARENT))
for _listed in (Product.name, Product.price, Product.stock):
    _index(_listed, Product.id)
for _sort in _SORTS:
    _index(Product.category_id, _sort, Product.id)
_index(Product.category_id, Product.sku, Product.id)
_index(Product.category_id, Product.id)
_index(Product.status, Product.created_at, Product.id)
_index(Product.currency, Product.price, Product.id)
_index(Product.brand_id, Product.created_at, Product.id)
Index("uq_products_parent_key", PRODUCTS.c.parent_key, unique=True)
_REFERENCE = "FOREIGN KEY (parent_id) REFERENCES products (parent_key) ON DELETE RESTRICT"
# SQLAlchemy has not annotated execute_if.
_add_reference = DDL(f"ALTER TABLE products ADD CONSTRAINT fk_products_parent_id_products {_REFERENCE}").execute_if(  # type: ignore[no-untyped-call]
    dialect="postgresql"
)
event.listen(PRODUCTS, "after_create", _add_reference)
Index(
    "uq_products_parent_id_option_key",
    Product.parent_id,
    Product.option_key,
    unique=True,
    postgresql_where=and_(_ALIVE, _OF_PARENT),
    sqlite_where=and_(_ALIVE, _OF_PARENT),
)
# Whole, for the references: deleting a category or a brand must find deleted products too.
Index("ix_products_parent_id", Product.parent_id, postgresql_where=_OF_PARENT, sqlite_where=_OF_PARENT)
Index("ix_products_category_id", Product.category_id)
Index("ix_products_brand_id", Product.brand_id)
Index("ix_products_type_id", Product.type_id)

#: The refusals of the constraints that a new or changed product can violate.
REFUSALS: dict[str, type[Conflict | Invalid]] = {
    **{f"uq_products_{name}": key.taken for name, key in KEYS.items()},
    "uq_products_parent_id_option_key": OptionsTaken,
    **refusals_of_references(Product),
}
