"""OAuth clients over HTTP."""

from typing import Any

import pytest
from flask import Flask

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.users.models import User
from tests.apps import CALLBACK, READS, ThirdParty, register
from tests.conftest import Caller, body_of, code_of, faults_of
from tests.rows import mappings_of

PRICES: dict[str, Any] = {"name": "Prices", "type": "confidential", "redirect_uris": [CALLBACK], "scopes": READS}


class TestCreateOAuthClient:
    def test_shows_the_secret_once(self, root: Caller) -> None:
        answer = root.post("/oauth/clients", PRICES)
        made = body_of(answer)

        shown = body_of(root.get(answer.headers["Location"].removeprefix("/api/v1")))

        assert answer.status_code == 201
        assert made["client_secret"].startswith(f"cas_{made['id']}_")
        assert made["client_secret"][-12:-8] == shown["last_four"]
        assert {**shown, "client_secret": made["client_secret"]} == made
        assert (shown["client_id"], shown["scopes"]) == (f"app_{made['id']}", sorted(READS))

    def test_gives_a_public_client_no_secret(self, root: Caller) -> None:
        made = body_of(root.post("/oauth/clients", {**PRICES, "type": "public"}))

        assert (made["client_secret"], made["last_four"]) == (None, None)

    def test_stores_no_secret(self, app: Flask, root: Caller) -> None:
        secret = body_of(root.post("/oauth/clients", PRICES))["client_secret"].split("_")[2][:-8]

        stored = repr([mappings_of(app, table) for table in ("oauth_clients", "audit_events")])

        assert secret not in stored

    def test_shows_no_secret_to_a_retry(self, root: Caller) -> None:
        headers = {"Idempotency-Key": "prices"}
        first = root.post("/oauth/clients", PRICES, headers=headers)

        again = root.post("/oauth/clients", PRICES, headers=headers)

        assert body_of(again) == {**body_of(first), "client_secret": None}

    def test_refuses_a_scope_that_the_caller_lacks(self, app: Flask, root: Caller) -> None:
        scopes = ["oauth-clients:write", "products:read"]
        key = body_of(root.post("/api-keys", {"name": "apps", "scopes": scopes}))["key"]

        answer = Caller(app).post("/oauth/clients", PRICES, headers={"X-API-Key": key})

        assert (answer.status_code, code_of(answer)) == (403, "scope_not_held")

    @pytest.mark.parametrize(
        ("uri", "code"),
        [
            ("prices.example/callback", "redirect_insecure"),
            ("http://prices.example/callback", "redirect_insecure"),
            ("http://localhost:8080/callback", "redirect_insecure"),
            ("http://127.0.0.1.prices.example/callback", "redirect_insecure"),
            ("javascript:alert(1)", "redirect_insecure"),
            ("data:text/html,x", "redirect_insecure"),
            ("myapp:/callback", "redirect_insecure"),
            ("https://prices.example/callback#", "redirect_has_fragment"),
            ("https://prices.example/callback#part", "redirect_has_fragment"),
            ("https://*.prices.example/callback", "redirect_has_wildcard"),
            ("https://prices.example@evil.example/", "redirect_has_user"),
            ("https://user:word@prices.example/", "redirect_has_user"),
            ("https:///callback", "not_a_uri"),
            ("https:callback", "not_a_uri"),
            ("https://prices.example:99999/", "not_a_uri"),
            ("https://[prices/", "not_a_uri"),
            ("com.example.prices:", "not_a_uri"),
            ("https://prices.example/a b", "malformed"),
            ('https://prices.example/"', "malformed"),
            ("https://prices.example\\@evil.example/", "malformed"),
            ("https://prices.example/\r\nSet-Cookie:x", "malformed"),
            ("https://prïces.example/", "malformed"),
        ],
    )
    def test_refuses_where_no_code_may_be_sent(self, root: Caller, uri: str, code: str) -> None:
        answer = root.post("/oauth/clients", {**PRICES, "redirect_uris": [CALLBACK, uri]})

        assert faults_of(answer) == [("/redirect_uris/1", code)]

    @pytest.mark.parametrize(
        "uri",
        [
            "https://prices.example",
            "https://prices.example:8443/callback?tenant=7",
            "http://127.0.0.1/callback",
            "http://[::1]:51234/callback",
            "com.example.prices:/callback",
            "com.example.prices://callback",
        ],
    )
    def test_takes_what_rfc_8252_recommends(self, root: Caller, uri: str) -> None:
        answer = root.post("/oauth/clients", {**PRICES, "redirect_uris": [uri]})

        assert body_of(answer)["redirect_uris"] == [uri]

    @pytest.mark.parametrize(
        "changed",
        [
            {"redirect_uris": []},
            {"redirect_uris": [CALLBACK, CALLBACK]},
            {"scopes": []},
            {"scopes": ["account:manage"]},
            {"type": "native"},
            {"client_secret": "mine"},
        ],
        ids=repr,
    )
    def test_refuses_what_makes_no_client(self, root: Caller, changed: dict[str, Any]) -> None:
        assert root.post("/oauth/clients", {**PRICES, **changed}).status_code == 422

    def test_is_for_administrators(self, alice: Caller, anonymous: Caller) -> None:
        assert alice.post("/oauth/clients", PRICES).status_code == 403
        assert anonymous.post("/oauth/clients", PRICES).status_code == 401
        assert alice.get("/oauth/clients").status_code == 403


class TestListOAuthClients:
    def test_sorts_by_name(self, root: Caller) -> None:
        for name in ("Prices", "Adverts", "Feeds"):
            register(root, name=name)

        listed = body_of(root.get("/oauth/clients?sort_by=name&order=asc"))["items"]

        assert [client["name"] for client in listed] == ["Adverts", "Feeds", "Prices"]
        assert "client_secret" not in listed[0]


class TestUpdateOAuthClient:
    def test_changes_what_is_stated(self, root: Caller) -> None:
        prices = register(root)

        answer = root.patch(f"/oauth/clients/{prices.id}", {"name": "Better prices"}, if_match='"1"')

        assert (body_of(answer)["name"], body_of(answer)["redirect_uris"]) == ("Better prices", [CALLBACK])
        assert root.patch(f"/oauth/clients/{prices.id}", {"name": "Stale"}, if_match='"1"').status_code == 412

    def test_cannot_make_a_public_client_confidential(self, root: Caller) -> None:
        prices = register(root, type="public")

        assert faults_of(root.patch(f"/oauth/clients/{prices.id}", {"type": "confidential"})) == [
            ("/type", "unknown_field")
        ]

    def test_adds_no_scope_that_the_caller_lacks(self, app: Flask, root: Caller) -> None:
        prices = register(root, scopes=["users:read"])
        key = body_of(root.post("/api-keys", {"name": "apps", "scopes": ["oauth-clients:write"]}))["key"]
        path, caller, headers = f"/oauth/clients/{prices.id}", Caller(app), {"X-API-Key": key}

        widened = caller.patch(path, {"scopes": ["users:read", "users:write"]}, headers=headers)
        kept = caller.patch(path, {"scopes": ["users:read"]}, headers=headers)

        assert (code_of(widened), kept.status_code) == ("scope_not_held", 200)

    def test_takes_scopes_away_at_once(self, root: Caller, bob: Caller) -> None:
        prices = register(root)
        acting = prices.acting(prices.tokens_for(bob))
        before = acting.get("/products").status_code

        root.patch(f"/oauth/clients/{prices.id}", {"scopes": ["categories:read"]})

        assert (before, acting.get("/products").status_code, acting.get("/categories").status_code) == (200, 403, 200)

    def test_gives_no_scope_that_the_person_was_not_asked_for(self, root: Caller, bob: Caller) -> None:
        prices = register(root, scopes=["categories:read"])
        tokens = prices.tokens_for(bob, ["categories:read"])

        root.patch(f"/oauth/clients/{prices.id}", {"scopes": READS})
        refreshed = body_of(prices.refresh(tokens["refresh_token"]))

        assert refreshed["scope"] == "categories:read"
        assert prices.acting(refreshed).get("/products").status_code == 403


class TestRotateOAuthClient:
    def test_lets_the_old_secret_work_for_a_while(self, root: Caller, bob: Caller) -> None:
        prices = register(root)

        made = body_of(root.post(f"/oauth/clients/{prices.id}/rotate", {"overlap_seconds": 60}))
        renewed = ThirdParty(prices.app, prices.id, prices.client_id, made["client_secret"])

        assert made["client_secret"] != prices.secret
        for each in (prices, renewed):
            assert each.exchange(each.code_for(bob, READS)).status_code == 200

    def test_ends_the_old_secret_at_once_without_an_overlap(self, root: Caller, bob: Caller) -> None:
        prices = register(root)

        root.post(f"/oauth/clients/{prices.id}/rotate", {})

        assert prices.exchange(prices.code_for(bob, READS)).status_code == 401

    def test_refuses_a_public_client(self, root: Caller) -> None:
        prices = register(root, type="public")

        answer = root.post(f"/oauth/clients/{prices.id}/rotate", {})

        assert (answer.status_code, code_of(answer)) == (409, "public_client_has_no_secret")


class TestDeleteOAuthClient:
    def test_ends_what_people_have_let_it_do(self, app: Flask, root: Caller, bob: Caller) -> None:
        prices = register(root)
        tokens = prices.tokens_for(bob)
        acting, code = prices.acting(tokens), prices.code_for(bob, READS)

        assert root.delete(f"/oauth/clients/{prices.id}").status_code == 204

        assert acting.get("/products").status_code == 401
        assert prices.refresh(tokens["refresh_token"]).status_code == 401
        assert prices.exchange(code).status_code == 401
        assert body_of(bob.get("/oauth/grants"))["items"] == []
        assert mappings_of(app, "authorization_codes") == []
        assert bob.get("/users/me").status_code == 200

    def test_says_in_the_trail_how_many_grants_it_has_ended(self, root: Caller, bob: Caller, carol: Caller) -> None:
        prices = register(root)
        for person in (bob, carol):
            prices.tokens_for(person)

        root.delete(f"/oauth/clients/{prices.id}")

        (event,) = body_of(root.get("/audit-events?action=oauth_client.grants_ended"))["items"]
        assert (event["resource_id"], event["after"], event["actor_id"]) == (prices.id, {"grants": 2}, root.user_id)
        assert len(body_of(root.get("/audit-events?action=oauth_client.deleted"))["items"]) == 1

    def test_is_404_the_second_time(self, root: Caller) -> None:
        prices = register(root)
        root.delete(f"/oauth/clients/{prices.id}")

        assert root.delete(f"/oauth/clients/{prices.id}").status_code == 404


def test_a_demoted_administrator_keeps_no_client_from_working(app: Flask, root: Caller, bob: Caller) -> None:
    prices = register(root)
    with app.app_context(), unit_of_work():
        db.session.execute(db.update(User).where(User.id == root.user_id).values(role="user"))

    assert prices.exchange(prices.code_for(bob, READS)).status_code == 200
