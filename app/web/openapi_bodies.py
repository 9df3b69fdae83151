"""The bodies of requests in the OpenAPI document: JSON, forms, files, and forms with a file."""

from collections.abc import Sequence
from typing import Any

from apispec import APISpec
from werkzeug.routing import Rule

from app.web import dry_runs, uploads
from app.web.body import FORM, JSON, MAX_SMALL_BODY_BYTES
from app.web.openapi_components import PARAMETERS
from app.web.openapi_examples import example_of
from app.web.openapi_schemas import component_name, reference_to
from app.web.operation import FileContract, Operation
from app.web.schemas import BodySchema, ListBodySchema

#: A file in a form, or as the whole body. Generators of clients know it by its format.
_FILE = {"type": "string", "format": "binary"}


def describe_body(spec: APISpec, rule: Rule, operation: Operation, options: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The body that an operation takes; ``options`` are the parameters that the fields of a form can state too."""
    if operation.takes_file is not None:
        content = _file_content(spec, rule, operation, operation.takes_file, options)
        if operation.accepts is not None:
            content[JSON] = _content(spec, operation.accepts)
        return {"required": True, "content": content}
    # A patch may be sent as a merge patch too. Several media types would have a generator make one function of each.
    content = {FORM if operation.is_form else JSON: _content(spec, operation.accepts or BodySchema)}
    described: dict[str, Any] = {"required": True, "content": content}
    if max_bytes := MAX_SMALL_BODY_BYTES if operation.is_small else operation.max_bytes:
        described["x-max-bytes"] = max_bytes
    return described


def _content(spec: APISpec, schema: type[BodySchema]) -> dict[str, Any]:
    example: Any = example_of(schema)
    if issubclass(schema, ListBodySchema):
        example = example["items"]
    return {"schema": reference_to(spec, schema), "example": example}


def _file_content(
    spec: APISpec, rule: Rule, operation: Operation, contract: FileContract, options: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The form first: it is what generators choose, and the one way in which a browser sends a file."""
    fields = {one["name"]: {**one["schema"], "description": one["description"]} for one in options}
    if dry_runs.takes_dry_run(rule):
        _, note, schema = PARAMETERS[dry_runs.PARAMETER]
        fields[dry_runs.PARAMETER] = {**schema, "description": note}
    # The parameters have the defaults. A client that knows them sends them, and its own spelling of false.
    properties = {
        name: {key: fact for key, fact in field.items() if key != "default"} for name, field in fields.items()
    }
    form = {
        "type": "object",
        "description": "A file, and how to read it.",
        "required": [uploads.PART],
        "properties": {uploads.PART: {**_FILE, "description": f"At most {contract.limit} bytes."}, **properties},
        "additionalProperties": False,
    }
    name = f"{component_name(operation.query or operation.returns)}Form"
    if name not in spec.components.schemas:
        spec.components.schema(name, component=form)
    encoding = {uploads.PART: {"contentType": ", ".join(contract.media_types)}}
    return {
        uploads.FORM: {"schema": {"$ref": f"#/components/schemas/{name}"}, "encoding": encoding},
        **{media_type: {"schema": _FILE} for media_type in contract.media_types},
    }
