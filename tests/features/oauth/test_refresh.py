"""Refresh tokens of apps: they rotate as those of logins do, and stay with their app."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import time_machine
from flask import Flask

from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.users.models import User
from tests.apps import READS, ThirdParty, error_of, register
from tests.conftest import PASSWORD, Caller, body_of


class TestRefresh:
    def test_gives_new_tokens(self, prices: ThirdParty, bob: Caller) -> None:
        tokens = prices.tokens_for(bob)

        refreshed = body_of(prices.refresh(tokens["refresh_token"]))

        assert refreshed["refresh_token"] != tokens["refresh_token"]
        assert refreshed["scope"] == tokens["scope"]
        assert prices.acting(refreshed).get("/products").status_code == 200

    def test_gives_fewer_scopes_for_one_access_token(self, prices: ThirdParty, bob: Caller) -> None:
        tokens = prices.tokens_for(bob)

        narrow = body_of(prices.refresh(tokens["refresh_token"], scope="products:read"))
        acting = prices.acting(narrow)

        assert narrow["scope"] == "products:read"
        assert [acting.get(path).status_code for path in ("/products", "/categories")] == [200, 403]
        assert body_of(prices.refresh(narrow["refresh_token"]))["scope"] == " ".join(READS)

    @pytest.mark.parametrize("scope", ["brands:read", "products:read brands:read", "everything"])
    def test_gives_no_more_than_was_agreed_to(self, root: Caller, bob: Caller, scope: str) -> None:
        prices = register(root, scopes=[*READS, "brands:read"])
        tokens = prices.tokens_for(bob)

        assert error_of(prices.refresh(tokens["refresh_token"], scope=scope)) == (400, "invalid_scope")

        assert prices.refresh(tokens["refresh_token"]).status_code == 200

    def test_follows_the_role_of_the_person(self, app: Flask, root: Caller, alice: Caller) -> None:
        feeds = register(root, scopes=["products:read", "products:write"])
        tokens = feeds.tokens_for(alice, ["products:read", "products:write"])
        with app.app_context(), unit_of_work():
            db.session.execute(db.update(User).where(User.id == alice.user_id).values(role="user"))

        assert body_of(feeds.refresh(tokens["refresh_token"]))["scope"] == "products:read"

    def test_leaves_the_token_unused_where_nothing_is_left_to_do(
        self, app: Flask, app_with: Callable[..., Flask], root: Caller, alice: Caller
    ) -> None:
        # Without a grace a used token could not be used again.
        feeds = register(root, scopes=["products:write"]).on(app_with(refresh_grace=0))
        tokens = feeds.tokens_for(alice, ["products:write"])
        answers = []
        for role in ("user", "editor"):
            with app.app_context(), unit_of_work():
                db.session.execute(db.update(User).where(User.id == alice.user_id).values(role=role))
            answers.append(feeds.refresh(tokens["refresh_token"]))

        assert error_of(answers[0]) == (400, "invalid_scope")
        assert body_of(answers[1])["scope"] == "products:write"

    def test_is_repeated_within_the_grace(self, prices: ThirdParty, bob: Caller) -> None:
        tokens = prices.tokens_for(bob)

        first, second = (body_of(prices.refresh(tokens["refresh_token"])) for _ in range(2))

        assert first["refresh_token"] == second["refresh_token"]
        assert prices.refresh(second["refresh_token"]).status_code == 200

    def test_of_a_used_token_after_the_grace_ends_the_grant(
        self, prices: ThirdParty, bob: Caller, root: Caller
    ) -> None:
        tokens = prices.tokens_for(bob)
        refreshed = body_of(prices.refresh(tokens["refresh_token"]))

        with time_machine.travel(clock.now() + timedelta(seconds=11)):
            assert error_of(prices.refresh(tokens["refresh_token"])) == (400, "invalid_grant")

            assert prices.acting(refreshed).get("/products").status_code == 401
            assert error_of(prices.refresh(refreshed["refresh_token"])) == (400, "invalid_grant")
        assert len(body_of(root.get("/audit-events?action=refresh_token.reused"))["items"]) == 1
        assert bob.get("/users/me").status_code == 200


class TestRefusal:
    @pytest.mark.parametrize("token", ["", "x", "a.b.c"])
    def test_of_what_is_no_token(self, prices: ThirdParty, token: str) -> None:
        assert error_of(prices.refresh(token)) == (400, "invalid_grant" if token else "invalid_request")

    def test_of_an_access_token(self, prices: ThirdParty, bob: Caller) -> None:
        tokens = prices.tokens_for(bob)

        assert error_of(prices.refresh(tokens["access_token"])) == (400, "invalid_grant")
        assert error_of(prices.refresh(bob.token or "")) == (400, "invalid_grant")

    def test_of_another_apps_token(self, prices: ThirdParty, root: Caller, bob: Caller) -> None:
        tokens = prices.tokens_for(bob)

        assert error_of(register(root, name="Others").refresh(tokens["refresh_token"])) == (400, "invalid_grant")

        assert prices.refresh(tokens["refresh_token"]).status_code == 200

    def test_of_a_token_of_the_persons_own_login(self, prices: ThirdParty, bob: Caller, anonymous: Caller) -> None:
        login = body_of(anonymous.post("/auth/login", {"email": "bob@example.com", "password": PASSWORD}))

        assert error_of(prices.refresh(login["refresh_token"])) == (400, "invalid_grant")

        headers = {"Authorization": f"Bearer {login['refresh_token']}"}
        assert anonymous.post("/auth/refresh", headers=headers).status_code == 200

    def test_after_what_ends_all_sessions_of_the_person(
        self, prices: ThirdParty, bob: Caller, end_all: Callable[[Caller], None]
    ) -> None:
        tokens = prices.tokens_for(bob)
        acting = prices.acting(tokens)

        end_all(bob)

        assert acting.get("/products").status_code == 401
        assert error_of(prices.refresh(tokens["refresh_token"])) == (400, "invalid_grant")

    def test_of_a_deactivated_persons_token(self, app: Flask, prices: ThirdParty, bob: Caller) -> None:
        tokens = prices.tokens_for(bob)
        with app.app_context(), unit_of_work():
            db.session.execute(db.update(User).where(User.id == bob.user_id).values(is_active=False))

        assert error_of(prices.refresh(tokens["refresh_token"])) == (400, "invalid_grant")
