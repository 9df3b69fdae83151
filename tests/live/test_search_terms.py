"""Search terms of two workers: what each counts adds up, also when the database hangs as it is stored."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from tests.conftest import Caller
from tests.live.conftest import Site, environment
from tests.live.wire import Client, ask, wait_for
from tests.servers import gunicorn_server, hung_postgres

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

SEARCHES = 40


@pytest.fixture
def site(app: Flask) -> Iterator[Site]:
    """Two workers that store what they count every second."""
    with gunicorn_server(environment(app.config["DATABASE_URL"], SEARCH_TERMS_INTERVAL="1"), workers=2) as server:
        yield Site(server, app)


def search(site: Site, caller: Caller, term: str) -> None:
    """Search often, each time over a connection of its own, which any worker may take."""
    for _ in range(SEARCHES):
        assert ask(site.port, f"//api/v1/products?search={term}", caller.token).status == 200


def listed(client: Client) -> dict[str, tuple[int, int]]:
    items: list[dict[str, Any]] = client.get("/search-terms").json["items"]
    return {item["term"]: (item["searches"], item["empty_searches"]) for item in items}


class TestTwoWorkers:
    def test_store_every_search_once(
        self, site: Site, alice: Caller, make_product: Callable[..., Any], connect: Callable[..., Client]
    ) -> None:
        make_product(name="Oak chair")

        for term in ("oak", "beech"):
            search(site, alice, term)

        expected = {"oak": (SEARCHES, 0), "beech": (SEARCHES, SEARCHES)}
        wait_for(lambda: listed(connect(alice)), until=lambda found: found == expected)

    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_keep_what_a_database_that_hangs_does_not_take(
        self, site: Site, alice: Caller, postgres_url: str, connect: Callable[..., Client]
    ) -> None:
        search(site, alice, "oak")
        with hung_postgres(postgres_url):
            # Longer than it is from one time to the next; the threads of both workers have begun to store, and wait.
            wait_for(lambda: ask(site.port, "//readyz").status, until=lambda status: status == 503)

        wait_for(lambda: listed(connect(alice)), until=lambda found: found.get("oak") == (SEARCHES, SEARCHES))
