"""The receiver of docs/webhooks.md, as a reader would run it."""

import re
import threading
from collections.abc import Callable
from http.server import HTTPServer
from typing import Any

import pytest
from flask import Flask

from app.api.tasks import TASKS
from app.core.worker import Worker
from app.features.events.names import all_names
from app.features.webhooks import dispatch
from tests.conftest import Caller, body_of
from tests.servers import PROJECT

PAGE = (PROJECT / "docs" / "webhooks.md").read_text("utf-8")


class TestTheReceiver:
    def test_takes_messages_and_refuses_forgeries(
        self,
        root: Caller,
        app_with: Callable[..., Flask],
        make_product: Callable[..., dict[str, Any]],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (source,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
        program: dict[str, Any] = {}
        exec(source, program)
        program["Hook"].log_message = lambda *_: None
        sender = app_with(webhook_allowed_private_hosts=("127.0.0.1",))
        boss = root.on(sender)
        with HTTPServer(("127.0.0.1", 0), program["Hook"]) as server:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            hook = {"url": f"http://127.0.0.1:{server.server_port}/", "events": ["product.created"]}
            made, forged = (body_of(boss.post("/webhooks", hook)) for _ in range(2))
            program["SECRET"] = made["secret"]
            product = make_product(price="12.50")
            with sender.app_context():
                dispatch.look_for_work()
                Worker(TASKS, sender.app_context).drain()
            server.shutdown()

        answers = [
            body_of(boss.get(f"/webhooks/{one['id']}/deliveries"))["items"][0]["response_status"]
            for one in (made, forged)
        ]
        assert answers == [204, 401]
        assert capsys.readouterr().out == f'["product.created", "product.published"] {product["id"]} 12.50\n'

    def test_knows_every_name_of_a_change(self, app: Flask) -> None:
        named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", PAGE)) - {"Webhook.verify"}
        kinds = ("category", "brand", "attribute", "product_type", "media")
        others = {f"{kind}.{verb}" for kind in kinds for verb in ("created", "updated", "deleted", "hidden")}

        assert named | others | {"media.restored"} >= set(all_names())
