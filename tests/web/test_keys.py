"""Keys that rotate, and the set that other services verify our tokens with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from flask import Flask
from joserfc import jwt as independent
from joserfc.jwk import KeySet

from config import Config, ConfigError
from tests.conftest import PASSWORD, Caller, body_of

AppWith = Callable[..., Flask]


@pytest.fixture
def backend() -> str:
    """Tokens and keys do not touch the database."""
    return "sqlite"


def pem(kind: str) -> bytes:
    make: dict[str, Callable[[], Any]] = {
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
        "RSA": lambda: rsa.generate_private_key(65537, 2048),
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    }
    made = make[kind]()
    return bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def public(private: bytes) -> bytes:
    key = load_pem_private_key(private, None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def log_in(app: Flask) -> dict[str, Any]:
    answer = Caller(app).post("/auth/login", {"email": "bob@example.com", "password": PASSWORD})
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return body_of(answer)


def status_with(app: Flask, token: str) -> int:
    return Caller(app, token).get("/users/me").status_code


@pytest.mark.parametrize("kind", ["ES256", "EdDSA"])
class TestKeyFiles:
    # RFC 9864 renames EdDSA to Ed25519; what PyJWT signs is called EdDSA as yet.
    @pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
    def test_sign_what_others_can_verify(self, app_with: AppWith, bob: Caller, kind: str) -> None:
        app = app_with(jwt_key_files=(pem(kind),))
        token = log_in(app)["access_token"]

        answer = Caller(app).get("//.well-known/jwks.json")

        key_set: Any = body_of(answer)
        verified = independent.decode(token, KeySet.import_key_set(key_set), algorithms=[kind])
        assert verified.claims["sub"] == str(bob.user_id)
        assert answer.headers["Cache-Control"] == "public, max-age=300"
        assert status_with(app, token) == 200

    def test_tell_nothing_private(self, app_with: AppWith, kind: str) -> None:
        text = Caller(app_with(jwt_key_files=(pem(kind),))).get("//.well-known/jwks.json").get_data(as_text=True)

        assert all("d" not in key for key in json.loads(text)["keys"])

    def test_that_are_retired_still_verify(self, app_with: AppWith, bob: Caller, kind: str) -> None:
        old, new = pem(kind), pem(kind)
        token = log_in(app_with(jwt_key_files=(old,)))["access_token"]

        retiring, retired = app_with(jwt_key_files=(new, public(old))), app_with(jwt_key_files=(new,))

        assert [status_with(app, token) for app in (retiring, retired)] == [200, 401]
        assert status_with(retiring, log_in(retiring)["access_token"]) == 200

    def test_take_over_from_a_secret_without_logging_anybody_out(
        self, app_with: AppWith, bob: Caller, kind: str
    ) -> None:
        token = log_in(app_with())["access_token"]

        assert status_with(app_with(jwt_key_files=(pem(kind),), jwt_previous_secret_keys=("j" * 32,)), token) == 200
        assert status_with(app_with(jwt_key_files=(pem(kind),)), token) == 401

    def test_are_not_to_be_confused_with_secrets(self, app_with: AppWith, bob: Caller, kind: str) -> None:
        """RFC 8725 section 2.1: a public key must never verify as an HMAC secret."""
        private = pem(kind)
        app = app_with(jwt_key_files=(private,))
        genuine = log_in(app)["access_token"]
        claims = jwt.decode(genuine, options={"verify_signature": False})
        header = jwt.get_unverified_header(genuine)

        for secret in (public(private), public(private).strip()):
            with pytest.MonkeyPatch.context() as patch:
                # PyJWT refuses to make such a token; an attacker does not ask it.
                patch.setattr("jwt.algorithms.HMACAlgorithm.prepare_key", lambda _self, key: key)
                forged = jwt.encode(claims, secret, "HS256", headers={"kid": header["kid"]})
            assert status_with(app, forged) == 401

    def test_cannot_be_chosen_by_the_token(self, app_with: AppWith, bob: Caller, kind: str) -> None:
        app, mine = app_with(jwt_key_files=(pem(kind),)), load_pem_private_key(pem(kind), None)
        genuine = log_in(app)["access_token"]
        claims = jwt.decode(genuine, options={"verify_signature": False})
        kid = jwt.get_unverified_header(genuine)["kid"]
        headers: list[dict[str, Any]] = [
            {"kid": kid},
            {"kid": "unknown"},
            {"kid": "../../dev/null"},
            {"jku": "https://attacker.example/jwks.json"},
            {"jwk": {"kty": "oct", "k": "AA"}},
            {"x5u": "https://attacker.example/"},
            {},
        ]

        forged = [jwt.encode(claims, mine, kind, headers=header) for header in headers]  # type: ignore[arg-type]  # a key

        assert [status_with(app, token) for token in forged] == [401] * len(headers)


class TestSecrets:
    def test_make_no_set(self, app: Flask) -> None:
        assert Caller(app).get("//.well-known/jwks.json").status_code == 404

    def test_that_were_rotated_still_verify(self, app_with: AppWith, bob: Caller) -> None:
        token = log_in(app_with())["access_token"]

        assert status_with(app_with(jwt_secret_key="n" * 32, jwt_previous_secret_keys=("j" * 32,)), token) == 200
        assert status_with(app_with(jwt_secret_key="n" * 32), token) == 401


class TestConfiguration:
    @pytest.mark.parametrize("kind", ["RSA", "P-384"])
    def test_refuses_other_keys(self, tmp_path: Path, kind: str) -> None:
        file = tmp_path / "key.pem"
        file.write_bytes(pem(kind))

        with pytest.raises(ConfigError, match="JWT_KEY_FILES names a file that must"):
            Config.from_environment({"APP_ENV": "testing", "JWT_KEY_FILES": str(file)})

    @pytest.mark.parametrize(
        "content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----"]
    )
    def test_refuses_what_is_no_key(self, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "key.pem"
        file.write_bytes(content)

        with pytest.raises(ConfigError, match="JWT_KEY_FILES"):
            Config.from_environment({"APP_ENV": "testing", "JWT_KEY_FILES": str(file)})

    def test_refuses_a_first_key_that_cannot_sign(self, tmp_path: Path) -> None:
        file = tmp_path / "key.pem"
        file.write_bytes(public(pem("ES256")))

        with pytest.raises(ConfigError, match="JWT_KEY_FILES"):
            Config.from_environment({"APP_ENV": "testing", "JWT_KEY_FILES": str(file)})

    def test_refuses_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="JWT_KEY_FILES must name readable files"):
            Config.from_environment({"APP_ENV": "testing", "JWT_KEY_FILES": str(tmp_path / "nothing")})
