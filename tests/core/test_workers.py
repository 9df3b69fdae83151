"""The processes that run jobs: what each writes of itself, how often, and what becomes of it."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import time_machine
from flask import Flask
from sqlalchemy import Row, select, text

from app.api.pruning import delete_expired
from app.core import clock, workers
from app.core.lanes import Crew
from app.core.transactions import unit_of_work
from app.core.workers import WORKER_RETENTION, Presence, WorkerKind, WorkerProcess
from app.extensions import db
from tests.live.wire import wait_for


@pytest.fixture
def presence() -> Presence:
    return Presence(WorkerKind.WORKER, version="1.2.3")


def note(app: Flask, presence: Presence) -> None:
    with app.app_context():
        presence.note()


def rows(app: Flask) -> Sequence[Row[Any]]:
    table = WorkerProcess.metadata.tables["workers"]
    with app.app_context(), unit_of_work(reading=True):
        return db.session.execute(select(table).order_by(table.c.seen_at)).all()


class TestPresence:
    def test_is_one_row_for_each_process(self, app: Flask, presence: Presence) -> None:
        note(app, presence)
        note(app, Presence(WorkerKind.CELERY, version="1.2.4"))

        assert [(row.kind, row.version) for row in rows(app)] == [("worker", "1.2.3"), ("celery", "1.2.4")]
        assert len({row.id for row in rows(app)}) == 2

    def test_is_written_every_few_seconds(
        self, app: Flask, presence: Presence, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        note(app, presence)
        first = rows(app)
        note(app, presence)
        second = rows(app)
        monkeypatch.setattr(workers, "BEAT_SECONDS", 0)
        note(app, presence)
        third = rows(app)

        assert first[0].seen_at == second[0].seen_at < third[0].seen_at
        assert first[0].started_at == third[0].started_at

    def test_costs_nothing_where_it_cannot_be_written(self, app: Flask, presence: Presence) -> None:
        with app.app_context():
            with unit_of_work():
                db.session.execute(text("ALTER TABLE workers RENAME TO elsewhere"))
            try:
                presence.note()
                presence.withdraw()
            finally:
                with unit_of_work():
                    db.session.execute(text("ALTER TABLE elsewhere RENAME TO workers"))
            presence.note()

        assert len(rows(app)) == 1

    @pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
    def test_does_not_wait_for_another_writer(self, app: Flask, presence: Presence) -> None:
        with app.app_context(), unit_of_work():
            db.session.execute(text("DELETE FROM workers"))
            beating = threading.Thread(target=note, args=(app, presence))
            beating.start()
            # SQLite's other writers wait for ten seconds.
            beating.join(timeout=5)
            assert not beating.is_alive()

        assert rows(app) == []

    def test_goes_on_by_itself_where_nothing_else_notes_it(
        self, app: Flask, presence: Presence, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(workers, "BEAT_SECONDS", 0.01)
        with presence.kept_up(app.app_context):
            first = wait_for(lambda: rows(app))[0].seen_at
            wait_for(lambda: rows(app)[0].seen_at > first)

    def test_of_a_process_that_died_is_forgotten_after_a_day(self, app: Flask, presence: Presence) -> None:
        note(app, presence)
        with time_machine.travel(clock.now() + WORKER_RETENTION, tick=True), app.app_context():
            note(app, Presence(WorkerKind.CELERY, version="1.2.3"))
            pruned = sum(number for what, number in delete_expired() if what == "workers")

        assert pruned == 1
        assert [row.kind for row in rows(app)] == ["celery"]


class TestCrew:
    def test_is_present_while_it_works_and_says_goodbye(self, app: Flask, presence: Presence) -> None:
        over, polls = threading.Event(), threading.Event()
        crew = Crew({}, app.app_context, stop=over.is_set, presence=presence, on_poll=polls.set)
        working = threading.Thread(target=crew.run, args=(over.wait,))
        working.start()
        try:
            assert wait_for(lambda: [row.kind for row in rows(app)]) == ["worker"]
            assert polls.is_set()
        finally:
            over.set()
            working.join(timeout=30)

        assert rows(app) == []
