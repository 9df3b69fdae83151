"""Requests to foreign URLs as the application makes them: the guard, what they carry, and what is logged."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from structlog.testing import capture_logs

from app.clients.errors import AddressRefused, BadStatus, Interrupted
from app.clients.outbound import current_outbound, guarded_client
from app.core import tracing
from app.core.audit import Origin, origin
from app.core.metrics import OUTBOUND_DURATION
from app.core.tracing import read_trace
from tests.conftest import on_one_database
from tests.counting import counter_of
from tests.outbound.misbehaving import Server
from tests.servers import PROJECT

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def application(app_with: Callable[..., Flask]) -> Flask:
    """An application that may call this machine."""
    return app_with(webhook_allowed_private_hosts=("127.0.0.1",), log_level="INFO")


@on_one_database
def test_is_guarded_by_default(app: Flask, server: Server) -> None:
    with app.app_context(), guarded_client() as api, pytest.raises(AddressRefused):
        api.get(f"{server.url}/ok")

    assert server.connections == 0


@on_one_database
def test_goes_where_the_setting_allows(application: Flask, server: Server) -> None:
    with application.app_context(), guarded_client() as api:
        assert api.get(f"{server.url}/ok").is_success
        current_outbound().guard.check_url(f"{server.url}/ok")
        with pytest.raises(AddressRefused):
            api.get(f"http://127.0.0.2:{server.port}/ok")


@pytest.fixture
def no_request() -> Iterator[None]:
    """No request at hand, whatever a test before has left in this thread."""
    token = origin.set(Origin())
    tracing.pass_on(None)
    yield
    tracing.pass_on(None)
    origin.reset(token)


@on_one_database
@pytest.mark.usefixtures("no_request")
class TestHeaders:
    def test_carry_the_request_id(self, application: Flask, server: Server) -> None:
        token = origin.set(Origin(request_id="request-17"))
        try:
            with application.app_context(), guarded_client() as api:
                api.get(f"{server.url}/ok")
                api.get(f"{server.url}/ok", headers={"X-Request-ID": "other", "traceparent": TRACEPARENT})
        finally:
            origin.reset(token)

        first, second = (each.headers for each in server.requests)
        assert (first["x-request-id"], second["x-request-id"]) == ("request-17", "other")
        assert second["traceparent"] == TRACEPARENT

    def test_have_no_request_id_without_a_request(self, application: Flask, server: Server) -> None:
        with application.app_context(), guarded_client() as api:
            api.get(f"{server.url}/ok")

        assert "x-request-id" not in server.requests[0].headers

    def test_continue_the_trace_of_the_request(self, application: Flask, server: Server) -> None:
        tracing.pass_on(read_trace(TRACEPARENT, "shop=1"))
        with application.app_context(), guarded_client() as api:
            api.get(f"{server.url}/ok")

        assert server.requests[0].headers["tracestate"] == "shop=1"
        version, trace_id, parent_id, flags = server.requests[0].headers["traceparent"].split("-")
        assert (version, trace_id, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
        assert re.fullmatch("[0-9a-f]{16}", parent_id)
        assert parent_id != "b7ad6b7169203331"

    @pytest.mark.parametrize(
        "given",
        ["", "x", TRACEPARENT.upper(), f"00-{'0' * 32}-b7ad6b7169203331-01", TRACEPARENT[:-1], f"{TRACEPARENT}-x"],
    )
    def test_begin_a_trace_where_there_is_none(self, application: Flask, server: Server, given: str) -> None:
        token = origin.set(Origin(request_id="request-17"))
        tracing.pass_on(read_trace(given))
        try:
            with application.app_context(), guarded_client() as api:
                api.get(f"{server.url}/ok")
                api.get(f"{server.url}/ok")
        finally:
            origin.reset(token)

        one, other = (each.headers["traceparent"] for each in server.requests)
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", one)
        assert one[:35] == other[:35] != TRACEPARENT[:35]
        assert one != other

    def test_begin_a_trace_for_each_request_of_a_worker(self, application: Flask, server: Server) -> None:
        with application.app_context(), guarded_client() as api:
            api.get(f"{server.url}/ok")
            api.get(f"{server.url}/ok")

        one, other = (each.headers["traceparent"] for each in server.requests)
        assert one[:35] != other[:35]


@on_one_database
class TestLog:
    def test_has_a_line_for_each_attempt_and_no_secret(
        self, application: Flask, server: Server, no_pauses: None
    ) -> None:
        headers = {"Authorization": "Bearer hunter2"}
        with application.app_context(), guarded_client(headers=headers) as api, capture_logs() as lines:
            api.get(f"{server.url}/flaky/1?hunter2")
            with pytest.raises(Interrupted):
                api.post(f"{server.url}/cut/hunter2", content="hunter2")

        mine = [line for line in lines if line["event"] == "outbound"]
        assert [(line["method"], line["origin"], line["attempt"], line["status"], line["error"]) for line in mine] == [
            ("GET", server.url, 1, 503, "BadStatus"),
            ("GET", server.url, 2, 200, None),
            ("POST", server.url, 1, None, "Interrupted"),
        ]
        assert all(line["ms"] > 0 for line in mine)
        assert "hunter2" not in repr(lines)


class TestMetrics:
    @on_one_database
    def test_count_outcomes(self, application: Flask, server: Server) -> None:
        grown = counter_of(OUTBOUND_DURATION)

        with application.app_context(), guarded_client(attempts=1) as api:
            api.get(f"{server.url}/ok")
            api.get(f"{server.url}/ok")
            with pytest.raises(BadStatus):
                api.get(f"{server.url}/status/404")
            with pytest.raises(Interrupted):
                api.get(f"{server.url}/cut")

        assert grown() == {("2xx",): 2, ("4xx",): 1, ("Interrupted",): 1}


def test_the_example_of_the_document_works(server: Server) -> None:
    text = (PROJECT / "docs" / "outbound.md").read_text("utf-8")
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {}
    exec(example[1], names)
    order = names["order"]

    assert order(f"{server.url}/shop", "LAMP-1", "key-1") == 7
    assert order(f"{server.url}/status/422", "LAMP-1", "key-2") == "refused: 422 Sorry."
    assert order(f"{server.url}/garbage", "LAMP-1", "key-3").startswith(f"failed: {server.url} ")
    assert server.requests[0].headers["idempotency-key"] == "key-1"
    assert server.requests[0].target == "/shop/orders"
