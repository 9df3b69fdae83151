"""Which pictures products show: their order, the image on every row, variants, and what changes with them."""

from collections.abc import Callable
from typing import Any

from tests.conftest import body_of
from tests.pictures import flat
from tests.studio import Studio

Make = Callable[..., dict[str, Any]]


def shirt(make_product: Make, **members: Any) -> dict[str, Any]:
    """A parent with a red and a blue variant; theirs are under ``red`` and ``blue``."""
    variants = [{"sku": f"S-{colour}", "options": {"colour": colour}, "price": "10.00"} for colour in ("red", "blue")]
    return make_product(price=None, options=["colour"], variants=variants, **members)


def image_of(studio: Studio, product_id: int) -> int | None:
    image = studio.product(product_id)["image"]
    return None if image is None else int(image["media_id"])


class TestPlacing:
    def test_shows_the_first_that_is_ready_in_every_list(self, studio: Studio, make_product: Make) -> None:
        product, first, second = make_product(), studio.make("red"), studio.make("blue")
        pending = studio.send(flat("green"))

        placed = studio.place(
            product["id"], pending["id"], {"media_id": first["id"], "alt": "Front"}, {"media_id": second["id"]}
        )

        assert [item["media_id"] for item in placed["items"]] == [pending["id"], first["id"], second["id"]]
        assert placed["version"] == product["version"] + 1
        [listed] = body_of(studio.bob.get("/products"))["items"]
        assert listed["image"] == {
            "media_id": first["id"],
            "alt": "Front",
            "width": 40,
            "height": 30,
            "colour": first["colour"],
            "sources": first["sources"],
        }
        studio.work()
        # By now the first of all is ready.
        after = studio.product(product["id"])
        assert after["image"]["media_id"] == pending["id"]
        assert (after["version"], after["live"]) == (placed["version"], 1)
