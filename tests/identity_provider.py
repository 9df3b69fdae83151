"""An OpenID provider on the loopback, written by others (npm's `oidc-provider`), which a test changes while it runs."""

import http.client
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.node import command, environment
from tests.servers import free_port

CLIENT_ID = "catalog"
#: With characters that RFC 6749 section 2.3.1 has encoded before they go into a header.
CLIENT_SECRET = "what:the+provider/and%20the=catalogue&know"

Key = Literal["current", "unpublished", "secret", "none"]


@dataclass
class IdentityProvider:
    """A provider on a port of the loopback: its issuer identifier, and what it is started with."""

    issuer: str
    settings: str
    log_path: Path
    #: It leads a group of its own: Node may be started by another program.
    process: subprocess.Popen[bytes] | None = None

    def start(self, *, seconds: float = 30) -> None:
        """Start the process, and wait until it responds."""
        with self.log_path.open("ab") as output:
            self.process = subprocess.Popen(
                command("provider.mjs", self.settings),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + seconds
        while not self._responds():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The identity provider does not respond: {self.log()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the process, so that nothing listens."""
        if self.process is not None:
            self._signal(signal.SIGTERM)
            self.process.wait(15)
            self.process = None

    def change_account(self, subject: str, **claims: Any) -> None:
        """Replace the claims of an account, or make it."""
        self._order(accounts={subject: claims})

    def rotate(self, algorithm: Literal["RS256", "ES256"] = "RS256") -> None:
        """Sign with a new key from now on, and publish that alone."""
        self._order(rotate=algorithm)

    @contextmanager
    def forging(
        self, *, key: Key = "current", header: Mapping[str, Any] | None = None, **claims: Any
    ) -> Iterator[None]:
        """Change every ID token after it was made: replace claims (None removes one) and sign it with another key."""
        self._order(forge={"key": key, "header": dict(header or {}), "claims": claims})
        try:
            yield
        finally:
            self._order(forge=None)

    @contextmanager
    def conforming(self) -> Iterator[None]:
        """Have the claims of scopes at the userinfo endpoint alone (OpenID Connect Core 1.0 section 5.4)."""
        self._order(conform=True)
        try:
            yield
        finally:
            self._order(conform=False)

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Stop the process for the length of a block: connections are taken, and nothing answers."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def requests_for(self, path: str) -> int:
        """How many requests have come for a path."""
        requests: dict[str, int] = self._control("GET")["requests"]
        return requests.get(path, 0)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def _responds(self) -> bool:
        try:
            self._control("GET")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def _order(self, **order: Any) -> None:
        self._control("POST", json.dumps(order))

    def _control(self, method: str, body: str | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self.issuer.removeprefix("http://"), timeout=30)
        try:
            connection.request(method, "/control", body)
            answer = connection.getresponse()
            content: dict[str, Any] = json.loads(answer.read())
            assert answer.status == 200, content
            return content
        finally:
            connection.close()


@contextmanager
def identity_provider(
    *,
    redirect_uris: Sequence[str],
    accounts: Mapping[str, Mapping[str, Any]] | None = None,
    backchannel_logout_uri: str | None = None,
    host: str = "127.0.0.1",
) -> Iterator[IdentityProvider]:
    """Run the provider, with one confidential client, until the end of the block.

    `accounts` are the claims by subject; the login form takes the subject and any password.
    """
    port = free_port()
    issuer = f"http://{host}:{port}"
    client: dict[str, Any] = {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "redirect_uris": list(redirect_uris),
    }
    if backchannel_logout_uri:
        client |= {"backchannel_logout_uri": backchannel_logout_uri, "backchannel_logout_session_required": True}
    settings = {"issuer": issuer, "client": client, "accounts": accounts or {}}
    with tempfile.TemporaryDirectory(prefix="catalog-provider-") as folder:
        provider = IdentityProvider(issuer, json.dumps(settings), Path(folder, "log"))
        try:
            provider.start()
            yield provider
        finally:
            provider.stop()


@contextmanager
def provider_of_another_site(api: str) -> Iterator[IdentityProvider]:
    """Run the provider, with an account for Ann, for browsers that visit a server at 127.0.0.1.

    Its host is localhost, another site: a browser takes a cookie along from there where SameSite lets it.
    """
    callbacks = [f"{api}/auth/oidc/company/callback"]
    accounts = {"ann": {"email": "ann@example.com", "email_verified": True}}
    with identity_provider(host="localhost", redirect_uris=callbacks, accounts=accounts) as provider:
        yield provider
