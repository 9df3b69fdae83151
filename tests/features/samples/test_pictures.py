import io
from collections.abc import Mapping
from typing import Any

import pytest
from PIL import Image

from app.features.samples import pictures
from app.features.samples.motifs import CANVAS, MOTIFS, NEUTRAL, Area, Line, Shade
from app.features.samples.vocabulary import TREE, Shelf


def shelves(tree: Mapping[str, Any] = TREE) -> dict[str, Shelf]:
    found: dict[str, Shelf] = {}
    for name, child in tree.items():
        found |= {name: child} if isinstance(child, Shelf) else shelves(child)
    return found


def decode(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def pixel(content: bytes, place: tuple[int, int]) -> tuple[int, ...]:
    found = decode(content).convert("RGB").getpixel(place)
    assert isinstance(found, tuple)
    return found


class TestDraw:
    @pytest.mark.parametrize("motif", MOTIFS)
    def test_draws_every_motif_upon_the_backdrop(self, motif: str) -> None:
        drawn = decode(pictures.draw("a", colour="#3f8496", motif=motif, size=(120, 90))).convert("L")

        histogram = drawn.histogram()
        assert sum(histogram[:140]) > 60
        assert sum(histogram[190:]) > 2000

    def test_makes_a_webp_of_the_size_of_a_shop(self) -> None:
        drawn = decode(pictures.draw("Fern dinner plate", colour=None, motif="plate"))

        assert (drawn.format, drawn.size) == ("WEBP", (1200, 900))

    def test_gives_the_same_bytes_for_the_same_words(self) -> None:
        one, same = (pictures.draw("Heath mug", colour="#cf9c3c", motif="mug", size=(80, 60)) for _ in range(2))

        assert one == same

    def test_shows_the_colour_of_the_product(self) -> None:
        red, green, blue = pixel(pictures.draw("a", colour="#a84a36", motif=NEUTRAL, size=(200, 150)), (75, 100))

        assert red > 110
        assert red > green + 40
        assert red > blue + 40

    def test_sets_a_pale_product_apart_from_the_wall(self) -> None:
        drawn = pictures.draw("a", colour="#efece4", motif="plate", size=(200, 150))

        assert min(pixel(drawn, (100, 74))) > max(pixel(drawn, (10, 75))) + 20

    def test_looks_the_other_way_for_another_name(self) -> None:
        ways = {pictures.draw(name, colour="#a84a36", motif="mug", size=(80, 60)) for name in "abcdefgh"}

        assert len(ways) == 2

    def test_draws_the_parcel_for_an_unknown_motif(self) -> None:
        unknown, parcel = (pictures.draw("a", colour="#3f8496", motif=each, size=(80, 60)) for each in ("?", NEUTRAL))

        assert unknown == parcel

    @pytest.mark.parametrize("size", [(60, 90), (90, 30), (1, 1)])
    def test_fits_the_motif_into_any_size(self, size: tuple[int, int]) -> None:
        assert decode(pictures.draw("a", colour="#3f8496", motif="sofa", size=size)).size == size


class TestMotifs:
    @pytest.mark.parametrize("motif", MOTIFS)
    def test_lie_on_the_canvas(self, motif: str) -> None:
        for shape in MOTIFS[motif]:
            points = (
                shape.points
                if isinstance(shape, Area | Line)
                else ((shape.left, shape.top), (shape.right, shape.bottom))
            )
            assert all(0 <= x <= CANVAS[0] and y <= CANVAS[1] for x, y in points)
            assert shape.shade in Shade


class TestMotifOf:
    @pytest.mark.parametrize("category", shelves())
    def test_knows_every_product_of_the_vocabulary(self, category: str) -> None:
        for line in shelves()[category].lines:
            assert pictures.motif_of(line.name, category) in MOTIFS.keys() - {NEUTRAL}
        assert pictures.motif_of("Something", category) in MOTIFS.keys() - {NEUTRAL}

    @pytest.mark.parametrize(
        ("name", "motif"),
        [
            ("Elm rocking chair, oak", "rocking_chair"),
            ("Brekke armchair", "armchair"),
            ("Lark sofa bed", "sofa"),
            ("Plover desk lamp, matt black", "desk_lamp"),
            ("Linnet desk pad", "desk_pad"),
            ("Violet dome pendant", "pendant"),
            ("Quartz table lamp", "table_lamp"),
            ("Thistle cup, table", "cup"),
        ],
    )
    def test_reads_the_name(self, name: str, motif: str) -> None:
        assert pictures.motif_of(name) == motif

    def test_has_one_for_anything_else(self) -> None:
        assert pictures.motif_of("Spanner", "Spare parts") == NEUTRAL

    def test_uses_every_motif(self) -> None:
        used = {pictures.motif_of(line.name, name) for name, shelf in shelves().items() for line in shelf.lines}

        assert used | {NEUTRAL} == MOTIFS.keys()


class TestColourOf:
    def test_knows_every_colour_and_material_of_the_vocabulary(self) -> None:
        for shelf in shelves().values():
            for line in shelf.lines:
                for option in line.choice.options:
                    stated = {"colour", "material"} & option.attributes.keys()
                    found = pictures.colour_of("Xyz", option.attributes)
                    assert bool(stated) == (found != pictures.colour_of("Xyz"))

    @pytest.mark.parametrize(
        ("name", "values", "like"),
        [
            ("Juniper sofa", {"colour": "rust"}, "rust"),
            ("Alder chair", {"material": "ash", "colour": "black"}, "black"),
            ("Alder chair", {"material": "oak"}, "oak"),
            ("Heath mug, sea blue", {}, "sea blue"),
            ("Alder chair, black-stained ash", {}, "black"),
        ],
    )
    def test_prefers_what_is_stated(self, name: str, values: dict[str, str], like: str) -> None:
        assert pictures.colour_of(name, values) == pictures.colour_of("Xyz", {"colour": like})

    def test_looks_into_all_that_is_given(self) -> None:
        assert pictures.colour_of("A", {"seats": 4}, {"colour": "clay"}) == pictures.colour_of("B", {"colour": "clay"})

    def test_is_one_for_a_range_without_any(self) -> None:
        assert pictures.colour_of("Vale casserole, 20 cm") == pictures.colour_of("Vale saucepan, 28 cm")
