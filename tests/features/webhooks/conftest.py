"""The world of webhooks: an endpoint that receives them, and workers that send them when a test says so."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask

from app.api.tasks import TASKS
from app.core import clock
from app.core.worker import Worker
from app.features.webhooks import dispatch
from tests.conftest import Caller, body_of
from tests.receiver import Receiver, receiver


@dataclass(frozen=True)
class Scene:
    """An application that may send to the loopback, an administrator of it, and an endpoint there."""

    sender: Flask
    boss: Caller
    endpoint: Receiver

    def make_webhook(self, path: str = "/hook", **members: Any) -> dict[str, Any]:
        """Make a webhook that leads to the endpoint; a test mentions what matters."""
        answer = self.boss.post("/webhooks", {"url": self.endpoint.url + path, "events": ["*"], **members})
        assert answer.status_code == 201, answer.get_data(as_text=True)
        return body_of(answer)

    def look_for_work(self) -> None:
        """Queue what is new, as each worker does again and again."""
        with self.sender.app_context():
            dispatch.look_for_work()

    def work(self) -> None:
        """Do what a worker does once: queue what is new, and run the jobs that are due."""
        self.look_for_work()
        Worker(TASKS, self.sender.app_context).drain()

    def work_after(self, **passed: float) -> None:
        """Do that after some time."""
        with time_machine.travel(clock.now() + timedelta(**passed)):
            self.work()

    def ping(self, webhook: dict[str, Any]) -> dict[str, Any]:
        """Order a message."""
        answer = self.boss.post(f"/webhooks/{webhook['id']}/ping")
        assert answer.status_code == 202, answer.get_data(as_text=True)
        return body_of(answer)

    def look_at(self, webhook: dict[str, Any]) -> dict[str, Any]:
        """What a webhook is by now."""
        return body_of(self.boss.get(f"/webhooks/{webhook['id']}"))

    def deliveries_of(self, webhook: dict[str, Any]) -> list[dict[str, Any]]:
        """Its log, the oldest first."""
        return list(body_of(self.boss.get(f"/webhooks/{webhook['id']}/deliveries?order=asc&per_page=100"))["items"])

    def statuses_of(self, webhook: dict[str, Any]) -> list[str]:
        """The status of each delivery, the oldest first."""
        return [delivery["status"] for delivery in self.deliveries_of(webhook)]


@pytest.fixture
def scene(root: Caller, app_with: Callable[..., Flask]) -> Iterator[Scene]:
    """An endpoint, and the application that sends to it."""
    sender = app_with(webhook_allowed_private_hosts=("127.0.0.1",))
    with receiver() as endpoint:
        yield Scene(sender, root.on(sender), endpoint)
