"""The tables of media, what of them is shown, and the refusals.

An asset is content, named by its SHA-256; a placement says which product shows it, and where. (decision 52)
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, String, Table, Text, column, table
from sqlalchemy.orm import Mapped, mapped_column

from app.core import clock
from app.core.audit import UNAUDITED
from app.core.changelog import Published
from app.core.errors import Conflict, Invalid, Unavailable
from app.core.model import Keyed, Moment, Stamped, Versioned, big_integer, json_type, ordered_text
from app.extensions import Model

MAX_URL_LENGTH = 2000
MAX_ALT_LENGTH = 500
#: The pictures of a product: each answer with its media has all of them.
MAX_PLACEMENTS = 100


class AssetStatus(StrEnum):
    """Where an asset is in its life. Clients see those of `SHOWN`."""

    #: Its row is there, and its original is being written to the store.
    RECEIVING = "receiving"
    #: A worker fetches or renders it.
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"
    #: It was fetched, and another asset has its content.
    MERGED = "merged"
    #: Its objects are being deleted from the store.
    REMOVING = "removing"


#: The statuses that clients see.
SHOWN = (AssetStatus.PROCESSING, AssetStatus.READY, AssetStatus.FAILED)


class Keep(StrEnum):
    """What becomes of a URL: a copy of its content is kept, or the link alone."""

    COPY = "copy"
    LINK = "link"


class MediaUnknown(Invalid):
    """There is no such media."""

    pointer = "/media_id"


class MediaLost(Invalid):
    """The original is not in the store; send it again."""


class MediaPlaced(Conflict):
    """Products show this media; take it from them first. Deleted products count."""


class MediaBusy(Unavailable):
    """This media is just being deleted from the store; send it again in a moment."""


class MediaOfParent(Conflict):
    """A variant shows media of its product: name the variant there, under `variants`."""


class MediaRepeated(Invalid):
    """The same media twice."""

    pointer = "/media_id"


class TooManyPictures(Invalid):
    """A product shows at most 100 pictures, those of its variants counted."""

    pointer = "/images"


class NotItsVariant(Invalid):
    """This product has no such variant."""

    pointer = "/variants"


class Asset(Keyed, Stamped, Versioned, Published, Model):
    """A picture by its content, or the link to one.

    ``sources`` are what clients show, in ascending width: the ``file`` of each in the store, or the ``url`` of a link.

    ``used_at`` is when it was last uploaded or taken from a product: some time after that, a picture that no product
    shows is deleted. ``is_settled`` is false from a change that products have to follow until they do.
    """

    __tablename__ = "media_assets"
    audited_as = "media"
    __table_args__ = (
        CheckConstraint(f"status IN ({', '.join(repr(each.value) for each in AssetStatus)})", name="status"),
        CheckConstraint(f"keep IN ({', '.join(repr(each.value) for each in Keep)})", name="keep"),
        CheckConstraint("(status = 'merged') = (merged_into_id IS NOT NULL)", name="merged_into_id_of_merged"),
        {"sqlite_autoincrement": True},
    )

    #: In hexadecimal digits; None for a link, and until a URL is fetched.
    sha256: Mapped[str | None] = mapped_column(ordered_text(64))
    status: Mapped[AssetStatus] = mapped_column(String(16))
    keep: Mapped[Keep] = mapped_column(String(8), default=Keep.COPY, server_default="copy")
    source_url: Mapped[str | None] = mapped_column(ordered_text(MAX_URL_LENGTH))
    media_type: Mapped[str | None] = mapped_column(String(64))
    bytes: Mapped[int | None] = mapped_column(big_integer)
    #: In pixels, as it is shown.
    width: Mapped[int | None]
    height: Mapped[int | None]
    colour: Mapped[str | None] = mapped_column(String(7))
    is_animated: Mapped[bool] = mapped_column(default=False)
    sources: Mapped[list[dict[str, Any]]] = mapped_column(json_type, default=list)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[str | None] = mapped_column(Text)
    merged_into_id: Mapped[int | None] = mapped_column(
        big_integer, ForeignKey("media_assets.id", ondelete="CASCADE"), info=UNAUDITED
    )
    used_at: Mapped[Moment] = mapped_column(default=clock.now, info=UNAUDITED)
    is_settled: Mapped[bool] = mapped_column(default=True, info=UNAUDITED)
    deleted_at: Mapped[Moment | None]

    @classmethod
    def event_names(cls) -> Mapping[str, str]:
        """The names of the changes of media, with a sentence each."""
        return {**super().event_names(), "media.restored": "The media that was deleted is used again."}

    def fail(self, code: str, sentence: str) -> None:
        """Say that it will never be ready, and why. What a URL led to is forgotten: it may lead to another by then."""
        if self.source_url is not None:
            self._forget_content()
        self.status, self.error_code, self.error = AssetStatus.FAILED, code, sentence
        self.sources, self.is_settled = [], False

    def merge_into(self, media_id: int) -> None:
        """Lead to another that has its content. What an earlier attempt has fetched, which may differ, is forgotten."""
        self._forget_content()
        self.status, self.merged_into_id, self.is_settled = AssetStatus.MERGED, media_id, False

    def begin(self, now: datetime) -> None:
        """Process it, from the start."""
        self.status, self.error_code, self.error = AssetStatus.PROCESSING, None, None
        self.sources, self.deleted_at, self.used_at = [], None, now

    def _forget_content(self) -> None:
        self.sha256 = self.media_type = self.bytes = self.width = self.height = None


Index("uq_media_assets_sha256", Asset.sha256, unique=True)
Index("uq_media_assets_source_url_keep", Asset.source_url, Asset.keep, unique=True)
Index("ix_media_assets_created_at_id", Asset.created_at, Asset.id)
Index("ix_media_assets_updated_at_id", Asset.updated_at, Asset.id)
Index("ix_media_assets_used_at_id", Asset.used_at, Asset.id)
Index("ix_media_assets_merged_into_id", Asset.merged_into_id)
_UNSETTLED = Asset.is_settled.is_(False)
Index("ix_media_assets_is_settled_id", Asset.is_settled, Asset.id, postgresql_where=_UNSETTLED, sqlite_where=_UNSETTLED)
#: Of the many that are ready, or merged, nothing counts them.
UNREADY = (AssetStatus.FAILED, AssetStatus.PROCESSING, AssetStatus.RECEIVING, AssetStatus.REMOVING)
_IS_UNREADY = Asset.status.in_(UNREADY)
Index("ix_media_assets_status_id", Asset.status, Asset.id, postgresql_where=_IS_UNREADY, sqlite_where=_IS_UNREADY)
_DELETED = Asset.deleted_at.is_not(None)
Index("ix_media_assets_deleted_at_id", Asset.deleted_at, Asset.id, postgresql_where=_DELETED, sqlite_where=_DELETED)

ASSETS = Asset.metadata.tables["media_assets"]

#: Which products show which pictures, in the order of their positions. ``variants`` are the ids of the variants that a
#: picture is of; none where it is of the product as a whole. A product's rows are written together, under its lock.
TABLE = Table(
    "media_placements",
    Model.metadata,
    Column("product_id", big_integer, ForeignKey("products.id", ondelete="CASCADE"), primary_key=True),
    Column("media_id", big_integer, ForeignKey("media_assets.id", ondelete="RESTRICT"), primary_key=True),
    Column("position", big_integer, nullable=False),
    Column("alt", String(MAX_ALT_LENGTH), nullable=False),
    Column("variants", json_type, nullable=False),
)
Index("ix_media_placements_media_id", TABLE.c.media_id, TABLE.c.product_id)

#: The table as reads have it: the products say that their pictures changed, for those who depend on it.
PLACEMENTS = table("media_placements", *(column(each.name, each.type) for each in TABLE.c))
