"""An API key as an OAuth client: what it gets at the token endpoint, and for how long that is good."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote_plus

import pytest
import time_machine
from flask import Flask

from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.users.models import User
from app.security.api_keys import format_key, make_secret
from tests.apps import basic, error_of, register, send
from tests.conftest import Caller, body_of

KEY = {"name": "Warehouse sync", "scopes": ["categories:write", "products:read"]}


@pytest.fixture
def key(alice: Caller) -> dict[str, Any]:
    """A key of alice's."""
    return body_of(alice.post("/api-keys", KEY))


def ask(app: Flask, key: dict[str, Any], **form: str) -> Any:
    """Ask for a token, with the key in the form."""
    credentials = {"client_id": f"cat_{key['id']}", "client_secret": key["key"]}
    return send(app, "/oauth/token", {"grant_type": "client_credentials", **credentials, **form})


def caller(app: Flask, key: dict[str, Any], **form: str) -> Caller:
    """Who acts with a new token of a key."""
    return Caller(app, body_of(ask(app, key, **form))["access_token"])


def payload_of(token: str) -> dict[str, Any]:
    """What a token says."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


class TestToken:
    def test_has_all_scopes_unless_fewer_are_asked_for(self, app: Flask, key: dict[str, Any]) -> None:
        answer = ask(app, key)
        told = body_of(answer)

        assert told.keys() == {"access_token", "token_type", "expires_in", "scope"}
        assert (told["token_type"], told["expires_in"], told["scope"]) == (
            "Bearer",
            900,
            "categories:write products:read",
        )
        assert body_of(ask(app, key, scope="products:read"))["scope"] == "products:read"
        assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")

    def test_is_a_jwt_as_rfc_9068_says(self, app: Flask, key: dict[str, Any]) -> None:
        token = body_of(ask(app, key))["access_token"]
        head = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
        claims = payload_of(token)

        assert head["typ"] == "at+jwt"
        assert claims["iss"] == claims["aud"] == app.config["ISSUER"]
        assert claims["sub"] == claims["client_id"] == f"cat_{key['id']}"
        assert claims["exp"] - claims["iat"] == 900
        assert claims["scope"] == "categories:write products:read"
        assert claims["jti"] != payload_of(body_of(ask(app, key))["access_token"])["jti"]

    def test_does_what_it_says_and_no_more(self, app: Flask, key: dict[str, Any]) -> None:
        whole, part = caller(app, key), caller(app, key, scope="products:read")

        assert (whole.get("/products").status_code, whole.post("/categories", {"name": "A"}).status_code) == (200, 201)
        assert (part.get("/products").status_code, part.post("/categories", {"name": "B"}).status_code) == (200, 403)
        assert whole.get("/categories").status_code == 403

    def test_is_recorded_as_the_keys(self, app: Flask, key: dict[str, Any], root: Caller) -> None:
        caller(app, key).post("/categories", {"name": "Chairs"})

        (event,) = body_of(root.get("/audit-events?action=category.created"))["items"]
        assert (event["actor_id"], event["api_key_id"]) == (key["user_id"], key["id"])

    def test_is_a_use_of_the_key(self, app: Flask, alice: Caller, key: dict[str, Any]) -> None:
        caller(app, key).get("/products")

        assert body_of(alice.get(f"/api-keys/{key['id']}"))["last_used_at"] is not None

    def test_is_no_longer_good_for_than_15_minutes(
        self, app: Flask, app_with: Callable[..., Flask], key: dict[str, Any]
    ) -> None:
        longer, shorter = app_with(access_token_ttl=3600), app_with(access_token_ttl=60)

        assert [body_of(ask(each, key))["expires_in"] for each in (longer, shorter)] == [900, 60]
        acting = caller(app, key)
        with time_machine.travel(clock.now() + timedelta(seconds=940)):
            assert acting.get("/products").status_code == 401


class TestEnds:
    def test_when_the_key_is_revoked(self, app: Flask, alice: Caller, key: dict[str, Any]) -> None:
        acting = caller(app, key)
        before = acting.get("/products").status_code

        alice.delete(f"/api-keys/{key['id']}")

        assert (before, acting.get("/products").status_code) == (200, 401)
        assert error_of(ask(app, key)) == (401, "invalid_client")

    def test_when_the_key_gets_another_secret(self, app: Flask, alice: Caller, key: dict[str, Any]) -> None:
        old = caller(app, key)

        renewed = body_of(alice.post(f"/api-keys/{key['id']}/rotate", {"overlap_seconds": 0}))

        assert old.get("/products").status_code == 401
        assert caller(app, renewed).get("/products").status_code == 200

    def test_when_the_overlap_of_a_rotation_ends(self, app: Flask, alice: Caller, key: dict[str, Any]) -> None:
        old = caller(app, key)

        alice.post(f"/api-keys/{key['id']}/rotate", {"overlap_seconds": 60})

        assert old.get("/products").status_code == 200
        with time_machine.travel(clock.now() + timedelta(seconds=61)):
            assert old.get("/products").status_code == 401

    def test_when_the_key_expires(self, app: Flask, alice: Caller, key: dict[str, Any]) -> None:
        acting = caller(app, key)
        alice.patch(f"/api-keys/{key['id']}", {"expires_at": (clock.now() + timedelta(seconds=30)).isoformat()})

        assert acting.get("/products").status_code == 200
        with time_machine.travel(clock.now() + timedelta(seconds=31)):
            assert acting.get("/products").status_code == 401

    @pytest.mark.parametrize(("changed", "status"), [({"is_active": False}, 401), ({"role": "user"}, 403)], ids=str)
    def test_with_its_owners_rights(
        self, app: Flask, key: dict[str, Any], changed: dict[str, Any], status: int
    ) -> None:
        acting = caller(app, key)
        with app.app_context(), unit_of_work():
            db.session.execute(db.update(User).where(User.id == key["user_id"]).values(**changed))

        assert acting.post("/categories", {"name": "Chairs"}).status_code == status

    def test_with_the_keys_scopes(self, app: Flask, alice: Caller, key: dict[str, Any]) -> None:
        acting = caller(app, key)

        alice.patch(f"/api-keys/{key['id']}", {"scopes": ["categories:write"]})

        assert acting.get("/products").status_code == 403


class TestScope:
    @pytest.mark.parametrize("scope", ["everything", "products:read everything", "products:write", "account:manage"])
    def test_that_the_key_lacks_is_refused(self, app: Flask, key: dict[str, Any], scope: str) -> None:
        assert error_of(ask(app, key, scope=scope)) == (400, "invalid_scope")

    def test_that_the_owners_role_lacks_is_left_out(self, app: Flask, key: dict[str, Any]) -> None:
        with app.app_context(), unit_of_work():
            db.session.execute(db.update(User).where(User.id == key["user_id"]).values(role="user"))

        assert body_of(ask(app, key))["scope"] == "products:read"
        assert error_of(ask(app, key, scope="categories:write")) == (400, "invalid_scope")

    def test_may_be_asked_for_in_any_order_and_twice(self, app: Flask, key: dict[str, Any]) -> None:
        assert body_of(ask(app, key, scope="products:read  categories:write products:read"))["scope"] == (
            "categories:write products:read"
        )


class TestAuthentication:
    def test_by_header_is_form_encoded(self, app: Flask, key: dict[str, Any]) -> None:
        form = {"grant_type": "client_credentials"}
        client_id = "".join(f"%{ord(character):02X}" for character in f"cat_{key['id']}")

        for headers in (basic(f"cat_{key['id']}", quote_plus(key["key"])), basic(client_id, key["key"])):
            assert send(app, "/oauth/token", form, headers).status_code == 200

    def test_by_header_may_name_the_client_in_the_form_too(self, app: Flask, key: dict[str, Any]) -> None:
        form, headers = {"grant_type": "client_credentials"}, basic(f"cat_{key['id']}", key["key"])

        assert send(app, "/oauth/token", {**form, "client_id": f"cat_{key['id']}"}, headers).status_code == 200
        assert error_of(send(app, "/oauth/token", {**form, "client_id": "cat_1000"}, headers)) == (
            400,
            "invalid_request",
        )

    def test_in_two_ways_at_once_is_refused(self, app: Flask, key: dict[str, Any]) -> None:
        form = {"grant_type": "client_credentials", "client_secret": key["key"]}

        answer = send(app, "/oauth/token", form, basic(f"cat_{key['id']}", key["key"]))

        assert error_of(answer) == (400, "invalid_request")

    @pytest.mark.parametrize(
        "credentials",
        [
            lambda key, other: (f"cat_{key['id']}", other["key"]),
            lambda key, other: (f"cat_{other['id']}", key["key"]),
            lambda key, _: (f"cat_{key['id']}", format_key(key["id"], make_secret())),
            lambda key, _: (f"cat_{key['id']}", key["key"].split("_")[2]),
            lambda key, _: (f"app_{key['id']}", key["key"]),
            lambda key, _: (f"cat_0{key['id']}", key["key"]),
            lambda _, __: ("cat_999999999999999999", format_key(999999999999999999, make_secret())),
            lambda _, __: ("cat_9223372036854775808", "x"),
            lambda _, __: ("nobody", "x"),
            lambda key, _: (key["key"], key["key"]),
        ],
        ids=[*"abcdefghij"],
    )
    def test_with_other_than_its_own_key_is_refused(
        self, app: Flask, alice: Caller, key: dict[str, Any], credentials: Callable[..., tuple[str, str]]
    ) -> None:
        client_id, secret = credentials(key, body_of(alice.post("/api-keys", KEY)))
        form = {"grant_type": "client_credentials"}

        by_header = send(app, "/oauth/token", form, basic(client_id, secret))
        by_form = send(app, "/oauth/token", {**form, "client_id": client_id, "client_secret": secret})

        for answer in (by_header, by_form):
            assert error_of(answer) == (401, "invalid_client")
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")

    @pytest.mark.parametrize(
        "header", ["Basic", "Basic ", "Basic é", "Basic /////w==", "Basic Og==", "Bearer x", "x"], ids=ascii
    )
    def test_by_what_is_no_header_of_a_client_is_refused(self, app: Flask, header: str) -> None:
        answer = send(app, "/oauth/token", {"grant_type": "client_credentials"}, {"Authorization": header})

        assert error_of(answer) == (401, "invalid_client")

    def test_by_form_may_stand_beside_a_token(self, app: Flask, alice: Caller, key: dict[str, Any]) -> None:
        form = {"grant_type": "client_credentials", "client_id": f"cat_{key['id']}", "client_secret": key["key"]}

        answer = send(app, "/oauth/token", form, {"Authorization": f"Bearer {alice.token}"})

        assert answer.status_code == 200

    def test_by_id_alone_is_refused(self, app: Flask, key: dict[str, Any]) -> None:
        form = {"grant_type": "client_credentials", "client_id": f"cat_{key['id']}"}

        assert error_of(send(app, "/oauth/token", form)) == (401, "invalid_client")

    def test_is_not_counted_against_the_owner(self, app: Flask, key: dict[str, Any]) -> None:
        for _ in range(20):
            ask(app, {**key, "key": "guess"})

        assert ask(app, key).status_code == 200


class TestRequest:
    @pytest.mark.parametrize(
        ("form", "error"),
        [
            ({}, "invalid_request"),
            ({"grant_type": ""}, "invalid_request"),
            ({"grant_type": "password"}, "unsupported_grant_type"),
            ({"grant_type": "implicit"}, "unsupported_grant_type"),
            ({"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange"}, "unsupported_grant_type"),
            ({"grant_type": "authorization_code"}, "unauthorized_client"),
            ({"grant_type": "refresh_token", "refresh_token": "x"}, "unauthorized_client"),
        ],
        ids=repr,
    )
    def test_is_for_a_grant_that_a_key_has(
        self, app: Flask, key: dict[str, Any], form: dict[str, str], error: str
    ) -> None:
        credentials = {"client_id": f"cat_{key['id']}", "client_secret": key["key"]}

        assert error_of(send(app, "/oauth/token", {**credentials, **form})) == (400, error)

    def test_of_an_app_gets_no_token_for_itself(self, root: Caller) -> None:
        answer = register(root).post("/oauth/token", grant_type="client_credentials")

        assert error_of(answer) == (400, "unauthorized_client")

    def test_is_no_dry_run(self, app: Flask, key: dict[str, Any]) -> None:
        credentials = {"client_id": f"cat_{key['id']}", "client_secret": key["key"]}

        answer = send(app, "/oauth/token?dry_run=true", {"grant_type": "client_credentials", **credentials})

        assert error_of(answer) == (400, "invalid_request")

    def test_costs_one_statement_beside_a_begin(
        self, key: dict[str, Any], statements_of: Callable[[Callable[[Flask], Any]], int]
    ) -> None:
        assert statements_of(lambda app: ask(app, key)) <= 2
