"""The client of an identity provider by itself: what it keeps, how long it waits, and how many wait with it."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from app.clients import oidc
from app.clients.addresses import Guard
from app.clients.http import APIClient
from app.clients.network import Deadline
from app.clients.oidc import CachedValue, ProviderClient, ProviderUnavailable
from app.clients.oidc_settings import Provider
from tests.issuer import CLIENT_ID, CLIENT_SECRET, Issuer
from tests.issuer import issuer as run_issuer


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """A provider."""
    with run_issuer() as running:
        yield running


@pytest.fixture
def client(issuer: Issuer) -> Iterator[ProviderClient]:
    """A client of it, which sends one request at a time."""
    provider = Provider(
        name="company", title="Company", issuer=issuer.url, client_id=CLIENT_ID, client_secret=CLIENT_SECRET
    )
    with APIClient(guard=Guard(allowed_hosts=["127.0.0.1"]), attempts=2) as api:
        yield ProviderClient(provider, api, places=1)


def begin(client: ProviderClient) -> str:
    return client.authorization_url(redirect_uri="http://127.0.0.1/cb", state="s", nonce="n", code_challenge="c")


def redeem(client: ProviderClient) -> object:
    return client.redeem("code", redirect_uri="http://127.0.0.1/cb", nonce="n", code_verifier="v")


class TestTheClient:
    def test_asks_once_for_what_the_provider_publishes(self, client: ProviderClient, issuer: Issuer) -> None:
        with ThreadPoolExecutor(8) as pool:
            urls = set(pool.map(lambda _: begin(client), range(16)))

        assert len(urls) == 1
        assert issuer.counted("/.well-known/openid-configuration") == 1

    def test_lets_few_wait_for_a_provider_that_hangs(
        self, client: ProviderClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(oidc, "MAX_SECONDS", 2.0)
        begin(client)
        issuer.fail("/token", 200, {}, seconds=3)

        with ThreadPoolExecutor(5) as pool:
            started = time.monotonic()
            waits = list(pool.map(lambda _: _seconds_until_refused(client, started), range(5)))

        # One has the place for as long as its deadline, and the others wait for the place alone.
        assert sorted(wait > 1.5 for wait in waits) == [False, False, False, False, True]

    def test_ends_within_its_deadline_whatever_drips(
        self, client: ProviderClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(oidc, "MAX_SECONDS", 0.5)
        issuer.fail("/.well-known/openid-configuration", 200, {}, seconds=0.4)

        started = time.monotonic()
        with pytest.raises(ProviderUnavailable):
            begin(client)

        assert time.monotonic() - started < 1.5


class TestWhatIsPublished:
    def test_is_fetched_again_after_its_lifetime(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(oidc, "LIFETIME", 0)
        numbers = count(1)
        published = CachedValue(lambda _: next(numbers))

        assert [published.read(Deadline(1)) for _ in range(3)] == [1, 2, 3]

    def test_is_used_on_while_it_cannot_be_fetched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(oidc, "LIFETIME", 0)
        attempts: list[int] = []

        def fetch(_: Deadline) -> str:
            attempts.append(1)
            if len(attempts) > 1:
                raise ProviderUnavailable
            return "first"

        published = CachedValue(fetch)

        assert [published.read(Deadline(1)) for _ in range(5)] == ["first"] * 5
        # It is not asked for at each use either.
        assert len(attempts) == 2

    def test_is_used_on_while_another_thread_fetches_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(oidc, "LIFETIME", 0)
        goes_on, fetched = threading.Event(), []

        def fetch(_: Deadline) -> int:
            fetched.append(1)
            if len(fetched) > 1:
                goes_on.wait(10)
            return len(fetched)

        published = CachedValue(fetch)
        published.read(Deadline(1))
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(published.read, Deadline(1))
            while len(fetched) < 2:
                time.sleep(0.001)
            assert published.read(Deadline(1)) == 1
            goes_on.set()
            assert second.result() == 2

    def test_is_missed_where_the_first_that_asks_for_it_takes_too_long(self) -> None:
        goes_on = threading.Event()
        published = CachedValue(lambda _: goes_on.wait(10))
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(published.read, Deadline(5))
            time.sleep(0.05)
            with pytest.raises(ProviderUnavailable):
                published.read(Deadline(0.1))
            goes_on.set()
            assert first.result() is True


def _seconds_until_refused(client: ProviderClient, started: float) -> float:
    with pytest.raises(ProviderUnavailable):
        redeem(client)
    return time.monotonic() - started
