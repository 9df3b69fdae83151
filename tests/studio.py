"""The world of pictures: a store of its own for a test, people who send some, and a worker that renders them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask

from app.api.tasks import TASKS
from app.core.worker import Worker
from app.features.media import settling
from tests.conftest import Caller, body_of
from tests.pictures import flat


@dataclass(frozen=True)
class Studio:
    """An application with an empty store in a folder, an editor and an administrator of it, and a shopper."""

    app: Flask
    folder: Path
    alice: Caller
    root: Caller
    bob: Caller

    def send(self, content: bytes, media_type: str = "application/octet-stream") -> dict[str, Any]:
        """Send a picture; its asset."""
        answer = self.alice.post("/media", data=content, headers={"Content-Type": media_type})
        assert answer.status_code == 201, answer.get_data(as_text=True)
        return body_of(answer)

    def make(self, colour: str = "red", **options: Any) -> dict[str, Any]:
        """A picture of one colour that is ready."""
        sent = self.send(flat(colour, **options))
        self.work()
        return self.look_at(sent["id"])

    def look_at(self, media_id: int) -> dict[str, Any]:
        """What is known of a picture."""
        return body_of(self.alice.get(f"/media/{media_id}"))

    def work(self) -> None:
        """Run the jobs that are due, and what follows from them, as a worker does."""
        worker = Worker(TASKS, self.app.app_context)
        worker.drain()
        with self.app.app_context():
            settling.look_for_unsettled()
        worker.drain()

    def place(self, product_id: int, *items: int | dict[str, Any]) -> dict[str, Any]:
        """Have a product show pictures, by their ids or as the body has them."""
        body = [{"media_id": item} if isinstance(item, int) else item for item in items]
        answer = self.alice.put(f"/products/{product_id}/media", body)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return body_of(answer)

    def product(self, product_id: int, query: str = "") -> dict[str, Any]:
        """A product as its editor reads it."""
        return body_of(self.alice.get(f"/products/{product_id}{query}"))

    def objects(self) -> set[str]:
        """The keys of all that is in the store, half-written files included."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}
