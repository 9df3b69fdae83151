"""The trace of a request: what is recorded of it, what goes on in it, and where its id is read."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog
from flask import Flask, Response
from sqlalchemy import select
from structlog.testing import capture_logs

from app.core import clock, jobs, tracing
from app.core.changelog import LogRow
from app.core.feed import ChangeEvent
from app.core.jobs import Claim, Job, Task
from app.core.transactions import unit_of_work
from app.core.worker import Worker
from app.extensions import db
from app.features.users import service as users
from app.web.logs import set_up_logs
from tests.conftest import Caller, body_of, on_one_database
from tests.recording import Recording, hex_id, recording, trace_of

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
SENT = {"traceparent": TRACEPARENT, "X-Request-ID": "request-1"}
KIND = "traced"
STORED = (LogRow.traceparent, ChangeEvent.traceparent)


@pytest.fixture
def recorded() -> Iterator[Recording]:
    with recording() as recorded:
        yield recorded


@pytest.fixture
def traced(recorded: Recording, app_with: Callable[..., Flask]) -> Flask:
    """An application that records traces."""
    return app_with()


class TestRequestSpan:
    def test_has_the_route_the_path_and_the_status(self, traced: Flask, bob: Caller, recorded: Recording) -> None:
        answer = bob.on(traced).get("/products/4711?include=garden&search=hunter2", headers=SENT)

        span = recorded.named("GET /api/v1/products/<id:product_id>")
        assert span.attributes is not None
        assert {name: value for name, value in span.attributes.items() if name != "catalog.database.statements"} == {
            "http.request.method": "GET",
            "http.route": "/api/v1/products/<id:product_id>",
            "http.response.status_code": answer.status_code,
            "url.path": "/api/v1/products/4711",
            "url.scheme": "http",
            "catalog.request_id": "request-1",
        }
        assert span.kind.name == "SERVER"
        assert span.status.is_unset
        assert "hunter2" not in recorded.text

    def test_has_its_statements_with_placeholders(self, traced: Flask, alice: Caller, recorded: Recording) -> None:
        answer = alice.on(traced).post("/categories", {"name": "Hunter2"})

        assert answer.status_code == 201
        span = recorded.named("POST /api/v1/categories")
        [commit] = [each for each in recorded.below(span) if each.name == "COMMIT"]
        assert recorded.below(commit)
        statements = [each for each in recorded.spans if "db.query.text" in (each.attributes or {})]
        counted = answer.headers["Server-Timing"].partition('desc="')[2].partition(" ")[0]
        assert span.attributes is not None
        assert len(statements) == span.attributes["catalog.database.statements"] == int(counted)
        texts = [str((each.attributes or {})["db.query.text"]) for each in statements]
        assert any(text.startswith("INSERT INTO categories") for text in texts)
        assert "hunter2" not in recorded.text.lower()

    def test_has_the_statements_that_are_compiled_once(self, traced: Flask, bob: Caller, recorded: Recording) -> None:
        bob.on(traced).get("/products")

        texts = [str((span.attributes or {}).get("db.query.text", "")) for span in recorded.spans]
        assert any("FROM products" in text for text in texts)

    def test_continues_the_trace_of_its_caller(self, traced: Flask, bob: Caller, recorded: Recording) -> None:
        bob.on(traced).get("/users/me", headers=SENT)

        span = recorded.named("GET /api/v1/users/me")
        assert span.parent is not None
        assert (trace_of(span), f"{span.parent.span_id:016x}") == (TRACE_ID, "b7ad6b7169203331")
        assert {trace_of(each) for each in recorded.spans} == {TRACE_ID}

    def test_begins_a_trace_for_each_request(self, traced: Flask, bob: Caller, recorded: Recording) -> None:
        bob.on(traced).get("/users/me", headers=SENT)
        bob.on(traced).get("/users/me")
        bob.on(traced).get("/users/me", headers={"traceparent": "00-nonsense"})

        assert len({trace_of(span) for span in recorded.spans}) == 3

    @on_one_database
    def test_of_an_unknown_path_or_method_has_a_common_name(
        self, traced: Flask, bob: Caller, recorded: Recording
    ) -> None:
        bob.on(traced).get("/nothing/hunter2")
        bob.on(traced).call("BREW", "/products")

        assert [span.name for span in recorded.spans if span.kind.name == "SERVER"] == ["GET", "_OTHER"]

    @on_one_database
    def test_of_a_failure_is_an_error_without_its_message(
        self, traced: Flask, bob: Caller, recorded: Recording, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(**_: Any) -> None:
            raise RuntimeError("hunter2")

        monkeypatch.setattr(users, "get_me", fail)

        assert bob.on(traced).get("/users/me").status_code == 500

        span = recorded.named("GET /api/v1/users/me")
        assert (span.attributes or {})["error.type"] == "500"
        assert not span.status.is_ok
        assert "hunter2" not in recorded.text

    def test_has_what_the_database_refused_without_its_message(
        self, traced: Flask, alice: Caller, make_product: Callable[..., dict[str, Any]], recorded: Recording
    ) -> None:
        product = make_product(sku="HUNTER-2")
        again = {name: product[name] for name in ("sku", "name", "price", "category_id")}

        assert alice.on(traced).post("/products", again).status_code == 409

        [refused] = [span for span in recorded.spans if "error.type" in (span.attributes or {})]
        assert (refused.attributes or {})["error.type"] in {"23505", "SQLITE_CONSTRAINT_UNIQUE"}
        assert "HUNTER-2" not in recorded.text

    @on_one_database
    def test_ends_where_another_hook_fails(self, traced: Flask, bob: Caller, recorded: Recording) -> None:
        def fail(response: Response) -> Response:
            raise RuntimeError

        traced.after_request(fail)

        assert bob.on(traced).get("/users/me").status_code == 500

        assert (recorded.named("GET /api/v1/users/me").attributes or {})["http.response.status_code"] == 500
        assert tracing.current_trace() is None

    @on_one_database
    def test_is_over_when_the_response_is_ready(self, traced: Flask, bob: Caller, recorded: Recording) -> None:
        bob.on(traced).get("/users/me")

        assert tracing.current_trace() is None
        with tracing.span("later"):
            pass
        assert [span for span in recorded.spans if span.name == "later"] == []


@on_one_database
class TestTraceId:
    @pytest.mark.parametrize("is_recorded", [True, False])
    def test_is_in_problems_and_log_lines(
        self, app_with: Callable[..., Flask], bob: Caller, is_recorded: bool, request: pytest.FixtureRequest
    ) -> None:
        if is_recorded:
            request.getfixturevalue("recorded")
        caller = bob.on(app_with(log_level="INFO", max_body_bytes=10_000))

        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            refused = body_of(caller.get("/products/0", headers=SENT))

        assert (refused["trace_id"], refused["request_id"]) == (TRACE_ID, "request-1")
        assert [(line["trace_id"], line["request_id"]) for line in lines] == [(TRACE_ID, "request-1")]

    def test_is_missing_where_there_is_no_trace(self, app_with: Callable[..., Flask], bob: Caller) -> None:
        caller = bob.on(app_with(log_level="INFO"))
        caller.get("/products/0", headers=SENT)

        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            refused = body_of(caller.get("/products/0", headers={"traceparent": "00-nonsense"}))

        assert "trace_id" not in refused
        assert [line for line in lines if "trace_id" in line] == []

    def test_goes_on_with_what_the_request_does(self, app: Flask, bob: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        found, get_me = [], users.get_me

        def look(**options: Any) -> Any:
            found.append(tracing.current_trace())
            return get_me(**options)

        monkeypatch.setattr(users, "get_me", look)

        for headers in ({**SENT, "tracestate": "shop=1"}, {}):
            assert bob.get("/users/me", headers=headers).status_code == 200

        assert found == [tracing.read_trace(TRACEPARENT, "shop=1"), None]

    def test_is_of_the_server_where_the_client_sends_none(
        self, traced: Flask, bob: Caller, recorded: Recording
    ) -> None:
        refused = body_of(bob.on(traced).get("/products/0"))

        assert {trace_of(span) for span in recorded.spans} == {refused["trace_id"]}


class TestWhatIsStored:
    def test_are_the_trace_and_the_request_of_a_change(
        self, traced: Flask, alice: Caller, root: Caller, recorded: Recording
    ) -> None:
        alice.on(traced).post("/categories", {"name": "Chairs"}, headers=SENT)
        root.on(traced).get("/events")

        span = recorded.named("POST /api/v1/categories")
        with traced.app_context(), unit_of_work(reading=True):
            stored = [
                *db.session.scalars(select(LogRow.traceparent)),
                *db.session.scalars(select(ChangeEvent.traceparent)),
            ]
        assert stored == [f"00-{TRACE_ID}-{hex_id(span)}-01"] * 2

    def test_is_nothing_without_tracing(self, app: Flask, alice: Caller, root: Caller) -> None:
        alice.post("/categories", {"name": "Chairs"}, headers=SENT)
        root.get("/events")

        with app.app_context(), unit_of_work(reading=True):
            stored = [
                *db.session.scalars(select(LogRow.traceparent)),
                *db.session.scalars(select(ChangeEvent.traceparent)),
            ]
        assert stored == [None, None]


class TestJobs:
    @staticmethod
    def run(app: Flask, *, again_at: datetime | None = None, every: timedelta | None = None) -> int:
        """Run the jobs that are due, which do a statement; their number."""

        def work(held: Claim) -> Any:
            with unit_of_work():
                jobs.advance(held, {})
            yield
            return again_at

        return Worker({KIND: Task(work, every=every)}, app.app_context).drain()

    @staticmethod
    def order(app: Flask, **options: Any) -> None:
        set_up_logs(level="INFO", as_json=False)
        structlog.contextvars.bind_contextvars(request_id="request-1")
        parent = tracing.read_trace(TRACEPARENT)
        with app.app_context(), tracing.entry("request", kind=tracing.Kind.SERVER, parent=parent), unit_of_work():
            jobs.enqueue(KIND, {}, **options)
        structlog.contextvars.clear_contextvars()

    def test_belong_to_the_request_that_enqueued_them(self, traced: Flask, recorded: Recording) -> None:
        self.order(traced)

        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            assert self.run(traced) == 1

        job = recorded.named(f"job {KIND}")
        assert job in recorded.below(recorded.named("request"))
        assert (job.attributes or {})["catalog.job.status"] == "succeeded"
        assert [span.name for span in recorded.below(job) if span.name == "UPDATE"]
        logged = {(line["trace_id"], line["request_id"], line["job_id"]) for line in lines}
        assert logged == {(TRACE_ID, "request-1", (job.attributes or {})["catalog.job.id"])}

    def test_that_are_enqueued_together_do_too(self, traced: Flask, recorded: Recording) -> None:
        parent = tracing.read_trace(TRACEPARENT)
        with traced.app_context(), tracing.entry("request", kind=tracing.Kind.SERVER, parent=parent), unit_of_work():
            jobs.enqueue_all(KIND, {"one": {}, "other": {}})

        assert self.run(traced) == 2
        assert [span.name for span in recorded.below(recorded.named("request"))].count(f"job {KIND}") == 2

    def test_belong_to_no_request_when_they_last(self, traced: Flask, recorded: Recording) -> None:
        self.order(traced)
        self.run(traced, again_at=clock.now() + timedelta(days=1))

        with traced.app_context(), unit_of_work(reading=True):
            [job] = db.session.execute(select(Job.traceparent, Job.request_id))
        assert tuple(job) == (None, None)

    def test_belong_to_no_request_when_they_are_periodic(self, traced: Flask, recorded: Recording) -> None:
        parent = tracing.read_trace(TRACEPARENT)
        task = Task(lambda _: iter(()), every=timedelta(hours=1))  # type: ignore[arg-type,return-value]  # never run
        with traced.app_context(), tracing.entry("request", kind=tracing.Kind.SERVER, parent=parent), unit_of_work():
            jobs.enqueue_periodic(KIND, task)

        with traced.app_context(), unit_of_work(reading=True):
            assert db.session.scalars(select(Job.traceparent)).all() == [None]

    def test_that_are_begun_anew_belong_to_the_request_that_did(self, traced: Flask, recorded: Recording) -> None:
        self.order(traced)
        with traced.app_context(), unit_of_work():
            job_id = db.session.scalars(select(Job.id)).one()
            assert jobs.cancel(job_id)
        parent = tracing.read_trace(f"00-{'5' * 32}-b7ad6b7169203331-01")
        with traced.app_context(), tracing.entry("retry", kind=tracing.Kind.SERVER, parent=parent), unit_of_work():
            assert jobs.restart(job_id)

        self.run(traced)

        assert trace_of(recorded.named(f"job {KIND}")) == "5" * 32

    def test_log_their_request_without_tracing_too(self, app: Flask) -> None:
        self.order(app)

        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            assert self.run(app) == 1

        assert {line["request_id"] for line in lines} == {"request-1"}
        assert [line for line in lines if "trace_id" in line] == []


@on_one_database
def test_browsers_may_send_a_trace(app_with: Callable[..., Flask], anonymous: Caller) -> None:
    shop = anonymous.on(app_with(cors_origins=("https://shop.example",)))
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "GET"}

    answer = shop.call(
        "OPTIONS", "/products", headers={**asked, "Access-Control-Request-Headers": "traceparent, tracestate"}
    )

    assert answer.headers["Access-Control-Allow-Headers"] == "traceparent, tracestate"
