"""The page on which people let apps act for them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
import time_machine
from flask import Flask
from sqlalchemy import select, update

from app.core import clock
from app.core.audit import AuditEvent
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.oauth.models import AuthorizationCode
from app.features.sessions.models import UserSession
from app.features.users.models import User
from app.security.api_keys import hash_secret
from app.security.permissions import GRANTS, MEANINGS, PERSONAL, Permission, Role
from tests.conftest import PASSWORD, Caller, on_one_database
from tests.consent_page import AUTHORIZE, CALLBACK, CHALLENGE, Visitor, add_client

ISSUER = "http://127.0.0.1:8000"


@pytest.fixture
def deactivated(carol: Caller) -> Caller:
    """Carol, whose account is not active."""
    with carol.app.app_context(), unit_of_work():
        db.session.get_one(User, carol.user_id).is_active = False
    return carol


def codes(app: Flask) -> list[AuthorizationCode]:
    with app.app_context():
        return list(db.session.scalars(select(AuthorizationCode)))


def live_sessions(app: Flask, user_id: int | None) -> list[UserSession]:
    """The sessions of a user that have not ended, but for the one that the fixture has opened."""
    rows = select(UserSession).where(UserSession.user_id == user_id, UserSession.revoked_at.is_(None))
    with app.app_context():
        return [session for session in db.session.scalars(rows) if session.device != "tests"]


def clicked(visitor: Visitor, button: str) -> Callable[[], None]:
    """What sends the form of the page at hand with a button, with the cookies that it has now."""
    (form,) = (form for form in visitor.page.forms if button in form.buttons)
    data = {**form.fields, **form.buttons[button]}
    login = visitor.http.get_cookie("catalog_login", path=AUTHORIZE)
    assert login is not None

    def send() -> None:
        visitor.http.set_cookie("catalog_login", login.value, path=AUTHORIZE)
        visitor.response = visitor.http.post(form.action, data=data)

    return send


@on_one_database
class TestRequest:
    @pytest.mark.parametrize("client_id", ["", "app_0", "app_4711", "cat_1", "app_01", "app_1 ", "4711", "app_９"])
    def test_of_an_unknown_app_is_answered_here(self, app: Flask, client_id: str) -> None:
        visitor = Visitor(app, client_id)

        page = visitor.open()

        assert (visitor.status, visitor.headers["Content-Type"]) == (400, "text/html; charset=utf-8")
        assert "Location" not in visitor.headers
        assert "client_unknown" in page.text

    @pytest.mark.parametrize(
        "redirect_uri",
        [
            None,
            "",
            "https://evil.example/callback",
            # A prefix, a path below, and one that leads there.
            "https://shop.example/callback/",
            "https://shop.example/callback/../callback",
            "https://shop.example/callback/..;/",
            "https://shop.example/callbackx",
            "https://shop.example/other",
            # Another host that looks like it.
            "https://shop.example.evil.example/callback",
            "https://a.shop.example/callback",
            "https://shop.example@evil.example/callback",
            "https://evil.example\\@shop.example/callback",
            "https://evil.example#@shop.example/callback",
            "https://shop.example:443/callback",
            "https://shop.example:8443/callback",
            "//shop.example/callback",
            # Another spelling.
            "http://shop.example/callback",
            "HTTPS://shop.example/callback",
            "https://SHOP.example/callback",
            "https://shop.example/Callback",
            "https://shop.example/%63allback",
            "https://shop.example/callback#fragment",
            "https://shop.example/callback?",
            "https://shop.example/callback?next=https://evil.example",
            "https://shop.example/callback\r\nSet-Cookie: a=b",
            "https://shop.example/callback ",
            " https://shop.example/callback",
            "javascript:alert(1)",
            "data:text/html,evil",
        ],
    )
    def test_with_an_address_that_is_not_registered_is_answered_here(
        self, app: Flask, client_id: str, redirect_uri: str | None
    ) -> None:
        visitor = Visitor(app, client_id, redirect_uri=redirect_uri, response_type="token")

        page = visitor.open()

        assert visitor.status == 400
        assert "Location" not in visitor.headers
        assert "redirect_uri_unregistered" in page.text

    @pytest.mark.parametrize(
        ("registered", "asked", "is_registered"),
        [
            ("http://127.0.0.1/cb", "http://127.0.0.1:51004/cb", True),
            ("http://127.0.0.1:8000/cb", "http://127.0.0.1:51004/cb", True),
            ("http://127.0.0.1:8000/cb", "http://127.0.0.1/cb", True),
            ("http://[::1]/cb", "http://[::1]:51004/cb", True),
            ("http://127.0.0.1", "http://127.0.0.1:51004", True),
            ("http://127.0.0.1/cb?a=b", "http://127.0.0.1:1/cb?a=b", True),
            ("http://127.0.0.1/cb", "http://127.0.0.1:51004/other", False),
            ("http://127.0.0.1/cb", "http://[::1]:51004/cb", False),
            ("http://127.0.0.1/cb", "http://127.0.0.2:51004/cb", False),
            ("http://127.0.0.1/cb", "http://localhost:51004/cb", False),
            ("http://127.0.0.1/cb", "https://127.0.0.1:51004/cb", False),
            ("http://127.0.0.1/cb", "http://127.0.0.1:51004@evil.example/cb", False),
            ("http://127.0.0.1/cb", "http://127.0.0.1:51004.evil.example/cb", False),
            ("http://127.0.0.1/cb", "http://127.0.0.1.evil.example/cb", False),
            ("http://127.0.0.1/cb", "http://127.0.0.1:/cb", False),
            ("http://127.0.0.1/cb", "http://127.0.0.1:99999/cb", False),
            ("http://127.0.0.1/cb", "http://127.0.0.1:８０/cb", False),
            ("https://127.0.0.1/cb", "https://127.0.0.1:51004/cb", False),
            ("com.example.app:/cb", "com.example.app:/cb", True),
            ("com.example.app:/cb", "com.example.app:/cb/", False),
            ("com.example.app:/cb", "com.example.other:/cb", False),
        ],
    )
    def test_may_name_another_port_of_a_loopback_address_and_nothing_else(
        self, app: Flask, registered: str, asked: str, is_registered: bool
    ) -> None:
        visitor = Visitor(app, add_client(app, redirect_uris=[registered]), redirect_uri=asked)

        visitor.open()

        assert visitor.status == (200 if is_registered else 400)

    @pytest.mark.parametrize(
        ("changed", "error"),
        [
            ({"response_type": None}, "invalid_request"),
            ({"response_type": "token"}, "unsupported_response_type"),
            ({"response_type": "code id_token"}, "unsupported_response_type"),
            ({"response_type": 'c"ode\\é'}, "unsupported_response_type"),
            ({"code_challenge": None}, "invalid_request"),
            ({"code_challenge": ""}, "invalid_request"),
            ({"code_challenge": CHALLENGE[1:]}, "invalid_request"),
            ({"code_challenge": CHALLENGE + "\n"}, "invalid_request"),
            ({"code_challenge": "." * 43}, "invalid_request"),
            ({"code_challenge_method": None}, "invalid_request"),
            ({"code_challenge_method": "plain"}, "invalid_request"),
            ({"code_challenge_method": "s256"}, "invalid_request"),
            ({"scope": "products:delete"}, "invalid_scope"),
            ({"scope": "products:read products:delete"}, "invalid_scope"),
            ({"scope": "account:manage"}, "invalid_scope"),
            ({"scope": "openid"}, "invalid_scope"),
            ({"scope": " "}, "invalid_scope"),
            ({"prompt": "none"}, "interaction_required"),
        ],
    )
    def test_with_another_fault_is_answered_to_the_app(
        self, app: Flask, client_id: str, changed: dict[str, str | None], error: str
    ) -> None:
        visitor = Visitor(app, client_id, **changed)

        visitor.open()

        answer = visitor.answer()
        assert answer.pop("error_description")
        assert answer == {"error": error, "state": "af0ifjsldkj", "iss": ISSUER}
        assert visitor.headers["Cache-Control"] == "no-store"
        assert visitor.headers["Referrer-Policy"] == "no-referrer"

    def test_without_a_state_is_answered_without_one(self, app: Flask, client_id: str) -> None:
        visitor = Visitor(app, client_id, state=None, scope="openid")

        visitor.open()

        assert "state" not in visitor.answer()

    def test_gets_its_state_back_character_by_character(self, app: Flask, client_id: str) -> None:
        state = 'a b+c%20&code=x#"<>\\é€'
        visitor = Visitor(app, client_id, state=state, scope="openid")

        visitor.open()

        assert visitor.answer()["state"] == state

    def test_keeps_the_query_of_the_registered_address(self, app: Flask) -> None:
        uri = "https://shop.example/cb?tenant=a%20b&flag"
        visitor = Visitor(app, add_client(app, redirect_uris=[uri]), redirect_uri=uri, scope="openid")

        visitor.open()

        assert visitor.location.startswith(f"{uri}&error=invalid_scope&")

    @pytest.mark.parametrize("name", ["client_id", "redirect_uri", "state", "scope", "code_challenge"])
    def test_with_a_repeated_parameter_is_answered_here(self, visitor: Visitor, name: str) -> None:
        query = urlencode([*visitor.parameters.items(), (name, "a"), (name, "b")])

        visitor.open(f"{AUTHORIZE}?{query}")

        assert visitor.status == 422
        assert "Location" not in visitor.headers
        assert name in visitor.page.text

    def test_may_repeat_what_is_unknown_here(self, visitor: Visitor) -> None:
        # Of RFC 8707, which lets a client name several.
        query = urlencode([*visitor.parameters.items(), ("resource", "a"), ("resource", "b")])

        visitor.open(f"{AUTHORIZE}?{query}")

        assert visitor.status == 200

    def test_may_have_parameters_that_are_unknown_here(self, app: Flask, client_id: str) -> None:
        visitor = Visitor(app, client_id, nonce="n-0S6_WzA2Mj", display="page", resource="https://api.example")

        visitor.open()

        assert visitor.status == 200

    def test_needs_a_server_that_knows_its_name(self, app_with: Callable[..., Flask], client_id: str) -> None:
        app = app_with(cors_origins=())
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(app.config, "ISSUER", None)
            visitor = Visitor(app, client_id)

            page = visitor.open()

        assert visitor.status == 404
        assert "oauth_unavailable" in page.text


class TestLogin:
    def test_is_asked_for_first(self, visitor: Visitor) -> None:
        page = visitor.open()

        assert visitor.status == 200
        assert page.buttons == ["Log in", "Cancel"]
        assert "Shop" in page.text
        assert "shop.example" in page.text

    def test_leads_to_the_question(self, visitor: Visitor, bob: Caller) -> None:
        page = visitor.log_in()

        assert visitor.status == 200
        assert page.buttons == ["Not you? Log in as someone else", "Allow", "Deny"]

    def test_opens_a_session_of_a_quarter_of_an_hour(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        visitor.log_in()

        (session,) = live_sessions(app, bob.user_id)
        assert timedelta(minutes=14) < session.expires_at - clock.now() <= timedelta(minutes=15)

    def test_is_kept_in_a_cookie_of_the_page_alone(self, visitor: Visitor, bob: Caller) -> None:
        visitor.open()
        (form,) = (form for form in visitor.page.forms if "Log in" in form.buttons)
        data = {**form.fields, "email": "bob@example.com", "password": PASSWORD}

        cookies = visitor.http.post(form.action, data=data).headers.getlist("Set-Cookie")

        (login,) = (cookie for cookie in cookies if cookie.startswith("catalog_login="))
        assert login.partition("; ")[2] == "Secure; HttpOnly; Path=/api/v1/oauth/authorize; SameSite=Lax"

    @pytest.mark.parametrize(("username", "password"), [("bob", "wrong"), ("nobody", PASSWORD), ("carol", PASSWORD)])
    def test_with_wrong_credentials_is_asked_for_again(
        self, visitor: Visitor, bob: Caller, deactivated: Caller, username: str, password: str
    ) -> None:
        visitor.open()

        page = visitor.press("Log in", email=f"{username}@example.com", password=password)

        assert visitor.status == 401
        assert "The e-mail address or the password is wrong, or the account is not active." in page.text
        assert (page.forms[0].fields["email"], page.forms[0].fields["password"]) == (f"{username}@example.com", "")
        assert visitor.press("Log in", email="bob@example.com", password=PASSWORD).buttons[1:] == ["Allow", "Deny"]

    def test_that_fails_counts_and_is_recorded(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        for _ in range(10):
            visitor.open()
            visitor.press("Log in", email="bob@example.com", password="wrong")
        visitor.open()

        page = visitor.press("Log in", email="bob@example.com", password=PASSWORD)

        assert visitor.status == 429
        assert "too_many_failures" in page.text
        assert int(visitor.headers["Retry-After"]) > 0
        with app.app_context():
            actions = list(db.session.scalars(select(AuditEvent.action).where(AuditEvent.action.like("login.%"))))
        assert sorted(actions) == ["login.blocked", *["login.failed"] * 9]

    def test_takes_the_same_statements_for_any_wrong_credentials(
        self, visitor: Visitor, bob: Caller, deactivated: Caller, statements_of: Callable[..., int]
    ) -> None:
        visitor.open()
        (form,) = (form for form in visitor.page.forms if "Log in" in form.buttons)

        def statements(username: str, password: str) -> int:
            data = {**form.fields, "email": f"{username}@example.com", "password": password}

            def send(logged: Flask) -> Any:
                visitor.http.application = logged
                return visitor.http.post(form.action, data=data)

            return statements_of(send)

        wrong = {statements("bob", "wrong"), statements("nobody", "wrong"), statements("carol", PASSWORD)}
        assert len(wrong) == 1

    def test_begins_with_the_address_that_the_app_hints_at(self, app: Flask, client_id: str) -> None:
        page = Visitor(app, client_id, login_hint="bob@example.com").open()

        assert page.forms[0].fields["email"] == "bob@example.com"

    def test_is_limited_by_address(self, app_with: Callable[..., Flask], client_id: str, bob: Caller) -> None:
        visitor = Visitor(app_with(rate_limit_enabled=True, rate_limit_login="1 per minute"), client_id)
        visitor.open()
        visitor.press("Log in", email="bob@example.com", password="wrong")

        page = visitor.press("Log in", email="bob@example.com", password="wrong")

        assert (visitor.status, visitor.headers["Content-Type"]) == (429, "text/html; charset=utf-8")
        assert "rate_limited" in page.text

    def test_has_a_link_for_each_identity_provider(
        self, app: Flask, client_id: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Provider:
            title = "Company <login>"

        class ProviderClient:
            provider = Provider()

        monkeypatch.setitem(app.extensions, "oidc", {"company": ProviderClient()})
        visitor = Visitor(app, client_id, state="a b")

        # Browsers leave these characters in a query, where RFC 3986 has none.
        page = visitor.open(f"{AUTHORIZE}?{urlencode(visitor.parameters)}&x=[a|b]")

        link = page.links["Log in with Company <login>"]
        assert "login_denied" in {members.get("id", "").removeprefix("error=") for _, members in page.elements}
        path, _, query = link.partition("?")
        assert path == "/api/v1/auth/oidc/company"
        assert query.startswith("return_to=%2Fapi%2Fv1%2Foauth%2Fauthorize%3Fresponse_type%3Dcode")
        assert query.endswith(
            "state%3Da%2Bb%26code_challenge%3D" + CHALLENGE + "%26code_challenge_method%3DS256%26x%3D%255Ba%257Cb%255D"
        )


class TestQuestion:
    def test_says_who_asks_and_where_the_answer_goes(self, visitor: Visitor, bob: Caller, client_id: str) -> None:
        page = visitor.log_in()

        assert f"Shop ( {client_id} ) asks to act for you" in page.text
        assert "It leads back to shop.example :" in page.text

    @pytest.mark.parametrize(
        ("redirect_uri", "destination"),
        [
            ("https://shop.example:8443/cb", "leads back to shop.example:8443 :"),
            ("http://127.0.0.1:8000/cb", "leads back to an app on this device, 127.0.0.1:8000 :"),
            ("com.example.app:/cb", "leads back to an app on this device, com.example.app: :"),
        ],
    )
    def test_names_the_host_or_the_scheme(self, app: Flask, bob: Caller, redirect_uri: str, destination: str) -> None:
        visitor = Visitor(app, add_client(app, redirect_uris=[redirect_uri]), redirect_uri=redirect_uri)

        assert destination in visitor.log_in().text

    def test_says_as_whom(self, visitor: Visitor, bob: Caller) -> None:
        assert "You are logged in as bob (bob@example.com)." in visitor.log_in().text

    def test_says_for_what_in_sentences(self, app: Flask, client_id: str, alice: Caller) -> None:
        page = Visitor(app, client_id, scope="products:write products:read").log_in("alice")

        assert (
            "It could do this, as you: "
            f"{MEANINGS[Permission.PRODUCTS_READ]} {MEANINGS[Permission.PRODUCTS_WRITE]}" in page.text
        )
        assert "your role does not allow" not in page.text

    def test_is_for_all_that_the_app_may_ask_for_if_it_names_nothing(
        self, app: Flask, client_id: str, alice: Caller
    ) -> None:
        page = Visitor(app, client_id, scope=None).log_in("alice")

        assert MEANINGS[Permission.PRODUCTS_READ] in page.text
        assert MEANINGS[Permission.PRODUCTS_WRITE] in page.text

    def test_sets_apart_what_the_role_does_not_allow(self, app: Flask, client_id: str, bob: Caller) -> None:
        text = Visitor(app, client_id, scope="products:read products:write").log_in().text

        granted, _, withheld = text.partition("which your role does not allow:")
        assert MEANINGS[Permission.PRODUCTS_READ] in granted
        assert MEANINGS[Permission.PRODUCTS_WRITE] in withheld

    def test_has_no_allow_where_nothing_is_left(self, app: Flask, client_id: str, bob: Caller) -> None:
        page = Visitor(app, client_id, scope="products:write").log_in()

        assert page.buttons == ["Not you? Log in as someone else", "Deny"]

    def test_is_asked_at_every_authorization(self, app: Flask, client_id: str, bob: Caller) -> None:
        visitor = Visitor(app, client_id)
        visitor.log_in()
        visitor.press("Allow")

        visitor.open()
        assert visitor.press("Log in", email="bob@example.com", password=PASSWORD).buttons[1:] == ["Allow", "Deny"]

    def test_is_about_the_person_that_the_database_has(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        visitor.log_in()
        with app.app_context(), unit_of_work():
            db.session.get_one(User, bob.user_id).is_active = False

        assert visitor.open().buttons == ["Log in", "Cancel"]

    def test_needs_another_login_after_a_quarter_of_an_hour(
        self, app_with: Callable[..., Flask], client_id: str, bob: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        visitor = Visitor(app_with(access_token_ttl=3600), client_id)
        visitor.log_in()
        now = clock.now()

        monkeypatch.setattr(clock, "now", lambda: now + timedelta(minutes=16))

        assert visitor.open().buttons == ["Log in", "Cancel"]


class TestAllow:
    def test_leads_back_with_a_code(self, visitor: Visitor, bob: Caller) -> None:
        visitor.log_in()

        visitor.press("Allow")

        answer = visitor.answer()
        assert len(answer.pop("code")) == 43
        assert answer == {"state": "af0ifjsldkj", "iss": ISSUER}

    def test_stores_what_was_allowed(self, app: Flask, client_id: str, bob: Caller) -> None:
        visitor = Visitor(app, client_id, scope="products:write products:read")
        visitor.log_in()

        visitor.press("Allow")

        (code,) = codes(app)
        assert code.code_hash == hash_secret(visitor.answer()["code"])
        assert (f"app_{code.client_id}", code.user_id, code.redirect_uri) == (client_id, bob.user_id, CALLBACK)
        # Bob's role does not allow products:write, and the page said so.
        assert (code.scopes, code.code_challenge) == (["products:read"], CHALLENGE)
        assert timedelta(0) < code.expires_at - clock.now() <= timedelta(seconds=60)

    def test_ends_the_login(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        visitor.log_in()

        visitor.press("Allow")

        assert live_sessions(app, bob.user_id) == []
        assert visitor.http.get_cookie("catalog_login", path=AUTHORIZE) is None
        with app.app_context():
            ended = db.session.scalars(select(AuditEvent).where(AuditEvent.action == "session.ended")).one()
        assert (ended.actor_id, ended.resource_id) == (bob.user_id, bob.user_id)

    def test_works_where_the_address_has_another_port(self, app: Flask, bob: Caller) -> None:
        client_id = add_client(app, redirect_uris=["http://127.0.0.1/cb"])
        visitor = Visitor(app, client_id, redirect_uri="http://127.0.0.1:51004/cb")
        visitor.log_in()

        visitor.press("Allow")

        assert visitor.location.startswith("http://127.0.0.1:51004/cb?code=")
        assert codes(app)[0].redirect_uri == "http://127.0.0.1:51004/cb"

    def test_without_a_login_asks_for_one(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        visitor.log_in()
        visitor.http.delete_cookie("catalog_login", path=AUTHORIZE)

        page = visitor.press("Allow")

        assert page.buttons == ["Log in", "Cancel"]
        assert codes(app) == []

    def test_clicked_twice_leads_back_with_another_code(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        """A browser drops the response to the first click, and its cookies."""
        visitor.log_in()
        again = clicked(visitor, "Allow")
        visitor.press("Allow")

        again()

        assert visitor.answer().keys() == {"code", "state", "iss"}
        # The first code is lost with its response; were it good still, one decision would lead to two grants.
        (code,) = codes(app)
        assert code.code_hash == hash_secret(visitor.answer()["code"])
        assert (code.scopes, code.code_challenge) == (["products:read"], CHALLENGE)
        assert live_sessions(app, bob.user_id) == []

    def test_clicked_again_and_again_is_over_in_seconds(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        # The login has ended: a client that has its cookie must not go on getting codes with it.
        visitor.log_in()
        again = clicked(visitor, "Allow")
        visitor.press("Allow")

        with time_machine.travel(clock.now() + timedelta(seconds=3)):
            again()
            assert visitor.answer().keys() == {"code", "state", "iss"}
        with time_machine.travel(clock.now() + timedelta(seconds=6)):
            again()
            assert visitor.location.partition("?")[0] == AUTHORIZE

    def test_clicked_again_later_asks_for_a_login(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        visitor.log_in()
        again = clicked(visitor, "Allow")
        visitor.press("Allow")

        with time_machine.travel(clock.now() + timedelta(seconds=6)):
            again()

        assert visitor.location.partition("?")[0] == AUTHORIZE
        assert len(codes(app)) == 1

    @pytest.mark.parametrize(
        "changed",
        [
            {"used_at": datetime(2026, 1, 1, tzinfo=UTC)},
            {"code_challenge": CHALLENGE[::-1]},
            {"redirect_uri": "https://shop.example/other"},
        ],
    )
    def test_clicked_again_is_for_the_same_request_and_a_code_that_nobody_has_used(
        self, visitor: Visitor, bob: Caller, app: Flask, changed: dict[str, Any]
    ) -> None:
        visitor.log_in()
        again = clicked(visitor, "Allow")
        visitor.press("Allow")
        with app.app_context(), unit_of_work():
            db.session.execute(update(AuthorizationCode).values(**changed))

        again()

        assert visitor.location.partition("?")[0] == AUTHORIZE
        assert len(codes(app)) == 1

    def test_clicked_again_after_all_sessions_were_ended_asks_for_a_login(
        self, visitor: Visitor, bob: Caller, app: Flask
    ) -> None:
        visitor.log_in()
        again = clicked(visitor, "Allow")
        visitor.press("Allow")
        assert bob.delete("/auth/sessions", if_match=None).status_code == 204

        again()

        assert visitor.location.partition("?")[0] == AUTHORIZE

    def test_is_nothing_where_nothing_is_left_to_be_allowed(self, app: Flask, client_id: str, bob: Caller) -> None:
        visitor = Visitor(app, client_id, scope="products:write")
        page = visitor.log_in()
        (form,) = (form for form in page.forms if "Deny" in form.buttons)

        visitor.response = visitor.http.post(form.action, data={**form.fields, "decision": "allow"})

        assert visitor.answer()["error"] == "access_denied"
        assert codes(app) == []


class TestDeny:
    def test_leads_back_with_the_error(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        visitor.log_in()

        visitor.press("Deny")

        answer = visitor.answer()
        assert answer.pop("error_description")
        assert answer == {"error": "access_denied", "state": "af0ifjsldkj", "iss": ISSUER}
        assert codes(app) == []

    def test_ends_the_login(self, visitor: Visitor, bob: Caller, app: Flask) -> None:
        visitor.log_in()

        visitor.press("Deny")

        assert live_sessions(app, bob.user_id) == []
        assert visitor.http.get_cookie("catalog_login", path=AUTHORIZE) is None

    def test_clicked_twice_leads_back_with_the_error(self, visitor: Visitor, bob: Caller) -> None:
        visitor.log_in()
        again = clicked(visitor, "Deny")
        visitor.press("Deny")

        again()

        assert visitor.answer()["error"] == "access_denied"

    def test_needs_no_login(self, visitor: Visitor) -> None:
        visitor.open()

        visitor.press("Cancel")

        assert visitor.answer()["error"] == "access_denied"


class TestLogout:
    def test_lets_another_person_log_in(self, visitor: Visitor, bob: Caller, carol: Caller, app: Flask) -> None:
        visitor.log_in()

        page = visitor.press("Not you? Log in as someone else")

        assert page.buttons == ["Log in", "Cancel"]
        assert live_sessions(app, bob.user_id) == []
        page = visitor.press("Log in", email="carol@example.com", password=PASSWORD)
        assert "You are logged in as carol" in page.text

    def test_without_a_login_leads_to_the_page(self, visitor: Visitor, bob: Caller) -> None:
        visitor.log_in()
        visitor.http.delete_cookie("catalog_login", path=AUTHORIZE)

        assert visitor.press("Not you? Log in as someone else").buttons == ["Log in", "Cancel"]


class TestRoles:
    @pytest.mark.parametrize("role", list(Role))
    def test_decide_what_a_person_can_give_away(self, app: Flask, sign_in: Callable[..., Caller], role: Role) -> None:
        everything = [str(permission) for permission in MEANINGS]
        visitor = Visitor(app, add_client(app, scopes=everything), scope=" ".join(everything))
        sign_in("dana", role)
        visitor.log_in("dana")

        visitor.press("Allow")

        assert set(codes(app)[0].scopes) == GRANTS[role] - PERSONAL
