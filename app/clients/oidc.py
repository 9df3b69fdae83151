"""Identity providers: sends people to them, and redeems what they come back with (OpenID Connect Core 1.0).

    client = current_providers()["company"]
    url = client.authorization_url(redirect_uri=..., state=..., nonce=..., code_challenge=...)
    person = client.redeem(code, redirect_uri=..., nonce=..., code_verifier=...)

Its requests pass the guard, take a few seconds at most, and occupy no more than a share of a worker's threads: a
provider that does not respond fails its own logins, and nothing else. Call it outside of transactions.

This module sends the requests. Three others send nothing: `oidc_settings` reads OIDC_PROVIDERS, `oidc_metadata` a
discovery document, and `oidc_tokens` keys and tokens.
"""

import base64
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Generic, TypeVar
from urllib.parse import quote_plus

import structlog
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oidc.discovery import get_well_known_url
from flask import Flask, current_app
from joserfc.jwk import Key

from app.clients.errors import BadStatus, OutboundError
from app.clients.http import APIClient, Timeouts
from app.clients.network import Deadline
from app.clients.oidc_metadata import Metadata, read_metadata
from app.clients.oidc_settings import Provider
from app.clients.oidc_tokens import (
    AlgorithmUnknown,
    KeyUnknown,
    LogoutToken,
    Person,
    Signed,
    check_id_token,
    check_logout_token,
    import_keys,
    read_person,
    verify,
)
from app.clients.outbound import guarded_client
from app.clients.responses import APIResponse
from app.core.errors import Malformed, Unauthenticated, Unavailable

T = TypeVar("T")

#: Seconds for all requests of one login together.
MAX_SECONDS = 5.0
#: Seconds for which a discovery document and keys are used without asking again.
LIFETIME = 3600.0
#: Seconds between two requests for keys because a token names an unknown one, or because of outdated metadata.
RENEWAL_INTERVAL = 30.0
#: Seconds to wait for a place. Each provider has few, and all together have one less than a worker has threads, so that
#: providers that hang cannot occupy every thread.
MAX_WAIT = 0.5
#: The claims that may come from UserInfo, beside the one with the role. `sid` is not among them: only tokens have it.
OF_USERINFO = frozenset({"email", "email_verified", "preferred_username"})
#: After so many failures in a row a provider is left alone for so many seconds, and then tried by one request.
MAX_FAILURES, RESET_TIMEOUT = 3, 10.0

log = structlog.get_logger(__name__)


class ProviderUnavailable(Unavailable):
    """The identity provider does not respond as it should; try again shortly, or log in another way."""

    retry_after = 5


class LoginRefused(Unauthenticated):
    """The identity provider refused this login; begin again, or log in another way."""


class IdTokenInvalid(Unauthenticated):
    """The identity provider's token is not signed by it, not for this login, or expired; begin again."""


class LogoutTokenInvalid(Malformed):
    """The logout token is not signed by the identity provider, not meant for this service, or too old."""


def init_app(app: Flask) -> None:
    """Make a client for each of OIDC_PROVIDERS; after `outbound`, whose guard they share."""
    providers: Mapping[str, Provider] = app.config["OIDC_PROVIDERS"]
    clients: dict[str, ProviderClient] = {}
    if providers:
        threads = max(1, app.config["WEB_THREADS"] - 1)
        places, shared = max(1, threads // len(providers)), threading.BoundedSemaphore(threads)
        with app.app_context():
            clients = {name: _new_client(provider, places, shared) for name, provider in providers.items()}
    app.extensions["oidc"] = clients


def current_providers() -> Mapping[str, "ProviderClient"]:
    """The clients of OIDC_PROVIDERS by name."""
    clients: Mapping[str, ProviderClient] = current_app.extensions["oidc"]
    return clients


def _new_client(provider: Provider, places: int, shared: threading.BoundedSemaphore) -> "ProviderClient":
    api = guarded_client(
        attempts=2, max_failures=MAX_FAILURES, reset_timeout=RESET_TIMEOUT, headers={"Accept": "application/json"}
    )
    return ProviderClient(provider, api, places=places, shared=shared)


class ProviderClient:
    """One identity provider; thread-safe. It gets at most ``places`` requests at once.

    Each request also takes a place of ``shared``, which all providers of a worker have in common. Every method may
    raise ``ProviderUnavailable``.
    """

    def __init__(
        self, provider: Provider, api: APIClient, *, places: int, shared: threading.BoundedSemaphore | None = None
    ) -> None:
        self.provider = provider
        self._api = api
        own = threading.BoundedSemaphore(places)
        self._places = (own,) if shared is None else (own, shared)
        self._metadata = CachedValue(self._fetch_metadata)
        self._keys = CachedValue(self._fetch_keys)

    def authorization_url(self, *, redirect_uri: str, state: str, nonce: str, code_challenge: str) -> str:
        """Where to send the browser. ``code_challenge`` is S256's (RFC 7636)."""
        metadata = self._metadata.read(Deadline(MAX_SECONDS))
        url: str = prepare_grant_uri(
            metadata.authorization_endpoint,
            client_id=self.provider.client_id,
            response_type="code",
            redirect_uri=redirect_uri,
            scope=list(self.provider.scopes),
            state=state,
            nonce=nonce,
            code_challenge=code_challenge,
            code_challenge_method="S256",
        )
        return url

    def is_issuer(self, named: str | None) -> bool:
        """Whether an authorization response that names this issuer, or none, may be this provider's (RFC 9207)."""
        if named is not None:
            return named == self.provider.issuer
        return not self._metadata.read(Deadline(MAX_SECONDS)).promises_issuer

    def redeem(self, code: str, *, redirect_uri: str, nonce: str, code_verifier: str) -> Person:
        """The person that an authorization ``code`` stands for; raises ``LoginRefused`` and ``IdTokenInvalid``."""
        deadline = Deadline(MAX_SECONDS)
        metadata = self._metadata.read(deadline)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": code_verifier,
        }
        tokens = self._post_for_tokens(metadata, form, deadline)
        access_token = tokens["access_token"]
        try:
            signed = self._verify(tokens["id_token"], metadata, deadline)
            claims = check_id_token(signed, self.provider, nonce=nonce, access_token=access_token)
        except ValueError as error:
            self._log("id_token", str(error))
            raise IdTokenInvalid from None
        return read_person(self._with_userinfo(claims, metadata, access_token, deadline), self.provider)

    def read_logout_token(self, token: str) -> LogoutToken:
        """What a logout token of the provider ends; raises ``LogoutTokenInvalid``."""
        deadline = Deadline(MAX_SECONDS)
        try:
            return check_logout_token(self._verify(token, self._metadata.read(deadline), deadline), self.provider)
        except ValueError as error:
            self._log("logout_token", str(error))
            raise LogoutTokenInvalid from None

    def _verify(self, token: str, metadata: Metadata, deadline: Deadline) -> Signed:
        keys = self._keys.read(deadline)
        try:
            return verify(token, keys, metadata.algorithms)
        except AlgorithmUnknown:
            # A provider that moves to another kind of key announces it in its metadata.
            metadata = self._metadata.renew(deadline, metadata)
        except KeyUnknown:
            pass
        return verify(token, self._keys.renew(deadline, keys), metadata.algorithms)

    def _fetch_metadata(self, deadline: Deadline) -> Metadata:
        url = get_well_known_url(self.provider.issuer, external=True)
        try:
            return read_metadata(self._send("discovery", "GET", url, deadline), self.provider)
        except (ValueError, TypeError, AttributeError) as error:
            # All but the first come from members of unexpected types.
            raise self._unavailable("discovery", str(error)) from None

    def _fetch_keys(self, deadline: Deadline) -> tuple[Key, ...]:
        try:
            return import_keys(self._send("keys", "GET", self._metadata.read(deadline).jwks_uri, deadline))
        except ValueError as error:
            raise self._unavailable("keys", str(error)) from None

    def _post_for_tokens(self, metadata: Metadata, form: dict[str, str], deadline: Deadline) -> dict[str, str]:
        headers = {}
        if metadata.authentication == "client_secret_basic":
            headers["Authorization"] = _basic(self.provider)
        else:
            form |= {"client_id": self.provider.client_id, "client_secret": self.provider.client_secret}
        answered = self._send("token", "POST", metadata.token_endpoint, deadline, form=form, headers=headers)
        tokens = {name: str(answered.get(name) or "") for name in ("id_token", "access_token")}
        if not all(tokens.values()):
            raise self._unavailable("token", "one of both tokens is missing")
        return tokens

    def _with_userinfo(
        self, claims: dict[str, Any], metadata: Metadata, access_token: str, deadline: Deadline
    ) -> dict[str, Any]:
        """The claims with those that only UserInfo has (OpenID Connect Core 1.0 section 5.3)."""
        wanted = {"email", *filter(None, [self.provider.role_claim])}
        if wanted <= claims.keys() or metadata.userinfo_endpoint is None:
            return claims
        headers = {"Authorization": f"Bearer {access_token}"}
        found = self._send("userinfo", "GET", metadata.userinfo_endpoint, deadline, headers=headers)
        if found.get("sub") != claims["sub"]:
            # Section 5.3.2: of a person that another token stands for.
            self._log("userinfo", "it is of another person")
            raise IdTokenInvalid
        if claims.get("email") != found.get("email"):
            # Each says of its own address whether it is verified.
            (found if "email" in claims else claims).pop("email_verified", None)
        stated = {name: found[name] for name in {*wanted, *OF_USERINFO} & found.keys()}
        return {**stated, **claims}

    def _send(self, step: str, method: str, url: str, deadline: Deadline, **options: Any) -> dict[str, Any]:
        """The JSON object that the provider responds with."""
        with ExitStack() as stack:
            for places in self._places:
                if not places.acquire(timeout=min(MAX_WAIT, deadline.left)):
                    raise self._unavailable(step, "every place is taken")
                stack.callback(places.release)
            answered = self._send_now(step, method, url, deadline, **options)
        if not isinstance(answered, dict):
            raise self._unavailable(step, "it is no JSON object")
        return answered

    def _send_now(self, step: str, method: str, url: str, deadline: Deadline, **options: Any) -> Any:
        left = deadline.left
        timeouts = Timeouts(pool=left, connect=left, write=left, read=left, total=left)
        try:
            return self._api.request(method, url, timeouts=timeouts, **options).json()
        except BadStatus as error:
            raise self._refusal_of(step, error.response) from None
        except (OutboundError, ValueError) as error:
            raise self._unavailable(step, type(error).__name__) from None

    def _refusal_of(self, step: str, response: APIResponse) -> LoginRefused | ProviderUnavailable:
        code = _error_code(response)
        reason = " ".join(filter(None, [str(response.status), code]))
        if step == "token" and code is not None and response.status in {400, 401}:
            self._log(step, reason)
            return LoginRefused()
        return self._unavailable(step, reason)

    def _unavailable(self, step: str, reason: str) -> ProviderUnavailable:
        self._log(step, reason)
        return ProviderUnavailable()

    def _log(self, step: str, reason: str) -> None:
        log.warning("oidc_failed", provider=self.provider.name, step=step, reason=reason)


class CachedValue(Generic[T]):
    """What a provider publishes and seldom changes: kept for an hour, and fetched by one thread at a time.

    While it cannot be fetched, the last value stays in use.
    """

    def __init__(self, fetch: Callable[[Deadline], T]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._value: T | None = None
        #: By the steady clock: when to fetch it again, and when a token with an unknown key may next have it fetched.
        self._due = self._next_renewal = 0.0

    def read(self, deadline: Deadline) -> T:
        """What was published within the hour; raises ``ProviderUnavailable`` where there is nothing."""
        if self._value is not None and time.monotonic() < self._due:
            return self._value
        if not self._lock.acquire(timeout=0 if self._value is not None else min(MAX_WAIT, deadline.left)):
            return self._require_value()
        try:
            if self._value is None or time.monotonic() >= self._due:
                self._refresh(deadline)
        except ProviderUnavailable:
            self._due = time.monotonic() + RENEWAL_INTERVAL
        finally:
            self._lock.release()
        return self._require_value()

    def renew(self, deadline: Deadline, outdated: T) -> T:
        """What is published now, because ``outdated`` lacks something; asked for once in ``RENEWAL_INTERVAL``."""
        if not self._lock.acquire(timeout=min(MAX_WAIT, deadline.left)):
            raise ProviderUnavailable
        try:
            if self._value is outdated and time.monotonic() >= self._next_renewal:
                self._next_renewal = time.monotonic() + RENEWAL_INTERVAL
                self._refresh(deadline)
        finally:
            self._lock.release()
        return self._require_value()

    def _refresh(self, deadline: Deadline) -> None:
        self._value = self._fetch(deadline)
        self._due = time.monotonic() + LIFETIME

    def _require_value(self) -> T:
        if self._value is None:
            raise ProviderUnavailable
        return self._value


def _basic(provider: Provider) -> str:
    # RFC 6749 section 2.3.1: both are form-encoded before they are joined.
    credentials = f"{quote_plus(provider.client_id)}:{quote_plus(provider.client_secret)}"
    return f"Basic {base64.b64encode(credentials.encode()).decode()}"


def _error_code(response: APIResponse) -> str | None:
    """The ``error`` of a response (RFC 6749 section 5.2), where it is one that may be logged."""
    try:
        code = response.json()["error"]
    except (ValueError, TypeError, KeyError):
        return None
    return code if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,64}", code) else None
