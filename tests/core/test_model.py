"""Column types: what goes into either database comes out of it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import StatementError

from app.core.model import Json, Money, UtcDateTime, json_type
from app.core.money import MAX_AMOUNT, MIN_AMOUNT
from app.extensions import db

#: The connection is shared by all examples on purpose; each leaves the table empty.
shared_connection = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

SCRATCH = sa.Table(
    "scratch",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("amount", Money()),
    sa.Column("moment", UtcDateTime()),
    sa.Column("document", json_type),
    prefixes=["TEMPORARY"],
)
#: Stores the values in a column, and reads them back in its order.
RoundTrip = Callable[[str, list[Any]], list[Any]]

amounts = st.decimals(MIN_AMOUNT, MAX_AMOUNT, places=4)
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1970, 1, 2), datetime(2900, 1, 1), timezones=offsets)  # noqa: DTZ001 -- bounds are naive


@pytest.fixture
def round_trip(app: Flask) -> Iterator[RoundTrip]:
    """A scratch table on the test's database."""
    with app.app_context(), db.engine.connect() as connection:
        SCRATCH.create(connection)

        def round_trip(column: str, values: list[Any]) -> list[Any]:
            connection.execute(SCRATCH.delete())
            connection.execute(SCRATCH.insert(), [{column: value} for value in values])
            stored = SCRATCH.c[column]
            return list(
                connection.scalars(sa.select(stored).order_by(SCRATCH.c.id if column == "document" else stored))
            )

        yield round_trip
        connection.rollback()


class TestMoney:
    @shared_connection
    @given(st.lists(amounts, min_size=1, max_size=20))
    def test_is_exact_and_in_order(self, round_trip: RoundTrip, values: list[Decimal]) -> None:
        assert round_trip("amount", values) == sorted(values)

    @pytest.mark.parametrize("amount", ["0", "0.0001", "0.10", "0.29", "5", "5.5", "1234567890.12", "9999999999.9999"])
    def test_comes_back_with_four_decimals(self, round_trip: RoundTrip, amount: str) -> None:
        (stored,) = round_trip("amount", [Decimal(amount)])

        assert str(stored) == f"{Decimal(amount):.4f}"

    @pytest.mark.parametrize("amount", ["0.00001", "1.99999", "NaN", "1e-5"])
    def test_refuses_what_would_be_rounded(self, round_trip: RoundTrip, amount: str) -> None:
        with pytest.raises(StatementError, match="at most four decimals"):
            round_trip("amount", [Decimal(amount)])

    def test_may_be_absent(self, round_trip: RoundTrip) -> None:
        assert round_trip("amount", [None]) == [None]

    def test_adds_up_in_the_database(self, app: Flask) -> None:
        dime = sa.literal(Decimal("0.10"), Money())

        with app.app_context():
            total = db.session.scalar(sa.select(sa.type_coerce(dime + dime + dime, Money())))

        assert total == Decimal("0.30")


class TestUtcDateTime:
    @shared_connection
    @given(st.lists(moments, min_size=1, max_size=20))
    def test_keeps_the_moment_and_the_order(self, round_trip: RoundTrip, values: list[datetime]) -> None:
        assert round_trip("moment", values) == sorted(values)

    def test_comes_back_in_utc(self, round_trip: RoundTrip) -> None:
        berlin = timezone(timedelta(hours=2))

        (stored,) = round_trip("moment", [datetime(2026, 5, 17, 1, 30, 0, 123456, tzinfo=berlin)])

        assert stored.isoformat() == "2026-05-16T23:30:00.123456+00:00"

    def test_refuses_to_guess_a_zone(self, round_trip: RoundTrip) -> None:
        with pytest.raises(StatementError, match="needs a time zone"):
            round_trip("moment", [datetime(2026, 5, 17)])  # noqa: DTZ001 -- what is refused

    def test_may_be_absent(self, round_trip: RoundTrip) -> None:
        assert round_trip("moment", [None]) == [None]

    def test_is_compared_across_zones(self, app: Flask) -> None:
        early = sa.literal(datetime(2026, 5, 17, 12, tzinfo=timezone(timedelta(hours=5))), UtcDateTime())
        late = sa.literal(datetime(2026, 5, 17, 11, tzinfo=UTC), UtcDateTime())

        with app.app_context():
            assert db.session.scalar(sa.select(early < late))


class TestJson:
    def test_keeps_types_apart(self, round_trip: RoundTrip) -> None:
        values: list[Any] = [1, 1.0, True, "1", None, [], {}]
        documents = [{"value": value} for value in values]

        stored = round_trip("document", documents)

        assert [repr(document) for document in stored] == [repr(document) for document in documents]

    @pytest.mark.parametrize(
        ("before", "after"),
        [({"a": 1}, {"a": True}), ({"a": 0}, {"a": False}), ({"a": 1}, {"a": 1.0}), (["a", "b"], ["b", "a"]), ({}, [])],
    )
    def test_sees_a_change_of_type_or_order(self, before: Any, after: Any) -> None:
        assert not Json().compare_values(before, after)

    def test_sees_no_change_in_the_order_of_members(self) -> None:
        assert Json().compare_values({"a": 1, "b": [True]}, {"b": [True], "a": 1})
