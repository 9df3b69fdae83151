"""The metrics that the database knows: what they say, what they cost, and what becomes of them without it."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask
from sqlalchemy import event, text, update
from sqlalchemy.exc import OperationalError

from app import create_app
from app.core import clock, jobs
from app.core.feed import CatalogueState, require_state
from app.core.jobs import Job, JobStatus
from app.core.transactions import unit_of_work
from app.core.workers import SILENT_SECONDS, WORKER_RETENTION, Presence, WorkerKind
from app.extensions import db
from app.features.auth.guard import FAILURE_WINDOW
from app.features.auth.models import MAX_FAILURES_PER_ACCOUNT, MAX_FAILURES_PER_NETWORK
from app.features.monitoring import collector as collecting
from app.features.monitoring import service
from app.features.monitoring.collector import DatabaseCollector
from config import VERSION
from tests.conftest import Caller, settings_for
from tests.rows import MOMENT, ROWS, STAMPS

#: A row of each table, with those that no other test writes.
EXAMPLES: dict[str, dict[str, Any]] = {
    **ROWS,
    "change_log": {**ROWS["change_events"], "xid": 1, "scopes": "{}"},
    "media_assets": {
        "id": 1,
        "status": "ready",
        "is_animated": False,
        "sources": "[]",
        "used_at": MOMENT,
        "is_settled": True,
        **STAMPS,
    },
}

Labels = tuple[tuple[str, str], ...]
Found = dict[tuple[str, Labels], float]
Make = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine is no database that hangs.
    monkeypatch.setattr(collecting, "TIMEOUT", 30)
    monkeypatch.setattr(service, "STATEMENT_TIMEOUT", "20s")


@pytest.fixture
def collector(app: Flask) -> DatabaseCollector:
    return DatabaseCollector(app.app_context)


@pytest.fixture
def read(app: Flask) -> Callable[[], Found]:
    """What is found now."""

    def read() -> Found:
        return found_by(DatabaseCollector(app.app_context))

    return read


def found_by(collector: DatabaseCollector) -> Found:
    return {
        (sample.name.removeprefix("catalog_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def names_of(found: Found) -> set[str]:
    return {name for name, _ in found}


def of(found: Found, name: str) -> dict[tuple[str, ...], float]:
    """The samples of a metric, by the values of its labels."""
    return {tuple(value for _, value in labels): number for (one, labels), number in found.items() if one == name}


def order(kind: str, status: JobStatus = JobStatus.QUEUED, *, due_in: float = 0, number: int = 1) -> None:
    with unit_of_work():
        for _ in range(number):
            job = jobs.enqueue(kind, {}, due_at=clock.now() + timedelta(seconds=due_in))
            lease = "0" * 32 if status == JobStatus.RUNNING else None
            db.session.execute(update(Job).where(Job.id == job.id).values(status=status, lease=lease))


def insert(table: str, **columns: Any) -> None:
    row = {**EXAMPLES[table], **columns}
    with unit_of_work():
        names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
        db.session.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), row)


def ago(**time: float) -> str:
    return (clock.now() - timedelta(**time)).isoformat(" ")


@pytest.mark.usefixtures("app")
class TestQueues:
    @pytest.fixture(autouse=True)
    def context(self, app: Flask) -> Iterator[None]:
        with app.app_context():
            yield

    def test_of_an_empty_catalogue_have_nothing_in_them(self, read: Callable[[], Found]) -> None:
        found = read()

        assert of(found, "database_up") == {(): 1}
        assert of(found, "jobs") == of(found, "media") == of(found, "worker_last_seen_seconds") == {}
        assert of(found, "workers") == {("worker",): 0, ("celery",): 0, ("server",): 0}
        assert of(found, "webhook_lag_seconds") == {("feed",): 0, ("delivery",): 0}
        assert of(found, "accounts_blocked") == {(): 0}

    def test_have_jobs_by_kind_and_status(self, read: Callable[[], Found]) -> None:
        order("import", number=3)
        order("import", JobStatus.RUNNING, due_in=60)
        order("import", JobStatus.FAILED, number=2)
        order("media", due_in=3600)
        for ended in (JobStatus.SUCCEEDED, JobStatus.CANCELLED):
            order("import", ended)

        assert of(read(), "jobs") == {
            ("import", "queued"): 3,
            ("import", "running"): 1,
            ("import", "failed"): 2,
            ("media", "queued"): 1,
        }

    def test_say_for_how_long_the_oldest_job_of_a_kind_is_due(self, read: Callable[[], Found]) -> None:
        order("import", due_in=-300)
        order("import", due_in=-5)
        order("import", JobStatus.FAILED, due_in=-9000)
        order("media", due_in=3600)

        found = of(read(), "jobs_oldest_due_seconds")

        assert 300 <= found["import",] < 360
        assert found["media",] == 0
        assert len(found) == 2

    def test_have_no_more_than_are_counted(self, read: Callable[[], Found], monkeypatch: pytest.MonkeyPatch) -> None:
        order("import", due_in=-5, number=4)
        order("media", due_in=-300)
        order("media", JobStatus.FAILED, number=5)
        monkeypatch.setattr(service, "MAX_COUNTED", 3)

        found = read()

        # The oldest are among them.
        assert of(found, "jobs") == {("media", "queued"): 1, ("import", "queued"): 2, ("media", "failed"): 3}
        assert of(found, "jobs_oldest_due_seconds")["media",] >= 300

    def test_have_workers_until_they_end_or_are_silent(self, read: Callable[[], Found]) -> None:
        first, second = (Presence(kind, version=VERSION) for kind in (WorkerKind.WORKER, WorkerKind.WORKER))
        first.note()
        second.note()
        both = read()
        second.withdraw()
        one = read()
        with time_machine.travel(clock.now() + timedelta(seconds=SILENT_SECONDS + 5), tick=True):
            none = read()
        with time_machine.travel(clock.now() + WORKER_RETENTION, tick=True):
            forgotten = read()

        each = [of(found, "workers")["worker",] for found in (both, one, none, forgotten)]
        silent = [of(found, "workers_silent")["worker",] for found in (both, one, none, forgotten)]
        assert (each, silent) == ([2, 1, 0, 0], [0, 0, 1, 0])
        assert 0 <= of(one, "worker_last_seen_seconds")["worker",] < SILENT_SECONDS
        assert of(none, "worker_last_seen_seconds")["worker",] >= SILENT_SECONDS
        assert of(forgotten, "worker_last_seen_seconds") == {}

    def test_have_the_accounts_that_refuse_logins(self, read: Callable[[], Found]) -> None:
        enough, network = MAX_FAILURES_PER_NETWORK, {"network": "192.0.2.0/24"}
        insert("network_login_failures", account="a" * 64, failures=enough, first_at=ago(seconds=1), **network)
        insert("login_failures", account="a" * 64, failures=MAX_FAILURES_PER_ACCOUNT, first_at=ago(seconds=1))
        insert("login_failures", account="b" * 64, failures=MAX_FAILURES_PER_ACCOUNT, first_at=ago(seconds=1))
        insert("login_failures", account="c" * 64, failures=MAX_FAILURES_PER_ACCOUNT - 1, first_at=ago(seconds=1))
        insert("network_login_failures", account="d" * 64, failures=enough - 1, first_at=ago(seconds=1), **network)
        over = ago(seconds=FAILURE_WINDOW.total_seconds() + 1)
        insert("network_login_failures", account="e" * 64, failures=enough, first_at=over, **network)

        assert of(read(), "accounts_blocked") == {(): 2}

    def test_have_pictures_that_are_not_ready(self, read: Callable[[], Found]) -> None:
        for number, status in enumerate(["processing", "processing", "failed", "ready", "ready"]):
            insert("media_assets", id=number + 1, sha256=f"{number}" * 64, status=status)

        assert of(read(), "media") == {("processing",): 2, ("failed",): 1}


class TestWebhooks:
    @pytest.fixture
    def endpoint(self, app: Flask, root: Caller) -> Callable[..., None]:
        """Add an endpoint, and messages for it, by when they are due."""

        def add(number: int, *, due: tuple[str, ...] = (), **columns: Any) -> None:
            with app.app_context():
                webhook = {"id": number, "user_id": root.user_id, "job_id": None, "events": '["*"]'}
                insert("webhooks", **{**webhook, "starts_after": 10**6, **columns})
                for place, moment in enumerate(due):
                    one = {"id": 100 * number + place, "webhook_id": number, "resource_id": place, "due_at": moment}
                    insert("webhook_deliveries", **one)

        return add

    def test_are_counted_by_state(self, endpoint: Callable[..., None], read: Callable[[], Found]) -> None:
        endpoint(1)
        endpoint(2, paused_until=ago(minutes=-5))
        endpoint(3, is_enabled=False)
        endpoint(4, paused_until=ago(minutes=5))
        endpoint(5, is_enabled=False, deleted_at=ago(minutes=5))

        assert of(read(), "webhooks") == {("enabled",): 2, ("paused",): 1, ("disabled",): 1}

    def test_lag_by_the_oldest_message_of_those_that_are_sent_any(
        self, endpoint: Callable[..., None], read: Callable[[], Found]
    ) -> None:
        endpoint(1, due=(ago(seconds=40), ago(seconds=90), ago(hours=-1)))
        endpoint(2, due=(ago(hours=1),), paused_until=ago(minutes=-5))
        endpoint(3, due=(ago(hours=1),), is_enabled=False)

        assert 90 <= of(read(), "webhook_lag_seconds")["delivery",] < 150

    def test_do_not_lag_by_what_is_not_due(self, endpoint: Callable[..., None], read: Callable[[], Found]) -> None:
        endpoint(1, due=(ago(hours=-1),))

        assert of(read(), "webhook_lag_seconds") == {("feed",): 0, ("delivery",): 0}

    def test_lag_behind_the_feed_from_the_first_change_that_no_worker_has_queued(
        self, endpoint: Callable[..., None], read: Callable[[], Found], make_product: Make
    ) -> None:
        endpoint(1, starts_after=0)
        make_product()

        with time_machine.travel(clock.now() + timedelta(minutes=5), tick=True):
            assert 300 <= of(read(), "webhook_lag_seconds")["feed",] < 360

    def test_do_not_where_no_endpoint_hears_of_it(
        self, endpoint: Callable[..., None], read: Callable[[], Found], make_product: Make
    ) -> None:
        endpoint(1, is_enabled=False, starts_after=0)
        make_product()

        with time_machine.travel(clock.now() + timedelta(minutes=5), tick=True):
            assert of(read(), "webhook_lag_seconds")["feed",] == 0

    def test_do_not_once_a_worker_has_queued_it(
        self, app: Flask, endpoint: Callable[..., None], read: Callable[[], Found], make_product: Make
    ) -> None:
        endpoint(1, starts_after=0)
        make_product()
        app.test_cli_runner().invoke(args=["worker", "--once"], catch_exceptions=False)

        with time_machine.travel(clock.now() + timedelta(minutes=5), tick=True):
            assert of(read(), "webhook_lag_seconds")["feed",] == 0


class TestCost:
    def test_is_six_statements_for_all_who_ask_within_a_while(self, app: Flask, collector: DatabaseCollector) -> None:
        statements: list[str] = []
        with app.app_context():
            engine = db.engine

        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            statements.append(statement)

        event.listen(engine, "before_cursor_execute", note)
        try:
            found = [found_by(collector) for _ in range(5)]
        finally:
            event.remove(engine, "before_cursor_execute", note)

        assert len([one for one in statements if one.startswith("SELECT")]) <= 6
        assert all(of(one, "database_up") == {(): 1} for one in found)

    def test_is_parts_of_indexes(self, app: Flask, backend: str, root: Caller) -> None:
        big = ("jobs", "webhook_deliveries", "media_assets", "change_events", "change_log", "login_failures")
        with app.app_context():
            fill(app, root.user_id or 0)
            plans = "\n".join(plan_of(statement, backend) for statement in statements())

        scan = "SCAN {0}\n" if backend == "sqlite" else "Seq Scan on {0}"
        assert [table for table in (*big, "network_login_failures") if scan.format(table) in f"{plans}\n"] == []
        # Of the open jobs and the failed ones, SQLite chooses by what it happens to know of the table.
        for indexes in (
            ("ix_jobs_due_at_id", "ix_jobs_status_id"),
            ("ix_media_assets_status_id",),
            ("ix_webhook_deliveries_due",),
        ):
            assert any(index in plans for index in indexes)


#: A row of each table for each number, in the words that both databases have.
MANY = 20_000
NUMBERS = {
    "sqlite": f"(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY}) SELECT i FROM n)",
    "postgresql": f"(SELECT i FROM generate_series(1, {MANY}) AS i)",
}


def fill(app: Flask, user_id: int) -> None:
    """Tables with very much that is over, and the statistics of that."""
    insert("webhooks", user_id=user_id, job_id=None)
    with unit_of_work():
        db.session.execute(require_state())
        db.session.execute(update(CatalogueState).values(log_id=MANY))
    over = {
        "jobs": {"status": "'succeeded'", "key": "NULL", "id": "i"},
        "webhook_deliveries": {"id": "i", "status": "'delivered'", "resource_id": "i"},
        "media_assets": {"id": "i", "status": "'ready'", "sha256": "NULL"},
        "change_events": {"id": "i"},
        "change_log": {"id": "i"},
        "login_failures": {"account": "CAST(i AS TEXT)"},
        "network_login_failures": {"account": "CAST(i AS TEXT)"},
    }
    with unit_of_work():
        for table, columns in over.items():
            row = {name: repr(value) if isinstance(value, str) else value for name, value in EXAMPLES[table].items()}
            row |= columns
            names, values = ", ".join(row), ", ".join(str(value) for value in row.values())
            numbers = NUMBERS[db.engine.dialect.name]
            db.session.execute(text(f"INSERT INTO {table} ({names}) SELECT {values} FROM {numbers} AS numbers"))
        db.session.execute(text("ANALYZE"))


def statements() -> list[Any]:
    now = clock.now()
    return [
        service.jobs_by_kind(),
        service.webhooks_by_state(now),
        service.unqueued_changes(MANY - 5),
        service.media_by_status(),
        service.blocked_accounts(now),
    ]


def plan_of(statement: Any, backend: str) -> str:
    compiled = statement.compile(db.engine, compile_kwargs={"literal_binds": True})
    with unit_of_work(reading=True):
        if backend == "sqlite":
            return "\n".join(row[3] for row in db.session.execute(text(f"EXPLAIN QUERY PLAN {compiled}")))
        return "\n".join(db.session.scalars(text(f"EXPLAIN (COSTS OFF) {compiled}")))


class TestWithoutTheDatabase:
    def test_there_is_no_other_metric(self) -> None:
        gone = create_app(settings_for("sqlite:////nowhere/catalog.db"))

        found = found_by(DatabaseCollector(gone.app_context))

        assert of(found, "database_up") == {(): 0}
        assert names_of(found) == {"database_up"}

    def test_that_hangs_a_scrape_goes_on_within_a_while(
        self, app: Flask, anonymous: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        over, asked = threading.Event(), []

        def hang() -> service.Queues:
            asked.append(1)
            over.wait(30)
            return service.Queues()

        monkeypatch.setattr(collecting, "TIMEOUT", 0.2)
        monkeypatch.setattr(service, "read_queues", hang)
        collector = DatabaseCollector(app.app_context)
        try:
            found = [found_by(collector) for _ in range(3)]
        finally:
            over.set()

        assert [names_of(one) for one in found] == [{"database_up"}] * 3
        assert {of(one, "database_up")[()] for one in found} == {0}
        assert asked == [1]

    def test_that_is_only_slow_is_up(self, app: Flask, collector: DatabaseCollector, monkeypatch: Any) -> None:
        class Canceled(Exception):
            sqlstate = "57014"

        def be_slow() -> service.Queues:
            raise OperationalError("SELECT", {}, Canceled())

        monkeypatch.setattr(service, "read_queues", be_slow)

        found = found_by(collector)

        assert of(found, "database_up") == {(): 1}
        assert names_of(found) == {"database_up"}


def test_are_among_the_metrics_of_the_server(app_with: Callable[..., Flask], anonymous: Caller) -> None:
    exposed = anonymous.on(app_with(log_level="ERROR")).get("//metrics").text

    assert f'catalog_build_info{{commit="unknown",version="{VERSION}"}} 1.0' in exposed
    assert "catalog_database_up 1.0" in exposed
    assert 'catalog_workers{kind="worker"} 0.0' in exposed
