"""Wire shapes of facets."""

from app.features.products.models import ProductStatus
from app.features.products.schemas import TAG
from app.web import fields
from app.web.schemas import Schema


class CountSchema(Schema):
    """How many products a list shows if this value is chosen instead of the facet's present ones."""

    count = fields.Integer(minimum=0, example=31)
    selected = fields.Boolean(note="Whether the filters of this request choose this value.", example=False)


class CategoryCountSchema(CountSchema):
    """How many products are filed directly under a category, which `category_id` chooses."""

    id = fields.Integer(dump_only=True, example=7)
    name = fields.Text(max_length=120, example="Chairs")


class BrandCountSchema(CountSchema):
    """How many products are of a brand, which `brand_id` chooses."""

    id = fields.Integer(dump_only=True, example=3)
    name = fields.Text(max_length=120, example="Oakworks")


class TagCountSchema(CountSchema):
    """How many products have a tag, which `tag` chooses."""

    value = fields.Text(**TAG)


class PriceCountSchema(CountSchema):
    """How many products cost from `min_price` to `max_price`, both included, in the currency of the filter.

    The band is selected where the filters `min_price` and `max_price` let it pass whole.
    """

    min_price = fields.Money(example="100.00")
    max_price = fields.Money(example="199.99")


class StockCountSchema(CountSchema):
    """How many products are in stock, or are not, which `in_stock` chooses."""

    value = fields.Boolean(example=True)


class StatusCountSchema(CountSchema):
    """How many products have a status, which `status` chooses."""

    value = fields.Choice(ProductStatus, example="active")


class FacetsSchema(Schema):
    """How many products there are, and of which kinds.

    Each facet is counted with all filters but its own, so that what else could be chosen is shown with its count. The
    commonest 50 categories, brands and tags are listed, commonest first, and those that are selected, also where no
    product has them. `below` narrows every facet.
    """

    total = fields.Integer(minimum=0, note="As the list with all filters has.", example=42)
    category = fields.Nested(CategoryCountSchema, many=True, note="Empty for those who may not read categories.")
    brand = fields.Nested(BrandCountSchema, many=True, note="Empty for those who may not read brands.")
    tag = fields.Nested(TagCountSchema, many=True)
    price = fields.Nested(
        PriceCountSchema,
        many=True,
        note="Where the filter `currency` has one value: the bands that have products, the cheapest first, and where"
        " both `min_price` and `max_price` are given, all bands between them. Otherwise empty: amounts of different"
        " currencies cannot be compared.",
    )
    stock = fields.Nested(StockCountSchema, many=True, note="Both values, `true` first.")
    status = fields.Nested(StatusCountSchema, many=True, note="Every status.")
