"""What the tests of several features share: a studio that sends pictures, and a shop whose server has some."""

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from PIL import Image

from app.api.tasks import TASKS
from app.core.worker import Worker
from tests.conftest import Caller, body_of
from tests.receiver import Received, Receiver, Reply, receiver
from tests.studio import Studio


def png(number: int) -> bytes:
    """A small picture, another for each number."""
    content = io.BytesIO()
    Image.new("RGB", (2, 2), (number % 256, number // 256 % 256, 7)).save(content, "PNG")
    return content.getvalue()


def sha256_of(number: int) -> str:
    """What names the picture of a number."""
    return hashlib.sha256(png(number)).hexdigest()


@dataclass(frozen=True)
class Shop:
    """An application that may fetch from the loopback, an editor of it, and a server with pictures there."""

    app: Flask
    alice: Caller
    server: Receiver

    def url(self, number: int | str) -> str:
        """The URL of a picture by its number; of anything else, of what is no picture."""
        return f"{self.server.url}/{number}.png"

    def work(self, *kinds: str) -> None:
        """Run the jobs that are due, as a worker does; of some kinds alone, if these are named."""
        tasks = {kind: task for kind, task in TASKS.items() if not kinds or kind in kinds}
        Worker(tasks, self.app.app_context).drain()

    def order(self, text: str, *kinds: str, query: str = "", media_type: str = "text/csv") -> dict[str, Any]:
        """Send a file to be imported, and do what a worker does; the import as it is then."""
        headers = {"Content-Type": media_type}
        answer = self.alice.call("POST", f"/imports{query}", data=text.encode(), headers=headers)
        assert answer.status_code == 202, answer.get_data(as_text=True)
        self.work(*kinds)
        return body_of(self.alice.get(f"/imports/{body_of(answer)['id']}"))

    def upload(self, number: int) -> dict[str, Any]:
        """Send a picture."""
        answer = self.alice.call("POST", "/media", data=png(number), headers={"Content-Type": "image/png"})
        assert answer.status_code == 201, answer.get_data(as_text=True)
        return body_of(answer)

    def product(self, sku: str) -> dict[str, Any]:
        """A product, whole."""
        return body_of(self.alice.get(f"/products/by/sku/{sku}"))

    def media_of(self, sku: str) -> list[tuple[str, str, list[int]]]:
        """What a product shows: the hash or the URL of each picture, its text and its variants."""
        items = body_of(self.alice.get(f"/products/{self.product(sku)['id']}/media"))["items"]
        media = {each["id"]: each for each in body_of(self.alice.get("/media?per_page=100"))["items"]}
        of = [media[item["media_id"]] for item in items]
        return [
            (each["sha256"] or each["source_url"], i["alt"], i["variants"]) for each, i in zip(of, items, strict=True)
        ]

    def placements(self, sku: str) -> list[dict[str, Any]]:
        """What a product shows, as a PUT of it takes it."""
        items = body_of(self.alice.get(f"/products/{self.product(sku)['id']}/media"))["items"]
        return [{name: item[name] for name in ("media_id", "alt", "variants")} for item in items]

    def shown(self, sku: str) -> list[str]:
        """The pictures that a product shows, by hash or URL."""
        return [name for name, _, _ in self.media_of(sku)]


def answer_with_picture(message: Received) -> Reply:
    """The picture of the number in a path; a page for another name, and 404 for one that begins with ``no``."""
    name = message.path.strip("/").removesuffix(".png")
    if name.isdigit():
        return Reply(200, {"Content-Type": "image/png"}, png(int(name)))
    return Reply(404) if name.startswith("no") else Reply(200, {"Content-Type": "image/png"}, b"<html>Sorry</html>")


@pytest.fixture
def shop(alice: Caller, app_with: Callable[..., Flask]) -> Iterator[Shop]:
    """A shop with a server of pictures."""
    app = app_with(webhook_allowed_private_hosts=("127.0.0.1",))
    with receiver() as server:
        server.replies = answer_with_picture
        yield Shop(app, alice.on(app), server)


@pytest.fixture
def studio(app_with: Callable[..., Flask], tmp_path: Path, alice: Caller, root: Caller, bob: Caller) -> Studio:
    """A store that nothing else uses."""
    folder = tmp_path / "media"
    app = app_with(media_store=folder.as_uri(), webhook_allowed_private_hosts=("127.0.0.1",))
    return Studio(app, folder, alice.on(app), root.on(app), bob.on(app))
