"""The key ring of the application's tokens, and its public keys as a JSON Web Key Set for other services."""

from flask import Flask, Response, current_app, jsonify

from app.core.errors import NotFound
from app.extensions import jwt
from app.security.keys import KeyRing
from app.web import fields
from app.web.contract import Blueprint, public, refuses, returns
from app.web.schemas import Schema

blueprint = Blueprint("keys", __name__, about="The public keys with which other services verify tokens.")

#: Of RFC 8037, appendix A.
_POINT, _KID = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


class JsonWebKeySchema(Schema):
    """A public key as a JSON Web Key (RFC 7517), of the elliptic curve P-256 or of Ed25519 (RFC 8037)."""

    kty = fields.Choice(["EC", "OKP"], name="KeyType", note="`EC` for P-256, `OKP` for Ed25519.", example="OKP")
    crv = fields.Choice(["P-256", "Ed25519"], name="Curve", note="The curve.", example="Ed25519")
    x = fields.Text(max_length=64, note="The point on the curve, or its first coordinate.", example=_POINT)
    y = fields.Text(max_length=64, schema={"x-optional": True}, note="The second coordinate; of P-256 alone.")
    kid = fields.Text(max_length=64, note="The `kid` in the head of the tokens that it verifies.", example=_KID)
    alg = fields.Choice(["ES256", "EdDSA"], name="SigningAlgorithm", note="Of these tokens.", example="EdDSA")
    use = fields.Choice(["sig"], note="To verify signatures.", example="sig")


class KeySetSchema(Schema):
    """A JSON Web Key Set (RFC 7517)."""

    keys = fields.Nested(JsonWebKeySchema, many=True)


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
