"""What the benchmark rests on: it asks nothing twice, and keeps what it found."""

from itertools import product
from pathlib import Path

import pytest

from app.security.tokens import MAX_CACHED_TOKENS
from benchmarks.catalogue import EDITORS
from benchmarks.load import Measured
from benchmarks.results import Results, Section, Steady, Workers
from benchmarks.scenarios import Subject

#: More than a server answers in all the rounds of a scenario.
REQUESTS = 60_000

SUBJECT = Subject(
    tokens=["a", "b"],
    categories=list(range(1, 23)),
    trees=[30, 31],
    products=list(range(1, REQUESTS + 1)),
    stocked=list(range(1, REQUESTS + 1)),
    words=list(product(("oak", "ash", "elm"), ("chair", "table"))),
    category_of_new=40,
    forgives_typos=True,
)


def section(name: str, *rates: float) -> Section:
    """A scenario with a round for each rate."""
    made = Section(name, 16, "how")
    for rate in rates:
        made.add("ours", Measured(rate, 1.0, 2.0, 300.0, 100.0, 10.0))
    return made


class TestSubject:
    @pytest.mark.parametrize("kind", ["list", "detail", "category", "search", "search_in_vain", "facets", "movement"])
    def test_asks_nothing_twice(self, kind: str) -> None:
        make = getattr(SUBJECT, kind)

        asked = {make(number) for number in range(REQUESTS)}

        assert len(asked) == REQUESTS

    def test_mixes_one_write_into_nineteen_reads(self) -> None:
        asked = [SUBJECT.mix(number) for number in range(2000)]

        assert sum(bool(request.body) for request in asked) == 100

    def test_has_more_tokens_than_are_remembered(self) -> None:
        assert EDITORS >= 5 * MAX_CACHED_TOKENS


class TestResults:
    def test_come_back_from_their_file(self, tmp_path: Path) -> None:
        results = Results([section("list", 10.5, 11.5)], {"ours": Workers(36.0, 0.5, 0.25)}, Steady(10, 0, 1.0, 2.0))

        results.write(tmp_path / "results.json")

        assert Results.read(tmp_path / "results.json") == results

    def test_of_a_scenario_replace_the_former_ones_in_their_place(self) -> None:
        results = Results([section("list", 1), section("detail", 1), section("create", 1)])

        results.replace([section("detail", 2)])

        assert [each.scenario for each in results.sections] == ["list", "detail", "create"]
        assert results.sections[1] == section("detail", 2)
