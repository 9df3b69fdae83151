"""Sessions over HTTP: listed, ended one by one or all, refreshed."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask
from sqlalchemy import select, update

from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.sessions.models import UserSession
from tests.conftest import PASSWORD, Caller, body_of, code_of


def log_in(caller: Caller, username: str, device: str = "tests") -> dict[str, str]:
    answer = Caller(caller.app).post(
        "/auth/login",
        {"email": f"{username}@example.com", "password": PASSWORD},
        headers={"User-Agent": device},
    )
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return body_of(answer)


def with_token(caller: Caller, token: str) -> Caller:
    return Caller(caller.app, token)


class TestListSessions:
    def test_shows_device_and_address_of_each_login(self, bob: Caller) -> None:
        log_in(bob, "bob", device="Phone/1.0")

        items = body_of(bob.get("/auth/sessions"))["items"]

        assert {(item["device"], item["address"]) for item in items} == {
            ("tests", "127.0.0.1"),
            ("Phone/1.0", "127.0.0.1"),
        }

    def test_shows_nobody_elses(self, bob: Caller, carol: Caller) -> None:
        log_in(carol, "carol")

        assert len(body_of(bob.get("/auth/sessions"))["items"]) == 1

    def test_leaves_out_what_has_ended(self, bob: Caller) -> None:
        second = with_token(bob, log_in(bob, "bob")["access_token"])
        second.post("/auth/logout")

        assert len(body_of(bob.get("/auth/sessions"))["items"]) == 1

    def test_tells_when_a_session_was_last_seen_to_the_minute(self, bob: Caller) -> None:
        with time_machine.travel(clock.now() + timedelta(minutes=5), tick=False):
            bob.get("/users/me")
            seen = body_of(bob.get("/auth/sessions"))["items"][0]["last_seen_at"]

            assert seen == clock.now().isoformat().replace("+00:00", "Z")

    def test_waits_for_no_other_writer(self, app: Flask, bob: Caller) -> None:
        with app.app_context():
            engine = db.engine
        with time_machine.travel(clock.now() + timedelta(minutes=5), tick=False):
            with engine.begin() as other:
                # The row on PostgreSQL, and everything on SQLite.
                other.execute(update(UserSession).values(device="elsewhere"))
                for _ in range(3):
                    started = time.perf_counter()
                    assert bob.get("/users/me").status_code == 200
                    # A writer waits for 5 s on PostgreSQL, and for 10 s on SQLite.
                    assert time.perf_counter() - started < 5
                with app.app_context(), unit_of_work(reading=True):
                    assert last_seen() < clock.now()

            bob.get("/users/me")

            with app.app_context(), unit_of_work(reading=True):
                assert last_seen() == clock.now()

    def test_leaves_other_writers_their_patience(self, app: Flask, bob: Caller) -> None:
        with app.app_context():
            engine = db.engine
        with ThreadPoolExecutor(1) as threads, time_machine.travel(clock.now() + timedelta(minutes=5), tick=False):
            with engine.begin() as other:
                other.execute(update(UserSession).values(device="elsewhere"))
                bob.get("/users/me")
                waiting = threads.submit(bob.post, "/auth/logout")
                with pytest.raises(TimeoutError):
                    waiting.result(timeout=0.3)

            assert waiting.result(timeout=10).status_code == 204


def last_seen() -> Any:
    """When the one session was last seen, as it is stored."""
    return db.session.scalars(select(UserSession.last_seen_at)).one()


class TestEndSession:
    def test_refuses_its_tokens_from_then_on(self, bob: Caller) -> None:
        pair = log_in(bob, "bob")
        newest = max(item["id"] for item in body_of(bob.get("/auth/sessions"))["items"])

        assert bob.delete(f"/auth/sessions/{newest}", if_match=None).status_code == 204

        assert with_token(bob, pair["access_token"]).get("/users/me").status_code == 401
        assert with_token(bob, pair["refresh_token"]).post("/auth/refresh").status_code == 401
        assert bob.get("/users/me").status_code == 200

    def test_is_404_for_somebody_elses(self, bob: Caller, carol: Caller) -> None:
        session = body_of(carol.get("/auth/sessions"))["items"][0]["id"]

        assert bob.delete(f"/auth/sessions/{session}", if_match=None).status_code == 404
        assert carol.get("/users/me").status_code == 200

    def test_is_an_administrators_right_for_anybody(self, root: Caller, carol: Caller) -> None:
        session = body_of(root.get(f"/users/{carol.user_id}/sessions"))["items"][0]["id"]

        assert root.delete(f"/auth/sessions/{session}", if_match=None).status_code == 204
        assert carol.get("/users/me").status_code == 401

    def test_repeated_is_404(self, bob: Caller) -> None:
        log_in(bob, "bob")
        newest = max(item["id"] for item in body_of(bob.get("/auth/sessions"))["items"])
        bob.delete(f"/auth/sessions/{newest}", if_match=None)

        assert bob.delete(f"/auth/sessions/{newest}", if_match=None).status_code == 404


class TestEndAllSessions:
    def test_logs_out_everywhere(self, bob: Caller) -> None:
        pair = log_in(bob, "bob")

        assert bob.delete("/auth/sessions", if_match=None).status_code == 204

        assert bob.get("/users/me").status_code == 401
        assert with_token(bob, pair["access_token"]).get("/users/me").status_code == 401

    def test_leaves_everybody_else_alone(self, bob: Caller, carol: Caller) -> None:
        bob.delete("/auth/sessions", if_match=None)

        assert carol.get("/users/me").status_code == 200

    def test_of_a_user_is_an_administrators_right(self, root: Caller, bob: Caller, carol: Caller) -> None:
        assert carol.delete(f"/users/{bob.user_id}/sessions", if_match=None).status_code == 403
        assert root.delete(f"/users/{bob.user_id}/sessions", if_match=None).status_code == 204
        assert bob.get("/users/me").status_code == 401


class TestRefreshCookie:
    def log_in_with_cookie(self, caller: Caller) -> tuple[dict[str, str], str]:
        answer = Caller(caller.app).post(
            "/auth/login",
            {"email": "bob@example.com", "password": PASSWORD, "refresh_token_in": "cookie"},
        )
        cookie = answer.headers["Set-Cookie"]
        return body_of(answer), cookie

    def test_is_out_of_the_reach_of_scripts_and_other_sites(self, bob: Caller) -> None:
        body, cookie = self.log_in_with_cookie(bob)

        assert not body["refresh_token"]
        assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/api/v1/auth"} <= set(cookie.split("; "))

    def test_refreshes_with_its_csrf_token(self, bob: Caller) -> None:
        body, cookie = self.log_in_with_cookie(bob)
        headers = {"Cookie": cookie.split(";")[0], "X-CSRF-Token": body["csrf_token"]}

        answer = Caller(bob.app).post("/auth/refresh", headers=headers)

        assert answer.status_code == 200
        assert body_of(answer)["csrf_token"] != body["csrf_token"]
        assert "catalog_refresh=" in answer.headers["Set-Cookie"]

    def test_refreshes_while_the_key_of_its_csrf_token_is_rotated_out(
        self, bob: Caller, app_with: Callable[..., Flask]
    ) -> None:
        body, cookie = self.log_in_with_cookie(bob.on(app_with(secret_key="o" * 32)))
        headers = {"Cookie": cookie.split(";")[0], "X-CSRF-Token": body["csrf_token"]}
        rotated = app_with(secret_key="n" * 32, previous_secret_keys=("o" * 32,))

        assert Caller(app_with(secret_key="n" * 32)).post("/auth/refresh", headers=headers).status_code == 403
        assert Caller(rotated).post("/auth/refresh", headers=headers).status_code == 200

    def test_is_refused_without_or_with_anothers_csrf_token(self, bob: Caller) -> None:
        body, cookie = self.log_in_with_cookie(bob)
        other, _ = self.log_in_with_cookie(bob)
        for csrf in ({}, {"X-CSRF-Token": other["csrf_token"]}, {"X-CSRF-Token": "\xff"}):
            answer = Caller(bob.app).post("/auth/refresh", headers={"Cookie": cookie.split(";")[0], **csrf})

            assert (answer.status_code, code_of(answer)) == (403, "csrf_token_wrong")

        good = {"Cookie": cookie.split(";")[0], "X-CSRF-Token": body["csrf_token"]}
        assert Caller(bob.app).post("/auth/refresh", headers=good).status_code == 200

    def test_logs_nobody_in_elsewhere(self, bob: Caller) -> None:
        _, cookie = self.log_in_with_cookie(bob)

        assert Caller(bob.app).get("/users/me", headers={"Cookie": cookie.split(";")[0]}).status_code == 401

    def test_is_taken_back_by_logging_out(self, bob: Caller) -> None:
        _, cookie = self.log_in_with_cookie(bob)

        answer = bob.post("/auth/logout", headers={"Cookie": cookie.split(";")[0]})

        assert "catalog_refresh=;" in answer.headers["Set-Cookie"]


class TestPrune:
    def test_keeps_a_used_token_that_could_still_betray_a_theft(self, bob: Caller) -> None:
        pair = log_in(bob, "bob")
        renewed = body_of(with_token(bob, pair["refresh_token"]).post("/auth/refresh"))
        with time_machine.travel(clock.now() + timedelta(days=29), tick=False):
            bob.app.test_cli_runner().invoke(args=["prune"])

            answer = with_token(bob, pair["refresh_token"]).post("/auth/refresh")

            assert code_of(answer) == "refresh_token_reused"
            assert code_of(with_token(bob, renewed["refresh_token"]).post("/auth/refresh")) == "session_ended"

    def test_forgets_sessions_that_nobody_can_claim(self, bob: Caller) -> None:
        with time_machine.travel(clock.now() + timedelta(days=62), tick=False):
            said = bob.app.test_cli_runner().invoke(args=["prune"]).output

        assert said.startswith("Deleted 1 sessions")
