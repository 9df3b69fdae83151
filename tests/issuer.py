"""An identity provider on loopback that does as a test says: its tokens may be wrong in any way."""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from app.security.keys import OneAlgorithm

CLIENT_ID, CLIENT_SECRET = "catalog:1", "s3cret/with+signs and%"
#: RSA keys take longest to make, so that there are only two.
RSA_KEYS = {kid: RSAKey.generate_key(2048, {"kid": kid, "use": "sig"}) for kid in ("rsa-1", "rsa-2")}
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


@dataclass
class Granted:
    """What a code stands for."""

    claims: dict[str, Any]
    redirect_uri: str
    code_challenge: str


@dataclass
class Issuer:
    """The provider, its keys, and what it does wrong. Safe to use by many threads."""

    url: str = ""
    keys: list[Key] = field(default_factory=lambda: [RSA_KEYS["rsa-1"]])
    algorithm: str = "RS256"
    #: Members of the discovery document that differ; None leaves one out.
    metadata: dict[str, Any] = field(default_factory=dict)
    #: What a path responds with instead: a status and a body, after some seconds.
    instead: dict[str, tuple[int, Any, float]] = field(default_factory=dict)
    #: The claims of UserInfo; it is of the person whose code was redeemed last, unless it names another.
    userinfo: dict[str, Any] = field(default_factory=dict)
    last_subject: str = ""
    #: Changes the claims and the header of each ID token, and signs it in another way.
    sign: Callable[[dict[str, Any], dict[str, Any]], str] | None = None
    #: Members of the token response that differ; None leaves one out.
    tokens: dict[str, Any] = field(default_factory=dict)
    requests: list[tuple[str, Mapping[str, str], str]] = field(default_factory=list)
    codes: dict[str, Granted] = field(default_factory=dict)

    def reset(self) -> None:
        """Forget everything but the address."""
        self.__dict__.update(vars(Issuer(url=self.url)))

    def counted(self, path: str) -> int:
        """How many requests to a path have come."""
        return Counter(seen for seen, _, _ in self.requests)[path]

    def fail(self, path: str, status: int = 500, body: Any = None, seconds: float = 0.0) -> None:
        """Respond with this at a path from now on."""
        self.instead[path] = (status, body if body is not None else {"error": "server_error"}, seconds)

    def rotate(self, key: Key) -> None:
        """Sign with another key from now on, and publish it alone."""
        self.keys = [key]

    def grant(self, location: str, **claims: Any) -> dict[str, str]:
        """Log a person in who was sent to ``location``: the parameters with which the browser comes back."""
        asked = dict(parse_qsl(urlsplit(location).query))
        assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == (
            *("code", CLIENT_ID),
            "S256",
        )
        code = secrets.token_urlsafe(16)
        now = int(time.time())
        known = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        self.codes[code] = Granted({**known, **claims}, asked["redirect_uri"], asked["code_challenge"])
        return {"code": code, "state": asked["state"]}

    def logout_token(self, *, header: Mapping[str, Any] | None = None, key: Key | None = None, **claims: Any) -> str:
        """A logout token; a claim that is None is left out."""
        now = int(time.time())
        known = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 120,
            "jti": secrets.token_hex(8),
            "events": {LOGOUT_EVENT: {}},
        }
        told = {name: value for name, value in {**known, **claims}.items() if value is not None}
        return self.signed(told, {"typ": "logout+jwt", **(header or {})}, key=key)

    def signed(self, claims: dict[str, Any], header: Mapping[str, Any], *, key: Key | None = None) -> str:
        """A token of these claims, signed with the current key unless another is given."""
        key = key or self.keys[0]
        named = {"alg": self.algorithm, "kid": key.kid, **header}
        named = {name: value for name, value in named.items() if value is not None}
        return jwt.encode(named, claims, key, registry=OneAlgorithm(algorithms=[named["alg"]]), default_type=None)

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: str) -> tuple[int, Any]:
        """The response to a request."""
        self.requests.append((path, headers, body))
        if path in self.instead:
            status, content, seconds = self.instead[path]
            time.sleep(seconds)
            return status, content
        if path == "/.well-known/openid-configuration":
            return 200, self._metadata()
        if path == "/jwks":
            return 200, {"keys": [key.as_dict(private=False) for key in self.keys]}
        if path == "/token" and method == "POST":
            return self._token(headers, {name: value[0] for name, value in parse_qs(body).items()})
        if path == "/userinfo":
            return (
                (200, {"sub": self.last_subject, **self.userinfo})
                if headers["authorization"] == "Bearer acc-ess"
                else (401, {})
            )
        return 404, {}

    def _metadata(self) -> dict[str, Any]:
        known = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize?ui=plain",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "id_token_signing_alg_values_supported": ["RS256", "ES256", "EdDSA", "HS256", "none"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            **self.metadata,
        }
        return {name: value for name, value in known.items() if value is not None}

    def _token(self, headers: Mapping[str, str], form: dict[str, str]) -> tuple[int, Any]:
        if _credentials(headers, form) != (CLIENT_ID, CLIENT_SECRET):
            return 401, {"error": "invalid_client"}
        granted = self.codes.pop(form.get("code", ""), None)
        if granted is None or form.get("redirect_uri") != granted.redirect_uri:
            return 400, {"error": "invalid_grant"}
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != granted.code_challenge:
            return 400, {"error": "invalid_grant"}
        claims = {name: value for name, value in granted.claims.items() if value is not None}
        self.last_subject = claims.get("sub", "")
        token = self.sign(claims, {}) if self.sign else self.signed(claims, {})
        found = {"id_token": token, "access_token": "acc-ess", "token_type": "Bearer", **self.tokens}
        return 200, {name: value for name, value in found.items() if value is not None}


def _credentials(headers: Mapping[str, str], form: Mapping[str, str]) -> tuple[str | None, str | None]:
    if "authorization" not in headers:
        return form.get("client_id"), form.get("client_secret")
    decoded = base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode()
    name, _, secret = decoded.partition(":")
    return unquote_plus(name), unquote_plus(secret)


def new_key(kind: str, kid: str) -> Key:
    """A new key: "RSA" is one of two."""
    if kind == "RSA":
        return RSA_KEYS[kid]
    if kind == "EC":
        return ECKey.generate_key("P-256", {"kid": kid})
    return OKPKey.generate_key("Ed25519", {"kid": kid})


@contextmanager
def issuer() -> Iterator[Issuer]:
    """Run a provider on a free port."""
    kept = Issuer()

    class Handler(BaseHTTPRequestHandler):
        # No connection outlives its request: the application in a test has no end at which to close them.
        protocol_version = "HTTP/1.0"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, content = kept.answer(self.command, urlsplit(self.path).path, headers, body)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST  # noqa: N815 -- the name that the library looks for

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that does not wait for a response is what some tests are about."""

    with Server(("127.0.0.1", 0), Handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()
