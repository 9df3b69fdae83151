"""A shop of another origin shows pictures: the browser chooses the rendition that fits, by what docs/media.md shows."""

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from selenium.webdriver import Chrome

from tests.browser.chromium import SECONDS, chromium, flask, needs_chromium
from tests.browser.served import served
from tests.browser.test_cookie_mode import PAGE
from tests.pictures import animation, photo
from tests.servers import PROJECT, gunicorn_server

pytestmark = [*needs_chromium, pytest.mark.timeout(180)]

PASSWORD = "correct horse battery staple"
(EXAMPLE,) = re.findall(r"^```js\n(.*?)^```", (PROJECT / "docs" / "media.md").read_text("utf-8"), re.M | re.S)
#: What the page does: it reads products, and shows all their pictures as wide as the window.
SHOW = """
const [api, done] = arguments;
(async () => {
  const answer = await fetch(api + "/api/v1/products?include=media");
  const {items: [product]} = await answer.json();
  const images = product.media.map((each) => makeImage(each, api, "100vw"));
  document.body.replaceChildren(...images);
  await Promise.all(images.map((each) => each.decode()));
  done(images.map((each) => ({source: each.currentSrc, width: each.naturalWidth, alt: each.alt})));
})();
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Chrome, str, str]]:
    """A browser, the origin of its page, and that of the API, whose one product shows a photograph and an animation."""
    folder: Path = tmp_path_factory.mktemp("pictures")
    with served(PAGE) as page:
        env = {
            "APP_ENV": "production",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "JWT_SECRET_KEY": secrets.token_urlsafe(48),
            "DATABASE_URL": f"sqlite:///{folder / 'catalog.db'}",
            "MEDIA_STORE": (folder / "media").as_uri(),
            "CORS_ORIGINS": page,
            "CATALOG_PUBLIC_READ": "true",
            "RATE_LIMIT_ENABLED": "false",
        }
        flask(env, "db", "upgrade")
        user = ("--email", "root@example.com", "--username", "root", "--role", "admin")
        flask(env, "create-user", *user, "--password-stdin", stdin=PASSWORD)
        with gunicorn_server(env, workers=1) as server, chromium(folder) as browser:
            fill(f"{server.url}/api/v1")
            flask(env, "worker", "--once")
            browser.set_script_timeout(SECONDS)
            yield browser, page, server.url


def fill(api: str) -> None:
    with requests.Session() as session:

        def call(method: str, path: str, **options: Any) -> Any:
            answer = session.request(method, f"{api}{path}", timeout=20, **options)
            assert answer.ok, answer.text
            return answer.json()

        login = {"email": "root@example.com", "password": PASSWORD}
        session.headers["Authorization"] = f"Bearer {call('POST', '/auth/login', json=login)['access_token']}"
        sent = {"A chair": photo(1400, 1050), "A lamp that blinks": animation((90, 60))}
        raw = {"Content-Type": "application/octet-stream"}
        shown = [
            {"media_id": call("POST", "/media", data=content, headers=raw)["id"], "alt": alt}
            for alt, content in sent.items()
        ]
        category = call("POST", "/categories", json={"name": "Chairs"})["id"]
        members = {"name": "Chair", "price": "1.00", "category_id": category, "status": "active"}
        product = call("POST", "/products", json=members)["id"]
        call("PUT", f"/products/{product}/media", json=shown, headers={"If-Match": "*"})


def seen_at(shop: tuple[Chrome, str, str], width: int) -> list[dict[str, Any]]:
    """What a fresh page shows in a window of so many pixels on a screen of a density of one."""
    browser, page, api = shop
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    # A wider picture that is in the cache would be shown in place of a narrower one.
    browser.execute_cdp_cmd("Network.clearBrowserCache", {})
    browser.get(page)
    seen: list[dict[str, Any]] = browser.execute_async_script(EXAMPLE + SHOW, api)
    return seen


@pytest.mark.parametrize(("window", "width"), [(300, 320), (600, 640), (1000, 1280), (1500, 1400)])
def test_the_rendition_fits_the_window(shop: tuple[Chrome, str, str], window: int, width: int) -> None:
    photograph, _ = seen_at(shop, window)

    assert photograph["source"].startswith(f"{shop[2]}/media/")
    assert photograph["source"].endswith(f"-{width}.webp")
    assert photograph["width"] > 0
    assert photograph["alt"] == "A chair"


def test_an_animation_is_shown_as_it_came(shop: tuple[Chrome, str, str]) -> None:
    _, animated = seen_at(shop, 600)

    assert animated["source"].endswith("-90.gif")
    assert animated["width"] > 0
