"""Which pictures sample products show, and how they do from the beginning, without a second write."""

import colorsys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product as pairs_of
from typing import Any

from sqlalchemy import select

from app.extensions import db
from app.features.media.models import ASSETS, SHOWN, TABLE, AssetStatus
from app.features.samples import pictures
from app.features.samples.motifs import MOTIFS, NEUTRAL
from app.features.samples.vocabulary import Line, Option

Row = Mapping[str, Any]

#: The pictures in the row of a product that is to be inserted.
PICTURES = "pictures"
#: In pixels: small, so that a hundred of them are drawn and rendered in seconds.
SIZE = (480, 360)
#: How many different pictures there are for generated products.
MAX_DRAWINGS = 1000

_OF_ASSET = ("status", "width", "height", "colour", "sources")
#: A turn by this part of a circle gives hues that differ, however many there are.
_GOLDEN_SECTION = 0.618034


@dataclass(frozen=True)
class Drawing:
    """What a picture shows: a motif in a colour, ``#rrggbb``."""

    motif: str
    colour: str

    def draw(self) -> bytes:
        """The file, a WebP; the same drawing gives the same bytes."""
        return pictures.draw(self.motif, colour=self.colour, motif=self.motif, size=SIZE)


@dataclass(frozen=True)
class Shown:
    """A picture as a product is to show it. ``variants`` are the skus of those that it is of, none for all."""

    drawing: Drawing
    alt: str
    variants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Placed:
    """A picture of a product that has no id yet, as `placing` reads it."""

    media_id: int
    alt: str
    variants: tuple[str, ...]
    status: AssetStatus
    width: int
    height: int
    colour: str | None
    sources: list[dict[str, Any]]


#: The ids of assets, by what they show.
Gallery = Mapping[Drawing, int]

#: How a product comes, whatever it is.
PARCEL = Drawing(NEUTRAL, "#c9a06a")


def drawing_of(category: str, line: Line, option: Option) -> Drawing:
    """The drawing of a product."""
    colour = pictures.colour_of(f"{line.name}, {option.label}", option.attributes)
    return Drawing(pictures.motif_of(line.name, category), colour)


@lru_cache(maxsize=1)
def various(number: int) -> tuple[Drawing, ...]:
    """So many different drawings, MAX_DRAWINGS at most."""
    hues = range(-(-number // len(MOTIFS)))
    return tuple(Drawing(motif, _colour(hue)) for hue, motif in pairs_of(hues, MOTIFS))[:number]


def place(products: Sequence[Row], gallery: Gallery) -> Mapping[str, Sequence[Placed]]:
    """What products are to show, by their skus: of the pictures that are there, which are locked against deletion."""
    assets = _lock_assets(gallery.values()) if gallery else {}
    placed = {}
    for product in products:
        wanted = ((each, assets.get(gallery.get(each.drawing, 0))) for each in product.get(PICTURES, ()))
        shown = [
            Placed(asset.id, each.alt, each.variants, **{name: getattr(asset, name) for name in _OF_ASSET})
            for each, asset in wanted
            if asset is not None
        ]
        if shown:
            placed[product["sku"]] = shown
    return placed


def insert_placements(placed: Mapping[str, Sequence[Placed]], product_ids: Mapping[str, int]) -> None:
    """Let products that were just inserted show their pictures; ``product_ids`` are by sku, those of variants too."""
    if rows := [*_rows(placed, product_ids)]:
        db.session.execute(TABLE.insert(), rows)


def _rows(placed: Mapping[str, Sequence[Placed]], product_ids: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for sku, shown in placed.items():
        # A product that was there before, or that another transaction has made, keeps its own.
        for position, each in enumerate(shown if sku in product_ids else ()):
            variants = [product_ids[variant] for variant in each.variants if variant in product_ids]
            own = {"product_id": product_ids[sku], "media_id": each.media_id, "position": position}
            yield {**own, "alt": each.alt, "variants": variants}


def _lock_assets(media_ids: Any) -> Mapping[int, Any]:
    columns = (ASSETS.c.id, *(ASSETS.c[name] for name in _OF_ASSET))
    is_there = (ASSETS.c.id.in_(media_ids), ASSETS.c.status.in_(SHOWN), ASSETS.c.deleted_at.is_(None))
    rows = select(*columns).where(*is_there).order_by(ASSETS.c.id).with_for_update(read=True)
    return {row.id: row for row in db.session.execute(rows)}


def _colour(number: int) -> str:
    channels = colorsys.hls_to_rgb(number * _GOLDEN_SECTION % 1, 0.5, 0.4)
    return "#" + "".join(f"{round(channel * 255):02x}" for channel in channels)
