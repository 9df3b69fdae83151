"""Authorization codes: exchanged once, by the app that they were issued to, with what only that app knows."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import time_machine
from flask import Flask

from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.oauth import codes
from app.features.oauth_clients.models import OAuthClient
from app.features.users.models import User
from tests.apps import CALLBACK, READS, VERIFIER, ThirdParty, basic, challenge_of, error_of, register, send
from tests.conftest import Caller, body_of
from tests.rows import mappings_of


class TestExchange:
    @pytest.mark.parametrize("type_", ["confidential", "public"])
    def test_gives_tokens_with_which_the_app_acts_for_the_person(self, root: Caller, bob: Caller, type_: str) -> None:
        prices = register(root, type=type_)

        answer = prices.exchange(prices.code_for(bob, READS))
        tokens = body_of(answer)

        assert tokens.keys() == {"access_token", "refresh_token", "token_type", "expires_in", "scope"}
        assert (tokens["scope"], tokens["expires_in"]) == ("categories:read products:read", 900)
        assert answer.headers["Cache-Control"] == "no-store"
        assert prices.acting(tokens).get("/products").status_code == 200

    def test_takes_the_secret_in_the_header(self, prices: ThirdParty, bob: Caller) -> None:
        form = {"grant_type": "authorization_code", "code": prices.code_for(bob, READS), "code_verifier": VERIFIER}

        answer = send(
            prices.app,
            "/oauth/token",
            {**form, "redirect_uri": CALLBACK},
            basic(prices.client_id, prices.secret or ""),
        )

        assert answer.status_code == 200

    def test_gives_what_was_agreed_to_and_not_what_is_asked_for_then(self, prices: ThirdParty, bob: Caller) -> None:
        answer = prices.exchange(prices.code_for(bob, ["products:read"]), scope="categories:read products:read")

        assert body_of(answer)["scope"] == "products:read"

    def test_gives_no_more_than_the_persons_role(self, root: Caller, bob: Caller, alice: Caller) -> None:
        feeds = register(root, scopes=["products:read", "products:write"])

        given = [feeds.tokens_for(person, ["products:read", "products:write"])["scope"] for person in (bob, alice)]

        assert given == ["products:read", "products:read products:write"]

    def test_gives_nothing_where_nothing_is_left(self, root: Caller, bob: Caller) -> None:
        feeds = register(root, scopes=["products:write"])

        answer = feeds.exchange(feeds.code_for(bob, ["products:write"]))

        assert error_of(answer) == (400, "invalid_scope")
        assert body_of(bob.get("/oauth/grants"))["items"] == []

    def test_is_recorded(self, prices: ThirdParty, bob: Caller, root: Caller) -> None:
        prices.tokens_for(bob)

        (event,) = body_of(root.get("/audit-events?action=grant.opened"))["items"]
        (grant,) = body_of(bob.get("/oauth/grants"))["items"]
        assert (event["actor_id"], event["resource_id"]) == (bob.user_id, bob.user_id)
        assert event["after"] == {"session_id": grant["id"], "client_id": prices.id, "scopes": READS}

    def test_stores_no_code(self, app: Flask, prices: ThirdParty, bob: Caller) -> None:
        code = prices.code_for(bob, READS)
        before = repr(mappings_of(app, "authorization_codes"))
        prices.exchange(code)

        assert code not in before + repr([mappings_of(app, name) for name in ("authorization_codes", "audit_events")])


class TestRefusal:
    @pytest.mark.parametrize(
        ("changed", "error"),
        [
            ({"code": "made-up"}, "invalid_grant"),
            ({"redirect_uri": "https://prices.example/callback/"}, "invalid_grant"),
            ({"redirect_uri": "https://prices.example/callback?x=1"}, "invalid_grant"),
            ({"redirect_uri": "https://PRICES.example/callback"}, "invalid_grant"),
            ({"redirect_uri": "https://evil.example/callback"}, "invalid_grant"),
            ({"redirect_uri": ""}, "invalid_grant"),
            ({"code_verifier": VERIFIER + "x"}, "invalid_grant"),
            ({"code_verifier": challenge_of(VERIFIER)}, "invalid_grant"),
            ({"code_verifier": ""}, "invalid_request"),
            ({"code_verifier": "short"}, "invalid_request"),
            ({"code_verifier": "é" * 43}, "invalid_request"),
            ({"code": ""}, "invalid_request"),
        ],
        ids=ascii,
    )
    def test_of_what_does_not_fit_leaves_the_code_to_its_owner(
        self, prices: ThirdParty, bob: Caller, changed: dict[str, str], error: str
    ) -> None:
        code = prices.code_for(bob, READS)

        assert error_of(prices.exchange(code, **changed)) == (400, error)

        assert prices.exchange(code).status_code == 200

    def test_of_a_plain_challenge(self, prices: ThirdParty, bob: Caller) -> None:
        # As if the page had taken the verifier for its own challenge (RFC 9700 section 2.1.1).
        code = _code(prices, bob, challenge=VERIFIER)

        assert error_of(prices.exchange(code)) == (400, "invalid_grant")

    def test_of_another_clients_code(self, prices: ThirdParty, root: Caller, bob: Caller) -> None:
        other = register(root, name="Others")
        code = prices.code_for(bob, READS)

        assert error_of(other.exchange(code)) == (400, "invalid_grant")

        assert prices.exchange(code).status_code == 200

    def test_of_a_confidential_client_without_its_secret(self, prices: ThirdParty, bob: Caller) -> None:
        code = prices.code_for(bob, READS)

        assert error_of(prices.exchange(code, client_secret="")) == (401, "invalid_client")

    def test_of_a_public_client_with_a_secret(self, root: Caller, bob: Caller) -> None:
        prices = register(root, type="public")
        code = prices.code_for(bob, READS)

        assert error_of(prices.exchange(code, client_secret="cas_1_x")) == (401, "invalid_client")

    def test_of_a_wrong_secret_that_a_public_client_does_not_need(self, root: Caller, bob: Caller) -> None:
        prices = register(root, type="public")
        form = {"grant_type": "authorization_code", "code": prices.code_for(bob, READS), "client_id": prices.client_id}

        answer = send(
            prices.app,
            "/oauth/token",
            {**form, "redirect_uri": CALLBACK, "code_verifier": VERIFIER},
            basic(prices.client_id, "guess"),
        )

        assert error_of(answer) == (401, "invalid_client")

    def test_of_a_code_that_is_a_minute_old(self, prices: ThirdParty, bob: Caller) -> None:
        code = prices.code_for(bob, READS)

        with time_machine.travel(clock.now() + timedelta(seconds=61)):
            assert error_of(prices.exchange(code)) == (400, "invalid_grant")

    def test_of_a_code_whose_person_has_ended_all_sessions_since(
        self, prices: ThirdParty, bob: Caller, end_all: Callable[[Caller], None]
    ) -> None:
        code = prices.code_for(bob, READS)

        end_all(bob)

        assert error_of(prices.exchange(code)) == (400, "invalid_grant")

    def test_of_a_code_of_a_deactivated_person(self, app: Flask, prices: ThirdParty, bob: Caller) -> None:
        code = prices.code_for(bob, READS)
        with app.app_context(), unit_of_work():
            db.session.execute(db.update(User).where(User.id == bob.user_id).values(is_active=False))

        assert error_of(prices.exchange(code)) == (400, "invalid_grant")


class TestSecondUse:
    def test_ends_what_the_first_has_opened(self, prices: ThirdParty, bob: Caller, root: Caller) -> None:
        code = prices.code_for(bob, READS)
        tokens = body_of(prices.exchange(code))
        acting = prices.acting(tokens)
        before = acting.get("/products").status_code

        assert error_of(prices.exchange(code)) == (400, "invalid_grant")

        assert (before, acting.get("/products").status_code) == (200, 401)
        assert error_of(prices.refresh(tokens["refresh_token"])) == (400, "invalid_grant")
        (event,) = body_of(root.get("/audit-events?action=authorization_code.reused"))["items"]
        (opened,) = body_of(root.get("/audit-events?action=grant.opened"))["items"]
        assert (event["resource_id"], event["after"]["session_id"]) == (bob.user_id, opened["after"]["session_id"])

    def test_ends_it_after_it_was_refreshed_and_long_after(self, prices: ThirdParty, bob: Caller) -> None:
        code = prices.code_for(bob, READS)
        tokens = body_of(prices.exchange(code))

        with time_machine.travel(clock.now() + timedelta(hours=3)):
            refreshed = body_of(prices.refresh(tokens["refresh_token"]))
            prices.exchange(code)

            assert prices.acting(refreshed).get("/products").status_code == 401

    def test_by_another_client_ends_nothing(self, prices: ThirdParty, root: Caller, bob: Caller) -> None:
        code = prices.code_for(bob, READS)
        acting = prices.acting(body_of(prices.exchange(code)))

        register(root, name="Others").exchange(code)

        assert acting.get("/products").status_code == 200

    def test_leaves_the_persons_logins_and_other_grants(self, prices: ThirdParty, bob: Caller) -> None:
        code, other = prices.code_for(bob, READS), prices.acting(prices.tokens_for(bob))
        prices.exchange(code)

        prices.exchange(code)

        assert (bob.get("/users/me").status_code, other.get("/products").status_code) == (200, 200)


class TestPruning:
    def test_keeps_a_code_while_its_second_use_tells_something(
        self, app: Flask, prices: ThirdParty, bob: Caller
    ) -> None:
        prices.code_for(bob, READS)

        def prune(later: timedelta) -> int:
            with time_machine.travel(clock.now() + later), app.app_context(), unit_of_work():
                return codes.prune_codes()

        assert [prune(timedelta(hours=23)), prune(timedelta(hours=25))] == [0, 1]


def _code(prices: ThirdParty, person: Caller, challenge: str) -> str:
    with prices.app.app_context(), unit_of_work():
        client = db.session.get_one(OAuthClient, prices.id)
        return codes.issue(client, person.user_id or 0, CALLBACK, READS, challenge)
