"""Pictures of the sample products, drawn here: a flat motif in the colour of the product, with a soft shadow.

The same words give the same bytes, and any thread may draw.
"""

import io
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageOps

from app.features.samples.motifs import CANVAS, MOTIFS, NEUTRAL, Arc, Area, Box, Line, Oval, Pie, Shade, Shape

#: The size of a picture in pixels.
SIZE = (1200, 900)

_Colour = tuple[int, int, int]

_WHITE, _INK = (255, 255, 255), (24, 26, 32)
_MATERIALS: Mapping[Shade, _Colour] = {
    Shade.WOOD: (186, 142, 98),
    Shade.STEEL: (172, 181, 188),
    Shade.PAPER: (250, 247, 240),
    Shade.GLOW: (255, 234, 184),
    Shade.FLAME: (224, 122, 66),
}
#: Pixels that are drawn for one of the picture, in each direction; the mean of them makes smooth edges.
_SUPERSAMPLING = 2
#: The background and the shadow are soft, so that this part of the size is enough to draw them.
_BACKDROP_PART = 4
_QUALITY = 86

#: Words of names and the motif that they mean; the first that occurs counts, so the longer ones come before.
_WORDS: Mapping[str, str] = {
    "rocking chair": "rocking_chair",
    "deck chair": "deck_chair",
    "armchair": "armchair",
    "chair": "chair",
    "footstool": "footstool",
    "stool": "stool",
    "bench": "bench",
    "table lamp": "table_lamp",
    "bedside lamp": "table_lamp",
    "desk lamp": "desk_lamp",
    "arc lamp": "arc_lamp",
    "tripod lamp": "floor_lamp",
    "cluster pendant": "cluster",
    "globe pendant": "globe",
    "pendant": "pendant",
    "vegetable knife": "knife",
    "knife": "knife",
    "table": "table",
    "desk pad": "desk_pad",
    "desk": "desk",
    "monitor stand": "monitor_stand",
    "sofa": "sofa",
    "bookcase": "bookcase",
    "sideboard": "sideboard",
    "cabinet": "drawers",
    "drawers": "drawers",
    "drawer unit": "drawers",
    "wall shelf": "wall_shelf",
    "duvet cover": "folded",
    "bedspread": "folded",
    "fitted sheet": "folded",
    "pillowcase": "pillow",
    "bed": "bed",
    "casserole": "pot",
    "pot": "pot",
    "saucepan": "saucepan",
    "sauté pan": "saucepan",
    "pan": "pan",
    "wok": "pan",
    "plate": "plate",
    "bowl": "bowl",
    "mug": "mug",
    "dish": "dish",
    "glass": "glass",
    "napkin": "folded",
    "pour-over": "pour_over",
    "teapot": "teapot",
    "cup": "cup",
    "jug": "jug",
    "rug": "rug",
    "cushion": "cushion",
    "throw": "folded",
    "towel": "folded",
    "bath mat": "folded",
    "bathrobe": "robe",
    "curtain": "curtain",
    "spade": "spade",
    "secateurs": "secateurs",
    "watering can": "watering_can",
    "trowel": "trowel",
    "tent": "tent",
    "shelter": "tarp",
    "sleeping bag": "sleeping_bag",
    "sleeping mat": "mat",
    "stove": "stove",
    "notebook": "notebook",
    "letter set": "letters",
    "pen": "pen",
}
#: The motif of a category, for names that say nothing.
_CATEGORIES: Mapping[str, str] = {
    "Chairs and stools": "chair",
    "Dining tables": "table",
    "Sofas": "sofa",
    "Storage": "bookcase",
    "Beds": "bed",
    "Cookware": "pot",
    "Knives": "knife",
    "Tableware": "plate",
    "Coffee and tea": "cup",
    "Table lamps": "table_lamp",
    "Floor lamps": "floor_lamp",
    "Pendant lamps": "pendant",
    "Bedding": "pillow",
    "Rugs": "rug",
    "Cushions and throws": "cushion",
    "Bathroom": "folded",
    "Garden furniture": "bench",
    "Garden tools": "spade",
    "Tents": "tent",
    "Sleeping bags": "sleeping_bag",
    "Camp kitchen": "stove",
    "Desks": "desk",
    "Stationery": "notebook",
}
#: The colours and materials of the sample products. What comes first counts, so black ash is black.
_COLOURS: Mapping[str, str] = {
    "black": "#3a3c42",
    "white": "#efece4",
    "sand": "#d3bb93",
    "moss green": "#74824f",
    "rust": "#b4552f",
    "charcoal": "#4b4f56",
    "clay": "#bb7c60",
    "sage": "#9bb093",
    "indigo": "#43538a",
    "cream": "#eadcbc",
    "sea blue": "#3f8496",
    "granite": "#83868c",
    "ochre": "#cf9c3c",
    "forest green": "#33654a",
    "brick red": "#a84a36",
    "slate": "#5f6d77",
    "oak": "#c79f66",
    "walnut": "#7a5640",
    "ash": "#d6bf98",
    "pine": "#dcb77a",
    "brass": "#c9a14a",
    "steel": "#9fa8b0",
}
#: For a product that states none.
_OTHER_COLOURS = ("#c2794f", "#4f7a8a", "#8a9a5b", "#b7925a", "#7a6a8f", "#a65f5f", "#5c7f70", "#c49a6c")


def motif_of(name: str, category: str | None = None) -> str:
    """The motif that shows a sample product, by its name up to a comma, else by its category; never none."""
    said = f" {name.partition(',')[0].lower()} "
    found = next((motif for words, motif in _WORDS.items() if f" {words} " in said), None)
    return found or _CATEGORIES.get(category or "", NEUTRAL)


def colour_of(name: str, *values: Mapping[str, Any]) -> str:
    """The colour of a sample product as ``#rrggbb``, by its attributes and options, else by its name.

    Those that state no colour, no material and nothing in their name have one that their first word decides.
    """
    stated = [str(some[code]) for code in ("colour", "material") for some in values if code in some]
    said = next((each for each in stated if each in _COLOURS), f" {name.lower()} ".replace(",", " ").replace("-", " "))
    found = next((colour for word, colour in _COLOURS.items() if word == said or f" {word} " in said), None)
    return found or _OTHER_COLOURS[zlib.crc32(name.partition(" ")[0].encode()) % len(_OTHER_COLOURS)]


def draw(name: str, *, colour: str | None, motif: str, size: tuple[int, int] = SIZE) -> bytes:
    """Draw a product as a WebP of this size in pixels.

    ``colour`` is ``#rrggbb``, or None for what `colour_of` finds in the name; ``motif`` is what `motif_of` gives, and
    an unknown one is the neutral one. The name decides which way the motif looks.
    """
    main = _moderate(_parse(colour or colour_of(name)))
    shapes = MOTIFS.get(motif, MOTIFS[NEUTRAL])
    large = (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING)
    backdrop = _draw_backdrop(size, main, shapes).resize(size, Image.Resampling.BICUBIC)
    picture = backdrop.resize(large, Image.Resampling.NEAREST)
    _Pen(picture).draw(shapes, _palette_of(main))
    picture = picture.reduce(_SUPERSAMPLING)
    if zlib.crc32(name.encode()) & 1:
        picture = ImageOps.mirror(picture)
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=_QUALITY, method=2)
    return stream.getvalue()


class _Pen:
    """Draws shapes on an image, with the canvas in its middle."""

    def __init__(self, image: Image.Image) -> None:
        self._draw = ImageDraw.Draw(image)
        self._scale = min(image.width / CANVAS[0], image.height / CANVAS[1])
        self._left = (image.width - CANVAS[0] * self._scale) / 2
        self._top = (image.height - CANVAS[1] * self._scale) / 2

    def draw(self, shapes: tuple[Shape, ...], palette: Mapping[Shade, Any]) -> None:
        """Draw the shapes, each over those before it."""
        for shape in shapes:
            self._draw_shape(shape, palette[shape.shade])

    def _draw_shape(self, shape: Shape, fill: Any) -> None:
        match shape:
            case Area(points):
                self._draw.polygon(list(self._places(points)), fill)
            case Line(points, _, width):
                self._draw_line(list(self._places(points)), fill, width * self._scale)
            case Box(radius=radius):
                self._draw.rounded_rectangle(self._corners(shape), radius * self._scale, fill)
            case Oval():
                self._draw.ellipse(self._corners(shape), fill)
            case Pie(start=start, end=end):
                self._draw.pieslice(self._corners(shape), start, end, fill)
            case Arc(start=start, end=end, width=width):
                self._draw.arc(self._corners(shape), start, end, fill, round(width * self._scale))

    def _draw_line(self, places: list[tuple[float, float]], fill: Any, width: float) -> None:
        self._draw.line(places, fill, round(width), joint="curve")
        for x, y in (places[0], places[-1]):
            self._draw.circle((x, y), width / 2, fill)

    def _corners(self, shape: Box | Oval | Pie | Arc) -> tuple[float, float, float, float]:
        (left, top), (right, bottom) = self._places(((shape.left, shape.top), (shape.right, shape.bottom)))
        return left, top, right, bottom

    def _places(self, points: tuple[tuple[float, float], ...]) -> Iterator[tuple[float, float]]:
        return ((self._left + x * self._scale, self._top + y * self._scale) for x, y in points)


def _draw_backdrop(size: tuple[int, int], main: _Colour, shapes: tuple[Shape, ...]) -> Image.Image:
    """A wall that is lit from above in a tint of the colour, and the shadow of the motif on it."""
    small = (max(1, size[0] // _BACKDROP_PART), max(1, size[1] // _BACKDROP_PART))
    wall = _tint_of(main)
    upper, lower = Image.new("RGB", small, _mix(wall, _WHITE, 0.28)), Image.new("RGB", small, _mix(wall, _INK, 0.07))
    backdrop = Image.composite(lower, upper, Image.linear_gradient("L").resize(small))
    light = ImageOps.invert(Image.radial_gradient("L")).resize(small).point([value * 7 // 10 for value in range(256)])
    backdrop.paste(_mix(wall, _WHITE, 0.7), mask=light)
    shadow = Image.new("L", small)
    _Pen(shadow).draw(shapes, dict.fromkeys(Shade, 92))
    unit = small[0] / CANVAS[0]
    blurred = shadow.filter(ImageFilter.GaussianBlur(7 * unit))
    backdrop.paste(_mix(_mix(wall, main, 0.4), _INK, 0.72), (round(6 * unit), round(10 * unit)), blurred)
    return backdrop


def _palette_of(main: _Colour) -> Mapping[Shade, _Colour]:
    return {
        **_MATERIALS,
        Shade.MAIN: main,
        Shade.DARK: _mix(main, _INK, 0.17),
        Shade.DEEP: _mix(main, _INK, 0.42),
        Shade.LIGHT: _mix(main, _WHITE, 0.2),
        Shade.PALE: _mix(main, _WHITE, 0.52),
    }


def _tint_of(main: _Colour) -> _Colour:
    """The wall behind a product: pale, but darker than a product that is pale itself."""
    return _mix(main, (128, 138, 146), 0.5) if _lightness(main) > 200 else _mix(main, (244, 241, 236), 0.78)


def _moderate(colour: _Colour) -> _Colour:
    """The colour with room for darker and lighter shades of it."""
    if _lightness(colour) < 60:
        return _mix(colour, _WHITE, 0.14)
    return _mix(colour, _INK, 0.05) if _lightness(colour) > 235 else colour


def _lightness(colour: _Colour) -> float:
    """The luma of ITU-R BT.601, from 0 to 255."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _mix(one: _Colour, other: _Colour, share: float) -> _Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _parse(colour: str) -> _Colour:
    red, green, blue = ImageColor.getrgb(colour)[:3]
    return red, green, blue
