"""The guard on failed logins: which networks it closes an account to, for how long, and what it tells of whom."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from typing import Any

import pytest
import time_machine
from flask import Flask
from sqlalchemy import func, select
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from app.core.metrics import LOGINS
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.auth.models import LoginFailures, NetworkLoginFailures
from app.features.sessions.models import SessionNetwork
from tests.conftest import PASSWORD, Caller, body_of, code_of
from tests.counting import counter_of
from tests.features.auth.test_auth_routes import change_user
from tests.live.wire import at_once

#: As in the promises; fewer over all networks than there, so that the tests need not guess as often.
PER_NETWORK, PER_ACCOUNT = 10, 25
HOME, NEIGHBOUR, AWAY = "192.0.2.7", "192.0.2.201", "198.51.100.7"

LogIn = Callable[..., TestResponse]


@pytest.fixture(autouse=True)
def _cheap_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the right password is worth hashing here.
    monkeypatch.setattr("app.features.auth.guard.MAX_FAILURES_PER_ACCOUNT", PER_ACCOUNT)
    monkeypatch.setattr(
        "app.features.auth.service.verify_password",
        lambda password, password_hash: password == PASSWORD and password_hash is not None,
    )


@pytest.fixture
def guarded(app_with: Callable[..., Flask]) -> Flask:
    """An application behind a proxy, which logs how many statements a request took."""
    return app_with(trusted_proxies=1, log_level="INFO")


@pytest.fixture
def log_in(guarded: Flask, anonymous: Caller, bob: Caller) -> LogIn:
    """Log in as bob, from an address."""
    assert bob.user_id

    def log_in(address: str = HOME, password: str = PASSWORD, email: str = "bob@example.com") -> TestResponse:
        headers = {"X-Forwarded-For": address, "X-Request-ID": "same-request"}
        return anonymous.on(guarded).post("/auth/login", {"email": email, "password": password}, headers=headers)

    return log_in


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """Time that stands still until it is moved."""
    with time_machine.travel(datetime(2026, 5, 17, 12, tzinfo=UTC), tick=False) as traveller:
        yield traveller


def guess(log_in: LogIn, times: int, address: str = HOME, **who: str) -> list[int]:
    """Guess wrong."""
    return [log_in(address, "wrong", **who).status_code for _ in range(times)]


def guess_everywhere(log_in: LogIn, times: int, **who: str) -> list[int]:
    """Guess wrong, each time from another network."""
    return [log_in(f"203.0.{number}.1", "wrong", **who).status_code for number in range(times)]


class TestOneNetwork:
    def test_is_told_ten_times_that_it_is_wrong(self, log_in: LogIn) -> None:
        assert guess(log_in, PER_NETWORK + 2) == [401] * PER_NETWORK + [429] * 2

    def test_is_counted_without_a_name(self, log_in: LogIn) -> None:
        grown = counter_of(LOGINS)

        log_in()
        guess(log_in, PER_NETWORK + 2)

        assert grown() == {("succeeded",): 1, ("failed",): PER_NETWORK, ("blocked",): 2}

    def test_is_not_told_after_that_what_is_right(self, log_in: LogIn) -> None:
        guess(log_in, PER_NETWORK)

        answer = log_in()

        assert (answer.status_code, code_of(answer)) == (429, "too_many_failures")

    @pytest.mark.parametrize(
        ("address", "neighbour", "stranger"),
        [
            ("192.0.2.7", "192.0.2.201", "192.0.3.7"),
            ("192.0.2.7", "::ffff:192.0.2.201", "::ffff:192.0.3.7"),
            ("2001:db8:1:2::7", "2001:db8:1:2:ffff::1", "2001:db8:1:3::7"),
        ],
    )
    def test_is_a_24_or_a_64(self, log_in: LogIn, address: str, neighbour: str, stranger: str) -> None:
        guess(log_in, PER_NETWORK, address)

        assert log_in(neighbour).status_code == 429
        assert log_in(stranger).status_code == 200

    def test_leaves_the_account_to_all_others(self, log_in: LogIn) -> None:
        guess(log_in, 3 * PER_NETWORK, AWAY)

        assert log_in(HOME).status_code == 200

    def test_leaves_it_other_accounts(self, log_in: LogIn, carol: Caller) -> None:
        guess(log_in, PER_NETWORK)

        assert carol.user_id
        assert log_in(email="carol@example.com").status_code == 200

    def test_is_open_again_when_it_was_told(self, log_in: LogIn, clock: time_machine.Traveller) -> None:
        guess(log_in, PER_NETWORK - 1)
        clock.shift(60)
        guess(log_in, 1)
        wait = int(log_in().headers["Retry-After"])

        clock.shift(wait - 1)
        before = log_in().status_code
        clock.shift(1)

        assert (wait, before, log_in().status_code) == (240, 429, 200)

    def test_begins_anew_with_the_right_password(self, log_in: LogIn) -> None:
        guess(log_in, PER_NETWORK - 1)
        log_in()

        assert guess(log_in, PER_NETWORK + 1) == [401] * PER_NETWORK + [429]

    def test_is_told_when_to_come_back_once(self, log_in: LogIn) -> None:
        guess(log_in, PER_NETWORK)

        assert len(log_in().headers.getlist("Retry-After")) == 1


class TestAllNetworks:
    def test_close_the_account_to_strangers_together(self, log_in: LogIn) -> None:
        told = guess_everywhere(log_in, PER_ACCOUNT + 2)

        assert told == [401] * PER_ACCOUNT + [429] * 2
        assert (log_in(AWAY).status_code, code_of(log_in(AWAY))) == (429, "too_many_failures")

    def test_leave_it_to_where_its_owner_has_been(self, log_in: LogIn) -> None:
        log_in(HOME)
        guess_everywhere(log_in, PER_ACCOUNT)

        assert [log_in(address).status_code for address in (HOME, NEIGHBOUR, AWAY)] == [200, 200, 429]

    def test_do_not_close_where_the_owner_errs(self, log_in: LogIn) -> None:
        log_in(HOME)
        guess_everywhere(log_in, PER_ACCOUNT)

        assert guess(log_in, PER_NETWORK + 1) == [401] * PER_NETWORK + [429]

    def test_are_not_forgiven_for_what_the_owner_does(self, log_in: LogIn) -> None:
        for _ in range(3):
            guess_everywhere(log_in, PER_ACCOUNT // 3)
            log_in(HOME)
        guess_everywhere(log_in, PER_ACCOUNT % 3)

        assert log_in(AWAY).status_code == 429

    def test_do_not_count_what_is_right(self, log_in: LogIn) -> None:
        told = [log_in(f"203.0.{number}.1").status_code for number in range(PER_ACCOUNT + 5)]

        assert set(told) == {200}

    def test_know_a_network_for_90_days(self, log_in: LogIn, clock: time_machine.Traveller) -> None:
        log_in(HOME)
        told = []
        for days in (89, 2):
            clock.shift(timedelta(days=days))
            guess_everywhere(log_in, PER_ACCOUNT)
            told.append(guess(log_in, 1))

        assert told == [[401], [429]]

    def test_know_a_network_by_its_refreshes(
        self, log_in: LogIn, guarded: Flask, anonymous: Caller, clock: time_machine.Traveller
    ) -> None:
        pair = body_of(log_in(HOME))
        clock.shift(timedelta(days=29))
        headers = {"Authorization": f"Bearer {pair['refresh_token']}", "X-Forwarded-For": AWAY}
        assert anonymous.on(guarded).call("POST", "/auth/refresh", headers=headers).status_code == 200
        clock.shift(timedelta(days=80))
        guess_everywhere(log_in, PER_ACCOUNT)

        assert [guess(log_in, 1, address) for address in (HOME, AWAY)] == [[429], [401]]

    def test_do_not_know_a_network_by_another_account(self, log_in: LogIn, carol: Caller) -> None:
        assert carol.user_id
        log_in(AWAY, email="carol@example.com")
        guess_everywhere(log_in, PER_ACCOUNT)

        assert log_in(AWAY).status_code == 429

    def test_do_not_stop_who_is_logged_in(self, log_in: LogIn, bob: Caller) -> None:
        guess_everywhere(log_in, PER_ACCOUNT + 1)

        assert bob.get("/users/me").status_code == 200


class TestWhatItTells:
    """Unknown, known and closed accounts, the right password and a wrong one: all alike."""

    @pytest.mark.parametrize("guess_all", [guess, guess_everywhere], ids=["one network", "all networks"])
    def test_is_the_same_of_everybody(self, log_in: LogIn, app: Flask, carol: Caller, guess_all: Any) -> None:
        change_user(app, carol.user_id, is_active=False)
        tries = [
            ("bob@example.com", "wrong"),
            ("nobody@example.com", "wrong"),
            ("nobody@example.com", PASSWORD),
            ("carol@example.com", "wrong"),
            ("carol@example.com", PASSWORD),
        ]
        addresses = [HOME] * (PER_NETWORK + 2)
        if guess_all is guess_everywhere:
            addresses = [f"203.0.{number}.1" for number in range(PER_ACCOUNT + 2)]
        told = []
        for email, password in tries:
            told.append([self.told(partial(log_in, address, password, email)) for address in addresses])
            self.forget(app)

        assert {status for status, *_ in told[0]} == {401, 429}
        assert told == [told[0]] * len(tries)

    def test_of_a_closed_account_is_not_whether_a_password_is_right(self, log_in: LogIn) -> None:
        guess(log_in, PER_NETWORK)

        assert self.told(partial(log_in, HOME, "wrong")) == self.told(partial(log_in, HOME, PASSWORD))

    @staticmethod
    def told(call: Callable[[], TestResponse]) -> tuple[Any, ...]:
        """The answer, and how many statements were executed for it."""
        with capture_logs() as lines:
            answer = call()
        (queries,) = [line["queries"] for line in lines if line["event"] == "request"]
        names = tuple(sorted(answer.headers.keys()))
        body = body_of(answer) | {"retry_after": 0}
        return answer.status_code, tuple(body.items()), names, queries

    @staticmethod
    def forget(app: Flask) -> None:
        """Forget every failure."""
        with app.app_context(), unit_of_work():
            for model in (LoginFailures, NetworkLoginFailures):
                db.session.execute(db.delete(model))


class TestChangingAPassword:
    def test_counts_with_the_logins_of_its_network(self, log_in: LogIn, guarded: Flask, bob: Caller) -> None:
        guess(log_in, PER_NETWORK - 1)
        change = partial(
            bob.on(guarded).post,
            "/auth/password",
            {"current_password": "wrong", "new_password": "staple battery horse"},
        )

        answers = [change(headers={"X-Forwarded-For": address}) for address in (HOME, HOME, AWAY)]

        assert [answer.status_code for answer in answers] == [422, 429, 422]

    def test_that_is_right_counts_nothing(self, app: Flask, guarded: Flask, bob: Caller) -> None:
        body = {"current_password": PASSWORD, "new_password": "staple battery horse"}

        answer = bob.on(guarded).post("/auth/password", body, headers={"X-Forwarded-For": HOME})

        assert answer.status_code == 200
        assert number_of(app, LoginFailures) == number_of(app, NetworkLoginFailures) == 0


class TestAtTheSameMoment:
    """As many as there are connections to the database for."""

    def test_no_more_than_ten_are_told(self, log_in: LogIn, app: Flask) -> None:
        told = at_once([partial(guess, log_in, 4)] * 4)

        assert sorted(chain.from_iterable(told)) == [401] * PER_NETWORK + [429] * (16 - PER_NETWORK)
        with app.app_context(), unit_of_work(reading=True):
            assert db.session.scalars(select(LoginFailures.failures)).all() == [PER_NETWORK]

    def test_right_ones_are_all_told(self, log_in: LogIn) -> None:
        guess(log_in, PER_NETWORK - 1)

        told = at_once([log_in] * 4)

        assert {answer.status_code for answer in told} == {200}


class TestPrune:
    def test_forgets_failures_and_remembers_networks(self, log_in: LogIn, app: Flask) -> None:
        prune = partial(app.test_cli_runner().invoke, args=["prune"])
        with time_machine.travel(datetime(2026, 5, 17, 12, tzinfo=UTC), tick=False) as clock:
            guess(log_in, 1)
            log_in(AWAY)
            left = []
            for wait in (timedelta(minutes=4), timedelta(minutes=2), timedelta(days=89), timedelta(days=1)):
                clock.shift(wait)
                assert prune().exit_code == 0
                left.append([number_of(app, table) for table in (LoginFailures, NetworkLoginFailures, SessionNetwork)])

        assert left == [[1, 1, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0]]


def number_of(app: Flask, model: Any) -> int:
    """How many rows a table has."""
    with app.app_context(), unit_of_work(reading=True):
        return db.session.scalar(select(func.count()).select_from(model)) or 0
