"""What endpoints receive: which changes, signed how, in what order, and what becomes of those that are refused."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from sqlalchemy import select, text, update
from standardwebhooks.webhooks import WebhookVerificationError

from app.core import clock
from app.core.jobs import Job
from app.core.metrics import WEBHOOK_DELIVERIES
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.webhooks import dispatch, queue, tasks
from app.features.webhooks.models import GIVE_UP_AFTER, MAX_FAILURES, Delivery, DeliveryStatus, Webhook
from app.security.permissions import Role
from app.web.openapi import describe
from tests.conftest import Caller, body_of, rows_of
from tests.counting import counter_of
from tests.features.webhooks.conftest import Scene
from tests.live.wire import PATIENCE, wait_for
from tests.operations import validator
from tests.receiver import Received, Reply

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def another_admin(sign_in: Callable[..., Caller]) -> Caller:
    """An administrator beside the one whose webhooks they are."""
    return sign_in("other", Role.ADMIN)


def faults_in(document: dict[str, Any], described: dict[str, Any], message: Received) -> list[str]:
    """What a message has otherwise than its webhook in the OpenAPI document."""
    checks: list[tuple[dict[str, Any], Any]] = [
        (one["schema"], message.headers.get(one["name"])) for one in described["parameters"]
    ]
    checks.append((described["requestBody"]["content"]["application/json"]["schema"], message.content))
    return [error.message for schema, value in checks for error in validator(document, schema).iter_errors(value)]


class TestMessages:
    def test_are_verified_by_the_reference_implementation(self, scene: Scene, make_product: Make) -> None:
        secret = scene.make_webhook()["secret"]
        make_product()
        scene.work()

        assert scene.endpoint.messages
        for message in scene.endpoint.messages:
            assert message.verify(secret)["type"] == message.content["type"]
            assert message.headers["content-type"] == "application/json"

    def test_are_refused_by_it_with_any_bit_changed(self, scene: Scene) -> None:
        made = scene.make_webhook()
        scene.ping(made)
        scene.work()
        (message,) = scene.endpoint.messages

        for place in range(len(message.body)):
            body = bytearray(message.body)
            body[place] ^= 1 << place % 7  # still UTF-8, as the verifier expects
            with pytest.raises(WebhookVerificationError):
                Received(message.path, message.headers, bytes(body)).verify(made["secret"])
        for name in ("webhook-id", "webhook-timestamp"):
            changed = Received(message.path, {**message.headers, name: message.headers[name] + "1"}, message.body)
            with pytest.raises(WebhookVerificationError):
                changed.verify(made["secret"])

    def test_are_the_items_of_the_feed(self, scene: Scene, make_product: Make) -> None:
        scene.make_webhook(events=["product.*"])
        make_product(stock=3)
        scene.work()

        (message,) = scene.endpoint.messages
        items = body_of(scene.boss.get("/events?cursor="))["items"]
        (item,) = (item for item in items if item["resource_type"] == "product")
        beside = {"timestamp": item["created_at"], "merged": 0, "cursor": message.content["cursor"]}
        assert message.content == {**item, **beside}
        assert message.id == f"evt_{item['id']}"

    def test_are_as_the_document_says(self, scene: Scene, alice: Caller, make_product: Make) -> None:
        made = scene.make_webhook()
        product = make_product()
        scene.work()
        alice.patch(f"/products/{product['id']}", {"price": "11.00"})
        scene.work()
        scene.ping(made)
        scene.work()

        document = describe(scene.sender)
        by_webhook = {"change": scene.endpoint.messages[:-1], "ping": scene.endpoint.messages[-1:]}
        for name, messages in by_webhook.items():
            assert messages
            for message in messages:
                assert faults_in(document, document["webhooks"][name]["post"], message) == []

    def test_have_the_cursor_from_which_the_feed_goes_on(self, scene: Scene, make_product: Make) -> None:
        scene.make_webhook(events=["product.*"])
        make_product()
        scene.work()
        missed = make_product()

        cursor = scene.endpoint.messages[0].content["cursor"]
        items = body_of(scene.boss.get(f"/events?cursor={cursor}"))["items"]

        assert [item["resource_id"] for item in items] == [missed["id"]]

    def test_go_to_those_who_asked_for_a_name(self, scene: Scene, alice: Caller, make_product: Make) -> None:
        scene.make_webhook("/prices", events=["price.changed"])
        scene.make_webhook("/deleted", events=["*.deleted"])
        scene.make_webhook("/all", events=["*"])
        product = make_product()
        scene.work()
        alice.patch(f"/products/{product['id']}", {"price": "11.00"})
        scene.work()

        assert [message.content["types"] for message in scene.endpoint.at("/prices")] == [
            ["product.updated", "price.changed"]
        ]
        assert scene.endpoint.at("/deleted") == []
        assert [message.content["type"] for message in scene.endpoint.at("/all")][-1] == "product.updated"

    def test_hold_only_what_the_owner_may_read(
        self, scene: Scene, root: Caller, another_admin: Caller, make_product: Make
    ) -> None:
        scene.make_webhook(events=["product.*"])
        product = make_product(status="draft", name="Secret")
        another_admin.patch(f"/users/{root.user_id}", {"role": "user"})
        scene.work()

        (message,) = scene.endpoint.messages
        assert message.content["types"] == ["product.hidden"]
        assert (message.content["resource_id"], message.content["data"]) == (product["id"], None)

    def test_are_not_sent_where_nothing_is_left_of_what_was_asked_for(
        self, scene: Scene, root: Caller, another_admin: Caller, make_product: Make
    ) -> None:
        made = scene.make_webhook(events=["product.created"])
        make_product(status="draft")
        another_admin.patch(f"/users/{root.user_id}", {"role": "user"})
        scene.work()

        assert scene.endpoint.messages == []
        assert replace(scene, boss=another_admin.on(scene.sender)).statuses_of(made) == ["skipped"]

    def test_leave_out_what_the_owner_may_not_hear_of(
        self, scene: Scene, root: Caller, another_admin: Caller, alice: Caller, make_product: Make
    ) -> None:
        made = scene.make_webhook(events=["import.finished", "product.created"])
        headers = {"Content-Type": "text/csv"}
        ordered = body_of(alice.call("POST", "/imports", data=b"sku,price\nNONE,1.00\n", headers=headers))
        alice.post(f"/imports/{ordered['id']}/cancel")
        product = make_product()
        another_admin.patch(f"/users/{root.user_id}", {"role": "editor"})
        scene.work()

        assert [message.content["resource_id"] for message in scene.endpoint.messages] == [product["id"]]
        assert scene.endpoint.messages[0].content["data"]["sku"] == product["sku"]
        seen = replace(scene, boss=another_admin.on(scene.sender))
        assert sorted(seen.statuses_of(made)) == ["delivered", "skipped"]

    def test_stop_when_the_owner_is_deactivated(
        self, scene: Scene, root: Caller, another_admin: Caller, make_product: Make
    ) -> None:
        made = scene.make_webhook()
        another_admin.delete(f"/users/{root.user_id}")
        make_product()
        scene.work()

        assert scene.endpoint.messages == []
        seen = replace(scene, boss=another_admin.on(scene.sender)).look_at(made)
        assert (seen["is_enabled"], seen["disabled_reason"]) == (False, "owner_inactive")

    def test_stop_so_without_another_change(
        self, scene: Scene, root: Caller, another_admin: Caller, make_product: Make
    ) -> None:
        made = scene.make_webhook()
        make_product()
        scene.look_for_work()
        another_admin.delete(f"/users/{root.user_id}")
        scene.work()
        scene.work()

        seen = replace(scene, boss=another_admin.on(scene.sender))
        assert scene.endpoint.messages == []
        assert seen.look_at(made)["disabled_reason"] == "owner_inactive"
        assert set(seen.statuses_of(made)) == {"pending"}

    def test_are_those_that_are_asked_for_when_they_are_sent(self, scene: Scene, make_product: Make) -> None:
        made = scene.make_webhook()
        make_product()
        scene.look_for_work()
        scene.boss.patch(f"/webhooks/{made['id']}", {"events": ["category.*"]})
        scene.work()

        assert [message.content["type"] for message in scene.endpoint.messages] == ["category.created"]
        assert sorted(scene.statuses_of(made)) == ["delivered", "skipped"]


class TestSeveralChanges:
    def test_of_one_resource_are_sent_as_the_last(self, scene: Scene, alice: Caller, make_product: Make) -> None:
        scene.make_webhook(events=["product.*", "price.*"])
        product = make_product()
        for number in range(5):
            alice.patch(f"/products/{product['id']}", {"name": f"Name {number}"})
        alice.patch(f"/products/{product['id']}", {"price": "99.00"})
        scene.work()

        (message,) = scene.endpoint.messages
        assert message.content["merged"] == 6
        assert message.content["data"]["price"] == "99.00"
        assert message.content["version"] == 7
        assert set(message.content["types"]) >= {"product.updated", "price.changed", "product.created"}
        assert message.content["type"] == "product.updated"

    def test_are_merged_into_one_that_waits_for_a_retry(self, scene: Scene, alice: Caller, make_product: Make) -> None:
        made = scene.make_webhook(events=["product.*"])
        product = make_product()
        scene.endpoint.reply(500)
        scene.work()
        alice.patch(f"/products/{product['id']}", {"name": "Later"})
        scene.endpoint.reply(204)
        scene.work()

        assert [message.content["data"]["name"] for message in scene.endpoint.messages] == [product["name"], "Later"]
        (delivery,) = scene.deliveries_of(made)
        assert (delivery["status"], delivery["attempts"], delivery["merged"]) == ("delivered", 2, 1)

    def test_that_come_while_one_is_sent_wait_for_it(self, scene: Scene, alice: Caller, make_product: Make) -> None:
        made = scene.make_webhook(events=["product.*"])
        product = make_product()

        def change_meanwhile(_: Received) -> Reply:
            scene.endpoint.reply(204)
            alice.patch(f"/products/{product['id']}", {"name": "Meanwhile"})
            scene.look_for_work()
            return Reply(503)

        scene.endpoint.replies = change_meanwhile
        scene.work()
        scene.work_after(seconds=10)

        assert [message.content["data"]["name"] for message in scene.endpoint.messages] == [
            product["name"],
            "Meanwhile",
        ]
        assert sorted(scene.statuses_of(made)) == ["delivered", "skipped"]
        assert max(delivery["merged"] for delivery in scene.deliveries_of(made)) == 1


class TestVeryMany:
    """Changes of a burst: each is heard, and nothing else waits for all of them."""

    def test_are_queued_a_part_at_a_time(
        self, scene: Scene, make_product: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dispatch, "MAX_EVENTS", 2)
        monkeypatch.setattr(dispatch, "MAX_SECONDS", 0.0)
        made = scene.make_webhook(events=["product.*"])
        for _ in range(5):
            make_product()

        waiting = []
        for _ in range(5):
            scene.look_for_work()
            waiting.append(len(scene.statuses_of(made)))

        assert waiting[0] <= 2
        assert waiting[-1] == 5

    def test_are_skipped_a_part_at_a_time(
        self, scene: Scene, make_product: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tasks, "MAX_TAKES", 1)
        made = scene.make_webhook(events=["product.*"])
        for _ in range(10):
            make_product()
        scene.look_for_work()
        scene.boss.patch(f"/webhooks/{made['id']}", {"events": ["price.changed"]})

        with scene.sender.app_context(), unit_of_work():
            batch = tasks._next_batch(made["id"])
        assert scene.statuses_of(made).count("skipped") == queue.CONCURRENCY
        assert batch.again_at is not None
        assert batch.again_at <= clock.now()

        scene.work()
        assert set(scene.statuses_of(made)) == {"skipped"}


class TestLocks:
    def test_of_a_job_and_its_webhook_are_taken_in_one_order(self, scene: Scene) -> None:
        made = scene.make_webhook()
        scene.look_for_work()
        with scene.sender.app_context(), unit_of_work():
            db.session.execute(update(Webhook).values(job_id=None))

        with ThreadPoolExecutor(1) as other, scene.sender.app_context():
            with unit_of_work():
                # What a step of the job does, while another worker sees to it that there is a job.
                db.session.execute(update(Job).values(attempts=1))
                looking = other.submit(scene.look_for_work)
                if db.engine.dialect.name == "postgresql":
                    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                    wait_for(lambda: db.session.scalar(waiting) == 1)
                row = select(Webhook.id).where(Webhook.id == made["id"]).with_for_update(key_share=True)
                assert db.session.scalar(row) == made["id"]
            assert looking.result(PATIENCE) is None

        with scene.sender.app_context(), unit_of_work(reading=True):
            assert db.session.scalar(select(Webhook.job_id)) == db.session.scalar(select(Job.id))


class TestMetrics:
    def test_count_what_became_of_each_attempt(
        self, scene: Scene, root: Caller, another_admin: Caller, make_product: Make
    ) -> None:
        scene.make_webhook(events=["product.created"])
        grown = counter_of(WEBHOOK_DELIVERIES)

        scene.endpoint.reply(500)
        make_product()
        scene.work()
        scene.endpoint.reply(204)
        scene.work_after(seconds=7)
        make_product(status="draft")
        another_admin.patch(f"/users/{root.user_id}", {"role": "user"})
        scene.work()

        assert grown() == {("retried",): 1, ("succeeded",): 1, ("skipped",): 1}

    def test_tell_a_message_that_is_given_up_from_an_endpoint_that_is_gone(self, scene: Scene) -> None:
        first, second = scene.make_webhook(), scene.make_webhook()
        grown = counter_of(WEBHOOK_DELIVERIES)

        scene.endpoint.reply(500)
        scene.ping(first)
        scene.work()
        scene.work_after(seconds=(GIVE_UP_AFTER + timedelta(hours=10)).total_seconds())
        scene.endpoint.reply(410)
        scene.ping(second)
        scene.work()

        assert grown() == {("retried",): 1, ("failed",): 1, ("gone",): 1}


class TestFailures:
    def test_are_tried_again_later(self, scene: Scene) -> None:
        made = scene.make_webhook()
        scene.endpoint.reply(500, body=b"out of order")
        scene.ping(made)
        scene.work()
        scene.work()

        (delivery,) = scene.deliveries_of(made)
        assert (delivery["status"], delivery["attempts"], delivery["response_status"]) == ("pending", 1, 500)
        assert delivery["response_body"] == "out of order"
        assert delivery["next_attempt_at"] is not None

        scene.endpoint.reply(200)
        scene.work_after(seconds=7)
        assert scene.statuses_of(made) == ["delivered"]
        assert len({message.id for message in scene.endpoint.messages}) == 1

    def test_wait_as_long_as_the_endpoint_asks(self, scene: Scene) -> None:
        made = scene.make_webhook()
        scene.endpoint.reply(429, Retry_After="600")
        scene.ping(made)
        scene.work()
        scene.ping(made)

        scene.work_after(seconds=590)
        assert len(scene.endpoint.messages) == 1
        scene.endpoint.reply(204)
        scene.work_after(seconds=610)
        assert len(scene.endpoint.messages) == 3

    @pytest.mark.parametrize("status", [301, 307, 404, 500])
    def test_are_all_but_2xx(self, scene: Scene, status: int) -> None:
        made = scene.make_webhook()
        scene.endpoint.reply(status, Location=f"{scene.endpoint.url}/elsewhere")
        scene.ping(made)
        scene.work()

        assert scene.statuses_of(made) == ["pending"]
        assert [message.path for message in scene.endpoint.messages] == ["/hook"]

    def test_pause_an_endpoint_and_try_it_with_one_at_a_time(self, scene: Scene) -> None:
        made = scene.make_webhook()
        scene.endpoint.reply(500)
        for _ in range(MAX_FAILURES + 5):
            scene.ping(made)
        scene.work()
        tried = len(scene.endpoint.messages)
        assert MAX_FAILURES <= tried < MAX_FAILURES + 4
        assert scene.look_at(made)["paused_until"] is not None

        scene.work_after(minutes=5)
        assert len(scene.endpoint.messages) == tried + 1

        scene.endpoint.reply(204)
        scene.work_after(hours=3)
        assert set(scene.statuses_of(made)) == {"delivered"}
        seen = scene.look_at(made)
        assert (seen["failures"], seen["failing_since"], seen["paused_until"]) == (0, None, None)

    def test_with_410_disable_the_endpoint_at_once(self, scene: Scene, make_product: Make) -> None:
        made = scene.make_webhook()
        scene.endpoint.reply(410)
        scene.ping(made)
        scene.work()
        make_product()
        scene.work()

        seen = scene.look_at(made)
        assert (seen["is_enabled"], seen["disabled_reason"]) == (False, "gone")
        assert scene.statuses_of(made) == ["dead"]
        assert len(scene.endpoint.messages) == 1
        trail = body_of(scene.boss.get(f"/audit-events?resource=webhook/{made['id']}"))["items"]
        assert trail[0]["after"] == {"is_enabled": False, "disabled_reason": "gone"}

    def test_for_three_days_end_a_delivery_and_disable_the_endpoint(self, scene: Scene) -> None:
        made = scene.make_webhook()
        scene.endpoint.reply(500)
        scene.ping(made)
        scene.work()
        scene.work_after(seconds=(GIVE_UP_AFTER - timedelta(minutes=1)).total_seconds())
        assert scene.statuses_of(made) == ["pending"]

        scene.work_after(seconds=(GIVE_UP_AFTER + timedelta(hours=10)).total_seconds())

        (delivery,) = scene.deliveries_of(made)
        assert (delivery["status"], delivery["attempts"]) == ("dead", 3)
        seen = scene.look_at(made)
        assert (seen["is_enabled"], seen["disabled_reason"]) == (False, "failing")

    def test_leave_a_later_change_all_its_time(self, scene: Scene, alice: Caller, make_product: Make) -> None:
        made = scene.make_webhook(events=["product.*"])
        product = make_product()
        scene.endpoint.replies = lambda message: Reply(500 if message.content["type"] != "webhook.ping" else 204)
        scene.work()
        scene.ping(made)  # which succeeds, so that the endpoint as a whole does not fail
        alice.patch(f"/products/{product['id']}", {"name": "Later"})
        scene.work_after(days=3)

        assert "dead" not in scene.statuses_of(made)
        assert scene.look_at(made)["is_enabled"]

    def test_leave_what_waited_for_a_disabled_endpoint_all_its_time(self, scene: Scene, make_product: Make) -> None:
        made = scene.make_webhook(events=["product.*"])
        make_product()
        scene.endpoint.reply(500)
        scene.work()
        scene.boss.patch(f"/webhooks/{made['id']}", {"is_enabled": False})
        with scene.sender.app_context(), unit_of_work():
            db.session.execute(update(Delivery).values(tried_since=clock.now() - 2 * GIVE_UP_AFTER))
        scene.boss.patch(f"/webhooks/{made['id']}", {"is_enabled": True})
        scene.work()

        assert scene.statuses_of(made) == ["pending"]
        assert len(scene.endpoint.messages) == 2

    def test_leave_a_dead_letter_that_can_be_sent_again(self, scene: Scene) -> None:
        made = scene.make_webhook()
        scene.endpoint.reply(410)
        scene.ping(made)
        scene.work()
        (dead,) = body_of(scene.boss.get(f"/webhooks/{made['id']}/deliveries?status=dead"))["items"]
        scene.endpoint.reply(204)
        scene.boss.patch(f"/webhooks/{made['id']}", {"is_enabled": True})

        scene.boss.post(f"/webhooks/{made['id']}/deliveries/{dead['id']}/redeliver")
        scene.work()

        assert [message.id for message in scene.endpoint.messages] == [dead["message_id"]] * 2
        assert scene.statuses_of(made) == ["dead", "delivered"]

    def test_of_one_endpoint_do_not_delay_another(self, scene: Scene, make_product: Make) -> None:
        scene.make_webhook("/dead")
        scene.make_webhook("/alive", events=["product.*"])
        scene.endpoint.replies = lambda message: Reply(500 if message.path == "/dead" else 204)
        for _ in range(20):
            make_product()
        scene.work()

        assert len(scene.endpoint.at("/alive")) == 20
        assert len(scene.endpoint.at("/dead")) < MAX_FAILURES + 4

    def test_of_a_worker_that_died_are_sent_again(self, scene: Scene) -> None:
        made = scene.make_webhook()
        scene.ping(made)
        scene.work()
        with scene.sender.app_context(), unit_of_work():
            # Between the sending and the mark.
            delivery = db.session.scalars(select(Delivery)).one()
            delivery.status, delivery.finished_at = DeliveryStatus.SENDING, None
        other = scene.ping(made)
        scene.work()

        first, *again = [message.id for message in scene.endpoint.messages]
        assert sorted(again) == sorted([first, other["message_id"]])
        assert scene.statuses_of(made) == ["delivered", "delivered"]

    def test_are_forgotten_after_a_month(self, scene: Scene) -> None:
        made = scene.make_webhook()
        scene.ping(made)
        scene.work()
        for days, left in ((29, 1), (31, 0)):
            with time_machine.travel(clock.now() + timedelta(days=days)):
                scene.sender.test_cli_runner().invoke(args=["prune"], catch_exceptions=False)

            assert len(rows_of(scene.sender, "webhook_deliveries")) == left

    def test_to_decrypt_the_secret_are_said(self, scene: Scene) -> None:
        made = scene.make_webhook()
        with scene.sender.app_context(), unit_of_work():
            db.session.get_one(Webhook, made["id"]).secret = "of another key"
        scene.ping(made)
        scene.work()

        (delivery,) = scene.deliveries_of(made)
        assert scene.endpoint.messages == []
        assert "rotate" in delivery["error"]
