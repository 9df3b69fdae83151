"""Logging in with an identity provider: a real one, written by others, on the loopback; two workers of ours."""

import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from json import dumps
from secrets import token_urlsafe
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pytest
from flask import Flask

from app.clients.oidc import RENEWAL_INTERVAL
from tests.conftest import Caller, on_one_database, rows_of
from tests.http_browser import Page, Visitor
from tests.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider, identity_provider
from tests.live.conftest import Site, environment, only, worker_pids
from tests.live.wire import Answer, Client, at_once, wait_for
from tests.node import needs_node
from tests.servers import free_port, gunicorn_server

pytestmark = [pytest.mark.live, needs_node]

Visit = Callable[[], Visitor]

#: Two providers of the settings: the accounts of one are believed to be of whom their addresses say.
TRUSTED, STRANGER = "staff", "social"
APP_RETURN = "org.example.shop:/logged-in"
ADMINS = "catalogue-admins"
HOUR = 3600


@dataclass(frozen=True)
class Place(Site):
    """A server of ours, and the providers that it knows."""

    providers: dict[str, IdentityProvider]

    @property
    def api(self) -> str:
        return f"{self.server.url}/api/v1"

    @property
    def trusted(self) -> IdentityProvider:
        return self.providers[TRUSTED]

    @property
    def stranger(self) -> IdentityProvider:
        return self.providers[STRANGER]

    def is_callback(self, url: str) -> bool:
        """Whether an address is one that a provider sends browsers back to."""
        return url.startswith(f"{self.api}/auth/oidc/") and urlsplit(url).path.endswith("/callback")

    def is_landing(self, url: str) -> bool:
        """Whether an address is of a page of ours: where a login ends."""
        return url.startswith(self.server.url) and not url.startswith(f"{self.api}/")


@contextmanager
def place(app: Flask) -> Iterator[Place]:
    """A server of ours on the database of an application, with both providers."""
    port = free_port()
    api = f"http://127.0.0.1:{port}/api/v1"
    with ExitStack() as stack:
        providers = {
            name: stack.enter_context(
                identity_provider(
                    redirect_uris=[f"{api}/auth/oidc/{name}/callback"],
                    backchannel_logout_uri=f"{api}/auth/oidc/{name}/backchannel-logout",
                )
            )
            for name in (TRUSTED, STRANGER)
        }
        client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        settings: dict[str, dict[str, Any]] = {
            name: {"issuer": provider.issuer, **client} for name, provider in providers.items()
        }
        settings[TRUSTED] |= {"trusted": True, "role_claim": "groups", "roles": {ADMINS: "admin"}}
        env = environment(
            app.config["DATABASE_URL"],
            # Production takes providers over TLS alone.
            APP_ENV="testing",
            OIDC_PROVIDERS=dumps(settings),
            LOGIN_RETURN_URLS=APP_RETURN,
            # The guard of outbound requests keeps to public addresses.
            WEBHOOK_ALLOWED_PRIVATE_HOSTS="127.0.0.1",
        )
        server = stack.enter_context(gunicorn_server(env, workers=2, threads=8, port=port))
        yield Place(server, app, providers)


@pytest.fixture(scope="module")
def places(databases: Callable[[str], Flask]) -> Iterator[Callable[[str], Place]]:
    """The servers, each started when it is first asked for."""
    made: dict[str, Place] = {}
    with ExitStack() as stack:

        def give(backend: str) -> Place:
            if backend not in made:
                made[backend] = stack.enter_context(place(databases(backend)))
            return made[backend]

        yield give


@pytest.fixture
def site(backend: str, places: Callable[[str], Place], app: Flask) -> Place:
    """A server on an empty database, for tests after which the providers are as before."""
    return places(backend)


@pytest.fixture
def fresh(app: Flask) -> Iterator[Place]:
    """A server, and providers whose keys it has not read and which a test may stop."""
    with place(app) as made:
        yield made


@pytest.fixture
def visit() -> Iterator[Visit]:
    """Another person, or the same with another browser."""
    with ExitStack() as stack:

        def visit() -> Visitor:
            visitor = Visitor()
            stack.callback(visitor.close)
            return visitor

        yield visit


def go(visitor: Visitor, url: str, subject: str, *, until: Callable[[str], bool]) -> Page:
    """Visit an address, and fill in the pages of the provider."""
    page = visitor.open(url, until=until)
    while page.answer is not None and page.status == 200 and page.forms:
        form = page.forms[0]
        values = {"login": subject, "password": "any"} if "login" in form.fields else {}
        page = visitor.submit(page, form, until=until, **values)
    return page


def start_of(place: Place, name: str, **query: str) -> str:
    """Where a login with a provider begins."""
    return f"{place.api}/auth/oidc/{name}?{urlencode({'return_to': '/docs', **query})}"


def log_in(place: Place, visitor: Visitor, subject: str, name: str = TRUSTED) -> Page:
    """Log in as an account of a provider; the page of ours where it ended, unvisited."""
    page = go(visitor, start_of(place, name), subject, until=place.is_landing)
    assert page.answer is None, page.text
    return page


def callback_of(place: Place, visitor: Visitor, subject: str, name: str = TRUSTED) -> str:
    """The address that the provider sends a browser back to, which has not been there yet."""
    page = go(visitor, start_of(place, name), subject, until=place.is_callback)
    assert page.answer is None, page.text
    return page.url


def with_query(url: str, **changed: str | None) -> str:
    """An address with other parameters; None takes one away."""
    parts = urlsplit(url)
    query = {**dict(parse_qsl(parts.query)), **changed}
    return urlunsplit(parts._replace(query=urlencode({name: value for name, value in query.items() if value})))


def access_token(place: Place, visitor: Visitor, page: Page) -> str:
    """The access token that the page where a login ended gets for its cookie and its CSRF token."""
    answer = visitor.session.post(
        f"{place.api}/auth/refresh", headers={"X-CSRF-Token": page.fragment["csrf_token"]}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["access_token"]
    return token


def ask(place: Place, token: str | None, method: str, path: str, content: Any = None) -> Answer:
    """Send one request on a connection of its own."""
    client = Client(place.port, token)
    try:
        return client.call(method, path, content)
    finally:
        client.close()


def account(place: Place, visitor: Visitor, subject: str, name: str = TRUSTED) -> dict[str, Any]:
    """Who a person is here after logging in with a provider."""
    token = access_token(place, visitor, log_in(place, visitor, subject, name))
    me: dict[str, Any] = ask(place, token, "GET", "/users/me").json
    return me


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a code verifier (RFC 7636 section 4.2)."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def require_no_session(place: Place, visitor: Visitor, users: int = 0) -> None:
    """No account was made, none is linked, and the browser has no session."""
    assert visitor.cookie("catalog_refresh") is None
    assert rows_of(place.app, "identities") == []
    assert len(rows_of(place.app, "users")) == users
    # The cast has a session for each of them.
    assert len(rows_of(place.app, "sessions")) == users


class TestLoggingIn:
    def test_makes_an_account_and_finds_it_again(self, site: Place, visit: Visit) -> None:
        site.trusted.change_account("ann", email="ann@example.com", email_verified=True, name="Ann")

        first, second = account(site, visit(), "ann"), account(site, visit(), "ann")

        assert (first["email"], first["role"]) == ("ann@example.com", "user")
        assert second["id"] == first["id"]
        assert len(rows_of(site.app, "users")) == 1

    def test_knows_an_account_by_its_subject_whatever_its_address(self, site: Place, visit: Visit) -> None:
        site.trusted.change_account("mara", email="mara@example.com", email_verified=True)
        before = account(site, visit(), "mara")
        site.trusted.change_account("mara", email="married@example.com", email_verified=False)

        assert account(site, visit(), "mara")["id"] == before["id"]

    def test_gives_no_account_to_the_next_holder_of_an_address(self, site: Place, visit: Visit) -> None:
        site.stranger.change_account("leo", email="leo@example.com", email_verified=True)
        site.trusted.change_account("leonie", email="leo@example.com", email_verified=True)
        leonie = account(site, visit(), "leonie")

        page = log_in(site, visit(), "leo", STRANGER)

        assert page.fragment == {"error": "identity_unknown"}
        assert [row[0] for row in rows_of(site.app, "users")] == [leonie["id"]]

    def test_goes_to_the_account_with_the_address(self, site: Place, bob: Caller, visit: Visit) -> None:
        site.trusted.change_account("robert", email="bob@example.com", email_verified=True)

        assert account(site, visit(), "robert")["id"] == bob.user_id

    @pytest.mark.parametrize("verified", [False, "true", 1, None])
    def test_needs_an_address_that_the_provider_has_verified(
        self, site: Place, bob: Caller, visit: Visit, verified: object
    ) -> None:
        site.trusted.change_account("mallory", email="bob@example.com", email_verified=verified)
        site.trusted.change_account("unheard", email="unheard@example.com", email_verified=verified)

        for subject in ("mallory", "unheard"):
            visitor = visit()
            assert log_in(site, visitor, subject).fragment == {"error": "email_unverified"}
            require_no_session(site, visitor, users=1)

    def test_with_another_provider_opens_no_account_by_its_address(
        self, site: Place, bob: Caller, visit: Visit
    ) -> None:
        site.stranger.change_account("mallory", email="bob@example.com", email_verified=True)
        site.stranger.change_account("unheard", email="unheard@example.com", email_verified=True)

        for subject in ("mallory", "unheard"):
            visitor = visit()
            assert log_in(site, visitor, subject, STRANGER).fragment == {"error": "identity_unknown"}
            require_no_session(site, visitor, users=1)

    def test_is_over_for_a_deactivated_account(self, site: Place, root: Caller, visit: Visit) -> None:
        site.trusted.change_account("dora", email="dora@example.com", email_verified=True)
        dora = account(site, visit(), "dora")
        client = Client(site.port, root.token)
        assert client.patch(f"/users/{dora['id']}", {"is_active": False}).status == 200
        client.close()

        visitor = visit()
        assert log_in(site, visitor, "dora").fragment == {"error": "identity_unknown"}
        assert visitor.cookie("catalog_refresh") is None

    def test_gives_the_role_of_a_mapped_claim_each_time(self, site: Place, root: Caller, visit: Visit) -> None:
        person = {"email": "greta@example.com", "email_verified": True}
        roles = []
        for groups in (["others"], ["others", ADMINS], []):
            site.trusted.change_account("greta", **person, groups=groups)
            roles.append(account(site, visit(), "greta")["role"])

        assert roles == ["user", "admin", "user"]

    def test_takes_no_role_from_another_claim(self, site: Place, visit: Visit) -> None:
        site.trusted.change_account("ivo", email="ivo@example.com", email_verified=True, groups=["admin"], name="admin")

        assert account(site, visit(), "ivo")["role"] == "user"

    def test_reads_the_claims_wherever_the_provider_has_them(self, site: Place, visit: Visit) -> None:
        site.trusted.change_account("ann", email="ann@example.com", email_verified=True, groups=[ADMINS])

        with site.trusted.conforming():
            ann = account(site, visit(), "ann")

        assert (ann["email"], ann["role"]) == ("ann@example.com", "admin")

    def test_for_the_first_time_in_many_windows_makes_one_account(self, site: Place, visit: Visit) -> None:
        site.trusted.change_account("lea", email="lea@example.com", email_verified=True)
        visitors = [visit() for _ in range(8)]
        callbacks = [callback_of(site, visitor, "lea") for visitor in visitors]

        pages = at_once(
            [
                partial(visitor.open, url, until=site.is_landing)
                for visitor, url in zip(visitors, callbacks, strict=True)
            ]
        )

        assert [sorted(page.fragment) for page in pages] == [["csrf_token"]] * len(visitors)
        assert len(rows_of(site.app, "users")) == 1
        assert len(rows_of(site.app, "identities")) == 1

    def test_leaves_the_browser_no_cookie_of_the_login(self, site: Place, visit: Visit) -> None:
        site.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        visitor = visit()
        callback_of(site, visitor, "ann")
        assert visitor.cookie("catalog_oidc") is not None

        log_in(site, visitor, "ann")

        assert visitor.cookie("catalog_oidc") is None
        assert visitor.cookie("catalog_refresh") is not None


class TestNativeApps:
    def test_exchange_a_code_by_the_verifier_of_its_challenge(self, site: Place, visit: Visit) -> None:
        site.trusted.change_account("nina", email="nina@example.com", email_verified=True)
        verifier = token_urlsafe(48)
        challenge = challenge_of(verifier)
        url = start_of(site, TRUSTED, mode="code", code_challenge=challenge, return_to=APP_RETURN)
        visitor = visit()
        landed = go(visitor, url, "nina", until=lambda _: False)
        assert landed.url.startswith(f"{APP_RETURN}?")
        assert visitor.cookie("catalog_refresh") is None

        def exchange(code_verifier: str) -> Answer:
            content = {"code": landed.query["code"], "code_verifier": code_verifier}
            return ask(site, None, "POST", "/auth/oidc/exchange", content)

        stolen = exchange(token_urlsafe(48))
        pair = exchange(verifier)

        assert (stolen.status, stolen.code) == (422, "login_code_invalid")
        assert ask(site, pair.json["access_token"], "GET", "/users/me").json["email"] == "nina@example.com"

    def test_a_replayed_code_ends_the_session_that_it_opened(self, site: Place, visit: Visit) -> None:
        site.trusted.change_account("nina", email="nina@example.com", email_verified=True)
        verifier = token_urlsafe(48)
        challenge = challenge_of(verifier)
        url = start_of(site, TRUSTED, mode="code", code_challenge=challenge, return_to=APP_RETURN)
        landed = go(visit(), url, "nina", until=lambda _: False)
        content = {"code": landed.query["code"], "code_verifier": verifier}
        pair = ask(site, None, "POST", "/auth/oidc/exchange", content)
        assert pair.status == 200, pair.body
        before = ask(site, pair.json["access_token"], "GET", "/users/me").status

        again = ask(site, None, "POST", "/auth/oidc/exchange", content)

        assert (again.status, again.code) == (422, "login_code_invalid")
        assert (before, ask(site, pair.json["access_token"], "GET", "/users/me").status) == (200, 401)


class TestLinking:
    def link(self, place: Place, visitor: Visitor, caller: Caller, subject: str, name: str = STRANGER) -> Page:
        """Link an account of a provider to a person who is logged in."""
        answer = visitor.session.post(
            f"{place.api}/auth/oidc/{name}/link",
            json={"return_to": "/docs"},
            headers={"Authorization": f"Bearer {caller.token}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        return go(visitor, answer.json()["authorization_url"], subject, until=place.is_landing)

    def test_lets_log_in_with_a_provider_that_is_not_trusted(self, site: Place, bob: Caller, visit: Visit) -> None:
        site.stranger.change_account("bobby", email="bobby@elsewhere.example", email_verified=False)

        linked = self.link(site, visit(), bob, "bobby")

        assert linked.fragment == {"linked": STRANGER}
        assert account(site, visit(), "bobby", STRANGER)["id"] == bob.user_id
        [identity] = ask(site, bob.token, "GET", "/auth/identities").json["items"]
        assert (identity["provider"], identity["issuer"]) == (STRANGER, site.stranger.issuer)

    def test_is_undone(self, site: Place, bob: Caller, visit: Visit) -> None:
        site.stranger.change_account("bobby")
        self.link(site, visit(), bob, "bobby")
        [(identity_id, *_)] = rows_of(site.app, "identities")
        opened = visit()
        token = access_token(site, opened, log_in(site, opened, "bobby", STRANGER))

        assert ask(site, bob.token, "DELETE", f"/auth/identities/{identity_id}").status == 204

        assert ask(site, token, "GET", "/users/me").status == 401
        assert ask(site, bob.token, "GET", "/users/me").status == 200
        assert log_in(site, visit(), "bobby", STRANGER).fragment == {"error": "identity_unknown"}

    def test_is_not_undone_where_it_is_the_last_way_in(self, site: Place, visit: Visit) -> None:
        site.trusted.change_account("olga", email="olga@example.com", email_verified=True)
        visitor = visit()
        token = access_token(site, visitor, log_in(site, visitor, "olga"))
        [(identity_id, *_)] = rows_of(site.app, "identities")

        refused = ask(site, token, "DELETE", f"/auth/identities/{identity_id}")

        assert (refused.status, refused.code) == (409, "last_way_in")

    def test_is_refused_for_an_account_of_somebody_else(
        self, site: Place, bob: Caller, carol: Caller, visit: Visit
    ) -> None:
        site.stranger.change_account("bobby")
        self.link(site, visit(), bob, "bobby")

        page = self.link(site, visit(), carol, "bobby")

        assert page.fragment == {"error": "identity_taken"}
        assert account(site, visit(), "bobby", STRANGER)["id"] == bob.user_id

    def test_is_refused_after_the_session_has_ended(self, site: Place, bob: Caller, visit: Visit) -> None:
        site.stranger.change_account("bobby")
        visitor = visit()
        answer = visitor.session.post(
            f"{site.api}/auth/oidc/{STRANGER}/link",
            json={"return_to": "/docs"},
            headers={"Authorization": f"Bearer {bob.token}"},
            timeout=30,
        )
        callback = go(visitor, answer.json()["authorization_url"], "bobby", until=site.is_callback)
        assert ask(site, bob.token, "POST", "/auth/logout").status == 204

        page = visitor.open(callback.url, until=site.is_landing)

        assert page.fragment == {"error": "session_ended"}
        assert rows_of(site.app, "identities") == []


#: What is wrong with an ID token, as `IdentityProvider.forging` takes it.
FORGERIES: dict[str, dict[str, Any]] = {
    "another nonce": {"nonce": "another"},
    "no nonce": {"nonce": None},
    "another audience": {"aud": "another"},
    "no audience": {"aud": None},
    "another party of two audiences": {"aud": [CLIENT_ID, "another"], "azp": "another"},
    "another issuer": {"iss": "https://another.example"},
    "no subject": {"sub": None},
    "no expiry": {"exp": None},
    "another hash of the access token": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
    "a key that is not published": {"key": "unpublished"},
    "the client's secret as the key": {"key": "secret"},
    "no signature": {"key": "none"},
}


class TestRefusing:
    @pytest.mark.parametrize("forgery", FORGERIES)
    def test_an_id_token_with(self, site: Place, visit: Visit, forgery: str) -> None:
        site.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        visitor = visit()

        with site.trusted.forging(**FORGERIES[forgery]):
            page = log_in(site, visitor, "ann")

        assert page.fragment == {"error": "id_token_invalid"}
        require_no_session(site, visitor)

    @pytest.mark.parametrize(("issued", "expires"), [(-2 * HOUR, -HOUR), (HOUR, 2 * HOUR)], ids=["old", "future"])
    def test_an_id_token_of_another_time(self, site: Place, visit: Visit, issued: int, expires: int) -> None:
        site.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        visitor, now = visit(), int(time.time())

        with site.trusted.forging(iat=now + issued, exp=now + expires):
            page = log_in(site, visitor, "ann")

        assert page.fragment == {"error": "id_token_invalid"}
        require_no_session(site, visitor)

    @pytest.mark.parametrize("state", ["another", None])
    def test_another_state(self, site: Place, visit: Visit, state: str | None) -> None:
        site.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        visitor = visit()
        url = callback_of(site, visitor, "ann")

        page = visitor.open(with_query(url, state=state))

        assert (page.status, page.code) == (400, "state_invalid")
        require_no_session(site, visitor)

    def test_a_browser_that_did_not_begin(self, site: Place, visit: Visit) -> None:
        site.trusted.change_account("mallory", email="mallory@example.com", email_verified=True)
        url = callback_of(site, visit(), "mallory")
        victim, busy = visit(), visit()
        callback_of(site, busy, "mallory")

        for visitor in (victim, busy):
            page = visitor.open(url)
            assert (page.status, page.code) == (400, "state_invalid")
            require_no_session(site, visitor)

    def test_the_answer_of_another_provider(self, site: Place, visit: Visit) -> None:
        site.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        for issuer in (site.stranger.issuer, None):
            visitor = visit()
            url = callback_of(site, visitor, "ann")

            page = visitor.open(with_query(url, iss=issuer), until=site.is_landing)

            assert page.fragment == {"error": "issuer_mismatch"}
            require_no_session(site, visitor)

    def test_an_answer_at_the_address_of_another_provider(self, site: Place, visit: Visit) -> None:
        site.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        visitor = visit()
        url = callback_of(site, visitor, "ann")

        page = visitor.open(url.replace(f"/oidc/{TRUSTED}/", f"/oidc/{STRANGER}/"))

        assert (page.status, page.code) == (400, "state_invalid")
        require_no_session(site, visitor)

    def test_an_answer_for_the_second_time(self, site: Place, visit: Visit) -> None:
        site.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        visitor = visit()
        url = callback_of(site, visitor, "ann")
        assert "csrf_token" in visitor.open(url, until=site.is_landing).fragment

        page = visitor.open(url)

        assert (page.status, page.code) == (400, "state_invalid")

    def test_a_code_of_another_login(self, site: Place, visit: Visit) -> None:
        # A code that was stolen, put into a login that the thief began: the provider compares the verifier.
        site.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        site.trusted.change_account("mallory", email="mallory@example.com", email_verified=True)
        stolen = dict(parse_qsl(urlsplit(callback_of(site, visit(), "ann")).query))["code"]
        visitor = visit()
        url = callback_of(site, visitor, "mallory")

        page = visitor.open(with_query(url, code=stolen), until=site.is_landing)

        assert page.fragment == {"error": "login_refused"}
        require_no_session(site, visitor)

    def test_a_person_who_says_no(self, site: Place, visit: Visit) -> None:
        visitor = visit()
        page = visitor.open(start_of(site, TRUSTED))

        page = visitor.open(f"{page.url}/abort", until=site.is_landing)

        assert page.fragment == {"error": "login_denied"}
        require_no_session(site, visitor)

    @pytest.mark.parametrize(
        "target",
        [
            *("https://evil.example/", "//evil.example/", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)"),
            *(f"{APP_RETURN}/more", "http:evil.example", "docs"),
        ],
    )
    @on_one_database
    def test_to_send_a_browser_elsewhere(self, site: Place, visit: Visit, target: str) -> None:
        page = visit().open(start_of(site, TRUSTED, return_to=target))

        assert page.url.startswith(site.api)
        assert (page.status, page.code) == (422, "return_to_refused")


class TestLoggingOutAtTheProvider:
    def log_out(self, provider: IdentityProvider, visitor: Visitor) -> None:
        page = visitor.open(f"{provider.issuer}/session/end")
        assert visitor.submit(page, page.forms[0], logout="yes").status == 200

    def test_ends_the_session_of_that_browser_on_every_worker(self, site: Place, visit: Visit) -> None:
        site.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        leaving, staying = visit(), visit()
        left = access_token(site, leaving, log_in(site, leaving, "ann"))
        stayed = access_token(site, staying, log_in(site, staying, "ann"))

        self.log_out(site.trusted, leaving)

        for worker in worker_pids(site.server):
            with only(worker, site.server):
                assert [ask(site, token, "GET", "/users/me").status for token in (left, stayed)] == [401, 200]
        assert "backchannel.error" not in site.trusted.log()

    def test_leaves_other_sessions_of_the_person_alone(self, site: Place, bob: Caller, visit: Visit) -> None:
        site.trusted.change_account("robert", email="bob@example.com", email_verified=True)
        visitor = visit()
        token = access_token(site, visitor, log_in(site, visitor, "robert"))

        self.log_out(site.trusted, visitor)

        assert ask(site, token, "GET", "/users/me").status == 401
        assert ask(site, bob.token, "GET", "/users/me").status == 200


@on_one_database
class TestKeysOfAProvider:
    @pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
    def test_are_read_again_after_a_rotation(self, fresh: Place, visit: Visit, algorithm: Any) -> None:
        fresh.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        workers = worker_pids(fresh.server)

        def log_in_at_each() -> None:
            for worker in workers:
                with only(worker, fresh.server):
                    assert "csrf_token" in log_in(fresh, visit(), "ann").fragment

        log_in_at_each()
        log_in_at_each()
        before = fresh.trusted.requests_for("/jwks")
        fresh.trusted.rotate(algorithm)
        log_in_at_each()
        log_in_at_each()

        assert 1 <= before <= len(workers)
        assert 1 <= fresh.trusted.requests_for("/jwks") - before <= len(workers)

    def test_are_not_read_for_each_token_with_a_key_that_is_not_there(self, fresh: Place, visit: Visit) -> None:
        fresh.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        workers, began = len(worker_pids(fresh.server)), time.monotonic()

        with fresh.trusted.forging(key="unpublished", header={"kid": "not-there"}):
            errors = [log_in(fresh, visit(), "ann").fragment["error"] for _ in range(10)]

        assert errors == ["id_token_invalid"] * 10
        # Each worker reads them once, and again for a key that may be new, at most every RENEWAL_INTERVAL.
        again = 1 + int((time.monotonic() - began) // RENEWAL_INTERVAL)
        assert fresh.trusted.requests_for("/jwks") <= workers * (1 + again)


@on_one_database
class TestAProviderThatIsDown:
    def test_is_said_where_the_login_began(self, fresh: Place, visit: Visit, bob: Caller) -> None:
        fresh.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        visitor = visit()
        url = callback_of(fresh, visitor, "ann")
        fresh.trusted.stop()

        page = visitor.open(url, until=fresh.is_landing)

        assert page.fragment == {"error": "provider_unavailable"}
        assert ask(fresh, bob.token, "GET", "/users/me").status == 200
        assert ask(fresh, None, "GET", "//readyz").status == 200
        fresh.stranger.change_account("leo")
        assert log_in(fresh, visit(), "leo", STRANGER).fragment == {"error": "identity_unknown"}

    def test_refuses_nobody_who_is_logged_in(self, fresh: Place, visit: Visit) -> None:
        fresh.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        visitor = visit()
        page = log_in(fresh, visitor, "ann")
        fresh.trusted.stop()

        token = access_token(fresh, visitor, page)

        assert ask(fresh, token, "GET", "/products").status == 200

    def test_is_found_again_with_other_keys(self, fresh: Place, visit: Visit) -> None:
        fresh.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        before = account(fresh, visit(), "ann")
        visitor = visit()
        url = callback_of(fresh, visitor, "ann")
        fresh.trusted.stop()
        assert visitor.open(url, until=fresh.is_landing).fragment == {"error": "provider_unavailable"}

        fresh.trusted.start()

        fresh.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        for worker in worker_pids(fresh.server):
            with only(worker, fresh.server):
                assert account(fresh, visit(), "ann")["id"] == before["id"]

    def test_is_said_where_the_login_begins_while_it_was_never_there(self, fresh: Place, visit: Visit) -> None:
        fresh.trusted.stop()

        page = visit().open(start_of(fresh, TRUSTED))

        assert (page.status, page.code) == (503, "provider_unavailable")
        assert page.answer is not None
        assert int(page.answer.headers["Retry-After"]) > 0

    def test_keeps_nobody_else_waiting_while_it_hangs(self, fresh: Place, visit: Visit, bob: Caller) -> None:
        fresh.trusted.change_account("ann", email="ann@example.com", email_verified=True)
        visitors = [visit() for _ in range(24)]
        callbacks = [callback_of(fresh, visitor, "ann") for visitor in visitors]

        with fresh.trusted.hung():
            waiting: list[Callable[[], Any]] = [
                partial(visitor.open, url, until=fresh.is_landing)
                for visitor, url in zip(visitors, callbacks, strict=True)
            ]

            def read() -> list[float]:
                seconds = []
                for _ in range(20):
                    began = time.monotonic()
                    assert ask(fresh, bob.token, "GET", "/products").status == 200
                    seconds.append(time.monotonic() - began)
                    time.sleep(0.1)
                return seconds

            *pages, seconds = at_once([*waiting, read])

        assert [page.fragment for page in pages] == [{"error": "provider_unavailable"}] * len(visitors)
        # A thread that waits for the provider is held for five seconds.
        assert max(seconds) < 4
        # The connections that hung are closed, and the provider is asked again.
        wait_for(lambda: "csrf_token" in log_in(fresh, visit(), "ann").fragment)
