"""Routes of placements."""

from typing import Any

from app.features.media.models import MediaOfParent, MediaRepeated, MediaUnknown, NotItsVariant
from app.features.media.schemas import PlacementsSchema, ProductMediaSchema
from app.features.placements import service
from app.features.placements.service import ProductMedia
from app.features.products.models import Product
from app.features.products.service import get_product
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, accepts, changes, refuses, requires, returns

blueprint = Blueprint("placements", __name__, url_prefix="/products", tag="products")


@blueprint.get("/<id:product_id>/media")
@requires(Permission.PRODUCTS_READ)
@returns(ProductMediaSchema)
def read_media_of_product(product_id: int) -> ProductMedia:
    """Read which pictures a product shows, in their order.

    Of a variant, those of its product that are of it; all where none is. People who do not write products see those
    that are ready.
    """
    return service.read_media_of_product(product_id, identity=current_identity())


@blueprint.put("/<id:product_id>/media")
@requires(Permission.PRODUCTS_WRITE)
@changes(get_product)
@accepts(PlacementsSchema)
@returns(ProductMediaSchema)
@refuses(MediaOfParent, MediaRepeated, MediaUnknown, NotItsVariant)
def replace_media_of_product(product: Product, data: dict[str, Any]) -> ProductMedia:
    """Replace the pictures that a product shows: the list is their order, and the first that is ready its `image`.

    Pictures of single variants name these. The precondition is the ETag of the product, or of its media.
    """
    return service.replace_media_of_product(product, data["items"])
