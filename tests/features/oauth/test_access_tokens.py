"""What an app can do with an access token, and that no kind of token is ever taken for another."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flask import Flask
from joserfc import jws, jwt
from joserfc.jwk import KeySet, OctKey

from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.users.models import User
from app.security.keys import OneAlgorithm
from tests.apps import READS, ThirdParty, error_of, register
from tests.conftest import PASSWORD, Caller, body_of, code_of

APP_MEMBERS = {"iss", "aud", "sub", "client_id", "sid", "scope", "iat", "exp", "jti"}


@pytest.fixture
def prices(root: Caller) -> ThirdParty:
    """A confidential app."""
    return register(root, scopes=[*READS, "categories:write", "products:write"])


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the claims of a token."""
    head, claims, _ = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
    return json.loads(head), json.loads(claims)


def forge(app: Flask, token: str, head: dict[str, Any], claims: dict[str, Any]) -> str:
    """The token with other members, signed with the key of the server; None takes one away."""
    (old_head, old_claims), secret = parts_of(token), app.config["JWT_SECRET_KEY"]
    new_head = {name: value for name, value in {**old_head, **head}.items() if value is not None}
    new_claims = {name: value for name, value in {**old_claims, **claims}.items() if value is not None}
    return jws.serialize_compact(new_head, json.dumps(new_claims), OctKey.import_key(secret))


def pem(algorithm: str) -> bytes:
    """A new private key."""
    made = ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class TestAnApp:
    def test_gets_a_token_of_rfc_9068_for_the_person(self, app: Flask, prices: ThirdParty, bob: Caller) -> None:
        head, claims = parts_of(prices.tokens_for(bob)["access_token"])

        assert head["typ"] == "at+jwt"
        assert claims.keys() == APP_MEMBERS
        assert (claims["sub"], claims["client_id"]) == (str(bob.user_id), prices.client_id)
        assert claims["iss"] == claims["aud"] == app.config["ISSUER"]

    def test_does_what_role_and_scopes_both_allow(self, prices: ThirdParty, alice: Caller, bob: Caller) -> None:
        scopes = ["categories:read", "categories:write"]
        editing, reading = (prices.acting(prices.tokens_for(person, scopes)) for person in (alice, bob))

        assert editing.post("/categories", {"name": "Chairs"}).status_code == 201
        assert reading.post("/categories", {"name": "Tables"}).status_code == 403
        assert editing.get("/products").status_code == 403

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/users/me"),
            ("GET", "/auth/sessions"),
            ("DELETE", "/auth/sessions"),
            ("POST", "/auth/logout"),
            ("GET", "/oauth/grants"),
            ("DELETE", "/oauth/grants/1"),
            ("GET", "/api-keys"),
        ],
    )
    def test_does_nothing_that_is_for_the_person_alone(
        self, prices: ThirdParty, root: Caller, method: str, path: str
    ) -> None:
        acting = prices.acting(prices.tokens_for(root))

        answer = acting.call(method, path)

        assert (answer.status_code, code_of(answer)) == (403, "permission_denied")

    def test_loses_what_the_person_loses(self, app: Flask, prices: ThirdParty, alice: Caller) -> None:
        acting = prices.acting(prices.tokens_for(alice, ["categories:write"]))
        with app.app_context(), unit_of_work():
            db.session.execute(db.update(User).where(User.id == alice.user_id).values(role="user"))

        assert acting.post("/categories", {"name": "Chairs"}).status_code == 403

    def test_ends_with_the_persons_account(self, app: Flask, prices: ThirdParty, bob: Caller) -> None:
        acting = prices.acting(prices.tokens_for(bob))
        with app.app_context(), unit_of_work():
            db.session.execute(db.update(User).where(User.id == bob.user_id).values(is_active=False))

        assert acting.get("/products").status_code == 401

    def test_is_recorded_with_its_session(self, prices: ThirdParty, alice: Caller, root: Caller) -> None:
        acting = prices.acting(prices.tokens_for(alice, ["categories:write"]))
        acting.post("/categories", {"name": "Chairs"})

        (grant,) = body_of(alice.get("/oauth/grants"))["items"]
        (event,) = body_of(root.get("/audit-events?action=category.created"))["items"]
        assert (event["actor_id"], event["session_id"]) == (alice.user_id, grant["id"])

    def test_gets_no_response_that_the_person_got(self, prices: ThirdParty, alice: Caller) -> None:
        acting = prices.acting(prices.tokens_for(alice, ["categories:write"]))
        body, headers = {"name": "Chairs"}, {"Idempotency-Key": "chairs"}

        mine, its = (caller.post("/categories", body, headers=headers) for caller in (alice, acting))
        again = acting.post("/categories", {"name": "Tables"}, headers={"Idempotency-Key": "tables"})
        replayed = acting.post("/categories", {"name": "Tables"}, headers={"Idempotency-Key": "tables"})

        assert (mine.status_code, its.status_code) == (201, 201)
        assert body_of(mine)["id"] != body_of(its)["id"]
        assert (body_of(again), replayed.headers["Idempotency-Replayed"]) == (body_of(replayed), "true")

    def test_costs_one_statement_to_know(self, prices: ThirdParty, bob: Caller) -> None:
        acting = prices.acting(prices.tokens_for(bob, ["categories:read"]))

        answer = acting.get("/products")

        assert (answer.status_code, '"1 queries"' in answer.headers["Server-Timing"]) == (403, True)

    def test_may_send_an_empty_key_beside_its_token(self, prices: ThirdParty, bob: Caller) -> None:
        acting = prices.acting(prices.tokens_for(bob))

        assert acting.get("/products", headers={"X-API-Key": ""}).status_code == 200

    def test_may_not_send_a_key_of_another(self, prices: ThirdParty, alice: Caller, bob: Caller) -> None:
        acting = prices.acting(prices.tokens_for(bob))
        key = body_of(alice.post("/api-keys", {"name": "sync", "scopes": ["products:write"]}))["key"]

        answer = acting.get("/products", headers={"X-API-Key": key})

        assert (answer.status_code, code_of(answer)) == (400, "ambiguous_credentials")


class TestLimits:
    def test_count_an_app_apart_from_the_person(
        self, app_with: Callable[..., Flask], prices: ThirdParty, bob: Caller
    ) -> None:
        limited = app_with(rate_limit_enabled=True, rate_limit_default="3 per minute")
        acting, person = prices.acting(prices.tokens_for(bob)).on(limited), bob.on(limited)

        spent = [acting.get("/products").status_code for _ in range(4)]

        assert (spent, person.get("/products").status_code) == ([200, 200, 200, 429], 200)

    def test_count_all_tokens_of_an_app_for_a_person_together(
        self, app_with: Callable[..., Flask], prices: ThirdParty, bob: Caller, carol: Caller
    ) -> None:
        limited = app_with(rate_limit_enabled=True, rate_limit_default="3 per minute")
        callers = [prices.acting(prices.tokens_for(person)).on(limited) for person in (bob, bob, carol)]

        spent = [callers[index].get("/products").status_code for index in (0, 1, 0, 1, 2)]

        assert spent == [200, 200, 200, 429, 200]


class TestConfusion:
    def test_of_an_apps_refresh_token_with_a_logins(self, prices: ThirdParty, bob: Caller, anonymous: Caller) -> None:
        tokens = prices.tokens_for(bob)

        for token in tokens["refresh_token"], tokens["access_token"]:
            answer = anonymous.post("/auth/refresh", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 401

        assert prices.refresh(tokens["refresh_token"]).status_code == 200

    def test_of_refresh_tokens_that_the_server_itself_could_have_signed(
        self, app: Flask, prices: ThirdParty, bob: Caller, anonymous: Caller
    ) -> None:
        # As if one could be made of the other: the database knows whose the session is.
        tokens = prices.tokens_for(bob)
        login = body_of(anonymous.post("/auth/login", {"email": "bob@example.com", "password": PASSWORD}))
        (_, granted), (_, logged_in) = parts_of(tokens["refresh_token"]), parts_of(login["refresh_token"])
        named = {name: granted[name] for name in ("sid", "jti", "iat", "exp")}

        as_login = forge(app, login["refresh_token"], {}, named)
        as_app = forge(
            app, tokens["refresh_token"], {}, {name: logged_in[name] for name in ("sid", "jti", "iat", "exp")}
        )

        answer = anonymous.post("/auth/refresh", headers={"Authorization": f"Bearer {as_login}"})
        assert (answer.status_code, code_of(answer)) == (401, "session_ended")
        assert error_of(prices.refresh(as_app)) == (400, "invalid_grant")
        assert prices.refresh(tokens["refresh_token"]).status_code == 200
        headers = {"Authorization": f"Bearer {login['refresh_token']}"}
        assert anonymous.post("/auth/refresh", headers=headers).status_code == 200

    @pytest.mark.parametrize(
        ("head", "claims"),
        [
            ({"typ": "at+jwt"}, {}),
            ({}, {"type": "refresh"}),
            ({}, {"type": "access"}),
            ({}, {"iss": "http://127.0.0.1:8000", "aud": "http://127.0.0.1:8000"}),
            ({}, {"sub": "9999"}),
            ({}, {"sid": "9999"}),
            ({}, {"jti": "another"}),
            ({}, {"exp": 1}),
        ],
        ids=ascii,
    )
    def test_of_the_refresh_token_of_another(
        self, app: Flask, prices: ThirdParty, bob: Caller, head: dict[str, Any], claims: dict[str, Any]
    ) -> None:
        token = prices.tokens_for(bob)["refresh_token"]

        assert error_of(prices.refresh(forge(app, token, head, claims))) == (400, "invalid_grant")

        assert prices.refresh(forge(app, token, {}, {})).status_code == 200

    def test_of_a_refresh_token_with_an_access_token(self, prices: ThirdParty, bob: Caller) -> None:
        tokens = prices.tokens_for(bob)

        assert Caller(prices.app, tokens["refresh_token"]).get("/products").status_code == 401

    def test_of_a_key_with_a_person(self, prices: ThirdParty, bob: Caller, alice: Caller, anonymous: Caller) -> None:
        key = body_of(alice.post("/api-keys", {"name": "sync", "scopes": ["products:read"]}))
        form = {"grant_type": "client_credentials", "client_id": f"cat_{key['id']}", "client_secret": key["key"]}
        token = body_of(anonymous.call("POST", "/oauth/token", data=form))["access_token"]

        assert anonymous.post("/auth/refresh", headers={"Authorization": f"Bearer {token}"}).status_code == 401
        assert Caller(prices.app, token).get("/users/me").status_code == 403

    @pytest.mark.parametrize(
        ("head", "claims"),
        [
            ({"typ": "JWT"}, {}),
            ({"typ": None}, {}),
            ({"typ": "AT+JWT"}, {}),
            ({"typ": "JWT"}, {"type": "access", "iss": "catalog-api", "aud": "catalog-api", "sub": "x"}),
            ({}, {"iss": "https://evil.example"}),
            ({}, {"iss": None}),
            ({}, {"aud": "https://evil.example"}),
            ({}, {"aud": None}),
            ({}, {"iss": "catalog-api", "aud": "catalog-api"}),
            ({}, {"exp": None}),
            ({}, {"exp": 1}),
            ({}, {"iat": None}),
            ({}, {"jti": None}),
            ({}, {"jti": 7}),
            ({}, {"sub": None}),
            ({}, {"sub": 7}),
            ({}, {"sub": "07"}),
            ({}, {"sub": "9999"}),
            ({}, {"sid": None}),
            ({}, {"sid": "9999"}),
            ({}, {"sid": 1}),
            ({}, {"client_id": None}),
            ({}, {"client_id": "app_9999"}),
            ({}, {"client_id": "app_01"}),
            ({}, {"client_id": "cat_1"}),
            ({}, {"client_id": "cat_1", "sub": "cat_1"}),
            ({}, {"client_id": "cat_1", "sub": "cat_1", "key_fingerprint": "0" * 16}),
            ({}, {"client_id": "cat_1", "sub": "cat_1", "key_fingerprint": 7}),
            ({}, {"client_id": ["app_1"]}),
            ({}, {"client_id": 1}),
            ({}, {"scope": None}),
            ({}, {"scope": 7}),
            ({}, {"scope": ["products:read"]}),
        ],
        ids=ascii,
    )
    def test_of_a_token_that_the_server_itself_could_have_signed(
        self, prices: ThirdParty, bob: Caller, head: dict[str, Any], claims: dict[str, Any]
    ) -> None:
        token = prices.tokens_for(bob)["access_token"]
        same = forge(prices.app, token, {}, {})

        forged = forge(prices.app, token, head, claims)

        assert Caller(prices.app, same).get("/products").status_code == 200
        assert Caller(prices.app, forged).get("/products").status_code == 401

    def test_of_a_persons_token_with_an_apps(self, prices: ThirdParty, bob: Caller) -> None:
        # The session of a login, as if it were a grant; and the other way round.
        app_token = prices.tokens_for(bob)["access_token"]
        _, login = parts_of(bob.token or "")
        _, granted = parts_of(app_token)

        as_app = forge(prices.app, app_token, {}, {"sid": login["sid"]})
        as_person = forge(prices.app, bob.token or "", {}, {"sid": granted["sid"]})

        assert Caller(prices.app, as_app).get("/products").status_code == 401
        assert Caller(prices.app, as_person).get("/products").status_code == 401

    @pytest.mark.parametrize("scope", ["products:read products:write", "everything products:read", ""])
    def test_of_a_scope_that_nobody_agreed_to_gives_nothing(
        self, prices: ThirdParty, alice: Caller, scope: str
    ) -> None:
        token = prices.tokens_for(alice, ["products:read"])["access_token"]

        acting = Caller(prices.app, forge(prices.app, token, {}, {"scope": scope}))

        assert acting.get("/products").status_code == (200 if scope else 403)
        assert acting.post("/products", {}).status_code == 403

    def test_of_another_servers_token(self, app_with: Callable[..., Flask], prices: ThirdParty, bob: Caller) -> None:
        token = prices.tokens_for(bob)["access_token"]

        # The same secrets and the same database under another name.
        other = app_with(public_url="https://other.example")

        assert Caller(other, token).get("/products").status_code == 401

    def test_of_a_token_where_no_name_is_known(
        self, app_with: Callable[..., Flask], prices: ThirdParty, bob: Caller
    ) -> None:
        token = prices.tokens_for(bob)["access_token"]

        other = app_with(public_url="http://catalog.example")

        assert Caller(other, token).get("/products").status_code == 401
        assert bob.on(other).get("/products").status_code == 200


class TestKeyFiles:
    @pytest.mark.parametrize("made", ["ES256", "EdDSA"])
    def test_sign_what_other_services_can_verify(
        self, app_with: Callable[..., Flask], prices: ThirdParty, bob: Caller, made: str
    ) -> None:
        signing = app_with(jwt_key_files=(pem(made),))

        token = prices.on(signing).tokens_for(bob)["access_token"]
        published = body_of(Caller(signing).get("//.well-known/jwks.json"))
        keys = KeySet.import_key_set({"keys": published["keys"]})
        read = jwt.decode(token, keys, registry=OneAlgorithm(algorithms=[made]))

        assert (read.header["typ"], read.claims["sub"]) == ("at+jwt", str(bob.user_id))
        assert prices.on(signing).acting({"access_token": token}).get("/products").status_code == 200

    def test_are_no_secret_to_sign_with(self, app_with: Callable[..., Flask], prices: ThirdParty, bob: Caller) -> None:
        signing = app_with(jwt_key_files=(pem("ES256"),))
        token = prices.on(signing).tokens_for(bob)["access_token"]
        head, claims = parts_of(token)
        public = json.dumps(body_of(Caller(signing).get("//.well-known/jwks.json"))["keys"][0])

        for kid in (head["kid"], None):
            named = {"alg": "HS256", "typ": "at+jwt", **({"kid": kid} if kid else {})}
            forged = jws.serialize_compact(named, json.dumps(claims), OctKey.import_key(public))
            assert Caller(signing, forged).get("/products").status_code == 401

    def test_make_no_token_good_that_is_not_signed(self, prices: ThirdParty, bob: Caller) -> None:
        _, payload, signature = prices.tokens_for(bob)["access_token"].split(".")

        for signed in ("", signature):
            head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').rstrip(b"=").decode()
            assert Caller(prices.app, f"{head}.{payload}.{signed}").get("/products").status_code == 401


def test_a_token_expires(prices: ThirdParty, bob: Caller) -> None:
    acting = prices.acting(prices.tokens_for(bob))

    with time_machine.travel(clock.now() + timedelta(seconds=940)):
        assert acting.get("/products").status_code == 401


def test_a_login_after_an_authorization_is_listed_alone(prices: ThirdParty, bob: Caller, anonymous: Caller) -> None:
    prices.tokens_for(bob)
    anonymous.post("/auth/login", {"email": "bob@example.com", "password": PASSWORD})

    (grant,) = body_of(bob.get("/oauth/grants"))["items"]

    assert grant["id"] not in [session["id"] for session in body_of(bob.get("/auth/sessions"))["items"]]
