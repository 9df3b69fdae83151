"""Which pictures products show: their order, the image on every row, variants, and what changes with them."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.media.models import ASSETS, AssetStatus
from app.features.products import pictures
from app.features.products.models import PRODUCTS
from tests.conftest import body_of, code_of, faults_of
from tests.pictures import flat, photo
from tests.studio import Studio

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def make_shirt(alice: Any, make_category: Make) -> Make:
    """Make a parent with a red and a blue variant; their ids are under ``red`` and ``blue``."""

    def make(**members: Any) -> dict[str, Any]:
        variants = [{"options": {"colour": colour}, "price": "10.00", "stock": 1} for colour in ("red", "blue")]
        body = {"name": "Shirt", "category_id": make_category()["id"], "options": ["colour"], "variants": variants}
        parent = body_of(alice.post("/products", body | members))
        made = body_of(alice.get(f"/products/{parent['id']}/variants"))["items"]
        return {**parent, "red": made[0]["id"], "blue": made[1]["id"]}

    return make


def image_of(studio: Studio, product_id: int) -> int | None:
    image = studio.product(product_id)["image"]
    return None if image is None else int(image["media_id"])


def shown(studio: Studio, product_id: int) -> list[int]:
    items = body_of(studio.alice.get(f"/products/{product_id}/media"))["items"]
    return [item["media_id"] for item in items]


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

    def test_needs_the_etag_of_the_product_which_it_raises(self, studio: Studio, make_product: Make) -> None:
        product, picture = make_product(), studio.make("red")
        path, body = f"/products/{product['id']}/media", [{"media_id": picture["id"]}]
        read = studio.alice.get(path)

        assert studio.alice.put(path, body, if_match=None).status_code == 428
        assert studio.alice.put(path, body, if_match='"7"').status_code == 412
        assert studio.alice.put(path, body, if_match=read.headers["ETag"]).status_code == 200
        assert studio.alice.put(path, [], if_match=read.headers["ETag"]).status_code == 412
        again = studio.alice.get(path, headers={"If-None-Match": read.headers["ETag"]})
        assert again.status_code == 200
        assert studio.alice.get(path, headers={"If-None-Match": again.headers["ETag"]}).status_code == 304

    def test_of_the_same_changes_nothing(self, studio: Studio, make_product: Make) -> None:
        product, picture = make_product(), studio.make("red")
        first = studio.place(product["id"], picture["id"])
        again = studio.place(product["id"], picture["id"])

        assert first == again

    def test_replaces_the_whole_list(self, studio: Studio, make_product: Make) -> None:
        product = make_product()
        pictures = [studio.make(colour)["id"] for colour in ("red", "blue", "green")]
        studio.place(product["id"], *pictures)

        studio.place(product["id"], pictures[2], pictures[0])

        assert shown(studio, product["id"]) == [pictures[2], pictures[0]]
        assert image_of(studio, product["id"]) == pictures[2]
        studio.place(product["id"])
        assert image_of(studio, product["id"]) is None

    def test_refuses_what_is_unknown_and_says_where(self, studio: Studio, make_product: Make, make_shirt: Make) -> None:
        product, parent, picture = make_product(), make_shirt(), studio.make("red")["id"]
        path = f"/products/{product['id']}/media"

        unknown = studio.alice.put(path, [{"media_id": picture}, {"media_id": 999_999}])
        twice = studio.alice.put(path, [{"media_id": picture}, {"media_id": picture}])
        foreign = studio.alice.put(path, [{"media_id": picture, "variants": [parent["red"]]}])

        assert faults_of(unknown) == [("/1/media_id", "media_unknown")]
        assert faults_of(twice) == [("/1/media_id", "repeated")]
        assert faults_of(foreign) == [("/0/variants", "not_its_variant")]
        assert shown(studio, product["id"]) == []

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"items": []}, ""),
            ([{}], "/0/media_id"),
            ([{"media_id": 1, "alt": "a\nb"}], "/0/alt"),
            ([{"media_id": 1, "alt": "a" * 501}], "/0/alt"),
            ([{"media_id": 1, "sort": 1}], "/0/sort"),
            ([{"media_id": 1, "variants": [2, 2]}], "/0/variants"),
            ([{"media_id": number} for number in range(1, 102)], ""),
        ],
    )
    def test_refuses_a_body_of_another_form(self, studio: Studio, make_product: Make, body: Any, pointer: str) -> None:
        answer = studio.alice.put(f"/products/{make_product()['id']}/media", body)

        assert [place for place, _ in faults_of(answer)] == [pointer]

    def test_is_for_those_who_write_products(self, studio: Studio, make_product: Make) -> None:
        product = make_product()

        assert studio.bob.put(f"/products/{product['id']}/media", []).status_code == 403
        assert studio.bob.get(f"/products/{product['id']}/media").status_code == 200

    def test_is_in_the_trail_and_in_the_feed(self, studio: Studio, make_product: Make) -> None:
        product, picture = make_product(), studio.make("red")
        studio.place(product["id"], {"media_id": picture["id"], "alt": "Front"})

        [event] = body_of(studio.root.get(f"/audit-events?resource=product/{product['id']}&action=product.updated"))[
            "items"
        ]
        assert (event["before"], event["after"]) == (
            {"media": []},
            {"media": [{"media_id": picture["id"], "alt": "Front", "variants": []}]},
        )
        last = [each for each in body_of(studio.bob.get("/events"))["items"] if each["resource_type"] == "product"][-1]
        assert last["type"] == "product.updated"
        assert last["data"]["image"]["media_id"] == picture["id"]

    def test_can_be_tried(self, studio: Studio, make_product: Make) -> None:
        product, picture = make_product(), studio.make("red")

        answer = studio.alice.put(f"/products/{product['id']}/media?dry_run=true", [{"media_id": picture["id"]}])

        assert body_of(answer)["items"][0]["media_id"] == picture["id"]
        assert image_of(studio, product["id"]) is None


class TestMerged:
    def test_is_replaced_where_a_transaction_has_placed_it_meanwhile(
        self, studio: Studio, make_product: Make, make_shirt: Make
    ) -> None:
        parent, other = make_shirt(), make_product()
        ready, merged, second = (studio.make(colour)["id"] for colour in ("red", "blue", "green"))
        studio.place(parent["id"], {"media_id": merged, "alt": "Front", "variants": [parent["red"]]}, second)
        studio.place(other["id"], merged, ready)
        with studio.app.app_context(), unit_of_work():
            state = {"status": AssetStatus.MERGED, "merged_into_id": ready, "is_settled": False}
            db.session.execute(update(ASSETS).where(ASSETS.c.id == merged).values(state))

        studio.work()

        items = body_of(studio.alice.get(f"/products/{parent['id']}/media"))["items"]
        assert [(item["media_id"], item["alt"], item["variants"]) for item in items] == [
            (ready, "Front", [parent["red"]]),
            (second, "", []),
        ]
        assert image_of(studio, parent["id"]) == image_of(studio, parent["red"]) == ready
        assert shown(studio, other["id"]) == [ready]


class TestFollowing:
    def test_reaches_a_product_that_got_the_picture_meanwhile(
        self, studio: Studio, make_product: Make, make_shirt: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parent, single = make_shirt(), make_product(price="10.00")
        pending = studio.send(flat("green"))["id"]
        studio.place(single["id"], pending)
        show, joins = pictures.show, {"id": single["id"], "options": {"colour": "green"}}
        answers: list[int] = []

        def overtaken(product_ids: Any, **options: Any) -> None:
            monkeypatch.setattr(pictures, "show", show)
            db.session.rollback()
            answers.append(studio.alice.post(f"/products/{parent['id']}/variants", joins).status_code)
            with studio.app.app_context(), unit_of_work():
                # As a transaction leaves it that has read the picture before it was ready.
                db.session.execute(update(PRODUCTS).where(PRODUCTS.c.id == parent["id"]).values(image=None))
            show(product_ids, **options)

        monkeypatch.setattr(pictures, "show", overtaken)
        studio.work()

        assert answers == [201]
        assert image_of(studio, parent["id"]) == pending


class TestShopping:
    def test_shows_what_is_ready(self, studio: Studio, make_product: Make) -> None:
        product, ready = make_product(), studio.make("red")
        broken = studio.send(photo(400, 300)[:3000])
        pending = studio.send(flat("green"))
        studio.place(product["id"], broken["id"], pending["id"], ready["id"])
        everything = [broken["id"], pending["id"], ready["id"]]

        assert shown(studio, product["id"]) == everything
        seen = body_of(studio.bob.get(f"/products/{product['id']}/media"))["items"]
        assert [item["media_id"] for item in seen] == [ready["id"]]
        included = body_of(studio.bob.get(f"/products/{product['id']}?include=media"))["media"]
        assert included == seen
        studio.work()
        after = body_of(studio.bob.get(f"/products/{product['id']}?include=media"))["media"]
        assert [item["media_id"] for item in after] == [pending["id"], ready["id"]]
        assert [item["status"] for item in body_of(studio.alice.get(f"/products/{product['id']}/media"))["items"]] == [
            "failed",
            "ready",
            "ready",
        ]

    def test_chooses_members_of_what_is_included(self, studio: Studio, make_product: Make) -> None:
        product, picture = make_product(), studio.make("red")
        studio.place(product["id"], {"media_id": picture["id"], "alt": "Front"})

        [item] = body_of(studio.bob.get("/products?include=media&fields=id,image,media.alt"))["items"]

        assert item["media"] == [{"alt": "Front"}]
        assert item["image"]["media_id"] == picture["id"]

    def test_takes_one_statement_more_however_many_products(
        self, studio: Studio, make_product: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        picture = studio.make("red")
        for _ in range(5):
            studio.place(make_product()["id"], picture["id"])
        monkeypatch.setitem(studio.app.config, "ANSWER_CACHE_BYTES", 0)

        def statements(path: str) -> str:
            timing = studio.bob.get(path).headers["Server-Timing"]
            return timing.partition('desc="')[2].partition(" ")[0]

        plain, included = statements("/products"), statements("/products?include=media")
        assert int(included) == int(plain) + 1

    def test_of_a_former_url_base_follows_the_setting(
        self, studio: Studio, make_product: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        product, picture = make_product(), studio.make("red")
        studio.place(product["id"], picture["id"])
        monkeypatch.setitem(studio.app.config, "MEDIA_URL", "https://pictures.example")

        [source] = studio.product(product["id"], "?include=media")["image"]["sources"]

        assert source["url"] == f"https://pictures.example/{picture['sha256']}-40.webp"


class TestVariants:
    def test_show_the_pictures_that_are_theirs(self, studio: Studio, make_shirt: Make) -> None:
        parent = make_shirt()
        front, red, blue = (studio.make(colour)["id"] for colour in ("white", "red", "blue"))
        before = studio.product(parent["red"])
        studio.place(
            parent["id"],
            front,
            {"media_id": red, "variants": [parent["red"]]},
            {"media_id": blue, "variants": [parent["blue"]]},
        )

        assert image_of(studio, parent["id"]) == front
        assert image_of(studio, parent["red"]) == red
        assert shown(studio, parent["red"]) == [red]
        included = studio.product(parent["id"], "?include=variants")["variants"]
        assert [each["image"]["media_id"] for each in included] == [red, blue]
        # Each counts its own change.
        after = studio.product(parent["red"])
        assert (after["version"], after["live"]) == (before["version"], before["live"] + 1)

    def test_have_another_etag_when_another_than_the_first_changes(self, studio: Studio, make_shirt: Make) -> None:
        parent = make_shirt()
        red, side = (studio.make(colour)["id"] for colour in ("red", "green"))
        variants = [parent["red"]]
        studio.place(parent["id"], {"media_id": red, "variants": variants})
        path = f"/products/{parent['red']}/media"
        before = studio.alice.get(path)

        studio.place(parent["id"], *({"media_id": each, "variants": variants} for each in (red, side)))

        after = studio.alice.get(path, headers={"If-None-Match": before.headers["ETag"]})
        assert (after.status_code, len(body_of(after)["items"])) == (200, 2)
        assert studio.alice.get(path, headers={"If-None-Match": after.headers["ETag"]}).status_code == 304

    def test_show_those_of_the_product_where_they_have_none(self, studio: Studio, make_shirt: Make) -> None:
        parent = make_shirt()
        front, red = (studio.make(colour)["id"] for colour in ("white", "red"))
        studio.place(parent["id"], front, {"media_id": red, "variants": [parent["red"]]})

        assert image_of(studio, parent["blue"]) == front
        assert shown(studio, parent["blue"]) == [front, red]

    def test_that_are_new_show_the_image_of_the_product(self, studio: Studio, make_shirt: Make) -> None:
        parent, front = make_shirt(), studio.make("white")["id"]
        studio.place(parent["id"], front)

        green = body_of(
            studio.alice.post(f"/products/{parent['id']}/variants", {"options": {"colour": "green"}, "price": "11.00"})
        )

        assert green["image"]["media_id"] == front

    def test_that_are_drafts_or_deleted_show_shoppers_nothing(self, studio: Studio, make_shirt: Make) -> None:
        parent = make_shirt()
        front, red, both = (studio.make(colour)["id"] for colour in ("white", "red", "blue"))
        variants = [parent["red"], parent["blue"]]
        items = ({"media_id": red, "variants": variants[:1]}, {"media_id": both, "variants": variants})
        studio.place(parent["id"], front, *items)

        def seen() -> list[tuple[int, list[int]]]:
            listed = body_of(studio.bob.get(f"/products/{parent['id']}/media"))["items"]
            [included] = body_of(studio.bob.get(f"/products?include=media&id={parent['id']}"))["items"]
            assert included["media"] == listed
            return [(item["media_id"], item["variants"]) for item in listed]

        assert seen() == [(front, []), (red, variants[:1]), (both, variants)]
        assert studio.alice.patch(f"/products/{parent['red']}", {"status": "draft"}).status_code == 200
        assert seen() == [(front, []), (both, variants[1:])]
        assert shown(studio, parent["id"]) == [front, red, both]
        studio.alice.patch(f"/products/{parent['red']}", {"status": "active"})
        assert len(seen()) == 3
        studio.root.delete(f"/products/{parent['red']}")
        assert seen() == [(front, []), (both, variants[1:])]

    def test_have_no_pictures_of_their_own(self, studio: Studio, make_shirt: Make) -> None:
        parent, picture = make_shirt(), studio.make("red")["id"]

        answer = studio.alice.put(f"/products/{parent['red']}/media", [{"media_id": picture}])

        assert (answer.status_code, code_of(answer)) == (409, "media_of_parent")

    def test_that_come_back_show_theirs_again(self, studio: Studio, make_shirt: Make) -> None:
        parent = make_shirt()
        front, red = (studio.make(colour)["id"] for colour in ("white", "red"))
        studio.place(parent["id"], front, {"media_id": red, "variants": [parent["red"]]})
        studio.root.delete(f"/products/{parent['red']}")
        # What names a variant that is gone can be sent again as it was read.
        items = body_of(studio.alice.get(f"/products/{parent['id']}/media"))["items"]
        body = [{name: item[name] for name in ("media_id", "alt", "variants")} for item in items]
        assert studio.alice.put(f"/products/{parent['id']}/media", body).status_code == 200

        studio.root.post(f"/products/{parent['red']}/restore")

        assert image_of(studio, parent["red"]) == red

    def test_that_match_a_filter_lend_their_image(self, studio: Studio, make_shirt: Make) -> None:
        parent = make_shirt()
        front, red, blue = (studio.make(colour)["id"] for colour in ("white", "red", "blue"))
        studio.place(
            parent["id"],
            front,
            {"media_id": red, "variants": [parent["red"]]},
            {"media_id": blue, "variants": [parent["blue"]]},
        )
        studio.alice.patch(f"/products/{parent['blue']}", {"price": "5.00"})

        [cheap] = body_of(studio.bob.get("/products?max_price=6.00"))["items"]
        [chosen] = body_of(studio.bob.get("/products?max_price=6.00&fields=image"))["items"]
        [listed] = body_of(studio.bob.get("/products"))["items"]

        assert (cheap["matching_variants"], cheap["image"]["media_id"]) == ([parent["blue"]], blue)
        assert chosen == {"image": cheap["image"]}
        assert listed["image"]["media_id"] == front

    def test_bring_their_pictures_along(self, studio: Studio, make_product: Make, make_shirt: Make) -> None:
        parent, single = make_shirt(), make_product(price="10.00")
        front, green = (studio.make(colour)["id"] for colour in ("white", "green"))
        studio.place(parent["id"], front)
        studio.place(single["id"], {"media_id": green, "alt": "Green"}, front)

        joined = studio.alice.post(
            f"/products/{parent['id']}/variants", {"id": single["id"], "options": {"colour": "green"}}
        )

        assert joined.status_code == 201, joined.get_data(as_text=True)
        items = body_of(studio.alice.get(f"/products/{parent['id']}/media"))["items"]
        assert [(item["media_id"], item["alt"], item["variants"]) for item in items] == [
            (front, "", [single["id"]]),
            (green, "Green", [single["id"]]),
        ]
        assert image_of(studio, single["id"]) == front

    def test_that_join_together_bring_the_pictures_of_each(
        self, studio: Studio, make_product: Make, make_category: Make
    ) -> None:
        category = make_category()["id"]
        singles = [make_product(category_id=category)["id"] for _ in range(2)]
        red, blue, both = (studio.make(colour)["id"] for colour in ("red", "blue", "white"))
        studio.place(singles[0], red, both)
        studio.place(singles[1], both, blue)
        variants = [{"id": single, "options": {"size": size}} for single, size in zip(singles, ("S", "M"), strict=True)]
        body = {"name": "Shirt", "category_id": category, "options": ["size"], "variants": variants}

        parent = body_of(studio.alice.post("/products", body))

        items = body_of(studio.alice.get(f"/products/{parent['id']}/media"))["items"]
        assert [(item["media_id"], item["variants"]) for item in items] == [
            (red, [singles[0]]),
            (both, singles),
            (blue, [singles[1]]),
        ]
        assert [image_of(studio, each) for each in (parent["id"], *singles)] == [red, red, both]

    def test_that_are_deleted_with_their_product_come_back_with_what_is_ready_by_then(
        self, studio: Studio, make_shirt: Make
    ) -> None:
        parent, pending = make_shirt(), studio.send(flat("red"))["id"]
        studio.place(parent["id"], {"media_id": pending, "variants": [parent["red"]]})
        studio.root.delete(f"/products/{parent['id']}")
        studio.work()

        studio.root.post(f"/products/{parent['id']}/restore")

        assert image_of(studio, parent["id"]) == image_of(studio, parent["red"]) == pending
