"""Logging in with an identity provider: which account it leads to, and what a browser and an app get."""

import base64
import hashlib
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask
from sqlalchemy import select, update

from app.core import clock
from app.core.audit import AuditEvent
from app.core.metrics import LOGINS
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.identities.models import ExternalIdentity
from app.features.sessions.models import UserSession
from app.features.users.models import User
from app.security.permissions import Role
from tests.conftest import API, PASSWORD, Caller, body_of, code_of, on_one_database
from tests.counting import counter_of
from tests.features.identities.conftest import APP, SHOP, Browse, Browser, Offer, error_of, outcome
from tests.issuer import Issuer

DAVE: dict[str, Any] = {"sub": "1001", "email": "dave@example.com", "email_verified": True}
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


def me(browser: Browser, **claims: Any) -> dict[str, Any]:
    """The account that a login leads to."""
    _, told = outcome(browser.log_in(**claims))
    return body_of(Caller(browser.app, body_of(browser.refresh(told["csrf_token"]))["access_token"]).get("/users/me"))


def change_user(app: Flask, username: str, **values: Any) -> None:
    with app.app_context(), unit_of_work():
        db.session.execute(update(User).where(User.username == username).values(**values))


def accounts(app: Flask) -> int:
    with app.app_context(), unit_of_work(reading=True):
        return len(db.session.scalars(select(User.id)).all())


class TestTheWayThere:
    def test_has_state_nonce_and_the_challenge_of_pkce(self, browser: Browser, issuer: Issuer) -> None:
        first, second = browser.begin(), browser.begin()

        where, asked = outcome(first)
        assert where == f"{issuer.url}/authorize"
        assert asked | {"state": "", "nonce": "", "code_challenge": ""} == {
            "ui": "plain",
            "response_type": "code",
            "client_id": "catalog:1",
            "redirect_uri": "http://127.0.0.1:8000/api/v1/auth/oidc/company/callback",
            "scope": "openid email profile",
            "state": "",
            "nonce": "",
            "code_challenge": "",
            "code_challenge_method": "S256",
        }
        secrets = [
            {outcome(each)[1][name] for name in ("state", "nonce", "code_challenge")} for each in (first, second)
        ]
        assert not secrets[0] & secrets[1]
        assert all(len(secret) == 43 for secret in secrets[0])

    def test_sets_a_cookie_that_only_the_way_back_gets(self, browser: Browser) -> None:
        (cookie,) = browser.begin().headers.getlist("Set-Cookie")

        _, *attributes = cookie.split("; ")
        assert {*attributes} >= {"Secure", "HttpOnly", "SameSite=Lax", "Path=/api/v1/auth/oidc", "Max-Age=600"}

    def test_leads_nowhere_with_a_provider_that_is_not_offered(self, browser: Browser) -> None:
        assert browser.begin("other").status_code == 404
        assert browser.come_back("other", state="x").status_code == 404

    def test_is_listed(self, browser: Browser) -> None:
        assert body_of(browser.get(f"{API}/auth/oidc")) == {"items": [{"name": "company", "title": "Company"}]}

    def test_answers_503_while_the_provider_is_down(self, browser: Browser, issuer: Issuer) -> None:
        issuer.fail("/.well-known/openid-configuration")

        answer = browser.begin()

        assert (answer.status_code, code_of(answer)) == (503, "provider_unavailable")
        assert answer.headers["Retry-After"] == "5"


class TestABrowser:
    def test_that_logs_in_gets_the_refresh_cookie_and_its_csrf_token(self, browser: Browser) -> None:
        answer = browser.log_in(**DAVE)

        where, told = outcome(answer)
        assert (where, {*told}) == ("/docs", {"csrf_token"})
        pair = body_of(browser.refresh(told["csrf_token"]))
        assert pair["refresh_token"] is None
        found = body_of(Caller(browser.app, pair["access_token"]).get("/users/me"))
        assert (found["email"], found["username"], found["role"]) == ("dave@example.com", "dave", "user")
        assert found["email_verified"] is True

    def test_that_has_come_back_has_no_attempt_any_more(self, browser: Browser) -> None:
        browser.log_in(**DAVE)

        assert browser.cookie("catalog_oidc", "/api/v1/auth/oidc") is None

    def test_cannot_come_back_twice(self, browser: Browser, issuer: Issuer) -> None:
        parameters = issuer.grant(browser.begin().headers["Location"], **DAVE)
        kept = browser.cookie("catalog_oidc", "/api/v1/auth/oidc")
        outcome(browser.come_back(**parameters))

        assert code_of(browser.come_back(**parameters)) == "state_invalid"
        # Nor with the cookie restored: the code is spent.
        browser.client.set_cookie("catalog_oidc", kept or "", path="/api/v1/auth/oidc")
        assert error_of(browser.come_back(**parameters)) == "login_refused"

    def test_of_the_page_for_consent_gets_the_cookie_of_that_page_alone(self, browser: Browser) -> None:
        page = "/api/v1/oauth/authorize?client_id=app_1&state=a%2Fb"

        answer = browser.log_in(query={"return_to": page}, **DAVE)

        assert answer.headers["Location"] == page
        token = browser.cookie("catalog_login", "/api/v1/oauth/authorize")
        assert Caller(browser.app, token).get("/users/me").status_code == 200
        assert browser.cookie("catalog_refresh", "/api/v1/auth") is None

    def test_of_the_page_for_consent_has_a_short_session(self, browser: Browser) -> None:
        browser.log_in(query={"return_to": "/api/v1/oauth/authorize?client_id=app_1"}, **DAVE)

        with browser.app.app_context(), unit_of_work(reading=True):
            (session,) = db.session.scalars(select(UserSession))
            assert (session.expires_at - session.created_at).total_seconds() == 900

    @pytest.mark.parametrize(
        "error", [{"error": "access_denied"}, {"error": "access_denied", "error_description": "the cat"}]
    )
    def test_is_told_that_the_login_was_denied(self, browser: Browser, error: dict[str, str]) -> None:
        _, asked = outcome(browser.begin())

        assert error_of(browser.come_back(state=asked["state"], **error)) == "login_denied"

    @pytest.mark.parametrize("parameters", [{"error": "server_error"}, {"error": "login_required"}, {}])
    def test_is_told_that_the_login_was_refused(self, browser: Browser, parameters: dict[str, str]) -> None:
        _, asked = outcome(browser.begin())

        assert error_of(browser.come_back(state=asked["state"], **parameters)) == "login_refused"


class TestAnApp:
    QUERY = {"return_to": APP, "mode": "code", "code_challenge": CHALLENGE}

    def test_gets_a_code_for_tokens(self, browser: Browser) -> None:
        where, told = outcome(browser.log_in(query=self.QUERY, **DAVE))

        assert (where, {*told}) == (APP, {"code"})
        assert browser.cookie("catalog_refresh", "/api/v1/auth") is None
        exchange = {"code": told["code"], "code_verifier": VERIFIER}
        pair = body_of(Caller(browser.app).post("/auth/oidc/exchange", exchange))
        assert Caller(browser.app, pair["access_token"]).get("/users/me").status_code == 200
        assert Caller(browser.app, pair["refresh_token"]).post("/auth/refresh").status_code == 200

    def test_gets_the_reason_in_the_query(self, browser: Browser) -> None:
        answer = browser.log_in(query=self.QUERY, **DAVE | {"email_verified": False})

        assert answer.headers["Location"] == f"{APP}?error=email_unverified"

    @on_one_database
    @pytest.mark.parametrize(
        "query", [{"mode": "code"}, {"code_challenge": CHALLENGE}, {"mode": "cookie", "code_challenge": CHALLENGE}]
    )
    def test_needs_a_challenge_and_a_browser_has_none(self, browser: Browser, query: dict[str, str]) -> None:
        assert code_of(browser.begin(**query)) == "invalid"

    @pytest.mark.parametrize("verifier", ["w" * 43, CHALLENGE])
    def test_needs_the_verifier_of_its_challenge(self, browser: Browser, verifier: str) -> None:
        _, told = outcome(browser.log_in(query=self.QUERY, **DAVE))
        exchange = {"code": told["code"], "code_verifier": verifier}

        answer = Caller(browser.app).post("/auth/oidc/exchange", exchange)

        assert body_of(answer)["code"] == "login_code_invalid"

    def test_that_knows_a_used_code_ends_the_session(self, browser: Browser) -> None:
        _, told = outcome(browser.log_in(query=self.QUERY, **DAVE))
        exchange = {"code": told["code"], "code_verifier": VERIFIER}
        pair = body_of(Caller(browser.app).post("/auth/oidc/exchange", exchange))

        second = Caller(browser.app).post("/auth/oidc/exchange", exchange)

        assert body_of(second)["code"] == "login_code_invalid"
        assert Caller(browser.app, pair["access_token"]).get("/users/me").status_code == 401
        assert code_of(Caller(browser.app, pair["refresh_token"]).post("/auth/refresh")) == "session_ended"

    def test_has_a_minute_to_exchange_the_code(self, browser: Browser) -> None:
        _, told = outcome(browser.log_in(query=self.QUERY, **DAVE))
        exchange = {"code": told["code"], "code_verifier": VERIFIER}

        with time_machine.travel(clock.now() + timedelta(seconds=61)):
            answer = Caller(browser.app).post("/auth/oidc/exchange", exchange)

        assert body_of(answer)["code"] == "login_code_invalid"

    def test_whose_person_is_deactivated_meanwhile_gets_nothing(self, browser: Browser) -> None:
        _, told = outcome(browser.log_in(query=self.QUERY, **DAVE))
        change_user(browser.app, "dave", is_active=False)

        answer = Caller(browser.app).post("/auth/oidc/exchange", {"code": told["code"], "code_verifier": VERIFIER})

        assert body_of(answer)["code"] == "login_code_invalid"

    def test_can_have_the_refresh_token_in_a_cookie(self, browser: Browser) -> None:
        _, told = outcome(browser.log_in(query=self.QUERY, **DAVE))
        exchange = {"code": told["code"], "code_verifier": VERIFIER, "refresh_token_in": "cookie"}

        pair = body_of(browser.client.post(f"{API}/auth/oidc/exchange", json=exchange))

        assert pair["refresh_token"] is None
        assert browser.refresh(pair["csrf_token"]).status_code == 200


class TestWhichAccount:
    def test_a_person_has_the_same_at_each_login(self, browser: Browser, browse: Browse, shop: Flask) -> None:
        first = me(browser, **DAVE)
        again = me(browse(shop), **DAVE | {"email": "moved@example.com", "email_verified": False})

        assert again == first

    def test_two_subjects_have_two(self, browser: Browser, browse: Browse, shop: Flask) -> None:
        assert (
            me(browser, **DAVE)["id"]
            != me(browse(shop), sub="1002", email="eve@example.com", email_verified=True)["id"]
        )

    def test_a_verified_address_leads_to_the_account_that_has_it(self, browser: Browser, bob: Caller) -> None:
        found = me(browser, sub="1002", email="BOB@example.com", email_verified=True)

        assert found["id"] == bob.user_id
        # Its password goes on working.
        assert (
            Caller(browser.app).post("/auth/login", {"email": "bob@example.com", "password": PASSWORD}).status_code
            == 200
        )

    def test_an_address_that_somebody_else_may_have_registered_leads_to_none(
        self, browser: Browser, bob: Caller
    ) -> None:
        change_user(browser.app, "bob", email_verified=False)

        answer = browser.log_in(sub="1002", email="bob@example.com", email_verified=True)

        assert error_of(answer) == "identity_unknown"

    @pytest.mark.parametrize("verified", [False, "true", 1, "yes", None])
    @pytest.mark.parametrize("email", ["bob@example.com", "new@example.com"])
    def test_an_unverified_address_leads_to_none(
        self, browser: Browser, bob: Caller, email: str, verified: Any
    ) -> None:
        answer = browser.log_in(sub="1002", email=email, email_verified=verified)

        assert error_of(answer) == "email_unverified"
        assert accounts(browser.app) == 1

    @pytest.mark.parametrize("email", ["not an address", 7, None, "x" * 300 + "@example.com"])
    def test_no_address_leads_to_none(self, browser: Browser, email: Any) -> None:
        assert error_of(browser.log_in(sub="1002", email=email, email_verified=True)) == "email_unverified"

    @pytest.mark.parametrize("email", ["bob@example.com", "new@example.com"])
    def test_a_provider_that_is_not_trusted_leads_to_none(
        self, offer: Offer, browse: Browse, bob: Caller, email: str
    ) -> None:
        browser = browse(offer(trusted=False))

        answer = browser.log_in(sub="1002", email=email, email_verified=True)

        assert error_of(answer) == "identity_unknown"
        assert accounts(browser.app) == 1

    def test_a_provider_that_makes_none_leads_to_those_that_are_there(
        self, offer: Offer, browse: Browse, bob: Caller
    ) -> None:
        browser = browse(offer(creates_accounts=False))

        assert error_of(browser.log_in(**DAVE)) == "identity_unknown"
        assert me(browser, sub="1002", email="bob@example.com", email_verified=True)["id"] == bob.user_id

    def test_accounts_are_made_while_registration_is_open(
        self, offer: Offer, browse: Browse, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop = offer(creates_accounts=None)
        assert me(browse(shop), **DAVE)["email"] == "dave@example.com"

        monkeypatch.setitem(shop.config, "REGISTRATION_OPEN", False)

        answer = browse(shop).log_in(sub="1002", email="eve@example.com", email_verified=True)
        assert error_of(answer) == "identity_unknown"

    def test_an_inactive_one_is_none(self, browser: Browser, bob: Caller) -> None:
        person: dict[str, Any] = {"sub": "1002", "email": "bob@example.com", "email_verified": True}
        me(browser, **person)
        change_user(browser.app, "bob", is_active=False)

        assert error_of(browser.log_in(**person)) == "identity_unknown"

    def test_an_inactive_one_is_not_linked(self, browser: Browser, bob: Caller) -> None:
        change_user(browser.app, "bob", is_active=False)

        answer = browser.log_in(sub="1002", email="bob@example.com", email_verified=True)

        assert error_of(answer) == "identity_unknown"
        with browser.app.app_context(), unit_of_work(reading=True):
            assert db.session.scalar(select(ExternalIdentity.id)) is None

    @pytest.mark.parametrize(
        ("wanted", "username"),
        [("bob", "bob-"), ("B\u00f6b!", "user-"), ("._dot", "dot"), (7, "new"), ("x" * 80, "x" * 40), ("BOB", "BOB-")],
    )
    def test_a_new_one_has_a_username_that_is_free(
        self, browser: Browser, bob: Caller, wanted: Any, username: str
    ) -> None:
        claims = {"sub": "1002", "email": "new@example.com", "email_verified": True, "preferred_username": wanted}

        found = me(browser, **claims)

        assert found["username"].startswith(username if wanted != "B\u00f6b!" else "Bb-")


class TestTheRole:
    ROLES = {"role_claim": "groups", "roles": {"staff": Role.EDITOR, "bosses": Role.ADMIN}}

    def test_never_comes_from_a_claim_that_is_not_mapped(self, browser: Browser) -> None:
        assert me(browser, **DAVE, role="admin", roles=["admin"], groups=["admin"])["role"] == "user"

    @pytest.mark.parametrize(
        ("groups", "role"),
        [
            ("staff", "editor"),
            (["others", "staff"], "editor"),
            (["bosses", "staff"], "admin"),
            ([], "user"),
            (["admin", "editor"], "user"),
            ([{"staff": 1}, 7], "user"),
            (None, "user"),
        ],
    )
    def test_is_what_the_values_of_a_mapped_claim_say(
        self, offer: Offer, browse: Browse, groups: Any, role: str
    ) -> None:
        assert me(browse(offer(**self.ROLES)), **DAVE, groups=groups)["role"] == role

    def test_follows_the_claim_at_each_login(self, offer: Offer, browse: Browse, root: Caller) -> None:
        shop = offer(**self.ROLES)
        roles = [me(browse(shop), **DAVE, groups=groups)["role"] for groups in (["staff"], ["bosses"], [], ["staff"])]

        assert roles == ["editor", "admin", "user", "editor"]

    def test_of_the_last_administrator_stays(self, offer: Offer, browse: Browse) -> None:
        shop = offer(**self.ROLES)
        me(browse(shop), **DAVE, groups=["bosses"])

        assert me(browse(shop), **DAVE, groups=[])["role"] == "admin"


class TestTheTrail:
    def test_has_the_account_the_identity_and_the_session(self, browser: Browser, issuer: Issuer) -> None:
        me(browser, **DAVE)

        with browser.app.app_context(), unit_of_work(reading=True):
            actions = {event.action: event for event in db.session.scalars(select(AuditEvent))}
            assert {"user.created", "identity.linked", "session.opened"} <= actions.keys()
            linked = actions["identity.linked"].after or {}
            assert linked == {"identity_id": linked["identity_id"], "issuer": issuer.url}

    def test_has_what_was_refused_and_why(self, browser: Browser) -> None:
        browser.log_in(**DAVE | {"email_verified": False})

        with browser.app.app_context(), unit_of_work(reading=True):
            (event,) = db.session.scalars(select(AuditEvent))
            assert (event.action, event.after) == (
                "login.failed",
                {"provider": "company", "reason": "email_unverified"},
            )


class TestTheMetric:
    def test_counts_what_succeeds_and_what_is_refused(self, browser: Browser) -> None:
        counted = counter_of(LOGINS)

        browser.log_in(**DAVE)
        browser.log_in(**DAVE)
        browser.log_in(sub="1002", email="eve@example.com", email_verified=False)
        _, told = outcome(browser.log_in(query=TestAnApp.QUERY, **DAVE))
        for _ in range(2):
            Caller(browser.app).post("/auth/oidc/exchange", {"code": told["code"], "code_verifier": VERIFIER})

        assert counted() == {("succeeded",): 3, ("failed",): 2}


@on_one_database
class TestWhereALoginReturnsTo:
    @pytest.mark.parametrize(
        "return_to",
        [
            "/",
            "/docs",
            "/docs?tab=a%2Fb&x=/y//z",
            "/api/v1/oauth/authorize?redirect_uri=https%3A%2F%2Fapp.example%2Fcb",
            "/a.b/..c/~d",
            SHOP,
            APP,
        ],
    )
    def test_may_be_a_path_of_this_server_or_one_of_the_settings(self, browser: Browser, return_to: str) -> None:
        assert browser.begin(return_to=return_to).status_code == 303

    @pytest.mark.parametrize(
        "return_to",
        [
            "https://evil.example",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "\\/evil.example",
            "/\tevil.example",
            "/%",
            "/a//evil.example",
            "/./evil",
            "/.//evil.example",
            "/..//evil.example",
            "/%2e%2e//evil.example",
            "/%2E./evil",
            "/a/..",
            "/docs#x",
            "/docs?#x",
            "docs",
            "",
            "javascript:alert(1)",
            "data:text/html,x",
            "http://shop.example/after-login",
            f"{SHOP}/",
            f"{SHOP}?x=1",
            f"{SHOP}#x",
            f"{SHOP}@evil.example",
            "https://shop.example",
            "https://SHOP.example/after-login",
            f"{APP}/x",
            "/" + "x" * 2000,
            "/\u3002evil.example",
        ],
    )
    def test_may_be_nothing_else(self, browser: Browser, return_to: str) -> None:
        answer = browser.begin(return_to=return_to)

        assert answer.status_code == 422
        assert "Location" not in answer.headers

    @pytest.mark.parametrize("return_to", ["//evil.example", "https://evil.example"])
    def test_of_a_link_is_as_strict(self, shop: Flask, bob: Caller, return_to: str) -> None:
        answer = bob.on(shop).post("/auth/oidc/company/link", {"return_to": return_to})

        assert body_of(answer)["errors"][0]["code"] == "return_to_refused"
