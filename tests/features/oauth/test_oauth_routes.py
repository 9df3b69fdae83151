"""Revocation, introspection and grants over HTTP."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask

from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.users.models import User
from tests.apps import READS, ThirdParty, error_of, register, send
from tests.conftest import PASSWORD, Caller, body_of


@pytest.fixture
def others(root: Caller) -> ThirdParty:
    """Another."""
    return register(root, name="Others")


def key_of(owner: Caller, *scopes: str) -> dict[str, str]:
    """The credentials of a new API key, as a form."""
    made = body_of(owner.post("/api-keys", {"name": "sync", "scopes": scopes}))
    return {"client_id": f"cat_{made['id']}", "client_secret": made["key"]}


def token_of(app: Flask, key: dict[str, str]) -> str:
    """A token of a key."""
    return str(body_of(send(app, "/oauth/token", {"grant_type": "client_credentials", **key}))["access_token"])


class TestRevoke:
    @pytest.mark.parametrize("which", ["access_token", "refresh_token"])
    @pytest.mark.parametrize("type_", ["confidential", "public"])
    def test_ends_what_the_person_has_let_the_app_do(self, root: Caller, bob: Caller, which: str, type_: str) -> None:
        prices = register(root, type=type_)
        tokens, untouched = prices.tokens_for(bob), prices.tokens_for(bob)

        answer = prices.post("/oauth/revoke", token=tokens[which], token_type_hint="access_token")

        assert (answer.status_code, answer.get_data()) == (200, b"")
        assert prices.acting(tokens).get("/products").status_code == 401
        assert error_of(prices.refresh(tokens["refresh_token"])) == (400, "invalid_grant")
        assert prices.acting(untouched).get("/products").status_code == 200
        (event,) = body_of(root.get("/audit-events?action=grant.revoked"))["items"]
        assert event["resource_id"] == bob.user_id

    def test_is_no_error_the_second_time_nor_for_what_is_no_token(self, prices: ThirdParty, bob: Caller) -> None:
        token = prices.tokens_for(bob)["refresh_token"]

        assert [prices.post("/oauth/revoke", token=each).status_code for each in (token, token, "x")] == [200] * 3

    def test_refuses_another_apps_token(self, prices: ThirdParty, others: ThirdParty, bob: Caller) -> None:
        tokens = prices.tokens_for(bob)

        for token in tokens["access_token"], tokens["refresh_token"]:
            assert error_of(others.post("/oauth/revoke", token=token)) == (400, "invalid_grant")

        assert prices.acting(tokens).get("/products").status_code == 200

    def test_ends_no_login(self, prices: ThirdParty, bob: Caller, anonymous: Caller) -> None:
        login = body_of(anonymous.post("/auth/login", {"email": "bob@example.com", "password": PASSWORD}))

        for token in login["access_token"], login["refresh_token"]:
            assert prices.post("/oauth/revoke", token=token).status_code == 200

        assert Caller(prices.app, login["access_token"]).get("/users/me").status_code == 200

    def test_cannot_take_a_token_of_a_key_back(self, app: Flask, alice: Caller) -> None:
        key = key_of(alice, "products:read")
        token = token_of(app, key)

        answer = send(app, "/oauth/revoke", {**key, "token": token})

        assert error_of(answer) == (400, "unsupported_token_type")
        assert Caller(app, token).get("/products").status_code == 200

    def test_needs_the_client_and_a_token(self, prices: ThirdParty, bob: Caller) -> None:
        token = prices.tokens_for(bob)["refresh_token"]

        assert error_of(prices.post("/oauth/revoke")) == (400, "invalid_request")
        assert error_of(prices.post("/oauth/revoke", token=token, client_secret="")) == (401, "invalid_client")
        assert error_of(send(prices.app, "/oauth/revoke", {"token": token})) == (401, "invalid_client")


class TestIntrospect:
    def test_describes_an_access_token(self, app: Flask, prices: ThirdParty, bob: Caller) -> None:
        tokens = prices.tokens_for(bob)

        told = body_of(prices.post("/oauth/introspect", token=tokens["access_token"]))

        assert told.pop("jti")
        assert told.pop("exp") - told.pop("iat") == 900
        assert told == {
            "active": True,
            "scope": "categories:read products:read",
            "client_id": prices.client_id,
            "token_type": "Bearer",
            "sub": str(bob.user_id),
            "iss": app.config["ISSUER"],
            "aud": app.config["ISSUER"],
        }

    def test_describes_a_refresh_token_until_it_is_used(self, prices: ThirdParty, bob: Caller) -> None:
        token = prices.tokens_for(bob)["refresh_token"]
        before = body_of(prices.post("/oauth/introspect", token=token, token_type_hint="refresh_token"))

        prices.refresh(token)

        assert (before["active"], before["scope"], "token_type" in before) == (True, " ".join(READS), False)
        assert body_of(prices.post("/oauth/introspect", token=token)) == {"active": False}

    def test_describes_a_keys_token_to_the_key(self, app: Flask, alice: Caller) -> None:
        key = key_of(alice, "products:read")

        told = body_of(send(app, "/oauth/introspect", {**key, "token": token_of(app, key)}))

        assert (told["active"], told["client_id"], told["sub"]) == (True, key["client_id"], key["client_id"])

    def test_says_what_is_left_of_the_scopes(self, app: Flask, root: Caller, alice: Caller) -> None:
        feeds = register(root, scopes=["products:read", "products:write"])
        token = feeds.tokens_for(alice, ["products:read", "products:write"])["access_token"]
        with app.app_context(), unit_of_work():
            db.session.execute(db.update(User).where(User.id == alice.user_id).values(role="user"))

        assert body_of(feeds.post("/oauth/introspect", token=token))["scope"] == "products:read"

    @pytest.mark.parametrize(
        "end",
        [
            lambda prices, _bob, tokens: prices.post("/oauth/revoke", token=tokens["access_token"]),
            lambda _prices, bob, _tokens: bob.delete("/auth/sessions", if_match=None),
        ],
        ids=["revoked", "ended"],
    )
    def test_knows_what_has_ended(
        self, prices: ThirdParty, bob: Caller, end: Callable[[ThirdParty, Caller, dict[str, Any]], Any]
    ) -> None:
        tokens = prices.tokens_for(bob)
        end(prices, bob, tokens)

        told = [body_of(prices.post("/oauth/introspect", token=tokens[name])) for name in sorted(tokens)[:1]]

        assert told == [{"active": False}]
        assert body_of(prices.post("/oauth/introspect", token=tokens["refresh_token"])) == {"active": False}

    def test_knows_what_has_expired(self, prices: ThirdParty, bob: Caller) -> None:
        token = prices.tokens_for(bob)["access_token"]

        with time_machine.travel(clock.now() + timedelta(seconds=940)):
            assert body_of(prices.post("/oauth/introspect", token=token)) == {"active": False}

    def test_tells_nothing_of_anothers_token(
        self, prices: ThirdParty, others: ThirdParty, bob: Caller, alice: Caller
    ) -> None:
        tokens = prices.tokens_for(bob)
        key = key_of(alice, "products:read")

        for token in tokens["access_token"], tokens["refresh_token"]:
            assert body_of(others.post("/oauth/introspect", token=token)) == {"active": False}
            assert body_of(send(prices.app, "/oauth/introspect", {**key, "token": token})) == {"active": False}

    def test_tells_a_key_that_may_read_clients_of_any(self, prices: ThirdParty, bob: Caller, root: Caller) -> None:
        token = prices.tokens_for(bob)["access_token"]
        reading, other = key_of(root, "oauth-clients:read"), key_of(root, "products:read")

        told = [body_of(send(prices.app, "/oauth/introspect", {**key, "token": token})) for key in (reading, other)]

        assert [each["active"] for each in told] == [True, False]
        assert told[0]["client_id"] == prices.client_id

    def test_tells_nothing_of_a_login(self, prices: ThirdParty, bob: Caller, root: Caller) -> None:
        key = key_of(root, "oauth-clients:read")

        told = send(prices.app, "/oauth/introspect", {**key, "token": bob.token or ""})

        assert body_of(told) == {"active": False}

    def test_is_not_for_public_clients(self, root: Caller, bob: Caller) -> None:
        prices = register(root, type="public")
        token = prices.tokens_for(bob)["access_token"]

        assert error_of(prices.post("/oauth/introspect", token=token)) == (401, "invalid_client")


class TestGrants:
    def test_lists_what_the_person_has_let_apps_do(
        self, prices: ThirdParty, others: ThirdParty, bob: Caller, carol: Caller
    ) -> None:
        prices.tokens_for(bob, ["products:read"])
        others.tokens_for(bob)
        prices.tokens_for(carol)

        items = body_of(bob.get("/oauth/grants?sort_by=id&order=asc"))["items"]

        assert [(item["client"], item["scopes"]) for item in items] == [
            ({"client_id": prices.client_id, "name": "Prices"}, ["products:read"]),
            ({"client_id": others.client_id, "name": "Others"}, READS),
        ]
        assert items[0].keys() == {"id", "client", "scopes", "created_at", "last_seen_at", "expires_at"}

    def test_pages_by_cursor(self, prices: ThirdParty, bob: Caller) -> None:
        for _ in range(3):
            prices.tokens_for(bob)

        first = body_of(bob.get("/oauth/grants?cursor=&per_page=2"))
        rest = body_of(bob.get(f"/oauth/grants?cursor={first['meta']['next_cursor']}&per_page=2"))

        assert len({item["id"] for item in first["items"] + rest["items"]}) == 3

    def test_ends_one(self, prices: ThirdParty, bob: Caller, root: Caller) -> None:
        tokens, kept = prices.tokens_for(bob), prices.tokens_for(bob)
        (ended,) = (item["id"] for item in body_of(bob.get("/oauth/grants?sort_by=id&order=asc&per_page=1"))["items"])

        assert bob.delete(f"/oauth/grants/{ended}", if_match=None).status_code == 204

        assert prices.acting(tokens).get("/products").status_code == 401
        assert error_of(prices.refresh(tokens["refresh_token"])) == (400, "invalid_grant")
        assert prices.acting(kept).get("/products").status_code == 200
        assert bob.delete(f"/oauth/grants/{ended}", if_match=None).status_code == 404
        (event,) = body_of(root.get("/audit-events?action=grant.ended"))["items"]
        assert (event["actor_id"], event["after"]) == (bob.user_id, {"session_id": ended})

    def test_of_another_person_is_404(self, prices: ThirdParty, bob: Caller, carol: Caller, root: Caller) -> None:
        tokens = prices.tokens_for(bob)
        (grant,) = body_of(bob.get("/oauth/grants"))["items"]

        for other in (carol, root):
            assert other.delete(f"/oauth/grants/{grant['id']}", if_match=None).status_code == 404

        assert prices.acting(tokens).get("/products").status_code == 200

    def test_is_no_way_to_end_a_login(self, bob: Caller) -> None:
        (session,) = body_of(bob.get("/auth/sessions"))["items"]

        assert bob.delete(f"/oauth/grants/{session['id']}", if_match=None).status_code == 404


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/revoke", "/oauth/introspect"])
def test_without_a_name_of_its_own_a_server_issues_nothing(app_with: Callable[..., Flask], path: str) -> None:
    answer = send(
        app_with(public_url="http://catalog.example"), path, {"grant_type": "client_credentials", "token": "x"}
    )

    assert (answer.status_code, body_of(answer)["code"]) == (404, "oauth_unavailable")


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/revoke", "/oauth/introspect"])
def test_takes_forms_alone_and_each_parameter_once(app: Flask, path: str) -> None:
    url, client = f"/api/v1{path}", app.test_client()

    as_json = client.post(url, json={"grant_type": "client_credentials", "token": "x"})
    twice = client.post(url, data={"grant_type": ["client_credentials"] * 2, "token": ["x", "x"]})

    assert error_of(as_json) == (415, "invalid_request")
    assert error_of(twice) == (400, "invalid_request")
    assert twice.mimetype == "application/json"
