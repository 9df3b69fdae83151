"""The route of exports."""

from collections.abc import Mapping
from typing import Any

from flask import Response, current_app

from app.core.snapshots import Snapshot, open_snapshot
from app.features.events import service as events
from app.features.exports import service
from app.features.exports.files import MEDIA_TYPES, FileFormat, write_products
from app.features.exports.schemas import ProductExportSchema
from app.features.products import listing as products
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, requires, streams
from app.web.downloads import download, read_in_batches

blueprint = Blueprint("exports", __name__, url_prefix="/products", tag="products")


@blueprint.get("/export")
@requires(Permission.PRODUCTS_WRITE)
@streams(*MEDIA_TYPES.values(), query=ProductExportSchema, headers=("Events-Cursor",))
def export_products(query: dict[str, Any]) -> Response:
    """Download the products that the filters leave, as a file that an import takes back.

    All rows are of one moment, however much is written meanwhile. `Events-Cursor` is the cursor of `GET /events` that
    belongs to it: a copy that begins with this file, requested with `with_ids`, and applies the events after the cursor
    misses nothing. The first events may be of changes that the file has already.

    A variant names its product in `parent_sku`, and leaves out what it has of it; a parent leaves out its price and its
    stock, which are its variants'. In CSV, a cell that a spreadsheet would take for a formula has an apostrophe before
    it, which an import takes away. A download that ends without the last chunk of its transfer coding is not whole; it
    must be done in 15 minutes.
    """
    file_format, search, with_ids = FileFormat(query.pop("format")), query.pop("search", None), query.pop("with_ids")
    conditions = products.LISTING.conditions(products.LISTING.resolved(query), search)
    snapshot, headers = _open_snapshot()
    rows = read_in_batches(service.iter_products(*conditions), snapshot)
    response = download(
        write_products(rows, file_format, with_ids=with_ids),
        media_type=MEDIA_TYPES[file_format],
        name=f"products.{file_format}",
        snapshot=snapshot,
    )
    response.headers.update(headers)
    return response


def _open_snapshot() -> tuple[Snapshot, Mapping[str, str]]:
    """A snapshot, and the header with its cursor for those who may read events."""
    if not current_identity().can(Permission.EVENTS_READ):
        return open_snapshot(), {}
    snapshot, cursor = events.open_snapshot_with_cursor(current_app.config["SECRET_KEYS"])
    return snapshot, {"Events-Cursor": cursor}
