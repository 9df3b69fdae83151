"""The blocks of animated pictures, read without decoding: how many frames, and whether there is anything but pixels."""

import struct
from dataclasses import dataclass

from app.features.media.parts import TooManyParts

_GIF_IMAGE, _GIF_EXTENSION, _GIF_TRAILER = 0x2C, 0x21, 0x3B
#: Extension blocks of a GIF that say how it is played; a comment or an application's data is none of them.
_GIF_CONTROL = b"\x21\xf9\x04"
_GIF_LOOP = b"\x21\xff\x0bNETSCAPE2.0\x03\x01"
#: The chunks that PNG (third edition) needs to show an animation in its colours; none of them holds text.
_PNG_CHUNKS = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT", b"tRNS"}
    | {b"cHRM", b"gAMA", b"sRGB", b"sBIT", b"cICP", b"iCCP", b"bKGD", b"pHYs"}
)
_WEBP_CHUNKS = frozenset({b"VP8X", b"ANIM", b"ANMF", b"ICCP"})
_WEBP_FRAME_CHUNKS = frozenset({b"ALPH", b"VP8 ", b"VP8L"})
#: What precedes the chunks of a frame in ANMF: its place, size, duration and flags.
_WEBP_FRAME_HEADER_BYTES = 16
#: The blocks of a GIF: so many, and one more for so many bytes. Encoders fill them, and 255 bytes fit into one.
_MAX_BLOCKS, _BYTES_PER_BLOCK = 10_000, 64


@dataclass(frozen=True, kw_only=True)
class GifOutline:
    """What the blocks of a GIF say. ``reach`` is the right and lower edge of its frames, in pixels.

    It is plain if nothing but frames and their timing lies between the signature and the last byte.
    """

    frames: int
    reach: tuple[int, int]
    is_plain: bool


def outline_gif(content: bytes, *, max_frames: int) -> GifOutline:
    """Count the frames of a GIF, up to one more than ``max_frames``; of a truncated one, those that begin.

    Raises ``TooManyParts`` where its blocks are so small that reading them takes seconds.
    """
    frames, right, lower, is_plain = 0, 0, 0, True
    left_over = _MAX_BLOCKS + len(content) // _BYTES_PER_BLOCK
    try:
        at = 13 + _palette_bytes(content[10])
        while content[at] != _GIF_TRAILER and frames <= max_frames:
            if content[at] == _GIF_IMAGE:
                left, top, width, height, flags = struct.unpack_from("<4HB", content, at + 1)
                frames, right, lower = frames + 1, max(right, left + width), max(lower, top + height)
                at, left_over = _skip_blocks(content, at + 11 + _palette_bytes(flags), left_over)
            elif content[at] == _GIF_EXTENSION:
                end, left_over = _skip_blocks(content, at + 2, left_over)
                is_plain &= _only_plays(content[at:end])
                at = end
            else:
                return GifOutline(frames=frames, reach=(right, lower), is_plain=False)
    except (IndexError, struct.error):
        return GifOutline(frames=frames, reach=(right, lower), is_plain=False)
    return GifOutline(frames=frames, reach=(right, lower), is_plain=is_plain and at + 1 == len(content))


def is_plain_png(content: bytes) -> bool:
    """Whether a PNG has no chunk but those of pixels and colours, and no byte after its last."""
    at, kind = 8, b""
    while kind != b"IEND" and at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind not in _PNG_CHUNKS:
            return False
        at += 12 + length
    return kind == b"IEND" and at == len(content)


def is_plain_webp(content: bytes) -> bool:
    """Whether an animated WebP has no chunk but those of pixels and colours, and no byte after its last."""
    if int.from_bytes(content[4:8], "little") + 8 != len(content):
        return False
    return _has_only(content, 12, len(content), _WEBP_CHUNKS)


def _palette_bytes(flags: int) -> int:
    """The size of the colour table that follows these flags of a screen or an image; 0 if none does."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _skip_blocks(content: bytes, at: int, most: int) -> tuple[int, int]:
    """The end of the sub-blocks that begin at ``at``, each with its length before it, the last of length 0.

    With it, how many of ``most`` are left; raises ``TooManyParts`` where there are more.
    """
    while most > 0:
        length, most = content[at], most - 1
        at += length + 1
        if not length:
            return at, most
    raise TooManyParts


def _only_plays(extension: bytes) -> bool:
    is_control = extension.startswith(_GIF_CONTROL) and len(extension) == 8
    return is_control or (extension.startswith(_GIF_LOOP) and len(extension) == 19)


def _has_only(content: bytes, at: int, end: int, kinds: frozenset[bytes]) -> bool:
    """Whether exactly these kinds of RIFF chunks lie between two places."""
    while at + 8 <= end:
        kind, length = struct.unpack_from("<4sI", content, at)
        if kind not in kinds:
            return False
        start, at = at + 8, at + 8 + length + length % 2
        frame_start = start + _WEBP_FRAME_HEADER_BYTES
        if kind == b"ANMF" and not _has_only(content, frame_start, min(start + length, end), _WEBP_FRAME_CHUNKS):
            return False
    return at == end
