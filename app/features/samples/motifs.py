"""The motifs of sample pictures, as flat shapes on a canvas of 400 x 300, from the rearmost to the foremost."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import pi, sin

#: The units of the canvas, which has its origin at the upper left; what stands does so at 240.
CANVAS = (400, 300)


class Shade(StrEnum):
    """What a shape is painted with: the colour of the product, darker or lighter, or a material of its own."""

    MAIN = "main"
    DARK = "dark"
    DEEP = "deep"
    LIGHT = "light"
    PALE = "pale"
    WOOD = "wood"
    STEEL = "steel"
    PAPER = "paper"
    GLOW = "glow"
    FLAME = "flame"


@dataclass(frozen=True)
class Box:
    """A rectangle by two corners, with round corners of this radius."""

    left: float
    top: float
    right: float
    bottom: float
    shade: Shade = Shade.MAIN
    radius: float = 0


@dataclass(frozen=True)
class Oval:
    """An ellipse by the corners of what encloses it."""

    left: float
    top: float
    right: float
    bottom: float
    shade: Shade = Shade.MAIN


@dataclass(frozen=True)
class Pie:
    """The part of an ellipse between two angles, in degrees clockwise from the right."""

    left: float
    top: float
    right: float
    bottom: float
    start: float
    end: float
    shade: Shade = Shade.MAIN


@dataclass(frozen=True)
class Arc:
    """The line of a `Pie` along its ellipse, of this width."""

    left: float
    top: float
    right: float
    bottom: float
    start: float
    end: float
    shade: Shade = Shade.MAIN
    width: float = 6


@dataclass(frozen=True)
class Area:
    """A polygon."""

    points: tuple[tuple[float, float], ...]
    shade: Shade = Shade.MAIN


@dataclass(frozen=True)
class Line:
    """A line through points, of this width, with round ends."""

    points: tuple[tuple[float, float], ...]
    shade: Shade = Shade.MAIN
    width: float = 6


Shape = Box | Oval | Pie | Arc | Area | Line


def _filled(left: float, top: float, right: float, bottom: float) -> tuple[tuple[float, float], ...]:
    """The outline of what is stuffed: its corners stand out, and its sides bend inwards."""
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    middle = ((left + right) / 2, (top + bottom) / 2)
    points = []
    for (x, y), (next_x, next_y) in zip(corners, corners[1:] + corners[:1], strict=True):
        for step in range(12):
            share, bend = step / 12, 0.11 * sin(pi * step / 12)
            along_x, along_y = x + (next_x - x) * share, y + (next_y - y) * share
            is_level = y == next_y
            points.append(
                (along_x, along_y + (middle[1] - along_y) * bend)
                if is_level
                else (along_x + (middle[0] - along_x) * bend, along_y)
            )
    return tuple(points)


#: The motif of what no other fits: a parcel.
NEUTRAL = "parcel"

MOTIFS: Mapping[str, tuple[Shape, ...]] = {
    NEUTRAL: (
        Area(((120, 110), (200, 76), (280, 110), (200, 146)), Shade.PALE),
        Area(((120, 110), (200, 146), (200, 240), (120, 202))),
        Area(((200, 146), (280, 110), (280, 202), (200, 240)), Shade.DARK),
        Area(((152, 96), (168, 90), (250, 124), (250, 148), (234, 155), (234, 131)), Shade.LIGHT),
    ),
    "chair": (
        Line(((246, 168), (258, 238)), Shade.DEEP, 8),
        Line(((168, 168), (158, 238)), Shade.DEEP, 8),
        Line(((166, 72), (168, 160)), Shade.DARK, 9),
        Line(((236, 72), (234, 160)), Shade.DARK, 9),
        Box(152, 62, 248, 96, Shade.MAIN, 14),
        Box(158, 112, 244, 128, Shade.LIGHT, 8),
        Box(146, 156, 258, 176, Shade.MAIN, 10),
        Line(((154, 176), (140, 240)), Shade.DARK, 9),
        Line(((250, 176), (268, 240)), Shade.DARK, 9),
    ),
    "armchair": (
        Line(((150, 214), (142, 240)), Shade.WOOD, 8),
        Line(((250, 214), (258, 240)), Shade.WOOD, 8),
        Box(140, 74, 260, 190, Shade.DARK, 34),
        Box(152, 84, 248, 170, Shade.MAIN, 26),
        Box(150, 158, 250, 202, Shade.LIGHT, 12),
        Box(116, 130, 154, 218, Shade.MAIN, 18),
        Box(246, 130, 284, 218, Shade.MAIN, 18),
        Box(130, 194, 270, 220, Shade.DARK, 10),
    ),
    "rocking_chair": (
        Line(((166, 60), (150, 166)), Shade.DARK, 9),
        Line(((184, 62), (170, 164)), Shade.LIGHT, 6),
        Line(((202, 64), (190, 164)), Shade.LIGHT, 6),
        Line(((220, 66), (212, 166)), Shade.DARK, 9),
        Box(158, 54, 230, 76, Shade.MAIN, 10),
        Line(((216, 128), (268, 128), (262, 166)), Shade.DARK, 8),
        Box(144, 158, 270, 176, Shade.MAIN, 9),
        Line(((158, 176), (148, 226)), Shade.DARK, 9),
        Line(((254, 176), (262, 226)), Shade.DARK, 9),
        Arc(82, 60, 322, 240, 48, 132, Shade.DEEP, 9),
    ),
    "stool": (
        Line(((170, 104), (146, 240)), Shade.DARK, 9),
        Line(((230, 104), (254, 240)), Shade.DARK, 9),
        Line(((190, 104), (182, 240)), Shade.DEEP, 8),
        Line(((210, 104), (218, 240)), Shade.DEEP, 8),
        Line(((156, 194), (244, 194)), Shade.STEEL, 6),
        Box(146, 86, 254, 110, Shade.MAIN, 12),
        Box(146, 86, 254, 96, Shade.LIGHT, 5),
    ),
    "deck_chair": (
        Line(((120, 78), (276, 238)), Shade.WOOD, 8),
        Line(((256, 96), (150, 238)), Shade.WOOD, 8),
        Area(((110, 72), (140, 62), (188, 142), (270, 176), (262, 196), (172, 172))),
        Area(((118, 70), (126, 67), (178, 150), (266, 184), (264, 190), (174, 160)), Shade.LIGHT),
        Line(((98, 240), (166, 240)), Shade.WOOD, 8),
        Line(((248, 240), (292, 240)), Shade.WOOD, 8),
    ),
    "bench": (
        Box(92, 100, 308, 114, Shade.MAIN, 5),
        Box(92, 122, 308, 136, Shade.LIGHT, 5),
        Box(92, 144, 308, 158, Shade.MAIN, 5),
        Line(((110, 94), (110, 240)), Shade.DARK, 10),
        Line(((290, 94), (290, 240)), Shade.DARK, 10),
        Line(((92, 156), (92, 240)), Shade.DARK, 10),
        Line(((308, 156), (308, 240)), Shade.DARK, 10),
        Box(78, 176, 322, 194, Shade.LIGHT, 6),
        Line(((82, 152), (116, 152)), Shade.MAIN, 9),
        Line(((284, 152), (318, 152)), Shade.MAIN, 9),
    ),
    "table": (
        Line(((126, 142), (136, 222)), Shade.DEEP, 9),
        Line(((274, 142), (264, 222)), Shade.DEEP, 9),
        Box(104, 138, 296, 156, Shade.DARK, 4),
        Line(((104, 144), (90, 240)), Shade.DARK, 12),
        Line(((296, 144), (310, 240)), Shade.DARK, 12),
        Box(70, 122, 330, 142, Shade.MAIN, 9),
        Box(70, 122, 330, 130, Shade.LIGHT, 4),
    ),
    "desk": (
        Line(((106, 138), (94, 240)), Shade.DARK, 9),
        Line(((294, 138), (306, 240)), Shade.DARK, 9),
        Box(190, 136, 292, 168, Shade.LIGHT, 5),
        Line(((230, 152), (252, 152)), Shade.DEEP, 5),
        Box(76, 122, 324, 140, Shade.MAIN, 7),
        Box(108, 112, 158, 122, Shade.PAPER, 3),
        Box(114, 103, 152, 113, Shade.DARK, 3),
        Box(252, 98, 270, 122, Shade.STEEL, 4),
        Line(((257, 100), (252, 76)), Shade.WOOD, 4),
        Line(((264, 100), (268, 80)), Shade.FLAME, 4),
    ),
    "monitor_stand": (
        Box(128, 66, 272, 152, Shade.DEEP, 8),
        Box(135, 73, 265, 145, Shade.PALE, 4),
        Box(192, 150, 208, 178, Shade.STEEL),
        Box(168, 174, 232, 182, Shade.STEEL, 4),
        Box(96, 182, 304, 198, Shade.MAIN, 6),
        Box(110, 198, 124, 240, Shade.DARK, 3),
        Box(276, 198, 290, 240, Shade.DARK, 3),
        Box(140, 226, 260, 238, Shade.PAPER, 5),
    ),
    "sofa": (
        Line(((98, 216), (92, 240)), Shade.WOOD, 9),
        Line(((302, 216), (308, 240)), Shade.WOOD, 9),
        Box(84, 96, 316, 206, Shade.DARK, 24),
        Box(96, 104, 198, 182, Shade.MAIN, 18),
        Box(202, 104, 304, 182, Shade.MAIN, 18),
        Box(94, 162, 199, 200, Shade.LIGHT, 10),
        Box(201, 162, 306, 200, Shade.LIGHT, 10),
        Box(62, 134, 102, 220, Shade.MAIN, 18),
        Box(298, 134, 338, 220, Shade.MAIN, 18),
        Box(84, 194, 316, 222, Shade.DARK, 8),
    ),
    "footstool": (
        Line(((142, 208), (134, 240)), Shade.WOOD, 9),
        Line(((258, 208), (266, 240)), Shade.WOOD, 9),
        Box(116, 156, 284, 216, Shade.DARK, 16),
        Box(112, 136, 288, 184, Shade.MAIN, 20),
        Box(124, 142, 276, 156, Shade.LIGHT, 7),
    ),
    "bookcase": (
        Box(132, 42, 268, 240, Shade.MAIN, 5),
        Box(142, 52, 258, 100, Shade.DEEP),
        Box(142, 108, 258, 162, Shade.DEEP),
        Box(142, 170, 258, 230, Shade.DEEP),
        *(Box(146, 62, 156, 100, Shade.PALE), Box(157, 58, 170, 100, Shade.LIGHT), Box(171, 66, 180, 100, Shade.PAPER)),
        Area(((186, 100), (196, 64), (205, 67), (196, 100)), Shade.FLAME),
        Oval(212, 74, 244, 100, Shade.PALE),
        Oval(160, 130, 192, 162, Shade.PAPER),
        *(
            Box(208, 118, 218, 162, Shade.LIGHT),
            Box(219, 124, 232, 162, Shade.PALE),
            Box(233, 116, 243, 162, Shade.FLAME),
        ),
        *(
            Box(148, 182, 162, 230, Shade.PAPER),
            Box(163, 188, 174, 230, Shade.LIGHT),
            Box(175, 180, 184, 230, Shade.PALE),
        ),
        Box(200, 204, 250, 230, Shade.WOOD, 4),
    ),
    "sideboard": (
        Line(((104, 214), (98, 240)), Shade.DEEP, 8),
        Line(((296, 214), (302, 240)), Shade.DEEP, 8),
        Box(74, 134, 326, 218, Shade.MAIN, 7),
        Box(82, 142, 158, 210, Shade.LIGHT, 3),
        Box(162, 142, 238, 210, Shade.PALE, 3),
        Box(242, 142, 318, 210, Shade.LIGHT, 3),
        *(
            Oval(146, 172, 154, 180, Shade.DEEP),
            Oval(196, 172, 204, 180, Shade.DEEP),
            Oval(246, 172, 254, 180, Shade.DEEP),
        ),
        Box(104, 112, 122, 134, Shade.PAPER, 6),
        *(Line(((110, 112), (100, 84)), Shade.WOOD, 3), Line(((115, 112), (122, 80)), Shade.WOOD, 3)),
        *(Oval(92, 70, 108, 88, Shade.DARK), Oval(115, 64, 131, 84, Shade.DARK)),
        Box(240, 122, 300, 134, Shade.DARK, 3),
    ),
    "drawers": (
        Line(((140, 224), (136, 240)), Shade.DEEP, 8),
        Line(((260, 224), (264, 240)), Shade.DEEP, 8),
        Box(120, 76, 280, 228, Shade.MAIN, 6),
        *(Box(130, 86, 270, 116, Shade.LIGHT, 3), Box(130, 122, 270, 152, Shade.LIGHT, 3)),
        *(Box(130, 158, 270, 188, Shade.LIGHT, 3), Box(130, 194, 270, 220, Shade.LIGHT, 3)),
        *(Line(((188, 101), (212, 101)), Shade.DEEP, 5), Line(((188, 137), (212, 137)), Shade.DEEP, 5)),
        *(Line(((188, 173), (212, 173)), Shade.DEEP, 5), Line(((188, 207), (212, 207)), Shade.DEEP, 5)),
        Box(114, 70, 286, 82, Shade.DARK, 4),
    ),
    "wall_shelf": (
        Box(92, 160, 308, 178, Shade.MAIN, 4),
        Box(92, 172, 308, 178, Shade.DARK, 3),
        *(
            Box(112, 106, 128, 160, Shade.DARK),
            Box(129, 98, 148, 160, Shade.LIGHT),
            Box(149, 110, 162, 160, Shade.PAPER),
        ),
        Area(((168, 160), (186, 106), (199, 110), (184, 160)), Shade.FLAME),
        Box(236, 134, 276, 160, Shade.PAPER, 7),
        *(Line(((250, 134), (238, 104)), Shade.WOOD, 4), Line(((258, 134), (266, 98)), Shade.WOOD, 4)),
        *(
            Oval(226, 88, 248, 112, Shade.DEEP),
            Oval(256, 78, 280, 106, Shade.DEEP),
            Oval(244, 94, 262, 116, Shade.DARK),
        ),
    ),
    "bed": (
        Box(72, 96, 86, 240, Shade.DEEP, 6),
        Box(318, 150, 330, 240, Shade.DEEP, 6),
        Box(78, 100, 112, 206, Shade.DARK, 10),
        Box(84, 186, 324, 216, Shade.MAIN, 5),
        Box(92, 160, 320, 192, Shade.PAPER, 12),
        Box(98, 140, 158, 172, Shade.PALE, 14),
        Box(150, 156, 324, 196, Shade.LIGHT, 12),
        Box(150, 156, 176, 196, Shade.PALE, 10),
    ),
    "pot": (
        *(Box(92, 150, 130, 164, Shade.DEEP, 7), Box(270, 150, 308, 164, Shade.DEEP, 7)),
        Box(116, 132, 284, 226, Shade.MAIN, 26),
        Box(116, 130, 284, 170, Shade.MAIN, 4),
        Box(130, 146, 144, 206, Shade.LIGHT, 7),
        Pie(112, 92, 288, 172, 180, 360, Shade.DARK),
        Box(108, 128, 292, 140, Shade.DEEP, 6),
        Box(186, 78, 214, 96, Shade.DEEP, 7),
    ),
    "pan": (
        Line(((250, 176), (344, 120)), Shade.DEEP, 16),
        Line(((300, 146), (344, 120)), Shade.WOOD, 16),
        Oval(70, 84, 262, 248, Shade.DARK),
        Oval(78, 90, 254, 240, Shade.MAIN),
        Oval(92, 102, 240, 228, Shade.DEEP),
        Arc(104, 112, 228, 218, 190, 250, Shade.LIGHT, 5),
    ),
    "saucepan": (
        Line(((262, 158), (352, 146)), Shade.DEEP, 14),
        Box(108, 130, 268, 226, Shade.MAIN, 18),
        Box(108, 128, 268, 160, Shade.MAIN, 2),
        Box(122, 146, 136, 208, Shade.LIGHT, 7),
        Box(100, 124, 276, 138, Shade.DARK, 7),
    ),
    "knife": (
        Area(((54, 170), (96, 190), (250, 190), (250, 132), (150, 136), (92, 148)), Shade.STEEL),
        Area(((54, 170), (96, 190), (250, 190), (250, 172), (110, 176)), Shade.PAPER),
        Box(246, 128, 262, 192, Shade.DEEP, 4),
        Box(258, 132, 350, 172, Shade.WOOD, 16),
        *(Oval(282, 148, 290, 156, Shade.STEEL), Oval(318, 148, 326, 156, Shade.STEEL)),
    ),
    "plate": (
        Oval(94, 54, 306, 254, Shade.DARK),
        Oval(94, 48, 306, 248, Shade.MAIN),
        Oval(126, 78, 274, 218, Shade.LIGHT),
        Oval(134, 86, 266, 210, Shade.PALE),
        Arc(106, 60, 294, 236, 190, 250, Shade.PALE, 5),
    ),
    "dish": (
        Oval(60, 86, 340, 236, Shade.DARK),
        Oval(60, 78, 340, 228, Shade.MAIN),
        Oval(92, 98, 308, 208, Shade.LIGHT),
        Oval(102, 106, 298, 202, Shade.PALE),
        Arc(76, 90, 324, 216, 190, 250, Shade.PALE, 5),
    ),
    "bowl": (
        Box(164, 214, 236, 232, Shade.DEEP, 5),
        Pie(96, 26, 304, 224, 0, 180, Shade.MAIN),
        Pie(96, 26, 304, 224, 100, 168, Shade.LIGHT),
        Pie(108, 34, 292, 214, 0, 180, Shade.MAIN),
        Oval(96, 104, 304, 144, Shade.DARK),
        Oval(106, 109, 294, 139, Shade.PALE),
    ),
    "mug": (
        Arc(208, 112, 308, 196, 270, 90, Shade.DARK, 16),
        Box(112, 84, 262, 234, Shade.MAIN, 24),
        Box(112, 84, 262, 130, Shade.MAIN, 6),
        Box(126, 108, 142, 212, Shade.LIGHT, 8),
        Oval(112, 72, 262, 104, Shade.DARK),
        Oval(120, 76, 254, 101, Shade.DEEP),
    ),
    "cup": (
        Oval(100, 214, 300, 244, Shade.DARK),
        Oval(104, 210, 296, 236, Shade.LIGHT),
        Arc(210, 128, 290, 190, 270, 110, Shade.DARK, 11),
        Pie(132, 30, 258, 226, 0, 180, Shade.MAIN),
        Pie(132, 30, 258, 226, 105, 165, Shade.LIGHT),
        Pie(140, 34, 250, 218, 0, 180, Shade.MAIN),
        Oval(132, 114, 258, 142, Shade.DARK),
        Oval(139, 117, 251, 139, Shade.DEEP),
    ),
    "glass": (
        Area(((138, 70), (262, 70), (246, 238), (154, 238)), Shade.PALE),
        Area(((145, 132), (255, 132), (246, 232), (154, 232)), Shade.LIGHT),
        Oval(138, 60, 262, 82, Shade.PAPER),
        Oval(144, 122, 256, 142, Shade.MAIN),
        Line(((156, 94), (166, 220)), Shade.PAPER, 7),
    ),
    "pour_over": (
        Arc(232, 128, 318, 184, 270, 110, Shade.DARK, 11),
        Box(146, 216, 254, 234, Shade.DARK, 7),
        Pie(116, 22, 284, 222, 0, 180, Shade.MAIN),
        Area(((132, 96), (268, 96), (216, 202), (184, 202))),
        Area(((132, 96), (160, 96), (196, 202), (184, 202)), Shade.LIGHT),
        Area(((128, 82), (272, 82), (262, 118), (138, 118)), Shade.PAPER),
        Box(120, 108, 280, 122, Shade.DARK, 6),
    ),
    "teapot": (
        Arc(216, 118, 330, 206, 245, 115, Shade.DARK, 13),
        Area(((132, 178), (76, 108), (62, 112), (64, 124), (84, 132), (124, 218)), Shade.DARK),
        Oval(112, 100, 288, 238, Shade.MAIN),
        Arc(126, 114, 274, 224, 150, 215, Shade.LIGHT, 8),
        Box(160, 92, 240, 108, Shade.DARK, 8),
        Oval(188, 72, 212, 96, Shade.DEEP),
        Box(158, 228, 242, 240, Shade.DARK, 5),
    ),
    "jug": (
        Arc(204, 106, 306, 206, 270, 90, Shade.DARK, 13),
        Area(
            (
                (136, 84),
                (116, 72),
                (142, 66),
                (256, 78),
                (250, 120),
                (266, 222),
                (254, 238),
                (146, 238),
                (134, 222),
                (150, 120),
            )
        ),
        Area(((152, 92), (166, 96), (162, 220), (148, 220), (160, 120)), Shade.LIGHT),
        Area(((116, 72), (142, 66), (256, 78), (140, 88)), Shade.DEEP),
    ),
    "table_lamp": (
        Box(194, 146, 206, 226, Shade.STEEL),
        Oval(168, 152, 232, 226, Shade.DARK),
        Arc(176, 160, 224, 218, 150, 220, Shade.LIGHT, 6),
        Box(148, 222, 252, 240, Shade.DEEP, 8),
        Area(((160, 58), (240, 58), (272, 150), (128, 150)), Shade.GLOW),
        Area(((160, 58), (178, 58), (158, 150), (128, 150)), Shade.PAPER),
        Box(156, 52, 244, 62, Shade.MAIN, 4),
        Box(124, 144, 276, 154, Shade.MAIN, 4),
    ),
    "desk_lamp": (
        Line(((148, 228), (126, 146)), Shade.MAIN, 9),
        Line(((126, 146), (228, 84)), Shade.DARK, 9),
        Oval(116, 136, 136, 156, Shade.DEEP),
        Area(((212, 72), (242, 60), (296, 118), (224, 156)), Shade.MAIN),
        Area(((224, 156), (296, 118), (286, 134), (238, 160)), Shade.GLOW),
        Oval(214, 62, 242, 90, Shade.DEEP),
        Box(98, 224, 200, 240, Shade.DEEP, 8),
    ),
    "floor_lamp": (
        Line(((200, 96), (200, 236)), Shade.DARK, 7),
        Line(((200, 130), (154, 240)), Shade.MAIN, 8),
        Line(((200, 130), (246, 240)), Shade.MAIN, 8),
        Area(((156, 34), (244, 34), (262, 112), (138, 112)), Shade.GLOW),
        Area(((156, 34), (172, 34), (160, 112), (138, 112)), Shade.PAPER),
        Box(134, 106, 266, 115, Shade.MAIN, 4),
        Box(152, 29, 248, 38, Shade.MAIN, 4),
    ),
    "arc_lamp": (
        Arc(112, 46, 290, 250, 180, 318, Shade.MAIN, 8),
        Line(((112, 148), (112, 232)), Shade.MAIN, 8),
        Box(84, 222, 142, 242, Shade.PAPER, 6),
        Box(84, 236, 142, 242, Shade.STEEL, 3),
        Pie(214, 76, 318, 172, 180, 360, Shade.DARK),
        Oval(228, 116, 304, 136, Shade.GLOW),
    ),
    "pendant": (
        Line(((200, -300), (200, 90)), Shade.DEEP, 4),
        Box(188, 84, 212, 108, Shade.DEEP, 5),
        Pie(112, 98, 288, 274, 180, 360, Shade.MAIN),
        Pie(112, 98, 288, 274, 188, 222, Shade.LIGHT),
        Oval(112, 172, 288, 204, Shade.DARK),
        Oval(128, 177, 272, 201, Shade.GLOW),
    ),
    "cluster": (
        *(Line(((110, -300), (110, 108)), Shade.DEEP, 3), Line(((155, -300), (155, 168)), Shade.DEEP, 3)),
        *(Line(((200, -300), (200, 78)), Shade.DEEP, 3), Line(((245, -300), (245, 150)), Shade.DEEP, 3)),
        Line(((290, -300), (290, 112)), Shade.DEEP, 3),
        *(
            Box(100, 100, 120, 118, Shade.MAIN, 4),
            Box(145, 160, 165, 178, Shade.MAIN, 4),
            Box(190, 70, 210, 88, Shade.MAIN, 4),
        ),
        *(Box(235, 142, 255, 160, Shade.MAIN, 4), Box(280, 104, 300, 122, Shade.MAIN, 4)),
        *(
            Oval(88, 114, 132, 158, Shade.GLOW),
            Oval(133, 174, 177, 218, Shade.GLOW),
            Oval(178, 84, 222, 128, Shade.GLOW),
        ),
        *(Oval(223, 156, 267, 200, Shade.GLOW), Oval(268, 118, 312, 162, Shade.GLOW)),
    ),
    "globe": (
        Line(((200, -300), (200, 78)), Shade.DEEP, 4),
        Box(184, 72, 216, 96, Shade.MAIN, 6),
        Oval(128, 90, 272, 234, Shade.GLOW),
        Arc(142, 104, 258, 220, 165, 240, Shade.PAPER, 9),
    ),
    "folded": (
        Box(104, 196, 296, 238, Shade.DARK, 16),
        Box(104, 152, 296, 200, Shade.MAIN, 18),
        Box(110, 108, 290, 156, Shade.LIGHT, 18),
        *(Line(((124, 218), (278, 218)), Shade.DEEP, 3), Line(((124, 176), (278, 176)), Shade.DARK, 3)),
        Line(((130, 132), (272, 132)), Shade.MAIN, 3),
        *(Arc(98, 200, 130, 234, 90, 270, Shade.DEEP, 3), Arc(98, 156, 130, 196, 90, 270, Shade.DARK, 3)),
    ),
    "pillow": (
        Area(_filled(84, 90, 316, 226), Shade.DARK),
        Area(_filled(92, 96, 308, 220)),
        *(Line(((106, 108), (140, 126)), Shade.DARK, 3), Line(((294, 108), (260, 126)), Shade.DARK, 3)),
        *(Line(((106, 208), (140, 190)), Shade.DARK, 3), Line(((294, 208), (260, 190)), Shade.DARK, 3)),
        Arc(128, 120, 272, 240, 215, 325, Shade.LIGHT, 7),
    ),
    "cushion": (
        Area(_filled(112, 62, 288, 238), Shade.DEEP),
        Area(_filled(119, 69, 281, 231)),
        *(Line(((133, 83), (160, 110)), Shade.DARK, 3), Line(((267, 83), (240, 110)), Shade.DARK, 3)),
        *(Line(((133, 217), (160, 190)), Shade.DARK, 3), Line(((267, 217), (240, 190)), Shade.DARK, 3)),
        *(Line(((200, 92), (200, 132)), Shade.LIGHT, 5), Line(((200, 168), (200, 208)), Shade.LIGHT, 5)),
        *(Line(((142, 150), (182, 150)), Shade.LIGHT, 5), Line(((218, 150), (258, 150)), Shade.LIGHT, 5)),
        Oval(190, 140, 210, 160, Shade.DARK),
    ),
    "rug": (
        *(Line(((100 + 10 * step, 70), (100 + 10 * step, 230)), Shade.PAPER, 3) for step in range(21)),
        Box(92, 80, 308, 220, Shade.MAIN, 4),
        Box(104, 92, 296, 208, Shade.LIGHT, 2),
        Box(110, 98, 290, 202, Shade.MAIN, 2),
        Area(((200, 106), (276, 150), (200, 194), (124, 150)), Shade.PALE),
        Area(((200, 122), (250, 150), (200, 178), (150, 150)), Shade.DARK),
    ),
    "robe": (
        Area(((164, 58), (110, 90), (92, 188), (124, 196), (144, 132))),
        Area(((236, 58), (290, 90), (308, 188), (276, 196), (256, 132))),
        Area(((164, 56), (236, 56), (262, 92), (274, 244), (126, 244), (138, 92))),
        Area(((176, 56), (224, 56), (200, 140)), Shade.PAPER),
        *(Line(((172, 58), (200, 146), (200, 242)), Shade.LIGHT, 9), Line(((228, 58), (200, 146)), Shade.LIGHT, 9)),
        Line(((136, 150), (264, 150)), Shade.DARK, 9),
        Line(((206, 150), (218, 196)), Shade.DARK, 7),
        *(Box(142, 178, 180, 212, Shade.DARK, 4), Box(226, 178, 258, 212, Shade.DARK, 4)),
    ),
    "curtain": (
        Box(84, 58, 316, 68, Shade.STEEL, 5),
        *(Arc(98 + 26 * step, 54, 112 + 26 * step, 80, 0, 360, Shade.DEEP, 3) for step in range(8)),
        Box(94, 76, 306, 240, Shade.MAIN, 4),
        *(Box(104 + 36 * step, 76, 118 + 36 * step, 240, Shade.LIGHT, 6) for step in range(6)),
        *(Line(((98 + 36 * step, 84), (98 + 36 * step, 236)), Shade.DARK, 3) for step in range(6)),
    ),
    "spade": (
        Line(((200, 54), (200, 160)), Shade.WOOD, 11),
        Line(((176, 48), (224, 48)), Shade.DEEP, 12),
        Box(188, 140, 212, 170, Shade.DARK, 4),
        Area(((156, 160), (244, 160), (242, 214), (226, 238), (200, 252), (174, 238), (158, 214)), Shade.STEEL),
        Area(((200, 160), (244, 160), (242, 214), (226, 238), (200, 252)), Shade.DARK),
        Line(((158, 162), (242, 162)), Shade.DEEP, 6),
    ),
    "trowel": (
        Line(((128, 92), (190, 138)), Shade.MAIN, 22),
        Line(((190, 138), (216, 158)), Shade.DEEP, 9),
        Area(((208, 166), (226, 144), (290, 180), (314, 232), (262, 220)), Shade.STEEL),
        Area(((217, 155), (226, 144), (290, 180), (314, 232)), Shade.PAPER),
        Oval(122, 84, 134, 96, Shade.DEEP),
    ),
    "secateurs": (
        Line(((208, 132), (152, 236)), Shade.MAIN, 17),
        Line(((194, 132), (250, 236)), Shade.DARK, 17),
        Area(((186, 138), (212, 128), (246, 54), (222, 66)), Shade.STEEL),
        Area(((214, 138), (190, 130), (164, 78), (182, 70)), Shade.DEEP),
        Oval(188, 120, 214, 146, Shade.STEEL),
    ),
    "watering_can": (
        Arc(226, 108, 322, 216, 270, 90, Shade.DARK, 12),
        Line(((160, 200), (84, 118)), Shade.MAIN, 18),
        Area(((62, 122), (98, 92), (108, 104), (76, 136)), Shade.DEEP),
        Box(146, 120, 276, 238, Shade.MAIN, 12),
        Box(158, 136, 172, 220, Shade.LIGHT, 7),
        Arc(160, 74, 262, 168, 180, 360, Shade.DARK, 10),
        Box(140, 116, 282, 130, Shade.DARK, 6),
    ),
    "tent": (
        Area(((200, 74), (62, 240), (338, 240))),
        Area(((200, 74), (338, 240), (268, 240)), Shade.DARK),
        Area(((200, 74), (62, 240), (130, 240)), Shade.LIGHT),
        Area(((200, 112), (158, 240), (242, 240)), Shade.DEEP),
        Area(((200, 112), (242, 240), (258, 240), (212, 130)), Shade.PALE),
        Line(((200, 76), (196, 58)), Shade.WOOD, 5),
        *(Line(((62, 240), (44, 240)), Shade.WOOD, 4), Line(((338, 240), (356, 240)), Shade.WOOD, 4)),
    ),
    "tarp": (
        *(Line(((98, 240), (98, 118)), Shade.WOOD, 7), Line(((302, 240), (302, 118)), Shade.WOOD, 7)),
        *(Line(((98, 120), (58, 240)), Shade.PAPER, 3), Line(((302, 120), (342, 240)), Shade.PAPER, 3)),
        Area(((78, 132), (200, 68), (322, 132), (262, 138), (200, 112), (138, 138))),
        Area(((200, 68), (322, 132), (262, 138), (200, 112)), Shade.DARK),
    ),
    "sleeping_bag": (
        Box(124, 52, 276, 244, Shade.DARK, 66),
        Box(130, 58, 270, 238, Shade.MAIN, 60),
        Oval(152, 66, 248, 146, Shade.DEEP),
        Box(166, 84, 234, 124, Shade.PAPER, 18),
        *(Line(((140, 162), (260, 162)), Shade.LIGHT, 5), Line(((142, 186), (258, 186)), Shade.LIGHT, 5)),
        Line(((152, 210), (248, 210)), Shade.LIGHT, 5),
        Line(((254, 134), (250, 200)), Shade.PALE, 4),
    ),
    "mat": (
        Box(96, 152, 290, 236, Shade.MAIN, 40),
        Box(110, 166, 240, 180, Shade.LIGHT, 7),
        *(Box(150, 150, 162, 238, Shade.DEEP, 3), Box(210, 150, 222, 238, Shade.DEEP, 3)),
        Oval(236, 150, 312, 238, Shade.DARK),
        Arc(246, 162, 302, 226, 0, 300, Shade.PALE, 5),
        Arc(258, 176, 290, 212, 90, 400, Shade.PALE, 5),
    ),
    "stove": (
        Area(((170, 80), (186, 104), (200, 66), (214, 104), (232, 78), (226, 128), (174, 128)), Shade.FLAME),
        Area(((188, 112), (200, 90), (212, 112), (208, 128), (192, 128)), Shade.GLOW),
        *(Line(((200, 140), (142, 122)), Shade.STEEL, 7), Line(((200, 140), (258, 122)), Shade.STEEL, 7)),
        Box(176, 126, 224, 142, Shade.STEEL, 6),
        Box(190, 140, 210, 170, Shade.DEEP, 3),
        Line(((208, 154), (250, 154)), Shade.STEEL, 5),
        Box(146, 166, 254, 240, Shade.MAIN, 22),
        Box(146, 190, 254, 216, Shade.PALE),
    ),
    "notebook": (
        Box(134, 58, 272, 246, Shade.PAPER, 8),
        Box(126, 52, 266, 240, Shade.MAIN, 9),
        Box(126, 52, 148, 240, Shade.DARK, 9),
        Box(242, 52, 251, 240, Shade.DEEP),
        Box(166, 90, 228, 122, Shade.PAPER, 4),
        *(Line(((176, 101), (218, 101)), Shade.STEEL, 3), Line(((176, 111), (206, 111)), Shade.STEEL, 3)),
    ),
    "desk_pad": (
        Box(84, 82, 316, 232, Shade.DARK, 6),
        Box(84, 74, 316, 224, Shade.PAPER, 6),
        Box(84, 74, 316, 100, Shade.MAIN, 6),
        *(Line(((100 + 33 * step, 112), (100 + 33 * step, 212)), Shade.PALE, 2) for step in range(1, 7)),
        *(Line(((96, 118 + 20 * step), (304, 118 + 20 * step)), Shade.PALE, 2) for step in range(1, 5)),
        *(Oval(140, 142, 152, 154, Shade.FLAME), Oval(206, 162, 218, 174, Shade.MAIN)),
    ),
    "letters": (
        Box(122, 60, 262, 214, Shade.PAPER, 4),
        *(Line(((142, 84 + 16 * step), (242, 84 + 16 * step)), Shade.STEEL, 3) for step in range(4)),
        Box(94, 132, 306, 240, Shade.MAIN, 6),
        Area(((94, 138), (200, 206), (306, 138), (306, 134), (94, 134)), Shade.LIGHT),
        Line(((98, 138), (200, 204), (302, 138)), Shade.DARK, 3),
        Oval(186, 188, 214, 216, Shade.FLAME),
    ),
    "pen": (
        Line(((268, 78), (162, 184)), Shade.MAIN, 24),
        Line(((262, 78), (158, 182)), Shade.LIGHT, 6),
        Area(((150, 178), (168, 196), (124, 222)), Shade.STEEL),
        Line(((124, 222), (132, 214)), Shade.DEEP, 4),
        Line(((218, 132), (214, 128)), Shade.DEEP, 25),
        Line(((284, 76), (244, 122)), Shade.DARK, 6),
        Line(((70, 238), (250, 238)), Shade.STEEL, 3),
    ),
}
