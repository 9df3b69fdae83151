"""Every error, of any origin, as a problem document."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError
from structlog.testing import capture_logs

from app import create_app
from app.core import constraints
from app.core.errors import Conflict, Invalid
from app.core.fastsql import insert_row
from app.extensions import db
from app.features.categories import service as categories
from app.features.products import creation
from app.features.users import service as users
from app.web.errors import phrase_of
from tests.conftest import Caller, body_of, code_of, rows_of, settings_for

Make = Callable[..., dict[str, Any]]
AppWith = Callable[..., Flask]


class TestProblem:
    def test_tells_what_the_rfc_and_the_contract_ask(self, bob: Caller) -> None:
        answer = bob.get("/products/4711", headers={"X-Request-ID": "request-1"})

        assert answer.content_type == "application/problem+json"
        assert body_of(answer) == {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "There is nothing here, or it is not yours to see.",
            "instance": "/api/v1/products/4711",
            "code": "not_found",
            "request_id": "request-1",
        }

    def test_is_not_for_keeping(self, bob: Caller) -> None:
        assert bob.get("/products/4711").headers["Cache-Control"] == "no-store"

    def test_adds_what_the_refusal_knows(self, bob: Caller) -> None:
        assert body_of(bob.post("/products", {}))["permission"] == "products:write"

    def test_points_at_what_is_wrong(self, alice: Caller) -> None:
        problem = body_of(alice.post("/categories", {"name": 5}))

        assert problem["errors"] == [{"pointer": "/name", "detail": "Not a string.", "code": "invalid"}]

    def test_names_the_parameter_that_is_wrong(self, bob: Caller) -> None:
        problem = body_of(bob.get("/products?page=x"))

        assert problem["errors"] == [{"parameter": "page", "detail": "Not an integer.", "code": "invalid"}]

    def test_escapes_pointers(self, alice: Caller) -> None:
        problem = body_of(alice.post("/categories", {"name": "x", "a/b~c": 1}))

        assert [fault["pointer"] for fault in problem["errors"]] == ["/a~1b~0c"]

    def test_names_a_hundred_faults_at_the_most(self, alice: Caller) -> None:
        problem = body_of(alice.post("/categories", {f"member{number}": 1 for number in range(1000)}))

        assert len(problem["errors"]) == 100

    def test_has_no_body_for_head(self, bob: Caller) -> None:
        answer = bob.call("HEAD", "/products/4711")

        assert (answer.status_code, answer.data) == (404, b"")

    def test_lets_the_origin_of_the_client_read_it(self, anonymous: Caller, app_with: AppWith) -> None:
        shop = anonymous.on(app_with(cors_origins=("https://shop.example",)))

        answer = shop.get("/products", headers={"Origin": "https://shop.example"})

        assert answer.status_code == 401
        assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"


class TestFlasksOwn:
    @pytest.mark.parametrize("path", ["/nothing", "//nothing", "//api/v2/products", "/products/", "/products/1/2"])
    def test_unknown_paths_are_404(self, anonymous: Caller, path: str) -> None:
        answer = anonymous.get(path)

        assert answer.status_code == 404
        assert code_of(answer) == "not_found"

    def test_the_instance_is_ascii(self, anonymous: Caller) -> None:
        assert body_of(anonymous.get("//caf\u00e9 %00<b>"))["instance"] == "/caf%C3%A9%20%00%3Cb%3E"

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("DELETE", "/products", {"GET", "HEAD", "OPTIONS", "POST"}),
            ("POST", "/products/1", {"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"}),
            ("PUT", "/users/me", {"GET", "HEAD", "OPTIONS", "PATCH"}),
            ("GET", "/auth/login", {"OPTIONS", "POST"}),
            ("BREW", "/products", {"GET", "HEAD", "OPTIONS", "POST"}),
        ],
    )
    def test_other_methods_are_405_with_those_that_are_allowed(
        self, anonymous: Caller, method: str, path: str, allowed: set[str]
    ) -> None:
        answer = anonymous.call(method, path)

        assert answer.status_code == 405
        assert code_of(answer) == "method_not_allowed"
        assert set(answer.headers["Allow"].split(", ")) == allowed

    def test_too_much_is_413_with_the_limit(self, alice: Caller, app_with: AppWith) -> None:
        small = alice.on(app_with(max_body_bytes=1024))

        answer = small.post("/categories", {"name": "x" * 1024})

        assert answer.status_code == 413
        assert code_of(answer) == "content_too_large"
        assert body_of(answer)["limit"] == 1024


class TestPhrases:
    @pytest.mark.parametrize(
        ("status", "phrase"),
        [
            (404, "Not Found"),
            (413, "Content Too Large"),
            (422, "Unprocessable Content"),
            (428, "Precondition Required"),
        ],
    )
    def test_are_the_same_on_every_python(self, status: int, phrase: str) -> None:
        assert phrase_of(status) == phrase


class TestUnexpected:
    @pytest.fixture
    def broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Reading one's account fails, in a way that nobody thought of."""

        def fail(**_: Any) -> None:
            raise RuntimeError("the password is hunter2")

        monkeypatch.setattr(users, "get_me", fail)

    @pytest.mark.usefixtures("broken")
    def test_is_500_without_details(self, bob: Caller) -> None:
        answer = bob.get("/users/me")

        assert answer.status_code == 500
        assert code_of(answer) == "internal_server_error"
        assert "hunter2" not in answer.get_data(as_text=True)
        assert "RuntimeError" not in answer.get_data(as_text=True)

    @pytest.mark.usefixtures("broken")
    def test_carries_what_every_answer_carries(self, bob: Caller) -> None:
        answer = bob.get("/users/me", headers={"X-Request-ID": "request-1"})

        assert answer.headers["X-Request-ID"] == body_of(answer)["request_id"] == "request-1"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"

    @pytest.mark.usefixtures("broken")
    def test_is_logged_once(self, bob: Caller, caplog: pytest.LogCaptureFixture) -> None:
        with capture_logs() as lines:
            bob.get("/users/me")

        assert [line["event"] for line in lines if line["log_level"] == "error"] == ["unhandled"]
        assert caplog.records == []

    def test_changes_nothing(
        self, app: Flask, alice: Caller, make_category: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        category = make_category()
        before = rows_of(app, "products")

        def fail(*arguments: Any, **options: Any) -> None:
            insert_row(*arguments, **options)
            raise RuntimeError

        monkeypatch.setattr(creation, "insert_row", fail)
        answer = alice.post("/products", {"name": "Oak", "price": "1.00", "category_id": category["id"]})

        assert answer.status_code == 500
        assert rows_of(app, "products") == before

    @pytest.mark.usefixtures("broken")
    def test_does_not_harm_the_next_request(self, bob: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        bob.get("/users/me")
        monkeypatch.undo()

        assert bob.get("/users/me").status_code == 200


def from_postgresql(sqlstate: str) -> DBAPIError:
    """An error as PostgreSQL raises it, in SQLAlchemy's wrapping."""
    return DBAPIError("", {}, psycopg.errors.lookup(sqlstate)())


class TestDatabaseErrors:
    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (from_postgresql("22003"), 422, "value_out_of_range"),
            (from_postgresql("25006"), 503, "database_unavailable"),
            (from_postgresql("40P01"), 503, "database_busy"),
            (from_postgresql("42P01"), 500, "internal_server_error"),
            (from_postgresql("57014"), 503, "database_busy"),
            (OperationalError("", {}, Exception("could not connect to server")), 503, "database_unavailable"),
            (OperationalError("", {}, Exception("x"), connection_invalidated=True), 503, "database_unavailable"),
            (InterfaceError("", {}, Exception("the connection is closed")), 503, "database_unavailable"),
            (ProgrammingError("", {}, Exception("no such table")), 500, "internal_server_error"),
        ],
        ids=["value", "read-only", "deadlock", "no table", "too slow", "refused", "lost", "closed", "fault"],
    )
    def test_are_told_by_their_kind(
        self, bob: Caller, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
    ) -> None:
        def fail(**_: Any) -> None:
            raise error

        monkeypatch.setattr(users, "get_me", fail)

        # By no Caller, who knows that reading one's account never fails for a value.
        answer = bob.app.test_client().get("/api/v1/users/me", headers={"Authorization": f"Bearer {bob.token}"})

        assert (answer.status_code, code_of(answer)) == (status, code)
        assert ("Retry-After" in answer.headers) == (status == 503)

    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_of_a_statement_that_takes_too_long_are_503(self, bob: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        def dawdle(**_: Any) -> None:
            db.session.execute(text("SELECT set_config('statement_timeout', '20ms', false)"))
            try:
                db.session.execute(text("SELECT pg_sleep(5)"))
            finally:
                # The setting outlives this request, and its connection goes back to the others'.
                db.session.connection().invalidate()

        monkeypatch.setattr(users, "get_me", dawdle)

        answer = bob.get("/users/me")

        assert answer.status_code == 503
        assert code_of(answer) == "database_busy"
        assert answer.headers["Retry-After"] == "1"


class TestConstraintsOfTheMoment:
    """What a use case checked can be undone by somebody else before the database looks."""

    def test_a_category_that_went_away_is_refused(
        self, alice: Caller, backend: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(constraints, "require_references", lambda _: None)

        answer = alice.post("/products", {"name": "Oak", "price": "1.00", "category_id": 4711})

        # SQLite does not tell which reference it refused.
        expected = {"sqlite": (409, "state_changed"), "postgresql": (422, "category_unknown")}
        assert (answer.status_code, code_of(answer)) == expected[backend]

    def test_a_category_that_came_into_use_is_kept(
        self, root: Caller, make_product: Make, backend: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        category_id = make_product()["category_id"]
        monkeypatch.setattr(constraints, "is_referred_to", lambda _: False)

        answer = root.delete(f"/categories/{category_id}")

        expected = {"sqlite": (409, "state_changed"), "postgresql": (409, "category_in_use")}
        assert (answer.status_code, code_of(answer)) == expected[backend]
        assert root.get(f"/categories/{category_id}").status_code == 200

    def test_a_parent_that_is_the_category_itself_is_refused(
        self, alice: Caller, make_category: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        category = make_category()
        monkeypatch.setattr(categories, "_require_parent", lambda *_: None)

        answer = alice.patch(f"/categories/{category['id']}", {"parent_id": category["id"]})

        assert (answer.status_code, code_of(answer)) == (409, "category_cycle")


class TestNoDatabase:
    @pytest.fixture
    def cut_off(self, backend: str, bob: Caller, shared_applications: dict[str, Flask]) -> Caller:
        """Bob, at an application whose database is not there."""
        there = make_url(bob.app.config["DATABASE_URL"])
        name = "no_such_catalog" if backend == "postgresql" else "/no/such/folder/catalog.db"
        url = there.set(database=name).render_as_string(hide_password=False)
        if url not in shared_applications:
            shared_applications[url] = create_app(settings_for(url))
        return bob.on(shared_applications[url])

    @pytest.mark.parametrize(("method", "path"), [("GET", "/products"), ("GET", "/users/me"), ("POST", "/auth/logout")])
    def test_is_503_with_when_to_try_again(self, cut_off: Caller, method: str, path: str) -> None:
        answer = cut_off.call(method, path)

        assert answer.status_code == 503
        assert code_of(answer) == "database_unavailable"
        assert answer.headers["Retry-After"] == "1"

    def test_is_503_to_log_in(self, cut_off: Caller) -> None:
        answer = cut_off.post("/auth/login", {"email": "bob@example.com", "password": "correct horse battery"})

        assert answer.status_code == 503

    def test_is_not_ready(self, cut_off: Caller) -> None:
        answer = cut_off.get("//readyz")

        assert answer.status_code == 503
        assert code_of(answer) == "database_not_ready"
        assert answer.headers["Retry-After"] == "1"

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "//livez", 200),
            ("GET", "//health", 200),
            ("GET", "//openapi.json", 200),
            ("GET", "/nothing", 404),
            ("GET", "/products/0", 404),
            ("PATCH", "/products", 405),
        ],
    )
    def test_is_no_matter_where_it_is_not_needed(self, cut_off: Caller, method: str, path: str, status: int) -> None:
        assert cut_off.call(method, path).status_code == status

    def test_is_no_matter_to_a_forged_token(self, cut_off: Caller) -> None:
        answer = cut_off.get("/products", headers={"Authorization": "Bearer forged.token.here"})

        assert answer.status_code == 401

    def test_tells_nothing_of_where_it_should_be(self, cut_off: Caller) -> None:
        answer = cut_off.get("/products")

        assert "catalog" not in body_of(answer)["detail"]
        assert set(body_of(answer)) == {"type", "title", "status", "detail", "instance", "code", "request_id"}


class TestPool:
    def test_that_is_exhausted_is_503_and_then_well_again(self, bob: Caller, app_with: AppWith) -> None:
        crowded = bob.on(app_with())
        with crowded.app.app_context(), ExitStack() as others:
            pool: Any = db.engine.pool
            pool._timeout = 0.05
            # It has room for the threads of the largest worker: as if all connections but three were taken.
            pool._overflow = pool._max_overflow - 3
            for _ in range(3):
                others.enter_context(db.engine.connect())
            answer = crowded.get("/products")

        assert answer.status_code == 503
        assert code_of(answer) == "database_busy"
        assert answer.headers["Retry-After"] == "1"
        assert crowded.get("/products").status_code == 200


class TestRefusalsRaisedOutsideARoute:
    """What a hook refuses is answered like what a view refuses."""

    @pytest.mark.parametrize(("refusal", "status"), [(Conflict, 409), (Invalid, 422)])
    def test_are_problems(self, app_with: AppWith, refusal: type[Exception], status: int) -> None:
        app = app_with()

        def refuse() -> None:
            raise refusal

        app.before_request(refuse)

        assert app.test_client().get("/livez").status_code == status
