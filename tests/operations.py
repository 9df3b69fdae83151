"""The operations of the API as its OpenAPI document tells them, and a scene on which each one's example succeeds."""

import io
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Self
from unittest import mock
from urllib.parse import urlencode

import jsonschema_rs
import sqlalchemy
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from flask import Flask
from PIL import Image
from sqlalchemy import Engine, event, select, type_coerce, update
from sqlalchemy.types import NULLTYPE
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, TestResponse, run_wsgi_app
from werkzeug.wrappers import Request

from app.core import clock
from app.core.fastsql.prepared import Compiled
from app.core.jobs import Job, JobStatus, enqueue
from app.core.transactions import unit_of_work
from app.extensions import cache, db
from app.features.events import service as events
from app.features.identities.models import ExternalIdentity, LoginCode
from app.features.imports.models import FailedRows, Import, ImportFault
from app.features.passwords import service as passwords
from app.features.search_terms.models import SearchTerm
from app.features.search_terms.service import week_of
from app.features.sessions.models import UserSession
from app.features.users.models import User
from app.features.webhooks.models import Delivery, DeliveryStatus
from app.security.api_keys import hash_secret
from app.security.permissions import Role
from app.security.tokens import issue_access_token
from app.web.openapi import describe
from tests.conftest import PASSWORD, empty

FORM = "application/x-www-form-urlencoded"
METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")
Table = list[tuple[Any, ...]]
#: What is sent where a file is taken.
FILE = b"sku,name,price,category\nFILE-1,Oak chair,129.00,Chairs\n"


#: The operations whose own example needs more than an application and its rows, and where they are looked at instead.
ELSEWHERE = {
    "read_key_set": "keys of a signature that is not a secret's: tests/web/test_keys.py",
    **dict.fromkeys(
        ("begin_oidc_login", "end_oidc_login", "link_identity", "end_sessions_by_provider"),
        "an identity provider: tests/features/identities",
    ),
    **dict.fromkeys(
        ("read_authorization_page", "log_in_on_page", "log_out_of_page", "decide_on_authorization"),
        "a browser, which has the form and the cookies of the page: tests/features/oauth",
    ),
}


@dataclass(frozen=True)
class Operation:
    """One method of one path, as the document describes it."""

    method: str
    path: str
    described: Mapping[str, Any]
    document: Mapping[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def name(self) -> str:
        """The operationId."""
        return str(self.described["operationId"])

    @property
    def statuses(self) -> set[int]:
        """Every documented status."""
        return {int(status) for status in self.responses}

    @cached_property
    def responses(self) -> dict[str, Mapping[str, Any]]:
        """Every documented response, by its status."""
        return {status: resolve(self.document, one) for status, one in self.described["responses"].items()}

    @property
    def success(self) -> int:
        """The one status of success; of a WebSocket, which only a handshake opens, the one that says so (426)."""
        return 426 if 101 in self.statuses else min(self.statuses)

    @property
    def credentials(self) -> str | None:
        """The security scheme that is asked for; none where it is optional, because credentials can be in a form."""
        security = self.described["security"]
        return None if {} in security else next((name for scheme in security for name in scheme), None)

    @property
    def is_live(self) -> bool:
        """Whether the response lasts as long as the client wants."""
        return "text/event-stream" in self.responses.get("200", {}).get("content", {})

    @property
    def is_safe(self) -> bool:
        """Whether it only reads."""
        return self.method == "GET"

    @property
    def media_types(self) -> list[str]:
        """What a JSON body may be sent as; nothing where none is taken."""
        return [] if self.takes_file or self.takes_form else list(self._content)

    @property
    def takes_form(self) -> bool:
        """Whether the body is a form of a protocol or of a page, without a file."""
        return FORM in self._content

    @property
    def errors(self) -> str:
        """The media type of what it refuses: a problem, an error of OAuth 2 (JSON), or a page (HTML)."""
        return str(next(iter(self.responses["400"]["content"])))

    @property
    def takes_file(self) -> bool:
        """Whether the body is a file of any size, or a form with one."""
        return "multipart/form-data" in self._content

    @property
    def media_type_of_file(self) -> str:
        """One of the media types that the file may have."""
        return "image/png" if "image/png" in self._content else "text/csv"

    @property
    def _content(self) -> Mapping[str, Any]:
        content: Mapping[str, Any] = self.described.get("requestBody", {}).get("content", {})
        return content

    @property
    def body_schema(self) -> Mapping[str, Any]:
        """The schema of the body."""
        schema: Mapping[str, Any] = next(iter(self._content.values()))["schema"]
        return resolve(self.document, schema)

    @property
    def example(self) -> Any:
        """The body's own example."""
        return copy(next(iter(self._content.values()))["example"])

    @cached_property
    def accepts(self) -> jsonschema_rs.Draft202012Validator:
        """Tells whether a body fits its schema."""
        return validator(self.document, self.body_schema, formats=False)

    @property
    def puts_by_key(self) -> bool:
        """Whether it creates or replaces the row that has the key in the path."""
        return self.method == "PUT" and self.path.endswith("/by/{key}/{value}")

    @property
    def key(self) -> str | None:
        """The first key by which its path can name a row, if it does so."""
        described = self.parameters("path").get("key")
        return str(described["schema"]["enum"][0]) if described else None

    def parameters(self, place: str) -> dict[str, Mapping[str, Any]]:
        """The parameters in the path, query or header, by name."""
        return {str(parameter["name"]): parameter for parameter in self._parameters if parameter["in"] == place}

    @cached_property
    def _parameters(self) -> list[Mapping[str, Any]]:
        described = [resolve(self.document, parameter) for parameter in self.described.get("parameters", [])]
        return [{**parameter, "schema": inline(self.document, parameter["schema"])} for parameter in described]


def resolve(document: Mapping[str, Any], described: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference into the document refers to."""
    while "$ref" in described:
        found: Any = document
        for name in described["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        described = found
    return described


def inline(document: Mapping[str, Any], schema: Any) -> Any:
    """A schema with what it refers to in the place of the references; it must not refer to itself."""
    if isinstance(schema, list):
        return [inline(document, one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    beside = {name: inline(document, one) for name, one in schema.items() if name != "$ref"}
    return {**inline(document, resolve(document, schema)), **beside} if "$ref" in schema else beside


def validator(
    document: Mapping[str, Any], schema: Mapping[str, Any], *, formats: bool = True
) -> jsonschema_rs.Draft202012Validator:
    """Tells whether a value fits a schema of a document."""
    # Only what the schema refers to: of the whole document, to read it takes a hundred times as long as the answer.
    components: dict[str, dict[str, Any]] = {}
    left = set(values_in(schema, "$ref"))
    while left:
        reference = left.pop()
        kind, name = reference.removeprefix("#/components/").split("/")
        if name not in components.setdefault(kind, {}):
            components[kind][name] = resolve(document, {"$ref": reference})
            left |= set(values_in(components[kind][name], "$ref"))
    return jsonschema_rs.Draft202012Validator({**schema, "components": components}, validate_formats=formats)


def operations_in(document: Mapping[str, Any]) -> list[Operation]:
    """Every operation."""
    return [
        Operation(method.upper(), path, item[method], document)
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    ]


def file_for(operation: Operation, number: int = 9) -> bytes:
    """A file that an operation takes; of pictures, another for each number."""
    if operation.media_type_of_file != "image/png":
        return FILE
    stream = io.BytesIO()
    Image.new("RGB", (1, 1), number).save(stream, "PNG")
    return stream.getvalue()


class Scene:
    """An administrator with credentials, and rows for every path: what an operation's own example needs to succeed.

    A new collection takes its place by itself: its rows are made by posting the required members of its own example.
    """

    def __init__(self, app: Flask, password_hash: str) -> None:
        self.app = app
        self.operations = [one for one in operations_in(describe(app)) if one.name not in ELSEWHERE]
        self._password_hash = password_hash
        self._user_id = 0
        self._session_id = 0
        self._tokens: dict[str, str] = {}
        self._ids: dict[str, int] = {}
        self._references: dict[str, int] = {}
        #: The last row of each collection.
        self._rows: dict[str, dict[str, Any]] = {}
        self._state: dict[str, Table] = {}
        self._written = False
        #: What every table had when the scene was set, in the order in which rows can be inserted.
        self._set: list[tuple[sqlalchemy.Table, list[dict[str, Any]]]] = []
        self._first: dict[str, Table] = {}
        self._is_set = False

    def __enter__(self) -> Self:
        event.listen(Engine, "before_cursor_execute", self._watch)
        self._prepared = mock.patch.object(Compiled, "all", self._watched(Compiled.all))
        self._prepared.start()
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "before_cursor_execute", self._watch)
        self._prepared.stop()

    def _watch(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        # Reading every table after each of thousands of requests takes longer than the requests.
        if not statement.startswith(("SELECT", "BEGIN", "PRAGMA")):
            self._written = True

    def _watched(self, execute: Callable[..., Any]) -> Callable[..., Any]:
        def watched(compiled: Compiled, *arguments: Any, **options: Any) -> Any:
            # Passes SQLAlchemy's events by.
            self._watch(None, None, compiled.sql.lstrip())
            return execute(compiled, *arguments, **options)

        return watched

    def reset(self) -> None:
        """Begin anew with the next request."""
        self._is_set = False

    def send(
        self,
        operation: Operation,
        *,
        path: str | None = None,
        query: str = "",
        headers: Mapping[str, str | None] | None = None,
        body: bytes | dict[str, Any] | list[Any] | None = None,
        environ: Mapping[str, Any] | None = None,
    ) -> TestResponse:
        """Send the operation's own example, with what is given instead of its own. A header that is None stays out."""
        self._set_up()
        content: dict[str, Any] = {"data": body} if isinstance(body, bytes) else {}
        if body is None and operation.takes_file:
            content["data"] = file_for(operation)
        if body is None and (operation.media_types or operation.takes_form):
            body = self.example(operation)
        if isinstance(body, dict | list):
            content["data"] = urlencode(body).encode() if operation.takes_form else self.app.json.dumps(body).encode()
        all_headers: dict[str, str | None] = {**self.headers(operation), **(headers or {})}
        sent = Headers([(name, value) for name, value in all_headers.items() if value is not None])
        built = EnvironBuilder(
            method=operation.method,
            headers=sent,
            # As a server would hand them over, so that nothing on our side tidies up what is hostile.
            environ_overrides={
                "PATH_INFO": self.path(operation) if path is None else path,
                "QUERY_STRING": query,
                **(environ or {}),
            },
            **content,
        ).get_environ()
        # Not by a test client, which would give up on a Host that is none.
        chunks, status, answered = run_wsgi_app(self.app, built, buffered=not operation.is_live)
        if operation.is_live and status.startswith("200"):
            # It would never end: its beginning is enough.
            stream = chunks
            chunks = [next(iter(stream), b"")]
            stream.close()  # type: ignore[attr-defined]  # which every iterable of WSGI may have
        return TestResponse(chunks, status, answered, request=Request(built))

    def path(self, operation: Operation) -> str:
        """The operation's path, with the ids of rows that are there."""
        self._set_up()
        # The last category, which can be deleted, has no products.
        ids = self._ids | ({"category_id": self._references["category_id"]} if "/products" in operation.path else {})
        if operation.path.endswith("/{type_id}/products"):
            # The last type has none either.
            ids = ids | {"type_id": self._references["type_id"]}
        if operation.path.endswith("/jobs/{job_id}/retry"):
            # The last one is queued, and can be cancelled; this one has failed.
            ids = ids | {"job_id": self._references["job_id"]}
        if operation.path.endswith("/{product_id}/variants"):
            ids = ids | {"product_id": self._references["parent_id"]}
        return operation.path.format_map(ids | self._key(operation))

    def _key(self, operation: Operation) -> dict[str, str]:
        """The first key of an operation that names its row by one, and its value; nothing for any other."""
        if operation.key is None:
            return {}
        collection = operation.path.partition("/by/")[0]
        row = self._rows[collection]
        table = db.metadata.tables[collection.rpartition("/")[2].replace("-", "_")]
        # By its id, its key may have been changed since.
        with self.app.app_context(), unit_of_work(reading=True):
            value = db.session.scalar(select(table.c[operation.key]).where(table.c.id == row["id"]))
        return {"key": operation.key, "value": value or row[operation.key]}

    def headers(self, operation: Operation) -> dict[str, str]:
        """What the operation needs: credentials, the body's type, a precondition."""
        headers = {}
        if operation.credentials:
            headers["Authorization"] = f"Bearer {self.token(operation.credentials)}"
        if operation.media_types:
            headers["Content-Type"] = operation.media_types[0]
        if operation.takes_form:
            headers["Content-Type"] = FORM
        if operation.takes_file:
            headers["Content-Type"] = operation.media_type_of_file
        if "If-Match" in operation.parameters("header"):
            headers["If-Match"] = "*"
        return headers

    def token(self, scheme: str) -> str:
        """A token of a security scheme."""
        self._set_up()
        if scheme not in self._tokens:
            answer = self.app.test_client().post(
                "/api/v1/auth/login", json={"email": "alice@example.com", "password": PASSWORD}
            )
            assert answer.json is not None
            self._tokens[scheme] = answer.json["refresh_token"]
            self._state = self.read_state()
        return self._tokens[scheme]

    def example(self, operation: Operation) -> Any:
        """The operation's own example, with the ids of rows that are there."""
        example = operation.example
        if isinstance(example, list):
            return [self._with_references(one) for one in example]
        if operation.name == "log_in":
            # Its own are of the demo catalogue.
            example |= {"email": "alice@example.com", "password": PASSWORD}
        if operation.name == "confirm_password_reset":
            example["token"] = self._reset_token()
        if operation.takes_form:
            return example | self._client()
        if operation.key:
            # The path states it already; and by another, the next request would not find the row.
            example.pop(operation.key, None)
        return self._with_references(example)

    def _with_references(self, members: dict[str, Any]) -> dict[str, Any]:
        filled = {name: self._references.get(name, value) for name, value in members.items()}
        for name, value in filled.items():
            if isinstance(value, list):
                filled[name] = [self._with_references(one) if isinstance(one, dict) else one for one in value]
        return filled

    def authorization_request(self) -> dict[str, str]:
        """The parameters with which an app sends a browser to the page for consent."""
        self._set_up()
        app = self._rows["/api/v1/oauth/clients"]
        return {
            "client_id": app["client_id"],
            "redirect_uri": app["redirect_uris"][0],
            "response_type": "code",
            "scope": app["scopes"][0],
            "state": "x",
            "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "code_challenge_method": "S256",
        }

    def _client(self) -> dict[str, str]:
        """The credentials of a client of OAuth 2: an API key. It gets all that it may."""
        self._set_up()
        key = self._rows["/api/v1/api-keys"]
        return {"client_id": f"cat_{key['id']}", "client_secret": key["key"], "scope": ""}

    def _reset_token(self) -> str:
        """What a mail would have brought."""
        with self.app.app_context(), unit_of_work(reading=True):
            user = db.session.execute(select(User.id, User.epoch, User.email).where(User.id == self._user_id)).one()
        return passwords.sign_reset(*user, keys=self.app.config["SECRET_KEYS"])

    def changes(self) -> list[str]:
        """The tables that differ from what they were at the last look."""
        if not self._written:
            return []
        before, self._state = self._state, self.read_state()
        return [name for name, rows in self._state.items() if before.get(name) != rows]

    def read_state(self) -> dict[str, Table]:
        """Every row of every table."""
        self._written = False
        with self.app.app_context(), unit_of_work(reading=True):
            return {name: [tuple(row) for row in db.session.execute(rows)] for name, rows in COMPARED.items()}

    def _set_up(self) -> None:
        if self._is_set:
            return
        # Rows are made through the API, which calls this.
        self._is_set = True
        if self._set:
            self._restore()
        else:
            self._make()
            self._first = self.read_state()
        self._state = self._first

    def _restore(self) -> None:
        """Put the rows back as they were: in a tenth of the time that it takes to make them."""
        empty(self.app)
        with self.app.app_context(), unit_of_work():
            for table, rows in self._set:
                made = {column.name for column in table.columns if column.computed is None}
                db.session.execute(table.insert(), [{name: row[name] for name in made} for row in rows])
            # What was cached is of other rows with the same ids.
            cache.clear()
        self._tokens = {"bearer": self._access_token()}
        self._written = False

    def _make(self) -> None:
        empty(self.app)
        self._make_administrator()
        self._tokens["bearer"] = self._access_token()
        for operation in self.operations:
            for name in operation.parameters("path").keys() - {"key", "value"}:
                self._make_rows(name, operation.path.partition(f"/{{{name}}}")[0])
        for _ in range(3):
            self._add_session(self._ids["user_id"])
        self._add_search_terms()
        self._add_login_code(next(one for one in self.operations if one.name == "exchange_login_code"))
        with self.app.app_context(), unit_of_work(reading=True):
            # So that no reader of the feed changes a table.
            events.number_all_changes()
            for table in db.metadata.sorted_tables:
                rows = db.session.execute(select(table).order_by(*table.primary_key)).mappings()
                if found := [dict(row) for row in rows]:
                    self._set.append((table, found))

    def _make_administrator(self) -> None:
        with self.app.app_context(), unit_of_work():
            user = User(email="alice@example.com", username="root", password_hash=self._password_hash, role=Role.ADMIN)
            db.session.add(user)
            db.session.flush()
            self._user_id = user.id
        self._session_id = self._add_session()

    def _access_token(self) -> str:
        with self.app.app_context():
            return issue_access_token(user_id=self._user_id, session_id=self._session_id, role=Role.ADMIN)

    def _add_session(self, user_id: int | None = None, **of_grant: Any) -> int:
        with self.app.app_context(), unit_of_work():
            expires_at = clock.now() + timedelta(days=1)
            session = UserSession(
                user_id=user_id or self._user_id, device="x", address="127.0.0.1", expires_at=expires_at, **of_grant
            )
            db.session.add(session)
            db.session.flush()
            return session.id

    def _make_rows(self, name: str, collection: str) -> None:
        """Three rows of a collection: the first for bodies to refer to; the last, which none refers to, for paths."""
        if name not in self._ids:
            self._add_rows(name)
        if name in self._ids:
            return
        if name == "hold_id":
            # They are made below their product.
            self._make_rows("product_id", "/api/v1/products")
            collection = "/api/v1/products/{product_id}/holds"
        create = next((one for one in self.operations if str(one) == f"POST {collection}"), None)
        assert create, f"say here how a row for {{{name}}} below {collection} is made"
        needed = [] if create.takes_file else create.body_schema["required"]
        for other in self.operations:
            for parent in other.parameters("path"):
                if parent in needed:
                    self._make_rows(parent, other.path.partition(f"/{{{parent}}}")[0])
        example = {} if create.takes_file else self.example(create)
        example = {member: value for member, value in example.items() if member in needed}
        for number in range(3):
            # A name of its own, lest what is made from it be taken when the whole example is sent.
            names = {"name": f"Row {number}", "username": f"row{number}", "email": f"row{number}@example.com"}
            # The first attribute is the one that the example of a product type lists.
            names["code"] = "colour" if name == "attribute_id" and number == 0 else f"row{number}"
            own: dict[str, Any] = {member: value for member, value in names.items() if member in example}
            if name == "product_id":
                # Something to sell and to hold.
                own |= {"stock": 100, "price": "10.00"}
            if name == "attribute_id":
                # Its type needs them.
                own["choices"] = create.example["choices"]
            answer = self.send(create, body=file_for(create, number) if create.takes_file else example | own)
            assert answer.json is not None
            assert answer.status_code == create.success, answer.json
            self._ids[name], self._rows[collection] = answer.json["id"], answer.json
            self._references.setdefault(name, answer.json["id"])
            if name == "import_id":
                self._add_faults(answer.json["id"])
        self._make_parent_of(name, create, example)
        self._make_products_of(name)

    def _make_products_of(self, name: str) -> None:
        """Three products of a product type, which need not be complete."""
        if name != "type_id":
            return
        type_id = self._references[name]
        self._make_rows("product_id", "/api/v1/products")
        create = next(one for one in self.operations if str(one) == "POST /api/v1/products")
        needed = {"name": "Typed", "price": "1.00", "status": "draft", "type_id": type_id}
        for _ in range(3):
            answer = self.send(create, body=needed | {"category_id": self._references["category_id"]})
            assert answer.status_code == create.success, answer.json

    def _add_rows(self, name: str) -> None:
        """Three rows of a collection that no POST to it makes; nothing for any other."""
        if name == "session_id":
            # Logging in makes them.
            self._ids[name] = self._add_session()
        if name == "delivery_id":
            self._make_rows("webhook_id", "/api/v1/webhooks")
            self._ids[name] = self._add_delivery(self._ids["webhook_id"])
        if name == "grant_id":
            # A person makes them, on a page in a browser.
            self._make_rows("client_id", "/api/v1/oauth/clients")
            grant: dict[str, Any] = {"client_id": self._ids["client_id"], "scopes": ["products:read"]}
            self._ids[name] = [self._add_session(**grant) for _ in range(3)][-1]
        if name == "identity_id":
            self._ids[name] = self._add_identities()
        if name == "job_id":
            self._references[name], *_, self._ids[name] = self._add_jobs()

    def _make_parent_of(self, name: str, create: Operation, example: dict[str, Any]) -> None:
        """Beside products, one with three variants, for the operations on these."""
        if name != "product_id":
            return
        variants = [{"price": "1.00", "options": {"size": size, "colour": "blue"}} for size in ("S", "M", "L")]
        answer = self.send(
            create, body={**example, "name": "Shirt", "options": ["size", "colour"], "variants": variants}
        )
        assert answer.status_code == create.success, answer.json
        assert answer.json is not None
        self._references["parent_id"] = answer.json["id"]

    def _add_delivery(self, webhook_id: int) -> int:
        """What a worker would have sent."""
        with self.app.app_context(), unit_of_work():
            now = clock.now()
            sent = {"message_id": "ping_1", "type": "webhook.ping", "types": ["webhook.ping"], "occurred_at": now}
            ended = {"status": DeliveryStatus.DELIVERED, "finished_at": now, "attempts": 1, "response_status": 204}
            deliveries = [Delivery(webhook_id=webhook_id, **sent, **ended) for _ in range(3)]
            db.session.add_all(deliveries)
            db.session.flush()
            return deliveries[-1].id

    def _add_identities(self) -> int:
        """What logins with a provider would have linked."""
        with self.app.app_context(), unit_of_work():
            found = [
                ExternalIdentity(user_id=self._user_id, issuer="https://id.example", subject=f"row{number}")
                for number in range(3)
            ]
            db.session.add_all(found)
            db.session.flush()
            return found[-1].id

    def _add_login_code(self, operation: Operation) -> None:
        """The code of the operation's example, which a login with a provider would have made."""
        with self.app.app_context(), unit_of_work():
            code = LoginCode(
                code_hash=hash_secret(operation.example["code"]),
                user_id=self._user_id,
                identity_id=self._ids["identity_id"],
                code_challenge=create_s256_code_challenge(operation.example["code_verifier"]),
                expires_at=clock.now() + timedelta(days=1),
            )
            db.session.add(code)

    def _add_search_terms(self) -> None:
        """Three terms that are shown. Searches make them, some time later."""
        with self.app.app_context(), unit_of_work():
            week = week_of(clock.now())
            terms = [SearchTerm(week=week, term=f"row {n}", searches=3, empty_searches=1) for n in range(3)]
            db.session.add_all(terms)

    def _add_jobs(self) -> list[int]:
        """A job that has failed, and two that are queued. No request makes one of any kind."""
        with self.app.app_context(), unit_of_work():
            added = [enqueue("password_reset", {"user_id": 0, "epoch": 0}) for _ in range(3)]
            failed = {"status": JobStatus.FAILED, "error": "No.", "finished_at": clock.now()}
            db.session.execute(update(Job).where(Job.id == added[0].id).values(failed))
            return [job.id for job in added]

    def _add_faults(self, import_id: int) -> None:
        """What a worker would have found wrong with a file."""
        with self.app.app_context(), unit_of_work():
            for line in (2, 3):
                fault = {"import_id": import_id, "line": line, "pointer": "/price", "code": "invalid", "detail": "No."}
                db.session.add(ImportFault(**fault))
            db.session.add(FailedRows(import_id=import_id, line=0, content=b"sku,price,import_error\n"))
            job = select(Import.job_id).where(Import.id == import_id).scalar_subquery()
            db.session.execute(update(Job).where(Job.id == job).values(progress={"failed": 2, "faults": 2}))


def _compared(table: sqlalchemy.Table) -> sqlalchemy.Select[*tuple[Any, ...]]:
    """What a refused request may not change, as the driver hands it over: to convert each value takes most of the time.

    Any request notes once a minute that a session is in use.
    """
    columns = [type_coerce(column, NULLTYPE) for column in table.columns if column.name != "last_seen_at"]
    return select(*columns).order_by(*table.primary_key)


COMPARED = {table.name: _compared(table) for table in db.metadata.sorted_tables}


def values_in(described: Any, key: str) -> Iterator[Any]:
    """Every value under ``key``, however deep."""
    if isinstance(described, dict):
        for name, value in described.items():
            if name == key:
                yield value
            yield from values_in(value, key)
    elif isinstance(described, list):
        for value in described:
            yield from values_in(value, key)
