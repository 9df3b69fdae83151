"""What the page for consent says of where the answer leads: no app may look like another."""

import pytest

from app.features.oauth.authorization import AuthorizationRequest
from app.features.oauth_clients.models import OAuthClient


def asked(redirect_uri: str) -> AuthorizationRequest:
    return AuthorizationRequest(
        client=OAuthClient(), redirect_uri=redirect_uri, state=None, scopes=(), code_challenge="x" * 43
    )


@pytest.mark.parametrize(
    ("redirect_uri", "destination"),
    [
        ("com.example.app://bank.example/callback", "com.example.app:"),
        ("com.example.app://bank.example:443/", "com.example.app:"),
        ("com.example.app:/callback", "com.example.app:"),
        ("https://bank.example@evil.example/", "evil.example"),
        ("https://evil.example/bank.example", "evil.example"),
    ],
)
def test_is_a_host_only_where_the_answer_goes_to_one(redirect_uri: str, destination: str) -> None:
    assert asked(redirect_uri).destination == destination


@pytest.mark.parametrize(
    ("redirect_uri", "is_local"),
    [
        ("HTTPS://evil.example/callback", False),
        ("https://evil.example/callback", False),
        ("http://127.0.0.1/callback", True),
        ("com.example.app:/callback", True),
    ],
)
def test_is_an_app_on_the_device_only_where_it_is_no_site(redirect_uri: str, is_local: bool) -> None:
    assert asked(redirect_uri).is_local is is_local
