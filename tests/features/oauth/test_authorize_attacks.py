"""Attacks on the page on which people let apps act for them (RFC 9700)."""

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import delete, select, update

from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.auth import service as auth
from app.features.oauth.models import AuthorizationCode
from app.features.oauth_clients.models import OAuthClient
from app.features.sessions import service as sessions
from app.features.sessions.models import UserSession
from app.features.users.models import User
from app.security.passwords import HashingBusy
from app.security.permissions import Role
from app.security.tokens import Issuer, issue_access_token, issue_refresh_token
from tests.conftest import PASSWORD, Caller, on_one_database
from tests.consent_page import AUTHORIZE, Form, Visitor, add_client

MARKUP = "</q><script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def codes(app: Flask) -> list[AuthorizationCode]:
    with app.app_context():
        return list(db.session.scalars(select(AuthorizationCode)))


def has_live_login(app: Flask, user_id: int | None) -> bool:
    rows = select(UserSession).where(UserSession.user_id == user_id, UserSession.revoked_at.is_(None))
    with app.app_context():
        return any(session.device != "tests" for session in db.session.scalars(rows))


def change(app: Flask, statement: Any) -> None:
    with app.app_context(), unit_of_work():
        db.session.execute(statement)


def form_with(visitor: Visitor, button: str) -> Form:
    (form,) = (form for form in visitor.page.forms if button in form.buttons)
    return form


class TestClickjacking:
    def test_no_page_frames_it_and_nothing_runs_in_it(self, visitor: Visitor, bob: Caller) -> None:
        for open_page in (visitor.open, visitor.log_in):
            open_page()

            policy = dict(part.partition(" ")[::2] for part in visitor.headers["Content-Security-Policy"].split("; "))
            assert policy == {
                "default-src": "'none'",
                "style-src": "'self'",
                "img-src": "'self' data:",
                "base-uri": "'none'",
                "frame-ancestors": "'none'",
                "form-action": "'self' https://shop.example",
            }
            assert visitor.headers["X-Frame-Options"] == "DENY"
            assert visitor.headers["Referrer-Policy"] == "no-referrer"
            assert visitor.headers["Cache-Control"] == "no-store"
            assert visitor.headers["X-Content-Type-Options"] == "nosniff"

    def test_it_has_neither_scripts_nor_styles_of_its_own(self, visitor: Visitor, bob: Caller) -> None:
        for open_page in (visitor.open, visitor.log_in):
            elements = open_page().elements

            assert {"script", "style", "iframe", "base"}.isdisjoint(tag for tag, _ in elements)
            assert not [name for _, members in elements for name in members if name == "style" or name[:2] == "on"]
            assert {members["method"] for tag, members in elements if tag == "form"} == {"post"}

    @pytest.mark.parametrize(
        ("redirect_uri", "source"),
        [
            ("https://shop.example:8443/cb", "https://shop.example:8443"),
            ("http://127.0.0.1:51004/cb", "http://127.0.0.1:51004"),
            # A policy cannot name such a host.
            ("http://[::1]:51004/cb", "http:"),
            ("com.example.app:/cb", "com.example.app:"),
            ("com.example.app://cb", "com.example.app:"),
            # Registration refuses this one; it would add a directive.
            ("https://a.example;script-src *;/cb", "https:"),
        ],
    )
    def test_forms_lead_to_us_and_on_to_the_app_alone(self, app: Flask, redirect_uri: str, source: str) -> None:
        visitor = Visitor(app, add_client(app, redirect_uris=[redirect_uri]), redirect_uri=redirect_uri)

        visitor.open()

        assert visitor.headers["Content-Security-Policy"].endswith(f"; form-action 'self' {source}")


class TestMarkup:
    def test_in_the_name_of_an_app_is_text(self, app: Flask, bob: Caller) -> None:
        visitor = Visitor(app, add_client(app, name=MARKUP))

        for open_page in (visitor.open, visitor.log_in):
            page = open_page()

            tags = [tag for tag, _ in page.elements]
            # The page has one image, its icon.
            assert (tags.count("img"), "script" in tags) == (1, False)
            assert MARKUP in page.text

    def test_in_a_request_is_text(self, app: Flask, client_id: str, bob: Caller) -> None:
        visitor = Visitor(app, client_id, state=MARKUP, login_hint=MARKUP)

        for open_page in (visitor.open, visitor.log_in):
            page = open_page()

            assert "script" not in {tag for tag, _ in page.elements}
        visitor.press("Deny")
        assert visitor.answer()["state"] == MARKUP

    def test_in_a_refused_request_is_not_repeated(self, app: Flask) -> None:
        page = Visitor(app, MARKUP, redirect_uri=MARKUP).open()

        assert "alert" not in page.text
        assert "script" not in {tag for tag, _ in page.elements}


class TestForgedForms:
    """What another site makes a browser send, which has the cookies, or what someone with other cookies sends."""

    BUTTONS = ["Log in", "Allow", "Deny", "Not you? Log in as someone else"]

    @pytest.fixture(params=BUTTONS)
    def button(self, request: pytest.FixtureRequest) -> str:
        name: str = request.param
        return name

    @staticmethod
    def send(visitor: Visitor, button: str, **options: Any) -> None:
        if button == "Log in":
            visitor.open()
            filled = {"email": "bob@example.com", "password": PASSWORD}
        else:
            visitor.log_in()
            filled = {}
        form = form_with(visitor, button)
        data = {**form.fields, **filled, **form.buttons[button], **options.pop("data", {})}
        visitor.response = visitor.http.post(form.action, data=data, **options)

    @staticmethod
    def require_refused(visitor: Visitor, button: str, bob: Caller) -> None:
        assert visitor.status == 403
        assert visitor.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "form_not_ours" in visitor.page.text
        assert "Location" not in visitor.headers
        assert codes(visitor.app) == []
        # Neither opened nor ended.
        assert has_live_login(visitor.app, bob.user_id) is (button != "Log in")

    @pytest.mark.parametrize("token", ["", "x", "\u00e9", "e" * 100])
    def test_without_the_token_are_refused(self, visitor: Visitor, bob: Caller, button: str, token: str) -> None:
        self.send(visitor, button, data={"csrf_token": token})

        self.require_refused(visitor, button, bob)

    def test_with_the_token_of_another_browser_are_refused(
        self, app: Flask, visitor: Visitor, client_id: str, bob: Caller, button: str
    ) -> None:
        other = Visitor(app, client_id)
        other.open()

        self.send(visitor, button, data={"csrf_token": other.page.forms[0].fields["csrf_token"]})

        self.require_refused(visitor, button, bob)

    def test_without_the_cookie_are_refused(self, visitor: Visitor, bob: Caller, button: str) -> None:
        visitor.open() if button == "Log in" else visitor.log_in()
        form = form_with(visitor, button)
        visitor.http.delete_cookie("catalog_form", path=AUTHORIZE)
        data = {**form.fields, "email": "bob@example.com", "password": PASSWORD, **form.buttons[button]}

        visitor.response = visitor.http.post(form.action, data=data)

        self.require_refused(visitor, button, bob)

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "none"},
            {"Origin": "https://evil.example"},
            {"Origin": "https://localhost.evil.example"},
            {"Origin": "http://[bad"},
            {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
        ],
    )
    def test_of_another_site_are_refused_by_what_the_browser_says(
        self, visitor: Visitor, bob: Caller, button: str, headers: dict[str, str]
    ) -> None:
        self.send(visitor, button, headers=headers)

        self.require_refused(visitor, button, bob)

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
            {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
            # A proxy speaks TLS with the browser.
            {"Origin": "https://LOCALHOST"},
        ],
    )
    def test_of_ours_are_what_the_browser_says(
        self, visitor: Visitor, bob: Caller, button: str, headers: dict[str, str]
    ) -> None:
        self.send(visitor, button, headers=headers)

        assert visitor.status == 303

    def test_for_another_request_are_refused(self, app: Flask, visitor: Visitor, bob: Caller, button: str) -> None:
        """The token is of the request that was shown: no other scope, state or address, though the app may ask so."""
        visitor.open() if button == "Log in" else visitor.log_in()
        form = form_with(visitor, button)
        data = {**form.fields, "email": "bob@example.com", "password": PASSWORD, **form.buttons[button]}
        widened = form.action.replace("scope=products%3Aread", "scope=products%3Aread+products%3Awrite")
        assert widened != form.action

        visitor.response = visitor.http.post(widened, data=data)

        self.require_refused(visitor, button, bob)

    def test_shown_to_someone_else_decide_nothing(self, visitor: Visitor, bob: Caller, carol: Caller) -> None:
        """In another window of the browser, carol has logged in since bob was asked."""
        visitor.log_in("bob")
        form = form_with(visitor, "Allow")
        visitor.press("Not you? Log in as someone else")
        visitor.press("Log in", email="carol@example.com", password=PASSWORD)

        visitor.response = visitor.http.post(form.action, data={**form.fields, "decision": "allow"})

        assert visitor.status == 403
        assert codes(visitor.app) == []
        assert has_live_login(visitor.app, carol.user_id)

    def test_of_the_login_page_decide_nothing(self, visitor: Visitor, bob: Caller) -> None:
        visitor.open()
        token = visitor.page.forms[0].fields["csrf_token"]

        self.send(visitor, "Allow", data={"csrf_token": token})

        self.require_refused(visitor, "Allow", bob)


class TestCookies:
    def test_of_forms_stay_with_the_page(self, visitor: Visitor) -> None:
        visitor.open()

        assert visitor.response is not None
        (cookie,) = visitor.response.headers.getlist("Set-Cookie")
        name, _, rest = cookie.partition("=")
        value, _, attributes = rest.partition("; ")
        assert name == "catalog_form"
        assert len(value) == 43
        assert attributes == "Secure; HttpOnly; Path=/api/v1/oauth/authorize; SameSite=Lax"

    def test_are_of_one_browser_each(self, app: Flask, client_id: str) -> None:
        values = set()
        for visitor in (Visitor(app, client_id), Visitor(app, client_id)):
            visitor.open()
            cookie = visitor.http.get_cookie("catalog_form", path=AUTHORIZE)
            assert cookie is not None
            values.add(cookie.value)

        assert len(values) == 2


class TestTokensAsLogins:
    """The cookie is a session's access token; nothing else logs in on the page."""

    @staticmethod
    def buttons_with(visitor: Visitor, token: str) -> list[str]:
        visitor.http.set_cookie("catalog_login", token, path=AUTHORIZE)
        return visitor.open().buttons

    def test_that_are_of_a_person_log_in(self, visitor: Visitor, bob: Caller) -> None:
        assert bob.token is not None
        assert self.buttons_with(visitor, bob.token)[1:] == ["Allow", "Deny"]

    @pytest.mark.parametrize("token", ["x", "", "a.b.c", "\u00e9"])
    def test_that_are_none_do_not(self, visitor: Visitor, token: str) -> None:
        assert self.buttons_with(visitor, token) == ["Log in", "Cancel"]

    def test_for_refreshing_do_not(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        with app.app_context(), unit_of_work():
            session, _ = sessions.open_session(bob.user_id or 0, device="", address="", lifetime=60)
            now = clock.now()
            token = issue_refresh_token(
                user_id=bob.user_id or 0,
                session_id=session.id,
                token_id="1",
                issued_at=now,
                expires_at=now + timedelta(minutes=1),
            )

        assert self.buttons_with(visitor, token) == ["Log in", "Cancel"]

    def test_of_an_app_do_not(self, visitor: Visitor, client_id: str, bob: Caller, app: Flask) -> None:
        with app.app_context(), unit_of_work():
            grant, _ = sessions.open_session(
                bob.user_id or 0,
                device="",
                address="",
                lifetime=60,
                client_id=int(client_id.removeprefix("app_")),
                scopes=["products:read"],
            )
            named = {"user_id": bob.user_id or 0, "session_id": grant.id}
            issuer = Issuer(app.config["ISSUER"], app.extensions["key_ring"], 900)
            tokens = [
                issuer.issue_to_app(**named, client_id=grant.client_id or 0, scopes=["products:read"]),
                # What only a session of a person has, for the session of an app.
                issue_access_token(**named, role=Role.USER),
            ]

        assert [self.buttons_with(visitor, token) for token in tokens] == [["Log in", "Cancel"]] * 2

    def test_of_a_key_do_not(self, visitor: Visitor, alice: Caller, app: Flask) -> None:
        key = alice.post("/api-keys", {"name": "Sync", "scopes": ["products:read"]}).json
        assert key is not None
        issuer = Issuer(app.config["ISSUER"], app.extensions["key_ring"], 900)
        token = issuer.issue_to_key(key_id=key["id"], fingerprint="f", scopes=["products:read"])

        assert self.buttons_with(visitor, token) == ["Log in", "Cancel"]
        assert self.buttons_with(visitor, key["key"]) == ["Log in", "Cancel"]


class TestChangesBetweenQuestionAndDecision:
    """The decision is checked anew: the page was shown a while ago."""

    def test_of_what_the_app_may_ask_for(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        visitor.log_in()
        change(app, update(OAuthClient).values(scopes=["categories:read"]))

        visitor.press("Allow")

        assert visitor.answer()["error"] == "invalid_scope"
        assert codes(app) == []

    def test_of_its_addresses(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        visitor.log_in()
        change(app, update(OAuthClient).values(redirect_uris=["https://shop.example/other"]))

        visitor.press("Allow")

        assert visitor.status == 400
        assert codes(app) == []

    def test_of_its_being_there(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        visitor.log_in()
        change(app, delete(OAuthClient))

        visitor.press("Allow")

        assert visitor.status == 400

    def test_of_the_role(self, app: Flask, client_id: str, alice: Caller) -> None:
        visitor = Visitor(app, client_id, scope="products:read products:write")
        visitor.log_in("alice")
        change(app, update(User).where(User.id == alice.user_id).values(role=Role.USER))

        visitor.press("Allow")

        assert codes(app)[0].scopes == ["products:read"]

    def test_of_the_account(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        visitor.log_in()
        change(app, update(User).where(User.id == bob.user_id).values(is_active=False))

        page = visitor.press("Allow")

        assert page.buttons == ["Log in", "Cancel"]
        assert codes(app) == []

    def test_of_the_login_by_someone_who_ends_all_sessions(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        visitor.log_in()
        assert bob.delete("/auth/sessions", if_match=None).status_code == 204

        page = visitor.press("Allow")

        assert page.buttons == ["Log in", "Cancel"]
        assert codes(app) == []


class TestRefusals:
    """What the contract refuses is a page as well, with the status and the headers that a problem has."""

    @staticmethod
    def post(visitor: Visitor, **options: Any) -> None:
        visitor.log_in()
        visitor.response = visitor.http.post(form_with(visitor, "Allow").action, **options)

    @pytest.mark.parametrize(
        ("options", "status", "code"),
        [
            ({"data": {"decision": "maybe"}}, 422, "invalid"),
            ({}, 415, "unsupported_media_type"),
            ({"json": {"decision": "allow"}}, 415, "unsupported_media_type"),
            ({"data": "decision=%zz", "content_type": "application/x-www-form-urlencoded"}, 400, "form_malformed"),
            ({"data": {"decision": "allow", "a": "x" * 20_000}}, 413, "content_too_large"),
            ({"data": {"decision": ["allow", "deny"]}}, 422, "invalid"),
        ],
    )
    def test_of_a_form_are_pages(
        self, visitor: Visitor, bob: Caller, options: dict[str, Any], status: int, code: str
    ) -> None:
        self.post(visitor, **options)

        assert (visitor.status, visitor.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
        assert code in visitor.page.text
        assert visitor.headers["X-Request-ID"] in visitor.page.text
        assert "form-action 'none'" in visitor.headers["Content-Security-Policy"]
        assert visitor.headers["X-Frame-Options"] == "DENY"
        assert visitor.headers["Cache-Control"] == "no-store"

    def test_of_a_query_are_pages(self, visitor: Visitor) -> None:
        visitor.open(f"{AUTHORIZE}?client_id=%ff")

        assert (visitor.status, visitor.headers["Content-Type"]) == (400, "text/html; charset=utf-8")
        assert "query_malformed" in visitor.page.text

    def test_because_of_load_are_pages(self, visitor: Visitor, bob: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any) -> bool:
            raise HashingBusy

        monkeypatch.setattr("app.features.auth.service.verify_password", refuse)

        visitor.log_in()

        assert (visitor.status, visitor.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
        assert visitor.headers["Retry-After"] == "1"

    def test_of_other_operations_are_problems_still(self, anonymous: Caller) -> None:
        assert anonymous.get("/oauth/authorize/nowhere").mimetype == "application/problem+json"
        assert anonymous.put("/oauth/authorize", if_match=None).mimetype == "application/problem+json"

    @on_one_database
    @pytest.mark.parametrize("name", ["response_type", "client_id", "redirect_uri", "scope", "state", "prompt"])
    @pytest.mark.parametrize("text", ["%00", "\ud800".encode("utf-8", "surrogatepass").hex(), "x" * 5000, "%0d%0a"])
    def test_are_all_there_is_to_odd_parameters(self, visitor: Visitor, name: str, text: str) -> None:
        given = "&".join(f"{key}={value}" for key, value in visitor.parameters.items() if key != name)

        visitor.open(f"{AUTHORIZE}?{given}&{name}={text}")

        assert visitor.status in {200, 303, 400, 422}


def test_a_login_that_another_decision_has_just_ended_decides_nothing(
    visitor: Visitor, bob: Caller, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two decisions at once, both may find the login; the second to end it finds that it has ended."""
    visitor.log_in()
    load_identity = auth.load_identity

    def load_and_lose(*arguments: Any) -> Any:
        identity = load_identity(*arguments)
        db.session.execute(update(UserSession).values(revoked_at=clock.now()))
        return identity

    monkeypatch.setattr(auth, "load_identity", load_and_lose)

    visitor.press("Allow")

    assert codes(app) == []
