"""What the probes say of real servers and workers: with a worker, without, and with one that was killed."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import time_machine
from flask import Flask
from sqlalchemy import select

from app.core import clock
from app.core.transactions import unit_of_work
from app.core.workers import SILENT_SECONDS, WorkerProcess
from app.extensions import db
from app.web import readiness
from config import VERSION
from tests.conftest import Caller, body_of
from tests.exposed import Exposed
from tests.live.conftest import environment, process
from tests.live.wire import ask, at_once, wait_for
from tests.servers import GunicornServer, free_port, gunicorn_server, hung_postgres, valkey_server

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

TOKEN = "kV3xP0qB8mL5nR2wY7cF4tH9jD6sG1zE"


def kinds(app: Flask) -> list[str]:
    with app.app_context(), unit_of_work(reading=True):
        return list(db.session.scalars(select(WorkerProcess.kind)))


def checks_of(answer: Any) -> dict[str, tuple[str, str | None]]:
    return {check["name"]: (check["status"], check["reason"]) for check in answer.json["checks"]}


def check(server: GunicornServer, name: str) -> tuple[str, str | None] | None:
    return checks_of(ask(server.port, "//readyz", TOKEN)).get(name)


class TestAWorker:
    @pytest.fixture
    def probed(self, app_with: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> Flask:
        """A server as seen from within, which looks anew each time."""
        monkeypatch.setattr(readiness, "OTHER_AGE", 0)
        return app_with(metrics_token=TOKEN)

    @pytest.fixture
    def port(self) -> int:
        """Where the worker serves its own metrics."""
        return free_port()

    @pytest.fixture
    def worker(self, app: Flask, tmp_path: Path, port: int) -> Iterator[Any]:
        arguments = ["-m", "flask", "worker", "--heartbeat-file", str(tmp_path / "heartbeat")]
        env = environment(app.config["DATABASE_URL"], METRICS_PORT=str(port))
        with process(arguments, env, tmp_path / "log") as running:
            wait_for(lambda: kinds(app) == ["worker"])
            yield running

    def test_is_there_until_it_ends(self, app: Flask, probed: Flask, worker: Any, tmp_path: Path) -> None:
        with_worker = checks_of(Caller(probed, TOKEN).get("//readyz"))["worker"]
        touched = (tmp_path / "heartbeat").stat().st_mtime
        wait_for(lambda: (tmp_path / "heartbeat").stat().st_mtime > touched)
        worker.terminate()
        worker.wait(60)

        assert with_worker == ("ok", None)
        assert kinds(app) == []
        assert checks_of(Caller(probed, TOKEN).get("//readyz"))["worker"] == ("degraded", "no_worker")

    def test_says_which_release_it_runs_and_leaves_the_database_to_servers(self, worker: Any, port: int) -> None:
        found = Exposed.of_text(ask(port, "//metrics").body.decode())

        assert found.value("catalog_build_info", version=VERSION, commit="unknown") == 1
        assert "catalog_database_up" not in found.names()

    def test_that_is_killed_is_missed_after_a_while(self, app: Flask, probed: Flask, worker: Any) -> None:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(60)

        assert kinds(app) == ["worker"]
        with time_machine.travel(clock.now() + timedelta(seconds=SILENT_SECONDS + 1), tick=True):
            answer = Caller(probed, TOKEN).get("//readyz")
        assert (answer.status_code, body_of(answer)["status"]) == (200, "degraded")
        assert checks_of(answer)["worker"] == ("degraded", "worker_silent")

    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_of_celery_is_there_until_it_ends(self, app: Flask, tmp_path: Path) -> None:
        with ExitStack() as stack:
            broker = stack.enter_context(valkey_server(port=free_port()))
            env = environment(app.config["DATABASE_URL"], CELERY_BROKER_URL=broker)
            arguments = ["-m", "celery", "--app", "worker", "worker", "--beat", "--concurrency", "2"]
            running = stack.enter_context(process(arguments, env, tmp_path / "log"))
            # One, however many processes it has.
            wait_for(lambda: kinds(app) == ["celery"])
            running.terminate()
            running.wait(60)

        assert kinds(app) == []


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
class TestInDevelopment:
    def test_the_server_is_the_worker(self, app: Flask, tmp_path: Path) -> None:
        env = environment(app.config["DATABASE_URL"], APP_ENV="development", METRICS_TOKEN=TOKEN)
        with gunicorn_server(env, workers=1) as server:
            assert wait_for(lambda: kinds(app)) == ["server"]
            wait_for(lambda: check(server, "worker") == ("ok", None))
            assert ask(server.port, "//health").json["version"] == VERSION

        assert kinds(app) == []


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
class TestRedis:
    def test_that_is_lost_degrades_the_server_until_it_is_back(self, app: Flask) -> None:
        port = free_port()
        env = environment(
            app.config["DATABASE_URL"],
            METRICS_TOKEN=TOKEN,
            REDIS_URL=f"redis://127.0.0.1:{port}",
            RATE_LIMIT_ENABLED="true",
        )
        with gunicorn_server(env, workers=1) as server:
            for _ in range(2):
                wait_for(lambda: check(server, "redis") == ("degraded", "unavailable"))
                assert ask(server.port, "//readyz").json == {"status": "degraded"}
                with valkey_server(port=port) as url:
                    wait_for(lambda: check(server, "redis") == ("ok", None))
                    with redis.Redis.from_url(url) as client:
                        # It does not answer for a while.
                        client.client_pause(8000, all=True)
                    wait_for(lambda: check(server, "redis") == ("degraded", "unavailable"))
                    wait_for(lambda: check(server, "redis") == ("ok", None))


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
class TestADatabaseThatHangs:
    def test_is_told_within_a_while_however_many_ask(self, app: Flask, postgres_url: str) -> None:
        env = environment(app.config["DATABASE_URL"], METRICS_TOKEN=TOKEN)
        with gunicorn_server(env, workers=1, threads=3) as server:
            wait_for(lambda: check(server, "database") == ("ok", None))
            wait_for(lambda: up(server) == 1)
            with hung_postgres(postgres_url):
                answer = wait_for(
                    partial(ask, server.port, "//readyz", TOKEN), until=lambda answer: answer.status == 503
                )
                live = ask(server.port, "//livez").status
                wait_for(lambda: up(server) == 0)
                hung = exposed(server)
                statuses = {answer.status for answer in at_once([partial(ask, server.port, "//readyz")] * 8)}
            back = wait_for(partial(ask, server.port, "//readyz"), until=lambda answer: answer.status == 200)
            wait_for(lambda: up(server) == 1)
            healthy = exposed(server)

        assert (answer.code, live, statuses) == ("database_not_ready", 200, {503})
        assert checks_of(answer)["database"][0] == "failed"
        assert checks_of(answer)["media_store"] == ("ok", None)
        assert back.json["status"] in {"ok", "degraded"}
        # What the processes count themselves is there, and nothing old.
        assert {"catalog_build_info", "catalog_http_requests_in_progress"} <= hung.names()
        assert "catalog_workers" in healthy.names() - hung.names()


def exposed(server: GunicornServer) -> Exposed:
    return Exposed.of_text(ask(server.port, "//metrics", TOKEN).body.decode())


def up(server: GunicornServer) -> float:
    return exposed(server).value("catalog_database_up")
