"""The list of search terms: who sees which, and how they come there."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from app.core import clock
from app.core.pruning import iter_batches
from app.core.transactions import unit_of_work
from app.features.search_terms import counting as counting_module
from app.features.search_terms.service import Count, add_counts, prune_terms, store_counts, week_of
from tests.conftest import Caller, body_of, code_of, faults_of
from tests.rows import mappings_of

PATH = "/search-terms"
Store = Callable[..., None]


@pytest.fixture
def store(app: Flask) -> Store:
    """Store counts of a week."""

    def add(week: str, counts: Mapping[str, tuple[int, int]], **options: Any) -> None:
        with app.app_context(), unit_of_work():
            add_counts(week, {term: Count(*count) for term, count in counts.items()}, **options)

    return add


def terms_in(answer: Any) -> list[tuple[str, str, int, int]]:
    """The items of a list."""
    return [(item["week"], item["term"], item["searches"], item["empty_searches"]) for item in body_of(answer)["items"]]


class TestListSearchTerms:
    @pytest.fixture(autouse=True)
    def counted(self, store: Store) -> None:
        store("2026-W04", {"oak": (5, 0), "pine": (2, 2)})
        store("2026-W05", {"oak": (9, 1), "beech": (2, 0), "a name": (1, 1)})

    def test_shows_the_most_frequent_first(self, alice: Caller) -> None:
        assert terms_in(alice.get(PATH))[:2] == [("2026-W05", "oak", 9, 1), ("2026-W04", "oak", 5, 0)]

    def test_shows_no_term_that_was_searched_for_once(self, root: Caller) -> None:
        answer = root.get(PATH)

        assert "a name" not in answer.text
        assert body_of(answer)["meta"]["total"] == 4

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("results=0&sort_by=term&order=asc", ["oak", "pine"]),
            ("results=0&week=2026-W04", ["pine"]),
            ("week=2026-W04&sort_by=term&order=asc", ["oak", "pine"]),
            ("week=2026-W04,2026-W05&sort_by=empty_searches", ["pine", "oak", "beech", "oak"]),
            ("week=2020-W01", []),
        ],
    )
    def test_filters_and_sorts(self, alice: Caller, query: str, expected: list[str]) -> None:
        assert [term for _, term, _, _ in terms_in(alice.get(f"{PATH}?{query}"))] == expected

    def test_has_keyset_pages(self, alice: Caller) -> None:
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = body_of(alice.get(f"{PATH}?per_page=1&cursor={cursor}"))
            seen += [item["term"] for item in page["items"]]
            cursor = page["meta"]["next_cursor"]

        assert sorted(seen) == ["beech", "oak", "oak", "pine"]

    @pytest.mark.parametrize("query", ["results=1", "results=none", "week=2026", "week=2026-05"])
    def test_refuses_other_values(self, alice: Caller, query: str) -> None:
        answer = alice.get(f"{PATH}?{query}")

        assert (answer.status_code, [name for name, _ in faults_of(answer)]) == (422, [query.partition("=")[0]])

    def test_is_for_editors_and_administrators(self, bob: Caller, anonymous: Caller) -> None:
        assert (bob.get(PATH).status_code, code_of(anonymous.get(PATH))) == (403, "credentials_missing")

    def test_is_for_keys_with_the_scope(self, alice: Caller, anonymous: Caller) -> None:
        keys = [
            body_of(alice.post("/api-keys", {"name": scope, "scopes": [scope]}))["key"]
            for scope in ("search-terms:read", "products:read")
        ]

        statuses = [anonymous.get(PATH, headers={"X-API-Key": key}).status_code for key in keys]

        assert statuses == [200, 403]

    def test_is_stored_by_no_cache(self, alice: Caller) -> None:
        assert alice.get(PATH).headers["Cache-Control"] == "no-store"


class TestAddCounts:
    def test_adds_up(self, store: Store, alice: Caller) -> None:
        for _ in range(3):
            store("2026-W05", {"oak": (2, 1), "pine": (1, 0)})

        assert terms_in(alice.get(f"{PATH}?sort_by=term&order=asc")) == [
            ("2026-W05", "oak", 6, 3),
            ("2026-W05", "pine", 3, 0),
        ]

    def test_stores_a_bounded_number_of_terms_in_a_week(self, store: Store, app: Flask) -> None:
        store("2026-W05", {"a": (1, 0), "b": (1, 0)}, max_terms=3)
        store("2026-W05", {"b": (1, 0), "c": (1, 0), "d": (1, 0)}, max_terms=3)
        store("2026-W05", {"a": (1, 0), "e": (1, 0)}, max_terms=3)
        store("2026-W06", {"e": (1, 0)}, max_terms=3)

        stored = {(row["week"], row["term"]): row["searches"] for row in mappings_of(app, "search_terms")}
        assert stored == {
            ("2026-W05", "a"): 2,
            ("2026-W05", "b"): 2,
            ("2026-W05", "c"): 1,
            ("2026-W06", "e"): 1,
        }

    def test_stores_nothing_of_nothing(self, store: Store, app: Flask) -> None:
        store("2026-W05", {})

        assert mappings_of(app, "search_terms") == []

    def test_stores_as_many_terms_as_a_process_counts(self, store: Store, app: Flask) -> None:
        for _ in range(2):
            store("2026-W05", {f"oak {number}": (1, 1) for number in range(1000)})

        assert {row["searches"] for row in mappings_of(app, "search_terms")} == {2}
        assert len(mappings_of(app, "search_terms")) == 1000


class TestStoreCounts:
    @pytest.fixture
    def searched(self, app: Flask) -> Callable[..., None]:
        """Store searches, one for each term, in a week that holds ten."""

        def search(*terms: str, week: str = "2026-W05") -> None:
            with app.app_context():
                store_counts(week, {term: Count(1, 0) for term in terms}, max_terms=10)

        return search

    def test_lets_new_terms_in_where_one_client_makes_terms_up(self, searched: Callable[..., None], app: Flask) -> None:
        searched("oak")
        searched("oak")
        for number in range(20):
            searched(*(f"made up {number} {one}" for one in "abc"))

        searched("pine")
        searched("pine", "made up again")

        stored = {row["term"]: row["searches"] for row in mappings_of(app, "search_terms")}
        assert (stored["oak"], stored["pine"], len(stored) <= 10) == (2, 2, True)

    def test_deletes_nothing_while_half_of_the_room_is_left(self, searched: Callable[..., None], app: Flask) -> None:
        searched("a", "b", "c")
        searched("d", "e")
        searched("f")

        assert sorted(row["term"] for row in mappings_of(app, "search_terms")) == ["a", "b", "c", "d", "e", "f"]

    def test_then_deletes_the_oldest_as_many_as_are_new(self, searched: Callable[..., None], app: Flask) -> None:
        searched("z", week="2026-W04")
        searched("a", "b", "c", "d", "e", "f")
        searched("x")
        searched("b", "c", "y")

        stored = {row["term"]: row["searches"] for row in mappings_of(app, "search_terms")}
        # One for x and one for y: those that came first, and neither what is shown nor what is searched for again.
        assert stored == {"z": 1, "b": 2, "c": 2, "e": 1, "f": 1, "x": 1, "y": 1}

    def test_deletes_no_term_that_is_shown(self, searched: Callable[..., None], app: Flask) -> None:
        for _ in range(2):
            searched(*"abcdefghij")

        searched("x")

        assert sorted(row["term"] for row in mappings_of(app, "search_terms")) == list("abcdefghij")


class TestPruneTerms:
    def test_deletes_what_is_old_and_what_will_never_be_shown(self, store: Store, app: Flask) -> None:
        now = clock.now()
        weeks = {age: week_of(now - timedelta(weeks=age)) for age in (0, 2, 8, 9)}
        for week in weeks.values():
            store(week, {"oak": (2, 0), "a name": (1, 0)})

        with app.app_context():
            deleted = sum(iter_batches(prune_terms))

        left = {(row["week"], row["term"]) for row in mappings_of(app, "search_terms")}
        assert left == {
            (weeks[0], "oak"),
            (weeks[0], "a name"),
            (weeks[2], "oak"),
            (weeks[8], "oak"),
        }
        assert deleted == 4


class TestASearch:
    @pytest.fixture
    def counting(self, app_with: Callable[..., Flask]) -> Flask:
        """An application that counts, and that stores nothing by itself within a test."""
        return app_with(search_terms_interval=3600)

    @staticmethod
    def counts(app: Flask) -> dict[str, tuple[int, int]]:
        app.extensions["search_counter"].flush()
        return {row["term"]: (row["searches"], row["empty_searches"]) for row in mappings_of(app, "search_terms")}

    def test_is_counted_whether_its_response_is_new_or_cached(
        self, counting: Flask, alice: Caller, bob: Caller, make_product: Callable[..., Any]
    ) -> None:
        make_product(name="Oak chair")

        for caller in (alice, alice, bob):
            for search in ("Oak+chair", "beech"):
                assert caller.on(counting).get(f"/products?search={search}").status_code == 200

        assert self.counts(counting) == {"oak chair": (3, 0), "beech": (3, 3)}
        assert terms_in(alice.get(f"{PATH}?results=0")) == [(week_of(clock.now()), "beech", 3, 3)]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("search=beech&min_price=5.00&currency=USD", {"beech": (1, 0)}),
            ("search=beech&page=2", {}),
            ("search=beech&page=1", {"beech": (1, 1)}),
            ("search=beech&cursor=", {"beech": (1, 1)}),
            ("search=bob%40example.com", {}),
            ("search=4111+1111+1111+1111", {}),
            ("search=beech&surprise=1", {}),
            ("", {}),
        ],
    )
    def test_is_counted_once_and_by_its_first_page(
        self, counting: Flask, alice: Caller, query: str, expected: dict[str, tuple[int, int]]
    ) -> None:
        alice.on(counting).get(f"/products?{query}")

        assert self.counts(counting) == expected

    def test_is_not_counted_where_that_is_turned_off(self, app_with: Callable[..., Flask], alice: Caller) -> None:
        silent = app_with(search_terms_interval=0)

        assert alice.on(silent).get("/products?search=beech").status_code == 200
        assert "search_counter" not in silent.extensions

    def test_is_answered_although_nothing_can_be_stored(
        self, counting: Flask, alice: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(counting_module, "store_counts", _fail)

        answers = [alice.on(counting).get(f"/products?search={search}") for search in ("beech", "oak")]
        counting.extensions["search_counter"].flush()

        assert [answer.status_code for answer in answers] == [200, 200]
        monkeypatch.undo()
        assert self.counts(counting) == {"beech": (1, 1), "oak": (1, 1)}


def _fail(*_: Any) -> None:
    raise TimeoutError
