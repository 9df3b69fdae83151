"""Rate limits: one window per principal for all requests, and one per client address for routes open to guessing."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from flask import Flask, Response, current_app, g, request
from flask_limiter import Limiter, RequestLimit
from limits import RateLimitItem, parse
from limits.storage import Storage
from werkzeug.exceptions import TooManyRequests

from app.core.metrics import RATE_LIMIT_DECISIONS
from app.web.access import address_key, principal_key
from app.web.counters import FallbackWindows, MemoryWindows, RedisWindows, Window

KEY_PREFIX = "catalog"
#: The limit of all requests of a principal, and that of routes open to guessing.
EVERYTHING, LOGIN = "default", "login"
#: Blueprints without a limit: monitoring and documentation stay available under any load, and the images of one page,
#: which cost no statement, must not use up what its reader has for requests.
EXEMPT = frozenset({"health", "monitoring", "docs", "media_files"})


_decisions = {
    (limit, is_refused): RATE_LIMIT_DECISIONS.labels(limit, "refused" if is_refused else "allowed")
    for limit in (EVERYTHING, LOGIN)
    for is_refused in (False, True)
}


class Limits(NamedTuple):
    """The limit on all requests of a principal, and the windows in which one application counts them."""

    everything: RateLimitItem
    windows: FallbackWindows | MemoryWindows


class Standing(NamedTuple):
    """What is left of a limit after this request. They compare by it: the tightest limit is the minimum."""

    remaining: int
    ends_at: float
    name: str
    limit: RateLimitItem


class RequestStorage(Storage):
    """flask-limiter's storage: counts in the windows of the current application, and caches their state in ``g``.

    It resolves the application late because the limiter is bound to views when they are declared, before an application
    exists. It caches because the limiter reads the state again after a hit that has returned it.

    It implements only what a fixed window needs: the limiter calls neither ``reset`` nor ``clear`` for a request.
    """

    STORAGE_SCHEME = ["request"]

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        window = _limits().windows.count(key, expiry, amount)
        g.setdefault("windows", {})[key] = window
        return window.used

    def get(self, key: str) -> int:
        return self._window(key).used

    def get_expiry(self, key: str) -> float:
        return self._window(key).ends_at

    def check(self) -> bool:
        return True

    def reset(self) -> None:
        raise NotImplementedError

    def clear(self, key: str) -> None:
        raise NotImplementedError

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    @staticmethod
    def _window(key: str) -> Window:
        window: Window = g.windows[key]
        return window


# Counts in fixed windows, which is the library's default.
limiter = Limiter(principal_key, storage_uri="request://", key_prefix=KEY_PREFIX)


def init_app(app: Flask) -> None:
    """Count every request except those to health, docs and renditions, and add the RateLimit headers to responses."""
    if not app.config["RATE_LIMIT_ENABLED"]:
        return
    url = app.config["REDIS_URL"]
    windows = FallbackWindows(RedisWindows(url, **app.config["REDIS_OPTIONS"])) if url else MemoryWindows()
    app.extensions["limits"] = Limits(parse(app.config["RATE_LIMIT_DEFAULT"]), windows)
    # The limiter adds no hooks to an application whose extensions contain it already. They cost a tenth of a small
    # read, and the limits of single routes are checked by their decorators.
    app.extensions["limiter"] = {limiter}
    limiter.init_app(app)
    app.before_request(_limit_everything)
    app.after_request(_add_headers)


def redis_windows(app: Flask) -> FallbackWindows | None:
    """The windows that Redis counts; None where the application does without Redis."""
    limits: Limits | None = app.extensions.get("limits")
    return limits.windows if limits is not None and isinstance(limits.windows, FallbackWindows) else None


def limit_calls(view: Callable[..., Response], setting: str) -> Callable[..., Response]:
    """Count the calls of one view by client address against the rate in ``setting``."""
    limited: Callable[..., Response] = limiter.limit(lambda: current_app.config[setting], key_func=address_key)(view)
    return limited


@limiter.request_filter
def _is_exempt() -> bool:
    return "limits" not in current_app.extensions or request.blueprint in EXEMPT or request.method == "OPTIONS"


def _limit_everything() -> None:
    """Count this request, whatever its route; raises ``TooManyRequests`` above the limit."""
    if _is_exempt():
        return
    limit, windows = _limits()
    used, ends_at = windows.count(limit.key_for(KEY_PREFIX, principal_key(), "global"), limit.get_expiry())
    g.standing = Standing(max(0, limit.amount - used), ends_at, EVERYTHING, limit)
    _count(EVERYTHING, is_refused=used > limit.amount)
    if used > limit.amount:
        raise TooManyRequests


def _add_headers(response: Response) -> Response:
    """Add RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers) for the tightest limit."""
    standing: Standing | None = g.get("standing")
    if standing is None:
        return response
    if "windows" in g:
        for hit in limiter.current_limits:
            _count(LOGIN, is_refused=hit.breached)
        standing = min(standing, *map(_standing_at, limiter.current_limits))
    wait = max(0, math.ceil(standing.ends_at - time.time()))
    add = response.headers.add
    add("RateLimit-Policy", f'"{standing.name}";q={standing.limit.amount};w={standing.limit.get_expiry()}')
    add("RateLimit", f'"{standing.name}";r={standing.remaining};t={wait}')
    if response.status_code == 429:
        # Not over an existing one: another refusal, such as the guard on failed logins, has its own delay.
        response.headers.setdefault("Retry-After", str(max(1, wait)))
    return response


def _standing_at(hit: RequestLimit) -> Standing:
    return Standing(hit.remaining, hit.window.reset_time, LOGIN, hit.limit)


def _count(limit: str, *, is_refused: bool) -> None:
    _decisions[limit, is_refused].inc()


def _limits() -> Limits:
    limits: Limits = current_app.extensions["limits"]
    return limits
