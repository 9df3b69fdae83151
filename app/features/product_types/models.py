"""The product types table, the attributes that each lists, and its refusals."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ForeignKey, Index, Text, event
from sqlalchemy.orm import Mapped, mapped_column

from app.core.audit import UNAUDITED
from app.core.changelog import Published
from app.core.errors import Conflict, Invalid
from app.core.keys import Key
from app.core.model import Keyed, Stamped, Versioned, big_integer, json_type, ordered_text
from app.core.text import fold
from app.extensions import Model
from app.features.attributes.models import MAX_CODE_LENGTH

MAX_ATTRIBUTES = 100


class ProductTypeCodeTaken(Conflict):
    """Another product type has this code."""


class ProductTypeInUse(Conflict):
    """Products are of this type; give them another first. Deleted products count: restore and change them."""


class ProductTypeUnknown(Invalid):
    """There is no product type with this id."""

    pointer = "/type_id"


class OptionNotSingle(Invalid):
    """An attribute of the type `choices` cannot be an option: a variant has one value of each."""


class ProductType(Keyed, Stamped, Versioned, Published, Model):
    """A kind of product. ``attributes`` has a ``code``, ``position``, ``required`` and ``is_option`` each, in order."""

    __tablename__ = "product_types"
    audited_as = "product_type"

    code: Mapped[str] = mapped_column(ordered_text(MAX_CODE_LENGTH), unique=True)
    label: Mapped[str] = mapped_column(ordered_text(120))
    attributes: Mapped[list[dict[str, Any]]] = mapped_column(json_type, default=list)
    search_text: Mapped[str] = mapped_column(Text, info=UNAUDITED)


class ListedAttribute(Model):
    """That a type lists an attribute, beside its ``attributes``: it keeps the attribute from being deleted."""

    __tablename__ = "product_type_attributes"

    type_id: Mapped[int] = mapped_column(
        big_integer, ForeignKey("product_types.id", ondelete="CASCADE"), primary_key=True
    )
    attribute_id: Mapped[int] = mapped_column(
        big_integer, ForeignKey("attributes.id", ondelete="RESTRICT"), primary_key=True
    )


@event.listens_for(ProductType, "before_insert")
@event.listens_for(ProductType, "before_update")
def _update_search_text(_mapper: object, _connection: object, product_type: ProductType) -> None:
    product_type.search_text = fold(f"{product_type.label} {product_type.code}")


Index("ix_product_types_label_id", ProductType.label, ProductType.id)
Index("ix_product_types_created_at_id", ProductType.created_at, ProductType.id)
Index("ix_product_types_updated_at_id", ProductType.updated_at, ProductType.id)
Index("ix_product_type_attributes_attribute_id", ListedAttribute.attribute_id)

#: The keys by which others know a product type.
KEYS: Mapping[str, Key] = {"code": Key(column=ProductType.code, taken=ProductTypeCodeTaken)}

#: The members that are set as a product type is created.
FIXED = ("code",)

#: The refusal that stands for each violated constraint when a product type is inserted or updated.
REFUSALS: dict[str, type[Conflict]] = {f"uq_product_types_{name}": key.taken for name, key in KEYS.items()}
