"""The OpenAPI document as generators of clients read it: what each of them takes for a type, and what confuses one."""

import builtins
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from app.core.errors import Invalid, Refusal
from app.web.errors import status_of
from app.web.oauth_errors import oauth_members, oauth_status
from tests.operations import Operation, operations_in, resolve, validator, values_in

# The committed document is the served one, as tests/web/test_openapi.py says, and costs no application to read here.
DOCUMENT: dict[str, Any] = json.loads((Path(__file__).resolve().parents[2] / "openapi.json").read_text("utf-8"))
SCHEMAS: dict[str, dict[str, Any]] = DOCUMENT["components"]["schemas"]
OPERATIONS = operations_in(DOCUMENT)
JSON = "application/json"
#: What OpenAPI 3.1 lets stand beside a reference and generators keep or leave out, without a change of the type.
NOTES = {"description", "default", "examples", "readOnly", "writeOnly", "x-optional", "x-secret"}


def walk(described: Any, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object within a document but the values of examples, with its place."""
    if isinstance(described, dict):
        yield path, described
        for name, value in described.items():
            if name not in {"example", "examples", "default", "value"} or path.endswith(("/properties", "/components")):
                yield from walk(value, f"{path}/{name}")
    elif isinstance(described, list):
        for number, value in enumerate(described):
            yield from walk(value, f"{path}/{number}")


def schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema, with its place."""
    for path, described in walk(DOCUMENT):
        if "/schemas/" in path or "/schema" in path:
            yield path, described


def refusals() -> dict[str, type[Refusal]]:
    """Every refusal of the application, by its code."""
    found: dict[str, type[Refusal]] = {}
    left = [Refusal]
    while left:
        one = left.pop()
        left += one.__subclasses__()
        if one.__module__.startswith("app."):
            found[one.code()] = one
    return found


def answers(operation: Operation) -> Iterator[dict[str, Any]]:
    """What a successful answer of an operation has, as JSON."""
    for status, response in operation.responses.items():
        if int(status) < 300 and "application/json" in response.get("content", {}):
            yield dict(response["content"]["application/json"]["schema"])


def problems(operation: Operation) -> Iterator[tuple[int, dict[str, Any]]]:
    """What an operation refuses with, by its status; a page is for people alone."""
    for status, response in operation.responses.items():
        if int(status) >= 400 and operation.errors != "text/html":
            yield int(status), response["content"][operation.errors]


def alternatives(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The references of a union, or the one reference that a schema is."""
    return list(schema.get("oneOf", [schema]))


class TestReferences:
    def test_stand_alone_but_for_notes(self) -> None:
        beside = {path: schema.keys() - {"$ref"} - NOTES for path, schema in walk(DOCUMENT) if "$ref" in schema}

        assert {path: names for path, names in beside.items() if names} == {}

    def test_are_made_to_every_component(self) -> None:
        used = set(values_in({name: part for name, part in DOCUMENT.items() if name != "components"}, "$ref"))
        left = list(used)
        while left:
            inner = set(values_in(resolve(DOCUMENT, {"$ref": left.pop()}), "$ref")) - used
            used |= inner
            left += inner
        for discriminator in values_in(DOCUMENT, "discriminator"):
            assert set(discriminator["mapping"].values()) <= used

        there = {
            f"#/components/{kind}/{name}"
            for kind, components in DOCUMENT["components"].items()
            if kind != "securitySchemes"
            for name in components
        }
        assert there - used == set()

    def test_of_security_are_made_to_every_scheme(self) -> None:
        used = {name for one in OPERATIONS for scheme in one.described["security"] for name in scheme}

        assert used == DOCUMENT["components"]["securitySchemes"].keys()


class TestNames:
    def test_of_components_are_no_names_of_python(self) -> None:
        assert SCHEMAS.keys() & vars(builtins).keys() == set()

    def test_of_components_are_words(self) -> None:
        for kind in ("schemas", "responses"):
            names = DOCUMENT["components"][kind]
            assert [name for name in names if not re.fullmatch(r"([A-Z][a-z]*)+", name)] == []

    def test_of_components_differ_in_more_than_case(self) -> None:
        assert len({name.lower() for name in SCHEMAS}) == len(SCHEMAS)


class TestEnumerations:
    def test_are_components(self) -> None:
        inline = [
            path
            for path, schema in schemas()
            # A problem's code is one value, with which generators tell it from others.
            if isinstance(schema.get("enum"), list)
            and len(schema["enum"]) > 1
            and not re.fullmatch(r"#/components/schemas/\w+", path)
        ]

        assert inline == []

    def test_are_there_once(self) -> None:
        values = [tuple(schema["enum"]) for schema in SCHEMAS.values() if "enum" in schema]

        assert {"Currency", "ProductStatus", "Order", "Role"} <= SCHEMAS.keys()
        sorts = {name for name in SCHEMAS if name.endswith(("Sort", "Include", "Key"))}
        others = [tuple(SCHEMAS[name]["enum"]) for name in SCHEMAS.keys() - sorts if "enum" in SCHEMAS[name]]
        assert len(set(others)) == len(others), values


class TestAnswers:
    def test_are_components(self) -> None:
        for operation in OPERATIONS:
            for schema in answers(operation):
                assert schema.keys() == {"$ref"}

    def test_say_what_is_always_there(self) -> None:
        seen = set()
        for operation in OPERATIONS:
            for schema in answers(operation):
                for path, described in walk(resolve_all(schema)):
                    if "properties" in described:
                        seen.add(path)
                        assert "required" in described, (operation, path)

        assert len(seen) > 40

    def test_of_lists_have_items_that_are_whole(self) -> None:
        lists = [one for one in OPERATIONS if "fields" in one.parameters("query")]
        for operation in lists:
            include = operation.parameters("query").get("include")
            embedded = {"children", "matching_variants", *(include["schema"]["items"]["enum"] if include else [])}
            [answer] = [resolve(DOCUMENT, schema) for schema in answers(operation)]
            for item in alternatives(resolve(DOCUMENT, answer["properties"]["items"]["items"])):
                described = resolve(DOCUMENT, item)
                assert described["properties"].keys() - set(described["required"]) <= embedded, operation

        assert len(lists) > 8

    def test_that_are_unions_are_told_apart_by_a_member(self) -> None:
        for name in ("ChangeEvent", "AuditEvent"):
            union = SCHEMAS[name]
            member, mapping = union["discriminator"]["propertyName"], union["discriminator"]["mapping"]
            assert [one["$ref"] for one in union["oneOf"]] == list(mapping.values())
            for kind, reference in mapping.items():
                described = resolve(DOCUMENT, {"$ref": reference})
                assert described["properties"][member]["enum"] == [kind]
                assert member in described["required"]

    def test_of_the_feed_have_each_resource_as_itself(self) -> None:
        shown = {"Product": "ProductWithVariants", "Category": "Category", "Brand": "Brand"}
        for name, schema in shown.items():
            data = SCHEMAS[f"{name}ChangeEvent"]["properties"]["data"]
            assert data["anyOf"] == [{"$ref": f"#/components/schemas/{schema}"}, {"type": "null"}]

    def test_of_the_trail_have_the_members_of_each_kind(self) -> None:
        kinds = SCHEMAS["AuditEvent"]["discriminator"]["mapping"]

        assert {"product", "user", "api_key", "import", "stock_movement"} <= kinds.keys()
        members = SCHEMAS["ProductMembers"]["properties"]
        assert (members["price"]["type"], members["stock"]["type"]) == (["string", "null"], ["integer", "null"])
        assert members["tags"] == {"type": ["array", "null"], "items": {"type": "string"}, "readOnly": True}
        for reference in kinds.values():
            event = resolve(DOCUMENT, {"$ref": reference})["properties"]
            [before, after] = [event[name]["anyOf"][0] for name in ("before", "after")]
            assert before == after
            assert resolve(DOCUMENT, before)["additionalProperties"] is True

    def test_of_the_key_set_have_its_members(self) -> None:
        key = resolve(DOCUMENT, SCHEMAS["KeySet"]["properties"]["keys"]["items"])

        assert {"kty", "crv", "x", "kid", "alg", "use"} <= set(key["required"])

    def test_have_no_object_without_members(self) -> None:
        bare = [
            path
            for path, schema in schemas()
            if "object" in _types(schema) and not {"properties", "additionalProperties"} & schema.keys()
        ]

        assert bare == []


def _types(schema: dict[str, Any]) -> list[str]:
    declared = schema.get("type", [])
    return [declared] if isinstance(declared, str) else list(declared) if isinstance(declared, list) else []


def resolve_all(schema: Any, seen: tuple[str, ...] = ()) -> Any:
    """A schema with what it refers to, but for what refers to itself."""
    if isinstance(schema, list):
        return [resolve_all(one, seen) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if reference := schema.get("$ref"):
        return {} if reference in seen else resolve_all(dict(resolve(DOCUMENT, schema)), (*seen, reference))
    return {name: resolve_all(one, seen) for name, one in schema.items()}


class TestFiles:
    def test_are_binary_in_forms_and_as_bodies(self) -> None:
        operations = [one for one in OPERATIONS if one.takes_file]
        assert len(operations) == 2
        for operation in operations:
            content = dict(operation.described["requestBody"]["content"])
            form = resolve(DOCUMENT, content.pop("multipart/form-data")["schema"])
            assert form["properties"]["file"]["format"] == "binary"
            # A picture may be a URL instead.
            content.pop("application/json", None)
            assert content
            for described in content.values():
                assert described["schema"] == {"type": "string", "format": "binary"}

    def test_come_in_a_form_first(self) -> None:
        for operation in (one for one in OPERATIONS if one.takes_file):
            assert next(iter(operation.described["requestBody"]["content"])) == "multipart/form-data"

    def test_that_are_answered_have_a_schema(self) -> None:
        for operation in OPERATIONS:
            for response in operation.responses.values():
                assert all("schema" in content for content in response.get("content", {}).values()), operation


class TestProblems:
    def test_are_open(self) -> None:
        assert SCHEMAS["Problem"]["additionalProperties"] is True
        for name, schema in SCHEMAS.items():
            assert not name.endswith("Problem") or schema.get("additionalProperties", True) is True, name

    def test_have_one_schema_for_each_code(self) -> None:
        for operation in OPERATIONS:
            for status, content in problems(operation):
                codes = [_code_of(one) for one in alternatives(content["schema"])]
                assert len(set(codes)) == len(codes), status
                of_code = {status_of(refusals()[code]) for code in codes}
                assert {oauth_status(one) if operation.errors == JSON else one for one in of_code} == {status}

    def test_have_an_example_of_each_code(self) -> None:
        for operation in OPERATIONS:
            for status, content in problems(operation):
                codes = {_code_of(one) for one in alternatives(content["schema"])}
                examples = {name: resolve(DOCUMENT, one)["value"] for name, one in content["examples"].items()}
                assert examples.keys() == codes, status
                fits = validator(DOCUMENT, content["schema"])
                for code, example in examples.items():
                    assert (example["code"], example["status"]) == (code, status)
                    assert [error.message for error in fits.iter_errors(example)] == []

    def test_of_oauth_have_the_members_that_its_clients_read(self) -> None:
        found = 0
        for operation in (one for one in OPERATIONS if one.errors == JSON):
            for status, content in problems(operation):
                for one in alternatives(content["schema"]):
                    base, own = resolve(DOCUMENT, one)["allOf"]
                    [error] = own["properties"]["error"]["enum"]
                    assert base == {"$ref": "#/components/schemas/OAuthError"}
                    assert "error" in own["required"]
                    members = oauth_members({"code": _code_of(one), "status": status, "detail": ""})
                    assert error == members["error"]
                    found += 1

        assert found > 10
        assert SCHEMAS["OAuthError"]["allOf"][1]["required"] == ["error", "error_description"]

    def test_are_named_in_the_description(self) -> None:
        for operation in OPERATIONS:
            for status, content in problems(operation):
                codes = [_code_of(one) for one in alternatives(content["schema"])]
                description = operation.responses[str(status)]["description"]
                assert re.findall(r"^- `([a-z_]+)`: [A-Z].*\.$", description, re.MULTILINE) == codes

    def test_have_the_members_of_their_refusals(self) -> None:
        declared = 0
        for code, refusal in refusals().items():
            name = f"{refusal.__name__}Problem"
            if name in SCHEMAS:
                own = SCHEMAS[name]["allOf"][1]
                errors = {"errors"} if issubclass(refusal, Invalid) else set()
                assert own["properties"].keys() == {"code", *refusal.members, *errors}, code
                assert set(own["required"]) == {"code", *refusal.members, *errors}, code
                declared += len(refusal.members)

        assert declared >= 7

    def test_say_how_many_are_left(self) -> None:
        own = SCHEMAS["OutOfStockProblem"]["allOf"][1]

        assert own["properties"]["available"] == {"type": "integer", "format": "int64"}


def _code_of(schema: Mapping[str, Any]) -> str:
    [code] = resolve(DOCUMENT, schema)["allOf"][1]["properties"]["code"]["enum"]
    return str(code)


class TestWords:
    def test_say_what_an_operation_does_and_for_whom(self) -> None:
        for operation in OPERATIONS:
            described = operation.described

            assert re.fullmatch(r"[A-Z][^\n]*\.", described["summary"])
            assert "\n" not in described["summary"]
            permission = described.get("x-permission")
            sentence = f"Needs the permission `{permission}`" if permission else "Needs "
            assert sentence in described["description"]

    def test_say_what_a_parameter_is_for(self) -> None:
        for operation in OPERATIONS:
            for place in ("path", "query", "header"):
                for name, parameter in operation.parameters(place).items():
                    assert re.fullmatch(r"[A-Z].*[.]", parameter["description"], re.DOTALL), (place, name)

    def test_say_what_an_object_is(self) -> None:
        nameless = [name for name, schema in SCHEMAS.items() if "enum" not in schema and not _description(schema)]

        assert nameless == []

    def test_name_whom_to_ask(self) -> None:
        assert DOCUMENT["info"]["contact"]["name"]


def _description(schema: dict[str, Any]) -> str:
    return str(schema.get("description") or schema["allOf"][1]["description"])
