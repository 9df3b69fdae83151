"""The gate: each class of change that breaks a client is caught, and what clients can live with is let through.

The documents are today's real one with one change each.
"""

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import jsonschema_rs
import pytest

from compatibility.__main__ import main, newest_release
from compatibility.changes import Change, Direction
from compatibility.decisions import accepted_in, undecided
from compatibility.documents import breaking_changes
from compatibility.schemas import SchemaComparison
from compatibility.sunsets import past_sunset
from tests.servers import PROJECT

Json = dict[str, Any]
TEXT = (PROJECT / "openapi.json").read_text("utf-8")
DOCUMENT: Json = json.loads(TEXT)
PROBLEM = "application/problem+json"
FORM = "multipart/form-data"


def changed(change: Callable[[Json], object]) -> Json:
    """Today's document with a change."""
    document: Json = json.loads(TEXT)
    change(document)
    assert document != DOCUMENT
    return document


def schema(document: Json, name: str) -> Json:
    found: Json = document["components"]["schemas"][name]
    return found


def member(document: Json, name: str, of: str) -> Json:
    found: Json = schema(document, of)["properties"][name]
    return found


def operation(document: Json, method: str, path: str) -> Json:
    found: Json = document["paths"][path][method]
    return found


def fields(document: Json) -> Json:
    """The parameter that chooses the members of brands."""
    [found] = [one for one in brands(document, "get")["parameters"] if one.get("name") == "fields"]
    parameter: Json = found
    return parameter


def brands(document: Json, method: str = "post") -> Json:
    return operation(document, method, "/api/v1/brands")


def uploads(document: Json) -> Json:
    found: Json = operation(document, "post", "/api/v1/media")["requestBody"]["content"][FORM]
    return found


def rename(members: Json, old: str, new: str) -> Json:
    members[new] = members.pop(old)
    return members


#: How the file of an upload is sent.
FILE: Json = uploads(DOCUMENT)["encoding"]["file"]

#: What breaks clients: a change, and the lines of the gate.
BREAKING: dict[str, tuple[Callable[[Json], object], list[str]]] = {
    "a path is removed": (
        lambda d: d["paths"].pop("/api/v1/products/{product_id}/restore"),
        ["POST /api/v1/products/{}/restore: removed"],
    ),
    "a path is renamed": (
        lambda d: rename(d["paths"], "/livez", "/alive"),
        ["GET /livez: removed"],
    ),
    "an operation is removed": (
        lambda d: d["paths"]["/api/v1/brands"].pop("post"),
        ["POST /api/v1/brands: removed"],
    ),
    "an operation has another id": (
        lambda d: brands(d).update(operationId="make_brand"),
        ["POST /api/v1/brands: operationId changed from create_brand to make_brand"],
    ),
    "a parameter is removed": (
        lambda d: operation(d, "get", "/api/v1/products/facets")["parameters"].remove(
            {"$ref": "#/components/parameters/ProductFilter.in_stock"}
        ),
        ["GET /api/v1/products/facets query in_stock: removed"],
    ),
    "a parameter becomes required": (
        lambda d: d["components"]["parameters"]["BrandQuery.external_id"].update(required=True),
        ["GET /api/v1/brands query external_id: became required"],
    ),
    "a required parameter is new": (
        lambda d: brands(d)["parameters"].append(
            {"name": "shop", "in": "query", "required": True, "schema": {"type": "string"}}
        ),
        ["POST /api/v1/brands query shop: new and required"],
    ),
    "a parameter takes fewer values": (
        lambda d: schema(d, "BrandSort")["enum"].remove("slug"),
        ["BrandSort (request): value slug removed"],
    ),
    "a parameter has another default": (
        lambda d: d["components"]["parameters"]["BrandQuery.sort_by"]["schema"].update(default="id"),
        ["GET /api/v1/brands query sort_by: default changed from name to id"],
    ),
    "a parameter has its values otherwise": (
        lambda d: d["components"]["parameters"]["BrandQuery.id"].update(explode=True),
        ["GET /api/v1/brands query id: explode changed from False to True"],
    ),
    "a header of requests is removed": (
        lambda d: brands(d)["parameters"].remove({"$ref": "#/components/parameters/Idempotency-Key"}),
        ["POST /api/v1/brands header Idempotency-Key: removed"],
    ),
    "a path parameter is narrower": (
        lambda d: operation(d, "get", "/api/v1/brands/{brand_id}")["parameters"][0]["schema"].update(maximum=99),
        ["GET /api/v1/brands/{} path 1: maximum changed from 9223372036854775807 to 99"],
    ),
    "a body is needed": (
        lambda d: operation(d, "post", "/api/v1/products/{product_id}/restore").update(
            requestBody={"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
        ),
        ["POST /api/v1/products/{}/restore body: new and required"],
    ),
    "a body is taken no more": (
        lambda d: brands(d).pop("requestBody"),
        ["POST /api/v1/brands body: removed"],
    ),
    "a body must be smaller": (
        lambda d: brands(d)["requestBody"].update({"x-max-bytes": 100}),
        ["POST /api/v1/brands body: x-max-bytes changed from None to 100"],
    ),
    "a media type of a request is removed": (
        lambda d: operation(d, "post", "/api/v1/imports")["requestBody"]["content"].pop("text/csv"),
        ["POST /api/v1/imports body: text/csv removed"],
    ),
    "a member of a request is removed": (
        lambda d: schema(d, "BrandCreate")["properties"].pop("website"),
        ["BrandCreate (request) website: removed"],
    ),
    "a member of a request is renamed": (
        lambda d: rename(schema(d, "BrandCreate")["properties"], "website", "url"),
        ["BrandCreate (request) website: removed"],
    ),
    "a member of a request becomes required": (
        lambda d: schema(d, "BrandCreate")["required"].append("slug"),
        ["BrandCreate (request) slug: became required"],
    ),
    "a required member of a request is new": (
        lambda d: (
            schema(d, "BrandCreate")["properties"].update(country={"type": "string"}),
            schema(d, "BrandCreate")["required"].append("country"),
        ),
        ["BrandCreate (request) country: new and required"],
    ),
    "a bound of a request is narrower": (
        lambda d: member(d, "name", "BrandCreate").update(maxLength=60),
        ["BrandCreate (request) name: maxLength changed from 120 to 60"],
    ),
    "a lower bound of a request is higher": (
        lambda d: member(d, "name", "BrandCreate").update(minLength=2),
        ["BrandCreate (request) name: minLength changed from 1 to 2"],
    ),
    "a list in a request is shorter": (
        lambda d: member(d, "tags", "ProductCreate").update(maxItems=5),
        ["ProductCreate (request) tags: maxItems changed from 50 to 5"],
    ),
    "a list of all values has room for fewer": (
        lambda d: member(d, "scopes", "ApiKeyCreate").update(maxItems=3),
        [f"ApiKeyCreate (request) scopes: maxItems changed from {len(schema(DOCUMENT, 'Scope')['enum'])} to 3"],
    ),
    "a list of some values in a response grows": (
        lambda d: member(d, "tags", "Product").update(maxItems=51),
        ["Product (response) tags: maxItems changed from 50 to 51"],
    ),
    "an item of a request is narrower": (
        lambda d: member(d, "tags", "ProductCreate")["items"].update(maxLength=5),
        ["ProductCreate (request) tags[]: maxLength changed from 50 to 5"],
    ),
    "a pattern of a request is another": (
        lambda d: member(d, "attributes", "ProductCreate")["propertyNames"].update(pattern="^[a-z]$"),
        [
            "ProductCreate (request) attributes names: pattern changed from ^[A-Za-z][A-Za-z0-9_.-]{0,63}$ to ^[a-z]$",
        ],
    ),
    "a word of a list in a request is gone": (
        lambda d: fields(d)["schema"].update(pattern="^(id|slug)(,(id|slug))*$"),
        [
            (
                "GET /api/v1/brands query fields: pattern changed from"
                f" {fields(DOCUMENT)['schema']['pattern']} to ^(id|slug)(,(id|slug))*$"
            )
        ],
    ),
    "a format of a request is new": (
        lambda d: member(d, "website", "BrandCreate").update(format="hostname"),
        ["BrandCreate (request) website: format changed from None to hostname"],
    ),
    "null is refused": (
        lambda d: member(d, "website", "BrandCreate").update(type="string"),
        ["BrandCreate (request) website: null is refused"],
    ),
    "a type of a request is another": (
        lambda d: member(d, "track_stock", "ProductCreate").update(type="string"),
        ["ProductCreate (request) track_stock: type changed from boolean to string"],
    ),
    "one of several types of a request is removed": (
        lambda d: member(d, "attributes", "ProductCreate")["additionalProperties"]["anyOf"].pop(2),
        ["ProductCreate (request) attributes *: boolean removed"],
    ),
    "what was any member of a request is refused": (
        lambda d: member(d, "attributes", "ProductCreate").update(additionalProperties=False),
        ["ProductCreate (request) attributes: other members removed"],
    ),
    "an enumeration loses a value in requests and responses": (
        lambda d: schema(d, "ProductStatus")["enum"].remove("archived"),
        ["ProductStatus (request): value archived removed", "ProductStatus (response): value archived removed"],
    ),
    "a value of an enumeration is renamed": (
        lambda d: schema(d, "JobStatus")["enum"].__setitem__(0, "waiting"),
        ["JobStatus (request): value queued removed", "JobStatus (response): value queued removed"],
    ),
    "a text of a request becomes an enumeration": (
        lambda d: member(d, "name", "BrandCreate").update(enum=["Oakworks"]),
        ["BrandCreate (request) name: became an enumeration"],
    ),
    "a member of a response is removed": (
        lambda d: (
            schema(d, "BrandCount")["properties"].pop("id"),
            schema(d, "BrandCount")["required"].remove("id"),
        ),
        ["BrandCount (response) id: removed"],
    ),
    "an optional member of a response is removed": (
        lambda d: schema(d, "PageMeta")["properties"].pop("total_is_exact"),
        ["PageMeta (response) total_is_exact: removed"],
    ),
    "a member of a response may be missing": (
        lambda d: schema(d, "BrandCount")["required"].remove("id"),
        ["BrandCount (response) id: may be missing"],
    ),
    "a member of a response may be null": (
        lambda d: member(d, "count", "BrandCount").update(type=["integer", "null"]),
        ["BrandCount (response) count: may be null"],
    ),
    "what is embedded in a response may be null": (
        lambda d: schema(d, "JobList")["properties"].update(
            meta={"anyOf": [member(d, "meta", "JobList"), {"type": "null"}]}
        ),
        ["JobList (response) meta: may be null"],
    ),
    "a type of a response is another": (
        lambda d: member(d, "count", "BrandCount").update(type="string"),
        ["BrandCount (response) count: type changed from integer to string"],
    ),
    "a type of a response is wider": (
        lambda d: member(d, "count", "BrandCount").update(type=["integer", "string"]),
        ["BrandCount (response) count: type changed from integer to integer or string"],
    ),
    "an alternative type of a response is new": (
        lambda d: schema(d, "BrandCount")["properties"].update(
            count={"anyOf": [member(d, "count", "BrandCount"), {"type": "string"}]}
        ),
        ["BrandCount (response) count: may be string"],
    ),
    "a format of a response is another": (
        lambda d: member(d, "price", "ProductItem").update(format="float"),
        ["ProductItem (response) price: format changed from decimal to float"],
    ),
    "a bound of a response is wider": (
        lambda d: member(d, "count", "BrandCount").update(minimum=-1),
        ["BrandCount (response) count: minimum changed from 0 to -1"],
    ),
    "a bound of a response is gone": (
        lambda d: member(d, "count", "BrandCount").pop("minimum"),
        ["BrandCount (response) count: minimum changed from 0 to None"],
    ),
    "a constant of a response is another": (
        lambda d: member(d, "status", "Health").update(const="fine"),
        ["Health (response) status: value ok removed"],
    ),
    "an enumeration of a response is none any more": (
        lambda d: schema(d, "ProductKind").pop("enum"),
        ["ProductKind (response): is no enumeration any more"],
    ),
    "a media type of a response is removed": (
        lambda d: operation(d, "get", "/api/v1/products/export")["responses"]["200"]["content"].pop("text/csv"),
        ["GET /api/v1/products/export 200: text/csv removed"],
    ),
    "a header of a response is removed": (
        lambda d: brands(d)["responses"]["201"]["headers"].pop("Location"),
        ["POST /api/v1/brands 201 Location: removed"],
    ),
    "a status of a success is another": (
        lambda d: rename(brands(d)["responses"], "201", "200"),
        ["POST /api/v1/brands 200: new status of a success", "POST /api/v1/brands 201: removed"],
    ),
    "a status of a success is new": (
        lambda d: brands(d)["responses"].update({"202": brands(d)["responses"]["201"]}),
        ["POST /api/v1/brands 202: new status of a success"],
    ),
    "a code of a problem is removed": (
        lambda d: brands(d)["responses"]["409"]["content"][PROBLEM]["schema"]["oneOf"].remove(
            {"$ref": "#/components/schemas/SlugTakenProblem"}
        ),
        ["POST /api/v1/brands 409 application/problem+json: SlugTakenProblem removed"],
    ),
    "a code of a problem is another": (
        lambda d: schema(d, "SlugTakenProblem")["allOf"][1]["properties"]["code"].update(enum=["slug_in_use"]),
        ["SlugTakenProblem (response) code: value slug_taken removed"],
    ),
    "a member of every problem is removed": (
        lambda d: schema(d, "Problem")["properties"].pop("request_id"),
        ["SlugTakenProblem (response) request_id: removed"],
    ),
    "a kind of object in a response is removed": (
        lambda d: schema(d, "ChangeEvent")["oneOf"].remove({"$ref": "#/components/schemas/BrandChangeEvent"}),
        ["ChangeEvent (response): BrandChangeEvent removed"],
    ),
    "credentials are needed": (
        lambda d: operation(d, "get", "/livez").update(security=[{"bearer": []}]),
        ["GET /livez: credentials none are refused"],
    ),
    "credentials of one kind are refused": (
        lambda d: brands(d)["security"].remove({"apiKey": []}),
        ["POST /api/v1/brands: credentials apiKey are refused"],
    ),
    "credentials of two kinds are needed": (
        lambda d: brands(d).update(security=[{"bearer": [], "csrf": []}, {"apiKey": []}]),
        ["POST /api/v1/brands: credentials bearer are refused"],
    ),
    "credentials are sent otherwise": (
        lambda d: d["components"]["securitySchemes"]["apiKey"].update(name="X-Key"),
        ["securitySchemes apiKey: name changed from X-API-Key to X-Key"],
    ),
    "a role is refused": (
        lambda d: brands(d)["x-roles"].remove("editor"),
        ["POST /api/v1/brands: role editor is refused"],
    ),
    "a read of the catalogue is public no more": (
        lambda d: brands(d, "get").pop("x-public-when"),
        ["GET /api/v1/brands: needs credentials"],
    ),
    "a message to clients is sent no more": (
        lambda d: d["webhooks"].pop("ping"),
        ["webhook POST ping: removed"],
    ),
    "a member of a message to clients is removed": (
        lambda d: schema(d, "Ping")["properties"].pop("type"),
        ["Ping (response) type: removed"],
    ),
    "a member of a request has another default": (
        lambda d: member(d, "track_stock", "ProductCreate").update(default="no"),
        ["ProductCreate (request) track_stock: default changed from True to no"],
    ),
    "a default of a member of a request is removed": (
        lambda d: member(d, "track_stock", "ProductCreate").pop("default"),
        ["ProductCreate (request) track_stock: default changed from True to nothing"],
    ),
    "a default of a member of a request is new": (
        lambda d: member(d, "website", "BrandUpdate").update(default=None),
        ["BrandUpdate (request) website: default changed from nothing to None"],
    ),
    "a member of a request that is a component has a default": (
        lambda d: schema(d, "ProductUpdate")["properties"].update(
            status={"$ref": "#/components/schemas/ProductStatus", "default": "draft"}
        ),
        ["ProductUpdate (request) status: default changed from nothing to draft"],
    ),
    "a member of a request is sent by the server alone": (
        lambda d: member(d, "website", "BrandCreate").update(readOnly=True),
        ["BrandCreate (request) website: became readOnly"],
    ),
    "a member of a response is sent by clients alone": (
        lambda d: member(d, "count", "BrandCount").update(writeOnly=True),
        ["BrandCount (response) count: became writeOnly"],
    ),
    "kinds of objects are told apart by another member": (
        lambda d: schema(d, "ChangeEvent")["discriminator"].update(propertyName="type"),
        ["ChangeEvent (response): discriminator changed from resource_type to type"],
    ),
    "kinds of objects are not told apart any more": (
        lambda d: schema(d, "ChangeEvent").pop("discriminator"),
        ["ChangeEvent (response): discriminator changed from resource_type to nothing"],
    ),
    "a part of a form has another media type": (
        lambda d: uploads(d)["encoding"]["file"].update(contentType="image/png"),
        [f"POST /api/v1/media body {FORM} file: encoding changed from {FILE} to {{'contentType': 'image/png'}}"],
    ),
    "the media type of a part of a form is new": (
        lambda d: uploads(d)["encoding"].update(dry_run={"contentType": "text/plain"}),
        [f"POST /api/v1/media body {FORM} dry_run: encoding changed from nothing to {{'contentType': 'text/plain'}}"],
    ),
    "the parameters of a path are swapped": (
        lambda d: rename(
            d["paths"],
            "/api/v1/products/{product_id}/stock-movements/{movement_id}",
            "/api/v1/products/{movement_id}/stock-movements/{product_id}",
        ),
        [
            "GET /api/v1/products/{}/stock-movements/{} path 1: product_id is at another place",
            "GET /api/v1/products/{}/stock-movements/{} path 2: movement_id is at another place",
        ],
    ),
    "another permission is needed": (
        lambda d: brands(d).update({"x-permission": "catalog:rule"}),
        [f"POST /api/v1/brands: permission changed from {brands(DOCUMENT)['x-permission']} to catalog:rule"],
    ),
    "a permission is needed where none was": (
        lambda d: operation(d, "get", "/livez").update({"x-permission": "catalog:rule"}),
        ["GET /livez: permission changed from nothing to catalog:rule"],
    ),
    "a header of a message to clients is removed": (
        lambda d: d["webhooks"]["ping"]["post"]["parameters"].pop(0),
        ["webhook POST ping header webhook-id: removed"],
    ),
    "a header of a message to clients may be missing": (
        lambda d: d["webhooks"]["ping"]["post"]["parameters"][1].update(required=False),
        ["webhook POST ping header webhook-timestamp: may be missing"],
    ),
    "a header of a message to clients is longer": (
        lambda d: d["webhooks"]["ping"]["post"]["parameters"][2]["schema"].update(maxLength=400),
        ["webhook POST ping header webhook-signature: maxLength changed from 200 to 400"],
    ),
    "a keyword of a schema is one that the gate does not know": (
        lambda d: member(d, "website", "BrandCreate").update({"not": {"const": ""}}),
        ["components schemas BrandCreate website: the gate does not know the keyword not"],
    ),
    "a keyword of a parameter's schema is one that the gate does not know": (
        lambda d: d["components"]["parameters"]["BrandQuery.sort_by"]["schema"].update(nullable=True),
        ["components parameters BrandQuery.sort_by schema: the gate does not know the keyword nullable"],
    ),
}

#: What clients can live with.
HARMLESS: dict[str, Callable[[Json], object]] = {
    "a path is new": lambda d: d["paths"].update({"/api/v1/shops": d["paths"]["/api/v1/brands"]}),
    "an operation is new": lambda d: d["paths"]["/livez"].update(post=operation(d, "get", "/livez")),
    "an optional parameter is new": lambda d: brands(d)["parameters"].append(
        {"name": "shop", "in": "query", "schema": {"type": "string"}}
    ),
    "a parameter of a path has another name": lambda d: (
        rename(d["paths"], "/api/v1/brands/{brand_id}", "/api/v1/brands/{id}"),
        [
            operation(d, method, "/api/v1/brands/{id}")["parameters"][0].update(name="id")
            for method in ("get", "put", "patch", "delete")
        ],
    ),
    "a parameter is required no more": lambda d: d["components"]["parameters"]["If-Match"].update(required=False),
    "an optional member of a request is new": lambda d: schema(d, "BrandCreate")["properties"].update(
        country={"type": "string"}
    ),
    "a member of a request is required no more": lambda d: schema(d, "BrandCreate")["required"].remove("name"),
    "a bound of a request is wider": lambda d: member(d, "name", "BrandCreate").update(maxLength=500),
    "a bound of a request is gone": lambda d: member(d, "name", "BrandCreate").pop("maxLength"),
    "a pattern of a request is gone": lambda d: member(d, "name", "BrandCreate").pop("pattern"),
    "a word of a list in a request is new": lambda d: fields(d)["schema"].update(
        pattern=fields(d)["schema"]["pattern"].replace("|name|", "|name|country|")
    ),
    "a format of a request is gone": lambda d: member(d, "price", "ProductCreate").pop("format"),
    "a request may have null": lambda d: member(d, "name", "BrandCreate").update(type=["string", "null"]),
    "a request may have another type": lambda d: member(d, "name", "BrandCreate").update(type=["string", "integer"]),
    "a request may have other members": lambda d: schema(d, "BrandCreate").update(additionalProperties=True),
    "a request has another alternative": lambda d: member(d, "attributes", "ProductCreate")["additionalProperties"][
        "anyOf"
    ].append({"type": "object"}),
    "a value of requests is new": lambda d: schema(d, "BrandSort")["enum"].append("website"),
    "a value of requests and responses is new": lambda d: schema(d, "ProductStatus")["enum"].append("sold"),
    "a list of all values grows with its enumeration": lambda d: (
        schema(d, "Scope")["enum"].append("shops:read"),
        [
            member(d, "scopes", of).update(maxItems=len(schema(d, "Scope")["enum"]))
            for of in ("ApiKey", "NewApiKey", "ApiKeyCreate", "ApiKeyUpdate")
        ],
    ),
    "a media type of a request is new": lambda d: brands(d)["requestBody"]["content"].update({"text/csv": {}}),
    "a body may be larger": lambda d: operation(d, "post", "/api/v1/auth/login")["requestBody"].update(
        {"x-max-bytes": 10**9}
    ),
    "a member of a response is new": lambda d: (
        schema(d, "BrandCount")["properties"].update(country={"type": "string"}),
        schema(d, "BrandCount")["required"].append("country"),
    ),
    "a member of a response is always there": lambda d: schema(d, "PageMeta")["required"].append("page"),
    "a member of a response is never null": lambda d: member(d, "website", "Brand").update(type="string"),
    "a bound of a response is narrower": lambda d: member(d, "count", "BrandCount").update(maximum=9),
    "a format of a response is new": lambda d: member(d, "name", "BrandCount").update(format="email"),
    "a media type of a response is new": lambda d: brands(d)["responses"]["201"]["content"].update({"text/csv": {}}),
    "a header of a response is new": lambda d: brands(d)["responses"]["201"]["headers"].update(
        Age={"schema": {"type": "string"}}
    ),
    "a code of a problem is new": lambda d: brands(d)["responses"]["409"]["content"][PROBLEM]["schema"]["oneOf"].append(
        {"$ref": "#/components/schemas/OutOfStockProblem"}
    ),
    "a second code of a problem is new": lambda d: operation(d, "post", "/api/v1/auth/login")["responses"]["401"][
        "content"
    ][PROBLEM].update(
        schema={"oneOf": [{"$ref": f"#/components/schemas/{one}Problem"} for one in ("LoginFailed", "OutOfStock")]}
    ),
    "a status of an error is new": lambda d: brands(d)["responses"].update({"418": brands(d)["responses"]["409"]}),
    "a status of a conditional read is new": lambda d: operation(d, "get", "/livez")["responses"].update(
        {"304": {"description": "Not modified"}}
    ),
    "a kind of object in a response is new": lambda d: schema(d, "ChangeEvent")["oneOf"].append(
        {"$ref": "#/components/schemas/Brand"}
    ),
    "a component has another name": lambda d: (
        rename(d["components"]["schemas"], "BrandCount", "CountOfBrand"),
        member(d, "brand", "Facets").update(items={"$ref": "#/components/schemas/CountOfBrand"}),
    ),
    "a component of several has another name": lambda d: (
        rename(d["components"]["schemas"], "SlugTakenProblem", "SlugInUseProblem"),
        d.update(json.loads(json.dumps(d).replace("schemas/SlugTakenProblem", "schemas/SlugInUseProblem"))),
    ),
    "credentials are not needed any more": lambda d: brands(d).update(security=[]),
    "credentials of another kind are enough": lambda d: brands(d)["security"].append({"refresh": []}),
    "a role is new": lambda d: brands(d)["x-roles"].append("user"),
    "a message to clients is new": lambda d: d["webhooks"].update(other=d["webhooks"]["ping"]),
    "descriptions are other": lambda d: (
        brands(d).update(summary="Make one.", description="New."),
        member(d, "name", "BrandCreate").update(description="New.", examples=["New"]),
        d["info"].update(version="1.1.0"),
    ),
    "a default of a response is another": lambda d: member(d, "count", "BrandCount").update(default=7),
    "a new member of a request has a default": lambda d: schema(d, "BrandCreate")["properties"].update(
        country={"type": "string", "default": "DE"}
    ),
    "the media type of a new part of a form is stated": lambda d: (
        schema(d, "MediaForm")["properties"].update(note={"type": "string"}),
        uploads(d)["encoding"].update(note={"contentType": "text/plain"}),
    ),
    "kinds of objects are told apart": lambda d: schema(d, "ProductKind").update(discriminator={"propertyName": "a"}),
    "the parameters of a path are listed in another order": lambda d: operation(
        d, "get", "/api/v1/products/{product_id}/stock-movements/{movement_id}"
    )["parameters"].reverse(),
    "a permission is not needed any more": lambda d: brands(d).pop("x-permission"),
    "an optional header of messages to clients is new": lambda d: d["webhooks"]["ping"]["post"]["parameters"].append(
        {"name": "webhook-attempt", "in": "header", "schema": {"type": "string"}}
    ),
    "an operation is deprecated": lambda d: brands(d).update({"deprecated": True, "x-sunset": "2030-01-01"}),
}


class TestTheGate:
    @pytest.mark.parametrize("name", BREAKING)
    def test_catches_that(self, name: str) -> None:
        change, expected = BREAKING[name]

        found = [str(one) for one in breaking_changes(DOCUMENT, changed(change))]

        assert set(expected) <= set(found)

    @pytest.mark.parametrize("name", HARMLESS)
    def test_lets_through_that(self, name: str) -> None:
        assert breaking_changes(DOCUMENT, changed(HARMLESS[name])) == []

    def test_finds_nothing_between_equals(self) -> None:
        assert breaking_changes(DOCUMENT, copy.deepcopy(DOCUMENT)) == []


#: What can be deprecated, and where the gate says that it is.
DEPRECATED: dict[str, Callable[[Json], Json]] = {
    "POST /api/v1/brands": brands,
    "GET /api/v1/brands query sort_by": lambda d: d["components"]["parameters"]["BrandQuery.sort_by"],
    "BrandCreate (request) website": lambda d: member(d, "website", "BrandCreate"),
    "BrandCount (response) count": lambda d: member(d, "count", "BrandCount"),
    # Of a component that is compared once.
    "Product (response) status": lambda d: member(d, "status", "Product"),
    "webhook POST ping": lambda d: d["webhooks"]["ping"]["post"],
}


def deprecate(place: str, sunset: str) -> Json:
    return changed(lambda d: DEPRECATED[place](d).update({"x-sunset": sunset}))


class TestASunset:
    @pytest.mark.parametrize("place", DEPRECATED)
    @pytest.mark.parametrize(
        ("after", "expected"),
        [("2029-12-31", ["x-sunset changed from 2030-01-01 to 2029-12-31"]), ("2030-01-01", []), ("2031-01-01", [])],
    )
    def test_comes_no_earlier(self, place: str, after: str, expected: list[str]) -> None:
        old, new = (deprecate(place, sunset) for sunset in ("2030-01-01", after))

        assert [str(one) for one in breaking_changes(old, new)] == [f"{place}: {what}" for what in expected]

    @pytest.mark.parametrize("place", DEPRECATED)
    def test_may_be_new_or_taken_back(self, place: str) -> None:
        ending = deprecate(place, "2030-01-01")

        assert breaking_changes(DOCUMENT, ending) == breaking_changes(ending, DOCUMENT) == []


TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")


class Maker:
    """Makes up schemas of all that the document's schemas are made of, and values that may fit them."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)

    def schema(self, depth: int = 2) -> Json:
        kind = self.chance.choice(["simple", "simple", "enum", *(["members", "anyOf", "allOf"] if depth else [])])
        if kind == "simple":
            return self._some(self._bounds(), 2)
        if kind == "enum":
            return {"enum": [self._scalar() for _ in range(self.chance.randint(1, 3))]}
        if kind == "members":
            return self._some(self._members(depth), 3)
        return {kind: [self.schema(depth - 1) for _ in range(self.chance.randint(1, 2))]}

    def changed(self, schema: Json) -> Json:
        """Another that has one keyword less, more or otherwise, somewhere."""
        other = copy.deepcopy(schema)
        place = self.chance.choice(list(parts_of(other)))
        if place and self.chance.random() < 0.5:
            del place[self.chance.choice(sorted(place))]
        else:
            place.update(self._some(self._bounds(), 1))
        return other

    def value(self, depth: int = 2) -> Any:
        kind = self.chance.choice(["scalar", *(["list", "object"] if depth else [])])
        if kind == "list":
            return [self.value(depth - 1) for _ in range(self.chance.randint(0, 3))]
        if kind == "object":
            return {name: self.value(depth - 1) for name in "xyz" if self.chance.random() < 0.5}
        return self._scalar()

    def _scalar(self) -> Any:
        return self.chance.choice([None, True, False, *range(-3, 4), "", "a", "b", "ab", "ba", "aab"])

    def _bounds(self) -> Json:
        numbers = {name: self.chance.randint(-3, 3) for name in ("minimum", "maximum")}
        counts = {
            f"{end}{what}": self.chance.randint(0, 3)
            for end in ("min", "max")
            for what in ("Length", "Items", "Properties")
        }
        types = self.chance.choice([self.chance.choice(TYPES), self.chance.sample(TYPES, 2)])
        others = {"uniqueItems": self.chance.random() < 0.5, "pattern": self.chance.choice(["^a", "b$"])}
        return {"type": types, **numbers, **counts, **others}

    def _members(self, depth: int) -> Json:
        return {
            "type": self.chance.choice(["array", "object"]),
            "items": self.schema(depth - 1),
            "properties": {name: self.schema(depth - 1) for name in "xy" if self.chance.random() < 0.5},
            "required": [name for name in "xy" if self.chance.random() < 0.5],
            "additionalProperties": self.chance.choice([True, False, self.schema(depth - 1)]),
        }

    def _some(self, members: Json, count: int) -> Json:
        return {name: members[name] for name in self.chance.sample(sorted(members), count)}


def parts_of(schema: Json) -> Iterator[Json]:
    """A schema and those within it."""
    yield schema
    inner = [schema.get("items"), schema.get("additionalProperties"), *schema.get("properties", {}).values()]
    for part in [*inner, *schema.get("anyOf", ()), *schema.get("allOf", ())]:
        if isinstance(part, dict):
            yield from parts_of(part)


class TestSchemas:
    @pytest.mark.parametrize("seed", range(4))
    def test_of_a_request_that_are_let_through_take_what_they_took(self, seed: int) -> None:
        make, let_through = Maker(seed), 0

        for _ in range(2000):
            old = make.schema()
            new = make.changed(old)
            changes = list(SchemaComparison({}, {}).compare(old, new, "body", Direction.REQUEST))
            if not changes:
                let_through += 1
                took, takes = (jsonschema_rs.Draft202012Validator(one).is_valid for one in (old, new))
                lost = [value for value in (make.value() for _ in range(50)) if took(value) and not takes(value)]
                assert lost == [], (old, new)
        # It is no proof if nothing is let through.
        assert let_through > 500

    @pytest.mark.parametrize("direction", Direction)
    def test_are_compatible_with_themselves(self, direction: Direction) -> None:
        make = Maker(seed=0)
        for _ in range(1000):
            schema = make.schema()

            assert list(SchemaComparison({}, {}).compare(schema, copy.deepcopy(schema), "body", direction)) == []

    def test_may_contain_themselves(self) -> None:
        node = {
            "properties": {"children": {"items": {"anyOf": [{"$ref": "#/components/schemas/Node"}, {"type": "null"}]}}}
        }
        document = {"components": {"schemas": {"Node": node}}}
        reference = {"$ref": "#/components/schemas/Node"}

        assert list(SchemaComparison(document, document).compare(reference, reference, "", Direction.REQUEST)) == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose document has lost an operation since its last release."""
    for folder in ("docs/releases", "docs/decisions"):
        (tmp_path / folder).mkdir(parents=True)
    lost = changed(lambda d: d["paths"].pop("/livez"))
    (tmp_path / "openapi.json").write_text(json.dumps(lost), "utf-8")
    (tmp_path / "docs/releases/1.10.0.json").write_text(TEXT, "utf-8")
    (tmp_path / "docs/releases/1.9.0.json").write_text(json.dumps(lost), "utf-8")
    return tmp_path


class TestTheCommand:
    def test_compares_with_the_newest_release(self, project: Path) -> None:
        assert newest_release(project / "docs" / "releases").name == "1.10.0.json"

    def test_fails_and_prints_what_a_decision_record_would_say(
        self, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([], project) == 1

        assert capsys.readouterr().out.splitlines()[-1] == "Breaks: GET /livez: removed"

    def test_passes_once_a_record_says_it(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        record = project / "docs" / "decisions" / "0099-without-livez.md"
        record.write_text("# 99. Without /livez\n\nBreaks: GET /livez: removed\n", "utf-8")

        assert main([], project) == 0
        assert capsys.readouterr().out == "openapi.json breaks no client of 1.10.0; 1 changes are decided.\n"

    @pytest.mark.parametrize(
        "line", ["Breaks: GET /livez", "Breaks: GET /livez: removed soon", "It breaks: GET /livez: removed", ""]
    )
    def test_wants_the_whole_line_by_itself(self, project: Path, line: str) -> None:
        (project / "docs" / "decisions" / "0099-without-livez.md").write_text(line, "utf-8")

        assert main([], project) == 1

    def test_names_what_is_past_its_sunset_without_failing(
        self, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        deprecated = changed(
            lambda d: operation(d, "get", "/livez").update({"deprecated": True, "x-sunset": "2020-01-01"})
        )
        (project / "openapi.json").write_text(json.dumps(deprecated), "utf-8")

        assert main([], project) == 0
        assert "remove it with the next release: paths /livez get: 2020-01-01" in capsys.readouterr().out

    def test_is_run_by_make_sure(self) -> None:
        rules = (PROJECT / "Makefile").read_text("utf-8")

        assert "$(PY) -m compatibility" in rules.partition("\ncompatible:")[2].partition("\n\n")[0]
        assert "compatible" in rules.partition("\nsure:")[2].partition("\n\n")[0]

    def test_runs_by_itself(self, project: Path) -> None:
        command = [sys.executable, "-m", "compatibility", str(project / "openapi.json")]

        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)

        assert (done.returncode, "Breaks: GET /livez: removed" in done.stdout) == (1, True), done.stderr


class TestSunsets:
    @pytest.mark.parametrize(
        ("today", "count"), [(date(2029, 12, 31), 0), (date(2030, 1, 1), 0), (date(2030, 1, 2), 1)]
    )
    def test_are_past_on_the_day_after(self, today: date, count: int) -> None:
        document = changed(lambda d: member(d, "name", "Brand").update({"deprecated": True, "x-sunset": "2030-01-01"}))

        assert len(list(past_sunset(document, today))) == count


class TestDecisions:
    def test_accept_what_they_name_and_no_more(self, tmp_path: Path) -> None:
        (tmp_path / "0001-a.md").write_text("Breaks: A: removed\n", "utf-8")
        (tmp_path / "README.md").write_text("Breaks: B: removed\n", "utf-8")
        changes = [Change("A", "removed"), Change("B", "removed")]

        assert undecided(changes, accepted_in(tmp_path)) == [Change("B", "removed")]


class TestTheDocument:
    def test_breaks_no_client_of_the_last_release(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 0, capsys.readouterr().out
