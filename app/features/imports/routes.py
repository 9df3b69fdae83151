"""Routes of imports."""

from dataclasses import replace
from pathlib import PurePath
from typing import Any

import marshmallow as ma
from flask import Response, current_app
from sqlalchemy import Select

from app.core.errors import Fault, Invalid
from app.features.exports.files import MEDIA_TYPES, SUFFIXES, FileFormat
from app.features.imports import failed_rows, service
from app.features.imports.models import Import, ImportEnded, ImportFault
from app.features.imports.reading.cells import check_constants
from app.features.imports.reading.files import advice_on
from app.features.imports.reading.options import Reading
from app.features.imports.schemas import (
    ImportFaultQuerySchema,
    ImportFaultSchema,
    ImportOptionsSchema,
    ImportQuerySchema,
    ImportSchema,
)
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, lists, refuses, requires, returns, streams, takes_file
from app.web.downloads import download, read_in_batches
from app.web.schemas import QuerySchema, shared
from app.web.uploads import Upload
from app.web.validation import faults_of

blueprint = Blueprint(
    "imports", __name__, url_prefix="/imports", about="Files of products that are read in the background."
)
FORMATS = {media_type: file_format for file_format, media_type in MEDIA_TYPES.items()}


class FormatUnknown(Invalid):
    """Set `format` to csv or ndjson: neither the file's media type nor its name determines it."""

    def __init__(self, name: str = "") -> None:
        super().__init__(Fault(advice_on(name) or self.sentence(), self.code(), parameter="format"))


@blueprint.get("")
@requires(Permission.PRODUCTS_WRITE)
@lists(ImportSchema, ImportQuerySchema, service.LISTING)
def list_imports() -> Select[Import]:
    """List your imports; administrators see the imports of all users."""
    return service.visible_to(current_identity())


@blueprint.post("")
@requires(Permission.PRODUCTS_WRITE)
@takes_file(*MEDIA_TYPES.values(), options=ImportOptionsSchema, limit="MAX_UPLOAD_BYTES", rehearses=True)
@returns(ImportSchema, status=202, location=lambda ordered: f"/api/v1/imports/{ordered.id}")
@refuses(FormatUnknown)
def create_import(upload: Upload, query: dict[str, Any]) -> Import:
    """Import a file of products in the background.

    A row creates the product of its key, or updates it; what it does not state, or an empty cell, stays as it is. A new
    product needs `sku`, `name`, `price`, and `category` or `category_id`, and is a draft unless its row says otherwise
    (DEFAULT_IMPORT_STATUS). A `category` is a name, a slug, an external id or a path (`Garden > Chairs`), and is made
    when there is none, which needs `categories:write`; so is a `brand`, which counts before `brand_id` and needs
    `brands:write`: else the row fails. Rows are saved in chunks; a bad row is reported
    and stops no other. Of several rows with one key the first counts: the same again is merged, and another content is
    a fault. A row with a `parent_sku` is a variant of that product, which is there or has a row of its own, before or
    after, with `options`; its own options are in `option.NAME`, attributes in `attribute.NAME`, and `type` is the code
    of a product type. `images` are URLs of pictures, or SHA-256 hashes of media that is there, with `|` between them or
    as a list: the product shows them before what it shows already, and a variant those that are its own; none is taken
    away. URLs are fetched in the background, which needs `media:write`; the row does not wait, and a picture that fails
    becomes one of the errors of the import, also after it has ended. An import of which no row goes in has `failed`.
    What `GET /products/export` gives is taken to the letter.

    With `dry_run` the whole file is read and reported in the same way, and nothing in the catalogue changes.
    """
    file_format = _format_of(upload, query)
    options = {
        **query,
        "format": file_format,
        "encoding": query.get("encoding") or _encoding_of(upload),
        "delimiter": query.get("delimiter") or ("\t" if PurePath(upload.name).suffix.lower() == ".tsv" else ","),
        "default_currency": current_app.config["DEFAULT_CURRENCY"],
        "status": current_app.config["DEFAULT_IMPORT_STATUS"],
    }
    try:
        check_constants(Reading.of(options))
    except ma.ValidationError as error:
        raise Invalid(*(replace(fault, parameter="set", pointer=None) for fault in faults_of(error.messages))) from None
    return service.create_import(upload.stream, size=upload.size, options=options, identity=current_identity())


@blueprint.get("/<id:import_id>")
@requires(Permission.PRODUCTS_WRITE)
@returns(ImportSchema)
def read_import(import_id: int) -> Import:
    """Read how far an import is.

    Its `status` is of the rows. Pictures go on: it is done with them when it has ended and `images_pending` is 0.
    """
    return service.get_import(import_id, identity=current_identity())


@blueprint.get("/<id:import_id>/errors")
@requires(Permission.PRODUCTS_WRITE)
@lists(ImportFaultSchema, ImportFaultQuerySchema, service.FAULTS)
def list_import_errors(import_id: int) -> Select[ImportFault]:
    """List what is wrong with the rows of an import, and which pictures have failed; the first 1,000 are kept."""
    return service.faults_of(service.get_import(import_id, identity=current_identity()))


@blueprint.get("/<id:import_id>/failed-rows")
@requires(Permission.PRODUCTS_WRITE)
@streams(*MEDIA_TYPES.values(), query=QuerySchema)
def download_failed_rows(import_id: int, query: dict[str, Any]) -> Response:  # noqa: ARG001 -- there are no options
    """Download the rows that failed, as a file that can be mended and sent again with the same options.

    It has the header and the dialect of the file, and at its end the column `import_error`, which says what is wrong
    with each row and which an import leaves unread.
    """
    payload = service.get_failed_import(import_id, identity=current_identity()).job.payload
    file_format = FileFormat(payload["format"])
    pieces = (piece.decode() for piece in read_in_batches(service.iter_failed_rows(import_id)))
    name = f"import-{import_id}-failed-rows.{file_format}"
    return download(
        pieces, media_type=MEDIA_TYPES[file_format], name=name, encoding=failed_rows.encoding_of(payload["encoding"])
    )


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
        raise FormatUnknown(upload.name)
    return FileFormat(given)


def _encoding_of(upload: Upload) -> str:
    """The encoding that the media type of the file states; refuses one that there is not."""
    try:
        encoding = shared(ImportOptionsSchema).fields["encoding"].deserialize(upload.charset or "utf-8")
    except ma.ValidationError as error:
        raise Invalid(*faults_of({"encoding": error.messages}, in_query=True)) from None
    return str(encoding)
