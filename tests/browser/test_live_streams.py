"""A page of another origin follows prices over both live streams, through nginx, while their server is killed."""

import os
import re
import secrets
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from selenium.webdriver import Chrome

from tests.browser.chromium import chromium, flask, needs_chromium
from tests.browser.served import served
from tests.browser.test_cookie_mode import PAGE
from tests.deploy.test_nginx import nginx
from tests.live.conftest import worker_pids
from tests.live.wire import wait_for
from tests.servers import PROJECT, GunicornServer, gunicorn_server

pytestmark = [*needs_chromium, pytest.mark.timeout(180)]

PASSWORD = "correct horse battery staple"
CUTS = 5
#: What docs/live-streams.md shows.
EXAMPLES = "\n".join(re.findall(r"^```js\n(.*?)^```", (PROJECT / "docs/live-streams.md").read_text(), re.M | re.S))
START = """
const [name, url, token, start] = arguments;
window.seen = [];
const note = (item) => window.seen.push([Date.now() / 1000, item.id, item.data && item.data.price]);
({ follow, connect })[name](url, () => token, note, start);
"""


class Shop:
    """The API as another client sees it, behind nginx."""

    def __init__(self, url: str, host: str) -> None:
        self.url, self.host = url, host
        self._session = requests.Session()
        credentials = {"email": "root@example.com", "password": PASSWORD}
        self.token = self.call("POST", "/auth/login", json=credentials)["access_token"]
        self._session.headers["Authorization"] = f"Bearer {self.token}"

    def call(self, method: str, path: str, **options: Any) -> Any:
        answer = self._session.request(method, f"{self.url}/api/v1{path}", timeout=20, **options)
        assert answer.ok, answer.text
        return answer.json()

    def now(self) -> str:
        return str(self.call("GET", "/events?from=now")["meta"]["next_cursor"])

    def set_price(self, product: int, price: str) -> None:
        self.call("PATCH", f"/products/{product}", json={"price": price}, headers={"If-Match": "*"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # nginx's workers run as another user when it is started by root.
    for place in (tmp_path, *tmp_path.parents[:2]):
        place.chmod(0o755)
    return tmp_path


@pytest.fixture
def site(folder: Path) -> Iterator[tuple[Shop, GunicornServer, str]]:
    """The shop, the server of its streams, and the origin of a page."""
    with ExitStack() as stack:
        page = stack.enter_context(served(PAGE))
        env = {
            "APP_ENV": "production",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "JWT_SECRET_KEY": secrets.token_urlsafe(48),
            "DATABASE_URL": f"sqlite:///{folder / 'catalog.db'}",
            "MEDIA_STORE": (folder / "media").as_uri(),
            "CORS_ORIGINS": page,
            "RATE_LIMIT_ENABLED": "false",
            "TRUSTED_PROXIES": "1",
        }
        flask(env, "db", "upgrade")
        flask(
            env, "create-user", "--email", "root@example.com", "--username", "root", "--role", "admin",
            "--password-stdin", stdin=PASSWORD,
        )  # fmt: skip
        requests_ = stack.enter_context(gunicorn_server({**env, "MAX_STREAMS": "0"}, workers=1))
        streams = stack.enter_context(gunicorn_server({**env, "MAX_STREAMS": "10"}, workers=1))
        port = stack.enter_context(nginx(folder, requests_.port, streams=streams.port))
        yield Shop(f"http://127.0.0.1:{port}", f"127.0.0.1:{port}"), streams, page


def seen_by(browser: Chrome) -> list[tuple[float, int, str | None]]:
    return [tuple(one) for one in browser.execute_script("return window.seen")]


def times_of(browser: Chrome, price: str) -> list[float]:
    """When the page saw a price, in seconds since 1970."""
    return [at for at, _, seen in seen_by(browser) if seen == price]


def time_of(call: Callable[[], Any]) -> float:
    """How long a call takes, in seconds."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("name", "address"), [("follow", "http://{}/api/v1/events/stream"), ("connect", "ws://{}/api/v1/events/ws")]
)
def test_a_page_sees_prices_within_a_second_and_misses_none_when_cut(
    site: tuple[Shop, GunicornServer, str], folder: Path, name: str, address: str
) -> None:
    shop, streams, page = site
    category = shop.call("POST", "/categories", json={"name": "Chairs"})["id"]
    product = shop.call("POST", "/products", json={"name": "Chair", "price": "1.00", "category_id": category})["id"]
    start, delays, reads, prices = shop.now(), [], [], [f"{number}.00" for number in range(2, 2 + 3 * (CUTS + 1))]

    with chromium(folder) as browser:
        browser.set_script_timeout(20)
        browser.get(page)
        browser.execute_script(EXAMPLES + START, name, address.format(shop.host), shop.token, start)
        path = address.partition("{}")[2]
        wait_for(lambda: f'"method":"GET","path":"{path}"' in streams.log())
        for cut in range(CUTS + 1):
            for step, price in enumerate(prices[3 * cut : 3 * cut + 3]):
                if step == 1 and cut < CUTS:
                    # The process goes, and the connection with it; no client hears of what comes next.
                    os.kill(worker_pids(streams, cut + 1)[-1], signal.SIGKILL)
                shop.set_price(product, price)
                written = time.time()
                if step == 0:
                    delays.append(wait_for(partial(times_of, browser, price))[0] - written)
                    reads.append(time_of(partial(shop.call, "GET", f"/products/{product}")))
            if cut < CUTS:
                wait_for(partial(times_of, browser, prices[3 * cut + 2]))
        wait_for(lambda: len(seen_by(browser)) >= len(prices))
        ids = [number for _, number, _ in seen_by(browser)]

    events = [item["id"] for item in shop.call("GET", f"/events?cursor={start}")["items"]]
    assert ids == events
    assert len(events) == len(prices)
    # Of a machine so busy that a read takes its time, no more can be expected of a stream.
    assert statistics.median(delays) < max(1, 5 * statistics.median(reads))
