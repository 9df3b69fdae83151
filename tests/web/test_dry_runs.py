"""dry_run=true: every write is answered as it would be, and leaves the database as it was, byte for byte."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
import time_machine
from flask import Flask
from sqlalchemy import text
from werkzeug.test import TestResponse

from app.core import clock
from app.core.jobs import enqueue
from app.core.transactions import unit_of_work
from app.extensions import db
from tests.conftest import PASSWORD, TABLES, Caller, body_of, code_of, faults_of, on_one_database, rows_of
from tests.operations import ELSEWHERE, Operation, Scene, operations_in
from tests.servers import PROJECT
from tests.web.test_idempotency import count

Make = Callable[..., dict[str, Any]]

# The committed document is the served one, as tests/web/test_openapi.py says, and costs no application to read here.
DOCUMENT = json.loads((PROJECT / "openapi.json").read_text("utf-8"))
WRITES = [one for one in operations_in(DOCUMENT) if not one.is_safe]
#: Below which no write can be a dry run.
REAL = ("/auth/", "/oauth/")
DRY = [str(one) for one in WRITES if not any(place in one.path for place in REAL)]
#: The writes below these that a scene has.
STRICT = [one for one in WRITES if str(one) not in DRY and one.name not in ELSEWHERE]
#: Members that differ when the same is done twice.
OWN = re.compile(r"(.*_)?(id|at|until|key|secret|prefix|last_four)")


@pytest.fixture
def scene(restored_scene: Scene) -> Iterator[Scene]:
    """A scene at a time at which the last use of its credentials would be stored again."""
    restored_scene.path(restored_scene.operations[0])
    with time_machine.travel(clock.now() + timedelta(minutes=2), tick=False):
        yield restored_scene


def operation_of(scene: Scene, name: str) -> Operation:
    return next(one for one in scene.operations if str(one) == name)


def database_of(app: Flask) -> object:
    """All that is in the database: SQLite's file, and each of PostgreSQL's rows with its place and its writer."""
    with app.app_context(), unit_of_work(reading=True):
        if db.engine.dialect.name == "sqlite":
            driver: Any = db.session.connection().connection.dbapi_connection
            return driver.serialize()
        rows = {table: text(f"SELECT ctid, xmin, * FROM {table} ORDER BY ctid") for table in TABLES}
        return {table: [tuple(row) for row in db.session.execute(found)] for table, found in rows.items()}


def make_ready(scene: Scene, name: str) -> None:
    """Do what makes an operation change something."""
    if name.endswith("/restore"):
        # The scene's products are all there.
        assert scene.send(operation_of(scene, "DELETE /api/v1/products/{product_id}")).status_code == 204


def without_own(value: Any) -> Any:
    """A JSON value without the ids, times and secrets that another would not have."""
    if isinstance(value, list):
        return [without_own(item) for item in value]
    if isinstance(value, dict):
        return {name: without_own(member) for name, member in value.items() if not OWN.fullmatch(name)}
    # A sku that is made from the id.
    return re.sub(r"^P-\d+$", "P-N", value) if isinstance(value, str) else value


def headers_of(answer: TestResponse) -> dict[str, str]:
    """The headers that the request determines."""
    own = {"X-Request-ID", "X-Process-Time", "Server-Timing", "Content-Length", "Dry-Run"}
    return {name: re.sub(r"\d+$", "N", value) for name, value in answer.headers if name not in own}


#: What is carried out as a dry run itself: a worker tries the file, and the order of it is stored.
ORDERS = {"POST /api/v1/imports"}


class TestEveryWrite:
    @pytest.mark.parametrize("name", [name for name in DRY if name not in ORDERS])
    def test_that_is_a_dry_run_changes_nothing_and_is_answered_as_it_would_be(self, scene: Scene, name: str) -> None:
        operation = operation_of(scene, name)
        make_ready(scene, name)
        before, state = database_of(scene.app), scene.read_state()

        dry = scene.send(operation, query="dry_run=true")
        after = database_of(scene.app)
        real = scene.send(operation)

        assert (dry.status_code, dry.headers.get("Dry-Run")) == (operation.success, "true"), dry.text
        assert after == before
        assert (real.status_code, real.headers.get("Dry-Run")) == (operation.success, None)
        # Not only in when the credentials were last used.
        assert scene.read_state() != state

        assert without_own(dry.get_json(silent=True)) == without_own(real.get_json(silent=True))
        # Its version is of no representation that there is.
        assert "ETag" not in dry.headers
        assert headers_of(dry) == {name: value for name, value in headers_of(real).items() if name != "ETag"}
        assert dry.headers["Cache-Control"] == "no-store"

    def test_and_no_other_operation_is_documented_to_take_the_parameter(self) -> None:
        documented = {str(one) for one in operations_in(DOCUMENT) if "dry_run" in one.parameters("query")}
        answered = {
            str(one) for one in operations_in(DOCUMENT) if "Dry-Run" in one.responses[str(one.success)]["headers"]
        }

        assert documented == answered == set(DRY)
        assert len(DRY) > 20


class TestElsewhere:
    @on_one_database
    @pytest.mark.parametrize("path", ["/products", "/products/1", "/events", "/users/me"])
    def test_it_is_an_unknown_parameter_of_a_read(self, alice: Caller, path: str) -> None:
        assert faults_of(alice.get(f"{path}?dry_run=true")) == [("dry_run", "unknown_parameter")]

    @on_one_database
    @pytest.mark.parametrize("operation", STRICT, ids=str)
    def test_it_is_an_unknown_parameter_below_auth_and_oauth(self, restored_scene: Scene, operation: Operation) -> None:
        answer = restored_scene.send(operation, query="dry_run=true")

        # An endpoint of OAuth 2 says 400 for what is invalid.
        assert answer.status_code == (400 if operation.takes_form else 422)
        assert [(fault["parameter"], fault["code"]) for fault in body_of(answer)["errors"]] == [
            ("dry_run", "unknown_parameter")
        ]

    def test_a_failed_login_is_counted_whatever_is_asked(self, app: Flask, bob: Caller, anonymous: Caller) -> None:
        wrong = {"email": "bob@example.com", "password": f"not {PASSWORD}"}

        assert anonymous.post("/auth/login?dry_run=true", wrong).status_code == 422
        assert anonymous.post("/auth/login", wrong).status_code == 401
        assert count(app, "login_failures") == 1


class TestTheParameter:
    @pytest.mark.parametrize("query", ["dry_run=true", "dry%5Frun=true", "dry_run=%74rue"])
    def test_may_be_percent_encoded(self, app: Flask, alice: Caller, query: str) -> None:
        for headers in ({}, {"Idempotency-Key": "k"}):
            answer = alice.post(f"/categories?{query}", {"name": "Chairs"}, headers=headers)

            assert (answer.status_code, answer.headers["Dry-Run"]) == (201, "true")
        assert rows_of(app, "categories") == []

    def test_does_nothing_where_it_is_false(self, app: Flask, alice: Caller) -> None:
        answer = alice.post("/categories?dry_run=false", {"name": "Chairs"})

        assert (answer.status_code, "Dry-Run" in answer.headers) == (201, False)
        assert len(rows_of(app, "categories")) == 1

    @pytest.mark.parametrize("value", ["", "1", "True", "yes", "null"])
    def test_is_true_or_false(self, app: Flask, alice: Caller, value: str) -> None:
        answer = alice.post(f"/categories?dry_run={value}", {"name": "Chairs"})

        assert faults_of(answer) == [("dry_run", "invalid")]
        assert rows_of(app, "categories") == []

    def test_is_given_once(self, app: Flask, alice: Caller) -> None:
        answer = alice.post("/categories?dry_run=true&dry_run=false", {"name": "Chairs"})

        assert faults_of(answer) == [("dry_run", "repeated")]
        assert rows_of(app, "categories") == []

    def test_may_be_a_field_of_a_form_with_a_file(self, app: Flask, alice: Caller) -> None:
        form = {"file": (BytesIO(b"sku,name,price\nA,Chair,1.00\n"), "chairs.csv", "text/csv"), "dry_run": "true"}

        answer = alice.call("POST", "/imports", data=form)

        assert (answer.status_code, answer.headers["Dry-Run"]) == (202, "true")
        assert (body_of(answer)["dry_run"], len(rows_of(app, "imports"))) == (True, 1)

    def test_goes_with_the_dry_run_of_a_batch(self, app: Flask, alice: Caller, make_category: Make) -> None:
        items = [{"sku": "A", "name": "Chair", "price": "1.00", "category_id": make_category()["id"]}]

        answers = [
            alice.post(f"/products/bulk?dry_run={outer}", {"items": items, "dry_run": inner})
            for outer, inner in (("true", True), ("true", False), ("false", True))
        ]

        assert [answer.status_code for answer in answers] == [200] * 3
        assert [answer.headers.get("Dry-Run") for answer in answers] == ["true", "true", None]
        # Only the batch's own has no ids of new products.
        assert ["id" in body_of(answer)["items"][0] for answer in answers] == [True] * 3
        assert [body_of(answer)["items"][0]["id"] is None for answer in answers] == [True, False, True]
        assert rows_of(app, "products") == []


#: How a change of a product is refused: the query, the body, If-Match, and what the answer is.
REFUSALS = {
    "another parameter": ("&surprise=1", {"name": "New"}, "*", (422, "invalid")),
    "a bad member": ("", {"price": "free"}, "*", (422, "invalid")),
    "an unknown reference": ("", {"category_id": 2**40}, "*", (422, "category_unknown")),
    "a taken sku": ("", {"sku": "TAKEN"}, "*", (409, "sku_taken")),
    "a stale version": ("", {"name": "New"}, '"7"', (412, "precondition_failed")),
    "no version": ("", {"name": "New"}, None, (428, "precondition_required")),
}


class TestARefusal:
    @pytest.mark.parametrize("case", REFUSALS)
    def test_is_the_same(self, app: Flask, alice: Caller, make_product: Make, case: str) -> None:
        query, body, if_match, expected = REFUSALS[case]
        make_product(sku="TAKEN")
        path = f"/products/{make_product()['id']}"
        headers = {} if if_match is None else {"If-Match": if_match}
        before = database_of(app)

        dry, real = (
            alice.call("PATCH", f"{path}?dry_run={value}{query}", json=body, headers=headers)
            for value in ("true", "false")
        )

        assert (dry.status_code, code_of(dry)) == expected
        assert body_of(dry) | {"request_id": ""} == body_of(real) | {"request_id": ""}
        assert database_of(app) == before

    def test_of_permission_comes_first(self, bob: Caller, anonymous: Caller) -> None:
        assert anonymous.post("/categories?dry_run=maybe", {"name": "Chairs"}).status_code == 401
        assert bob.post("/categories?dry_run=maybe", {"name": "Chairs"}).status_code == 403

    def test_of_a_malformed_key_is_the_same(self, alice: Caller) -> None:
        answer = alice.post("/categories?dry_run=true", {"name": "Chairs"}, headers={"Idempotency-Key": ""})

        assert (answer.status_code, code_of(answer)) == (400, "idempotency_key_malformed")


class TestWhatItLeaves:
    def test_is_no_idempotency_key(self, app: Flask, alice: Caller) -> None:
        key = {"Idempotency-Key": "k"}

        dry = alice.post("/categories?dry_run=true", {"name": "Chairs"}, headers=key)
        assert count(app, "idempotency_keys") == 0
        real = alice.post("/categories", {"name": "Tables"}, headers=key)
        again = alice.post("/categories?dry_run=true", {"name": "Stools"}, headers=key)

        assert [answer.status_code for answer in (dry, real, again)] == [201] * 3
        assert [body_of(answer)["name"] for answer in (dry, real, again)] == ["Chairs", "Tables", "Stools"]
        assert not any("Idempotency-Replayed" in answer.headers for answer in (dry, real, again))
        assert count(app, "idempotency_keys") == 1

    def test_is_no_event_and_no_audit_entry(self, alice: Caller, root: Caller) -> None:
        cursor = body_of(alice.get("/events?from=now"))["meta"]["next_cursor"]

        alice.post("/categories?dry_run=true", {"name": "Chairs"})

        assert body_of(alice.get(f"/events?cursor={cursor}"))["items"] == []
        assert body_of(root.get("/audit-events?action=category.created"))["items"] == []

    def test_is_no_new_version_for_caches(self, alice: Caller, make_product: Make) -> None:
        path = f"/products/{make_product()['id']}"
        tag = alice.get(path).headers["ETag"]

        dry = alice.patch(f"{path}?dry_run=true", {"name": "New"})

        assert (body_of(dry)["name"], "ETag" in dry.headers) == ("New", False)
        assert alice.get(path, headers={"If-None-Match": tag}).status_code == 304


class Notifier:
    """Counts how often workers would have been woken."""

    def __init__(self) -> None:
        self.times = 0

    def notify(self) -> None:
        self.times += 1


class TestWorkers:
    @pytest.fixture
    def notifier(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> Notifier:
        notifier = Notifier()
        monkeypatch.setitem(app.extensions, "notifier", notifier)
        return notifier

    def test_are_not_woken_by_a_dry_run(self, scene: Scene, notifier: Notifier) -> None:
        order = operation_of(scene, "POST /api/v1/auth/password-reset")
        [other] = [operation_of(scene, name) for name in ORDERS]

        scene.send(operation_of(scene, "POST /api/v1/products"), query="dry_run=true")
        assert notifier.times == 0
        scene.send(order)
        assert notifier.times == 1
        scene.send(other, query="dry_run=true")
        assert notifier.times == 2

    def test_are_not_woken_for_a_job_that_was_rolled_back(self, app: Flask, notifier: Notifier) -> None:
        with app.app_context():
            with unit_of_work():
                enqueue("import", {})
                db.session.rollback()
            with unit_of_work():
                db.session.execute(text("DELETE FROM jobs"))

        assert notifier.times == 0

    def test_are_woken_for_a_job_after_a_savepoint_was_rolled_back(self, app: Flask, notifier: Notifier) -> None:
        with app.app_context(), unit_of_work():
            enqueue("import", {})
            db.session.begin_nested().rollback()

        assert notifier.times == 1
