"""Live streams of the change feed, read within the test's own process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from functools import partial
from queue import Queue
from typing import Any

import pytest
import time_machine
from flask import Flask
from sqlalchemy import delete, event, update
from werkzeug.test import TestResponse

from app.core import clock
from app.core.feed import ChangeEvent
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.events import service
from app.features.events.broadcast import Broadcaster, Pace
from app.features.sessions.models import UserSession
from app.features.users.models import User
from app.security.permissions import Role
from tests.conftest import Caller, body_of, code_of, faults_of
from tests.live.wire import PATIENCE, wait_for
from tests.sse import Block, read_blocks

Make = Callable[..., dict[str, Any]]

#: Everything at once, so that no test waits.
QUICK = Pace(poll=0.005, heartbeat=0.02, check=0.0, sweep=0.01, patience=0.1)
#: Checks and heartbeats are for other tests.
CALM = Pace(poll=0.005, heartbeat=PATIENCE, check=PATIENCE)


class Reader:
    """A client of a stream, which asks for it and reads it in a thread of its own."""

    def __init__(self, ask: Callable[[], TestResponse]) -> None:
        self._ask = ask
        self._answer: Queue[TestResponse] = Queue()
        self._blocks: Queue[Block | None] = Queue()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        self.status = self._answer.get(timeout=PATIENCE).status_code

    def next(self) -> Block:
        """The next block."""
        block = self._blocks.get(timeout=PATIENCE)
        assert block is not None, "the stream has ended"
        return block

    def event(self) -> Block:
        """The next block with an event."""
        while (block := self.next()).is_comment:
            pass
        return block

    def end(self) -> Any:
        """What ended the stream; other events fail the test."""
        block = self.event()
        assert block.event == "end", block
        assert self._blocks.get(timeout=PATIENCE) is None
        return block.data

    def close(self) -> None:
        """Leave."""
        self._is_over.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def _read(self) -> None:
        # Here, because Flask binds the context of a request to the thread that begins to read its answer.
        with closing(self._ask()) as answer:
            self._answer.put(answer)
            for block in read_blocks(answer.iter_encoded()):
                self._blocks.put(block)
                if self._is_over.is_set():
                    return
        self._blocks.put(None)


@pytest.fixture
def broadcaster(app: Flask) -> Iterator[Broadcaster]:
    """The broadcaster, which is in a hurry; afterwards it has ended."""
    hub: Broadcaster = app.extensions["broadcaster"]
    limit = hub.limit
    hub.pace = QUICK
    yield hub
    hub.pace, hub.limit, hub.is_stopping = QUICK, limit, lambda: False
    wait_for(lambda: hub.open_streams == 0 and not hub.is_running)


@pytest.fixture
def follow(broadcaster: Broadcaster) -> Iterator[Callable[..., Reader]]:
    """Open a stream, and read its first two blocks: how to come back, and where it begins."""
    with ExitStack() as stack:

        def follow(caller: Caller, query: str = "", last_id: str | None = None) -> Reader:
            headers = {} if last_id is None else {"Last-Event-ID": last_id}
            reader = Reader(partial(caller.get, f"/events/stream{query}", headers=headers))
            stack.callback(reader.close)
            assert reader.status == 200
            assert [reader.next().is_comment for _ in range(2)] == [True, True]
            return reader

        yield follow
        # No stream waits for its next heartbeat.
        broadcaster.is_stopping = lambda: True


class TestStream:
    def test_brings_what_changes_from_now_on(
        self, follow: Callable[..., Reader], alice: Caller, bob: Caller, make_product: Make
    ) -> None:
        product = make_product()
        stream = follow(bob)

        changed = body_of(alice.patch(f"/products/{product['id']}", {"price": "2.00"}))

        block = stream.event()
        assert (block.event, block.data["data"]) == ("product.updated", changed)

    def test_has_items_as_the_feed_has_them_and_their_cursors(
        self, follow: Callable[..., Reader], alice: Caller, bob: Caller
    ) -> None:
        start = body_of(bob.get("/events?from=now"))["meta"]["next_cursor"]
        stream = follow(bob)
        alice.post("/brands", {"name": "Oakworks"})

        block = stream.event()

        page = body_of(bob.get(f"/events?cursor={start}"))
        assert {**page["items"][0], "cursor": block.last_id} == block.data
        assert block.last_id == page["meta"]["next_cursor"]

    def test_is_not_for_caches_and_not_for_buffers(self, bob: Caller, broadcaster: Broadcaster) -> None:
        answer = bob.get("/events/stream")

        assert answer.mimetype == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Accel-Buffering"] == "no"
        answer.close()

    def test_goes_on_after_the_last_event_id(
        self, follow: Callable[..., Reader], alice: Caller, bob: Caller, make_brand: Make
    ) -> None:
        start = body_of(bob.get("/events?from=now"))["meta"]["next_cursor"]
        brands = [make_brand()["id"] for _ in range(5)]
        first = follow(bob, last_id=start)
        seen = [first.event() for _ in range(2)]
        first.close()

        again = follow(bob, last_id=seen[-1].last_id)

        seen += [again.event() for _ in range(3)]
        assert [block.data["resource_id"] for block in seen] == brands

    def test_prefers_the_last_event_id_to_the_cursor_of_its_address(
        self, follow: Callable[..., Reader], bob: Caller, make_brand: Make
    ) -> None:
        start = body_of(bob.get("/events?from=now"))["meta"]["next_cursor"]
        brands = [make_brand()["id"] for _ in range(2)]
        query = f"?cursor={start}"
        last_id = follow(bob, query).event().last_id

        assert follow(bob, query, last_id).event().data["resource_id"] == brands[1]

    def test_says_at_once_where_it_is(self, follow: Callable[..., Reader], bob: Caller, make_brand: Make) -> None:
        """Otherwise a client that was cut before its first event would begin with what is new by then."""
        reader = Reader(partial(bob.get, "/events/stream"))
        begun = [reader.next(), reader.next()][-1].last_id
        reader.close()
        brand = make_brand()

        assert follow(bob, last_id=begun).event().data["resource_id"] == brand["id"]

    def test_beats_and_says_where_it_is(self, follow: Callable[..., Reader], bob: Caller, make_brand: Make) -> None:
        stream = follow(bob)
        brand = make_brand()
        seen = stream.event()

        beats = [stream.next() for _ in range(3)]

        assert {(beat.is_comment, beat.last_id) for beat in beats} == {(True, seen.last_id)}
        assert seen.data["resource_id"] == brand["id"]

    def test_reads_pages_of_what_was_missed(
        self, follow: Callable[..., Reader], alice: Caller, bob: Caller, broadcaster: Broadcaster
    ) -> None:
        start = body_of(bob.get("/events?from=now"))["meta"]["next_cursor"]
        items = [{"sku": f"S-{number}", "name": f"P {number}", "price": "1.00"} for number in range(250)]
        category = body_of(alice.post("/categories", {"name": "Chairs"}))["id"]
        made = body_of(alice.post("/products/bulk", {"items": [{**item, "category_id": category} for item in items]}))

        stream = follow(bob, last_id=start)

        seen = [stream.event().data for _ in range(251)]
        assert made["meta"]["created"] == 250
        assert [item["id"] for item in seen] == sorted({item["id"] for item in seen})

    def test_answers_a_head_without_a_stream(self, bob: Caller, broadcaster: Broadcaster) -> None:
        answer = bob.call("HEAD", "/events/stream")

        assert (answer.status_code, answer.mimetype, answer.data) == (200, "text/event-stream", b"")
        assert broadcaster.open_streams == 0

    def test_shares_what_it_presents_among_those_of_equal_rights(
        self, follow: Callable[..., Reader], alice: Caller, bob: Caller, broadcaster: Broadcaster
    ) -> None:
        broadcaster.pace = CALM
        streams = [follow(bob) for _ in range(4)]
        wait_for(lambda: broadcaster._head is not None)

        with statements_by_thread(broadcaster.app) as statements:
            alice.post("/brands", {"name": "Oakworks"})
            seen = {stream.event().last_id for stream in streams}

        here = threading.current_thread().name
        assert len(seen) == 1
        assert {thread for thread, _ in statements} == {here, "broadcaster"}
        assert [len(batch.messages) for batch in broadcaster._batches] == [1]


class TestFilters:
    def test_leave_out_what_is_not_wanted(
        self, follow: Callable[..., Reader], alice: Caller, bob: Caller, make_product: Make, make_brand: Make
    ) -> None:
        stream = follow(bob, "?types=price.changed,brand.*&resource=product")
        product = make_product(price="1.00")
        make_brand()

        alice.patch(f"/products/{product['id']}", {"name": "Another"})
        alice.patch(f"/products/{product['id']}", {"price": "2.00"})

        block = stream.event()
        assert (block.data["types"], block.data["data"]["price"]) == (["product.updated", "price.changed"], "2.00")

    def test_leave_out_the_same_of_what_was_missed(
        self, follow: Callable[..., Reader], bob: Caller, make_product: Make, make_brand: Make
    ) -> None:
        start = body_of(bob.get("/events?from=now"))["meta"]["next_cursor"]
        make_product()
        brand = make_brand()

        assert follow(bob, "?resource=brand", last_id=start).event().data["data"] == brand

    def test_do_not_hold_the_place_back(self, follow: Callable[..., Reader], bob: Caller, make_brand: Make) -> None:
        """What is passed over is not read again by the next stream."""
        stream = follow(bob, "?resource=category")
        make_brand()
        here = body_of(bob.get("/events?from=now"))["meta"]["next_cursor"]

        wait_for(stream.next, until=lambda block: block.is_comment and block.last_id == here)

    def test_that_name_nothing_are_refused(self, bob: Caller) -> None:
        assert faults_of(bob.get("/events/stream?types=nothing.*")) == [("types", "event_unknown")]


class TestImports:
    def test_of_others_are_left_out(
        self, app: Flask, follow: Callable[..., Reader], alice: Caller, root: Caller, sign_in: Callable[..., Caller]
    ) -> None:
        streams = [follow(caller) for caller in (alice, sign_in("dora", Role.EDITOR), root)]
        headers = {"Content-Type": "text/csv"}
        ordered = body_of(
            alice.call("POST", "/imports", data=b"sku,name,price,category\nA,B,1.00,C\n", headers=headers)
        )
        assert alice.post(f"/imports/{ordered['id']}/cancel").status_code == 200
        brand = body_of(alice.post("/brands", {"name": "Oakworks"}))

        own, others, every = (
            [stream.event().data for _ in range(number)] for stream, number in zip(streams, (2, 1, 2), strict=True)
        )

        assert (
            [item["resource_type"] for item in own] == [item["resource_type"] for item in every] == ["import", "brand"]
        )
        assert [item["data"] for item in others] == [brand]


class TestBeginning:
    @pytest.mark.parametrize("path", ["/events/stream", "/events/ws"])
    def test_refuses_strangers(self, anonymous: Caller, path: str) -> None:
        assert anonymous.get(path).status_code == 401

    def test_refuses_a_cursor_that_was_not_issued(self, bob: Caller) -> None:
        assert code_of(bob.get("/events/stream?cursor=x.y")) == "cursor_invalid"
        assert code_of(bob.get("/events/stream", headers={"Last-Event-ID": "x" * 5000})) == "cursor_invalid"

    def test_refuses_a_cursor_after_which_events_were_deleted(self, app: Flask, bob: Caller, make_brand: Make) -> None:
        start = body_of(bob.get("/events?from=now"))["meta"]["next_cursor"]
        make_brand()
        with app.app_context(), unit_of_work():
            service.number_all_changes()
            service.expire_events(before=clock.now() + timedelta(minutes=1))

        answer = bob.get("/events/stream", headers={"Last-Event-ID": start})

        assert (answer.status_code, code_of(answer)) == (410, "cursor_expired")

    def test_refuses_what_is_no_handshake(self, bob: Caller) -> None:
        answer = bob.get("/events/ws")

        assert (answer.status_code, code_of(answer)) == (426, "web_socket_required")
        assert (answer.headers["Upgrade"], answer.headers["Sec-WebSocket-Version"]) == ("websocket", "13")

    def test_refuses_a_handshake_without_a_key(self, bob: Caller) -> None:
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}

        answer = bob.get("/events/ws", headers=headers)

        assert (answer.status_code, code_of(answer)) == (400, "handshake_malformed")

    def test_takes_the_token_from_a_subprotocol(self, bob: Caller, anonymous: Caller) -> None:
        named = {"Sec-WebSocket-Protocol": f"catalog.events.v1, bearer.{bob.token}"}

        assert anonymous.get("/events/ws", headers=named).status_code == 426
        assert anonymous.get("/events/ws", headers={"Sec-WebSocket-Protocol": "bearer.x"}).status_code == 401


class TestCap:
    def test_refuses_one_too_many_until_one_has_ended(
        self, follow: Callable[..., Reader], bob: Caller, broadcaster: Broadcaster
    ) -> None:
        broadcaster.limit = 2
        streams = [follow(bob), follow(bob)]

        answer = bob.get("/events/stream")

        assert (answer.status_code, code_of(answer)) == (503, "too_many_streams")
        assert 1 <= int(answer.headers["Retry-After"]) <= 10
        streams[0].close()
        wait_for(lambda: broadcaster.open_streams == 1)
        follow(bob)

    def test_gives_a_place_back_that_was_never_used(self, bob: Caller, broadcaster: Broadcaster) -> None:
        broadcaster.limit = 1
        for _ in range(5):
            answer = bob.get("/events/stream")
            assert answer.status_code == 200
            answer.close()
            del answer
            wait_for(lambda: broadcaster.open_streams == 0)

    def test_refuses_all_where_there_is_to_be_none(self, app_with: Callable[..., Flask], bob: Caller) -> None:
        assert bob.on(app_with(max_streams=0)).get("/events/stream").status_code == 503

    def test_ends_every_stream_when_the_process_stops(
        self, follow: Callable[..., Reader], bob: Caller, broadcaster: Broadcaster
    ) -> None:
        broadcaster.pace = CALM
        follow(bob)

        broadcaster.is_stopping = lambda: True

        wait_for(lambda: broadcaster.open_streams == 0)
        assert bob.get("/events/stream").status_code == 503


class TestEventsThatAreDeleted:
    def test_before_they_were_read_end_the_stream_and_no_other(
        self, app: Flask, follow: Callable[..., Reader], bob: Caller, make_brand: Make
    ) -> None:
        stream = follow(bob)
        brand = make_brand()
        assert stream.event().data["resource_id"] == brand["id"]

        unread = {"type": "brand.updated", "resource_type": "brand", "resource_id": brand["id"], "row_version": 2}
        with app.app_context(), unit_of_work():
            db.session.add(ChangeEvent(created_at=clock.now(), **unread))
            db.session.flush()
            service.expire_events(before=clock.now() + timedelta(minutes=1))

        assert stream.end()["code"] == "cursor_expired"
        other = follow(bob)
        brand = make_brand()
        assert other.event().data["resource_id"] == brand["id"]


class TestCredentials:
    def test_that_are_revoked_end_the_stream(self, app: Flask, follow: Callable[..., Reader], bob: Caller) -> None:
        stream = follow(bob)

        bob.post("/auth/logout")

        assert stream.end()["code"] == "credentials_invalid"

    def test_of_a_deactivated_account_end_the_stream(
        self, app: Flask, follow: Callable[..., Reader], bob: Caller
    ) -> None:
        stream = follow(bob)

        set_user(app, bob, is_active=False)

        problem = stream.end()
        assert (problem["status"], problem["code"], problem["instance"]) == (
            401, "credentials_invalid", "/api/v1/events/stream",
        )  # fmt: skip

    def test_that_expire_end_the_stream(self, follow: Callable[..., Reader], bob: Caller) -> None:
        stream = follow(bob)

        with time_machine.travel(clock.now() + timedelta(hours=1)):
            assert stream.end()["code"] == "token_expired"

    def test_of_a_revoked_key_end_the_stream(
        self, follow: Callable[..., Reader], bob: Caller, anonymous: Caller
    ) -> None:
        key = body_of(bob.post("/api-keys", {"name": "Display", "scopes": ["events:read"]}))
        stream = Reader(partial(anonymous.get, "/events/stream", headers={"X-API-Key": key["key"]}))

        bob.delete(f"/api-keys/{key['id']}")

        assert stream.end()["code"] == "credentials_invalid"
        stream.close()

    def test_that_grant_less_hide_what_is_hidden_from_them(
        self, app: Flask, follow: Callable[..., Reader], alice: Caller, root: Caller, make_category: Make
    ) -> None:
        category = make_category()["id"]
        stream = follow(alice)
        draft = {"name": "Secret", "price": "1.00", "category_id": category, "status": "draft"}
        root.post("/products", draft)
        assert stream.event().data["data"]["name"] == "Secret"

        set_user(app, alice, role=Role.USER)
        root.post("/products", draft)

        block = stream.event()
        assert (block.event, block.data["data"]) == ("product.hidden", None)

    def test_are_checked_before_anything_is_delivered(
        self, app: Flask, follow: Callable[..., Reader], alice: Caller, bob: Caller, broadcaster: Broadcaster
    ) -> None:
        broadcaster.pace = Pace(poll=0.005, heartbeat=PATIENCE, check=0.0)
        stream = follow(bob)
        with app.app_context(), unit_of_work():
            db.session.execute(delete(UserSession).where(UserSession.user_id == bob.user_id))

        alice.post("/brands", {"name": "Oakworks"})

        assert stream.end()["code"] == "credentials_invalid"


@contextmanager
def statements_by_thread(app: Flask) -> Iterator[list[tuple[str, str]]]:
    """The statements of a block, each with the name of the thread that executed it."""
    found: list[tuple[str, str]] = []

    def note(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        found.append((threading.current_thread().name, sql))

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)


def set_user(app: Flask, caller: Caller, **values: Any) -> None:
    with app.app_context(), unit_of_work():
        db.session.execute(update(User).where(User.id == caller.user_id).values(**values))
