"""Credentials: which ones are read, and what a bad one is answered with; and the public catalogue."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask

from app.core import clock
from tests.conftest import PASSWORD, Caller, body_of, code_of

Make = Callable[..., dict[str, Any]]
AppWith = Callable[..., Flask]


class TestCredentials:
    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    def test_are_named_in_any_case(self, bob: Caller, anonymous: Caller, scheme: str) -> None:
        answer = anonymous.get("/users/me", headers={"Authorization": f"{scheme} {bob.token}"})

        assert answer.status_code == 200

    def test_may_stand_apart(self, bob: Caller, anonymous: Caller) -> None:
        answer = anonymous.get("/users/me", headers={"Authorization": f"Bearer   {bob.token} "})

        assert answer.status_code == 200

    def test_that_are_missing_are_401_with_a_plain_challenge(self, anonymous: Caller) -> None:
        answer = anonymous.get("/users/me")

        assert code_of(answer) == "credentials_missing"
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="catalog"'

    @pytest.mark.parametrize(
        "header",
        ["", "Bearer", "Bearer ", "Basic Ym9iOmJvYg==", "Token x", "Bearer x", "Bearer a.b.c", "Bearerx", "Bearer é"],
    )
    def test_that_are_no_token_are_401_with_the_reason(self, anonymous: Caller, header: str) -> None:
        answer = anonymous.get("/users/me", headers={"Authorization": header})

        assert answer.status_code == 401
        assert code_of(answer) == "token_invalid"
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="catalog", error="invalid_token"')

    def test_that_are_an_unknown_key_are_401(self, anonymous: Caller) -> None:
        answer = anonymous.get("/users/me", headers={"X-API-Key": "cat_1_secret"})

        assert answer.status_code == 401
        assert code_of(answer) == "credentials_invalid"

    def test_are_not_read_where_nobody_asks(self, anonymous: Caller) -> None:
        answer = anonymous.get("//livez", headers={"Authorization": "Bearer nonsense", "X-API-Key": "x"})

        assert answer.status_code == 200

    def test_without_the_right_are_403_with_its_name(self, bob: Caller) -> None:
        answer = bob.post("/categories", {"name": "Chairs"})

        assert answer.status_code == 403
        assert body_of(answer)["permission"] == "categories:write"
        assert "WWW-Authenticate" not in answer.headers


def make_key(owner: Caller, *scopes: str) -> str:
    """A new API key."""
    key: str = body_of(owner.post("/api-keys", {"name": "Sync", "scopes": list(scopes or ["products:read"])}))["key"]
    return key


class TestBothKinds:
    def test_of_one_user_have_the_tokens_rights(self, alice: Caller) -> None:
        answer = alice.post("/categories", {"name": "Chairs"}, headers={"X-API-Key": make_key(alice)})

        assert answer.status_code == 201

    def test_of_one_user_are_a_person(self, alice: Caller) -> None:
        assert alice.get("/users/me", headers={"X-API-Key": make_key(alice)}).status_code == 200

    def test_of_two_users_are_400(self, alice: Caller, bob: Caller) -> None:
        answer = bob.get("/products", headers={"X-API-Key": make_key(alice)})

        assert (answer.status_code, code_of(answer)) == (400, "ambiguous_credentials")

    @pytest.mark.parametrize("key", ["cat_1_secret", "nonsense", f"cat_1_{'A' * 32}00000000"])
    def test_are_400_with_a_key_of_nobody(self, bob: Caller, key: str) -> None:
        answer = bob.get("/users/me", headers={"X-API-Key": key})

        assert (answer.status_code, code_of(answer)) == (400, "ambiguous_credentials")

    def test_are_400_with_a_key_that_was_revoked(self, alice: Caller) -> None:
        made = body_of(alice.post("/api-keys", {"name": "Sync", "scopes": ["products:read"]}))
        alice.delete(f"/api-keys/{made['id']}")

        answer = alice.get("/products", headers={"X-API-Key": made["key"]})

        assert (answer.status_code, code_of(answer)) == (400, "ambiguous_credentials")

    @pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer", "Basic Ym9iOmJvYg=="])
    def test_are_400_with_a_token_of_nobody(self, alice: Caller, anonymous: Caller, header: str) -> None:
        answer = anonymous.get("/products", headers={"Authorization": header, "X-API-Key": make_key(alice)})

        assert (answer.status_code, code_of(answer)) == (400, "ambiguous_credentials")

    @pytest.mark.parametrize("key", ["", " ", "{token}", " {token} "])
    def test_are_one_where_the_key_is_empty_or_repeats_the_token(self, bob: Caller, key: str) -> None:
        answer = bob.get("/users/me", headers={"X-API-Key": key.format(token=bob.token)})

        assert answer.status_code == 200

    def test_are_one_where_the_token_repeats_the_key(self, alice: Caller, anonymous: Caller) -> None:
        key = make_key(alice)
        headers = {"Authorization": f"Bearer {key}", "X-API-Key": key}

        assert anonymous.get("/products", headers=headers).status_code == 200
        assert anonymous.post("/categories", {"name": "Chairs"}, headers=headers).status_code == 403

    @pytest.mark.parametrize("key", ["", "nonsense"])
    def test_are_401_with_a_bad_token_alone(self, anonymous: Caller, key: str) -> None:
        answer = anonymous.get("/users/me", headers={"Authorization": "Bearer nonsense", "X-API-Key": key})

        assert (answer.status_code, code_of(answer)) == (401, "token_invalid")

    def test_are_401_once_the_token_has_expired(self, alice: Caller) -> None:
        key = make_key(alice)

        with time_machine.travel(clock.now() + timedelta(hours=1), tick=False):
            answer = alice.get("/products", headers={"X-API-Key": key})

        assert (answer.status_code, code_of(answer)) == (401, "token_expired")

    def test_are_taken_beside_a_refresh_token(self, alice: Caller, bob: Caller, anonymous: Caller) -> None:
        login = {"email": "alice@example.com", "password": PASSWORD}
        token = body_of(anonymous.post("/auth/login", login))["refresh_token"]
        statuses = [
            anonymous.post(
                "/auth/refresh", headers={"Authorization": f"Bearer {token}", "X-API-Key": make_key(owner)}
            ).status_code
            for owner in (bob, alice)
        ]

        assert statuses == [400, 200]

    def test_cost_one_kind_no_statement(self, alice: Caller) -> None:
        def cost(**headers: str) -> int:
            answer = alice.get("/users/me", headers=headers)
            return int(answer.headers["Server-Timing"].split('desc="')[1].split()[0])

        assert cost() == cost(**{"X-API-Key": ""}) < cost(**{"X-API-Key": make_key(alice)})


class TestPublicCatalogue:
    @pytest.fixture
    def public(self, anonymous: Caller, app_with: AppWith) -> Caller:
        """Nobody, where everybody may read."""
        return anonymous.on(app_with(catalog_public_read=True, public_cache_max_age=60))

    @pytest.mark.parametrize("path", ["/products", "/products?cursor=", "/categories"])
    def test_is_listed_to_anybody(self, public: Caller, path: str) -> None:
        answer = public.get(path)

        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "public, max-age=60"
        assert answer.headers["Vary"] == "Authorization, X-API-Key"

    def test_is_read_by_anybody(self, public: Caller, make_product: Make) -> None:
        answer = public.get(f"/products/{make_product()['id']}")

        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "public, max-age=60"
        assert answer.headers["ETag"] == '"1.0"'

    def test_may_be_kept_again_by_who_holds_it(self, public: Caller, make_product: Make) -> None:
        answer = public.get(f"/products/{make_product()['id']}", headers={"If-None-Match": '"1.0"'})

        assert answer.status_code == 304
        assert answer.headers["Cache-Control"] == "public, max-age=60"

    def test_must_be_asked_for_again_by_default(self, anonymous: Caller, app_with: AppWith) -> None:
        answer = anonymous.on(app_with(catalog_public_read=True)).get("/products")

        assert answer.headers["Cache-Control"] == "public, max-age=0"

    @pytest.mark.parametrize("status", ["draft", "archived"])
    def test_shows_active_products_only(self, public: Caller, make_product: Make, status: str) -> None:
        product = make_product(status=status)

        assert public.get(f"/products/{product['id']}").status_code == 404
        assert body_of(public.get("/products"))["items"] == []

    def test_keeps_errors_out_of_caches(self, public: Caller) -> None:
        assert public.get(f"/products/{2**40}").headers["Cache-Control"] == "no-store"

    def test_is_private_to_who_has_credentials(self, public: Caller, bob: Caller) -> None:
        answer = bob.on(public.app).get("/products")

        assert answer.headers["Cache-Control"] == "private, no-cache"

    def test_does_not_forgive_a_bad_token(self, public: Caller) -> None:
        answer = public.get("/products", headers={"Authorization": "Bearer nonsense"})

        assert answer.status_code == 401
        assert code_of(answer) == "token_invalid"

    def test_does_not_forgive_a_bad_key(self, public: Caller) -> None:
        assert public.get("/products", headers={"X-API-Key": "nonsense"}).status_code == 401

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/products"),
            ("PUT", "/products/1"),
            ("PATCH", "/products/1"),
            ("DELETE", "/products/1"),
            ("POST", "/categories"),
            ("DELETE", "/categories/1"),
            ("GET", "/users/me"),
            ("POST", "/auth/logout"),
        ],
    )
    def test_is_for_reading_only(self, public: Caller, method: str, path: str) -> None:
        answer = public.call(method, path)

        assert answer.status_code == 401
        assert code_of(answer) == "credentials_missing"

    @pytest.mark.parametrize("path", ["/products", "/categories"])
    def test_is_closed_unless_the_setting_opens_it(self, anonymous: Caller, path: str) -> None:
        assert anonymous.get(path).status_code == 401
