"""The probes: what each says, to whom, and what it costs."""

import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from flask import Flask
from sqlalchemy import event, text

from app.clients.object_store import ObjectStore, StoreUnavailable
from app.core import clock
from app.core.transactions import unit_of_work
from app.core.workers import SILENT_SECONDS, Presence, WorkerKind
from app.extensions import db
from app.web import readiness
from app.web.counters import RedisWindows
from config import VERSION
from tests.conftest import Caller, body_of, code_of, on_one_database

TOKEN = "kV3xP0qB8mL5nR2wY7cF4tH9jD6sG1zE"

Probe = Callable[..., dict[str, Any]]
Checks = dict[str, tuple[str, str | None]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The media store."""
    return tmp_path / "media"


@pytest.fixture
def patience() -> float:
    """For how many seconds an application waits: a busy machine is nothing that hangs."""
    return 30.0


@pytest.fixture
def probed(app_with: Callable[..., Flask], folder: Path, patience: float, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """An application with a token, which looks anew for each request."""
    monkeypatch.setattr(readiness, "TIMEOUT", patience)
    monkeypatch.setattr(readiness, "PATIENCE", patience)
    monkeypatch.setattr(readiness, "DATABASE_AGE", 0)
    monkeypatch.setattr(readiness, "OTHER_AGE", 0)
    return app_with(metrics_token=TOKEN, media_store=folder.as_uri())


@pytest.fixture
def at_work(app: Flask) -> Presence:
    """A worker that has just said that it is there."""
    presence = Presence(WorkerKind.WORKER, version=VERSION)
    with app.app_context():
        presence.note()
    return presence


def ask(app: Flask, token: str | None = TOKEN, **headers: str) -> Any:
    """The answer of /readyz."""
    return Caller(app, token).get("//readyz", headers=headers)


def checks_of(app: Flask) -> Checks:
    """The status of each check, and what is wrong."""
    return {check["name"]: (check["status"], check["reason"]) for check in body_of(ask(app))["checks"]}


@on_one_database
class TestHealth:
    def test_says_which_release_runs(self, anonymous: Caller) -> None:
        answer = anonymous.get("//health")

        assert body_of(answer) == {"status": "ok", "version": VERSION, "commit": "unknown"}
        assert "ETag" not in answer.headers

    def test_of_liveness_says_no_more_than_that_it_is_alive(self, anonymous: Caller) -> None:
        assert body_of(anonymous.get("//livez")) == {"status": "ok"}


@pytest.mark.usefixtures("at_work")
class TestReadiness:
    def test_is_there_with_everything(self, probed: Flask) -> None:
        answer = ask(probed)

        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert body_of(answer).keys() == {"status", "version", "commit", "checks"}
        assert body_of(answer)["status"] == "ok"
        assert checks_of(probed) == dict.fromkeys(("database", "migrations", "worker", "media_store"), ("ok", None))

    @pytest.mark.parametrize(
        ("token", "headers"),
        [
            (None, {}),
            (TOKEN[:-1], {}),
            (f"{TOKEN}0", {}),
            ("", {}),
            (None, {"Authorization": f"Basic {TOKEN}"}),
            (None, {"X-API-Key": TOKEN}),
            ("Ünicode", {}),
        ],
    )
    @on_one_database
    def test_says_no_more_than_that_to_everybody_else(
        self, probed: Flask, token: str | None, headers: dict[str, str]
    ) -> None:
        answer = ask(probed, token, **headers)

        assert (answer.status_code, body_of(answer)) == (200, {"status": "ok"})

    @on_one_database
    def test_says_no_more_where_there_is_no_token(self, app_with: Callable[..., Flask]) -> None:
        for token in (None, "", "None", TOKEN):
            assert body_of(ask(app_with(log_level="ERROR"), token)).keys() == {"status"}

    def test_says_how_old_and_how_quick_each_is(self, probed: Flask) -> None:
        with time_machine.travel(clock.now() + timedelta(seconds=7), tick=True):
            checks = {check["name"]: check for check in body_of(ask(probed))["checks"]}

        assert checks["worker"]["age_seconds"] in range(7, SILENT_SECONDS)
        assert checks["database"]["age_seconds"] == 0
        assert all(0 <= check["milliseconds"] <= 1000 * readiness.TIMEOUT for check in checks.values())


class TestDegraded:
    def test_is_a_server_without_a_worker(self, probed: Flask) -> None:
        assert (ask(probed).status_code, body_of(ask(probed, None))) == (200, {"status": "degraded"})
        assert checks_of(probed)["worker"] == ("degraded", "no_worker")

    def test_is_one_whose_worker_says_nothing_for_a_while(self, probed: Flask, at_work: Presence) -> None:
        with time_machine.travel(clock.now() + timedelta(seconds=SILENT_SECONDS - 5), tick=True):
            before = checks_of(probed)["worker"]
        with time_machine.travel(clock.now() + timedelta(seconds=SILENT_SECONDS + 5), tick=True):
            after = checks_of(probed)["worker"]

        assert (before, after) == (("ok", None), ("degraded", "worker_silent"))

    def test_is_not_one_of_whose_workers_another_lives(self, app: Flask, probed: Flask, at_work: Presence) -> None:
        with time_machine.travel(clock.now() + timedelta(seconds=SILENT_SECONDS + 5), tick=True):
            with app.app_context():
                Presence(WorkerKind.SERVER, version=VERSION).note()

            assert checks_of(probed)["worker"] == ("ok", None)

    def test_is_one_whose_worker_has_ended(self, app: Flask, probed: Flask, at_work: Presence) -> None:
        with app.app_context():
            at_work.withdraw()

        assert checks_of(probed)["worker"] == ("degraded", "no_worker")

    @on_one_database
    def test_is_one_whose_folder_of_media_goes_away_until_it_is_back(
        self, probed: Flask, at_work: Presence, folder: Path
    ) -> None:
        seen = [checks_of(probed)["media_store"]]
        shutil.rmtree(folder)
        seen.append(checks_of(probed)["media_store"])
        status = body_of(ask(probed, None))["status"]
        folder.mkdir()
        seen.append(checks_of(probed)["media_store"])

        assert (seen, status) == ([("ok", None), ("degraded", "unavailable"), ("ok", None)], "degraded")

    @on_one_database
    def test_is_one_whose_redis_does_not_count(
        self, app_with: Callable[..., Flask], at_work: Presence, redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(readiness, "PATIENCE", 30)
        monkeypatch.setattr(readiness, "OTHER_AGE", 0)
        probed = app_with(metrics_token=TOKEN, redis_url=redis_url, rate_limit_enabled=True)
        before = checks_of(probed)["redis"]

        def fail(*_: Any) -> None:
            raise ConnectionError

        monkeypatch.setattr(RedisWindows, "count", fail)
        answer = ask(probed)

        assert before == ("ok", None)
        assert (answer.status_code, body_of(answer)["status"]) == (200, "degraded")
        assert checks_of(probed)["redis"] == ("degraded", "unavailable")

    @on_one_database
    def test_is_not_one_that_does_without_redis(
        self, app_with: Callable[..., Flask], at_work: Presence, redis_url: str
    ) -> None:
        probed = app_with(metrics_token=TOKEN, redis_url=redis_url, rate_limit_enabled=False)

        assert "redis" not in checks_of(probed)


class TestWhatHangs:
    @pytest.fixture
    def patience(self) -> float:
        return 0.3

    @pytest.fixture
    def hung(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
        """A media store that does not answer, and how often it was asked."""
        asked, over = [], threading.Event()

        def hang(_self: ObjectStore) -> None:
            asked.append(1)
            over.wait(30)
            raise StoreUnavailable

        monkeypatch.setattr(ObjectStore, "check", hang)
        yield asked
        over.set()

    @on_one_database
    def test_is_waited_for_a_while_and_asked_once(self, probed: Flask, at_work: Presence, hung: list[int]) -> None:
        # Had they waited for its end, the store would be unavailable.
        assert [checks_of(probed)["media_store"] for _ in range(3)] == [("degraded", "timeout")] * 3
        assert sum(hung) == 1

    @on_one_database
    def test_is_asked_no_more_often_than_it_is_worth(
        self, app_with: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        monkeypatch.setattr(readiness, "OTHER_AGE", 3600)
        monkeypatch.setattr(ObjectStore, "check", lambda _: asked.append(1))
        probed = app_with(metrics_token=TOKEN)

        for _ in range(5):
            ask(probed)

        assert asked == [1]


class TestNotReady:
    def test_is_a_server_on_the_schema_of_another_release(self, app: Flask, probed: Flask) -> None:
        with app.app_context(), unit_of_work():
            revision = db.session.scalar(text("SELECT version_num FROM alembic_version"))
            db.session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        try:
            bare, detailed = ask(probed, None), ask(probed)
        finally:
            with app.app_context(), unit_of_work():
                db.session.execute(text("UPDATE alembic_version SET version_num = :ours"), {"ours": revision})

        assert (bare.status_code, code_of(bare), bare.headers["Retry-After"]) == (503, "database_not_ready", "1")
        assert not {"version", "commit", "checks"} & body_of(bare).keys()
        assert (detailed.status_code, body_of(detailed)["version"]) == (503, VERSION)
        seen = {check["name"]: (check["status"], check["reason"]) for check in body_of(detailed)["checks"]}
        assert (seen["database"], seen["migrations"]) == (("ok", None), ("failed", "other_schema"))
        assert ask(probed).status_code == 200

    def test_is_one_whose_database_takes_no_writes(self, app: Flask, probed: Flask, backend: str) -> None:
        statement = {
            "sqlite": "PRAGMA query_only=ON",
            "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        }[backend]

        def be_read_only(driver: Any, _: object) -> None:
            driver.execute(statement)
            driver.commit()

        with probed.app_context():
            event.listen(db.engine, "connect", be_read_only)
            db.engine.dispose()

        answer = ask(probed)

        assert (answer.status_code, code_of(answer)) == (503, "database_not_ready")
        assert checks_of(probed)["database"] == ("failed", "read_only")

    @pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
    def test_is_not_one_in_whose_database_another_is_writing(self, app: Flask, probed: Flask) -> None:
        with app.app_context(), unit_of_work():
            db.session.execute(text("DELETE FROM workers"))

            assert checks_of(probed)["database"] == ("ok", None)
