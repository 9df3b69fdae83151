"""Logins and unlinkings at the same time: one account, one identity, and always a way in."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any, TypeVar

import pytest
from flask import Flask
from sqlalchemy import event, func, select
from werkzeug.test import TestResponse

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.identities.models import ExternalIdentity, LoginCode
from app.features.sessions.models import UserSession
from app.features.users.models import User
from tests.conftest import Caller, body_of, code_of
from tests.features.identities.conftest import APP, Browse, outcome
from tests.features.identities.test_linking import begin, identities, link, log_in
from tests.features.identities.test_login import CHALLENGE, VERIFIER
from tests.issuer import Issuer

T = TypeVar("T")
DAVE: dict[str, Any] = {"sub": "1001", "email": "dave@example.com", "email_verified": True}
AT_ONCE = 4


def at_once(calls: list[Callable[[], T]]) -> list[T]:
    """What these return, called by as many threads at the same moment."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def counts(app: Flask) -> tuple[int, ...]:
    """How many accounts, identities and sessions there are."""
    with app.app_context(), unit_of_work(reading=True):
        return tuple(
            db.session.scalar(select(func.count()).select_from(model)) or 0
            for model in (User, ExternalIdentity, UserSession)
        )


def test_first_logins_of_one_person_make_one_account(shop: Flask, browse: Browse, issuer: Issuer) -> None:
    browsers = [browse(shop) for _ in range(AT_ONCE)]
    responses = [issuer.grant(browser.begin().headers["Location"], **DAVE) for browser in browsers]

    answers = at_once([
        partial(browser.come_back, **response)
        for browser, response in zip(browsers, responses, strict=True)
    ])  # fmt: skip

    assert [{*outcome(answer)[1]} for answer in answers] == [{"csrf_token"}] * AT_ONCE
    assert counts(shop) == (1, 1, AT_ONCE)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_a_first_login_finds_the_account_that_another_has_just_made(
    shop: Flask, browse: Browse, issuer: Issuer
) -> None:
    first, second = browse(shop), browse(shop)
    responses = [issuer.grant(each.begin().headers["Location"], **DAVE) for each in (first, second)]
    answers: list[TestResponse] = []
    waiting = [first]

    def overtake(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        # The second has seen no identity by now.
        if first in waiting and "FROM users" in statement and "users.email =" in statement:
            waiting.remove(first)
            answers.extend(at_once([partial(first.come_back, **responses[0])]))

    with shop.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", overtake)
    try:
        answers.append(second.come_back(**responses[1]))
    finally:
        event.remove(engine, "before_cursor_execute", overtake)

    assert [{*outcome(answer)[1]} for answer in answers] == [{"csrf_token"}] * 2
    assert counts(shop) == (1, 1, 2)


def test_first_logins_of_people_with_one_name_make_an_account_each(shop: Flask, browse: Browse, issuer: Issuer) -> None:
    browsers = [browse(shop) for _ in range(AT_ONCE)]
    responses = [
        issuer.grant(
            browser.begin().headers["Location"],
            sub=str(number),
            email=f"dave@{number}.example",
            email_verified=True,
            preferred_username="dave",
        )
        for number, browser in enumerate(browsers)
    ]

    answers = at_once([
        partial(browser.come_back, **response)
        for browser, response in zip(browsers, responses, strict=True)
    ])  # fmt: skip

    assert [{*outcome(answer)[1]} for answer in answers] == [{"csrf_token"}] * AT_ONCE
    assert counts(shop) == (AT_ONCE, AT_ONCE, AT_ONCE)


def test_one_response_that_comes_twice_opens_one_session(shop: Flask, browse: Browse, issuer: Issuer) -> None:
    browser, twin = browse(shop), browse(shop)
    response = issuer.grant(browser.begin().headers["Location"], **DAVE)
    cookie = browser.cookie("catalog_oidc", "/api/v1/auth/oidc")
    twin.client.set_cookie("catalog_oidc", cookie or "", path="/api/v1/auth/oidc")

    answers = at_once([partial(each.come_back, **response) for each in (browser, twin)])

    assert sorted("".join(outcome(answer)[1]) for answer in answers) == ["csrf_token", "error"]
    assert counts(shop) == (1, 1, 1)


def test_a_code_that_is_exchanged_twice_leaves_no_session(shop: Flask, browse: Browse) -> None:
    query = {"return_to": APP, "mode": "code", "code_challenge": CHALLENGE}
    _, told = outcome(browse(shop).log_in(query=query, **DAVE))
    exchange = {"code": told["code"], "code_verifier": VERIFIER}

    answers = at_once([lambda: Caller(shop).post("/auth/oidc/exchange", exchange) for _ in range(AT_ONCE)])

    assert sorted(answer.status_code for answer in answers) == [200] + [422] * (AT_ONCE - 1)
    (token,) = [body_of(answer)["access_token"] for answer in answers if answer.status_code == 200]
    assert Caller(shop, token).get("/users/me").status_code == 401
    with shop.app_context(), unit_of_work(reading=True):
        assert db.session.scalars(select(LoginCode.used_at)).one() is not None


def test_two_identities_that_are_unlinked_at_once_leave_one(shop: Flask, browse: Browse) -> None:
    dave = log_in(browse(shop), **DAVE)
    link(browse(shop), dave, sub="1002")
    paths = [f"/auth/identities/{each['id']}" for each in identities(dave)]

    answers = at_once([partial(dave.delete, path, if_match=None) for path in paths])

    assert sorted(answer.status_code for answer in answers) == [204, 409]
    assert [code_of(answer) for answer in answers if answer.status_code == 409] == ["last_way_in"]
    assert len(identities(dave)) == 1


def test_accounts_that_link_one_identity_at_once_share_nothing(
    shop: Flask, browse: Browse, issuer: Issuer, bob: Caller, carol: Caller
) -> None:
    browsers = {caller: browse(shop) for caller in (bob.on(shop), carol.on(shop))}
    responses = {caller: issuer.grant(begin(browser, caller), **DAVE) for caller, browser in browsers.items()}

    answers = at_once([
        partial(browser.come_back, **responses[caller])
        for caller, browser in browsers.items()
    ])  # fmt: skip

    assert sorted("".join(outcome(answer)[1].values()) for answer in answers) == ["company", "identity_taken"]
