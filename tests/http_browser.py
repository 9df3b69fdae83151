"""A person with a browser, over plain HTTP: cookies are kept, redirects followed, and forms filled in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import Cookie
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests
from requests.cookies import RequestsCookieJar

#: Seconds for one answer, and redirects in a row.
PATIENCE, REDIRECTS = 60, 20


@dataclass
class Form:
    """A form of a page: where it is sent, what is in its fields, and its buttons with their values."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Forms(HTMLParser):
    """The forms of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get").lower()))
        elif not self.forms or "name" not in given:
            return
        elif tag == "button" or given.get("type") == "submit":
            self.forms[-1].buttons.append((given["name"], given.get("value", "")))
        elif tag == "input" and (given.get("type") not in {"checkbox", "radio"} or "checked" in given):
            self.forms[-1].fields[given["name"]] = given.get("value", "")


@dataclass(frozen=True)
class Page:
    """Where a walk ended: an answer that is no redirect, or the address that was not visited (`answer` is None)."""

    url: str
    answer: requests.Response | None

    @property
    def status(self) -> int:
        assert self.answer is not None, f"not visited: {self.url}"
        return self.answer.status_code

    @property
    def text(self) -> str:
        assert self.answer is not None, f"not visited: {self.url}"
        return self.answer.text

    @property
    def code(self) -> str:
        """The code of a problem."""
        assert self.answer is not None, f"not visited: {self.url}"
        return str(self.answer.json()["code"])

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the address."""
        return dict(parse_qsl(urlsplit(self.url).query))

    @property
    def fragment(self) -> dict[str, str]:
        """The parameters behind the number sign, which no server sees."""
        return dict(parse_qsl(urlsplit(self.url).fragment))

    @property
    def forms(self) -> list[Form]:
        return _Forms(self.text).forms


class _Cookies(RequestsCookieJar):
    """Cookies of a browser, which sends Secure ones to the loopback without TLS too."""

    def set_cookie(self, cookie: Cookie, *args: Any, **options: Any) -> Any:
        cookie.secure = False
        return super().set_cookie(cookie, *args, **options)


class Visitor:
    """A person with a browser of their own."""

    def __init__(self) -> None:
        self.session = requests.Session()
        # No proxy and no password file of the shell's.
        self.session.trust_env = False
        self.session.cookies = _Cookies()

    def open(
        self, url: str, *, until: Callable[[str], bool] = lambda url: False, headers: dict[str, str] | None = None
    ) -> Page:
        """Visit an address and follow redirects, but to where `until` says: that is handed out unvisited."""
        return self._follow("get", url, {}, until, headers)

    def submit(
        self, page: Page, form: Form, *, until: Callable[[str], bool] = lambda url: False, **values: str
    ) -> Page:
        """Send a form with these values in its fields."""
        target = urljoin(page.url, form.action)
        # Browsers say where a form was (Fetch, "append a request `Origin` header").
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(page.url))
        return self._follow(form.method, target, {**form.fields, **values}, until, {"Origin": origin})

    def cookie(self, name: str) -> str | None:
        """The value of a cookie; None without it."""
        return next((cookie.value for cookie in self.session.cookies if cookie.name == name), None)

    def close(self) -> None:
        self.session.close()

    def _follow(
        self,
        method: str,
        url: str,
        values: dict[str, str],
        until: Callable[[str], bool],
        headers: dict[str, str] | None,
    ) -> Page:
        sent = values or None
        for _ in range(REDIRECTS):
            answer = self.session.request(
                method,
                url,
                params=sent if method == "get" else None,
                data=sent if method == "post" else None,
                headers=headers,
                allow_redirects=False,
                timeout=PATIENCE,
            )
            if not answer.is_redirect:
                return Page(url, answer)
            url = urljoin(url, answer.headers["Location"])
            if urlsplit(url).scheme not in {"http", "https"} or until(url):
                return Page(url, None)
            # A 303 and a 302 lead on with GET; nothing here answers 307 or 308.
            method, sent, headers = "get", None, None
        raise AssertionError(f"more than {REDIRECTS} redirects, the last to {url}")
