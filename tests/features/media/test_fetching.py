"""Pictures by URL: fetched by a worker through the guarded client, or refused with a reason."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine

from app.clients.http import Timeouts
from app.core import clock
from app.core.metrics import MEDIA_PROCESSED
from app.features.media import fetching
from tests.conftest import body_of
from tests.counting import counter_of
from tests.pictures import HTML, flat, photo
from tests.receiver import Received, Receiver, Reply, receiver
from tests.studio import Studio

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def server() -> Iterator[Receiver]:
    """A server of pictures on the loopback, which the studio may ask."""
    with receiver() as running:
        yield running


def add(studio: Studio, url: str) -> dict[str, Any]:
    """Give a URL; its asset."""
    answer = studio.alice.post("/media", {"url": url})
    assert answer.status_code == 202, answer.get_data(as_text=True)
    return body_of(answer)


def serve(server: Receiver, content: bytes, status: int = 200, **headers: str) -> None:
    server.reply(status, body=content, Content_Type="image/jpeg", **headers)


class TestFetching:
    def test_makes_the_picture_ready_under_the_same_id(self, studio: Studio, server: Receiver) -> None:
        serve(server, flat("red"))

        asset = add(studio, f"{server.url}/chair.jpg")
        studio.work()

        ready = studio.look_at(asset["id"])
        assert (asset["status"], asset["sha256"], ready["status"]) == ("processing", None, "ready")
        assert ready["source_url"] == f"{server.url}/chair.jpg"
        assert ready["media_type"] == "image/png"
        assert {f"originals/{ready['sha256']}", f"public/{ready['sha256']}-40.webp"} == studio.objects()

    def test_counts_what_became_of_each_picture(self, studio: Studio, server: Receiver) -> None:
        grown = counter_of(MEDIA_PROCESSED)

        serve(server, flat("red"))
        add(studio, f"{server.url}/a")
        studio.work()
        add(studio, f"{server.url}/b")
        studio.work()
        serve(server, HTML)
        add(studio, f"{server.url}/c")
        studio.work()

        assert grown() == {("ready",): 1, ("merged",): 1, ("failed",): 1}

    def test_asks_once_for_a_url(self, studio: Studio, server: Receiver) -> None:
        serve(server, flat("red"))
        first, second = add(studio, f"{server.url}/a"), add(studio, f"{server.url}/a")
        studio.work()

        answer = studio.alice.post("/media", {"url": f"{server.url}/a"})

        # It is there by now.
        assert answer.status_code == 201
        assert {first["id"], second["id"], body_of(answer)["id"]} == {first["id"]}
        assert len(server.messages) == 1

    def test_of_what_is_there_already_leads_to_that(self, studio: Studio, server: Receiver, make_product: Make) -> None:
        serve(server, flat("red"))
        uploaded = studio.make("red")
        product, other, third = make_product(), make_product(), make_product()
        studio.place(third["id"], uploaded["id"])
        before = studio.product(third["id"])
        fetched = add(studio, f"{server.url}/a")
        studio.place(product["id"], {"media_id": fetched["id"], "alt": "Red"})
        studio.place(other["id"], uploaded["id"], fetched["id"])
        studio.work()

        assert studio.look_at(fetched["id"])["id"] == uploaded["id"]
        [shown] = body_of(studio.alice.get(f"/products/{product['id']}/media"))["items"]
        assert (shown["media_id"], shown["alt"], shown["status"]) == (uploaded["id"], "Red", "ready")
        assert studio.product(product["id"])["image"]["media_id"] == uploaded["id"]
        # What showed the other before is not written again: there may be thousands, with a merge for each.
        assert studio.product(third["id"]) == before
        # Of two that turned out to be one, the one that was first stays.
        assert len(body_of(studio.alice.get(f"/products/{other['id']}/media"))["items"]) == 1
        assert [each["id"] for each in body_of(studio.alice.get("/media"))["items"]] == [uploaded["id"]]
        # The old id may still be placed.
        assert studio.place(other["id"], fetched["id"])["items"][0]["media_id"] == uploaded["id"]

    def test_of_what_the_product_shows_already_loses_no_place_and_no_variant(
        self, studio: Studio, server: Receiver, make_category: Make
    ) -> None:
        serve(server, flat("red"))
        blue, red = studio.make("blue"), studio.make("red")
        variants = [{"options": {"size": size}, "price": "1.00"} for size in ("S", "M")]
        body = {"name": "Shirt", "category_id": make_category()["id"], "options": ["size"], "variants": variants}
        parent = body_of(studio.alice.post("/products", body))
        small, medium = (each["id"] for each in studio.product(parent["id"], "?include=variants")["variants"])
        fetched = add(studio, f"{server.url}/a")
        first = {"media_id": fetched["id"], "alt": "Red", "variants": [medium]}
        last = {"media_id": red["id"], "alt": "Later", "variants": [small]}

        studio.place(parent["id"], first, blue["id"], last)
        studio.work()

        shown = body_of(studio.alice.get(f"/products/{parent['id']}/media"))["items"]
        assert [(each["media_id"], each["alt"], each["variants"]) for each in shown] == [
            (red["id"], "Red", [small, medium]),
            (blue["id"], "", []),
        ]
        images = [studio.product(each)["image"]["media_id"] for each in (parent["id"], small, medium)]
        assert images == [red["id"]] * 3

    @pytest.mark.parametrize(
        ("reply", "code"),
        [
            (Reply(404), "url_refused"),
            (Reply(302, {"Location": "http://127.0.0.1/b.jpg"}), "url_redirects"),
            (Reply(200, {"Content-Type": "image/jpeg"}, HTML), "picture_unsupported"),
            (Reply(200, {}, photo(300, 200)[:2000]), "picture_unreadable"),
            (Reply(200, {}, b""), "picture_unsupported"),
            (Reply(200, {}, flat("red") + bytes(2**21)), "media_too_large"),
        ],
        ids=["missing", "redirects", "html", "truncated", "empty", "large"],
    )
    def test_of_what_is_no_picture_fails_with_the_reason(
        self, studio: Studio, server: Receiver, monkeypatch: pytest.MonkeyPatch, reply: Reply, code: str
    ) -> None:
        monkeypatch.setitem(studio.app.config, "MAX_MEDIA_BYTES", 2**20)
        server.replies = lambda _: reply

        asset = add(studio, f"{server.url}/a")
        studio.work()

        failed = studio.look_at(asset["id"])
        assert (failed["status"], failed["error_code"]) == ("failed", code)
        assert failed["error"]
        # What was read of it, if anything: nothing serves that.
        assert not any(key.startswith("public/") for key in studio.objects())

    def test_of_a_server_that_is_slow_or_fails_is_tried_again_later(
        self, studio: Studio, server: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fetching, "TIMEOUTS", Timeouts(total=0.3))
        server.replies = lambda _: Reply(200, {}, flat("red"), seconds=1)
        asset = add(studio, f"{server.url}/a")
        studio.work()
        assert studio.look_at(asset["id"])["status"] == "processing"
        monkeypatch.undo()
        server.reply(503)
        with time_machine.travel(clock.now() + timedelta(minutes=10)):
            studio.work()
        assert studio.look_at(asset["id"])["status"] == "processing"

        serve(server, flat("red"))
        with time_machine.travel(clock.now() + timedelta(minutes=20)):
            studio.work()

        assert studio.look_at(asset["id"])["status"] == "ready"

    def test_gives_up_after_many_attempts(self, studio: Studio, server: Receiver) -> None:
        server.reply(503)
        asset = add(studio, f"{server.url}/a")
        for hour in range(25):
            with time_machine.travel(clock.now() + timedelta(hours=hour)):
                studio.work()

        failed = studio.look_at(asset["id"])
        assert (failed["status"], failed["error_code"]) == ("failed", "url_refused")
        serve(server, flat("red"))
        again = add(studio, f"{server.url}/a")
        studio.work()
        assert (again["id"], studio.look_at(asset["id"])["status"]) == (asset["id"], "ready")

    def test_of_a_job_that_was_cancelled_has_failed(self, studio: Studio, server: Receiver) -> None:
        asset = add(studio, f"{server.url}/a")
        [job] = body_of(studio.root.get("/jobs?kind=media"))["items"]

        assert studio.root.post(f"/jobs/{job['id']}/cancel").status_code == 200

        failed = studio.look_at(asset["id"])
        assert (failed["status"], failed["error_code"]) == ("failed", "media_unprocessed")

    def test_sends_nothing_secret_and_says_what_it_takes(self, studio: Studio, server: Receiver) -> None:
        serve(server, flat("red"))
        add(studio, f"{server.url}/a")
        studio.work()

        [request] = server.messages
        assert isinstance(request, Received)
        assert "image/webp" in request.headers["accept"]
        assert not {"authorization", "cookie", "x-api-key"} & request.headers.keys()
