"""Access tokens of OAuth 2 (RFC 9068): which ones are those of an issuer, and whose."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey
from orjson import dumps

from app.security.api_keys import fingerprint_of, hash_secret
from app.security.keys import make_ring
from app.security.tokens import (
    Claims,
    Issuer,
    KeyClaims,
    TokenExpired,
    TokenInvalid,
    TokenKind,
    read_access_token,
    read_token,
)

KEY, NAME = "k" * 32, "https://catalog.example"
RING = make_ring(secret=KEY, previous_secrets=(), key_files=())
ISSUER = Issuer(NAME, RING, 900)
NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)
GOOD: dict[str, Any] = {
    "iss": NAME,
    "aud": NAME,
    "sub": "7",
    "client_id": "app_3",
    "sid": "9",
    "scope": "products:read",
    "jti": "a-token",
    "iat": int(NOW.timestamp()),
    "exp": int(NOW.timestamp()) + 900,
}


@pytest.fixture(autouse=True)
def _now() -> Any:
    with time_machine.travel(NOW, tick=False):
        yield


def sign(claims: dict[str, Any], typ: str = "at+jwt") -> str:
    """A token that says this."""
    return jws.serialize_compact({"alg": "HS256", "typ": typ}, dumps(claims), OctKey.import_key(KEY))


def read(token: str) -> Claims | KeyClaims:
    return read_access_token(token, RING, NAME)


class TestIssuer:
    def test_issues_to_an_app_what_it_reads(self) -> None:
        claims = read(ISSUER.issue_to_app(user_id=7, session_id=9, client_id=3, scopes={"products:read", "a:b"}))

        assert isinstance(claims, Claims)
        assert (claims.user_id, claims.session_id, claims.client_id) == (7, 9, 3)
        assert claims.scopes == {"products:read", "a:b"}
        assert (claims.issued_at, claims.expires_at) == (NOW, NOW + timedelta(seconds=900))

    def test_issues_to_a_key_what_it_reads(self) -> None:
        fingerprint = fingerprint_of(hash_secret("secret"))

        claims = read(ISSUER.issue_to_key(key_id=5, fingerprint=fingerprint, scopes=["products:read"]))

        assert isinstance(claims, KeyClaims)
        assert (claims.key_id, claims.fingerprint, claims.scopes) == (5, fingerprint, frozenset({"products:read"}))

    def test_issues_no_token_twice(self) -> None:
        made = {ISSUER.issue_to_key(key_id=5, fingerprint="f", scopes=["products:read"]) for _ in range(3)}

        assert len(made) == 3

    @pytest.mark.parametrize("kind", TokenKind)
    def test_issues_no_token_of_a_session(self, kind: TokenKind) -> None:
        for token in (
            ISSUER.issue_to_app(user_id=7, session_id=9, client_id=3, scopes=["products:read"]),
            ISSUER.issue_to_key(key_id=5, fingerprint="f", scopes=["products:read"]),
        ):
            with pytest.raises(TokenInvalid):
                read_token(token, kind, RING)


class TestReadAccessToken:
    @pytest.mark.parametrize("claim", sorted(GOOD))
    def test_requires_every_claim(self, claim: str) -> None:
        assert read(sign(GOOD)) is not None

        with pytest.raises(TokenInvalid):
            read(sign({name: value for name, value in GOOD.items() if name != claim}))

    @pytest.mark.parametrize("issuer", [None, "https://other.example", f"{NAME}/"])
    def test_is_for_the_tokens_of_one_issuer(self, issuer: str | None) -> None:
        with pytest.raises(TokenInvalid):
            read_access_token(sign(GOOD), RING, issuer)

    @pytest.mark.parametrize("typ", ["JWT", "AT+JWT", "application/at+jwt", "", "rt+jwt"])
    def test_is_for_the_type_that_is_issued(self, typ: str) -> None:
        with pytest.raises(TokenInvalid):
            read(sign(GOOD, typ))

    @pytest.mark.parametrize(("late", "refused"), [(29, False), (31, True)])
    def test_expires(self, late: int, refused: bool) -> None:
        token = sign(GOOD)
        read(token)

        with time_machine.travel(NOW + timedelta(seconds=900 + late), tick=False):
            if refused:
                with pytest.raises(TokenExpired):
                    read(token)
            else:
                assert read(token) is not None

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text("ab7_ 0", max_size=9),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=9), inner, max_size=3),
            max_leaves=8,
        ),
        st.sampled_from([*sorted(GOOD), "key_fingerprint"]),
    )
    def test_is_broken_by_no_claim(self, value: Any, claim: str) -> None:
        for good in (GOOD, {**GOOD, "client_id": "cat_5", "sub": "cat_5", "key_fingerprint": "f"}):
            try:
                claims = read(sign({**good, claim: value}))
            except (TokenInvalid, TokenExpired):
                continue
            assert isinstance(claims, Claims | KeyClaims)
