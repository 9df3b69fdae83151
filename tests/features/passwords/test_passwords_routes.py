"""Changing and resetting passwords over HTTP."""

import re
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
import time_machine
from flask import Flask
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.users.models import User
from tests.conftest import PASSWORD, Caller, body_of, code_of
from tests.features.passwords.conftest import run_jobs
from tests.mailbox import Mailbox, text_of

NEXT = "staple battery horse"


def log_in(app: Flask, password: str, email: str = "bob@example.com") -> int:
    return Caller(app).post("/auth/login", {"email": email, "password": password}).status_code


class TestChangePassword:
    def change(self, caller: Caller, current: str = PASSWORD, new: str = NEXT) -> tuple[int, dict[str, str]]:
        answer = caller.post("/auth/password", {"current_password": current, "new_password": new})
        return answer.status_code, body_of(answer)

    def test_ends_every_other_session_and_answers_with_a_new_one(self, bob: Caller) -> None:
        other = Caller(
            bob.app,
            body_of(Caller(bob.app).post("/auth/login", {"email": "bob@example.com", "password": PASSWORD}))[
                "access_token"
            ],
        )

        status, pair = self.change(bob)

        assert status == 200
        assert [caller.get("/users/me").status_code for caller in (bob, other)] == [401, 401]
        assert Caller(bob.app, pair["access_token"]).get("/users/me").status_code == 200

    def test_makes_the_old_password_useless(self, app: Flask, bob: Caller) -> None:
        self.change(bob)

        assert [log_in(app, PASSWORD), log_in(app, NEXT)] == [401, 200]

    def test_refuses_a_wrong_current_password(self, bob: Caller) -> None:
        status, problem = self.change(bob, current="not my password")

        assert (status, problem["code"]) == (422, "current_password_wrong")

    def test_counts_wrong_current_passwords_as_failed_logins(self, app: Flask, bob: Caller) -> None:
        for _ in range(10):
            self.change(bob, current="not my password")

        assert log_in(app, PASSWORD) == 429
        assert self.change(bob)[0] == 429

    def test_that_another_was_faster_than_finds_the_current_password_wrong(
        self, app: Flask, bob: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def hash_while_another_changes_it(_password: str) -> str:
            with app.app_context(), unit_of_work():
                db.session.execute(update(User).where(User.id == bob.user_id).values(epoch=User.epoch + 1))
            return "not stored"

        monkeypatch.setattr("app.features.passwords.service.hash_password", hash_while_another_changes_it)

        status, problem = self.change(bob)

        assert (status, problem["code"]) == (422, "current_password_wrong")

    def test_refuses_a_common_password(self, bob: Caller) -> None:
        status, problem = self.change(bob, new="iloveyou")

        assert (status, problem["code"]) == (422, "password_too_common")


class TestResetPassword:
    def request(self, app: Flask, box: Mailbox) -> str:
        answer = Caller(app).post("/auth/password-reset", {"email": "Bob@example.com"})
        assert answer.status_code == 202
        run_jobs(app)
        match = re.search(r"https://shop\.example/reset\?token=(\S+)", text_of(box.letters[-1]))
        assert match is not None
        return match[1]

    def confirm(self, app: Flask, token: str, password: str = NEXT) -> tuple[int, str | None]:
        answer = Caller(app).post("/auth/password-reset/confirm", {"token": token, "new_password": password})
        return answer.status_code, None if answer.status_code == 204 else code_of(answer)

    def test_sends_a_token_that_sets_a_password(self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox) -> None:
        token = self.request(app_with_mail, mailbox)

        assert self.confirm(app_with_mail, token) == (204, None)

        assert mailbox.letters[0]["To"] == "bob@example.com"
        assert [log_in(app_with_mail, PASSWORD), log_in(app_with_mail, NEXT)] == [401, 200]
        assert bob.get("/users/me").status_code == 401

    def test_proves_that_the_address_is_its_owners(self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox) -> None:
        with app_with_mail.app_context(), unit_of_work():
            db.session.execute(update(User).values(email_verified=False))
        token = self.request(app_with_mail, mailbox)
        assert body_of(bob.get("/users/me"))["email_verified"] is False

        self.confirm(app_with_mail, token)

        with app_with_mail.app_context(), unit_of_work(reading=True):
            assert db.session.scalars(select(User.email_verified)).all() == [True]

    def test_works_once(self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox) -> None:
        token = self.request(app_with_mail, mailbox)
        self.confirm(app_with_mail, token)

        assert self.confirm(app_with_mail, token, "yet another one") == (422, "reset_token_invalid")

    def test_works_for_thirty_minutes(self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox) -> None:
        token = self.request(app_with_mail, mailbox)

        with time_machine.travel(clock.now() + timedelta(minutes=31), tick=False):
            assert self.confirm(app_with_mail, token) == (422, "reset_token_invalid")

    def test_is_void_once_the_password_was_changed(self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox) -> None:
        token = self.request(app_with_mail, mailbox)
        bob.post("/auth/password", {"current_password": PASSWORD, "new_password": NEXT})

        assert self.confirm(app_with_mail, token, "yet another one") == (422, "reset_token_invalid")

    @pytest.mark.parametrize(
        "changes",
        [
            [{"email": "robert@example.com"}],
            [{"email": "robert@example.com"}, {"email": "bob@example.com"}],
            [{"is_active": False}],
            [{"is_active": False}, {"is_active": True}],
        ],
        ids=["address", "address and back", "closed", "closed and opened"],
    )
    def test_is_void_once_the_account_was_changed(
        self,
        app_with_mail: Flask,
        bob: Caller,
        root: Caller,
        mailbox: Mailbox,
        changes: list[dict[str, object]],
    ) -> None:
        token = self.request(app_with_mail, mailbox)
        for change in changes:
            assert root.patch(f"/users/{bob.user_id}", change).status_code == 200

        assert self.confirm(app_with_mail, token) == (422, "reset_token_invalid")

    def test_is_void_once_the_address_was_changed_by_hand(
        self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox
    ) -> None:
        token = self.request(app_with_mail, mailbox)
        with app_with_mail.app_context(), unit_of_work():
            db.session.execute(update(User).where(User.id == bob.user_id).values(email="robert@example.com"))

        assert self.confirm(app_with_mail, token) == (422, "reset_token_invalid")

    @pytest.mark.parametrize("change", [{"role": "editor"}, {"username": "robert"}, {"is_active": True}])
    def test_is_good_when_something_else_was_changed(
        self,
        app_with_mail: Flask,
        bob: Caller,
        root: Caller,
        mailbox: Mailbox,
        change: dict[str, object],
    ) -> None:
        token = self.request(app_with_mail, mailbox)
        assert root.patch(f"/users/{bob.user_id}", change).status_code == 200

        assert self.confirm(app_with_mail, token) == (204, None)

    def test_is_good_while_its_key_is_rotated_out(
        self, app_with: Callable[..., Flask], bob: Caller, mailbox: Mailbox
    ) -> None:
        mail = {"mail_server": "127.0.0.1", "mail_port": mailbox.port}
        token = self.request(
            app_with(secret_key="o" * 32, mail_reset_url="https://shop.example/reset?token={token}", **mail), mailbox
        )

        assert self.confirm(app_with(secret_key="n" * 32), token) == (422, "reset_token_invalid")
        rotated = app_with(secret_key="n" * 32, previous_secret_keys=("p" * 32, "o" * 32))
        assert self.confirm(rotated, token) == (204, None)

    def test_of_16_at_once_one_wins(self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox) -> None:
        token = self.request(app_with_mail, mailbox)
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda n=n: statuses.append(self.confirm(app_with_mail, token, f"{NEXT} {n}")[0]))
            for n in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert statuses.count(204) == 1
        # The rest lost, or found the worker busy hashing.
        assert set(statuses) <= {204, 422, 503}

    def test_answers_alike_for_an_unknown_address(self, app: Flask, bob: Caller) -> None:
        known = Caller(app).post("/auth/password-reset", {"email": "bob@example.com"})
        unknown = Caller(app).post("/auth/password-reset", {"email": "nobody@example.com"})

        assert (known.status_code, known.data) == (unknown.status_code, unknown.data) == (202, b"")

    def test_costs_the_same_statements_for_an_unknown_address(
        self,
        bob: Caller,
        carol: Caller,
        root: Caller,
        statements_of: Callable[[Callable[[Flask], TestResponse]], int],
    ) -> None:
        root.patch(f"/users/{carol.user_id}", {"is_active": False})

        def ask(name: str) -> int:
            body = {"email": f"{name}@example.com"}
            return statements_of(lambda app: Caller(app).post("/auth/password-reset", body))

        costs = {name: ask(name) for name in ("bob", "carol", "nobody")}

        assert len(set(costs.values())) == 1, costs

    @pytest.mark.parametrize("token", ["x", "WzEsMF0.aSIm4A.x7Yk", "a" * 500])
    def test_refuses_a_forged_token(self, app: Flask, token: str) -> None:
        assert self.confirm(app, token) == (422, "reset_token_invalid")
