"""Each message is sent in the trace of the change that caused it, and the endpoint learns of that trace."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.features.webhooks.models import FIRST_DELAY
from app.web.logs import set_up_logs
from tests.conftest import Caller
from tests.features.webhooks.conftest import Scene
from tests.receiver import Received
from tests.recording import Recording, hex_id, recording, trace_of

Make = Callable[..., dict[str, Any]]

ONE, OTHER = "1" * 32, "2" * 32


@pytest.fixture(autouse=True)
def recorded() -> Iterator[Recording]:
    """What is recorded; asked for before the scene, whose application records its statements then."""
    with recording() as recorded:
        yield recorded


def sent_in(trace_id: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}


def trace_told(message: Received) -> str:
    """The trace that a message says it belongs to."""
    return message.headers["traceparent"].split("-")[1]


def test_is_that_of_the_change(recorded: Recording, scene: Scene, alice: Caller, make_product: Make) -> None:
    product = make_product()
    scene.make_webhook(events=["product.*"])
    alice.patch(f"/products/{product['id']}", {"name": "Another"}, headers=sent_in(ONE))

    scene.work()

    change = recorded.named("PATCH /api/v1/products/<id:product_id>")
    delivery, sent = recorded.named("webhook"), recorded.named("POST")
    assert delivery in recorded.below(change)
    assert sent in recorded.below(delivery)
    assert scene.endpoint.messages[-1].headers["traceparent"] == f"00-{ONE}-{hex_id(sent)}-01"
    assert (sent.attributes or {})["http.response.status_code"] == 204
    # The job sends the changes of many requests, and leads to none of them.
    [job] = [span for span in recorded.spans if span.name == "job webhook" and not span.parent][-1:]
    assert [f"{link.context.trace_id:032x}" for link in delivery.links] == [trace_of(job)]


def test_is_that_of_the_last_of_several_changes(
    recorded: Recording, scene: Scene, alice: Caller, make_product: Make
) -> None:
    product = make_product()
    scene.make_webhook(events=["product.*"])
    for name, trace_id in (("Another", ONE), ("A third", OTHER)):
        alice.patch(f"/products/{product['id']}", {"name": name}, headers=sent_in(trace_id))

    scene.work()

    [message] = scene.endpoint.messages
    assert message.content["merged"] == 1
    assert trace_told(message) == OTHER


def test_is_kept_for_another_attempt(recorded: Recording, scene: Scene, alice: Caller, make_product: Make) -> None:
    product = make_product()
    scene.make_webhook(events=["product.*"])
    alice.patch(f"/products/{product['id']}", {"name": "Another"}, headers=sent_in(ONE))
    scene.endpoint.reply(500)
    scene.work()
    scene.endpoint.reply(204)

    scene.work_after(seconds=2 * FIRST_DELAY)

    first, second = scene.endpoint.messages
    assert (trace_told(first), trace_told(second)) == (ONE, ONE)
    failed, sent = [span for span in recorded.spans if span.name == "webhook"]
    assert (failed.status.is_ok, (failed.attributes or {})["error.type"]) == (False, "500")
    assert "error.type" not in (sent.attributes or {})
    assert scene.endpoint.url not in recorded.text


@pytest.mark.parametrize("path", ["ping", "deliveries/{}/redeliver"])
def test_is_that_of_the_request_that_orders_a_message(recorded: Recording, scene: Scene, path: str) -> None:
    hook = scene.make_webhook()
    scene.ping(hook)
    scene.work()
    where = f"/webhooks/{hook['id']}/{path.format(scene.deliveries_of(hook)[0]['id'])}"

    answer = scene.boss.post(where, headers=sent_in(ONE))
    scene.work()

    assert answer.status_code == 202, answer.get_data(as_text=True)
    assert trace_told(scene.endpoint.messages[-1]) == ONE


def test_is_in_every_line_of_the_log(recorded: Recording, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    hook = scene.make_webhook()
    scene.boss.post(f"/webhooks/{hook['id']}/ping", headers=sent_in(ONE))
    set_up_logs(level="INFO", as_json=False)

    scene.work()

    [line] = [line for line in capsys.readouterr().err.splitlines() if "outbound" in line]
    assert f"trace_id={ONE}" in line
    assert "job_id=" in line
