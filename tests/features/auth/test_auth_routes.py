"""Registering, logging in, refreshing and logging out over HTTP, end to end."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unicodedata import normalize

import jwt
import pytest
import time_machine
from flask import Flask
from sqlalchemy import select
from werkzeug.test import TestResponse

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.auth import service
from app.features.sessions.models import UserSession
from app.features.users.models import User
from app.security.passwords import verify_password
from tests.conftest import PASSWORD, Caller, body_of, code_of, faults_of, rows_of

AppWith = Callable[..., Flask]
MONTH = timedelta(days=30)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """Time that stands still until it is shifted."""
    with time_machine.travel(datetime.now(UTC), tick=False) as traveller:
        yield traveller


def log_in(caller: Caller, email: str = "bob@example.com", password: str = PASSWORD) -> dict[str, Any]:
    """The pair of a new session."""
    answer = caller.post("/auth/login", {"email": email, "password": password})
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return body_of(answer)


def refresh(caller: Caller, pair: dict[str, Any]) -> TestResponse:
    """Exchange the pair's refresh token."""
    return caller.post("/auth/refresh", headers={"Authorization": f"Bearer {pair['refresh_token']}"})


def read_me(caller: Caller, pair: dict[str, Any]) -> TestResponse:
    """Use the pair's access token."""
    return caller.get("/users/me", headers={"Authorization": f"Bearer {pair['access_token']}"})


def claims_of(token: str) -> dict[str, Any]:
    """What a token says."""
    return jwt.decode(token, options={"verify_signature": False})


def change_user(app: Flask, user_id: int | None, **members: Any) -> None:
    """Change a user behind the API's back."""
    with app.app_context(), unit_of_work():
        user = db.session.get_one(User, user_id)
        for name, value in members.items():
            setattr(user, name, value)


class TestRegister:
    DAVE = {"email": "dave@example.com", "username": "dave", "password": PASSWORD}

    def test_answers_201_with_location_and_etag(self, anonymous: Caller) -> None:
        answer = anonymous.post("/auth/register", self.DAVE)

        assert answer.status_code == 201
        assert answer.headers["Location"] == "/api/v1/users/me"
        assert answer.headers["ETag"] == '"1"'

    def test_tells_everything_but_the_password(self, anonymous: Caller) -> None:
        user = body_of(anonymous.post("/auth/register", self.DAVE))

        assert user == {
            "id": user["id"],
            "email": "dave@example.com",
            "email_verified": False,
            "username": "dave",
            "role": "user",
            "is_active": True,
            "created_at": user["created_at"],
            "updated_at": user["created_at"],
            "version": 1,
        }

    def test_is_not_for_keeping(self, anonymous: Caller) -> None:
        assert anonymous.post("/auth/register", self.DAVE).headers["Cache-Control"] == "no-store"

    def test_makes_an_account_that_can_log_in(self, anonymous: Caller) -> None:
        user = body_of(anonymous.post("/auth/register", self.DAVE))

        pair = log_in(anonymous, "dave@example.com")

        assert body_of(read_me(anonymous, pair)) == user

    def test_stores_no_password(self, app: Flask, anonymous: Caller) -> None:
        anonymous.post("/auth/register", self.DAVE)

        assert PASSWORD not in str(rows_of(app, "users"))

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("Dave@Example.COM", "dave@example.com"),
            ("DAVE+tag@example.com", "dave+tag@example.com"),
            (normalize("NFD", "josé@example.com"), normalize("NFC", "josé@example.com")),
            ("dave@xn--bcher-kva.example.com", "dave@bücher.example.com"),
        ],
    )
    def test_knows_one_spelling_of_a_mailbox(self, anonymous: Caller, given: str, kept: str) -> None:
        assert body_of(anonymous.post("/auth/register", self.DAVE | {"email": given}))["email"] == kept

    @pytest.mark.parametrize("email", ["bob@example.com", "BOB@example.com", "bob@EXAMPLE.com"])
    @pytest.mark.usefixtures("bob")
    def test_refuses_an_address_that_is_in_use(self, app: Flask, anonymous: Caller, email: str) -> None:
        before = rows_of(app, "users")

        answer = anonymous.post("/auth/register", self.DAVE | {"email": email})

        assert answer.status_code == 409
        assert code_of(answer) == "email_taken"
        assert rows_of(app, "users") == before

    @pytest.mark.parametrize("username", ["bob", "BOB", "Bob"])
    @pytest.mark.usefixtures("bob")
    def test_refuses_a_username_that_is_in_use(self, anonymous: Caller, username: str) -> None:
        answer = anonymous.post("/auth/register", self.DAVE | {"username": username})

        assert answer.status_code == 409
        assert code_of(answer) == "username_taken"

    def test_is_refused_where_registration_is_closed(self, anonymous: Caller, app_with: AppWith) -> None:
        answer = anonymous.on(app_with(registration_open=False)).post("/auth/register", self.DAVE)

        assert answer.status_code == 403
        assert code_of(answer) == "registration_closed"

    @pytest.mark.parametrize(
        "password",
        ["kq7$Wm2x", "x" * 1024, "é" * 512, "pass word\n\t", " " * 8, "🔑" * 256, "Ünïcödéé"],
        ids=["8", "1024", "512é", "control", "blank", "256keys", "8letters"],
    )
    def test_takes_a_password_within_its_bounds(self, anonymous: Caller, password: str) -> None:
        assert anonymous.post("/auth/register", self.DAVE | {"password": password}).status_code == 201
        assert log_in(anonymous, "dave@example.com", password)["token_type"] == "Bearer"

    @pytest.mark.parametrize(
        ("password", "code"),
        [
            ("1234567", "too_short"),
            ("", "too_short"),
            ("x" * 1025, "too_long"),
            ("é" * 513, "too_many_bytes"),
            ("🔑" * 257, "too_many_bytes"),
            ("12345678\x00", "malformed"),
            (12345678, "invalid"),
            (None, "null"),
        ],
        ids=["7", "0", "1025", "513é", "257keys", "nul", "number", "null"],
    )
    def test_refuses_a_password_out_of_bounds(self, anonymous: Caller, password: Any, code: str) -> None:
        answer = anonymous.post("/auth/register", self.DAVE | {"password": password})

        assert faults_of(answer) == [("/password", code)]

    @pytest.mark.parametrize(
        ("member", "value", "code"),
        [
            ("email", "dave", "not_an_address"),
            ("email", "dave@", "not_an_address"),
            ("email", "dave@localhost", "not_an_address"),
            ("email", "Dave <dave@example.com>", "not_an_address"),
            ("email", "dave@example.com\n", "malformed"),
            ("email", f"dave@{'x' * 250}.com", "too_long"),
            ("email", None, "null"),
            ("username", "da", "too_short"),
            ("username", "d" * 51, "too_long"),
            ("username", "-dave", "malformed"),
            ("username", "da ve", "malformed"),
            ("username", "dävid", "malformed"),
            ("username", "dave\n", "malformed"),
            ("role", "admin", "unknown_field"),
            ("is_active", True, "unknown_field"),
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_refuses_what_is_out_of_form(self, anonymous: Caller, member: str, value: Any, code: str) -> None:
        answer = anonymous.post("/auth/register", {**self.DAVE, member: value})

        assert faults_of(answer) == [(f"/{member}", code)]


class TestLogIn:
    @pytest.fixture(autouse=True)
    def _people(self, bob: Caller) -> None:
        """Bob has an account."""

    def test_answers_with_a_pair(self, anonymous: Caller) -> None:
        pair = log_in(anonymous)

        assert pair == {
            "access_token": pair["access_token"],
            "refresh_token": pair["refresh_token"],
            "token_type": "Bearer",
            "expires_in": 900,
        }

    def test_is_not_for_keeping(self, anonymous: Caller) -> None:
        answer = anonymous.post("/auth/login", {"email": "bob@example.com", "password": PASSWORD})

        assert answer.headers["Cache-Control"] == "no-store"

    def test_names_the_person_in_the_access_token(self, anonymous: Caller, bob: Caller) -> None:
        claims = claims_of(log_in(anonymous)["access_token"])

        assert {"sub", "iat", "exp", "jti", "type", "sid", "iss", "aud", "role"} <= set(claims)
        assert (claims["sub"], claims["type"], claims["role"]) == (str(bob.user_id), "access", "user")
        assert (claims["iss"], claims["aud"]) == ("catalog-api", "catalog-api")
        assert claims["exp"] - claims["iat"] == 900

    def test_lets_tokens_live_as_long_as_the_settings_say(self, anonymous: Caller, app_with: AppWith) -> None:
        pair = log_in(anonymous.on(app_with(access_token_ttl=60, refresh_token_ttl=3600)))

        lives = [
            claims["exp"] - claims["iat"] for claims in map(claims_of, (pair["access_token"], pair["refresh_token"]))
        ]
        assert lives == [60, 3600]
        assert pair["expires_in"] == 60

    def test_opens_the_door(self, anonymous: Caller, bob: Caller) -> None:
        pair = log_in(anonymous)

        assert body_of(read_me(anonymous, pair))["id"] == bob.user_id

    @pytest.mark.parametrize("email", ["BOB@Example.com", "bob@EXAMPLE.COM"])
    def test_knows_an_address_in_any_case(self, anonymous: Caller, email: str) -> None:
        assert log_in(anonymous, email)["token_type"] == "Bearer"

    @pytest.mark.parametrize("email", [normalize("NFD", "josé@example.com"), "José@xn--bcher-kva.example.com"])
    def test_knows_an_address_as_it_was_registered(self, anonymous: Caller, email: str) -> None:
        anonymous.post("/auth/register", {"email": email, "username": "jose", "password": PASSWORD})

        assert log_in(anonymous, email)["token_type"] == "Bearer"

    def test_opens_a_session_of_its_own_each_time(self, app: Flask, anonymous: Caller, bob: Caller) -> None:
        pairs = [log_in(anonymous) for _ in range(2)]

        assert len({claims_of(pair["access_token"])["sid"] for pair in pairs}) == 2
        assert {row[1] for row in rows_of(app, "sessions")} == {bob.user_id}

    def test_notes_the_device_and_the_address(self, app: Flask, anonymous: Caller) -> None:
        anonymous.post(
            "/auth/login", {"email": "bob@example.com", "password": PASSWORD}, headers={"User-Agent": "é" * 300}
        )

        with app.app_context(), unit_of_work(reading=True):
            newest = select(UserSession.device, UserSession.address).order_by(UserSession.id.desc()).limit(1)
            noted = db.session.execute(newest).one()
        assert (len(noted.device), noted.address) == (200, "127.0.0.1")

    def test_holds_no_transaction_while_it_hashes(self, anonymous: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        held = []

        def watch(password: str, password_hash: str | None) -> bool:
            held.append(db.session().in_transaction())
            return verify_password(password, password_hash)

        monkeypatch.setattr(service, "verify_password", watch)

        log_in(anonymous)

        assert held == [False]

    @pytest.mark.parametrize(
        ("email", "password"),
        [
            ("bob@example.com", "wrong horse battery"),
            ("bob@example.com", PASSWORD + " "),
            ("bob@example.com", PASSWORD.upper()),
            ("nobody@example.com", PASSWORD),
            ("not an address", PASSWORD),
            ("bob", PASSWORD),
            ("%", PASSWORD),
        ],
    )
    def test_refuses_wrong_credentials(self, anonymous: Caller, email: str, password: str) -> None:
        answer = anonymous.post("/auth/login", {"email": email, "password": password})

        assert answer.status_code == 401
        assert code_of(answer) == "login_failed"
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="catalog"'

    def test_answers_alike_whatever_is_wrong(self, app: Flask, anonymous: Caller, carol: Caller) -> None:
        change_user(app, carol.user_id, is_active=False)
        tries = [
            ("nobody@example.com", PASSWORD),
            ("bob@example.com", "wrong horse battery"),
            ("carol@example.com", PASSWORD),
            ("carol@example.com", "wrong horse battery"),
        ]

        answers = [
            anonymous.post(
                "/auth/login", {"email": email, "password": password}, headers={"X-Request-ID": "same-request"}
            )
            for email, password in tries
        ]

        assert {(answer.status_code, answer.data) for answer in answers} == {(401, answers[0].data)}
        assert len({tuple(sorted(set(answer.headers.keys()))) for answer in answers}) == 1

    def test_costs_the_same_statements_whatever_is_wrong(
        self, app: Flask, bob: Caller, carol: Caller, statements_of: Callable[[Callable[[Flask], TestResponse]], int]
    ) -> None:
        change_user(app, carol.user_id, is_active=False)
        tries = {
            "unknown": ("nobody@example.com", PASSWORD),
            "wrong": ("bob@example.com", "wrong horse battery"),
            "closed": ("carol@example.com", PASSWORD),
            "closed and wrong": ("carol@example.com", "wrong horse battery"),
        }

        def cost(email: str, password: str) -> int:
            return statements_of(lambda app: Caller(app).post("/auth/login", {"email": email, "password": password}))

        costs = {given: cost(*credentials) for given, credentials in tries.items()}

        assert len(set(costs.values())) == 1, costs

    def test_leaves_no_session_behind_when_it_refuses(self, app: Flask, anonymous: Caller) -> None:
        before = rows_of(app, "sessions")

        anonymous.post("/auth/login", {"email": "bob@example.com", "password": "wrong horse battery"})

        assert rows_of(app, "sessions") == before

    @pytest.mark.parametrize(
        ("body", "faults"),
        [
            ({}, [("/email", "required"), ("/password", "required")]),
            ({"email": "bob@example.com", "password": ""}, [("/password", "too_short")]),
            ({"email": "bob@example.com", "password": "é" * 513}, [("/password", "too_many_bytes")]),
            ({"email": "x" * 255, "password": PASSWORD}, [("/email", "too_long")]),
            ({"email": "bob@example.com", "password": PASSWORD, "remember": True}, [("/remember", "unknown_field")]),
        ],
        ids=["empty", "short", "bytes", "email", "unknown"],
    )
    def test_refuses_what_is_out_of_form(
        self, anonymous: Caller, body: dict[str, Any], faults: list[tuple[str, str]]
    ) -> None:
        assert sorted(faults_of(anonymous.post("/auth/login", body))) == faults

    def test_takes_a_person_who_is_logged_in_already(self, bob: Caller) -> None:
        assert log_in(bob)["token_type"] == "Bearer"


class TestRefresh:
    @pytest.fixture
    def pair(self, anonymous: Caller, bob: Caller, clock: time_machine.Traveller) -> dict[str, Any]:
        """Bob has just logged in."""
        return log_in(anonymous)

    def test_answers_with_another_pair(self, anonymous: Caller, pair: dict[str, Any]) -> None:
        answer = refresh(anonymous, pair)

        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert set(body_of(answer)) == set(pair)
        assert claims_of(body_of(answer)["refresh_token"])["jti"] != claims_of(pair["refresh_token"])["jti"]

    def test_goes_on_with_the_same_session(self, anonymous: Caller, pair: dict[str, Any]) -> None:
        successor = body_of(refresh(anonymous, pair))

        assert claims_of(successor["access_token"])["sid"] == claims_of(pair["access_token"])["sid"]
        assert read_me(anonymous, successor).status_code == 200
        assert read_me(anonymous, pair).status_code == 200

    def test_can_go_on_for_ever(self, anonymous: Caller, pair: dict[str, Any], clock: time_machine.Traveller) -> None:
        for _ in range(3):
            clock.shift(MONTH - timedelta(minutes=1))
            pair = body_of(refresh(anonymous, pair))

        assert read_me(anonymous, pair).status_code == 200

    def test_gives_the_same_successor_within_the_grace(
        self, anonymous: Caller, pair: dict[str, Any], clock: time_machine.Traveller
    ) -> None:
        first = body_of(refresh(anonymous, pair))
        clock.shift(9.5)

        second = body_of(refresh(anonymous, pair))

        assert second["refresh_token"] == first["refresh_token"]
        assert read_me(anonymous, second).status_code == 200

    def test_refuses_the_token_whose_successor_was_used(self, anonymous: Caller, pair: dict[str, Any]) -> None:
        successor = body_of(refresh(anonymous, pair))
        refresh(anonymous, successor)

        answer = refresh(anonymous, pair)

        assert answer.status_code == 401
        assert code_of(answer) == "refresh_token_used"
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]

    def test_leaves_the_session_alive_within_the_grace(self, anonymous: Caller, pair: dict[str, Any]) -> None:
        successor = body_of(refresh(anonymous, pair))
        newest = body_of(refresh(anonymous, successor))
        refresh(anonymous, pair)

        assert read_me(anonymous, newest).status_code == 200
        assert refresh(anonymous, newest).status_code == 200

    def test_ends_the_session_after_the_grace(
        self, anonymous: Caller, pair: dict[str, Any], clock: time_machine.Traveller
    ) -> None:
        successor = body_of(refresh(anonymous, pair))
        clock.shift(10.5)

        answer = refresh(anonymous, pair)

        assert answer.status_code == 401
        assert code_of(answer) == "refresh_token_reused"
        assert code_of(read_me(anonymous, successor)) == "credentials_invalid"
        assert code_of(read_me(anonymous, pair)) == "credentials_invalid"
        assert code_of(refresh(anonymous, successor)) == "session_ended"

    def test_ends_one_session_and_no_other(
        self, anonymous: Caller, pair: dict[str, Any], clock: time_machine.Traveller
    ) -> None:
        other = log_in(anonymous)
        refresh(anonymous, pair)
        clock.shift(10.5)

        refresh(anonymous, pair)

        assert read_me(anonymous, other).status_code == 200

    def test_repeats_nothing_without_a_grace(
        self, anonymous: Caller, pair: dict[str, Any], app_with: AppWith, clock: time_machine.Traveller
    ) -> None:
        strict = anonymous.on(app_with(refresh_grace=0))
        refresh(strict, pair)
        clock.shift(0.001)

        assert code_of(refresh(strict, pair)) == "refresh_token_reused"

    def test_refuses_an_expired_token(
        self, anonymous: Caller, pair: dict[str, Any], clock: time_machine.Traveller
    ) -> None:
        clock.shift(MONTH + timedelta(seconds=31))

        answer = refresh(anonymous, pair)

        assert answer.status_code == 401
        assert code_of(answer) == "token_expired"

    def test_refuses_a_token_within_the_leeway_of_its_end(
        self, anonymous: Caller, pair: dict[str, Any], clock: time_machine.Traveller
    ) -> None:
        # The leeway is for clocks that differ; the session's own end is told by the one clock of the server.
        clock.shift(MONTH + timedelta(seconds=5))

        assert code_of(refresh(anonymous, pair)) == "session_ended"

    def test_refuses_an_access_token(self, anonymous: Caller, pair: dict[str, Any]) -> None:
        answer = refresh(anonymous, {"refresh_token": pair["access_token"]})

        assert answer.status_code == 401
        assert code_of(answer) == "token_invalid"

    def test_gives_no_token_that_refreshes_as_an_access_token(self, anonymous: Caller, pair: dict[str, Any]) -> None:
        answer = read_me(anonymous, {"access_token": pair["refresh_token"]})

        assert answer.status_code == 401
        assert code_of(answer) == "token_invalid"

    def test_needs_a_token(self, anonymous: Caller) -> None:
        answer = anonymous.post("/auth/refresh")

        assert answer.status_code == 401
        assert code_of(answer) == "credentials_missing"

    def test_refuses_whoever_was_deactivated(
        self, app: Flask, anonymous: Caller, bob: Caller, pair: dict[str, Any]
    ) -> None:
        change_user(app, bob.user_id, is_active=False)

        answer = refresh(anonymous, pair)

        assert answer.status_code == 401
        assert code_of(answer) == "session_ended"

    def test_leaves_a_refused_token_unused(
        self, app: Flask, anonymous: Caller, bob: Caller, pair: dict[str, Any]
    ) -> None:
        change_user(app, bob.user_id, is_active=False)
        refresh(anonymous, pair)
        change_user(app, bob.user_id, is_active=True)

        assert refresh(anonymous, pair).status_code == 200

    def test_carries_the_role_of_today(self, app: Flask, anonymous: Caller, bob: Caller, pair: dict[str, Any]) -> None:
        change_user(app, bob.user_id, role="editor")

        assert claims_of(body_of(refresh(anonymous, pair))["access_token"])["role"] == "editor"


class TestLogOut:
    @pytest.fixture
    def pair(self, anonymous: Caller, bob: Caller) -> dict[str, Any]:
        """Bob has just logged in."""
        return log_in(anonymous)

    @staticmethod
    def log_out(caller: Caller, pair: dict[str, Any]) -> TestResponse:
        return caller.post("/auth/logout", headers={"Authorization": f"Bearer {pair['access_token']}"})

    def test_answers_204(self, anonymous: Caller, pair: dict[str, Any]) -> None:
        answer = self.log_out(anonymous, pair)

        assert answer.status_code == 204
        assert answer.data == b""

    def test_ends_the_access_token(self, anonymous: Caller, pair: dict[str, Any]) -> None:
        self.log_out(anonymous, pair)

        answer = read_me(anonymous, pair)

        assert answer.status_code == 401
        assert code_of(answer) == "credentials_invalid"

    def test_ends_the_refresh_token(self, anonymous: Caller, pair: dict[str, Any]) -> None:
        self.log_out(anonymous, pair)

        answer = refresh(anonymous, pair)

        assert answer.status_code == 401
        assert code_of(answer) == "session_ended"

    def test_leaves_other_sessions_alone(self, anonymous: Caller, bob: Caller, pair: dict[str, Any]) -> None:
        self.log_out(anonymous, pair)

        assert bob.get("/users/me").status_code == 200

    def test_is_401_the_second_time(self, anonymous: Caller, pair: dict[str, Any]) -> None:
        self.log_out(anonymous, pair)

        assert self.log_out(anonymous, pair).status_code == 401

    def test_refuses_a_refresh_token(self, anonymous: Caller, pair: dict[str, Any]) -> None:
        answer = self.log_out(anonymous, {"access_token": pair["refresh_token"]})

        assert answer.status_code == 401


class TestAuthority:
    """Role, activity and revocation come from the database at each request."""

    @pytest.fixture
    def chair(self, make_category: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        """What editors may post."""
        return {"name": "Oak chair", "price": "1.00", "category_id": make_category()["id"]}

    def test_a_demotion_holds_at_once(self, app: Flask, alice: Caller, chair: dict[str, Any]) -> None:
        change_user(app, alice.user_id, role="user")

        assert alice.post("/products", chair).status_code == 403

    def test_a_promotion_holds_at_once(self, app: Flask, bob: Caller, chair: dict[str, Any]) -> None:
        change_user(app, bob.user_id, role="editor")

        assert bob.post("/products", chair).status_code == 201

    def test_a_deactivation_holds_at_once(self, app: Flask, alice: Caller) -> None:
        change_user(app, alice.user_id, is_active=False)

        answer = alice.get("/products")

        assert answer.status_code == 401
        assert code_of(answer) == "credentials_invalid"

    def test_a_deactivation_can_be_undone(self, app: Flask, alice: Caller) -> None:
        change_user(app, alice.user_id, is_active=False)
        change_user(app, alice.user_id, is_active=True)

        assert alice.get("/products").status_code == 200

    def test_the_tokens_of_a_removed_person_are_nobodys(self, app: Flask, bob: Caller) -> None:
        with app.app_context(), unit_of_work():
            db.session.delete(db.session.get_one(User, bob.user_id))

        assert bob.get("/users/me").status_code == 401
        assert rows_of(app, "sessions") == []


class TestSigningKeys:
    OLD, NEW = "o" * 32, "n" * 32

    def test_a_token_of_the_previous_key_is_good(self, anonymous: Caller, bob: Caller, app_with: AppWith) -> None:
        pair = log_in(anonymous.on(app_with(jwt_secret_key=self.OLD)))
        rotated = anonymous.on(app_with(jwt_secret_key=self.NEW, jwt_previous_secret_keys=("p" * 32, self.OLD)))

        assert read_me(rotated, pair).status_code == 200

    def test_a_refresh_token_of_the_previous_key_gives_a_pair_of_the_new(
        self, anonymous: Caller, bob: Caller, app_with: AppWith
    ) -> None:
        pair = log_in(anonymous.on(app_with(jwt_secret_key=self.OLD)))
        rotated = anonymous.on(app_with(jwt_secret_key=self.NEW, jwt_previous_secret_keys=(self.OLD,)))

        successor = body_of(refresh(rotated, pair))

        assert jwt.decode(successor["access_token"], self.NEW, algorithms=["HS256"], audience="catalog-api")

    def test_a_token_of_a_forgotten_key_is_refused(self, anonymous: Caller, bob: Caller, app_with: AppWith) -> None:
        pair = log_in(anonymous.on(app_with(jwt_secret_key=self.OLD)))

        answer = read_me(anonymous.on(app_with(jwt_secret_key=self.NEW)), pair)

        assert answer.status_code == 401
        assert code_of(answer) == "token_invalid"
