"""The client's address and scheme, from the X-Forwarded headers of as many proxies as TRUSTED_PROXIES says."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def init_app(app: Flask) -> None:
    """Trust the last ``TRUSTED_PROXIES`` entries of X-Forwarded-For and X-Forwarded-Proto; with 0, ignore both."""
    hops = app.config["TRUSTED_PROXIES"]
    if hops:
        # X-Forwarded-Host is ignored: links are relative, and the proxy passes Host on.
        app.wsgi_app = ProxyFix(_with_addresses(app.wsgi_app), x_for=hops, x_proto=hops)  # type: ignore[method-assign]


def _with_addresses(application: "WSGIApplication") -> "WSGIApplication":
    """Ignore an entry of X-Forwarded-For that is no address: the proxy's own address counts as the client's then."""

    def with_address(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        given = read_address(environ.get("REMOTE_ADDR") or "")
        environ["REMOTE_ADDR"] = given or environ["werkzeug.proxy_fix.orig"]["REMOTE_ADDR"]
        return application(environ, start_response)

    return with_address


@lru_cache(maxsize=1024)
def read_address(entry: str) -> str | None:
    """The address in an entry of X-Forwarded-For, of at most 39 characters; None where there is none.

    It drops the port that some proxies add, and the zone (``%eth0``), which is meaningless on other machines; an
    IPv4-mapped IPv6 address becomes the IPv4 address.
    """
    host = entry.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return str((isinstance(address, IPv6Address) and address.ipv4_mapped) or address)
