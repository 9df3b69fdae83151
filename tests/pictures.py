"""Makers of pictures for tests, small and always the same: good ones, hostile ones, and what is no picture."""

import io
import struct
import zlib
from collections.abc import Sequence
from random import Random
from typing import Any

from PIL import ExifTags, Image, ImageCms

#: The first bytes of what a phone saves as HEIC.
HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!doctype html><script>alert(1)</script>"
PDF = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"
#: What a camera knows and a shop must not tell.
PLACE = b"Somewhere 48N 11E"

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def photo(width: int, height: int, *, seed: int = 0, mode: str = "RGB", format: str = "JPEG", **options: Any) -> bytes:  # noqa: A002 -- Pillow's word
    """A soft picture of many colours; ``options`` are Pillow's, such as ``exif`` and ``icc_profile``."""
    return encode(canvas(width, height, seed=seed).convert(mode), format, **options)


def canvas(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """Soft spots of many colours."""
    spots = Image.frombytes("RGB", (8, 8), Random(seed).randbytes(8 * 8 * 3))
    return spots.resize((width, height), Image.Resampling.BICUBIC)


def flat(colour: Any, size: tuple[int, int] = (40, 30), *, mode: str = "RGB", **options: Any) -> bytes:
    """A picture of one colour, as PNG or what ``format`` says."""
    return encode(Image.new(mode, size, colour), options.pop("format", "PNG"), **options)


def encode(image: Image.Image, format: str, **options: Any) -> bytes:  # noqa: A002 -- Pillow's word
    """The picture as a file."""
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def decode(content: bytes) -> Image.Image:
    """The picture in a file, decoded."""
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def exif(*, orientation: int = 1) -> Image.Exif:
    """What a phone writes: the orientation, the place, and whose it is."""
    made = Image.Exif()
    made[ExifTags.Base.Orientation] = orientation
    made[ExifTags.Base.Artist] = PLACE.decode()
    place = made.get_ifd(ExifTags.IFD.GPSInfo)
    place[ExifTags.GPS.GPSLatitudeRef], place[ExifTags.GPS.GPSLatitude] = "N", (48.0, 8.0, 14.0)
    return made


def linear_profile() -> bytes:
    """An ICC profile with the primaries of sRGB whose values are proportional to light."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    parameters = srgb.index(b"para") + 12
    return srgb.replace(srgb[parameters : parameters + 20], struct.pack(">5i", 1 << 16, 1 << 16, 0, 1 << 16, 0))


def animation(
    size: tuple[int, int] = (32, 24),
    *,
    frames: int = 3,
    format: str = "GIF",  # noqa: A002 -- Pillow's word
    **options: Any,
) -> bytes:
    """An animated picture whose frames differ."""
    first, *others = (canvas(*size, seed=seed) for seed in range(frames))
    return encode(first, format, **{"save_all": True, "append_images": others, "duration": 50, "loop": 0, **options})


def png(
    width: int, height: int, pixels: bytes, *, depth: int = 8, colour_type: int = 2, chunks: Sequence[bytes] = ()
) -> bytes:
    """A PNG written by hand, with what Pillow does not write; ``pixels`` are the rows, each after its filter byte."""
    header = png_chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, colour_type, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(pixels, 9))
    return b"".join((_PNG_SIGNATURE, header, *chunks, body, png_chunk(b"IEND", b"")))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_png_chunk(content: bytes, kind: bytes, data: bytes) -> bytes:
    """The PNG with one more chunk after its header."""
    end = len(_PNG_SIGNATURE) + 25
    return content[:end] + png_chunk(kind, data) + content[end:]


def bomb(width: int = 50_000, height: int = 50_000) -> bytes:
    """A PNG of a kilobyte that says it is as large as this."""
    return png(width, height, bytes(100_000), depth=1, colour_type=0)


def text_bomb() -> bytes:
    """A small PNG with a text that is 12 MB when it is decompressed."""
    text = b"Comment\0\0" + zlib.compress(bytes(12_000_000), 9)
    return png(1, 1, bytes(4), chunks=[png_chunk(b"zTXt", text)])


def truncated(content: bytes) -> bytes:
    """The first half of a file."""
    return content[: len(content) // 2]


def cut_up(kind: str, count: int) -> bytes:
    """A picture of 48 by 32 pixels with ``count`` superfluous parts of a few bytes each before its pixels."""
    jpeg, png, gif = (flat((9, 9, 9), (48, 32), format=each) for each in ("JPEG", "PNG", "GIF"))
    profile = b"icc\0\0" + zlib.compress(linear_profile())
    # Where a part may be put: behind the first marker, the header chunk, and the palette.
    content, at, part = {
        "markers": (jpeg, 2, b"\xff\xe5\0\x02"),
        "padding": (jpeg, 2, b"\xff"),
        "junk": (jpeg, 2, b"\xff\0"),
        "chunks": (png, 33, png_chunk(b"prVt", b"")),
        "profiles": (png, 33, png_chunk(b"iCCP", profile)),
        "extensions": (gif, 13 + (3 << (gif[10] & 7) + 1), b"\x21\xfe\x01a\0"),
        "blocks": (gif, 13 + (3 << (gif[10] & 7) + 1), b"\x01a"),
    }[kind]
    parts = b"\x21\xfe" + part * count + b"\0" if kind == "blocks" else part * count
    return content[:at] + parts + content[at:]
