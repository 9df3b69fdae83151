"""Wire shapes of media."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import marshmallow as ma
from flask import current_app

from app.features.media.fetching import MediaUnfetchable, require_allowed
from app.features.media.models import MAX_ALT_LENGTH, MAX_PLACEMENTS, MAX_URL_LENGTH, SHOWN, Keep
from app.features.media.service import LISTING
from app.web import fields
from app.web.objects import Objects
from app.web.schemas import BodySchema, ListBodySchema, ListQuerySchema, Order, Schema

DIGEST = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#: An absolute URL of http or https (RFC 3986), in ASCII.
URL_PATTERN = r"^[Hh][Tt][Tt][Pp][Ss]?://[!#-;=?-\[\]_a-z~]+$"
REFERENCE_PATTERN = rf"^([0-9A-Fa-f]{{64}}|{URL_PATTERN.strip('^$')})$"
#: One line, which may be empty.
ALT_PATTERN = r"^[^\u0000-\u001f\u007f]*$"
ALT: dict[str, Any] = {
    "min_length": 0,
    "max_length": MAX_ALT_LENGTH,
    "pattern": ALT_PATTERN,
    "example": "The chair from the front",
}


def url_of(source: Mapping[str, Any]) -> str:
    """Where clients get a source: a link as it is, what is in the store below MEDIA_URL."""
    return str(source["url"]) if "url" in source else f"{current_app.config['MEDIA_URL']}/{source['file']}"


def sources(stored: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The sources of a picture as answers have them."""
    return [{"url": url_of(each), **{name: each[name] for name in ("width", "height", "type")}} for each in stored]


class PictureReference(fields.Text):
    """A picture by the SHA-256 of what is there, or by the URL of what may be fetched; loaded with small letters."""

    _is_digest = re.compile("[0-9A-Fa-f]{64}").fullmatch
    default_error_messages = {
        "malformed": "Neither an absolute URL of http or https nor a SHA-256 in hexadecimal digits.",
    }

    def __init__(self) -> None:
        super().__init__(max_length=MAX_URL_LENGTH, pattern=REFERENCE_PATTERN)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        reference = super()._deserialize(value)
        if self._is_digest(reference):
            return reference.lower()
        try:
            require_allowed(reference)
        except MediaUnfetchable as refusal:
            [fault] = refusal.faults
            raise ma.ValidationError([fields.Message(fault.code, fault.detail)]) from None
        return reference


class PictureReferences(fields.Items):
    """The pictures that a product shows."""

    def __init__(self, **options: Any) -> None:
        super().__init__(PictureReference(), max_items=MAX_PLACEMENTS, example=[DIGEST], **options)


class SourceSchema(Schema):
    """One file of a picture, for `srcset`."""

    url = fields.Text(
        max_length=MAX_URL_LENGTH + 100, schema={"format": "uri-reference"}, example=f"/media/{DIGEST}-320.webp"
    )
    width = fields.Integer(
        minimum=1, allow_none=True, note="In pixels; null of a link, as is all but its URL.", example=320
    )
    height = fields.Integer(minimum=1, allow_none=True, note="In pixels.", example=240)
    type = fields.Text(max_length=64, allow_none=True, note="Its media type.", example="image/webp")


class Sources(fields.Nested):
    """The files of a picture in ascending width, none until it is ready; for responses."""

    def __init__(self, **options: Any) -> None:
        super().__init__(SourceSchema, many=True, **options)

    def write(self, value: Sequence[Mapping[str, Any]], _beside: Any = None) -> list[dict[str, Any]]:
        """The sources."""
        return sources(value)


class ImageSchema(Schema):
    """A picture of a product that is ready, as lists show it."""

    media_id = fields.Integer(example=9)
    alt = fields.Text(**ALT)
    width = fields.Integer(minimum=1, allow_none=True, note="Of the original, in pixels.", example=800)
    height = fields.Integer(minimum=1, allow_none=True, note="Of the original, in pixels.", example=600)
    colour = fields.Text(
        max_length=7, allow_none=True, note="The dominant one, for the time it loads.", example="#b08d57"
    )
    sources = Sources(note="In ascending width, for `srcset`.")


class Image(fields.Nested):
    """The picture that stands on the row of a product; for responses."""

    _MEMBERS = ("media_id", "alt", "width", "height", "colour")

    def __init__(self, **options: Any) -> None:
        super().__init__(ImageSchema, allow_none=True, dump_only=True, **options)

    def write(self, value: Mapping[str, Any] | None, _beside: Any = None) -> dict[str, Any] | None:
        """The picture with the URLs of its sources, in one order: PostgreSQL's JSON has another."""
        if value is None:
            return None
        return {**{name: value[name] for name in self._MEMBERS}, "sources": sources(value["sources"])}


class MediaSchema(Schema):
    """A picture: its content, named by its SHA-256, and the renditions of it that are shown."""

    id = fields.Integer(dump_only=True, example=9)
    sha256 = fields.Text(
        min_length=64,
        max_length=64,
        pattern="^[0-9a-f]{64}$",
        allow_none=True,
        note="Of the original, in hexadecimal digits; null of a link, and until a URL is fetched.",
        example=DIGEST,
    )
    status = fields.Choice([each.value for each in SHOWN], name="MediaStatus", example="ready")
    keep = fields.Choice(Keep, example="copy")
    source_url = fields.Text(
        max_length=MAX_URL_LENGTH, allow_none=True, note="Where it was fetched from, or the link.", example=fields.NULL
    )
    media_type = fields.Text(
        max_length=64, allow_none=True, note="Of the original, by its content.", example="image/jpeg"
    )
    bytes = fields.Integer(minimum=1, allow_none=True, note="Of the original.", example=482_113)
    width = fields.Integer(minimum=1, allow_none=True, note="In pixels, as it is shown.", example=800)
    height = fields.Integer(minimum=1, allow_none=True, note="In pixels, as it is shown.", example=600)
    colour = fields.Text(
        min_length=7,
        max_length=7,
        pattern="^#[0-9a-f]{6}$",
        allow_none=True,
        note="The dominant colour, to show while it loads.",
        example="#b08d57",
    )
    is_animated = fields.Boolean(note="An animated picture has one source, of its own size.", example=False)
    sources = Sources(note="In ascending width, for `srcset`; empty until it is `ready`.")
    error_code = fields.Text(max_length=64, allow_none=True, note="Why it has failed.", example=fields.NULL)
    error = fields.Text(max_length=1000, allow_none=True, note="Why it has failed, in words.", example=fields.NULL)
    created_at = fields.Moment(dump_only=True)
    updated_at = fields.Moment(dump_only=True)
    version = fields.Integer(dump_only=True, example=1)


class MediaUrlSchema(BodySchema):
    """A picture by its URL: a copy that is fetched in the background, or the link alone."""

    url = fields.Text(
        required=True,
        max_length=MAX_URL_LENGTH,
        pattern=URL_PATTERN,
        note="An absolute URL of http or https, of a public server; redirects are not followed.",
        example="https://pictures.example/chair.jpg",
    )
    keep = fields.Choice(
        Keep,
        load_default=Keep.COPY,
        note="With `link` nothing is fetched: clients get the URL itself.",
        example="copy",
    )


class MediaQuerySchema(ListQuerySchema):
    """Filters and sorting of media."""

    sort_by = fields.Choice(list(LISTING.sorts), name="MediaSort", load_default="created_at")
    order = fields.Choice(Order, load_default="desc")
    id = fields.Values(fields.QueryInteger())
    sha256 = fields.Values(fields.Text(min_length=64, max_length=64, pattern="^[0-9a-f]{64}$", example=DIGEST))
    source_url = fields.Values(
        fields.Text(max_length=MAX_URL_LENGTH, pattern=URL_PATTERN, example="https://pictures.example/chair.jpg")
    )
    status = fields.Values(fields.Choice([each.value for each in SHOWN], name="MediaStatus"))
    unplaced = fields.QueryBoolean(note="Whether no product shows it; such are deleted a day after their last use.")
    created_since = fields.Moment(note="Created at this time or later.")
    updated_since = fields.Moment(note="Updated at this time or later.")


class PlacementSchema(Schema):
    """A picture as a product shows it."""

    media_id = fields.Integer(example=9)
    alt = fields.Text(**ALT)
    variants = fields.Items(
        fields.Integer(example=43),
        max_items=250,
        note="The variants that it is of; none where it is of the product as a whole.",
        example=[],
    )
    status = fields.Choice([each.value for each in SHOWN], name="MediaStatus", example="ready")
    media_type = fields.Text(max_length=64, allow_none=True, example="image/jpeg")
    width = fields.Integer(minimum=1, allow_none=True, note="In pixels, of the original.", example=800)
    height = fields.Integer(minimum=1, allow_none=True, note="In pixels, of the original.", example=600)
    colour = fields.Text(max_length=7, allow_none=True, example="#b08d57")
    is_animated = fields.Boolean(example=False)
    sources = Sources(note="In ascending width, for `srcset`; empty until it is `ready`.")


class PlacementItemSchema(BodySchema):
    """A picture to show."""

    media_id = fields.Integer(required=True, example=9)
    alt = fields.Text(load_default="", note="What it shows, in words; empty where it is mere decoration.", **ALT)
    variants = fields.Items(
        fields.Integer(example=43),
        max_items=250,
        load_default=list,
        note="The variants of the product that it is of; none where it is of the product as a whole.",
        example=[],
    )


class PlacementsSchema(ListBodySchema):
    """All that a product shows, in its order; the first that is ready is its `image`."""

    items = Objects(
        PlacementItemSchema,
        unique="media_id",
        max_items=MAX_PLACEMENTS,
        required=True,
        example=[{"media_id": 9, "alt": ALT["example"], "variants": []}],
    )


class ProductMediaSchema(Schema):
    """What a product shows, in its order, with the counters of the product, of which its ETag is made."""

    items = fields.Nested(PlacementSchema, many=True)
    version = fields.Integer(dump_only=True, note="Of the product; a PUT of its media raises it.", example=1)
    live = fields.Integer(minimum=0, dump_only=True, note="Of the product.", example=0)
