"""What operations of a protocol declare: forms and errors of OAuth 2, other servers to wait for, a GET that writes."""

from collections.abc import Mapping
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select
from werkzeug.test import TestResponse

from app import create_app
from app.core.errors import Conflict, Malformed, Unauthenticated, Unavailable
from app.core.transactions import current_unit
from app.extensions import db
from app.features.categories.models import Category
from app.security.permissions import Permission
from app.web import fields
from app.web.contract import (
    Blueprint,
    accepts,
    answers_oauth,
    awaits,
    public,
    queries,
    refuses,
    requires,
    returns,
    takes_form,
    writes,
)
from app.web.schemas import BodySchema, FormSchema, ProtocolQuerySchema, Schema
from tests.conftest import Caller, body_of, code_of, settings_for


class InvalidTicket(Unauthenticated):
    """The ticket is not valid."""


class InvalidGrant(Malformed):
    """The grant is not valid."""


class TicketUsed(Conflict):
    """The ticket was used."""


class BoothClosed(Unavailable):
    """The booth does not answer."""


REFUSALS = {refusal.code(): refusal for refusal in (InvalidTicket, InvalidGrant, TicketUsed, BoothClosed)}


class TicketFormSchema(FormSchema):
    """What is asked for."""

    kind = fields.Text(max_length=20, required=True, example="day")
    seats = fields.Text(max_length=3, pattern=r"^[0-9]+$")


class TicketQuerySchema(ProtocolQuerySchema):
    """Where one comes from."""

    state = fields.Text(max_length=20, required=True)


class NameSchema(BodySchema):
    """A name."""

    name = fields.Text(max_length=20, required=True)


class TicketSchema(Schema):
    """What was heard."""

    heard = fields.Text(max_length=200)


def blueprint(asked: list[Mapping[str, Any]]) -> Blueprint:
    """An operation of each kind; what is asked of the other server is added to a list."""
    tickets = Blueprint("tickets", __name__, about="Tickets.", url_prefix="/api/v1/tickets")

    def ask(**values: Any) -> str:
        assert current_unit() is None
        asked.append(values)
        if values.get("booth") == "closed":
            raise BoothClosed
        return "heard"

    @tickets.post("/form")
    @public
    @takes_form(TicketFormSchema)
    @answers_oauth
    @returns(TicketSchema)
    @refuses(*REFUSALS.values())
    def buy(data: Mapping[str, str]) -> dict[str, Any]:
        """Buy a ticket."""
        if data["kind"] in REFUSALS:
            raise REFUSALS[data["kind"]]
        if data["kind"] == "bug":
            raise RuntimeError
        return {"heard": str(sorted(data.items()))}

    @tickets.get("/<booth>/back")
    @public
    @queries(TicketQuerySchema)
    @awaits(ask)
    @writes
    @returns(TicketSchema)
    @refuses(BoothClosed, TicketUsed)
    def come_back(booth: str, query: Mapping[str, str], awaited: str) -> dict[str, Any]:
        """Come back from the booth."""
        db.session.add(Category(name=booth, slug=query["state"]))
        if query["state"] == "used":
            raise TicketUsed
        return {"heard": awaited}

    @tickets.post("/<booth>")
    @requires(Permission.CATEGORIES_WRITE)
    @accepts(NameSchema)
    @awaits(ask)
    @returns(TicketSchema)
    @refuses(BoothClosed)
    def reserve(booth: str, data: Mapping[str, str], awaited: str) -> dict[str, Any]:
        """Reserve a seat."""
        return {"heard": f"{booth} {data['name']} {awaited}"}

    return tickets


#: What was asked of the other server by the application of this process.
ASKED: list[Mapping[str, Any]] = []


@pytest.fixture
def asked() -> list[Mapping[str, Any]]:
    """What was asked of the other server in this test."""
    ASKED.clear()
    return ASKED


@pytest.fixture
def theatre(app: Flask, shared_applications: dict[str, Flask]) -> Flask:
    """An application on the database of the test that has these operations as well."""
    key = f"tickets {app.config['DATABASE_URL']}"
    if key not in shared_applications:
        shared_applications[key] = create_app(settings_for(app.config["DATABASE_URL"]))
        shared_applications[key].register_blueprint(blueprint(ASKED))
    return shared_applications[key]


@pytest.fixture
def alice(alice: Caller, theatre: Flask) -> Caller:
    """Alice, at this application."""
    return alice.on(theatre)


@pytest.fixture
def bob(bob: Caller, theatre: Flask) -> Caller:
    """Bob, at this application."""
    return bob.on(theatre)


@pytest.fixture
def anonymous(anonymous: Caller, theatre: Flask) -> Caller:
    """A caller without credentials, at this application."""
    return anonymous.on(theatre)


def problem_of(answer: TestResponse, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert isinstance(answer.json, dict)
    return answer.json


def categories(app: Flask) -> list[str]:
    with app.app_context():
        return list(db.session.scalars(select(Category.slug)))


class TestForms:
    def test_are_loaded_and_what_is_unknown_in_them_is_ignored(self, anonymous: Caller) -> None:
        answer = anonymous.call("POST", "/tickets/form", data={"kind": "day", "colour": "red", "seats": ""})

        assert body_of(answer) == {"heard": "[('kind', 'day')]"}
        assert answer.headers["Cache-Control"] == "no-store"

    def test_are_refused_as_clients_of_oauth_read_it(self, anonymous: Caller) -> None:
        answer = anonymous.call("POST", "/tickets/form", data={"seats": "many"})

        problem = problem_of(answer, 400)
        assert answer.mimetype == "application/json"
        assert (problem["error"], problem["code"], problem["status"]) == ("invalid_request", "invalid", 400)
        assert problem["error_description"] == problem["detail"]
        assert [fault["pointer"] for fault in problem["errors"]] == ["/kind", "/seats"]

    def test_are_small(self, anonymous: Caller) -> None:
        answer = anonymous.call("POST", "/tickets/form", data={"kind": "x" * 17_000})

        assert problem_of(answer, 413)["error"] == "invalid_request"

    @pytest.mark.parametrize(
        ("kind", "status", "error"),
        [
            ("invalid_grant", 400, "invalid_grant"),
            ("invalid_ticket", 401, "invalid_client"),
            ("ticket_used", 409, "invalid_request"),
            ("booth_closed", 503, "temporarily_unavailable"),
            ("bug", 500, "server_error"),
        ],
    )
    def test_are_refused_by_their_codes(self, anonymous: Caller, kind: str, status: int, error: str) -> None:
        answer = anonymous.call("POST", "/tickets/form", data={"kind": kind})

        assert problem_of(answer, status)["error"] == error
        challenge = 'Basic realm="catalog", charset="UTF-8"'
        assert answer.headers.get("WWW-Authenticate") == (challenge if status == 401 else None)

    def test_leave_other_operations_their_problems(self, anonymous: Caller) -> None:
        answer = anonymous.call("POST", "/tickets/window", json={"name": "x"})

        assert "error" not in problem_of(answer, 401)
        assert answer.mimetype == "application/problem+json"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


class TestWaiting:
    def test_is_done_before_the_transaction_with_what_the_view_gets(
        self, alice: Caller, asked: list[Mapping[str, Any]]
    ) -> None:
        answer = alice.call("POST", "/tickets/window", json={"name": "Ann"})

        assert body_of(answer) == {"heard": "window Ann heard"}
        assert asked == [{"booth": "window", "data": {"name": "Ann"}}]

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [("/tickets/window", {"name": 1}, 422), ("/tickets/window?x=1", {"name": "Ann"}, 422)],
        ids=["body", "query"],
    )
    def test_is_not_done_for_a_request_that_is_refused(
        self, alice: Caller, asked: list[Mapping[str, Any]], path: str, body: dict[str, Any], status: int
    ) -> None:
        answer = alice.call("POST", path, json=body)

        assert answer.status_code == status
        assert asked == []

    def test_is_not_done_for_those_who_may_not_ask(
        self, anonymous: Caller, bob: Caller, asked: list[Mapping[str, Any]]
    ) -> None:
        for caller in (anonymous, bob):
            assert caller.call("POST", "/tickets/window", json={"name": "Ann"}).status_code in {401, 403}
        assert asked == []

    def test_may_end_in_a_refusal(self, alice: Caller) -> None:
        answer = alice.call("POST", "/tickets/closed", json={"name": "Ann"})

        assert (answer.status_code, code_of(answer)) == (503, "booth_closed")


class TestAGetThatWrites:
    def test_commits(self, app: Flask, anonymous: Caller, asked: list[Mapping[str, Any]]) -> None:
        answer = anonymous.get("/tickets/window/back?state=new&session_state=7&session_state=8")

        assert body_of(answer) == {"heard": "heard"}
        assert answer.headers["Cache-Control"] == "no-store"
        assert categories(app) == ["new"]
        assert asked == [{"booth": "window", "query": {"state": "new"}}]

    def test_rolls_back_what_is_refused(self, app: Flask, anonymous: Caller) -> None:
        assert anonymous.get("/tickets/window/back?state=used").status_code == 409
        assert categories(app) == []

    def test_is_not_done_by_head(self, app: Flask, anonymous: Caller, asked: list[Mapping[str, Any]]) -> None:
        answer = anonymous.call("HEAD", "/tickets/window/back?state=new")

        assert answer.status_code == 405
        assert set(answer.headers["Allow"].split(", ")) == {"GET", "OPTIONS"}
        assert asked == []
        assert categories(app) == []
