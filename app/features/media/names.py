"""What the objects of pictures are called in the store, and what clients call them.

A name says the content: the object under it never changes, and every cache may keep it for ever.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from app.features.media.images import Picture, plan

#: The ends of the names of renditions, by their media types.
EXTENSIONS: Mapping[str, str] = {"image/webp": "webp", "image/gif": "gif", "image/png": "png"}


def original_key(sha256: str) -> str:
    """Where the original is, which nothing serves: it may say where it was taken."""
    return f"originals/{sha256}"


def file_name(sha256: str, width: int, media_type: str) -> str:
    """The name of a rendition, the last part of its URL."""
    return f"{sha256}-{width}.{EXTENSIONS[media_type]}"


def rendition_key(name: str) -> str:
    """Where a rendition of a name is."""
    return f"public/{name}"


def keys_of(sha256: str, picture: Picture) -> Sequence[str]:
    """Every object that there may be of a picture, rendered to its end or not."""
    names = [file_name(sha256, width, media_type) for width, _ in plan(picture) for media_type in EXTENSIONS]
    return [original_key(sha256), *map(rendition_key, names)]


def keys_of_asset(asset: Any) -> Sequence[str]:
    """The same of an asset, or of its row; none before its content is known, and of an orphan the original alone."""
    if asset.sha256 is None:
        return ()
    if asset.media_type is None:
        return [original_key(asset.sha256)]
    size = {"width": asset.width, "height": asset.height}
    return keys_of(asset.sha256, Picture(media_type=asset.media_type, is_animated=asset.is_animated, **size))
