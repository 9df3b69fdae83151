"""The metadata of the authorization server (RFC 8414)."""

from collections.abc import Callable

import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from flask import Flask

from tests.conftest import Caller, body_of, on_one_database
from tests.features.oauth.test_access_tokens import pem

METADATA = "//.well-known/oauth-authorization-server"


@on_one_database
class TestMetadata:
    def test_is_valid_to_a_client_library(self, anonymous: Caller) -> None:
        answer = anonymous.get(METADATA)

        AuthorizationServerMetadata(body_of(answer)).validate()
        assert answer.headers["Cache-Control"] == "public, max-age=300"

    def test_names_the_server_by_its_public_url(self, app_with: Callable[..., Flask]) -> None:
        told = body_of(Caller(app_with(public_url="https://shop.example/catalog")).get(METADATA))

        assert told["issuer"] == "https://shop.example/catalog"
        assert told["token_endpoint"] == "https://shop.example/catalog/api/v1/oauth/token"

    def test_names_endpoints_that_are_there(self, app: Flask, anonymous: Caller) -> None:
        told = body_of(anonymous.get(METADATA))
        names = ("token_endpoint", "revocation_endpoint", "introspection_endpoint")

        for name in names:
            answer = anonymous.call("POST", f"/{told[name].removeprefix(app.config['ISSUER'])}", data={})
            assert answer.status_code == 415, name

    def test_names_a_key_set_where_there_is_one(self, anonymous: Caller, app_with: Callable[..., Flask]) -> None:
        signing = Caller(app_with(jwt_key_files=(pem("ES256"),)))

        uri = body_of(signing.get(METADATA))["jwks_uri"].removeprefix(signing.app.config["ISSUER"])

        assert len(body_of(signing.get(f"/{uri}"))["keys"]) == 1
        assert "jwks_uri" not in body_of(anonymous.get(METADATA))

    @pytest.mark.parametrize("url", ["http://catalog.example", "http://192.0.2.7:8000"])
    def test_is_not_there_for_a_server_of_open_lines(self, app_with: Callable[..., Flask], url: str) -> None:
        answer = Caller(app_with(public_url=url)).get(METADATA)

        assert (answer.status_code, body_of(answer)["code"]) == (404, "oauth_unavailable")
