"""Pictures: what their bytes are, and the renditions of them that are shown. It knows Pillow, and no table or request.

Bytes from anywhere are hostile: sizes are checked before anything is decoded, only named formats are tried, and a
process decodes one picture at a time, whichever of its threads asks.
"""

import io
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from PIL import (
    AvifImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageSequence,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from app.core.errors import Invalid, Refusal, UnsupportedMediaType
from app.features.media import animations, parts

#: The widths of renditions, in pixels.
WIDTHS = (160, 320, 640, 1280, 2000)

#: Pillow's name of each media type that is taken; no other decoder is even imported. TIFF is not taken: its strips are
#: as large as the file says, no browser shows it, and no shop exports it. HEIC and SVG are what Pillow does not read.
_FORMATS = {
    "image/jpeg": JpegImagePlugin.JpegImageFile.format,
    "image/png": PngImagePlugin.PngImageFile.format,
    "image/webp": WebPImagePlugin.WebPImageFile.format,
    "image/gif": GifImagePlugin.GifImageFile.format,
    "image/avif": AvifImagePlugin.AvifImageFile.format,
}
TAKEN = tuple(_FORMATS)

#: The longest side of a picture, in pixels: the most that JPEG and GIF can say. Resampling takes 48 bytes per column.
MAX_SIDE = 65_535
#: The longest side that a WebP can have, in pixels.
MAX_RENDITION_SIDE = 16_383
MAX_FRAMES = 1_000
#: The scans of a progressive JPEG; cameras and editors write about ten. Each costs a pass over the whole picture.
MAX_SCANS = 200
#: The pixels of the original that are converted at a time.
_BAND_PIXELS = 2_000_000
#: The pixels beyond a band that Lanczos resampling reads, in pixels of the result.
_SUPPORT = 3
_QUALITY = 82
#: The milliseconds for which browsers show a frame that states none.
_FRAME_DURATION = 100

#: What brings the pixels of each EXIF orientation upright (CIPA DC-008, tag 274).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 274
#: The orientations whose columns are rows.
_LYING = frozenset({5, 6, 7, 8})

# The holder only computes, for seconds, so every wait for it ends.
_DECODER = Lock()


class PictureUnsupported(UnsupportedMediaType):
    """The content is not a picture of a type that is taken here. Its bytes decide, not its name or Content-Type."""


class PictureUnreadable(Invalid):
    """The picture is truncated or broken."""


class TooManyPixels(Invalid):
    """The picture has more pixels than is accepted, those of all frames counted, or a side of more than 65,535 pixels,
    or more than 1,000 frames.
    """


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What a picture is, by its content; its size in pixels is as shown, with the EXIF orientation applied."""

    media_type: str
    width: int
    height: int
    is_animated: bool


@dataclass(frozen=True, kw_only=True)
class Rendition:
    """A complete file to be served; its size is in pixels."""

    width: int
    height: int
    media_type: str
    content: bytes


def inspect(content: bytes, *, max_pixels: int) -> Picture:
    """Read what a picture is from its header; nothing is decoded, and any thread may ask.

    Refuses what is no picture of a type in `TAKEN` (`PictureUnsupported`), what has no valid header, or is cut into
    more parts than encoders write (`PictureUnreadable`), and more than ``max_pixels`` (`TooManyPixels`), which are the
    pixels of all frames together.
    Pillow refuses 178,956,970 by itself, so a greater limit is none.
    """
    media_type = _recognize(content)
    with _refusing(), _limiting():
        if media_type == "image/gif":
            return _inspect_gif(content, max_pixels)
        if media_type == "image/jpeg":
            parts.check_jpeg(content, max_scans=MAX_SCANS)
        elif media_type == "image/png":
            parts.check_png(content)
        with _open(content, media_type) as image:
            # A phone's JPEG may hold further pictures, such as depth; its first is what is shown.
            frames = 1 if media_type == "image/jpeg" else getattr(image, "n_frames", 1)
            _check_size(image.width, image.height, frames, max_pixels)
            lies = frames == 1 and _orientation_of(image) in _LYING
            width, height = image.size[::-1] if lies else image.size
    return Picture(media_type=media_type, width=width, height=height, is_animated=frames > 1)


def plan(picture: Picture) -> Sequence[tuple[int, int]]:
    """The width and height of each rendition, in pixels, narrowest first.

    They are `WIDTHS` below the picture's own width, and that itself up to the last of them. Of a picture so tall that
    a WebP cannot hold any, there is one as tall as it can. An animated picture has one of its own size.
    """
    if picture.is_animated:
        return [(picture.width, picture.height)]
    widths = sorted({*(width for width in WIDTHS if width < picture.width), min(picture.width, WIDTHS[-1])})
    sizes = [(width, max(1, round(picture.height * width / picture.width))) for width in widths]
    tallest = (max(1, picture.width * MAX_RENDITION_SIDE // picture.height), MAX_RENDITION_SIDE)
    return [size for size in sizes if size[1] <= MAX_RENDITION_SIDE] or [tallest]


def render(content: bytes, picture: Picture) -> Iterator[Rendition]:
    """Make the renditions that are planned, one at a time, narrowest first; ``picture`` is what `inspect` said.

    They are WebP in sRGB with their alpha, upright, and carry no metadata. An animated picture is kept as it is if it
    has nothing but frames; with metadata, with bytes after its end, or as AVIF it is written anew as an animated WebP.
    Refuses a truncated or broken picture (`PictureUnreadable`) before the first rendition.

    The original is decoded once, and only what the widest rendition needs of it is kept. Beside what the process has
    already, memory for the pixels of the original is 2 bytes each for a JPEG, 7 for a progressive and 9 for one in
    CMYK, 6 for a PNG, 9 for an AVIF and 16 for a WebP: 800 MB for 50 million. A picture as tall as a WebP can be takes
    550 MB to be written. A thread that does not ask on keeps the widest rendition's pixels, but not the decoder.
    """
    if picture.is_animated:
        with _DECODER, _refusing():
            animation = _render_animation(content, picture)
        yield animation
        return
    sizes = plan(picture)
    with _DECODER, _refusing():
        widest = _decode(content, picture.media_type, sizes[-1])
    for size in sizes:
        with _DECODER, _refusing():
            rendition = _encode(widest, size)
        yield rendition


def find_colour(rendition: Rendition) -> str:
    """The dominant colour of a rendition as ``#rrggbb``, for the place of a picture that is still loading.

    It is the mean of the largest group of similar pixels; transparent ones do not count, and white stands for none.
    The narrowest rendition is enough, and cheapest.
    """
    with _DECODER, _refusing(), _open(rendition.content, rendition.media_type) as image:
        thumbnail = image.convert("RGBA")
    thumbnail.thumbnail((64, 64), Image.Resampling.BOX)
    groups: dict[bytes, list[bytes]] = defaultdict(list)
    pixels = thumbnail.tobytes()
    for at in range(0, len(pixels), 4):
        *colour, alpha = pixels[at : at + 4]
        if alpha >= 128:
            # The upper three bits of each channel put a colour into one of 512 groups.
            groups[bytes(channel >> 5 for channel in colour)].append(bytes(colour))
    largest = max(groups.values(), key=len, default=[b"\xff\xff\xff"])
    return "#" + "".join(f"{round(sum(channel) / len(largest)):02x}" for channel in zip(*largest, strict=True))


def _recognize(content: bytes) -> str:
    """The media type by the signature with which the content begins."""
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if content.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp"
    if content[4:8] == b"ftyp" and not {b"avif", b"avis"}.isdisjoint(_brands(content)):
        return "image/avif"
    raise PictureUnsupported(accepted=list(TAKEN))


def _brands(content: bytes) -> set[bytes]:
    """The brands of an ISO base media file (ISO/IEC 14496-12); those of HEIC are others than AVIF's."""
    box = content[8 : min(int.from_bytes(content[:4], "big"), 256)]
    return {box[at : at + 4] for at in range(0, len(box), 4)}


@contextmanager
def _refusing() -> Iterator[None]:
    """Let whatever Pillow and its codecs raise at hostile bytes become a refusal."""
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        # What codecs raise is not documented: SyntaxError, struct.error, KeyError, RuntimeError and more. The size is
        # checked before they decode, so one that lacks memory was misled by the bytes.
        raise PictureUnreadable from error


@contextmanager
def _limiting() -> Iterator[None]:
    """Let Pillow's own limit on pixels, a warning or an error as warnings are filtered, become the same refusal."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixels from error


def _open(content: bytes, media_type: str) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=[_FORMATS[media_type]])


def _inspect_gif(content: bytes, max_pixels: int) -> Picture:
    """Pillow makes room for a frame as it opens the file, so the blocks are read first."""
    width, height = (int.from_bytes(content[at : at + 2], "little") for at in (6, 8))
    outline = animations.outline_gif(content, max_frames=MAX_FRAMES)
    _check_size(width, height, outline.frames, max_pixels)
    if outline.reach[0] > width or outline.reach[1] > height:
        raise PictureUnreadable
    with _open(content, "image/gif"):
        return Picture(media_type="image/gif", width=width, height=height, is_animated=outline.frames > 1)


def _check_size(width: int, height: int, frames: int, max_pixels: int) -> None:
    if not width or not height or not frames:
        raise PictureUnreadable
    if width * height * frames > max_pixels or max(width, height) > MAX_SIDE or frames > MAX_FRAMES:
        raise TooManyPixels


def _orientation_of(image: Image.Image) -> int:
    """The EXIF orientation by the header; 1, which is upright, if the EXIF cannot be read."""
    # Not image.getexif(): that of a PNG decodes the pixels to find what may come after them.
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 -- Pillow documents no errors of broken EXIF, which is optional
        return 1
    return orientation if orientation in _TURNS else 1


def _decode(content: bytes, media_type: str, size: tuple[int, int]) -> Image.Image:
    """The picture upright, in sRGB and of this size, as RGB or RGBA."""
    with _open(content, media_type) as image:
        orientation = _orientation_of(image)
        lying_size = size[::-1] if orientation in _LYING else size
        # A JPEG is decoded at a half, a quarter or an eighth of its size, where that is enough.
        image.draft(None, lying_size)
        image.load()
        shrunk = _shrink(image, lying_size)
        profile = image.info.get("icc_profile")
    upright = _convert_to_srgb(shrunk, profile)
    return upright.transpose(_TURNS[orientation]) if orientation in _TURNS else upright


def _shrink(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resample the picture band by band, so that no second picture of its size is ever in memory."""
    width, height = size
    scale = image.height / height
    margin = math.ceil(_SUPPORT * max(scale, 1)) + 1
    rows = max(1, int(_BAND_PIXELS / (image.width * scale)))
    shrunk = Image.new(_convert_to_resizable(image.crop((0, 0, 1, 1))).mode, size)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first = max(0, math.floor(top * scale) - margin)
        last = min(image.height, math.ceil(bottom * scale) + margin)
        band = _convert_to_resizable(image.crop((0, first, image.width, last)))
        box = (0, top * scale - first, image.width, min(bottom * scale - first, band.height))
        part = band.resize((width, bottom - top), Image.Resampling.LANCZOS, box)
        shrunk.paste(part, (0, top))
    return shrunk


def _convert_to_resizable(image: Image.Image) -> Image.Image:
    """The pixels as L, RGB, RGBA or CMYK."""
    if image.mode.startswith("I;16"):
        # Pillow clips to 255 what has 16 bits: the upper byte is what is meant.
        return Image.frombytes("L", image.size, image.tobytes("raw", "I;16")[1::2])
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in {"L", "RGB", "CMYK"} else image.convert("RGB")


def _convert_to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The pixels as RGB or RGBA in sRGB; a profile that is broken or of other channels is as good as none."""
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colours = image.convert("RGB") if alpha else image
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), colours.mode, "RGB")
            colours = ImageCms.applyTransform(colours, transform) or colours
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    colours = colours.convert("RGB")
    if alpha:
        colours.putalpha(alpha)
    return colours


def _encode(image: Image.Image, size: tuple[int, int]) -> Rendition:
    stream = io.BytesIO()
    resized = image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)
    # A WebP gets no metadata but what is given here.
    resized.save(stream, "WEBP", quality=_QUALITY, method=4)
    return _rendition(size, "image/webp", stream.getvalue())


def _rendition(size: tuple[int, int], media_type: str, content: bytes) -> Rendition:
    width, height = size
    return Rendition(width=width, height=height, media_type=media_type, content=content)


def _render_animation(content: bytes, picture: Picture) -> Rendition:
    size = (picture.width, picture.height)
    with _open(content, picture.media_type) as image:
        if _is_plain(content, picture.media_type):
            image.load()
            return _rendition(size, picture.media_type, content)
        durations = [_duration_of(frame) for frame in ImageSequence.Iterator(image)]
        # A GIF that does not say otherwise plays once, others without end.
        loop = image.info.get("loop", 1 if picture.media_type == "image/gif" else 0)
        profile = image.info.get("icc_profile") or b""
        stream = io.BytesIO()
        # Pillow reads the frames one at a time as it writes them. The profile stays: it is what the colours mean.
        quality = {"quality": _QUALITY, "method": 2, "exif": b"", "xmp": b"", "icc_profile": profile}
        image.save(stream, "WEBP", save_all=True, duration=durations, loop=loop, background=(0, 0, 0, 0), **quality)
    return _rendition(size, "image/webp", stream.getvalue())


def _is_plain(content: bytes, media_type: str) -> bool:
    """Whether an animated original holds nothing but its frames, so that its bytes can be served."""
    if media_type == "image/gif":
        return animations.outline_gif(content, max_frames=MAX_FRAMES).is_plain
    if media_type == "image/png":
        return animations.is_plain_png(content)
    return media_type == "image/webp" and animations.is_plain_webp(content)


def _duration_of(frame: Image.Image) -> int:
    """For how many milliseconds a frame is shown."""
    frame.load()
    return round(frame.info.get("duration", 0)) or _FRAME_DURATION
