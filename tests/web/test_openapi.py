"""The OpenAPI document: valid, committed, complete, and saying what the code checks."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from openapi_spec_validator import OpenAPIV31SpecValidator

from app import create_app
from app.security.permissions import GRANTS, Permission
from app.web.monitoring import OPEN_METRICS, TEXT
from app.web.openapi import describe
from tests.conftest import settings_for
from tests.operations import FORM, Operation, operations_in, resolve, validator, values_in

#: The body that adds a variant, and what takes it.
VARIANT = "#/components/schemas/VariantCreate"
VARIANTS = {VARIANT, "POST /api/v1/products/{product_id}/variants"}

#: What is ended without an ETag: sessions, identities, and what apps may do.
WITHOUT_TAG = r"/(sessions|identities|grants)(/|$)"
COMMITTED = Path(__file__).resolve().parents[2] / "openapi.json"
Document = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Document:
    return describe(_application())


@pytest.fixture(scope="module")
def operations(document: Document) -> list[Operation]:
    return operations_in(document)


def _application(**changed: Any) -> Flask:
    return create_app(settings_for("sqlite:////nowhere/catalog.db", **changed))


class TestDocument:
    def test_is_valid_openapi_3_1(self, document: Document) -> None:
        errors = [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()]

        assert document["openapi"].startswith("3.1.")
        assert errors == []

    def test_is_the_committed_one(self, document: Document) -> None:
        assert json.loads(COMMITTED.read_text("utf-8")) == document, "run `make openapi`"

    def test_is_committed_as_the_command_prints_it(self, runner: FlaskCliRunner) -> None:
        assert runner.invoke(args=["openapi"]).output == COMMITTED.read_text("utf-8"), "run `make openapi`"

    def test_is_printed_for_people_to_compare(self) -> None:
        text = COMMITTED.read_text("utf-8")

        assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"

    def test_is_served(self, client: FlaskClient, document: Document) -> None:
        answer = client.get("/openapi.json")

        assert answer.status_code == 200
        assert answer.content_type == "application/json"
        assert answer.json == document

    def test_is_made_once(self, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
        first = client.get("/openapi.json")
        monkeypatch.delattr("app.web.openapi.describe")

        assert client.get("/openapi.json").data == first.data

    def test_is_not_sent_again(self, client: FlaskClient) -> None:
        tag = client.get("/openapi.json").headers["ETag"]

        answer = client.get("/openapi.json", headers={"If-None-Match": tag})

        assert (answer.status_code, answer.data) == (304, b"")

    def test_is_served_where_it_comes_from_and_at_the_public_url(self, document: Document) -> None:
        public = describe(_application(public_url="https://catalog.example/shop"))

        assert [server["url"] for server in document["servers"]] == ["/"]
        assert [server["url"] for server in public["servers"]] == ["https://catalog.example/shop", "/"]

    def test_is_the_same_whatever_the_other_settings(self, document: Document) -> None:
        other = _application(
            catalog_public_read=True,
            registration_open=False,
            default_currency="SAR",
            rate_limit_enabled=True,
            max_body_bytes=2048,
            cors_origins=("https://shop.example.com",),
            trusted_proxies=1,
        )

        assert describe(other) == document

    def test_is_the_same_each_time(self) -> None:
        app = _application()

        assert json.dumps(describe(app)) == json.dumps(describe(app))

    def test_names_no_host_but_in_examples(self, document: Document) -> None:
        hosts = set(re.findall(r"https?://([^\s\"/]+)", json.dumps(document)))
        assert {host for host in hosts if not host.endswith(".example")} == set()

    def test_refers_only_to_what_is_there(self, document: Document) -> None:
        for reference in values_in(document, "$ref"):
            assert resolve(document, {"$ref": reference})

    def test_describes_every_tag(self, document: Document, operations: list[Operation]) -> None:
        used = {tag for operation in operations for tag in operation.described["tags"]}

        assert used == {tag["name"] for tag in document["tags"]}
        assert all(tag["description"] for tag in document["tags"])


class TestOperations:
    def test_have_a_name_of_their_own(self, operations: list[Operation]) -> None:
        names = [operation.name for operation in operations]

        assert all(re.fullmatch(r"[a-z][a-z_]*", name) for name in names)
        assert sorted(names) == sorted(set(names))

    def test_say_in_a_sentence_what_they_do(self, operations: list[Operation]) -> None:
        wrong = [str(one) for one in operations if not re.fullmatch(r"[A-Z].*\.", one.described["summary"], re.DOTALL)]

        assert wrong == []

    def test_have_one_tag(self, operations: list[Operation]) -> None:
        assert [str(one) for one in operations if len(one.described["tags"]) != 1] == []

    def test_say_whom_they_serve(self, document: Document, operations: list[Operation]) -> None:
        schemes = document["components"]["securitySchemes"]

        for operation in operations:
            security = operation.described["security"]
            assert security == [] or all(name in schemes for scheme in security for name in scheme), operation

    def test_name_their_permission_and_the_roles_that_hold_it(self, operations: list[Operation]) -> None:
        for operation in operations:
            if operation.credentials != "bearer":
                assert "x-permission" not in operation.described, operation
                continue
            permission = Permission(operation.described["x-permission"])
            roles = {role.value for role, grants in GRANTS.items() if permission in grants}
            assert set(operation.described["x-roles"]) == roles, operation

    def test_document_what_follows_from_their_contract(self, operations: list[Operation]) -> None:
        for operation in operations:
            # An endpoint of OAuth 2 says 400 for what is invalid.
            expected = {400, 503} | ({422} if operation.errors != "application/json" else set())
            if operation.described["tags"] not in (["health"], ["monitoring"]):
                expected |= {429}
            if operation.credentials:
                expected |= {401}
            if operation.credentials == "bearer":
                expected |= {403}
            if operation.parameters("path"):
                expected |= {404}
            if "If-Match" in operation.parameters("header"):
                expected |= {412}
                expected |= {428} if operation.parameters("header")["If-Match"]["required"] else set()
            if operation.media_types or operation.takes_form:
                expected |= {413, 415}
            assert expected <= operation.statuses, (operation, expected - operation.statuses)

    def test_document_one_success(self, operations: list[Operation]) -> None:
        for operation in operations:
            # A page shows what it is about, or leads on.
            successes = {status for status in operation.statuses if status < 300} or {303} & operation.statuses
            # Who puts by a key creates or replaces; a picture is there, or will be fetched.
            two = {200, 201} if operation.name.startswith("put_") else {201, 202} if operation.takes_file else {200}
            assert len(successes) == 1 or successes == two, operation

    def test_document_every_error_as_a_problem(self, operations: list[Operation]) -> None:
        for operation in operations:
            expected = "application/json" if operation.takes_form else "application/problem+json"
            if "/oauth/authorize" in operation.path:
                expected = "text/html"
            for status, response in operation.responses.items():
                if int(status) >= 400:
                    assert list(response["content"]) == [expected], (operation, status)

    def test_document_the_headers_of_each_answer(self, operations: list[Operation]) -> None:
        own = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After", 304: "ETag"}
        own |= dict.fromkeys((201, 303), "Location")

        for operation in operations:
            for status, response in operation.responses.items():
                expected = {"X-Request-ID"} | ({own[int(status)]} if int(status) in own else set())
                # 101 comes from the WebSocket's own library.
                if int(status) not in {101, 304}:
                    assert expected <= response["headers"].keys(), (operation, status)

    def test_that_need_a_precondition_say_so(self, operations: list[Operation]) -> None:
        for operation in operations:
            # What people let in has no ETag: a person who ends it means it, whatever it was.
            if operation.method in {"PUT", "PATCH", "DELETE"} and not re.search(WITHOUT_TAG, operation.path):
                # Nor does who puts by a key of their own need to know what is there.
                if operation.method == "PUT" and "/by/" in operation.path:
                    assert operation.parameters("header").keys() == {"If-Match", "If-None-Match"}, operation
                    continue
                assert operation.parameters("header")["If-Match"]["required"] is True, operation

    def test_take_json_in_one_media_type(self, operations: list[Operation]) -> None:
        for operation in operations:
            assert operation.media_types in ([], ["application/json"]), operation
            assert operation.media_types == [] or operation.method not in {"GET", "DELETE"}, operation

    def test_take_a_form_only_where_a_protocol_or_a_page_has_one(self, operations: list[Operation]) -> None:
        found = [one for one in operations if one.takes_form]

        for operation in found:
            assert re.search(r"/oauth/|/backchannel-logout$", operation.path), operation
            assert operation.described["requestBody"]["content"].keys() == {FORM}, operation
            assert operation.described["requestBody"]["x-max-bytes"] == 16 * 1024, operation
        assert len(found) >= 4

    def test_that_patch_say_which_other_media_type_they_take(self, operations: list[Operation]) -> None:
        for operation in operations:
            is_named = "application/merge-patch+json" in operation.described["description"]
            assert is_named == (operation.method == "PATCH"), operation

    def test_are_every_route_but_those_of_the_documentation_and_of_files(self, operations: list[Operation]) -> None:
        app = _application()
        served = {
            (method, re.sub(r"<(?:[^>]+:)?(\w+)>", r"{\1}", rule.rule))
            for rule in app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }

        undocumented = served - {(operation.method, operation.path) for operation in operations}

        paths = (
            "/",
            "/docs",
            "/docs/{name}",
            "/docs/oauth2-redirect.html",
            "/media/{name}",
            "/openapi.json",
            "/readme",
        )
        assert undocumented == {("GET", path) for path in paths}


class TestWebhooks:
    def test_have_the_three_headers_of_the_specification(self, document: Document) -> None:
        for item in document["webhooks"].values():
            headers = {one["name"] for one in item["post"]["parameters"] if one["in"] == "header" and one["required"]}
            assert headers == {"webhook-id", "webhook-timestamp", "webhook-signature"}

        assert document["webhooks"].keys() == {"change", "ping"}

    def test_have_no_member_that_tools_leave_out_of_a_request(self, document: Document) -> None:
        schemas = document["components"]["schemas"]
        names = [one["$ref"].rpartition("/")[2] for one in schemas["Message"]["oneOf"]]

        for name in (*names, "Ping"):
            members = schemas[name]["properties"]
            assert [member for member, schema in members.items() if "readOnly" in schema] == [], name

        assert {"ProductMessage", "ImportMessage"} <= set(names)

    def test_are_operations_with_names_of_their_own(self, document: Document, operations: list[Operation]) -> None:
        names = [item["post"]["operationId"] for item in document["webhooks"].values()]

        assert len({*names, *(operation.name for operation in operations)}) == len(names) + len(operations)


class TestExamples:
    def test_of_bodies_fit_their_schemas(self, operations: list[Operation]) -> None:
        for operation in operations:
            if operation.media_types or operation.takes_form:
                errors = [error.message for error in operation.accepts.iter_errors(operation.example)]
                assert errors == [], operation
                assert operation.example, operation

    def test_of_answers_fit_their_schemas(self, document: Document, operations: list[Operation]) -> None:
        for operation in operations:
            for content in _json_answers(operation):
                if "schema" in content:
                    errors = [
                        error.message
                        for error in validator(document, content["schema"]).iter_errors(content["example"])
                    ]
                    assert errors == [], operation

    def test_of_answers_show_every_member(self, document: Document, operations: list[Operation]) -> None:
        for operation in operations:
            for content in _json_answers(operation):
                schema = resolve(document, content["schema"])
                assert content["example"].keys() == schema["properties"].keys(), operation

    def test_of_members_and_parameters_fit_their_schemas(self, document: Document) -> None:
        checked = 0
        for schema in _schemas_with_examples(document):
            for example in schema["examples"]:
                errors = [error.message for error in validator(document, schema).iter_errors(example)]
                assert errors == [], schema
                checked += 1

        assert checked > 20


def objects(document: Document) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every component that is an object of members."""
    for name, schema in document["components"]["schemas"].items():
        if "properties" in schema:
            yield name, schema


def _json_answers(operation: Operation) -> list[Any]:
    """What a successful answer is, but for files and streams."""
    content = operation.responses[str(min(operation.statuses))].get("content", {})
    files = {"text/csv", "application/x-ndjson", "text/event-stream", "text/html", TEXT, OPEN_METRICS}
    return [described for media_type, described in content.items() if media_type not in files]


def _schemas_with_examples(described: Any) -> Iterator[dict[str, Any]]:
    if isinstance(described, dict):
        if isinstance(described.get("examples"), list) and "type" in described:
            yield described
        for value in described.values():
            yield from _schemas_with_examples(value)
    elif isinstance(described, list):
        for value in described:
            yield from _schemas_with_examples(value)


class TestSchemas:
    @staticmethod
    def bodies(document: Document, operations: list[Operation]) -> list[tuple[str, dict[str, Any]]]:
        """What each body is, and what it is made of."""
        found = []
        for operation in operations:
            # Forms of a protocol may have more, which is ignored.
            if operation.media_types:
                found.append((str(operation), dict(operation.body_schema)))
                references = values_in(operation.body_schema, "$ref")
                found += [(reference, dict(resolve(document, {"$ref": reference}))) for reference in references]
        # Of a list, the items are referred to.
        return [(name, schema) for name, schema in found if "enum" not in schema and schema.get("type") != "array"]

    def test_of_bodies_take_no_other_members(self, document: Document, operations: list[Operation]) -> None:
        for name, schema in self.bodies(document, operations):
            assert schema["additionalProperties"] is False, name

    def test_of_bodies_have_no_member_that_is_not_the_clients(
        self, document: Document, operations: list[Operation]
    ) -> None:
        for name, schema in self.bodies(document, operations):
            # A product that becomes a variant is named by its id.
            own = {"created_at", "updated_at", "version"} | ({"id"} if name not in VARIANTS else set())
            assert schema["properties"].keys() & own == set(), name

    def test_of_bodies_bound_everything(self, document: Document, operations: list[Operation]) -> None:
        for name, schema in self.bodies(document, operations):
            for member, described in schema["properties"].items():
                assert list(_boundless(described)) == [], (name, member)

    def test_of_parameters_bound_everything(self, operations: list[Operation]) -> None:
        for operation in operations:
            for place in ("path", "query"):
                for name, parameter in operation.parameters(place).items():
                    assert list(_boundless(parameter["schema"])) == [], (operation, name)

    def test_of_parameters_say_how_several_values_are_written(self, operations: list[Operation]) -> None:
        several = {
            (str(operation), name): parameter
            for operation in operations
            for name, parameter in operation.parameters("query").items()
            if parameter["schema"]["type"] == "array"
        }

        assert {"tag", "include"} <= {name for _, name in several}
        for where, parameter in several.items():
            assert (parameter["style"], parameter["explode"]) == ("form", False), where
            assert "commas" in parameter["description"], where
            assert ("`\\,`" in parameter["description"]) is (where[1] in {"tag", "sku", "external_id"}), where

    def test_of_reads_have_what_can_be_included(self, document: Document, operations: list[Operation]) -> None:
        found = 0
        for operation in operations:
            if include := operation.parameters("query").get("include"):
                content = operation.responses["200"]["content"]["application/json"]
                schema = resolve(document, content["schema"])
                if "items" in schema["properties"]:
                    schema = resolve(document, schema["properties"]["items"]["items"])
                assert set(include["schema"]["items"]["enum"]) <= schema["properties"].keys(), operation
                found += 1

        assert found > 4

    def test_of_answers_mark_what_is_the_servers(self, document: Document) -> None:
        for name, schema in objects(document):
            if name == "Ping" or name.endswith("Message"):
                continue  # what is sent to webhooks is no answer
            if name == VARIANT.rpartition("/")[2]:
                continue  # nor is this
            for member in {"id", "created_at", "updated_at", "version"} & schema["properties"].keys():
                assert schema["properties"][member]["readOnly"] is True, (name, member)

    def test_of_answers_promise_every_member(self, document: Document) -> None:
        # The one member that is not always there comes with the cookie.
        for name, absent in {"Product": set(), "Category": set(), "User": set(), "TokenPair": {"csrf_token"}}.items():
            schema = document["components"]["schemas"][name]
            assert set(schema["required"]) == schema["properties"].keys() - absent, name

    def test_of_money_are_of_strings(self, document: Document, operations: list[Operation]) -> None:
        prices = [
            (name, member, described["type"])
            for name, schema in objects(document)
            for member, described in schema["properties"].items()
            if ("price" in member or "amount" in member) and name != "Facets"
        ]
        prices += [
            (str(operation), name, parameter["schema"]["type"])
            for operation in operations
            for name, parameter in operation.parameters("query").items()
            if "price" in name
        ]

        assert len(prices) > 3
        assert [price for price in prices if price[2] not in ("string", ["string", "null"])] == []

    def test_have_no_fractions_but_in_attributes(self, document: Document) -> None:
        """Numbers that computers round."""
        for name, schema in objects(document):
            for member, described in schema["properties"].items():
                if member not in {"attributes", "options"} and name != "AttributeFacet":
                    assert "number" not in set(_flat(values_in(described, "type"))), (name, member)

    def test_of_passwords_are_write_only(self, document: Document) -> None:
        for name, schema in objects(document):
            for member in schema["properties"]:
                if "password" in member:
                    assert schema["properties"][member]["writeOnly"] is True, (name, member)


def _flat(types: Iterator[Any]) -> Iterator[str]:
    for one in types:
        yield from [one] if isinstance(one, str) else [str(name) for name in one if isinstance(name, str)]


def _boundless(schema: dict[str, Any]) -> Iterator[str]:
    """Which of the schema's parts take values of any size."""
    bounds: dict[str, Callable[[dict[str, Any]], bool]] = {
        "string": lambda one: {"enum", "const", "maxLength"} & one.keys() != set(),
        "integer": lambda one: {"minimum", "maximum"} <= one.keys(),
        "number": lambda one: {"minimum", "maximum"} <= one.keys(),
        "array": lambda one: "maxItems" in one,
        "object": lambda one: one.get("additionalProperties") is False or "maxProperties" in one,
        "boolean": lambda _: True,
        "null": lambda _: True,
    }
    types = schema["type"] if isinstance(schema.get("type"), list) else [schema.get("type")]
    yield from (f"{kind}: {schema}" for kind in types if kind in bounds and not bounds[kind](schema))
    inner = [schema.get("items"), schema.get("additionalProperties"), *schema.get("anyOf", [])]
    inner += schema.get("properties", {}).values()
    for one in inner:
        if isinstance(one, dict):
            yield from _boundless(one)
    if not {"type", "anyOf", "enum", "const", "$ref"} & schema.keys():
        yield f"anything: {schema}"
