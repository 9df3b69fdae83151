"""The two kinds of clients as Authlib takes them: apps of third parties, and API keys.

An app is `app_<id>` and gets what a person lets it do. A key is `cat_<id>`, its secret is the whole key, and it gets
what its scopes and its owner's role both grant.
"""

import re
from collections.abc import Collection
from typing import Any

from authlib.oauth2.rfc6749 import ClientMixin

from app.core import clock
from app.extensions import db
from app.features.api_keys import service as api_keys
from app.features.oauth_clients.models import ClientType, OAuthClient
from app.security.api_keys import CLIENT_PREFIX, PREFIX, fingerprint_of, parse_key
from app.security.permissions import GRANTS, Permission, Role
from app.security.tokens import APP_PREFIX

_CLIENT_ID = re.compile(rf"({APP_PREFIX}|{PREFIX})_([1-9][0-9]{{0,17}})")


class AppClient(ClientMixin):
    """An app of a third party."""

    def __init__(self, row: OAuthClient) -> None:
        self.row = row

    @property
    def scopes(self) -> Collection[str]:
        """The most that it may ask for."""
        return self.row.scopes

    def get_client_id(self) -> str:
        """Its name in requests."""
        return self.row.client_id

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether this is its secret."""
        parsed = parse_key(client_secret, prefix=CLIENT_PREFIX)
        return parsed is not None and parsed.key_id == self.row.id and self.row.accepts(parsed.secret_hash, clock.now())

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        """A public client has no secret, and a confidential one must not do without."""
        return (method == "none") == (self.row.type == ClientType.PUBLIC)

    def check_grant_type(self, grant_type: str) -> bool:
        """An app acts for people alone."""
        return grant_type in {"authorization_code", "refresh_token"}


class KeyClient(ClientMixin):
    """An API key. It is read from the database with its secret, and not before."""

    def __init__(self, key_id: int) -> None:
        self.key_id = key_id
        self.fingerprint = ""
        self._row: Any = None

    @property
    def scopes(self) -> Collection[str]:
        """The most that it may ask for."""
        scopes: Collection[str] = self._row.scopes
        return scopes

    @property
    def granted(self) -> frozenset[Permission]:
        """What its owner's role grants."""
        return GRANTS[Role(self._row.role)]

    def get_client_id(self) -> str:
        """Its name in requests."""
        return f"{PREFIX}_{self.key_id}"

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether this is the key, and it is valid."""
        parsed = parse_key(client_secret)
        if parsed is None or parsed.key_id != self.key_id:
            return False
        self._row, self.fingerprint = api_keys.find_valid(parsed), fingerprint_of(parsed.secret_hash)
        return self._row is not None

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        """It has a secret always."""
        return method != "none"

    def check_grant_type(self, grant_type: str) -> bool:
        """It acts for itself alone."""
        return grant_type == "client_credentials"


def find_client(client_id: str) -> AppClient | KeyClient | None:
    """The client of this name; None where there is none."""
    match = _CLIENT_ID.fullmatch(client_id)
    if match is None:
        return None
    if match[1] == PREFIX:
        return KeyClient(int(match[2]))
    row = db.session.get(OAuthClient, int(match[2]))
    return None if row is None else AppClient(row)
