"""Whether a picture has a sane number of parts, before Pillow reads its header part by part.

A part may be two bytes long, and a file of twenty million bytes may be nothing else: ten seconds of Python, and a
gigabyte of memory, for a picture of one pixel. No encoder writes such files.
"""

import struct

#: The markers before the first scan of a JPEG, and the bytes between them that belong to none.
MAX_MARKERS = 20_000
#: The chunks of a PNG that are no pixels, such as text, and all of its chunks; encoders write 8 KiB in one.
MAX_EXTRAS, MAX_CHUNKS = 500, 100_000

_SCAN = 0xDA
#: The markers of a JPEG that have no length and no content, as Pillow reads them.
_BARE = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
_PIXELS = frozenset({b"IDAT", b"fdAT", b"fcTL"})


class TooManyParts(ValueError):
    """The file consists of more parts than any encoder writes."""


def check_jpeg(content: bytes) -> None:
    """Raise ``TooManyParts`` where it takes too many steps to find the first scan. Broken files are left to Pillow."""
    at, steps = 2, 0
    while (start := content.find(b"\xff", at)) >= 0 and start + 1 < len(content):
        steps += 1 + start - at
        if steps > MAX_MARKERS:
            raise TooManyParts
        marker, at = content[start + 1], start + 2
        if marker == _SCAN:
            return
        if marker == 0xFF:
            at = start + 1
        elif marker >= 0xC0 and marker not in _BARE:
            at += max(2, int.from_bytes(content[at : at + 2], "big"))
    if len(content) - at > MAX_MARKERS:
        raise TooManyParts


def check_png(content: bytes) -> None:
    """Raise ``TooManyParts`` for too many chunks, or two colour profiles. Broken files are left to Pillow."""
    at, chunks, extras, profiles = 8, 0, 0, 0
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        at += 12 + length
        chunks += 1
        extras += kind not in _PIXELS
        profiles += kind == b"iCCP"
        if chunks > MAX_CHUNKS or extras > MAX_EXTRAS or profiles > 1:
            raise TooManyParts
        if kind == b"IEND":
            return
