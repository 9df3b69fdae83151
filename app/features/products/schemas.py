"""Wire shapes of products."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import marshmallow as ma

from app.core.listing import RELEVANCE
from app.core.slugs import MAX_SLUG_LENGTH
from app.features.attributes.values import MAX_FILTERABLE_LENGTH
from app.features.media.schemas import Image
from app.features.products.filtering import MAX_FILTERS
from app.features.products.listing import LISTED, LISTING, VARIANTS, ListedKind
from app.features.products.models import (
    KEYS,
    MAX_ATTRIBUTES,
    MAX_OPTION_LENGTH,
    MAX_OPTIONS,
    MAX_STOCK,
    MAX_VARIANTS,
    ProductKind,
    ProductStatus,
)
from app.web import fields
from app.web.batch import Batch
from app.web.parameter_groups import ParameterGroup
from app.web.schemas import BodySchema, Order, PatchSchema, QuerySchema, RankedQuerySchema, Schema, StatedSchema

SKU: dict[str, Any] = {"max_length": 64, "example": "CHAIR-042"}
SLUG: dict[str, Any] = {
    "max_length": MAX_SLUG_LENGTH,
    "pattern": r"^[a-z0-9]+(-[a-z0-9]+)*$",
    "example": "oak-chair",
}
MPN: dict[str, Any] = {"max_length": 70, "allow_none": True, "example": "OC-42/B"}
LOW_STOCK: dict[str, Any] = {
    "minimum": 0,
    "maximum": MAX_STOCK,
    "allow_none": True,
    "note": "A tracked stock that falls to this or below is announced as `stock.low`; null for none.",
    "example": 5,
}
MAX_POSITION = 1_000_000
#: Every kind.
ANY_KIND = (ListedKind.PARENT, ListedKind.SINGLE, ListedKind.VARIANT)
WEIGHT: dict[str, Any] = {"minimum": 0, "maximum": 1_000_000_000, "allow_none": True, "example": 6400}
NAME: dict[str, Any] = {"max_length": 200, "example": "Oak chair"}
TAG: dict[str, Any] = {"max_length": 50, "example": "garden"}
DECIMALS = "With at most the decimals of its currency (ISO 4217), and answered with exactly these."
COMPARE_AT_PRICE: dict[str, Any] = {
    "allow_none": True,
    "example": "159.00",
    "note": "The price that is shown crossed out beside `price`, in the same currency; it may be any.",
}
OPTIONS_NOTE = (
    "Of a parent the names of its options, such as `size` and `colour`; of a variant its value for each, which no other"
    " variant of the parent has together, or none; null for a product that is sold by itself."
)
EXTERNAL_ID: dict[str, Any] = {"max_length": 128, "allow_none": True, "example": "erp-7781"}


def _tags(**options: Any) -> fields.Items:
    return fields.Items(fields.Text(**TAG), max_items=50, example=["garden", "oak"], **options)


def _attributes(**options: Any) -> fields.Scalars:
    return fields.Scalars(
        max_properties=MAX_ATTRIBUTES, has_lists=True, example={"width_cm": 45, "colour": "natural"}, **options
    )


#: The form of the code of an attribute.
CODE = "[a-z][a-z0-9_]{0,62}"


class Options(fields.Field):
    """The names of the options of a parent, a variant's value for each of them, or null."""

    NAME = f"^{CODE}$"
    _NAMES = fields.Items(fields.Text(max_length=63, pattern=NAME), max_items=MAX_OPTIONS)
    _VALUES = fields.Scalars(max_properties=MAX_OPTIONS)
    _TEXT = fields.Text(max_length=MAX_OPTION_LENGTH)
    _is_name = re.compile(NAME).fullmatch
    default_error_messages = {
        "invalid": "Neither the names of options nor an object with a value for each.",
        "name_malformed": "An option's name is a small letter and up to 62 small letters, digits or '_'.",
    }

    def __init__(self, **options: Any) -> None:
        values = [
            {"type": "string", "minLength": 1, "maxLength": MAX_OPTION_LENGTH, "pattern": fields.LINE},
            {"type": "number", "minimum": -fields.Scalars.MAX_NUMBER, "maximum": fields.Scalars.MAX_NUMBER},
            {"type": "boolean"},
        ]
        bounds = {
            "items": self._NAMES.inner.metadata,
            "maxItems": MAX_OPTIONS,
            "uniqueItems": True,
            "propertyNames": {"pattern": self.NAME},
            "maxProperties": MAX_OPTIONS,
            "additionalProperties": {"anyOf": values},
        }
        super().__init__(schema=bounds, **{"allow_none": True, **options})

    def describe(self) -> Mapping[str, Any]:
        """The JSON Schema, which each kind of product has a type of."""
        return {**self.metadata, "type": ["array", "object", "null"]}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> Any:
        if isinstance(value, list):
            return self._NAMES.read(value)
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        self._VALUES.read(value)
        for name, one in value.items():
            if not self._is_name(name):
                raise ma.ValidationError({name: self.make_error("name_malformed").messages})
            if isinstance(one, str):
                self._TEXT.read(one)
        return value


class Codes(fields.Array):
    """A list of codes; for responses. A row without any has null."""

    def __init__(self, **options: Any) -> None:
        items = {"type": "string", "maxLength": 63}
        super().__init__(max_items=MAX_ATTRIBUTES, schema={"items": items}, example=[], **options)

    def write(self, value: Sequence[str] | None, _beside: Any = None) -> list[str]:
        """The codes."""
        return list(value or ())


class Gtin(fields.Text):
    """A GTIN (EAN, UPC) of 8, 12, 13 or 14 digits, whose last is the check digit of the others (GS1)."""

    default_error_messages = {"check_digit": "The check digit, which is the last, must be {expected}."}

    def __init__(self, **options: Any) -> None:
        pattern = r"^([0-9]{8}|[0-9]{12,14})$"
        super().__init__(min_length=8, max_length=14, pattern=pattern, example="4006381333931", **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        gtin = super()._deserialize(value)
        digits = [int(digit) for digit in gtin[-2::-1]]
        expected = -(3 * sum(digits[::2]) + sum(digits[1::2])) % 10
        if int(gtin[-1]) != expected:
            raise self.make_error("check_digit", expected=expected)
        return gtin


class SoughtGtin(Gtin):
    """A GTIN to be found, however many zeros it was written with; loaded with fourteen digits."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        return KEYS["gtin"].normalize(super()._deserialize(value))


class ProductSchema(Schema):
    """A product: sold by itself, or the parent of variants, or one of these.

    A variant has text, category, brand, tags and currency of its parent. Of a parent, `price` is the least and
    `price_max` the greatest of its active variants, `stock` their sum; the prices are 0 without an active one.
    """

    id = fields.Integer(dump_only=True, example=42)
    sku = fields.Code(**SKU)
    slug = fields.Text(**SLUG)
    gtin = Gtin(allow_none=True)
    mpn = fields.Text(**MPN)
    name = fields.Text(**NAME)
    description = fields.Prose(max_length=10_000, example="A chair of solid oak.")
    price = fields.Money(example="129.00", note=DECIMALS)
    compare_at_price = fields.Money(**COMPARE_AT_PRICE)
    currency = fields.Currency(example="USD")
    category_id = fields.Integer(example=7)
    brand_id = fields.Integer(allow_none=True, example=3)
    type_id = fields.Integer(allow_none=True, note="Its type, which says what attributes it has.", example=2)
    stock = fields.Integer(minimum=0, note="Of a parent the sum of its variants'.", example=12)
    track_stock = fields.Boolean(
        note="Where this is false, the product is always in stock, and its stock does not move.", example=True
    )
    low_stock_at = fields.Integer(**LOW_STOCK)
    status = fields.Choice(ProductStatus, example="active")
    tags = _tags()
    attributes = _attributes()
    weight_g = fields.Integer(**WEIGHT)
    external_id = fields.Text(**EXTERNAL_ID)
    image = Image(
        note="The first of its pictures that is ready, or of a variant the first that is of it. A list whose filters"
        " are met by single variants shows that of the first of these."
    )
    kind = fields.Choice(ProductKind, dump_only=True, example="single")
    parent_id = fields.Integer(allow_none=True, dump_only=True, note="The product of a variant.", example=fields.NULL)
    options = Options(note=OPTIONS_NOTE, example=fields.NULL)
    position = fields.Integer(
        minimum=0, allow_none=True, note="The place of a variant among those of its product.", example=fields.NULL
    )
    price_max = fields.Money(
        allow_none=True, dump_only=True, note="The greatest price of a parent's variants.", example=fields.NULL
    )
    variant_count = fields.Integer(
        minimum=0, allow_none=True, dump_only=True, note="How many active variants a parent has.", example=fields.NULL
    )
    missing = Codes(dump_only=True, note="The attributes that its type requires of an active product, and it lacks.")
    created_at = fields.Moment(dump_only=True)
    updated_at = fields.Moment(dump_only=True)
    version = fields.Integer(dump_only=True, note="Counts what clients write.", example=1)
    live = fields.Integer(
        minimum=0,
        dump_only=True,
        note="Counts what happens beside that: movements of stock, and changes of its parent or variants.",
        example=17,
    )


class ProductWithVariantsSchema(ProductSchema):
    """A product, and of a parent its variants, as events have it."""

    variants = fields.Nested(ProductSchema, many=True, note="Of a parent, in their order.", schema={"x-optional": True})


class ProductReplaceSchema(BodySchema):
    """The whole of a product but its stock; what is missing takes its default, and the sku and the slug stay."""

    NOT_IN_EXAMPLE = (*KEYS, "type_id", "options", "position")

    sku = fields.Code(**SKU)
    slug = fields.Text(**SLUG)
    gtin = Gtin(allow_none=True, load_default=None)
    mpn = fields.Text(load_default=None, **MPN)
    name = fields.Text(required=True, **NAME)
    description = fields.Prose(max_length=10_000, load_default="")
    price = fields.Money(
        example="129.00", note=f"Required unless `options` has names: a parent has no price of its own. {DECIMALS}"
    )
    compare_at_price = fields.Money(load_default=None, **COMPARE_AT_PRICE)
    currency = fields.Currency(example="USD", note="DEFAULT_CURRENCY when missing.")
    category_id = fields.Integer(required=True, example=7)
    brand_id = fields.Integer(allow_none=True, load_default=None, example=3)
    type_id = fields.Integer(allow_none=True, load_default=None, example=2)
    track_stock = fields.Boolean(load_default=True, example=True)
    low_stock_at = fields.Integer(load_default=None, **LOW_STOCK)
    status = fields.Choice(ProductStatus, load_default=ProductStatus.ACTIVE)
    tags = _tags(load_default=list)
    attributes = _attributes(load_default=dict)
    weight_g = fields.Integer(load_default=None, **WEIGHT)
    external_id = fields.Text(load_default=None, **EXTERNAL_ID)
    options = Options(note=f"{OPTIONS_NOTE} When missing they stay.", example=["size", "colour"])
    position = fields.Integer(minimum=0, maximum=MAX_POSITION, note="Of a variant; when missing it stays.", example=0)

    def load(self, data: Any, **options: Any) -> Any:
        """The loaded values of a body; raises marshmallow's ``ValidationError``, also where a price is missing."""
        messages = {"price": self.fields["price"].make_error("required").messages} if self._lacks_price(data) else {}
        try:
            loaded = super().load(data, **options)
        except ma.ValidationError as error:
            raise ma.ValidationError({**error.messages_dict, **messages}, valid_data=error.valid_data) from None
        if messages:
            raise ma.ValidationError(messages)
        return loaded

    def _lacks_price(self, data: Any) -> bool:
        """Whether a body states no price, and no options either that would make it a parent's."""
        if isinstance(self, StatedSchema) or not isinstance(data, dict) or "price" in data:
            return False
        return not isinstance(data.get("options"), list) and "variants" not in data


class VariantCreateSchema(StatedSchema):
    """A variant to add; or, with an `id`, a product that is sold by itself and becomes a variant.

    That one keeps its id, sku, price, stock, holds and history, and takes text, category, brand and tags of the
    product. A new one needs a price.
    """

    NOT_IN_EXAMPLE = ("id", *KEYS)

    id = fields.Integer(note="A product to make a variant of: only with `options` and `position`.", example=41)
    sku = fields.Code(**SKU)
    slug = fields.Text(**SLUG)
    gtin = Gtin(allow_none=True)
    mpn = fields.Text(**MPN)
    price = fields.Money(example="129.00", note=DECIMALS)
    compare_at_price = fields.Money(**COMPARE_AT_PRICE)
    stock = fields.Integer(minimum=0, maximum=MAX_STOCK, example=12)
    track_stock = fields.Boolean(example=True)
    low_stock_at = fields.Integer(**LOW_STOCK)
    status = fields.Choice(ProductStatus, example="active")
    attributes = _attributes()
    weight_g = fields.Integer(**WEIGHT)
    external_id = fields.Text(**EXTERNAL_ID)
    options = Options(note="A value for each option of the product, or none.", example={"size": "M", "colour": "red"})
    position = fields.Integer(minimum=0, maximum=MAX_POSITION, note="After the others when missing.", example=0)


class ProductRowSchema(ProductReplaceSchema):
    """The whole of a product with its stock, which a new one is received with."""

    stock = fields.Integer(minimum=0, maximum=MAX_STOCK, load_default=0, example=12)


class ProductCreateSchema(ProductRowSchema):
    """A new product; without a sku one is made from its id, without a slug one from its name.

    With `options`, `variants` or both it is a parent, and has no price and no stock of its own.
    """

    NOT_IN_EXAMPLE = (*ProductRowSchema.NOT_IN_EXAMPLE, "variants")

    variants = Batch(
        VariantCreateSchema,
        max_items=MAX_VARIANTS,
        example=[{"sku": "SHIRT-M-RED", "options": {"size": "M", "colour": "red"}, "price": "29.00", "stock": 5}],
    )


class ProductUpdateSchema(PatchSchema, ProductReplaceSchema):
    """What changes of a product; a null removes an attribute, the external id or the crossed-out price (RFC 7396)."""

    price = fields.Money(example="99.50", note=DECIMALS)
    currency = fields.Currency(example="USD")
    attributes = _attributes(removable=True)


class ProductFilterSchema(QuerySchema):
    """Which products are meant."""

    search = fields.Text(
        max_length=200,
        note="Words that each begin a word of the name, the sku, a tag, the brand or the description, in any order. The"
        " HTML tags of a description are no words. Numbered pages and facets forgive typos where nothing is found, if"
        " the database can; in 1,000 products at most.",
    )
    kind = fields.Values(
        fields.Choice(ListedKind),
        note="By default `single` and `parent`, and any with a filter by a key. `sellable` is what is sold: `single`"
        " and `variant`.",
    )
    parent_id = fields.Values(fields.QueryInteger(), note="The variants of these products.")
    id = fields.Values(fields.QueryInteger())
    category_id = fields.Values(fields.QueryInteger(), note="Filed directly under this category.")
    below = fields.Values(fields.QueryInteger(), note="Filed under this category or one below it.")
    brand_id = fields.Values(fields.QueryInteger())
    min_price = fields.Money(note="This price or more.")
    max_price = fields.Money(note="This price or less.")
    in_stock = fields.QueryBoolean(note="Whether at least one is in stock, or stock is not tracked.")
    status = fields.Values(fields.Choice(ProductStatus))
    currency = fields.Values(fields.Currency())
    sku = fields.Values(fields.Code(**SKU))
    slug = fields.Values(fields.Text(**SLUG))
    gtin = fields.Values(SoughtGtin())
    external_id = fields.Values(fields.Text(max_length=128, example="erp-7781"))
    tag = fields.Values(fields.Text(**TAG))
    created_since = fields.Moment(note="Created at this time or later.")
    updated_since = fields.Moment(note="Updated at this time or later.")

    type_id = fields.Values(fields.QueryInteger(), note="Of this product type.")
    complete = fields.QueryBoolean(note="Whether no attribute that the type requires is missing.")
    attr = ParameterGroup(
        prefix="attr",
        rest=CODE,
        max_parameters=MAX_FILTERS,
        max_values=100,
        max_length=MAX_FILTERABLE_LENGTH,
        note="Parameters such as `attr.colour=red,blue`, `attr.width_cm=40..60`, `attr.width_cm=..60` and"
        " `attr.washable=true`, by the code of a filterable attribute. Each has several values, separated by commas or"
        " with the parameter repeated: any of them; of numbers and dates also ranges, with both ends included. One"
        " product that is sold, or one variant of a parent, meets all of these, the prices and `in_stock`. A comma"
        " within a value is written `\\,`, a backslash `\\\\`, and two dots that make no range `\\.\\.`.",
        # A page that fills examples in would filter by an attribute that is not there.
        example={},
    )

    #: The kinds that are meant where none are stated.
    KINDS: ClassVar[tuple[ListedKind, ...]] = LISTED

    @ma.post_load
    def _choose_kinds(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """A key means one product, of whichever kind."""
        is_by_key = not data.keys().isdisjoint({"id", "parent_id", *KEYS})
        return {"kind": ANY_KIND if is_by_key else self.KINDS, **data}


class ProductQuerySchema(ProductFilterSchema, RankedQuerySchema):
    """Filters and sorting of products."""

    sort_by = fields.Choice(
        [*LISTING.sorts, RELEVANCE], name="ProductSort", load_default="created_at", note=RankedQuerySchema.NOTE
    )
    order = fields.Choice(Order, load_default="desc")


class TypedQuerySchema(ProductQuerySchema):
    """Filters and sorting of the products of one type."""

    valid = fields.QueryBoolean(
        note="Whether the type would take the product as it is now: it may have been changed since. A parent is refused"
        " where one of its variants is."
    )


class VariantQuerySchema(ProductQuerySchema):
    """Filters and sorting of the variants of one product."""

    KINDS = (ListedKind.VARIANT,)

    sort_by = fields.Choice(
        [*VARIANTS.sorts, RELEVANCE], name="VariantSort", load_default="position", note=RankedQuerySchema.NOTE
    )
    order = fields.Choice(Order, load_default="asc")
