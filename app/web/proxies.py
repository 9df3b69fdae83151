"""The client's address, scheme and host, from as many proxies as the deployment trusts and not one more."""

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix


def init_app(app: Flask) -> None:
    """Believe the last ``TRUSTED_PROXIES`` entries of X-Forwarded-For and -Proto; with none, believe nothing."""
    hops = app.config["TRUSTED_PROXIES"]
    if hops:
        # X-Forwarded-Host stays unread: links are relative, and the proxy passes Host on.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops)  # type: ignore[method-assign]
