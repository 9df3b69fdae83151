"""Routes of products."""

from collections.abc import Mapping, Sequence
from typing import Any

from flask import current_app
from sqlalchemy import Select

from app.core.errors import Conflict
from app.core.keys import KeyDiffers
from app.features.brands.models import Brand
from app.features.categories.models import Category
from app.features.media.schemas import PlacementSchema
from app.features.product_types.models import ProductType
from app.features.products import listing, service, variants
from app.features.products.matching import MatchingVariants
from app.features.products.models import (
    KEYS,
    REFUSALS,
    CurrencyOfVariantDiffers,
    KeptAsItIs,
    MemberOfParent,
    NotAParent,
    NotAVariant,
    NotSingle,
    OptionsChanged,
    OptionsInUse,
    OptionsUnfit,
    ParentDeleted,
    Product,
    RolledUp,
    TooManyAttributes,
    TooManyVariants,
    TooPrecise,
    VariantUnknown,
)
from app.features.products.pictures import find_shown
from app.features.products.schemas import (
    ProductCreateSchema,
    ProductQuerySchema,
    ProductReplaceSchema,
    ProductSchema,
    ProductUpdateSchema,
    TypedQuerySchema,
    VariantCreateSchema,
    VariantQuerySchema,
)
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import (
    Blueprint,
    Require,
    accepts,
    by_key,
    changes,
    counts_searches,
    lists,
    locks,
    path_by_key,
    refuses,
    requires,
    returns,
    upserts,
)
from app.web.includes import Companion, Embedding, Include, IncludeMany, IncludeObjects
from app.web.resource_links import Link, Links

blueprint = Blueprint("products", __name__, url_prefix="/products", about="What is for sale.")
in_categories = Blueprint(
    "category_products",
    __name__,
    url_prefix="/categories",
    about="What is for sale in a category and below it.",
)

of_types = Blueprint(
    "type_products", __name__, url_prefix="/product-types", about="What is for sale of a product type."
)

#: What a read can embed in a product.
INCLUDES: Mapping[str, Embedding] = {
    "category": Include("category_id", Category),
    "brand": Include("brand_id", Brand),
    "type": Include("type_id", ProductType),
    "variants": IncludeMany(Product, "parent_id", ("position", "id")),
    "media": IncludeObjects(PlacementSchema, ("id", "parent_id"), find_shown),
    "links": Links(
        {
            "self": Link("products.read_product"),
            "category": Link("categories.read_category", "category_id"),
            "brand": Link("brands.read_brand", "brand_id"),
            "type": Link("product_types.read_product_type", "type_id"),
            "parent": Link("products.read_product", "parent_id"),
            "variants": Link("products.list_variants", given="variant_count"),
            "media": Link("placements.read_media_of_product"),
            "availability": Link("stock.read_availability"),
            "stock_movements": Link("stock.list_stock_movements"),
            "holds": Link("stock.place_hold"),
            "edit": Link("products.update_product"),
            "delete": Link("products.delete_product"),
        }
    ),
}


COMPANIONS: Sequence[Companion] = [MatchingVariants()]

#: What is refused of a product because of its family.
FAMILY_REFUSALS = (MemberOfParent, NotAVariant, OptionsInUse, OptionsUnfit, RolledUp)
#: What is refused of a variant beside what is refused of any product.
VARIANT_REFUSALS = (CurrencyOfVariantDiffers, NotAVariant, NotSingle, OptionsUnfit, VariantUnknown)
#: What keeps a deleted variant from coming back.
RESTORE_REFUSALS = (CurrencyOfVariantDiffers, OptionsChanged, ParentDeleted, TooManyVariants)


@blueprint.get("")
@requires(Permission.PRODUCTS_READ)
@counts_searches
@lists(ProductSchema, ProductQuerySchema, listing.LISTING, includes=INCLUDES, companions=COMPANIONS)
def list_products() -> Select[Product]:
    """List products; people who do not write them see the active ones."""
    return listing.visible_to(current_identity())


@blueprint.post("")
@requires(Permission.PRODUCTS_WRITE)
@accepts(ProductCreateSchema)
@returns(ProductSchema, status=201, location=lambda product: f"/api/v1/products/{product.id}")
@refuses(KeptAsItIs, RolledUp, TooManyAttributes, TooPrecise, *VARIANT_REFUSALS, *REFUSALS.values())
def create_product(data: dict[str, Any]) -> Any:
    """Create a product, with its variants if it has `options` or `variants`."""
    return service.create_product(**_with_currency(data), identity=current_identity())


@blueprint.get("/<id:product_id>")
@requires(Permission.PRODUCTS_READ)
@returns(ProductSchema, includes=INCLUDES)
def read_product(product_id: int) -> Any:
    """Read a product."""
    return service.read_product(product_id, identity=current_identity())


@blueprint.put("/<id:product_id>")
@requires(Permission.PRODUCTS_WRITE)
@changes(service.get_product)
@accepts(ProductReplaceSchema)
@returns(ProductSchema)
@refuses(TooPrecise, *FAMILY_REFUSALS, *REFUSALS.values())
def replace_product(product: Product, data: dict[str, Any]) -> Product:
    """Replace a product, all but its stock.

    What a variant has of its parent, and what a parent's row shows of its variants, may be stated as it is.
    """
    currency = service.currency_of(product, current_app.config["DEFAULT_CURRENCY"])
    return service.replace_product(product, **{"currency": currency, **data})


@blueprint.patch("/<id:product_id>")
@requires(Permission.PRODUCTS_WRITE)
@changes(service.get_product)
@accepts(ProductUpdateSchema)
@returns(ProductSchema)
@refuses(TooPrecise, TooManyAttributes, *FAMILY_REFUSALS, *REFUSALS.values())
def update_product(product: Product, data: dict[str, Any]) -> Product:
    """Change some members of a product; attributes are merged one by one."""
    return service.update_product(product, **data)


@blueprint.delete("/<id:product_id>")
@requires(Permission.PRODUCTS_DELETE)
@changes(service.get_product)
@returns(status=204)
def delete_product(product: Product) -> None:
    """Delete a product, and with a parent its variants; the keys are free again."""
    service.delete_product(product)


@blueprint.post("/<id:product_id>/restore")
@requires(Permission.PRODUCTS_DELETE)
@returns(ProductSchema)
@refuses(*RESTORE_REFUSALS, *(refusal for refusal in REFUSALS.values() if issubclass(refusal, Conflict)))
def restore_product(product_id: int) -> Product:
    """Bring a deleted product back; one that is not deleted stays as it is.

    With a parent come the variants that were deleted with it. A product gets a new slug where another product has its
    former one by now.
    """
    return service.restore_product(product_id)


@blueprint.get("/<id:product_id>/variants")
@requires(Permission.PRODUCTS_READ)
@lists(ProductSchema, VariantQuerySchema, listing.VARIANTS, includes=INCLUDES, companions=COMPANIONS)
def list_variants(product_id: int) -> Select[Product]:
    """List the variants of a product, in their order; a product that is no parent has none."""
    return listing.variants_of(product_id, identity=current_identity())


@blueprint.post("/<id:product_id>/variants")
@requires(Permission.PRODUCTS_WRITE)
@locks(variants.find_parent)
@accepts(VariantCreateSchema)
@returns(ProductSchema, status=201, location=lambda product: f"/api/v1/products/{product.id}")
@refuses(NotAParent, TooManyVariants, KeptAsItIs, TooPrecise, TooManyAttributes, *VARIANT_REFUSALS, *REFUSALS.values())
def add_variant(product: Product, data: dict[str, Any]) -> Any:
    """Add a variant to a product, or make a variant of a product that is sold by itself.

    The latter keeps its id, keys, price, stock, holds and history.
    """
    return variants.add_variant(product, data, identity=current_identity())


BY_KEY = path_by_key(KEYS)


@blueprint.get(BY_KEY)
@requires(Permission.PRODUCTS_READ)
@by_key(KEYS)
@returns(ProductSchema, includes=INCLUDES)
def read_product_by_key(key: str, value: str) -> Any:
    """Read a product by a key that others know."""
    return service.read_product_by_key(key, value, identity=current_identity())


@blueprint.put(BY_KEY)
@requires(Permission.PRODUCTS_WRITE)
@by_key(KEYS)
@upserts
@accepts(ProductReplaceSchema)
@returns(ProductSchema, status=201, location=lambda product: f"/api/v1/products/{product.id}")
@refuses(KeyDiffers, TooPrecise, *FAMILY_REFUSALS, *REFUSALS.values())
def put_product_by_key(key: str, value: str, data: dict[str, Any], require: Require) -> tuple[Any, bool]:
    """Create a product under a key of your own, or replace all but its stock.

    It needs no precondition: who writes by a key of their own owns the row.
    """
    currency = current_app.config["DEFAULT_CURRENCY"]
    identity = current_identity()
    return service.put_product_by_key(key, value, data, currency=currency, identity=identity, require=require)


@blueprint.patch(BY_KEY)
@requires(Permission.PRODUCTS_WRITE)
@by_key(KEYS)
@changes(service.get_product_by_key)
@accepts(ProductUpdateSchema)
@returns(ProductSchema)
@refuses(TooPrecise, TooManyAttributes, *FAMILY_REFUSALS, *REFUSALS.values())
def update_product_by_key(product: Product, data: dict[str, Any]) -> Product:
    """Change some members of a product that is named by a key; attributes are merged one by one."""
    return service.update_product(product, **data)


@blueprint.delete(BY_KEY)
@requires(Permission.PRODUCTS_DELETE)
@by_key(KEYS)
@changes(service.get_product_by_key)
@returns(status=204)
def delete_product_by_key(product: Product) -> None:
    """Delete a product that is named by a key; its keys are free again."""
    service.delete_product(product)


@in_categories.get("/<id:category_id>/products")
@requires(Permission.PRODUCTS_READ)
@counts_searches
@lists(ProductSchema, ProductQuerySchema, listing.LISTING, includes=INCLUDES, companions=COMPANIONS)
def list_products_below(category_id: int) -> Select[Product]:
    """List the products of a category and of everything below it."""
    return listing.filed_below(category_id, identity=current_identity())


@of_types.get("/<id:type_id>/products")
@requires(Permission.PRODUCTS_READ)
@counts_searches
@lists(ProductSchema, TypedQuerySchema, listing.LISTING, includes=INCLUDES, companions=COMPANIONS, takes=("valid",))
def list_products_of_type(type_id: int, valid: bool | None) -> Select[Product]:
    """List the products of a product type, with `valid=false` those that it would refuse as they are now."""
    return listing.of_type(type_id, valid, identity=current_identity())


def _with_currency(data: dict[str, Any]) -> dict[str, Any]:
    return {"currency": current_app.config["DEFAULT_CURRENCY"], **data}
