"""Renditions as this server itself serves them."""

import os
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.clients.object_store import CHUNK_BYTES, ObjectStore
from tests.conftest import code_of, on_one_database

NAME = f"{'0123456789abcdef' * 4}-320.webp"

pytestmark = on_one_database


@pytest.fixture
def store(app: Flask) -> ObjectStore:
    store: ObjectStore = app.extensions["media_store"]
    return store


@pytest.fixture
def content(store: ObjectStore) -> bytes:
    """What is stored as NAME; its folder is shared with other tests."""
    content = os.urandom(CHUNK_BYTES + 1)
    store.put(f"public/{NAME}", content, media_type="image/webp")
    return content


class TestReadRendition:
    def test_answers_what_caches_and_browsers_may_do_with_it(self, client: FlaskClient, content: bytes) -> None:
        answer = client.get(f"/media/{NAME}")

        assert (answer.status_code, answer.data) == (200, content)
        wanted = {
            "Content-Type": "image/webp",
            "Content-Length": str(len(content)),
            "Cache-Control": "public, max-age=31536000, immutable",
            "ETag": f'"{NAME}"',
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cross-Origin-Resource-Policy": "cross-origin",
        }
        assert {name: answer.headers.get(name) for name in wanted} == wanted

    @pytest.mark.parametrize(("ending", "media_type"), [("gif", "image/gif"), ("png", "image/png")])
    def test_has_the_type_of_its_name(
        self, client: FlaskClient, store: ObjectStore, ending: str, media_type: str
    ) -> None:
        name = NAME.replace("webp", ending)
        store.put(f"public/{name}", b"image", media_type=media_type)

        assert client.get(f"/media/{name}?some=query").content_type == media_type

    def test_answers_head_without_the_content(self, client: FlaskClient, content: bytes) -> None:
        answer = client.head(f"/media/{NAME}")

        assert (answer.status_code, answer.data) == (200, b"")
        assert answer.headers["Content-Length"] == str(len(content))

    def test_is_not_sent_again(self, client: FlaskClient, content: bytes) -> None:
        answer = client.get(f"/media/{NAME}", headers={"If-None-Match": f'"{NAME}"'})

        assert (answer.status_code, answer.data) == (304, b"")
        assert content
        assert client.get(f"/media/{NAME}", headers={"If-None-Match": '"other"'}).status_code == 200

    @pytest.mark.parametrize(
        "name",
        [
            NAME.replace("320", "640"),
            NAME.replace("0", "A", 1),
            NAME.replace("webp", "svg"),
            NAME.replace("-320", "-0"),
            NAME[1:],
            f"{NAME}.png",
            f"{NAME}%0A",
            f"{NAME}#1".replace("#", "%23"),
            "..%2Foriginals%2Fsecret",
        ],
    )
    def test_knows_no_other_name(self, client: FlaskClient, content: bytes, name: str) -> None:
        answer = client.get(f"/media/{name}", headers={"If-None-Match": "*"})

        assert content
        assert (answer.status_code, code_of(answer)) == (404, "not_found")
        assert answer.headers["Cache-Control"] == "no-store"

    def test_never_shows_an_original(self, client: FlaskClient, store: ObjectStore) -> None:
        original = NAME.partition("-")[0]
        store.put(f"originals/{original}", b"with GPS", media_type="image/jpeg")

        for path in (f"/media/{original}", f"/media/originals/{original}", f"/media/../originals/{original}"):
            assert client.get(path).status_code == 404

    def test_asks_for_time_while_the_store_is_away(self, app_with: Callable[..., Flask]) -> None:
        answer = app_with(media_store="file:///dev/null/media").test_client().get(f"/media/{NAME}")

        assert (answer.status_code, code_of(answer)) == (503, "store_unavailable")
        assert answer.headers["Cache-Control"] == "no-store"
        assert int(answer.headers["Retry-After"]) > 0

    def test_uses_nothing_of_its_readers_rate_limit_up(self, app_with: Callable[..., Flask], content: bytes) -> None:
        client = app_with(rate_limit_enabled=True, rate_limit_default="1 per hour").test_client()

        answers = [client.get(f"/media/{NAME}") for _ in range(3)]

        assert content
        assert [answer.status_code for answer in answers] == [200] * 3
        assert "RateLimit" not in answers[-1].headers
