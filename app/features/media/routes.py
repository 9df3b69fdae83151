"""Routes of media."""

from typing import Any

from flask import current_app
from sqlalchemy import Select

from app.clients.object_store import StoreUnavailable, current_store
from app.features.media import receiving, service
from app.features.media.fetching import MediaUnfetchable, require_allowed
from app.features.media.images import TAKEN, PictureUnreadable, PictureUnsupported, TooManyPixels
from app.features.media.models import Asset, AssetStatus, MediaBusy, MediaPlaced
from app.features.media.receiving import Original
from app.features.media.schemas import MediaQuerySchema, MediaSchema, MediaUrlSchema
from app.security.permissions import Permission
from app.web.access import current_identity
from app.web.contract import Blueprint, accepts, changes, lists, prepares, refuses, requires, returns, takes_file
from app.web.uploads import Upload

blueprint = Blueprint("media", __name__, url_prefix="/media", about="Pictures, which products show.")

#: What a body may say that it is; its bytes decide.
MEDIA_TYPES = (*TAKEN, "application/octet-stream")


def _store(upload: Upload, *, is_dry_run: bool) -> Original:
    """Read the header of a picture, and keep it in the store."""
    original = Original.of(upload.stream.read(), max_pixels=current_app.config["MAX_MEDIA_PIXELS"])
    return original if is_dry_run else receiving.store_original(original, current_store())


def _is_fetched_later(asset: Asset) -> bool:
    return asset.status == AssetStatus.PROCESSING and asset.sha256 is None


@blueprint.get("")
@requires(Permission.MEDIA_READ)
@lists(MediaSchema, MediaQuerySchema, service.LISTING)
def list_media() -> Select[Asset]:
    """List media."""
    return service.visible_to(current_identity())


@blueprint.post("")
@requires(Permission.MEDIA_WRITE)
@takes_file(*MEDIA_TYPES, limit="MAX_MEDIA_BYTES")
@prepares(_store)
@accepts(MediaUrlSchema)
@returns(
    MediaSchema,
    status=201,
    location=lambda asset: f"/api/v1/media/{asset.id}",
    is_deferred=_is_fetched_later,
)
@refuses(PictureUnsupported, PictureUnreadable, TooManyPixels, MediaUnfetchable, MediaBusy, StoreUnavailable)
def add_media(upload: Original | None, data: dict[str, Any] | None) -> Asset:
    """Add a picture: as the body, as the part `file` of a form, or by its URL.

    The same bytes are one picture, however often they come. It is rendered in the background, and `ready` then, or
    `failed`. A URL is fetched in the background as well, unless only the link is kept. One that no product shows is
    deleted a day after its last use.
    """
    if upload is not None:
        return receiving.add_original(upload)
    stated = data or {}
    require_allowed(stated["url"])
    return receiving.add_url(**stated)


@blueprint.get("/<id:media_id>")
@requires(Permission.MEDIA_READ)
@returns(MediaSchema)
def read_media(media_id: int) -> Any:
    """Read what is known of a picture; where it was fetched and another has its content, of that one."""
    return service.read_media(media_id, identity=current_identity())


@blueprint.delete("/<id:media_id>")
@requires(Permission.MEDIA_DELETE)
@changes(service.get_media)
@returns(status=204)
@refuses(MediaPlaced)
def delete_media(asset: Asset) -> None:
    """Delete a picture that no product shows, deleted products included; its files go in the background."""
    service.delete_media(asset)
