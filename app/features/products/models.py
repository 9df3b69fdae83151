"""The products table, its rules and its refusals."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Column, Index, String, Text, event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Boolean

from app.core import clock
from app.core.audit import UNAUDITED
from app.core.errors import Conflict, Invalid
from app.core.feed import Published
from app.core.model import Keyed, Moment, Money, Stamped, Versioned, big_integer, json_type, ordered_text
from app.core.references import refers_to, refusals_of_references
from app.core.text import plain_text, words
from app.extensions import Model
from app.features.categories.models import CategoryUnknown


class ProductStatus(StrEnum):
    """Where a product is in its life; plain users see active ones only."""

    DRAFT = "draft"
    ACTIVE = "active"
    ARCHIVED = "archived"


class SkuTaken(Conflict):
    """Another product has this sku."""


class TooManyAttributes(Invalid):
    """A product has at most 100 attributes."""

    pointer = "/attributes"


MAX_ATTRIBUTES = 100
MAX_STOCK = 2**53


class Product(Keyed, Stamped, Versioned, Published, Model):
    """Something for sale. ``search_text`` is what `search` reads, updated by the listener below."""

    __tablename__ = "products"
    audited_as = "product"
    __table_args__ = (
        CheckConstraint("price > 0", name="price_positive"),
        CheckConstraint("stock >= 0", name="stock_not_negative"),
        CheckConstraint(f"status IN ({', '.join(repr(s.value) for s in ProductStatus)})", name="status"),
        CheckConstraint("length(currency) = 3", name="currency"),
        {"sqlite_autoincrement": True},
    )

    sku: Mapped[str] = mapped_column(ordered_text(64))
    name: Mapped[str] = mapped_column(ordered_text(200))
    description: Mapped[str] = mapped_column(Text, default="")
    price: Mapped[Decimal] = mapped_column(Money)
    currency: Mapped[str] = mapped_column(String(3))
    category_id: Mapped[int] = mapped_column(big_integer, refers_to("categories.id", unknown=CategoryUnknown))
    stock: Mapped[int] = mapped_column(big_integer, default=0)
    status: Mapped[ProductStatus] = mapped_column(String(16), default=ProductStatus.ACTIVE)
    tags: Mapped[list[str]] = mapped_column(json_type, default=list)
    attributes: Mapped[dict[str, Any]] = mapped_column(json_type, default=dict)
    external_id: Mapped[str | None] = mapped_column(String(128))
    search_text: Mapped[str] = mapped_column(Text, info=UNAUDITED)
    deleted_at: Mapped[Moment | None]

    def replace_attributes(self, attributes: dict[str, Any]) -> None:
        """Set all attributes; at most 100."""
        if len(attributes) > MAX_ATTRIBUTES:
            raise TooManyAttributes
        self.attributes = attributes

    def merge_attributes(self, patch: dict[str, Any]) -> None:
        """Merge as RFC 7396 does: a null removes its member."""
        merged = {**self.attributes, **patch}
        self.replace_attributes({name: value for name, value in merged.items() if value is not None})

    def delete(self) -> None:
        """Take the product out of the catalogue; its row stays and its sku is free."""
        self.deleted_at = clock.now()

    def restore(self) -> None:
        """Bring the product back under its sku."""
        self.deleted_at = None


PRODUCTS = Product.metadata.tables["products"]

#: The columns that no client writes; every other one is a member, also where many products are written at once.
_SERVER_SET = {"id", "created_at", "updated_at", "version", "search_text", "deleted_at"}
MEMBERS = tuple(column.name for column in PRODUCTS.columns if column.name not in _SERVER_SET)


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


def new_row(members: Mapping[str, Any], defaults: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Every column of a new product but its id; ``members`` are stated, ``defaults`` stand for the others."""
    stated = {name: members[name] if name in members else defaults[name] for name in MEMBERS}
    return {
        **stated,
        "search_text": search_text(**stated),
        "created_at": now,
        "updated_at": now,
        "version": 1,
        "deleted_at": None,
    }


def missing_members(row: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """The members that a row does not state and that a new product needs."""
    return [name for name in MEMBERS if name not in row and name not in defaults]


def search_text(*, name: str, sku: str, description: str | None, tags: list[str] | None, **_: Any) -> str:
    """The words that a product is found by: a line of the name's, of the sku's and tags', of the description's.

    A word stands in the first of these places that has it; a blank follows it. Other members are not searched. The
    description may be HTML. A description or tags that are None are empty: the mapper fills in their defaults later.
    """
    seen: set[str] = set()
    lines = []
    for place in (name, " ".join([sku, *(tags or [])]), plain_text(description or "")):
        found = [word for word in words(place) if word not in seen]
        seen.update(found)
        lines.append(" ".join([*found, ""]))
    return "\n".join(lines)


@event.listens_for(Product, "before_insert")
@event.listens_for(Product, "before_update")
def _update_search_text(_mapper: object, _connection: object, product: Product) -> None:
    product.search_text = search_text(**{name: getattr(product, name) for name in MEMBERS})


class has_tag(FunctionElement[bool]):  # noqa: N801 -- reads as the SQL function that it compiles to
    """Whether a JSON array of tags (first) contains a tag (second)."""

    type = Boolean()
    inherit_cache = True


@compiles(has_tag, "postgresql")
def _has_tag_postgresql(element: has_tag, compiler: Any, **options: Any) -> str:
    tags, tag = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{tags} @> jsonb_build_array(CAST({tag} AS TEXT))"


@compiles(has_tag, "sqlite")
def _has_tag_sqlite(element: has_tag, compiler: Any, **options: Any) -> str:
    tags, tag = (compiler.process(clause, **options) for clause in element.clauses)
    return f"EXISTS (SELECT 1 FROM json_each({tags}) WHERE json_each.value = {tag})"  # noqa: S608 -- compiled clauses


# A deleted product is in no list, so every index but the primary key leaves it out.
_ALIVE = Product.deleted_at.is_(None)
_SORTS = (Product.created_at, Product.updated_at, Product.name, Product.price, Product.stock)


def _index(*columns: Any, unique: bool = False, **options: Any) -> None:
    names = "_".join(column.key for column in columns)
    Index(
        f"{'uq' if unique else 'ix'}_products_{names}",
        *columns,
        unique=unique,
        postgresql_where=_ALIVE,
        sqlite_where=_ALIVE,
        **options,
    )


_index(Product.sku, unique=True)
_index(Product.id)
for _sort in _SORTS:
    _index(_sort, Product.id)
    _index(Product.category_id, _sort, Product.id)
_index(Product.category_id, Product.sku, Product.id)
_index(Product.category_id, Product.id)
_index(Product.status, Product.created_at, Product.id)
_index(Product.currency, Product.price, Product.id)
# Whole, for the reference: deleting a category must find deleted products too.
Index("ix_products_category_id", Product.category_id)
Index("ix_products_tags", Product.tags, postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"}).ddl_if(
    dialect="postgresql"
)

#: The refusals of the constraints that a new or changed product can violate.
REFUSALS: dict[str, type[Conflict | Invalid]] = {"uq_products_sku": SkuTaken, **refusals_of_references(Product)}
