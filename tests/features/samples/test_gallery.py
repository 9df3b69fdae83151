"""What sample products show of pictures. They are not drawn here: rows of assets stand for them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from flask import Flask

from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.media import placing
from app.features.media.models import Asset, AssetStatus
from app.features.samples import gallery
from app.features.samples import service as samples
from app.features.samples.gallery import Drawing, Gallery
from app.features.samples.motifs import MOTIFS
from tests.conftest import Caller, body_of
from tests.rows import mappings_of

Hang = Callable[..., Gallery]


@pytest.fixture
def hang(app: Flask) -> Hang:
    """Make assets, with a status, for drawings."""

    def hang(drawings: Sequence[Drawing], **members: Any) -> Gallery:
        with app.app_context(), unit_of_work():
            return make_gallery(drawings, **members)

    return hang


def make_gallery(drawings: Sequence[Drawing], **members: Any) -> Gallery:
    """Add an asset for each of the drawings, within a unit of work; without a file."""
    assets = {drawing: _asset(number, **members) for number, drawing in enumerate(drawings)}
    db.session.add_all(assets.values())
    db.session.flush()
    return {drawing: asset.id for drawing, asset in assets.items()}


def _asset(number: int, **members: Any) -> Asset:
    source = {"file": f"{number:064x}-480.webp", "width": 480, "height": 360, "type": "image/webp"}
    known = {"sha256": f"{number:064x}", "media_type": "image/webp", "bytes": 1000, "width": 480, "height": 360}
    return Asset(**{**known, "status": AssetStatus.READY, "sources": [source], **members})


def load_demo(app: Flask, pictures: Gallery) -> None:
    with app.app_context(), unit_of_work():
        assert samples.load_demo(currency="EUR", pictures=pictures) is not None


def generate(app: Flask, numbers: range, pictures: Gallery, parents: int = 0) -> None:
    with app.app_context(), unit_of_work():
        shelves = samples.plant_tree()
        samples.generate_products(1, numbers, shelves, currency="EUR", parents=parents, pictures=pictures)


def images_by_placements(app: Flask) -> Mapping[int, Any]:
    """What the rows of products ought to have, by what the tables of media say."""
    products = mappings_of(app, "products")
    with app.app_context(), unit_of_work():
        placed = placing.find_placed_now([row["id"] for row in products])
        return {row["id"]: _image(placed.get(row["parent_id"] or row["id"], ()), row) for row in products}


def _image(placed: Sequence[Any], row: Mapping[str, Any]) -> Any:
    return placing.image_of_variant(placed, row["id"]) if row["parent_id"] else placing.image_of(placed)


class TestLoadDemo:
    def test_gives_each_product_a_picture_as_its_placements_say(self, app: Flask, hang: Hang) -> None:
        load_demo(app, hang(samples.demo_drawings()))

        images = {row["id"]: row["image"] for row in mappings_of(app, "products")}
        assert None not in images.values()
        assert images == images_by_placements(app)

    def test_writes_no_product_twice(self, app: Flask, hang: Hang) -> None:
        load_demo(app, hang(samples.demo_drawings()))

        assert {(row["version"], row["live"]) for row in mappings_of(app, "products")} == {(1, 0)}

    def test_gives_variants_of_a_colour_their_own(self, app: Flask, hang: Hang) -> None:
        pictures = hang(samples.demo_drawings())
        load_demo(app, pictures)

        variants = [row for row in mappings_of(app, "products") if row["sku"].startswith("SOF-09-")]
        assert len({row["image"]["media_id"] for row in variants}) == len(variants) == 4
        assert [row["image"]["alt"].rpartition(" in ")[2] for row in variants] == [
            row["options"]["colour"] for row in variants
        ]

    def test_gives_some_two_or_more(self, app: Flask, hang: Hang) -> None:
        load_demo(app, hang(samples.demo_drawings()))

        shown = mappings_of(app, "media_placements")
        assert {row["position"] for row in shown} == {0, 1, 2, 3}
        assert "" not in {row["alt"] for row in shown}

    def test_shows_those_that_wait_for_a_worker_later(self, app: Flask, hang: Hang) -> None:
        load_demo(app, hang(samples.demo_drawings(), status=AssetStatus.PROCESSING, sources=[]))

        assert not any(row["image"] for row in mappings_of(app, "products"))
        assert len(mappings_of(app, "media_placements")) > 300

    def test_leaves_out_those_that_were_deleted_meanwhile(self, app: Flask, hang: Hang) -> None:
        load_demo(app, hang(samples.demo_drawings(), deleted_at=clock.now()))

        assert mappings_of(app, "media_placements") == []


class TestGenerateProducts:
    def test_shows_pictures_in_turn(self, app: Flask, hang: Hang) -> None:
        pictures = hang(gallery.various(3))
        generate(app, range(1, 7), pictures)

        shown = [row["image"]["media_id"] for row in mappings_of(app, "products")]
        first, second, third = pictures.values()
        assert shown == [second, third, first] * 2
        assert {row["id"]: row["image"] for row in mappings_of(app, "products")} == images_by_placements(app)

    def test_shows_the_picture_of_a_parent_with_its_variants(self, app: Flask, hang: Hang) -> None:
        generate(app, range(1, 4), hang(gallery.various(1)), parents=100)

        assert {row["kind"] for row in mappings_of(app, "products")} == {"parent", "variant"}
        assert {row["id"]: row["image"] for row in mappings_of(app, "products")} == images_by_placements(app)

    def test_leaves_what_is_there_as_it_is(self, app: Flask, hang: Hang) -> None:
        generate(app, range(1, 3), {})

        generate(app, range(1, 4), hang(gallery.various(1)))

        assert [row["image"] is None for row in mappings_of(app, "products")] == [True, True, False]
        assert len(mappings_of(app, "media_placements")) == 1

    def test_is_what_clients_read(self, app: Flask, bob: Caller, hang: Hang) -> None:
        generate(app, range(1, 2), hang(gallery.various(1)))

        (product,) = mappings_of(app, "products")
        (item,) = body_of(bob.get(f"/products/{product['id']}/media"))["items"]
        assert (item["alt"], item["variants"]) == (product["name"], [])


class TestDrawings:
    def test_of_the_demo_are_few_and_of_motifs_that_there_are(self) -> None:
        drawings = samples.demo_drawings()

        assert len(drawings) < 70
        assert {drawing.motif for drawing in drawings} <= MOTIFS.keys()

    def test_of_generated_products_differ(self) -> None:
        drawings = gallery.various(gallery.MAX_DRAWINGS)

        assert len(set(drawings)) == len(drawings) == gallery.MAX_DRAWINGS

    def test_are_the_same_bytes_each_time(self) -> None:
        one, other = gallery.various(2)

        assert one.draw() == one.draw() != other.draw()
