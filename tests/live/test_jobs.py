"""Background work by processes of their own: killed, told to stop, several at once, and called by a broker."""

import json
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner

from app.core import jobs
from app.core.jobs import JobStatus
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.exports import service as exports
from app.features.imports import importer
from app.features.imports.models import Import
from app.security.permissions import Role
from tests.conftest import Caller, body_of, empty
from tests.live.conftest import Site, environment, process
from tests.live.wire import PATIENCE, Answer, Client, at_once, wait_for, wire
from tests.mailbox import Mailbox, mail_server, text_of
from tests.servers import free_port, gunicorn_server

pytestmark = pytest.mark.live

ROWS, ROWS_PER_CHUNK, LEASE = 1200, 10, 1
FLASK_WORKER = f"""
import sys
from app.clients import mail
from app.features.imports import importer
from flask.cli import main
mail.SMTP_TIMEOUT = 2 * {PATIENCE}
importer.ROWS_PER_CHUNK = {ROWS_PER_CHUNK}
sys.argv = ["flask", "worker", "--lease", "{LEASE}"]
main()
"""


def file_of(rows: int) -> str:
    """A file. One row in fifty has the sku of the row before it, and one in seventy a price that is none."""
    prices = ["none" if number % 70 == 69 else "1.50" for number in range(rows)]
    return "sku,name,price,category\n" + "".join(
        f"S-{number - (number % 50 == 49)},Thing {number},{price},Things {number % 7}\n"
        for number, price in enumerate(prices)
    )


FILE = file_of(ROWS)


@pytest.fixture
def flask_worker(app: Flask, tmp_path: Path) -> Callable[..., Any]:
    """Start ``flask worker``, with small chunks, a short lease, and patience with the mail server."""
    env = environment(app.config["DATABASE_URL"])
    return lambda **settings: process(["-c", FLASK_WORKER], {**env, **settings}, tmp_path / "worker.log")


def log_of(folder: Path) -> list[dict[str, Any]]:
    """What the worker has logged, without what comes at the full hour."""
    lines = map(json.loads, (folder / "worker.log").read_text().splitlines())
    return [line for line in lines if line.get("kind") != "prune"]


def order(who: Caller, text: str = FILE) -> int:
    sent = who.call("POST", "/imports", data=text.encode(), headers={"Content-Type": "text/csv"})
    assert sent.status_code == 202, sent.get_data(as_text=True)
    return int(body_of(sent)["id"])


def look(who: Caller, import_id: int) -> dict[str, Any]:
    return body_of(who.get(f"/imports/{import_id}"))


def wait_for_rows(who: Caller, import_id: int, rows: int) -> dict[str, Any]:
    """The import, once so many rows are read or it has ended."""
    return wait_for(lambda: look(who, import_id), until=lambda seen: seen["rows_read"] >= rows or seen["finished_at"])


def wait_for_end(who: Caller, import_id: int) -> dict[str, Any]:
    """The import, once it has ended."""
    return wait_for(lambda: look(who, import_id), until=lambda seen: seen["finished_at"])


def outcome(app: Flask, who: Caller, import_id: int) -> tuple[Any, ...]:
    """Everything that an import has left, but for ids and times."""
    report = look(who, import_id)
    counts = {name: report[name] for name in ("rows_read", "created", "updated", "unchanged", "merged", "failed")}
    with app.app_context(), unit_of_work(reading=True):
        products = {
            row["sku"]: {name: row[name] for name in row if name not in {"id", "category_id"}}
            for batch in exports.iter_products()
            for row in batch
        }
        versions = Counter(db.session.scalars(db.select(db.metadata.tables["products"].c.version)))
        categories = db.session.scalars(db.select(db.metadata.tables["categories"].c.name)).all()
        faults = db.metadata.tables["import_faults"].c
        told = db.session.execute(db.select(faults.line, faults.pointer, faults.code).order_by(faults.id)).all()
        left = [db.session.scalar(db.select(db.func.count()).select_from(db.metadata.tables[name])) for name in REMAINS]
    return report["status"], counts, products, versions, sorted(categories), [tuple(fault) for fault in told], left


#: For tests of who does an import and when, and not of how it is stopped.
SHORT_FILE = FILE[: FILE.index("S-100,")]
SHORT = 100
#: For tests of what happens during an import: 2,000 chunks.
LONG_FILE = "sku,name,price,category\n" + "".join(f"L-{number},Thing,1.50,Things\n" for number in range(20_000))
REMAINS = ("import_chunks", "import_skus")


class TestWorker:
    def test_that_is_killed_again_and_again_changes_nothing(
        self,
        app: Flask,
        sign_in: Callable[..., Caller],
        flask_worker: Callable[[], Any],
        runner: FlaskCliRunner,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(importer, "ROWS_PER_CHUNK", ROWS_PER_CHUNK)
        alice = sign_in("alice", Role.ADMIN)
        import_id = order(alice)
        runner.invoke(args=["worker", "--once"], catch_exceptions=False)
        undisturbed = outcome(app, alice, import_id)
        empty(app)

        alice = sign_in("alice", Role.ADMIN)
        import_id, kills, read = order(alice), 0, 0
        for share in (0.1, 0.25, 0.4, 0.6, 0.8):
            with flask_worker() as worker:
                seen = wait_for_rows(alice, import_id, max(read + 1, int(share * ROWS)))
                time.sleep(random.uniform(0, 0.05))
                worker.kill()
                worker.wait()
            assert seen["rows_read"] >= read
            read, kills = seen["rows_read"], kills + (seen["finished_at"] is None)
        with flask_worker():
            wait_for_end(alice, import_id)

        assert kills >= 4
        assert outcome(app, alice, import_id) == undisturbed
        assert undisturbed[0] == "succeeded"
        assert undisturbed[1]["rows_read"] == ROWS
        assert undisturbed[3] == {1: undisturbed[1]["created"]}
        assert undisturbed[-1] == [0, 0]

    def test_that_is_told_to_stop_gives_its_job_back(
        self, sign_in: Callable[..., Caller], flask_worker: Callable[..., Any], runner: FlaskCliRunner, tmp_path: Path
    ) -> None:
        alice = sign_in("alice", Role.EDITOR)
        import_id = order(alice)

        with flask_worker(LOG_LEVEL="INFO") as worker:
            wait_for_rows(alice, import_id, ROWS_PER_CHUNK)
            worker.send_signal(signal.SIGTERM)
            status = worker.wait(PATIENCE)
        left = look(alice, import_id)
        runner.invoke(args=["worker", "--once"], catch_exceptions=False)
        done = look(alice, import_id)

        logged = log_of(tmp_path)
        assert [line["event"] for line in logged] == ["worker_started", "job_started", "job_ended", "worker_stopped"]
        assert logged[0]["runs_on"].startswith("production, ")
        assert logged[0]["woken_by"] == ("notify and poll" if "postgresql" in logged[0]["runs_on"] else "poll")
        assert logged[2]["status"] == "queued"
        assert status == 0
        assert left["status"] == "queued"
        assert 0 < left["rows_read"] < ROWS
        assert (done["status"], done["rows_read"]) == ("succeeded", ROWS)

    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_behind_a_pooler_polls_alone(
        self, app: Flask, sign_in: Callable[..., Caller], flask_worker: Callable[..., Any], tmp_path: Path
    ) -> None:
        alice = sign_in("alice", Role.EDITOR)

        with flask_worker(LOG_LEVEL="INFO", DATABASE_POOLING="transaction"):
            done = wait_for_end(alice, order(alice, SHORT_FILE))

        started = log_of(tmp_path)[0]
        assert (started["woken_by"], started["pooling"]) == ("poll", "transaction")
        assert done["status"] == "succeeded"

    def test_whose_import_is_cancelled_leaves_whole_chunks(
        self, app: Flask, sign_in: Callable[..., Caller], flask_worker: Callable[[], Any]
    ) -> None:
        alice = sign_in("alice", Role.EDITOR)
        # So long that it is not done before SQLite, which knows no queue, lets somebody else write.
        rows = 5 * ROWS
        import_id, after = order(alice, file_of(rows)), order(alice, file_of(0))

        with flask_worker():
            wait_for_rows(alice, import_id, ROWS_PER_CHUNK)
            cancelled = body_of(alice.post(f"/imports/{import_id}/cancel"))
            # The worker lives, and goes on with something else.
            wait_for_end(alice, after)

        assert cancelled["status"] == "cancelled"
        assert look(alice, import_id) == cancelled
        assert 0 < cancelled["rows_read"] < rows
        assert cancelled["rows_read"] % ROWS_PER_CHUNK == 0
        with app.app_context(), unit_of_work(reading=True):
            saved = sum(len(batch) for batch in exports.iter_products())
        assert saved == cancelled["created"]


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A real mail server."""
    with mail_server() as box:
        yield box


def settings_of(box: Mailbox) -> dict[str, str]:
    return {"MAIL_SERVER": "127.0.0.1", "MAIL_PORT": str(box.port)}


def request_reset(client: Caller | Client) -> int:
    answer = client.post("/auth/password-reset", {"email": "bob@example.com"})
    return answer.status if isinstance(answer, Answer) else answer.status_code


def is_good(app: Flask, letter: Message) -> bool:
    """Whether a letter has a token that sets a password."""
    body = {"token": text_of(letter).splitlines()[2], "new_password": "staple battery horse"}
    return Caller(app).post("/auth/password-reset/confirm", body).status_code == 204


class TestLetter:
    def test_arrives_though_the_server_is_killed_after_the_request(
        self, app: Flask, bob: Caller, flask_worker: Callable[..., Any], mailbox: Mailbox
    ) -> None:
        with gunicorn_server(environment(app.config["DATABASE_URL"], **settings_of(mailbox))) as server:
            with closing(Client(server.port)) as client:
                status = request_reset(client)
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
        before = list(mailbox.letters)
        with flask_worker(**settings_of(mailbox)):
            arrived = mailbox.arrived.wait(PATIENCE)

        assert (status, before, arrived) == (202, [], True)
        assert is_good(app, mailbox.letters[0])

    def test_arrives_though_its_worker_is_killed_at_the_delivery(
        self, app: Flask, bob: Caller, flask_worker: Callable[..., Any], mailbox: Mailbox
    ) -> None:
        mailbox.open.clear()
        request_reset(bob)
        with flask_worker(**settings_of(mailbox)) as worker:
            asked = mailbox.asked.wait(PATIENCE)
            worker.kill()
            worker.wait()
        mailbox.open.set()
        with flask_worker(**settings_of(mailbox)):
            arrived = mailbox.arrived.wait(PATIENCE)

        assert (asked, arrived) == (True, True)
        assert is_good(app, mailbox.letters[0])

    def test_does_not_wait_for_a_long_import(
        self, bob: Caller, sign_in: Callable[..., Caller], flask_worker: Callable[..., Any], mailbox: Mailbox
    ) -> None:
        alice = sign_in("alice", Role.EDITOR)
        import_id = order(alice, LONG_FILE)

        with flask_worker(**settings_of(mailbox)):
            wait_for_rows(alice, import_id, 1)
            request_reset(bob)
            arrived = mailbox.arrived.wait(PATIENCE)
            seen = look(alice, import_id)

        assert arrived
        assert seen["status"] == "running"

    def test_that_waits_for_the_mail_server_delays_no_import(
        self, bob: Caller, sign_in: Callable[..., Caller], flask_worker: Callable[..., Any], mailbox: Mailbox
    ) -> None:
        alice = sign_in("alice", Role.EDITOR)
        mailbox.open.clear()
        # A worker that could take letters and imports would take the second of these.
        statuses = request_reset(bob), request_reset(bob)

        with flask_worker(**settings_of(mailbox)):
            asked = mailbox.asked.wait(PATIENCE)
            done = wait_for_end(alice, order(alice, SHORT_FILE))
            before = list(mailbox.letters)
            mailbox.open.set()
            arrived = mailbox.arrived.wait(PATIENCE)

        assert statuses == (202, 202)
        assert (asked, done["status"], before, arrived) == (True, "succeeded", [], True)


class TestClaims:
    def test_of_many_workers_at_once_are_each_of_another_job(self, app: Flask) -> None:
        kinds, many, workers = ["nothing"], 60, 8
        with app.app_context(), unit_of_work():
            ordered = {jobs.enqueue("nothing", {}).id for _ in range(many)}

        def claim_all() -> list[int]:
            claimed: list[int] = []
            while True:
                with app.app_context(), unit_of_work():
                    claim = jobs.claim_job(kinds)
                if claim is None:
                    return claimed
                claimed.append(claim.job_id)

        claims = Counter(job_id for claimed in at_once([claim_all] * workers) for job_id in claimed)

        # A worker that finds nothing was right for a moment: on PostgreSQL it skips what another is just claiming.
        assert set(claims) == ordered
        assert set(claims.values()) == {1}


class TestKeys:
    def test_of_many_that_enqueue_at_once_name_one_job(self, app: Flask) -> None:
        keys, many = [f"endpoint:{number}" for number in range(10)], 6

        def enqueue_all() -> list[int]:
            enqueued = []
            for key in keys:
                with app.app_context(), unit_of_work():
                    enqueued.append(jobs.enqueue("nothing", {}, key=key).id)
            return enqueued

        enqueued = at_once([enqueue_all] * many)

        assert len(set(enqueued[0])) == len(keys)
        assert enqueued == [enqueued[0]] * many

    def test_are_free_as_soon_as_their_job_has_ended(self, app: Flask) -> None:
        def enqueue_and_end() -> list[int]:
            ended: list[int] = []
            while len(ended) < 15:
                with app.app_context(), unit_of_work():
                    job_id = jobs.enqueue("nothing", {}, key="one").id
                with app.app_context(), unit_of_work():
                    ended += [job_id] if jobs.cancel(job_id) else []
            return ended

        ended = at_once([enqueue_and_end] * 4)

        # Each job was ended by one alone, and none stands in the way of the next.
        assert len({job_id for ids in ended for job_id in ids}) == 4 * 15


@pytest.fixture
def celery(app: Flask, redis_url: str, tmp_path: Path) -> Callable[..., Any]:
    """Start a Celery worker."""

    def start(*options: str) -> Any:
        env = environment(app.config["DATABASE_URL"], CELERY_BROKER_URL=redis_url)
        arguments = ["-m", "celery", "--app", "worker", "worker", "--concurrency", "2", "--loglevel", "INFO", *options]
        return process(arguments, env, tmp_path / "celery.log")

    return start


class TestDevelopmentServer:
    def test_does_the_work_itself(self, app: Flask, sign_in: Callable[..., Caller]) -> None:
        alice = sign_in("alice", Role.EDITOR)
        env = environment(app.config["DATABASE_URL"], APP_ENV="development")

        with gunicorn_server(env):
            done = wait_for_end(alice, order(alice, SHORT_FILE))

        assert (done["status"], done["rows_read"]) == ("succeeded", SHORT)

    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_is_alone_in_that(self, app: Flask, site: Site, sign_in: Callable[..., Caller]) -> None:
        alice = sign_in("alice", Role.EDITOR)
        import_id = order(alice, SHORT_FILE)

        time.sleep(2)

        assert look(alice, import_id)["status"] == "queued"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
class TestCelery:
    """On the database of production; the message is the same whatever the database."""

    def test_does_an_import_as_soon_as_it_is_committed(
        self, app: Flask, sign_in: Callable[..., Caller], celery: Callable[..., Any], redis_url: str, tmp_path: Path
    ) -> None:
        alice = sign_in("alice", Role.EDITOR)
        env = environment(app.config["DATABASE_URL"], CELERY_BROKER_URL=redis_url)

        with celery(), gunicorn_server(env) as server:
            wait_for(lambda: "ready" in (tmp_path / "celery.log").read_text())
            with closing(Client(server.port, alice.token)) as client:
                answer = client.upload("/imports", SHORT_FILE.encode(), "text/csv")
            done = wait_for_end(alice, answer.json["id"])

        assert answer.status == 202
        assert (done["status"], done["rows_read"]) == ("succeeded", SHORT)

    def test_looks_by_itself_for_what_no_message_told_of(
        self, app: Flask, sign_in: Callable[..., Caller], celery: Callable[..., Any]
    ) -> None:
        alice = sign_in("alice", Role.EDITOR)
        import_id = order(alice, SHORT_FILE)

        with celery("--beat"):
            done = wait_for_end(alice, import_id)

        assert done["status"] == "succeeded"


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
class TestBroker:
    """The thread that waits for it does not know of the database."""

    @pytest.mark.parametrize("is_there", [True, False], ids=["silent", "gone"])
    def test_that_is_dead_delays_and_fails_nothing(
        self, app: Flask, sign_in: Callable[..., Caller], is_there: bool
    ) -> None:
        alice = sign_in("alice", Role.EDITOR)

        with ExitStack() as stack:
            port = free_port()
            if is_there:
                silent = stack.enter_context(socket.socket())
                silent.bind(("127.0.0.1", port))
                silent.listen()
            env = environment(app.config["DATABASE_URL"], CELERY_BROKER_URL=f"redis://127.0.0.1:{port}/0")
            server = stack.enter_context(gunicorn_server(env))
            client = Client(server.port, alice.token)
            stack.callback(client.close)
            statuses, took = [], []
            for _ in range(10):
                started = time.monotonic()
                statuses.append(client.upload("/imports", FILE.encode()[:500], "text/csv").status)
                took.append(time.monotonic() - started)

        assert statuses == [202] * 10
        # The socket's timeout is two seconds: a request that waited for it takes longer. All of them share the time of
        # the machine, so that each has a limit of its own.
        assert max(took) < 2


class TestUpload:
    def test_over_the_limit_in_chunks_is_refused_and_leaves_nothing(
        self, app: Flask, sign_in: Callable[..., Caller]
    ) -> None:
        alice, limit = sign_in("alice", Role.EDITOR), 256 * 1024
        env = environment(app.config["DATABASE_URL"], MAX_UPLOAD_BYTES=str(limit))
        head = (
            "POST /api/v1/imports HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            f"Authorization: Bearer {alice.token}\r\nContent-Type: text/csv\r\n\r\n"
        )
        block = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"

        with gunicorn_server(env) as server:
            answers = []
            for blocks, rest in ((4, b"0\r\n\r\n"), (4, b"1\r\nx\r\n0\r\n\r\n")):
                with wire(server.port) as connection:
                    connection.send(head.encode() + block * blocks + rest)
                    answers.append(connection.read("POST"))

        assert [answer and answer.status for answer in answers] == [202, 413]
        with app.app_context(), unit_of_work(reading=True):
            assert db.session.scalars(db.select(Import.size)).all() == [limit]
            assert db.session.scalars(db.select(jobs.Job.status)).all() == [JobStatus.QUEUED]

    def test_of_a_client_that_goes_away_leaves_nothing(self, site: Site, sign_in: Callable[..., Caller]) -> None:
        alice = sign_in("alice", Role.EDITOR)
        head = f"POST /api/v1/imports HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}\r\n"

        with wire(site.port) as connection:
            connection.send(f"{head}Content-Type: text/csv\r\nContent-Length: 1000\r\n\r\nsku,name".encode())
            connection.finish()
            answer = connection.read("POST")

        assert answer is None or answer.status == 400
        assert body_of(alice.get("/imports"))["items"] == []
