"""The webhooks of the OpenAPI document: the messages that the server sends to URLs of its clients."""

from typing import Any

from apispec import APISpec

from app.web.body import JSON
from app.web.openapi_schemas import component_name, reference_to, text_of
from app.web.operation import Operation

#: The headers of a message by the Standard Webhooks specification (`app.security.signatures` makes them): what each
#: says, and its schema.
_HEADERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "webhook-id",
        "The id of the message, the same on every attempt: a message whose id came before is a repetition.",
        {"type": "string", "maxLength": 64, "pattern": "^(evt|ping)_[0-9a-z]+$", "examples": ["evt_1001"]},
    ),
    (
        "webhook-timestamp",
        "When this attempt was sent, in seconds since 1970-01-01 UTC. Refuse one that is minutes off: it is a replay.",
        {"type": "string", "maxLength": 20, "pattern": "^[0-9]+$", "examples": ["1767225600"]},
    ),
    (
        "webhook-signature",
        (
            "For each secret, separated by spaces: `v1,` and the base64 of HMAC-SHA256 over the id, the timestamp and"
            " the body, joined by full stops. One that fits is enough."
        ),
        {
            "type": "string",
            "maxLength": 200,
            "pattern": "^v1,[A-Za-z0-9+/=]+( v1,[A-Za-z0-9+/=]+)*$",
            "examples": ["v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="],
        },
    ),
)


def describe_webhooks(spec: APISpec, operation: Operation, *, tag: str) -> dict[str, Any]:
    """A Path Item for each message that an operation orders, by its name."""
    return {name: {"post": _describe(spec, name, schema, tag)} for name, schema in operation.sends.items()}


def _describe(spec: APISpec, name: str, schema: type[Any], tag: str) -> dict[str, Any]:
    summary, _, description = text_of(schema).partition("\n\n")
    return {
        "operationId": f"receive_{name}",
        "summary": summary,
        "description": description,
        "tags": [tag],
        # The signature proves the sender.
        "security": [],
        "parameters": [
            {"name": header, "in": "header", "required": True, "description": note, "schema": described}
            for header, note, described in _HEADERS
        ],
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": _reference_to_message(spec, schema)}},
        },
        "responses": {
            "2XX": {"description": "The message was taken; with any other status it is sent again."},
            "410": {"description": "Nothing more is wanted: the webhook is disabled."},
        },
    }


def _reference_to_message(spec: APISpec, schema: type[Any]) -> dict[str, str]:
    """A reference to the schema of a message, without what only marks the responses to a client's own requests.

    Tools leave members that are read-only out of the body of a request, which a message is.
    """
    reference = reference_to(spec, schema)
    whole = spec.components.schemas[component_name(schema)]
    names = [one["$ref"].rpartition("/")[2] for one in whole.get("oneOf", [])]
    for component in (whole, *(spec.components.schemas[name] for name in names)):
        for member in component.get("properties", {}).values():
            member.pop("readOnly", None)
    return reference
