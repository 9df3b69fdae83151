"""Routes of imports."""

from pathlib import PurePath
from typing import Any

from flask import current_app
from sqlalchemy import Select

from app.core.errors import Fault, Invalid
from app.features.imports import service
from app.features.imports.models import Import, ImportEnded, ImportFault
from app.features.imports.schemas import (
    DELIMITERS,
    ENCODINGS,
    ImportFaultQuerySchema,
    ImportFaultSchema,
    ImportOptionsSchema,
    ImportQuerySchema,
    ImportSchema,
)
from app.features.products.files import MEDIA_TYPES, SUFFIXES, FileFormat
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, lists, refuses, requires, returns, takes_file
from app.web.uploads import Upload

blueprint = Blueprint(
    "imports", __name__, url_prefix="/imports", about="Files of products that are read in the background."
)
FORMATS = {media_type: file_format for file_format, media_type in MEDIA_TYPES.items()}


class FormatUnknown(Invalid):
    """Set `format` to csv or ndjson: neither the file's media type nor its name determines it."""

    def __init__(self) -> None:
        super().__init__(Fault(self.sentence(), self.code(), parameter="format"))


@blueprint.get("")
@requires(Permission.PRODUCTS_WRITE)
@lists(ImportSchema, ImportQuerySchema, service.LISTING)
def list_imports() -> Select[Import]:
    """List your imports; administrators see the imports of all users."""
    return service.visible_to(current_identity())


@blueprint.post("")
@requires(Permission.PRODUCTS_WRITE)
@takes_file(*MEDIA_TYPES.values(), options=ImportOptionsSchema, limit="MAX_UPLOAD_BYTES")
@returns(ImportSchema, status=202, location=lambda ordered: f"/api/v1/imports/{ordered.id}")
@refuses(FormatUnknown)
def create_import(upload: Upload, query: dict[str, Any]) -> Import:
    """Import a file of products in the background.

    A row creates the product of its sku, or updates it; what it does not state, or an empty cell, stays as it is. A row
    needs `sku`, `name`, `price`, and `category` (a name; it is made when there is none) or `category_id`. It may have a
    `brand` in the same way, or a `brand_id`; the name counts where it has both. Rows are saved in chunks; a bad row is
    reported and stops no other. What `GET /products/export` gives is taken to the letter.
    """
    reading = {
        "format": _format_of(upload, query),
        "encoding": ENCODINGS[query["encoding"]],
        "delimiter": DELIMITERS[query["delimiter"]],
        "decimal": query["decimal"],
        "columns": query.get("map", []),
        "currency": query.get("currency", current_app.config["DEFAULT_CURRENCY"]),
    }
    return service.create_import(upload.stream, size=upload.size, reading=reading, identity=current_identity())


@blueprint.get("/<id:import_id>")
@requires(Permission.PRODUCTS_WRITE)
@returns(ImportSchema)
def read_import(import_id: int) -> Import:
    """Read how far an import is."""
    return service.get_import(import_id, identity=current_identity())


@blueprint.get("/<id:import_id>/errors")
@requires(Permission.PRODUCTS_WRITE)
@lists(ImportFaultSchema, ImportFaultQuerySchema, service.FAULTS)
def list_import_errors(import_id: int) -> Select[ImportFault]:
    """List what is wrong with the rows of an import; the first 1,000 faults are kept."""
    return service.faults_of(service.get_import(import_id, identity=current_identity()))


@blueprint.post("/<id:import_id>/cancel")
@requires(Permission.PRODUCTS_WRITE)
@returns(ImportSchema)
@refuses(ImportEnded)
def cancel_import(import_id: int) -> Import:
    """Stop an import; what it has saved stays."""
    return service.cancel_import(service.get_import(import_id, identity=current_identity()))


def _format_of(upload: Upload, query: dict[str, Any]) -> FileFormat:
    given = query.get("format") or FORMATS.get(upload.media_type) or SUFFIXES.get(PurePath(upload.name).suffix.lower())
    if given is None:
        raise FormatUnknown
    return FileFormat(given)
