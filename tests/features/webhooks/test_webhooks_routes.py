"""Webhooks over HTTP: endpoints, their secrets, and the log of their deliveries."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import update
from standardwebhooks.webhooks import WebhookVerificationError
from werkzeug.test import TestResponse

from app.api.tasks import TASKS
from app.core import clock
from app.core.transactions import unit_of_work
from app.core.worker import Worker
from app.extensions import db
from app.features.webhooks.models import DisabledReason, Webhook
from app.features.webhooks.service import READS, REPLAY
from app.security.permissions import Role
from tests.conftest import Caller, body_of, code_of, faults_of, rows_of
from tests.features.webhooks.conftest import Scene

Make = Callable[..., dict[str, Any]]
HOOK = {"url": "https://hooks.example.com/catalog", "events": ["product.*"]}


class TestCreateWebhook:
    def test_shows_the_secret_once(self, root: Caller) -> None:
        made = body_of(root.post("/webhooks", HOOK))

        assert made["secret"].startswith("whsec_")
        assert "secret" not in body_of(root.get(f"/webhooks/{made['id']}"))
        assert made["user_id"] == root.user_id

    def test_stores_no_secret_in_the_clear(self, root: Caller, app: Flask) -> None:
        secret = body_of(root.post("/webhooks", HOOK))["secret"]

        for table in ("webhooks", "audit_events"):
            assert rows_of(app, table)
            assert secret.removeprefix("whsec_") not in repr(rows_of(app, table))

    @pytest.mark.parametrize(
        "url",
        [
            "http://hooks.example.com/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://2130706433/",
            "https://localhost/",
            "https://metadata.google.internal/",
        ],
    )
    def test_refuses_an_address_that_nothing_is_sent_to(self, root: Caller, url: str) -> None:
        assert faults_of(root.post("/webhooks", {**HOOK, "url": url})) == [("/url", "url_not_allowed")]

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://example.com/",
            "https://user:pass@example.com/",
            "https://example.com/#here",
            "https:///path",
            "//example.com",
            "https://exa mple.com/",
        ],
    )
    def test_refuses_what_is_no_url(self, root: Caller, url: str) -> None:
        assert faults_of(root.post("/webhooks", {**HOOK, "url": url})) == [("/url", "malformed")]

    def test_refuses_names_that_no_change_has(self, root: Caller) -> None:
        answer = root.post("/webhooks", {**HOOK, "events": ["product.sold", "category.*"]})

        assert faults_of(answer) == [("/events/0", "event_unknown")]

    def test_is_for_administrators(self, alice: Caller) -> None:
        assert code_of(alice.post("/webhooks", HOOK)) == "permission_denied"

    def test_refuses_a_key_that_cannot_read_what_is_sent(self, root: Caller) -> None:
        key = body_of(root.post("/api-keys", {"name": "hooks", "scopes": ["webhooks:write"]}))["key"]
        program = Caller(root.app)

        answer = program.post("/webhooks", HOOK, headers={"X-API-Key": key})

        assert code_of(answer) == "read_not_held"


class TestUpdateWebhook:
    def test_changes_what_is_stated(self, root: Caller) -> None:
        made = body_of(root.post("/webhooks", HOOK))

        changed = body_of(root.patch(f"/webhooks/{made['id']}", {"events": ["*.deleted"], "is_enabled": False}))

        assert (changed["events"], changed["is_enabled"], changed["url"]) == (["*.deleted"], False, HOOK["url"])
        assert changed["version"] == made["version"] + 1

    def test_loses_nothing_that_happened_before_it_was_disabled(self, scene: Scene, make_product: Make) -> None:
        made = scene.make_webhook(events=["product.*"])
        make_product(sku="BEFORE")
        scene.boss.patch(f"/webhooks/{made['id']}", {"is_enabled": False})
        make_product(sku="MEANWHILE")
        scene.work()
        heard_while_disabled = list(scene.endpoint.messages)
        scene.boss.patch(f"/webhooks/{made['id']}", {"is_enabled": True})
        make_product(sku="AFTER")
        scene.work()

        assert heard_while_disabled == []
        assert {item.content["data"]["sku"] for item in scene.endpoint.messages} == {"BEFORE", "AFTER"}

    def test_loses_nothing_where_no_worker_has_looked_meanwhile(self, scene: Scene, make_product: Make) -> None:
        made = scene.make_webhook(events=["product.*"])
        make_product(sku="BEFORE")
        for is_enabled in (False, True, False, True):
            scene.boss.patch(f"/webhooks/{made['id']}", {"is_enabled": is_enabled})
        scene.work()

        assert [item.content["data"]["sku"] for item in scene.endpoint.messages] == ["BEFORE"]

    def test_hears_of_nothing_that_happened_while_it_was_disabled(self, scene: Scene, make_product: Make) -> None:
        made = scene.make_webhook(is_enabled=False)
        make_product(sku="BEFORE")
        scene.boss.patch(f"/webhooks/{made['id']}", {"is_enabled": True})
        make_product(sku="AFTER")

        scene.work()

        assert [item.content["data"]["sku"] for item in scene.endpoint.messages] == ["AFTER"]

    def test_enables_it_as_if_it_had_never_failed(self, scene: Scene, make_product: Make) -> None:
        made = scene.make_webhook(events=["product.*"])
        with scene.sender.app_context(), unit_of_work():
            failed = {"failures": 7, "failing_since": clock.now(), "paused_until": clock.now() + timedelta(hours=1)}
            reason = DisabledReason.FAILING
            db.session.execute(update(Webhook).values(is_enabled=False, disabled_reason=reason, **failed))
        make_product()  # which no reader has seen in the feed, so that enabling has to number it

        seen = body_of(scene.boss.patch(f"/webhooks/{made['id']}", {"is_enabled": True}))

        assert seen["is_enabled"]
        assert (seen["failures"], seen["failing_since"], seen["paused_until"]) == (0, None, None)
        assert seen["disabled_reason"] is None
        scene.work()
        assert scene.endpoint.messages == []


class TestDeleteWebhook:
    def test_ends_what_waits(self, scene: Scene, make_product: Make) -> None:
        made = scene.make_webhook()
        make_product()

        assert scene.boss.delete(f"/webhooks/{made['id']}").status_code == 204
        scene.work()

        assert scene.endpoint.messages == []
        assert scene.boss.get(f"/webhooks/{made['id']}").status_code == 404
        assert scene.boss.get(f"/webhooks/{made['id']}/deliveries").status_code == 404

    def test_leaves_its_rows_to_the_pruning(self, scene: Scene, make_product: Make) -> None:
        gone, stays = scene.make_webhook(), scene.make_webhook()
        make_product()
        scene.work()
        scene.boss.delete(f"/webhooks/{gone['id']}")

        scene.sender.test_cli_runner().invoke(args=["prune"], catch_exceptions=False)

        assert [row[0] for row in rows_of(scene.sender, "webhooks")] == [stays["id"]]
        assert {row[1] for row in rows_of(scene.sender, "webhook_deliveries")} == {stays["id"]}


class TestRotateSecret:
    def test_signs_with_both_until_the_overlap_ends(self, scene: Scene) -> None:
        made = scene.make_webhook()
        rotated = body_of(scene.boss.post(f"/webhooks/{made['id']}/rotate-secret", {"overlap_seconds": 3600}))
        assert rotated["secret"] != made["secret"]

        scene.ping(made)
        scene.work()

        (message,) = scene.endpoint.messages
        assert message.verify(made["secret"]) == message.verify(rotated["secret"])

    def test_without_an_overlap_ends_the_old_one_at_once(self, scene: Scene) -> None:
        made = scene.make_webhook()
        rotated = body_of(scene.boss.post(f"/webhooks/{made['id']}/rotate-secret", {"overlap_seconds": 0}))

        scene.ping(made)
        scene.work()

        (message,) = scene.endpoint.messages
        message.verify(rotated["secret"])
        with pytest.raises(WebhookVerificationError):
            message.verify(made["secret"])


class TestPing:
    def test_is_in_the_log_of_deliveries(self, scene: Scene) -> None:
        made = scene.make_webhook()
        scene.endpoint.reply(200, body=b"thank you")
        answer = scene.boss.post(f"/webhooks/{made['id']}/ping")
        assert (answer.status_code, body_of(answer)["status"]) == (202, "pending")

        scene.work()

        delivery = body_of(scene.boss.get(answer.headers["Location"].removeprefix("/api/v1")))
        assert (delivery["status"], delivery["response_status"], delivery["attempts"]) == ("delivered", 200, 1)
        assert (delivery["response_body"], delivery["error"], delivery["next_attempt_at"]) == ("thank you", None, None)
        assert delivery["request_body"].encode() == scene.endpoint.messages[0].body
        assert delivery["message_id"] == scene.endpoint.messages[0].id
        assert scene.endpoint.messages[0].content["type"] == "webhook.ping"

    def test_refuses_a_disabled_webhook(self, scene: Scene) -> None:
        made = scene.make_webhook(is_enabled=False)

        assert code_of(scene.boss.post(f"/webhooks/{made['id']}/ping")) == "webhook_disabled"


class TestDeliveries:
    def test_are_not_for_a_key_that_cannot_read_what_was_sent(
        self, scene: Scene, root: Caller, anonymous: Caller, make_product: Make
    ) -> None:
        made = scene.make_webhook(events=["product.*"])
        make_product(status="draft", name="Secret")
        scene.work()
        (sent,) = scene.deliveries_of(made)
        assert "Secret" in sent["request_body"]
        log = f"/webhooks/{made['id']}/deliveries"

        def get(path: str, *scopes: str) -> TestResponse:
            key = body_of(root.post("/api-keys", {"name": "log", "scopes": ["webhooks:read", *scopes]}))["key"]
            return anonymous.on(scene.sender).get(path, headers={"X-API-Key": key})

        for path in (log, f"{log}/{sent['id']}"):
            assert code_of(get(path)) == "read_not_held"
            assert get(path, *READS).status_code == 200
        assert get(f"/webhooks/{made['id']}").status_code == 200


class TestRedeliver:
    def test_sends_it_again_under_its_id_as_it_is_then(self, scene: Scene, alice: Caller, make_product: Make) -> None:
        made = scene.make_webhook(events=["product.created"])
        product = make_product(name="Old")
        scene.work()
        alice.patch(f"/products/{product['id']}", {"name": "New"})
        (first,) = body_of(scene.boss.get(f"/webhooks/{made['id']}/deliveries"))["items"]

        answer = scene.boss.post(f"/webhooks/{made['id']}/deliveries/{first['id']}/redeliver")
        assert answer.status_code == 202
        scene.work()

        old, new = scene.endpoint.messages
        assert old.id == new.id
        assert (old.content["data"]["name"], new.content["data"]["name"]) == ("Old", "New")

    def test_refuses_one_that_waits(self, scene: Scene) -> None:
        made = scene.make_webhook()
        waiting = scene.ping(made)

        answer = scene.boss.post(f"/webhooks/{made['id']}/deliveries/{waiting['id']}/redeliver")

        assert code_of(answer) == "delivery_pending"

    def test_knows_no_delivery_of_another_webhook(self, scene: Scene) -> None:
        one, other = scene.make_webhook(), scene.make_webhook()
        waiting = scene.ping(one)

        assert scene.boss.post(f"/webhooks/{other['id']}/deliveries/{waiting['id']}/redeliver").status_code == 404


class TestReplay:
    def test_sends_what_happened_before_it_was_there(self, scene: Scene, alice: Caller, make_product: Make) -> None:
        product = make_product(sku="EARLY")
        alice.patch(f"/products/{product['id']}", {"price": "11.00"})
        made = scene.make_webhook(events=["product.*"])

        answer = scene.boss.post(f"/webhooks/{made['id']}/replay", {"cursor": ""})
        assert answer.status_code == 202
        scene.work()
        scene.work()

        (message,) = scene.endpoint.messages
        assert message.content["data"]["sku"] == "EARLY"
        assert message.content["merged"] == 1
        assert {"product.created", "product.updated", "price.changed"} <= set(message.content["types"])

    def test_begins_at_a_time(self, scene: Scene, make_product: Make) -> None:
        make_product(sku="ONE")
        moment = clock.now()
        make_product(sku="TWO")
        made = scene.make_webhook(events=["product.*"])

        scene.boss.post(f"/webhooks/{made['id']}/replay", {"since": moment.isoformat().replace("+00:00", "Z")})
        scene.work()
        scene.work()

        assert [message.content["data"]["sku"] for message in scene.endpoint.messages] == ["TWO"]

    @pytest.mark.parametrize("body", [{}, {"cursor": "", "since": "2026-01-01T00:00:00Z"}])
    def test_wants_one_of_both(self, scene: Scene, body: dict[str, str]) -> None:
        made = scene.make_webhook()

        assert [code for _, code in faults_of(scene.boss.post(f"/webhooks/{made['id']}/replay", body))] == [
            "since_or_cursor"
        ]

    def test_of_an_inactive_owner_disables_the_webhook(
        self, scene: Scene, root: Caller, sign_in: Callable[..., Caller], make_product: Make
    ) -> None:
        make_product()
        made = scene.make_webhook()
        scene.boss.post(f"/webhooks/{made['id']}/replay", {"cursor": ""})
        sign_in("other", Role.ADMIN).delete(f"/users/{root.user_id}")
        # The replay alone, without the source, which would disable it as well.
        Worker({REPLAY: TASKS[REPLAY]}, scene.sender.app_context).drain()

        with scene.sender.app_context(), unit_of_work(reading=True):
            assert db.session.get_one(Webhook, made["id"]).disabled_reason == "owner_inactive"

    def test_refuses_a_cursor_that_is_not_ours(self, scene: Scene) -> None:
        made = scene.make_webhook()

        assert scene.boss.post(f"/webhooks/{made['id']}/replay", {"cursor": "MTAwMQ.c2ln"}).status_code == 422
