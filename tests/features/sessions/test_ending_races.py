"""Sessions that open while all of the person's sessions end: none of them outlives that."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import delete

from app.clients.oidc_tokens import LogoutToken, Person
from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.identities.models import ExternalIdentity
from app.features.identities.service import Policy, end_by_provider, issue_code
from app.features.oauth import codes
from app.features.oauth.models import AuthorizationCode
from app.features.passwords.service import sign_reset
from app.features.sessions import service as sessions
from tests.apps import READS, VERIFIER, ThirdParty, challenge_of, error_of, register
from tests.conftest import PASSWORD, Caller, body_of

#: Seconds for what runs beside a request to come as far as it can without its end.
HEAD_START = 0.5
PERSON = Person(issuer="https://id.example", subject="1001")


Meanwhile = Callable[[Callable[[], None]], threading.Event]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meanwhile]:
    """Have something begin in another thread when the next session is about to be opened; tells when it has ended."""
    open_session, threads = sessions.open_session, []

    def begin(work: Callable[[], None]) -> threading.Event:
        ended = threading.Event()

        def run() -> None:
            work()
            ended.set()

        def open_late(*args: Any, **options: Any) -> Any:
            monkeypatch.setattr(sessions, "open_session", open_session)
            threads.append(threading.Thread(target=run))
            threads[0].start()
            threads[0].join(HEAD_START)
            return open_session(*args, **options)

        monkeypatch.setattr(sessions, "open_session", open_late)
        return ended

    yield begin
    for thread in threads:
        thread.join()


def end_all(person: Caller) -> None:
    assert person.delete("/auth/sessions", if_match=None).status_code == 204


def reset_password(person: Caller) -> None:
    token = sign_reset(person.user_id or 0, 0, "bob@example.com", keys=person.app.config["SECRET_KEYS"])
    confirmed = {"token": token, "new_password": f"{PASSWORD} 2"}
    assert person.post("/auth/password-reset/confirm", confirmed).status_code == 204


def test_a_grant(root: Caller, bob: Caller, meanwhile: Meanwhile) -> None:
    prices = register(root)
    code = prices.code_for(bob, READS)
    ended = meanwhile(lambda: end_all(bob))

    tokens = body_of(prices.exchange(code))

    assert ended.wait(10)
    assert prices.acting(tokens).get("/products").status_code == 401
    assert error_of(prices.refresh(tokens["refresh_token"])) == (400, "invalid_grant")


def unlink(person: Caller) -> None:
    (found,) = body_of(person.get("/auth/identities"))["items"]
    assert person.delete(f"/auth/identities/{found['id']}", if_match=None).status_code == 204


def log_out_at_the_provider(person: Caller) -> None:
    with person.app.app_context(), unit_of_work():
        token = LogoutToken(issuer=PERSON.issuer, subject="1001", provider_session=None, issued_at=clock.now())
        end_by_provider(token)


@pytest.mark.parametrize("end", [end_all, unlink, log_out_at_the_provider])
def test_a_login_of_an_app_with_a_provider(
    app: Flask, bob: Caller, meanwhile: Meanwhile, end: Callable[[Caller], None]
) -> None:
    with app.app_context(), unit_of_work():
        db.session.add(ExternalIdentity(user_id=bob.user_id, issuer=PERSON.issuer, subject=PERSON.subject))
        db.session.flush()
        policy = Policy(trusted=False, creates_accounts=False)
        code = issue_code(PERSON, policy, code_challenge=challenge_of(VERIFIER))
    ended = meanwhile(lambda: end(bob))

    pair = body_of(Caller(app).post("/auth/oidc/exchange", {"code": code, "code_verifier": VERIFIER}))

    assert ended.wait(10)
    assert Caller(app, pair["access_token"]).get("/users/me").status_code == 401


def test_a_login_with_the_password_that_is_being_reset(app: Flask, bob: Caller, meanwhile: Meanwhile) -> None:
    ended = meanwhile(lambda: reset_password(bob))

    pair = body_of(Caller(app).post("/auth/login", {"email": "bob@example.com", "password": PASSWORD}))

    assert ended.wait(10)
    assert Caller(app, pair["access_token"]).get("/users/me").status_code == 401


def test_a_code_that_is_deleted_while_it_is_exchanged(
    root: Caller, bob: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices: ThirdParty = register(root)
    code, find_code = prices.code_for(bob, READS), codes.find_code

    def find_and_delete(text: str, *, client_id: int) -> AuthorizationCode | None:
        found = find_code(text, client_id=client_id)
        # As the transaction that ends all sessions does, which has committed after this one has read the code.
        db.session.execute(delete(AuthorizationCode).execution_options(synchronize_session=False))
        return found

    monkeypatch.setattr(codes, "find_code", find_and_delete)

    assert error_of(prices.exchange(code)) == (400, "invalid_grant")
