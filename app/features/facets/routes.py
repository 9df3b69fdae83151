"""The route of facets."""

from typing import Any

from app.features.facets import service
from app.features.facets.schemas import FacetsSchema
from app.features.products import listing as products
from app.features.products.schemas import ProductFilterSchema
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, queries, requires, returns

blueprint = Blueprint("facets", __name__, url_prefix="/products", tag="products")


@blueprint.get("/facets")
@requires(Permission.PRODUCTS_READ)
@queries(ProductFilterSchema)
@returns(FacetsSchema)
def count_facets(query: dict[str, Any]) -> dict[str, Any]:
    """Count the products of a list by category, brand, tag, price, stock, status and attributes."""
    identity = current_identity()
    return service.count_facets(products.visible_to(identity), products.LISTING, identity=identity, **query)
