"""Rate limits: one bucket for each principal over everything, one for each address on what is worth guessing."""

import math
import time
from collections.abc import Callable
from functools import wraps
from operator import attrgetter
from typing import Any, TypeVar

from flask import Flask, Response, current_app, g, request
from flask_limiter import ApplicationLimit, Limiter, RateLimitExceeded, _extension
from limits.strategies import STRATEGIES

from app.web.access import address_key, principal_key
from app.web.counters import Counted, FixedWindows

T = TypeVar("T")

#: What the limit on everything is counted for.
EVERYTHING = "global"
#: Paths that monitoring and people reach whatever the load.
EXEMPT = frozenset({"health", "docs"})


def _rate(setting: str) -> Callable[[], str]:
    # Asked of the application at hand: the limiter outlives the one that it was bound to first.
    return lambda: current_app.config[setting]


def _once_a_route(resolve: Callable[..., T]) -> Callable[..., T]:
    # Every limit is declared before the first request, and the library works out at each what holds for its route.
    @wraps(resolve)
    def resolved(app: Flask, *route: Any) -> T:
        known: dict[tuple[Any, ...], T] = app.extensions.setdefault("limits", {}).setdefault(resolve.__name__, {})
        if route not in known:
            known[route] = resolve(app, *route)
        return known[route]

    return resolved


STRATEGIES["fixed-windows"] = FixedWindows

# The library looks whether a lost Redis is back after 1, 2, 4 ... 32 seconds; this makes it one each time.
_extension.MAX_BACKEND_CHECKS = 0  # type: ignore[attr-defined]  # imported there, and read at each look


class _Limiter(Limiter):
    def count(self) -> None:
        """Count this request; raises when it is one too many."""
        self._check_request_limit()

    def _check_request_limit(self, callable_name: str | None = None, in_middleware: bool = True) -> None:
        """Count by the limit on everything; in a quarter of the library's time, which is for the rest.

        The rest are limits of single views, which come on top, and whatever there is to do when Redis is lost.
        """
        if not in_middleware or self._storage_dead:
            super()._check_request_limit(callable_name, in_middleware)
            return
        if _is_exempt():
            return
        (everything,) = self.limit_manager.resolve_limits(current_app, *_ANYWHERE)[0]
        try:
            is_allowed = self.limiter.hit(everything.limit, self._key_prefix, principal_key(), EVERYTHING)
        except Exception:  # noqa: BLE001 -- the library knows what to do with each
            super()._check_request_limit(callable_name, in_middleware)
            return
        if not is_allowed:
            raise RateLimitExceeded(everything)


#: How the library's manager is asked for the limits that hold whatever the route: in the middleware, for none.
_ANYWHERE = (None, None, None, True, False)

limiter = _Limiter(
    key_func=principal_key,
    application_limits=[ApplicationLimit(_rate("RATE_LIMIT_DEFAULT"), key_function=principal_key, scope=EVERYTHING)],
    # Without an endpoint the library skips its check, and a scan of unknown paths would go uncounted.
    request_identifier=lambda: request.endpoint or "unmatched",
)
_resolve = _once_a_route(limiter.limit_manager.resolve_limits)
limiter.limit_manager.resolve_limits = _resolve  # type: ignore[method-assign]  # the manager has no setting for it


def init_app(app: Flask) -> None:
    """Count every request but those to health and docs, and tell each client what is left."""
    if app.config["RATE_LIMIT_ENABLED"]:
        # Known already, it adds no hooks of its own: they would look at each answer for what is added here.
        app.extensions["limiter"] = {limiter}
        limiter.init_app(app)
        app.before_request(limiter.count)
        app.after_request(_add_headers)


@limiter.request_filter
def _is_exempt() -> bool:
    return not current_app.config["RATE_LIMIT_ENABLED"] or request.blueprint in EXEMPT or request.method == "OPTIONS"


def limit_calls(view: Callable[..., Response], setting: str) -> Callable[..., Response]:
    """Count the calls of one view by client address against the rate in ``setting``."""
    count = limiter.limit(_rate(setting), key_func=address_key, override_defaults=False)
    limited: Callable[..., Response] = count(view)
    return limited


def _add_headers(response: Response) -> Response:
    """RateLimit-Policy and RateLimit as draft-ietf-httpapi-ratelimit-headers has them, for the tightest limit."""
    counted: dict[str, Counted] = g.get("counted")
    if not counted:
        return response
    tightest = min(counted.values(), key=attrgetter("remaining"))
    name = "default" if tightest.scope == EVERYTHING else "login"
    wait = max(0, math.ceil(tightest.reset_time - time.time()))
    add = response.headers.add
    add("RateLimit-Policy", f'"{name}";q={tightest.limit.amount};w={tightest.limit.get_expiry()}')
    add("RateLimit", f'"{name}";r={tightest.remaining};t={wait}')
    if response.status_code == 429:
        add("Retry-After", str(max(1, wait)))
    return response
