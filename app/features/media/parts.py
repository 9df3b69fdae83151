"""Whether a picture has a sane number of parts, before Pillow reads its header part by part.

A part may be two bytes long, and a file of twenty million bytes may be nothing else: ten seconds of Python, and a
gigabyte of memory, for a picture of one pixel. No encoder writes such files.
"""

import re
import struct

#: The markers before the first scan of a JPEG, and the bytes between them that belong to none.
MAX_MARKERS = 20_000
#: The chunks of a PNG that are no pixels, such as text, and all of its chunks; encoders write 8 KiB in one.
MAX_EXTRAS, MAX_CHUNKS = 500, 100_000

_SCAN, _END = 0xDA, 0xD9
#: A marker behind the pixels of a scan, in which 0xFF is followed by zero or is a restart marker.
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
#: The markers of a JPEG that have no length and no content, as Pillow reads them.
_BARE = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
_PIXELS = frozenset({b"IDAT", b"fdAT", b"fcTL"})


class TooManyParts(ValueError):
    """The file consists of more parts than any encoder writes."""


def check_jpeg(content: bytes, *, max_scans: int) -> None:
    """Raise ``TooManyParts`` for too many steps to the first scan, or too many scans. Broken files are left to Pillow.

    What lies within other parts or behind the end, such as the film of a phone, may look like a scan, and is none.
    """
    at, steps, scans = 2, 0, 0
    while not scans and (start := content.find(b"\xff", at)) >= 0 and start + 1 < len(content):
        steps += 1 + start - at
        marker = content[start + 1]
        at = start + 1 if marker == 0xFF else _end_of_segment(content, start + 2, marker)
        scans += marker == _SCAN
        if steps > MAX_MARKERS:
            raise TooManyParts
    if not scans and len(content) - at > MAX_MARKERS:
        raise TooManyParts
    while (found := _AFTER_SCAN.search(content, at)) and (marker := content[found.start() + 1]) != _END:
        steps, scans = steps + 1, scans + (marker == _SCAN)
        if steps > MAX_MARKERS or scans > max_scans:
            raise TooManyParts
        at = _end_of_segment(content, found.end(), marker)


def _end_of_segment(content: bytes, at: int, marker: int) -> int:
    """Where the content of a JPEG's marker ends, which begins with its own length, if there is any."""
    has_content = marker >= 0xC0 and marker not in _BARE
    return at + max(2, int.from_bytes(content[at : at + 2], "big")) if has_content else at


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
