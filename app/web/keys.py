"""The key ring of the application's tokens, and its public keys as a JSON Web Key Set for other services."""

from flask import Flask, Response, current_app, jsonify

from app.core.errors import NotFound
from app.extensions import jwt
from app.security.keys import KeyRing
from app.web import fields
from app.web.contract import Blueprint, public, refuses, returns
from app.web.schemas import Schema

blueprint = Blueprint("keys", __name__, about="The public keys with which other services verify tokens.")


EXAMPLE = {"kty": "OKP", "crv": "Ed25519", "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "alg": "EdDSA"}


class KeySetSchema(Schema):
    """A JSON Web Key Set (RFC 7517)."""

    keys = fields.Anything(required=True, schema={"type": "array", "items": {"type": "object"}}, example=[EXAMPLE])


def init_app(app: Flask, ring: KeyRing) -> None:
    """Register the key ring: ``flask-jwt-extended`` signs with its signing key."""
    app.extensions["key_ring"] = ring
    app.config["JWT_ALGORITHM"] = ring.signing.algorithm
    if ring.signing.kid is not None:
        app.config |= {"JWT_PRIVATE_KEY": ring.signing.signs, "JWT_PUBLIC_KEY": ring.signing.signs.public_key()}


@jwt.additional_headers_loader
def _key_id_header(_identity: object) -> dict[str, str]:
    ring: KeyRing = current_app.extensions["key_ring"]
    return {"kid": ring.signing.kid} if ring.signing.kid else {}


@blueprint.get("/.well-known/jwks.json")
@public
@returns(KeySetSchema)
@refuses(NotFound)
def read_key_set() -> Response:
    """Read the public keys that verify tokens; 404 while tokens are signed with a shared secret."""
    ring: KeyRing = current_app.extensions["key_ring"]
    key_set = ring.public_set()
    if key_set is None:
        raise NotFound
    response = jsonify(key_set)
    response.headers["Cache-Control"] = "public, max-age=300"
    return response
