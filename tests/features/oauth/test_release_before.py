"""What servers of the release before make of the tokens of apps, while both run on one database."""

import pytest
from flask import Flask

from app.security.tokens import TokenInvalid, TokenKind, read_token
from tests.apps import ThirdParty
from tests.conftest import Caller


@pytest.mark.parametrize("token", ["access_token", "refresh_token"])
@pytest.mark.parametrize("kind", [TokenKind.ACCESS, TokenKind.REFRESH])
def test_a_token_of_an_app_is_none_of_a_login(
    app: Flask, prices: ThirdParty, bob: Caller, token: str, kind: TokenKind
) -> None:
    # They see nothing else of a token: their statements do not ask whether the session is an app's.
    with pytest.raises(TokenInvalid):
        read_token(prices.tokens_for(bob)[token], kind, app.extensions["key_ring"])


def test_a_token_of_a_login_refreshes_no_app(app: Flask, anonymous: Caller, bob: Caller) -> None:
    pair = anonymous.post("/auth/login", {"email": "bob@example.com", "password": "correct horse battery"}).json
    assert pair is not None

    with pytest.raises(TokenInvalid):
        read_token(pair["refresh_token"], TokenKind.GRANT, app.extensions["key_ring"])
