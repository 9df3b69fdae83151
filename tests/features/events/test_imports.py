"""The end of an import, in the change feed of those who may see it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import update

from app.core import clock
from app.core.jobs import Job, JobStatus
from app.core.transactions import unit_of_work
from app.extensions import db
from app.security.permissions import Role
from tests.conftest import Caller, body_of
from tests.features.events.reading import now_cursor, read_on

GOOD = "sku,name,price,category,status\nA,Chair,1.00,Chairs,active\n"
BAD = "sku,name,price,category,status\nA,,1.00,Chairs,active\n"


@pytest.fixture
def work(runner: FlaskCliRunner) -> Callable[[], None]:
    """Do what is due, as a worker does."""

    def work() -> None:
        done = runner.invoke(args=["worker", "--once"])
        assert done.exit_code == 0, done.output

    return work


def send(caller: Caller, text: str, query: str = "") -> int:
    answer = caller.call("POST", f"/imports{query}", data=text, headers={"Content-Type": "text/csv"})
    import_id: int = body_of(answer)["id"]
    return import_id


def ends_of(caller: Caller, cursor: str) -> list[dict[str, Any]]:
    return read_on(caller, cursor, "types=import.finished")


@pytest.mark.parametrize(
    ("text", "query", "status"),
    [(GOOD, "", "succeeded"), (BAD, "", "failed"), (GOOD, "?dry_run=true", "succeeded")],
)
def test_has_the_import(alice: Caller, work: Callable[[], None], text: str, query: str, status: str) -> None:
    cursor = now_cursor(alice)
    import_id = send(alice, text, query)
    assert ends_of(alice, cursor) == []

    work()

    [event] = ends_of(alice, cursor)
    assert event.items() >= {"type": "import.finished", "types": ["import.finished"], "version": 1}.items()
    assert (event["resource_type"], event["resource_id"]) == ("import", import_id)
    assert event["data"] == body_of(alice.get(f"/imports/{import_id}"))
    assert (event["data"]["status"], event["data"]["dry_run"]) == (status, bool(query))


def test_comes_after_what_the_import_changed(alice: Caller, work: Callable[[], None]) -> None:
    cursor = now_cursor(alice)
    send(alice, GOOD)

    work()

    assert [item["types"] for item in read_on(alice, cursor)] == [
        ["category.created"],
        ["product.created", "product.published"],
        ["import.finished"],
    ]


def test_has_every_name_of_what_the_import_changed(alice: Caller, work: Callable[[], None]) -> None:
    send(alice, "sku,name,price,category,status,stock,low_stock_at\nA,Chair,1.00,Chairs,active,9,5\n")
    work()
    cursor = now_cursor(alice)
    send(alice, "sku,price,status,stock\nA,2.00,draft,4\n")

    work()

    [changed, _] = read_on(alice, cursor)
    assert changed["types"] == ["product.updated", "product.hidden", "price.changed", "stock.moved", "stock.low"]
    assert changed["data"]["low_stock_at"] == 5


def test_comes_once_where_it_is_cancelled(alice: Caller, work: Callable[[], None]) -> None:
    cursor = now_cursor(alice)
    import_id = send(alice, GOOD)

    alice.post(f"/imports/{import_id}/cancel")
    alice.post(f"/imports/{import_id}/cancel")
    work()

    assert [event["data"]["status"] for event in ends_of(alice, cursor)] == ["cancelled"]


def test_comes_where_every_worker_died(app: Flask, alice: Caller, work: Callable[[], None]) -> None:
    cursor = now_cursor(alice)
    send(alice, GOOD)
    died = {"status": JobStatus.RUNNING, "lease": "x", "attempts": Job.max_attempts}
    with app.app_context(), unit_of_work():
        db.session.execute(update(Job).values(due_at=clock.now() - timedelta(seconds=1), **died))

    work()

    assert [event["data"]["status"] for event in ends_of(alice, cursor)] == ["failed"]


class TestIsLeftOut:
    def test_of_the_feeds_of_those_who_may_not_see_it(
        self, alice: Caller, bob: Caller, sign_in: Callable[..., Caller], work: Callable[[], None]
    ) -> None:
        cursor = now_cursor(alice)
        send(alice, GOOD)
        work()

        for other in (bob, sign_in("dave", Role.EDITOR)):
            assert [item["resource_type"] for item in read_on(other, cursor)] == ["category", "product"]
            assert read_on(other, cursor, "resource=import") == []

    def test_of_the_feed_of_a_key_that_may_not_import(
        self, app: Flask, alice: Caller, work: Callable[[], None]
    ) -> None:
        key = body_of(alice.post("/api-keys", {"name": "Feed", "scopes": ["events:read", "products:read"]}))["key"]
        send(alice, GOOD)
        work()

        items = body_of(Caller(app).get("/events", headers={"X-API-Key": key}))["items"]

        assert [item["type"] for item in items] == ["category.hidden", "product.created"]

    def test_of_no_feed_of_an_administrator(self, alice: Caller, root: Caller, work: Callable[[], None]) -> None:
        cursor = now_cursor(alice)
        send(alice, GOOD)
        work()

        assert ends_of(root, cursor) == ends_of(alice, cursor) != []
