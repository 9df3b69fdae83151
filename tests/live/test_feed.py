"""The change feed beside writers whose transactions overlap, with two workers."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Caller
from tests.live.wire import Client

pytestmark = pytest.mark.live

Connect = Callable[..., Client]
Make = Callable[..., dict[str, Any]]

WRITERS = 16
WRITES = 12


class TestAReaderOfTheFeed:
    def test_sees_every_change_once_while_sixteen_write(
        self, root: Caller, connect: Connect, make_category: Make
    ) -> None:
        category = make_category()
        reader = connect(root)
        cursor = reader.get("/events?from=now").json["meta"]["next_cursor"]
        over = threading.Event()
        written: list[tuple[int, int]] = []

        def write(number: int, client: Client) -> None:
            for step in range(WRITES):
                content = {"name": f"{number}-{step}", "price": "1.00", "category_id": category["id"]}
                made = client.post("/products", content).json
                written.append((made["id"], 1))
                changed = client.patch(f"/products/{made['id']}", {"price": "2.00"}, if_match="*").json
                written.append((made["id"], changed["version"]))

        def read(cursor: str) -> list[dict[str, Any]]:
            seen: list[dict[str, Any]] = []
            while True:
                # Asked before reading: what is committed later than that is not this reader's last page.
                last = over.is_set()
                page = reader.get(f"/events?cursor={cursor}&per_page=7").json
                seen += page["items"]
                cursor = page["meta"]["next_cursor"]
                if last and not page["meta"]["has_more"]:
                    return seen

        with ThreadPoolExecutor(WRITERS + 1) as threads:
            reading = threads.submit(read, cursor)
            writing = [threads.submit(write, number, connect(root)) for number in range(WRITERS)]
            try:
                for one in writing:
                    one.result(timeout=120)
            finally:
                over.set()
            seen = reading.result(timeout=60)

        assert sorted((item["resource_id"], item["version"]) for item in seen) == sorted(written)
        assert [item["id"] for item in seen] == sorted({item["id"] for item in seen})
