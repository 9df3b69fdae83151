"""Tokens: which ones are ours."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import jwt
import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from app.security import tokens
from app.security.keys import make_ring
from app.security.tokens import Claims, TokenExpired, TokenInvalid, TokenKind, read_token
from tests.conftest import Caller

KEY, OTHER_KEY = "k" * 32, "o" * 32
NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
GOOD: dict[str, Any] = {
    "sub": "7",
    "sid": "9",
    "jti": "a-token",
    "type": "access",
    "iss": "catalog-api",
    "aud": "catalog-api",
    "iat": SECONDS,
    "exp": SECONDS + 900,
    "role": "user",
}

WRONG: dict[str, list[Any]] = {
    "sub": [7, "", "-7", "7.0", "07x", "٧", "1" * 19, None, ["7"], {"id": 7}, True],
    "sid": [9, "", "nine", "9" * 40, None, ["9"]],
    "jti": [1, None, ["a"], {}],
    "type": ["refresh", "ACCESS", "", None, 1, ["access"]],
    "iss": ["another", "", None, 1, ["catalog-api"]],
    "aud": ["another", "", None, 1, ["another"]],
    "iat": ["now", None, [], {}, "", 1e400, float("nan"), 10**30, True],
    "exp": ["soon", None, [], {}, "", float("nan"), True, 10**15, 10**30, 1e308],
}


@pytest.fixture(autouse=True)
def _now() -> Any:
    with time_machine.travel(NOW, tick=False):
        yield


def sign(
    claims: dict[str, Any], key: str = KEY, algorithm: str = "HS256", headers: dict[str, Any] | None = None
) -> str:
    """A token that says this. PyJWT will not sign every claim that it can be made to read, so this is by hand."""
    head = _encode({"alg": algorithm, "typ": "JWT", **(headers or {})})
    message = f"{head}.{_encode(claims)}"
    signer = jwt.get_algorithm_by_name(algorithm)
    signature = signer.sign(message.encode(), signer.prepare_key(key if algorithm != "none" else None))
    return f"{message}.{_base64(signature)}"


def _encode(value: Any) -> str:
    return _base64(json.dumps(value).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def read(token: str, kind: TokenKind = TokenKind.ACCESS, *keys: str) -> Claims:
    """Read a token with the keys, or KEY."""
    secret, *previous = keys or (KEY,)
    return read_token(token, kind, make_ring(secret=secret, previous_secrets=previous, key_files=()))


class TestReadToken:
    def test_tells_what_the_token_says(self) -> None:
        assert read(sign(GOOD)) == Claims(
            user_id=7, session_id=9, token_id="a-token", issued_at=NOW, expires_at=NOW + timedelta(seconds=900)
        )

    @pytest.mark.parametrize("claim", sorted(GOOD.keys() - {"role"}))
    def test_requires_every_claim(self, claim: str) -> None:
        token = sign({name: value for name, value in GOOD.items() if name != claim})

        with pytest.raises(TokenInvalid):
            read(token)

    def test_asks_for_no_role(self) -> None:
        token = sign({name: value for name, value in GOOD.items() if name != "role"})

        assert read(token).user_id == 7

    @pytest.mark.parametrize(
        ("claim", "value"),
        [(claim, value) for claim, values in WRONG.items() for value in values],
        ids=lambda value: repr(value)[:20],
    )
    def test_refuses_a_wrong_claim(self, claim: str, value: Any) -> None:
        with pytest.raises((TokenInvalid, TokenExpired)):
            read(sign({**GOOD, claim: value}))

    def test_takes_an_audience_among_others(self) -> None:
        assert read(sign({**GOOD, "aud": ["another", "catalog-api"]})).user_id == 7

    @pytest.mark.parametrize(("claimed", "asked"), [("access", TokenKind.REFRESH), ("refresh", TokenKind.ACCESS)])
    def test_refuses_a_token_of_another_kind(self, claimed: str, asked: TokenKind) -> None:
        with pytest.raises(TokenInvalid):
            read(sign({**GOOD, "type": claimed}), asked)

    def test_reads_a_refresh_token_as_one(self) -> None:
        assert read(sign({**GOOD, "type": "refresh"}), TokenKind.REFRESH).token_id == "a-token"


class TestSignature:
    def test_must_be_by_our_key(self) -> None:
        with pytest.raises(TokenInvalid):
            read(sign(GOOD, OTHER_KEY))

    def test_may_be_by_any_of_our_keys(self) -> None:
        assert read(sign(GOOD, OTHER_KEY), TokenKind.ACCESS, KEY, "p" * 32, OTHER_KEY).user_id == 7

    def test_must_be_there_whatever_the_header_says(self) -> None:
        with pytest.raises(TokenInvalid):
            read(sign(GOOD, algorithm="none"))

    @pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "hs256", "", None, 5, ["HS256"], "RS256"], ids=repr)
    def test_must_be_of_the_one_algorithm(self, algorithm: Any) -> None:
        _, _, signature = sign(GOOD).split(".")
        token = f"{_encode({'alg': algorithm, 'typ': 'JWT'})}.{_encode(GOOD)}.{signature}"

        with pytest.raises(TokenInvalid):
            read(token)

    @pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
    def test_must_not_be_of_a_cousin_algorithm(self, algorithm: str) -> None:
        key = "k" * 64

        with pytest.raises(TokenInvalid):
            read(sign(GOOD, key, algorithm), TokenKind.ACCESS, key)

    def test_must_not_be_of_a_private_key(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

        with pytest.raises(TokenInvalid):
            read(jwt.encode(GOOD, key, algorithm="RS256"))

    @pytest.mark.parametrize("part", [0, 1, 2])
    def test_covers_every_part(self, part: int) -> None:
        parts = sign(GOOD).split(".")
        parts[part] = ("A" if parts[part][5] != "A" else "B").join((parts[part][:5], parts[part][6:]))

        with pytest.raises(TokenInvalid):
            read(".".join(parts))

    @pytest.mark.parametrize(
        "headers",
        [
            {"kid": "../../dev/null"},
            {"kid": "' OR 1=1"},
            {"jku": "https://evil.example/keys"},
            {"x5u": "https://evil.example/cert"},
            {"jwk": {"kty": "oct", "k": base64.urlsafe_b64encode(OTHER_KEY.encode()).decode()}},
        ],
        ids=str,
    )
    def test_takes_no_key_from_the_header(self, headers: dict[str, Any]) -> None:
        if "kid" not in headers:  # a name that none of our keys has
            assert read(sign(GOOD, headers=headers)).user_id == 7
        with pytest.raises(TokenInvalid):
            read(sign(GOOD, OTHER_KEY, headers=headers))

    def test_must_have_no_critical_extension(self) -> None:
        with pytest.raises(TokenInvalid):
            read(sign(GOOD, headers={"crit": ["exp"], "exp": SECONDS}))


class TestTime:
    @pytest.mark.parametrize(("late", "refused"), [(-1, False), (29, False), (31, True), (10**6, True)])
    def test_ends_a_token_after_the_leeway(self, late: int, refused: bool) -> None:
        token = sign({**GOOD, "iat": SECONDS - 10**6 - 900, "exp": SECONDS - late})

        assert _is_refused(lambda: read(token), TokenExpired) == refused

    @pytest.mark.parametrize(("early", "refused"), [(29, False), (31, True), (10**6, True)])
    def test_refuses_a_token_of_the_future(self, early: int, refused: bool) -> None:
        token = sign({**GOOD, "iat": SECONDS + early, "exp": SECONDS + early + 900})

        assert _is_refused(lambda: read(token), TokenInvalid) == refused

    def test_does_not_tell_a_forgery_that_it_has_expired(self) -> None:
        with pytest.raises(TokenInvalid):
            read(sign({**GOOD, "exp": SECONDS - 900}, OTHER_KEY))


class TestAnyBytes:
    @given(st.text(max_size=200) | st.lists(st.binary(max_size=60).map(_base64), min_size=1, max_size=5).map(".".join))
    def test_are_refused(self, token: str) -> None:
        with pytest.raises(TokenInvalid):
            read(token)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
            max_leaves=8,
        ),
        st.sampled_from(sorted(GOOD)),
    )
    def test_are_no_claim_that_breaks_the_reader(self, value: Any, claim: str) -> None:
        token = sign({**GOOD, claim: value})

        try:
            claims = read(token)
        except (TokenInvalid, TokenExpired):
            return
        assert isinstance(claims, Claims)

    @pytest.mark.parametrize("depth", [1_000, 6_000])
    def test_may_be_nested_without_end(self, depth: int) -> None:
        deep = _base64(b"[" * depth + b"]" * depth)

        with pytest.raises(TokenInvalid):
            read(f"{deep}.{deep}.{deep}")

    @pytest.mark.parametrize("payload", ["[]", "null", "7", '"text"', "", "{", "\ud800"])
    def test_may_be_a_payload_that_is_no_object(self, payload: str) -> None:
        message = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_base64(payload.encode('utf-8', 'surrogatepass'))}"
        signer = jwt.get_algorithm_by_name("HS256")
        token = f"{message}.{_base64(signer.sign(message.encode(), signer.prepare_key(KEY)))}"

        with pytest.raises(TokenInvalid):
            read(token)


class TestRememberedTokens:
    """A token whose signature was verified before, by the same ring."""

    RING = make_ring(secret=KEY, previous_secrets=(), key_files=())

    @pytest.fixture
    def token(self) -> str:
        """A token that has been read, and is remembered."""
        token, before = sign(GOOD), tokens._verify.cache_info()
        for _ in range(2):
            assert self.read(token).user_id == 7
        assert tokens._verify.cache_info().hits > before.hits
        return token

    def read(self, token: str, kind: TokenKind = TokenKind.ACCESS) -> Claims:
        return read_token(token, kind, self.RING)

    @pytest.mark.parametrize(("late", "is_good"), [(0, True), (29, True), (29.999, True), (30, False), (31, False)])
    def test_expire_when_others_do(self, token: str, late: float, is_good: bool) -> None:
        with time_machine.travel(NOW + timedelta(seconds=900 + late), tick=False):
            reads = [partial(self.read, token), partial(read, token)]
            seen = [_is_refused(read_it, TokenExpired) for read_it in reads]

        assert seen == [not is_good] * 2

    def test_are_no_tokens_of_another_kind(self, token: str) -> None:
        with pytest.raises(TokenInvalid):
            self.read(token, TokenKind.REFRESH)

    def test_are_no_tokens_of_another_ring(self, token: str) -> None:
        for _ in range(2):
            with pytest.raises(TokenInvalid):
                read(token, TokenKind.ACCESS, OTHER_KEY)
        assert self.read(token).user_id == 7

    @given(st.data())
    def test_vouch_for_no_other(self, data: st.DataObject) -> None:
        token = sign(GOOD)
        assert self.read(token).user_id == 7
        place = data.draw(st.integers(0, len(token) - 1))
        letter = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.= "))
        forged = token[:place] + letter + token[place + 1 :]

        # The last letter of a signature has bits that say nothing.
        if forged != token and place < len(token) - 1:
            assert _is_refused(lambda: self.read(forged), TokenInvalid)

    @pytest.mark.parametrize(
        "claim", [{"sub": "8"}, {"sid": "10"}, {"exp": SECONDS + 9000}, {"role": "admin"}], ids=str
    )
    def test_lend_their_signature_to_no_other(self, token: str, claim: dict[str, Any]) -> None:
        head, _, signature = token.split(".")

        with pytest.raises(TokenInvalid):
            self.read(f"{head}.{_encode({**GOOD, **claim})}.{signature}")

    def test_that_were_refused_are_not_remembered_as_good(self) -> None:
        early = sign({**GOOD, "iat": SECONDS + 60})
        assert _is_refused(lambda: self.read(early), TokenInvalid)
        with time_machine.travel(NOW + timedelta(seconds=60), tick=False):
            assert self.read(early).user_id == 7

    def test_are_as_many_as_fit(self) -> None:
        for number in range(tokens.MAX_CACHED_TOKENS + 10):
            assert self.read(sign({**GOOD, "sub": str(number + 1)})).user_id == number + 1

        assert tokens._verify.cache_info().currsize == tokens.MAX_CACHED_TOKENS


class TestARevokedSession:
    def test_is_refused_at_once_although_its_token_is_remembered(
        self, bob: Caller, sign_in: Callable[..., Caller]
    ) -> None:
        with time_machine.travel(datetime.now(UTC), tick=True):
            carol = sign_in("carol")
            for _ in range(2):
                assert [bob.get("/users/me").status_code, carol.get("/users/me").status_code] == [200, 200]

            assert bob.post("/auth/logout").status_code == 204

            assert [bob.get("/users/me").status_code, carol.get("/users/me").status_code] == [401, 200]


def _is_refused(read_it: Callable[[], object], refusal: type[Exception]) -> bool:
    try:
        read_it()
    except refusal:
        return True
    return False
