"""The only clock."""

from datetime import UTC, datetime, timedelta

import time_machine

from app.core import clock


class TestNow:
    def test_is_aware_and_in_utc(self) -> None:
        assert clock.now().utcoffset() == timedelta(0)

    def test_is_the_time_of_the_machine(self) -> None:
        moment = datetime(2026, 5, 17, 12, 30, tzinfo=UTC)

        with time_machine.travel(moment, tick=False):
            assert clock.now() == moment
