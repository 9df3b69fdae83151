"""The route of batches of products."""

from typing import Any

from flask import current_app

from app.features.bulk import service
from app.features.bulk.schemas import ProductBatchResultSchema, ProductBatchSchema
from app.features.bulk.service import BatchRefused, BatchResult
from app.features.media.models import MediaBusy
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, accepts, refuses, requires, returns

blueprint = Blueprint("bulk", __name__, url_prefix="/products", tag="products")


@blueprint.post("/bulk")
@requires(Permission.PRODUCTS_WRITE)
@accepts(ProductBatchSchema, max_bytes=4 * 1024 * 1024)
@returns(ProductBatchResultSchema)
@refuses(BatchRefused, MediaBusy)
def save_products(data: dict[str, Any]) -> BatchResult:
    """Create and update up to a thousand products by their sku.

    A product whose sku is there keeps what its item does not state. An atomic batch with a bad item is refused as a
    whole, and names every fault; a partial one writes the good items and reports what is wrong with the others.
    Its `images` may be URLs, which are fetched in the background; that needs `media:write`.
    """
    may_fetch = current_identity().can(Permission.MEDIA_WRITE)
    return service.save_products(**data, currency=current_app.config["DEFAULT_CURRENCY"], may_fetch=may_fetch)
