"""Positions in the feed: after an event, at the end, at a moment, and those after which events are gone."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import Connection, event, func, insert, select, update

from app.core import clock
from app.core.feed import CatalogueState, ChangeEvent
from app.core.listing import CursorInvalid
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.categories.models import Category
from app.features.events import service
from app.features.events.service import CursorExpired

Make = Callable[..., dict[str, Any]]
DAY = timedelta(days=1)


@pytest.fixture
def ids(app: Flask, make_category: Make) -> Iterator[list[int]]:
    """The ids of six events, of which one was recorded on each of the last six days; within a unit of work."""
    for _ in range(6):
        make_category()
    with app.app_context():
        with unit_of_work(reading=True):
            service.number_all_changes()
        with unit_of_work():
            ids = list(db.session.scalars(select(ChangeEvent.id).order_by(ChangeEvent.id)))
            for age, event_id in enumerate(reversed(ids)):
                recorded = update(ChangeEvent).where(ChangeEvent.id == event_id)
                db.session.execute(recorded.values(created_at=clock.now() - age * DAY))
        with unit_of_work():
            yield ids


def prune(days: int) -> None:
    """Prune the events that are older than so many days and a half."""
    service.expire_events(before=clock.now() - (days + 0.5) * DAY)
    while service.prune_events():
        pass


def ids_after(position: int | None, limit: int = 100) -> list[int]:
    return [each.id for each in service.events_after(position, limit=limit)[0]]


class TestEventsAfter:
    def test_are_in_their_order_up_to_a_limit(self, ids: list[int]) -> None:
        events, has_more = service.events_after(ids[1], limit=2)

        assert ([each.id for each in events], has_more) == (ids[2:4], True)
        assert ids_after(ids[3]) == ids[4:]
        assert service.events_after(ids[3], limit=2)[1] is False

    def test_the_end_are_none(self, ids: list[int]) -> None:
        assert service.latest_position() == ids[-1]
        assert ids_after(ids[-1]) == []

    def test_what_is_pruned_are_refused(self, ids: list[int]) -> None:
        prune(2)

        assert ids_after(None) == ids[3:] == ids_after(ids[2])
        with pytest.raises(CursorExpired):
            ids_after(ids[1])
        with pytest.raises(CursorExpired):
            ids_after(0)

    def test_zero_are_all_if_none_is_pruned(self, ids: list[int]) -> None:
        assert ids_after(0)[-6:] == ids


class TestLatestPosition:
    def test_leaves_a_transaction_that_writes_as_it_is(self, app: Flask, make_category: Make) -> None:
        made = make_category()  # which has no number yet
        with app.app_context(), unit_of_work() as unit:
            renamed = update(Category).where(Category.id == made["id"]).values(name="Renamed")
            db.session.execute(renamed)
            assert service.latest_position() == db.session.scalar(select(func.max(ChangeEvent.id)))
            assert not unit.commit_sent

        with app.app_context(), unit_of_work(reading=True):
            assert db.session.scalar(select(Category.name)) == "Renamed"


class TestPositionSince:
    @pytest.mark.parametrize("days", range(5))
    def test_is_before_the_first_event_at_the_moment_or_later(self, ids: list[int], days: int) -> None:
        assert ids_after(service.position_since(clock.now() - (days + 0.5) * DAY)) == ids[5 - days :]

    def test_is_before_all_of_changes_whose_moments_are_in_another_order(self, ids: list[int]) -> None:
        for event_id, age in ((ids[2], 1), (ids[4], 3)):
            recorded = update(ChangeEvent).where(ChangeEvent.id == event_id)
            db.session.execute(recorded.values(created_at=clock.now() - age * DAY))

        assert service.position_since(clock.now() - 2.5 * DAY) == ids[2] - 1

    def test_is_the_latest_where_nothing_has_happened_since(self, ids: list[int]) -> None:
        assert service.position_since(clock.now() + DAY) == ids[-1] == service.latest_position()

    @pytest.mark.usefixtures("ids")
    def test_passes_over_nothing_that_happens_meanwhile(self) -> None:
        moment, engine, inserted = clock.now() + DAY, db.engine, list[str]()
        new = insert(ChangeEvent).values(
            created_at=moment, type="category.created", resource_type="category", resource_id=1, row_version=1
        )

        def write(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
            if "FROM change_events" in statement and not inserted:
                inserted.append(statement)
                connection.execute(new)

        event.listen(engine, "after_cursor_execute", write)
        try:
            position = service.position_since(moment)
        finally:
            event.remove(engine, "after_cursor_execute", write)

        assert inserted
        assert len(ids_after(position)) == 1

    def test_is_good_for_any_moment_while_nothing_is_pruned(self, ids: list[int]) -> None:
        assert ids_after(service.position_since(clock.now() - 400 * DAY))[-6:] == ids

    def test_is_refused_for_a_moment_after_which_events_are_pruned(self, ids: list[int]) -> None:
        prune(2)

        assert ids_after(service.position_since(clock.now() - 2.25 * DAY)) == ids[3:]
        with pytest.raises(CursorExpired):
            service.position_since(clock.now() - 3 * DAY)

    @pytest.mark.usefixtures("ids")
    def test_is_known_where_all_events_are_pruned(self) -> None:
        prune(-2)

        assert service.position_since(clock.now() + 3 * DAY) == service.latest_position()
        with pytest.raises(CursorExpired):
            service.position_since(clock.now())

    def test_is_refused_where_the_release_before_may_have_pruned(self, ids: list[int]) -> None:
        prune(2)
        db.session.execute(update(CatalogueState).values(pruned_before=None))

        assert ids_after(service.position_since(clock.now() - 1.5 * DAY)) == ids[4:]
        with pytest.raises(CursorExpired):
            service.position_since(clock.now() - 2.25 * DAY)

    def test_survives_the_command_that_prunes(self, app: Flask, runner: FlaskCliRunner, make_category: Make) -> None:
        make_category()

        assert runner.invoke(args=["prune"]).exit_code == 0

        with app.app_context(), unit_of_work():
            assert len(ids_after(service.position_since(clock.now() - DAY))) == 1


def test_cursors_are_signed_positions() -> None:
    cursor = service.sign_cursor(42, ["old", "new"])

    assert service.verify_cursor(cursor, ["new"]) == 42
    with pytest.raises(CursorInvalid):
        service.verify_cursor(cursor, ["old"])
