"""Webhooks by processes of their own: workers that are killed while they send, endpoints that are down or hang."""

import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from operator import le
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select

from app import create_app
from app.core.feed import ChangeEvent
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.webhooks.models import Delivery, DeliveryStatus, DispatchState
from tests.conftest import Caller, body_of, settings_for
from tests.live.conftest import SECRETS, environment, process
from tests.live.wire import PATIENCE, at_once, wait_for
from tests.receiver import Received, Reply, receiver
from tests.servers import free_port

pytestmark = pytest.mark.live

PRODUCTS, WRITERS, CHANGES, LEASE = 40, 4, 250, 1
#: A worker with short pauses, in which the moment between the sending and the mark is long enough to be hit.
FLASK_WORKER = f"""
import sys, time
from app.features.webhooks import models, tasks
from flask.cli import main
models.FIRST_DELAY, models.MAX_DELAY, models.FIRST_PAUSE, models.MAX_PAUSE = 0.1, 0.3, 0.1, 0.3
send = tasks.send
def send_and_linger(client, message):
    outcome = send(client, message)
    time.sleep(0.02)
    return outcome
tasks.send = send_and_linger
sys.argv = ["flask", "worker", "--lease", "{LEASE}"]
main()
"""


@pytest.fixture
def flask_worker(app: Flask, tmp_path: Path) -> Callable[..., Any]:
    """Start ``flask worker``, which may send to the loopback."""
    env = environment(app.config["DATABASE_URL"], WEBHOOK_ALLOWED_PRIVATE_HOSTS="127.0.0.1", LOG_LEVEL="ERROR")
    return lambda: process(["-c", FLASK_WORKER], env, tmp_path / "worker.log")


@pytest.fixture
def boss(app: Flask, root: Caller) -> Iterator[Caller]:
    """The administrator, at an application that may send to the loopback."""
    keys = {name.lower(): secret for name, secret in SECRETS.items()}
    settings = settings_for(app.config["DATABASE_URL"], webhook_allowed_private_hosts=("127.0.0.1",), **keys)
    other = create_app(settings)
    yield root.on(other)
    with other.app_context():
        db.engine.dispose()


def hook(boss: Caller, url: str, *events: str) -> dict[str, Any]:
    answer = boss.post("/webhooks", {"url": url, "events": list(events)})
    assert answer.status_code == 201, answer.get_data(as_text=True)
    return body_of(answer)


def is_quiet(app: Flask) -> bool:
    """Whether everything that was committed is queued and has been sent."""
    with app.app_context(), unit_of_work(reading=True):
        last = db.session.scalar(select(func.max(ChangeEvent.id)))
        position = db.session.scalar(select(DispatchState.position))
        open_ones = Delivery.status.in_([DeliveryStatus.PENDING, DeliveryStatus.SENDING])
        return last == position and not db.session.scalar(select(func.count()).where(open_ones))


def last_events(app: Flask) -> dict[int, int]:
    """The id of the last event of each product."""
    with app.app_context(), unit_of_work(reading=True):
        rows = select(ChangeEvent.resource_id, func.max(ChangeEvent.id)).where(ChangeEvent.resource_type == "product")
        return {row[0]: row[1] for row in db.session.execute(rows.group_by(ChangeEvent.resource_id))}


@contextmanager
def listening(port: int, arrived: list[Received]) -> Iterator[None]:
    """Receive on a port for the length of a block, and add to a list what has arrived."""
    with receiver(port) as endpoint:
        yield
    arrived += endpoint.messages


@pytest.mark.timeout(240)
class TestWorkersThatAreKilled:
    def test_lose_no_change_and_keep_the_order_of_each_product(
        self, app: Flask, boss: Caller, alice: Caller, make_product: Callable[..., dict[str, Any]],
        flask_worker: Callable[[], Any],
    ) -> None:  # fmt: skip
        port = free_port()
        secret = hook(boss, f"http://127.0.0.1:{port}/hook", "product.*")["secret"]
        ids = [make_product()["id"] for _ in range(PRODUCTS)]
        done = threading.Event()

        def write(number: int) -> None:
            chance = random.Random(number)
            for change in range(CHANGES):
                path = f"/products/{chance.choice(ids)}"
                if change % 10 == 9:
                    alice.patch(f"{path}?dry_run=true", {"name": "NEVER"})
                else:
                    assert alice.patch(path, {"name": f"{number}-{change}"}).status_code == 200

        def write_all() -> None:
            at_once([partial(write, number) for number in range(WRITERS)])
            done.set()

        arrived: list[Received] = []
        writing = threading.Thread(target=write_all)
        with ExitStack() as workers:
            writing.start()
            running = [workers.enter_context(flask_worker()) for _ in range(2)]
            chance = random.Random(7)
            for up in (False, True, False, True, True):
                with listening(port, arrived) if up else nullcontext():
                    time.sleep(chance.uniform(0.5, 1.5))
                    victim = running.pop(0)
                    victim.send_signal(signal.SIGKILL)
                    victim.wait()
                    running.append(workers.enter_context(flask_worker()))
            writing.join(PATIENCE * 3)
            assert done.is_set()
            with listening(port, arrived):
                wait_for(lambda: is_quiet(app))

        heard: dict[int, list[int]] = defaultdict(list)
        for message in arrived:
            content = message.verify(secret)
            assert content["data"]["name"] != "NEVER"
            heard[content["resource_id"]].append(content["id"])
        assert {product: numbers[-1] for product, numbers in heard.items()} == last_events(app)
        assert all(numbers == sorted(numbers) for numbers in heard.values())
        assert {message.id for message in arrived} == {f"evt_{number}" for each in heard.values() for number in each}


class TestEndpointsThatHang:
    def test_delay_no_other(
        self, boss: Caller, make_product: Callable[..., dict[str, Any]], flask_worker: Callable[[], Any]
    ) -> None:
        released = threading.Event()

        def hang(message: Received) -> Reply:
            if message.path.startswith("/hung"):
                released.wait(PATIENCE)
            return Reply()

        with receiver() as endpoint:
            endpoint.replies = hang
            for number in range(3):
                hook(boss, f"{endpoint.url}/hung/{number}", "*")
            hook(boss, f"{endpoint.url}/fine", "product.*")
            with flask_worker():
                for number in range(1, 21):
                    make_product()
                    wait_for(lambda: len(endpoint.at("/fine")), until=partial(le, number))
            hung = [message for message in endpoint.messages if message.path != "/fine"]
            released.set()

        assert hung == []
