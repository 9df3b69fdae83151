"""Pictures over HTTP: sending, reading, listing and deleting them."""

import hashlib
import io
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.clients.object_store import ObjectStore, StoreUnavailable
from tests.conftest import Caller, body_of
from tests.pictures import HEIC, HTML, SVG, bomb, decode, exif, flat, photo
from tests.studio import Studio

Make = Callable[..., dict[str, Any]]


def problem_of(answer: TestResponse, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.get_data(as_text=True)
    return body_of(answer)


def sent(caller: Caller, content: bytes, media_type: str = "application/octet-stream", query: str = "") -> Any:
    return caller.post(f"/media{query}", data=content, headers={"Content-Type": media_type})


class TestSending:
    def test_makes_an_asset_named_by_its_content_and_a_worker_renders_it(self, studio: Studio) -> None:
        content = photo(700, 500, exif=exif(orientation=6))

        answer = sent(studio.alice, content, "image/jpeg")

        asset = body_of(answer)
        digest = hashlib.sha256(content).hexdigest()
        assert answer.status_code == 201
        assert answer.headers["Location"] == f"/api/v1/media/{asset['id']}"
        assert {name: asset[name] for name in ("sha256", "status", "sources", "bytes", "media_type", "keep")} == {
            "sha256": digest,
            "status": "processing",
            "sources": [],
            "bytes": len(content),
            "media_type": "image/jpeg",
            "keep": "copy",
        }
        # Upright, as it is shown.
        assert (asset["width"], asset["height"]) == (500, 700)
        studio.work()
        ready = studio.look_at(asset["id"])
        assert ready["status"] == "ready"
        assert [each["width"] for each in ready["sources"]] == [160, 320, 500]
        assert {each["type"] for each in ready["sources"]} == {"image/webp"}
        assert ready["sources"][0]["url"] == f"/media/{digest}-160.webp"
        assert ready["colour"].startswith("#")
        assert ready["version"] == 2
        picture = studio.bob.get(f"/{ready['sources'][2]['url']}")
        assert decode(picture.get_data()).size == (500, 700)
        assert b"Somewhere" not in picture.get_data()
        assert studio.objects() == {
            f"originals/{digest}",
            *(f"public/{digest}-{width}.webp" for width in (160, 320, 500)),
        }

    def test_takes_a_form(self, studio: Studio) -> None:
        form = {"file": (io.BytesIO(flat("blue")), "chair.jpg")}

        answer = studio.alice.post("/media", data=form)

        assert answer.status_code == 201
        # By its content, whatever its name says.
        assert body_of(answer)["media_type"] == "image/png"

    def test_of_the_same_bytes_makes_one_asset(self, studio: Studio) -> None:
        first = studio.send(flat("red"))
        again = studio.send(flat("red"))
        studio.work()
        once_more = studio.send(flat("red"))

        assert first["id"] == again["id"] == once_more["id"]
        assert once_more["status"] == "ready"
        assert body_of(studio.alice.get("/media"))["meta"]["total"] == 1

    def test_needs_the_permission(self, studio: Studio) -> None:
        assert sent(studio.bob, flat("red")).status_code == 403
        assert studio.objects() == set()

    def test_that_is_a_dry_run_stores_nothing(self, studio: Studio) -> None:
        answer = sent(studio.alice, flat("red"), query="?dry_run=true")

        assert answer.status_code == 201
        assert answer.headers["Dry-Run"] == "true"
        assert body_of(answer)["width"] == 40
        assert studio.objects() == set()
        assert body_of(studio.alice.get("/media"))["items"] == []

    def test_can_be_retried_with_a_key(self, studio: Studio) -> None:
        headers = {"Content-Type": "image/png", "Idempotency-Key": "one"}
        first = studio.alice.post("/media", data=flat("red"), headers=headers)
        again = studio.alice.post("/media", data=flat("red"), headers=headers)

        assert body_of(first)["id"] == body_of(again)["id"]
        assert again.headers["Idempotency-Replayed"] == "true"

    @pytest.mark.parametrize(
        ("content", "media_type", "status", "code"),
        [
            (HEIC, "image/jpeg", 415, "picture_unsupported"),
            (HEIC, "image/heic", 415, "unsupported_media_type"),
            (SVG, "image/png", 415, "picture_unsupported"),
            (HTML, "image/gif", 415, "picture_unsupported"),
            (b"", "image/png", 415, "picture_unsupported"),
            (bomb(50_000, 50_000), "image/png", 422, "too_many_pixels"),
            (flat("red")[:20], "image/png", 422, "picture_unreadable"),
        ],
        ids=["heic", "heic-said", "svg", "html", "empty", "bomb", "truncated"],
    )
    def test_of_what_is_no_picture_is_refused_and_leaves_nothing(
        self, studio: Studio, content: bytes, media_type: str, status: int, code: str
    ) -> None:
        answer = sent(studio.alice, content, media_type)

        problem = problem_of(answer, status)
        assert problem["code"] == code or problem["errors"][0]["code"] == code
        if status == 415:
            assert "image/jpeg" in problem["accepted"]
        assert studio.objects() == set()
        assert body_of(studio.alice.get("/media"))["items"] == []

    def test_of_too_many_bytes_is_refused(self, studio: Studio, app_with: Callable[..., Flask]) -> None:
        small = app_with(media_store=studio.folder.as_uri(), max_media_bytes=1024)

        answer = sent(studio.alice.on(small), flat("red") + bytes(2000))

        assert problem_of(answer, 413)["limit"] == 1024

    def test_of_a_truncated_picture_fails_later_and_shows_nothing(self, studio: Studio) -> None:
        asset = studio.send(photo(400, 300)[:3000])
        studio.work()

        failed = studio.look_at(asset["id"])
        assert (failed["status"], failed["error_code"]) == ("failed", "picture_unreadable")
        assert failed["error"]
        # It is deleted with its row.
        assert studio.objects() == {f"originals/{failed['sha256']}"}

    def test_of_what_has_failed_tries_again(self, studio: Studio) -> None:
        content = photo(400, 300)[:3000]
        first = studio.send(content)
        studio.work()

        again = studio.send(content)

        assert (again["id"], again["status"]) == (first["id"], "processing")
        studio.work()
        assert studio.look_at(first["id"])["status"] == "failed"

    @pytest.mark.parametrize("lost", ["originals", "public"])
    def test_of_what_a_restored_store_lacks_makes_it_whole(self, studio: Studio, make_product: Make, lost: str) -> None:
        asset = studio.make("teal")
        product = make_product()
        studio.place(product["id"], asset["id"])
        before = studio.objects()
        for key in before:
            if key.startswith(lost):
                studio.folder.joinpath(key).unlink()

        again = studio.send(flat("teal"))
        studio.work()

        assert (again["id"], again["status"], again["sources"]) == (asset["id"], "processing", [])
        assert studio.objects() == before
        assert studio.look_at(asset["id"])["sources"] == asset["sources"]
        assert studio.product(product["id"])["image"]["sources"] == asset["sources"]

    def test_waits_for_a_store_and_leaves_nothing(self, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise StoreUnavailable

        monkeypatch.setattr(ObjectStore, "put", refuse)
        answer = sent(studio.alice, flat("red"))

        assert problem_of(answer, 503)["code"] == "store_unavailable"
        assert int(answer.headers["Retry-After"]) >= 1
        assert body_of(studio.alice.get("/media"))["items"] == []
        monkeypatch.undo()
        assert studio.make("red")["status"] == "ready"

    def test_is_in_the_trail_and_in_the_feed(self, studio: Studio) -> None:
        asset = studio.make("red")

        trail = body_of(studio.root.get(f"/audit-events?resource=media/{asset['id']}"))["items"]
        assert [event["action"] for event in trail][-1] == "media.created"
        assert trail[-1]["after"]["sha256"] == asset["sha256"]
        feed = body_of(studio.alice.get("/events"))["items"]
        assert [event["type"] for event in feed if event["resource_type"] == "media"][-1] == "media.updated"
        assert "media.hidden" in {
            event["type"] for event in body_of(studio.bob.get("/events"))["items"] if event["resource_type"] == "media"
        }


class TestLinks:
    def test_are_shown_as_they_are(self, studio: Studio, make_product: Make) -> None:
        url = "https://pictures.example/chair.jpg?size=large"

        answer = studio.alice.post("/media", {"url": url, "keep": "link"})

        asset = body_of(answer)
        assert (answer.status_code, asset["status"], asset["sha256"]) == (201, "ready", None)
        assert asset["sources"] == [{"url": url, "width": None, "height": None, "type": None}]
        product = make_product()
        studio.place(product["id"], asset["id"])
        assert studio.product(product["id"])["image"]["sources"] == asset["sources"]
        # The same link is the same asset.
        assert body_of(studio.alice.post("/media", {"url": url, "keep": "link"}))["id"] == asset["id"]

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://pictures.example/a.jpg",
            "https://a b.example/",
            "/a.jpg",
            "javascript:alert(1)",
            "https://" + "a" * 2000,
        ],
    )
    def test_that_are_no_urls_are_refused(self, studio: Studio, url: str) -> None:
        assert (
            problem_of(studio.alice.post("/media", {"url": url, "keep": "link"}), 422)["errors"][0]["pointer"] == "/url"
        )

    @pytest.mark.parametrize("url", ["http://10.0.0.1/a.jpg", "http://169.254.169.254/latest", "http://[::1]/a.jpg"])
    @pytest.mark.parametrize("keep", ["copy", "link"])
    def test_to_private_addresses_are_refused(self, studio: Studio, url: str, keep: str) -> None:
        problem = problem_of(studio.alice.post("/media", {"url": url, "keep": keep}), 422)

        assert problem["errors"] == [
            {
                "pointer": "/url",
                "detail": "The URL leads to an address that is not public.",
                "code": "url_not_allowed",
            }
        ]


class TestListing:
    def test_filters_what_no_product_shows(self, studio: Studio, make_product: Make) -> None:
        placed, other = studio.make("red"), studio.make("blue")
        studio.place(make_product()["id"], placed["id"])

        unplaced = body_of(studio.alice.get("/media?unplaced=true"))["items"]
        shown = body_of(studio.alice.get("/media?unplaced=false"))["items"]
        by_digest = body_of(studio.alice.get(f"/media?sha256={other['sha256']}&status=ready"))["items"]

        assert [each["id"] for each in unplaced] == [each["id"] for each in by_digest] == [other["id"]]
        assert [each["id"] for each in shown] == [placed["id"]]

    def test_is_for_editors(self, studio: Studio) -> None:
        asset = studio.make("red")

        assert studio.bob.get("/media").status_code == 403
        assert studio.bob.get(f"/media/{asset['id']}").status_code == 403


class TestDeleting:
    def test_takes_the_objects_too(self, studio: Studio) -> None:
        asset = studio.make("red")

        answer = studio.root.delete(f"/media/{asset['id']}", if_match='"2"')

        assert answer.status_code == 204
        assert studio.alice.get(f"/media/{asset['id']}").status_code == 404
        studio.work()
        assert studio.objects() == set()
        assert studio.make("red")["id"] != asset["id"]

    def test_of_what_a_product_shows_is_refused(self, studio: Studio, make_product: Make) -> None:
        asset, product = studio.make("red"), make_product()
        studio.place(product["id"], asset["id"])

        assert problem_of(studio.root.delete(f"/media/{asset['id']}"), 409)["code"] == "media_placed"
        studio.place(product["id"])
        assert studio.root.delete(f"/media/{asset['id']}").status_code == 204

    def test_is_undone_by_sending_it_again(self, studio: Studio) -> None:
        asset = studio.make("red")
        studio.root.delete(f"/media/{asset['id']}")

        again = studio.send(flat("red"))
        studio.work()

        assert (again["id"], again["status"]) == (asset["id"], "ready")
        assert f"originals/{asset['sha256']}" in studio.objects()
        assert studio.bob.get(f"/{studio.look_at(asset['id'])['sources'][0]['url']}").status_code == 200

    def test_is_for_administrators_who_have_read_it(self, studio: Studio) -> None:
        asset = studio.make("red")

        assert studio.alice.delete(f"/media/{asset['id']}").status_code == 403
        assert studio.root.delete(f"/media/{asset['id']}", if_match=None).status_code == 428
        assert studio.root.delete(f"/media/{asset['id']}", if_match='"1"').status_code == 412
