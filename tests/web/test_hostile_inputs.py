"""Whatever arrives is answered as documented, and what is refused changes nothing: every operation, every input.

The operations come from the OpenAPI document, so that a new route is covered by itself. What the document's schemas
allow may be accepted; what they do not allow must be refused, at the right place.
"""

import base64
import gzip
import io
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import jsonschema_rs
import jwt
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.core.errors import Refusal
from app.web.openapi import describe
from tests.conftest import on_one_database
from tests.operations import FORM, Operation, Scene, operations_in

# Thousands of requests each: a busy machine may take its time.
pytestmark = pytest.mark.timeout(400)

#: What a schema does not allow must be refused before the database hears of it: the other gets what is allowed alone.
ALL_IS_SENT_ON = "sqlite"

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
PROBLEM_TYPE = "application/problem+json"
PROBLEM = {"type", "title", "status", "detail", "instance", "code", "request_id"}
HOSTILE = "evil.example"
DEEP = 100_000


@pytest.fixture
def scene(restored_scene: Scene) -> Iterator[Scene]:
    with restored_scene as scene:
        yield scene


class Report:
    """What was wrong with the answers so far: a test goes through all its inputs before it fails."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.complaints: list[str] = []
        self.sent = 0

    def check(
        self,
        operation: Operation,
        given: str,
        answer: TestResponse,
        *,
        statuses: set[int] | None = None,
        place: str | None = None,
        routed: bool = True,
        goes_on: bool = False,
        may_be_problem: bool = False,
    ) -> None:
        """Look at one answer. ``statuses`` are those that it may have; ``place`` is where a 422 must see the fault.

        It ``may_be_problem`` also of an operation that refuses in another form, where no operation could be found.

        What was accepted may have taken away what the next request needs, unless ``goes_on`` says that it does not.
        """
        self.sent += 1
        problems = {operation.errors if routed else PROBLEM_TYPE} | ({PROBLEM_TYPE} if may_be_problem else set())
        wrong = list(_faults_in(operation, answer, statuses=statuses, routed=routed))
        if answer.status_code >= 400 and answer.request.method != "HEAD":
            wrong += _faults_in_problem(answer, place, problems)
        if answer.status_code < 400:
            changed = self.scene.changes() if goes_on else []
            if not (goes_on or operation.is_safe) or "sessions" in changed:
                self.scene.reset()
        elif (changed := self.scene.changes()) and _code(answer) not in _committing():
            wrong.append(f"changed {', '.join(changed)}")
        self.complaints += [f"{operation}, {given}: {answer.status_code} {fault}" for fault in wrong]

    def conclude(self) -> None:
        """Fail with everything that was wrong."""
        assert self.sent, "nothing was sent"
        assert not self.complaints, "\n".join([f"{len(self.complaints)} of {self.sent}", *self.complaints[:60]])


@pytest.fixture
def report(scene: Scene) -> Iterator[Report]:
    report = Report(scene)
    yield report
    report.conclude()


def _faults_in(operation: Operation, answer: TestResponse, *, statuses: set[int] | None, routed: bool) -> Iterator[str]:
    if answer.status_code >= 500:
        yield "is a server error"
    if statuses is not None and answer.status_code not in statuses:
        yield f"is not one of {sorted(statuses)}: {answer.get_data(as_text=True)[:300]}"
    if routed and answer.status_code not in operation.statuses:
        yield "is not documented"
    if not REQUEST_ID.fullmatch(answer.headers.get("X-Request-ID", "")):
        yield "has no request id"
    if HOSTILE in f"{answer.headers}{answer.get_data(as_text=True)}":
        yield "echoes what it was told"


def _faults_in_problem(answer: TestResponse, place: str | None, media_types: set[str]) -> Iterator[str]:
    if answer.content_type not in media_types:
        yield f"is {answer.content_type}"
        return
    problem = json.loads(answer.data)
    if missing := PROBLEM - problem.keys():
        yield f"lacks {missing}"
        return
    if problem["status"] != answer.status_code or problem["request_id"] != answer.headers["X-Request-ID"]:
        yield "contradicts its header"
    if not re.fullmatch(r"[a-z_]+", problem["code"]) or not problem["title"] or not problem["detail"]:
        yield f"says nothing: {problem}"
    if not problem["instance"].startswith("/") or not problem["instance"].isascii():
        yield f"is about {problem['instance']}"
    headers = {401: "WWW-Authenticate", 405: "Allow", 429: "Retry-After", 503: "Retry-After"}
    if (header := headers.get(answer.status_code)) and not answer.headers.get(header):
        yield f"lacks {header}"
    if answer.status_code == 422:
        faults = problem.get("errors", [])
        places = [fault.get("pointer", fault.get("parameter", fault.get("header"))) for fault in faults]
        if not faults or None in places or not all(fault["detail"] and fault["code"] for fault in faults):
            yield f"does not say where: {faults}"
        elif place is not None and not any(found == place or found.startswith(f"{place}/") for found in places):
            yield f"sees the fault at {places} and not at {place}"


def _code(answer: TestResponse) -> str:
    return str((answer.get_json(force=True, silent=True) or {}).get("code"))


def _committing() -> set[str]:
    """The codes of refusals that leave a trace on purpose."""
    found, waiting = set(), [Refusal]
    while waiting:
        refusal = waiting.pop()
        waiting += refusal.__subclasses__()
        if refusal.commits:
            found.add(refusal.code())
    return found


def pointer_to(name: str) -> str:
    return f"/{name.replace('~', '~0').replace('/', '~1')}"


class TestOwnExample:
    def test_succeeds(self, scene: Scene) -> None:
        """Or else what follows would be refused for another reason than the one that it is about."""
        answers = {}
        for operation in scene.operations:
            answer = scene.send(operation)
            answers[str(operation)] = (answer.status_code, operation.success, answer.get_data(as_text=True))
            scene.reset()

        assert {name: text for name, (status, success, text) in answers.items() if status != success} == {}


UNREADABLE: dict[str, bytes] = {
    "nothing": b"",
    "a blank": b" ",
    "an open object": b'{"name":',
    "two texts": b"{}{}",
    "text after": b"{} x",
    "a trailing comma": b'{"name": "a",}',
    "single quotes": b"{'name': 'a'}",
    "a comment": b"{} // more",
    "a plus sign": b'{"stock": +1}',
    "a leading zero": b'{"stock": 01}',
    "a hexadecimal number": b'{"stock": 0x10}',
    "a lone minus": b'{"stock": -}',
    "a bare word": b"undefined",
    "NaN": b'{"stock": NaN}',
    "Infinity": b'{"stock": Infinity}',
    "minus Infinity": b'{"stock": -Infinity}',
    "1e400": b'{"stock": 1e400}',
    "an integer past 63 bits": b'{"stock": 9223372036854775808}',
    "an integer past 64 bits": b'{"stock": 18446744073709551616}',
    "an integer below 64 bits": b'{"stock": -18446744073709551617}',
    "an integer of 100,000 digits": b'{"stock": ' + b"1" * 100_000 + b"}",
    "a fraction past everything": b'{"stock": ' + b"1" * 100_000 + b".5}",
    "100,000 open brackets": b"[" * DEEP,
    "100,000 brackets": b"[" * DEEP + b"]" * DEEP,
    "100,000 open objects": b'{"a":' * DEEP,
    "100,000 objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "100,000 objects in a member": b'{"name":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "a key twice": b'{"name": "a", "name": "b"}',
    "a key twice, once escaped": rb'{"name": "a", "n\u0061me": "b"}',
    "a key twice, deep": b'{"attributes": {"a": {"b": 1, "b": 1}}}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"name": "a"}'.encode("utf-16-le"),
    "UTF-32": '{"name": "a"}'.encode("utf-32"),
    "Latin-1": b'{"name": "caf\xe9"}',
    "a cut-off character": b'{"name": "caf\xc3"}',
    "an overlong NUL": b'{"name": "\xc0\x80"}',
    "a surrogate in UTF-8": b'{"name": "\xed\xa0\x80"}',
    "a lone surrogate": rb'{"name": "\ud800"}',
    "surrogates in the wrong order": rb'{"name": "\udc00\ud800"}',
    "a lone surrogate as a key": rb'{"\udfff": 1}',
    "a raw NUL": b'{"name": "a\x00b"}',
    "a raw line feed": b'{"name": "a\nb"}',
    "random bytes": bytes(range(256)),
    "a form": b"name=a&price=1",
}
NOT_AN_OBJECT: dict[str, bytes] = {
    "null": b"null",
    "an array": b"[]",
    "an array of an object": b"[{}]",
    "an empty string": b'""',
    "a string": b'"name"',
    "a number": b"1",
    "a fraction": b"1.5",
    "true": b"true",
    "900 brackets": b"[" * 900 + b"]" * 900,
}
MEDIA_TYPES = [
    *(None, "", "text/plain", "text/json", "application/xml", "application/x-www-form-urlencoded"),
    *("multipart/form-data", "multipart/form-data; boundary=x", "application/octet-stream", "application/jsonx"),
    *("application/vnd.api+json", "application/problem+json", "application", "/", "*/*", "application/*", "json"),
    *("application/json, text/plain", "text/plain; application/json", "application /json", "application/json\t/x"),
    *("application/json; charset=utf-16", "application/json; charset=latin-1"),
    *("application/json; charset=no-such", "application/json; charset=utf-8; charset=utf-16", "x" * 10_000),
]
CODINGS = ["gzip", "deflate", "br", "zstd", "identity, gzip", "GZIP", "x", "," * 1000]


class TestBodies:
    @on_one_database
    def test_that_are_not_json_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in with_body(scene):
            for given, body in UNREADABLE.items():
                statuses = {400 if len(body) <= limit_of(scene, operation) else 413}
                report.check(operation, given, scene.send(operation, body=body), statuses=statuses)

    @on_one_database
    def test_that_are_not_objects_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in with_object(scene):
            for given, body in NOT_AN_OBJECT.items():
                report.check(operation, given, scene.send(operation, body=body), statuses={422}, place="")

    @on_one_database
    def test_of_another_media_type_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in with_body(scene):
            # Of the two that a patch may have, the document names one.
            others = [] if operation.method == "PATCH" else ["application/merge-patch+json"]
            for media_type in [*MEDIA_TYPES, *others]:
                answer = scene.send(operation, headers={"Content-Type": media_type})
                report.check(operation, f"Content-Type: {media_type}"[:80], answer, statuses={415})

    @on_one_database
    def test_that_are_compressed_are_refused(self, scene: Scene, report: Report) -> None:
        bomb = gzip.compress(b" " * 10_000_000 + b"{}")
        for operation in with_body(scene):
            for coding in CODINGS:
                answer = scene.send(operation, body=bomb, headers={"Content-Encoding": coding})
                report.check(operation, f"Content-Encoding: {coding}"[:80], answer, statuses={415})

    @on_one_database
    def test_over_the_limit_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in with_body(scene):
            limit = limit_of(scene, operation)
            whole = scene.app.json.dumps(scene.example(operation)).encode()
            large = whole + b" " * (limit + 1 - len(whole))
            chunked = {"wsgi.input": io.BytesIO(large), "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
            announced = {"CONTENT_LENGTH": str(limit + 1)}
            endless = {"CONTENT_LENGTH": str(10**30)}

            report.check(operation, "large", scene.send(operation, body=large), statuses={413})
            report.check(operation, "chunked", scene.send(operation, body=b"", environ=chunked), statuses={413})
            report.check(operation, "announced", scene.send(operation, environ=announced), statuses={413})
            report.check(operation, "endless", scene.send(operation, environ=endless), statuses={413})

    @on_one_database
    def test_at_the_limit_are_read(self, scene: Scene, report: Report) -> None:
        for operation in with_body(scene):
            limit = limit_of(scene, operation)
            for chunked in (False, True):
                scene.path(operation)
                whole = scene.app.json.dumps(scene.example(operation)).encode()
                body = whole + b" " * (limit - len(whole))
                stream = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
                answer = scene.send(operation, body=body, environ=stream if chunked else {})
                report.check(operation, f"chunked: {chunked}", answer, statuses={operation.success})

    @on_one_database
    def test_below_auth_have_16_kib_at_most(self, scene: Scene) -> None:
        limits = {
            str(operation): operation.described["requestBody"].get("x-max-bytes")
            for operation in with_body(scene)
            if "/auth/" in operation.path
        }

        assert len(limits) > 4
        assert set(limits.values()) == {16 * 1024}, limits

    @on_one_database
    def test_that_break_off_are_refused(self, scene: Scene, report: Report) -> None:
        class Broken(io.RawIOBase):
            def read(self, _size: int = -1) -> bytes:
                raise OSError("invalid chunk header")

        for operation in with_body(scene):
            length = len(scene.app.json.dumps(scene.example(operation)))
            environs: dict[str, dict[str, Any]] = {
                "shorter than announced": {"CONTENT_LENGTH": str(length + 10)},
                "longer than announced": {"CONTENT_LENGTH": str(length - 1)},
                "a length that is no number": {"CONTENT_LENGTH": "ten"},
                "a negative length": {"CONTENT_LENGTH": "-1"},
                "broken chunks": {"wsgi.input": Broken(), "wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
            }
            for given, environ in environs.items():
                report.check(operation, given, scene.send(operation, environ=environ), statuses={400})

    @on_one_database
    def test_where_none_is_taken_change_nothing(self, scene: Scene, report: Report) -> None:
        for operation in scene.operations:
            if not operation.media_types and not operation.takes_file and not operation.takes_form:
                for given, body in {"an object": b'{"id": 1}', "no JSON": b"\xff" * 1000}.items():
                    answer = scene.send(operation, body=body, headers={"Content-Type": "application/json"})
                    report.check(operation, given, answer, statuses={operation.success})

    @on_one_database
    def test_of_ten_thousand_unknown_members_get_a_short_answer(self, scene: Scene, report: Report) -> None:
        members = {f"member_{number}": number for number in range(10_000)}
        for operation in with_object(scene):
            started = time.thread_time()
            body = _json(scene.example(operation) | members)
            answer = scene.send(operation, body=body)
            statuses = {422 if len(body) <= limit_of(scene, operation) else 413}
            report.check(operation, "10,000 unknown members", answer, statuses=statuses)
            assert len(answer.data) < 50_000, operation
            assert time.thread_time() - started < 5, operation


class Raw(str):
    """JSON text to stand as it is."""

    __slots__ = ()


def limit_of(scene: Scene, operation: Operation) -> int:
    """How many bytes a body of this operation may have."""
    limit: int = operation.described["requestBody"].get("x-max-bytes", scene.app.config["MAX_BODY_BYTES"])
    return limit


def with_object(scene: Scene) -> list[Operation]:
    """Every operation whose body is an object; tests/features/placements has the one that takes a list."""
    return [operation for operation in with_body(scene) if "properties" in operation.body_schema]


def with_body(scene: Scene) -> list[Operation]:
    found = [operation for operation in scene.operations if operation.media_types]
    scene.path(found[0])  # sets the scene, so that examples name rows that are there
    return found


#: One of these at a time takes the place of a member. Where the schema allows it, it may be accepted.
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "minus zero": Raw("-0"),
    "minus one": -1,
    "one and a half": 1.5,
    "19.99": 19.99,
    "a tiny fraction": Raw("1e-400"),
    "an exponent": Raw("1E3"),
    "the largest integer": 2**63 - 1,
    "the smallest integer": -(2**63),
    "an integer past 63 bits": 2**63,
    "an integer past 64 bits": 2**64,
    "an integer of 400 digits": 10**400,
    "1e400": Raw("1e400"),
    "NaN": Raw("NaN"),
    "Infinity": Raw("Infinity"),
    "an empty string": "",
    "a blank": " ",
    "blanks of Unicode": "\u00a0\u2003\u3000",
    "what shows nothing": "\u200b\u3164\ufeff\u202e",
    "'1'": "1",
    "'1_000'": "1_000",
    "'1.5'": "1.5",
    "a full-width digit": "１",
    "an Arabic digit": "١",
    "a third decimal": "1.001",
    "an exponent in a string": "1e3",
    "a negative amount": "-1.00",
    "a plus sign": "+1",
    "a blank before": " 1.00",
    "a line feed after": "1.00\n",
    "a decimal comma": "1,50",
    "too large an amount": "10000000000.00",
    "'NaN'": "NaN",
    "'Infinity'": "Infinity",
    "'true'": "true",
    "'null'": "null",
    "a NUL": "a\x00b",
    "a NUL alone": "\x00",
    "a control character": "a\x1bb",
    "a delete character": "a\x7fb",
    "a line feed": "a\nb",
    "a lone surrogate": "a\ud800b",
    "a non-character": "a\uffffb",
    "right-to-left": "\u202egnp.exe",
    "zalgo": "a" + "\u0301" * 100,
    "a ligature that folds to eighteen letters": "\ufdfa" * 200,
    "an astral character": "\U0001f4a9",
    "100,000 letters": "x" * 100_000,
    "100,000 blanks": " " * 100_000,
    "100,000 digits": "9" * 100_000,
    "SQL": "'; DROP TABLE products; --",
    "HTML": "<script>alert(1)</script>",
    "a template": "{{7*7}}${7*7}%s%n{0.__class__}",
    "a path": "../../../../etc/passwd",
    "a header": "x\r\nSet-Cookie: a=b",
    "an address": "someone@localhost",
    "an address of Unicode": "j\u00fcrgen@ex\u00e4mple.com",
    "an address with a display name": "Alice <alice@example.com>",
    "an address twice": "a@example.com,b@example.com",
    "an empty array": [],
    "an array of null": [None],
    "an array of numbers": [1],
    "an array of arrays": [[]],
    "an array of a NUL": ["\x00"],
    "the same item twice": ["a", "a"],
    "10,000 items": [f"tag {number}" for number in range(10_000)],
    "an empty object": {},
    "an object": {"a": 1},
    "an object of objects": {"a": {}},
    "an object of arrays": {"a": []},
    "an object of null": {"a": None},
    "an object of a NUL": {"a": "\x00"},
    "an object of a huge number": {"a": Raw("1e300")},
    "an object with a NUL for a name": {"\x00": 1},
    "an object with an empty name": {"": 1},
    "an object with __proto__": {"__proto__": {"is_admin": True}},
    "an object of 10,000 members": {f"a{number}": 1 for number in range(10_000)},
    "an object 500 deep": Raw('{"a":' * 500 + "1" + "}" * 500),
}


def _json(content: Any) -> bytes:
    """JSON as lenient writers write it, with raw parts as they are."""
    raw: list[str] = []

    def hide(value: Any) -> Any:
        if isinstance(value, Raw):
            raw.append(str(value))
            return f"raw {len(raw) - 1}"
        if isinstance(value, dict):
            return {name: hide(member) for name, member in value.items()}
        return value

    text = json.dumps(hide(content))
    for number, value in enumerate(raw):
        text = text.replace(f'"raw {number}"', value)
    return text.encode()


def _read(texts: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """The value of each text that is JSON in 64 bits and Unicode, with its name."""

    def whole(digits: str) -> int:
        if abs(int(digits)) > 2**63 - 1:
            raise ValueError
        return int(digits)

    for name, text in texts.items():
        with suppress(ValueError, RecursionError):
            value = json.loads(text, parse_int=whole, parse_constant=whole)
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
            yield name, value


#: The values as they are sent. Some are long, and each is sent many times.
TEXTS = {given: Raw(_json(value).decode()) for given, value in VALUES.items()}
#: What the document may allow.
READABLE = dict(_read(TEXTS))


#: What is sent of these where another member is bound by the same rules, and was sent everything.
FEW_VALUES = ("null", "true", "an integer past 64 bits", "a NUL", "100,000 letters", "10,000 items", "an object")
#: Names that no schema has, or that are not the client's to set.
FORBIDDEN = [
    *("id", "created_at", "updated_at", "version", "deleted_at", "search_text", "password_hash", "user_id"),
    *("is_admin", "is_superuser", "permissions", "__proto__", "constructor", "", " ", "a/b", "a~b", "a.b", "a[b]"),
    *("NAME", "name ", "\x00", "\u202e", "x" * 10_000, "$ref", "_sa_instance_state", "self", "data"),
]


#: What a schema says beside its rules.
PROSE = frozenset({"default", "deprecated", "description", "example", "examples", "title"})


def is_first(described: set[str], schema: Any) -> bool:
    """Whether nothing was bound by the same rules before, whatever its name and its description."""
    rules = json.dumps(_rules_of(schema), sort_keys=True)
    is_new = rules not in described
    described.add(rules)
    return is_new


def _rules_of(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_rules_of(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    # A member of an object may be called as a keyword is.
    names = schema.get("properties", {})
    rules = {word: _rules_of(value) for word, value in schema.items() if word not in PROSE | {"properties"}}
    return rules | {"properties": {name: _rules_of(one) for name, one in names.items()}}


class TestMembers:
    @pytest.mark.parametrize("media_type", ["application/json", "application/merge-patch+json"])
    def test_are_what_their_schema_says(self, scene: Scene, report: Report, backend: str, media_type: str) -> None:
        described: set[str] = set()
        for operation in with_object(scene):
            if media_type == "application/merge-patch+json" and operation.method != "PATCH":
                continue
            for name, schema in operation.body_schema["properties"].items():
                # A merge patch has the same rules as the document, which the other run sends everything.
                is_new = is_first(described, schema) and media_type == "application/json"
                for given, text in TEXTS.items():
                    if not is_new and given not in FEW_VALUES:
                        continue
                    example = scene.example(operation)
                    body = _json({**example, name: text})
                    fits = len(body) <= limit_of(scene, operation)
                    allowed = (
                        fits and given in READABLE and operation.accepts.is_valid({**example, name: READABLE[given]})
                    )
                    if not allowed and backend != ALL_IS_SENT_ON:
                        continue
                    if allowed and name == operation.key:
                        # The next request would not find the row by the key it had.
                        continue
                    answer = scene.send(operation, body=body, headers={"Content-Type": media_type})
                    report.check(
                        operation,
                        f"{name} is {given}",
                        answer,
                        statuses=None if allowed else {400, 422} if fits else {413},
                        place=None if allowed or not fits else pointer_to(name),
                        goes_on=True,
                    )

    @on_one_database
    def test_that_are_required_must_be_there(self, scene: Scene, report: Report) -> None:
        for operation in with_body(scene):
            for name in operation.body_schema.get("required", []):
                body = {member: value for member, value in scene.example(operation).items() if member != name}
                answer = scene.send(operation, body=body)
                report.check(operation, f"{name} is missing", answer, statuses={422}, place=pointer_to(name))

    @on_one_database
    def test_that_are_unknown_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in with_object(scene):
            for name in FORBIDDEN:
                if name not in operation.body_schema["properties"]:
                    answer = scene.send(operation, body=scene.example(operation) | {name: 1})
                    report.check(operation, f"{name[:40]!r}", answer, statuses={422}, place=pointer_to(name))


class TestForms:
    """Those of the endpoints of OAuth 2."""

    @staticmethod
    def taken(scene: Scene) -> list[Operation]:
        found = [operation for operation in scene.operations if operation.takes_form]
        assert len(found) == 3
        return found

    @on_one_database
    def test_that_are_malformed_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in self.taken(scene):
            for given, value in MISENCODED.items():
                for body in (f"grant_type={value}", f"{value}=1", f"token=x&{value}"):
                    answer = scene.send(operation, body=body.encode("latin-1"))
                    report.check(operation, given, answer, statuses={400})
            for name in operation.body_schema["properties"]:
                twice = urlencode([*scene.example(operation).items(), (name, "x"), (name, "y")]).encode()
                report.check(operation, f"{name} twice", scene.send(operation, body=twice), statuses={400})

    @on_one_database
    def test_that_are_no_forms_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in self.taken(scene):
            for media_type in {"application/json", f"{FORM}; charset=latin-1", *MEDIA_TYPES} - {FORM}:
                answer = scene.send(operation, headers={"Content-Type": media_type})
                report.check(operation, f"Content-Type: {media_type}"[:80], answer, statuses={415})
            for coding in CODINGS:
                answer = scene.send(operation, headers={"Content-Encoding": coding})
                report.check(operation, f"Content-Encoding: {coding}"[:80], answer, statuses={415})
            large = b"token=" + b"x" * limit_of(scene, operation)
            report.check(operation, "large", scene.send(operation, body=large), statuses={413})

    @on_one_database
    def test_may_have_more_than_is_known_here(self, scene: Scene, report: Report) -> None:
        for operation in self.taken(scene):
            body = scene.example(operation) | {"resource": "x", "a[b]": "1", "": "x", "\x00": "x"}
            report.check(operation, "unknown names", scene.send(operation, body=body), statuses={operation.success})

    def test_are_answered_whatever_their_values(self, scene: Scene, report: Report) -> None:
        for operation in self.taken(scene):
            for name in operation.body_schema["properties"]:
                for value in (*PARAMETERS, "authorization_code", "refresh_token", "password", "app_1", "cat_1"):
                    answer = scene.send(operation, body=scene.example(operation) | {name: value})
                    report.check(operation, f"{name} is {value[:40]!r}", answer)

    @on_one_database
    def test_with_other_credentials_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in self.taken(scene):
            own = scene.example(operation)
            anonymous = {name: value for name, value in own.items() if not name.startswith("client_")}
            for given in (
                "",
                "Basic",
                "Basic ",
                "Basic x",
                "Basic Og==",
                "Basic 4pyT",
                "Bearer x",
                "\xff",
                "Basic " * 9,
            ):
                answer = scene.send(operation, body=anonymous, headers={"Authorization": given})
                report.check(operation, f"Authorization: {given!r}", answer, statuses={400, 401})
            for client in ("", "cat_0", "cat_01", f"cat_{2**63}", "cat_" + "9" * 90, "app_1", "cat_\u0661", "key_1"):
                answer = scene.send(operation, body=own | {"client_id": client})
                report.check(operation, f"client_id: {client!r}", answer, statuses={400, 401})
            for secret in ("", "x", "cat_1_x", own["client_secret"][:-1], own["client_secret"].swapcase()):
                answer = scene.send(operation, body=own | {"client_secret": secret})
                report.check(operation, f"client_secret: {secret!r}", answer, statuses={400, 401})


class TestPages:
    """Of the page for consent, every view, whatever an app sends a browser there with."""

    @pytest.fixture
    def views(self, scene: Scene) -> list[Operation]:
        found = [one for one in operations_in(describe(scene.app)) if one.errors == "text/html"]
        assert len(found) == 4
        return found

    @on_one_database
    def test_lead_nowhere_but_to_the_app(self, scene: Scene, views: list[Operation]) -> None:
        asked = scene.authorization_request()
        wrong = []
        for operation in views:
            for name in asked:
                for value in (*PARAMETERS, asked["redirect_uri"] + "/", asked["redirect_uri"] + "?x"):
                    answer = scene.send(operation, query=urlencode(asked | {name: value}))
                    leads = answer.headers.get("Location", "")
                    is_safe = leads == "" or leads.startswith((f"{asked['redirect_uri']}?", "/api/v1/oauth/authorize?"))
                    is_page = answer.status_code == 303 or answer.mimetype == "text/html"
                    if answer.status_code not in operation.statuses or not is_safe or not is_page:
                        wrong.append((str(operation), name, value[:40], answer.status_code, leads))

        assert wrong == []
        assert scene.changes() == []


#: One of these at a time is the value of a parameter, as it would be after decoding.
PARAMETERS = [
    *("", " ", "0", "00", "01", "-0", "-1", "+1", " 1", "1 ", "1\n", "1e3", "1.0", "1.5", "1,5", "1_000", "0x1"),
    *("１", "١", "½", "NaN", "Infinity", "null", "None", "undefined", "[]", "{}", "[1]", "1,2"),
    *(str(2**31), str(2**32), str(2**63 - 1), str(2**63), str(2**64), "-9223372036854775809", "9" * 400, "101"),
    *("true", "false", "True", "TRUE", "1", "yes", "on", "0.00", "0.01", "19.999", "-1.00", "1e400", "10000000000"),
    *("asc; DROP TABLE products", "name; --", "name desc", "-name", "+name", "name,id", "id,", ",id", "products.id"),
    *("id OR 1=1", "(SELECT 1)", "1' OR '1'='1", "price)", "__class__", "password_hash", "ASC", "DESC", "random()"),
    *("a\x00b", "\x00", "a\x1bb", "a\r\nX-Injected: 1", "\u202e", "\uffff", "\U0001f4a9", "\ufdfa" * 200),
    *("x" * 201, "x" * 5000, " " * 500, "%", "_", "\\", "%%%%", "\\\\%", "*", "?", "[a-z]", "^$"),
    *("<script>", "{{7*7}}", "${7*7}", "%s%n", "../../etc/passwd", "https://elsewhere.example/", "//elsewhere.example"),
    *("id,id", "id,no_such", "name", "ID", "id name", "_", ".", "-", "...", "a.b.c", "eyJhIjoxfQ.x.y"),
]
#: What is sent of these where another parameter is bound by the same rules.
FEW_PARAMETERS = ("", "-1", "1e400", "a\x00b", "id OR 1=1", "x" * 5000)
#: Query strings that no operation takes, as they stand in the request line.
QUERIES = {
    "an unknown name": "no_such=1",
    "an unknown name without a value": "no_such",
    "a name in capitals": "PAGE=1",
    "a name with brackets": "page[]=1",
    "a name of a NUL": "%00=1",
    "an empty name": "=1",
    "a name that is a number": "1=1",
    "a token": "access_token=x",
    "a method": "_method=DELETE",
    "a format": "format=xml",
    "a callback": "callback=alert(1)",
    "a name of ten thousand letters": "x" * 10_000 + "=1",
    "a thousand names": "&".join(f"a{number}=1" for number in range(1000)),
    "the same name twice": "no_such=1&no_such=2",
}
MISENCODED = {
    "a lone percent sign": "%",
    "a percent sign without digits": "%zz",
    "half an escape": "%4",
    "bad UTF-8": "%ff",
    "a cut-off character": "%e2%82",
    "an overlong NUL": "%c0%80",
    "a surrogate": "%ed%a0%80",
    "Latin-1": "caf%e9",
    "raw bytes": "\xff\xfe",
}


class TestQueries:
    @on_one_database
    def test_with_unknown_names_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in scene.operations:
            for given, query in QUERIES.items():
                # An endpoint of OAuth 2 says 400 for what is invalid.
                statuses = {422} & operation.statuses or {400}
                report.check(operation, given, scene.send(operation, query=query), statuses=statuses)

    @on_one_database
    def test_that_are_not_utf_8_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in scene.operations:
            names = [*operation.parameters("query"), "no_such"]
            for given, value in MISENCODED.items():
                for query in [f"{name}={value}" for name in names[:3]] + [f"{value}=1"]:
                    answer = scene.send(operation, query=query)
                    report.check(operation, f"{given}: {query!r}", answer, statuses={400})

    @on_one_database
    def test_with_a_name_twice_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in querying(scene):
            for name, parameter in operation.parameters("query").items():
                takes_several = parameter["schema"]["type"] == "array"
                for query in (f"{name}=1&{name}=1", f"{name}=&{name}=", f"{name}=1&{name}=2&{name}=3"):
                    answer = scene.send(operation, query=query)
                    statuses = {operation.success, 422} if takes_several else {422}
                    report.check(operation, query, answer, statuses=statuses, place=name)

    @on_one_database
    def test_with_a_thousand_values_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in querying(scene):
            for name, parameter in operation.parameters("query").items():
                if parameter["schema"]["type"] == "array":
                    numbers = [str(number) for number in range(1000)]
                    for query in (f"{name}={','.join(numbers)}", "&".join(f"{name}={number}" for number in numbers)):
                        answer = scene.send(operation, query=query)
                        report.check(operation, f"{name} a thousand times", answer, statuses={422}, place=name)

    def test_with_a_value_that_its_schema_does_not_allow_are_refused(
        self, scene: Scene, report: Report, backend: str
    ) -> None:
        described: set[str] = set()
        for operation in querying(scene):
            for name, parameter in operation.parameters("query").items():
                is_new = is_first(described, parameter["schema"])
                for value in PARAMETERS if is_new else FEW_PARAMETERS:
                    allowed = _is_allowed(value, parameter["schema"])
                    if not allowed and backend != ALL_IS_SENT_ON:
                        continue
                    query = f"{name}={''.join(f'%{byte:02x}' for byte in value.encode())}"
                    answer = scene.send(operation, query=query)
                    report.check(
                        operation,
                        f"{name} is {value[:40]!r}",
                        answer,
                        statuses={operation.success, 422} if allowed else {422},
                        place=None if allowed else name,
                    )

    def test_with_both_a_page_and_a_cursor_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in listing(scene):
            if "page" not in operation.parameters("query"):
                continue
            answer = scene.send(operation, query="page=1&cursor=")
            report.check(operation, "both", answer, statuses={422}, place="cursor")

    def test_with_a_page_beyond_the_end_get_an_empty_one(self, scene: Scene, report: Report) -> None:
        for operation in listing(scene):
            if "page" not in operation.parameters("query"):
                continue
            answer = scene.send(operation, query=f"page={2**31 - 1}&per_page=100")
            report.check(operation, "the last page", answer, statuses={200})
            assert answer.json is not None
            assert answer.json["items"] == [], operation

    @pytest.mark.parametrize("word", ["%", "_", "\\", "%%", "__", "\\%", "' OR 1=1 --"])
    def test_search_for_characters_and_not_for_patterns(self, scene: Scene, report: Report, word: str) -> None:
        for operation in querying(scene):
            if "search" in operation.parameters("query"):
                answer = scene.send(operation, query=f"search={''.join(f'%{byte:02x}' for byte in word.encode())}")
                report.check(operation, word, answer, statuses={200})
                assert answer.json is not None or "page" not in operation.parameters("query")
                if answer.json is not None:
                    assert answer.json.get("items", []) == answer.json.get("tag", []) == [], operation


def querying(scene: Scene) -> list[Operation]:
    return [operation for operation in scene.operations if operation.parameters("query")]


def listing(scene: Scene) -> list[Operation]:
    return [operation for operation in querying(scene) if "page" in operation.parameters("query")]


def _is_allowed(value: str, schema: Mapping[str, Any]) -> bool:
    """Whether the document allows a parameter's value; integers and booleans are read off their plain spelling."""
    parsed: Any = value
    if schema["type"] == "array":
        # A backslash makes a comma, or another, part of a value.
        values = [re.sub(r"\\([\\,])", r"\1", one) for one in re.findall(r"(?:\A|,)((?:\\[\\,]|[^,])*)", value)]
        return len(values) <= schema["maxItems"] and all(_is_allowed(one, schema["items"]) for one in values)
    if schema["type"] == "integer":
        if not re.fullmatch(r"0|-?[1-9][0-9]*", value):
            return False
        parsed = int(value)
        if abs(parsed) > 2**63 - 1:
            return False
    elif schema["type"] == "boolean":
        if value not in {"true", "false"}:
            return False
        parsed = value == "true"
    return jsonschema_rs.Draft202012Validator(dict(schema)).is_valid(parsed)


class TestCursors:
    @staticmethod
    def walked(scene: Scene, query: str = "") -> list[tuple[Operation, str]]:
        """Every collection with a cursor of its own."""
        found = []
        for operation in listing(scene):
            if {"cursor", "page"} <= operation.parameters("query").keys():
                answer = scene.send(operation, query=f"cursor=&per_page=1{query}")
                assert answer.json is not None
                assert answer.json["meta"]["next_cursor"], operation
                found.append((operation, answer.json["meta"]["next_cursor"]))
        assert len(found) > 1
        return found

    def test_that_were_issued_are_taken(self, scene: Scene, report: Report) -> None:
        for operation, cursor in self.walked(scene):
            report.check(operation, "its own", scene.send(operation, query=f"cursor={cursor}"), statuses={200})

    def test_of_another_collection_are_refused(self, scene: Scene, report: Report) -> None:
        alike = "&sort_by=id&order=asc"
        walked = self.walked(scene, alike)
        for operation, _ in walked:
            for other, cursor in walked:
                if operation.path != other.path:
                    answer = scene.send(operation, query=f"cursor={cursor}{alike}")
                    report.check(operation, f"from {other}", answer, statuses={422}, place="cursor")

    def test_of_another_query_are_refused(self, scene: Scene, report: Report) -> None:
        for operation, cursor in self.walked(scene):
            order = operation.parameters("query")["order"]["schema"]["default"]
            other = {"asc": "desc", "desc": "asc"}[order]
            queries = [f"order={other}", *(f"sort_by={name}" for name in other_sorts(operation)[:1])]
            queries += ["search=a"] if "search" in operation.parameters("query") else []
            for query in queries:
                answer = scene.send(operation, query=f"cursor={cursor}&{query}")
                report.check(operation, query, answer, statuses={422}, place="cursor")

    @on_one_database
    def test_that_were_tampered_with_are_refused(self, scene: Scene, report: Report) -> None:
        for operation, cursor in self.walked(scene):
            payload, _, signature = cursor.rpartition(".")
            swapped = "A" if cursor[-2] != "A" else "B"
            forged = [
                *(cursor[:-1], cursor[1:], cursor[: len(cursor) // 2], payload, signature, f".{signature}"),
                *(f"{payload}.", f"{cursor}{cursor}", cursor.swapcase(), f"{cursor[:-2]}{swapped}{cursor[-1]}"),
                *(f"A{cursor[1:]}", f"{payload}.{'A' * len(signature)}", ".", "..", "e30.x", "null", "0"),
                *(_segment([1, 2]), f"{_segment(['', 1, 1])}.{signature}", _segment("[" * 700), "A" * 1000),
                # A dot before the payload says that it is compressed.
                *(f".{payload}", ".eJyLVtJRUIoFAAUaAVc." + signature, ".AAAA." + signature),
            ]
            for one in forged:
                answer = scene.send(operation, query=f"cursor={one}")
                report.check(operation, one[:60], answer, statuses={422}, place="cursor")


def other_sorts(operation: Operation) -> list[str]:
    """The sorts that are not the default."""
    schema = operation.parameters("query")["sort_by"]["schema"]
    return [str(name) for name in schema["enum"] if name != schema["default"]]


def _segment(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


IDS = [
    *("0", "00", "01", "-0", "-1", "+1", " 1", "1 ", "1.0", "1.5", "1e3", "1_000", "0x1", "1,2", "1;2", "1%", "1*"),
    *(str(2**63), str(2**64), "9" * 19, "9" * 400, "1" * 10_000, "١", "１", "²", "Ⅷ", "one", "null", "None", "me "),
    *("NaN", "true", "*", "%", "_", ".", "..", "...", "\x00", "1\x00", "1\n", "1\r\nX: y", "\ufeff1", "1\u200b"),
    *("'", '"', "1'--", "1 OR 1=1", "{id}", "<id>", "$id", "\\", "~", "@", ":", "a" * 10_000, "\u202e1", "💩"),
]


class TestPaths:
    @on_one_database
    def test_with_a_malformed_id_are_not_found(self, scene: Scene, report: Report) -> None:
        for operation in scene.operations:
            for name in operation.parameters("path"):
                for value in IDS:
                    other = dict.fromkeys(operation.parameters("path"), "1") | {name: value}
                    answer = scene.send(operation, path=_wire(operation.path.format_map(other)))
                    report.check(operation, f"{name} is {value[:40]!r}", answer, statuses={404})

    @on_one_database
    def test_with_bytes_that_are_not_utf_8_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in scene.operations:
            for suffix in ("\xff", "\xc3", "\xed\xa0\x80", "/\xff"):
                path = scene.path(operation) + suffix
                answer = scene.send(operation, path=path)
                report.check(operation, repr(suffix), answer, statuses={400}, routed=False)

    @on_one_database
    def test_that_are_spelled_another_way_are_not_found(self, scene: Scene, report: Report) -> None:
        for operation in scene.operations:
            right = scene.path(operation)
            parent, _, last = right.rpartition("/")
            # Where a row is put by a key, another spelling is another key, which no row has or which is malformed.
            refused = {404, 412, 422} if operation.puts_by_key else {404}
            # Of an identity provider, which could have another name.
            refused |= {405} if right.endswith("/oidc/exchange") else set()
            for path in (
                *(
                    f"{right}/",
                    f"{right}//",
                    f"{right}/.",
                    f"{right}/..",
                    f"{right};a=b",
                    f"{right}\\",
                    f"{right}.json",
                ),
                *(f"/x{parent}//{last}", f"/api//v1/{last}", f"/.{parent}/{last}", f"/x/..{right}", f"/%2e%2e{right}"),
                *(f"{right}\x00", f"{right}%00", f"{right} ", f"{right}\n", f"{right}?x", f"{right}#x", f"{right}x"),
                *("*", right.swapcase(), f"{right}/{'x/' * 2000}", f"/{'x' * 100_000}"),
                *("//elsewhere.example/", "https://elsewhere.example/", f"//elsewhere.example{right}"),
            ):
                answer = scene.send(operation, path=path)
                report.check(operation, path[:80], answer, statuses=refused, routed=False)
                assert "Location" not in answer.headers, (operation, path[:80])
            # An empty path is the root's (RFC 9110 section 4.2.3).
            answer = scene.send(operation, path="")
            report.check(operation, "no path", answer, statuses={200 if operation.is_safe else 404}, routed=False)
            assert "Location" not in answer.headers
            for path in (f"/{right}", f"//{right}"):
                # WSGI's own reading: the slashes at the beginning are one.
                answer = scene.send(operation, path=path)
                report.check(operation, path[:80], answer, statuses={404, operation.success}, routed=False)


def _wire(text: str) -> str:
    """A decoded path as WSGI hands it over: each byte of the UTF-8 as a character."""
    return text.encode().decode("latin-1")


#: These change nothing of the answer.
HARMLESS: dict[str, dict[str, str]] = {
    "Accept: text/html": {"Accept": "text/html"},
    "Accept: nothing": {"Accept": ""},
    "Accept: garbage": {"Accept": ";;q=,/,*;q=x,,\x7f"},
    "Accept: all refused": {"Accept": "*/*;q=0"},
    "Accept: 100 kB": {"Accept": "a/b;q=0.1," * 10_000},
    "Accept-Encoding: garbage": {"Accept-Encoding": "gzip;q=x, *;q=0, identity;q=0"},
    "Accept-Language: garbage": {"Accept-Language": "xx-" * 10_000},
    "a forwarded host": {"X-Forwarded-Host": HOSTILE, "X-Host": HOSTILE, "X-Original-Host": HOSTILE},
    "a forwarded address": {"X-Forwarded-For": f"127.0.0.1, {HOSTILE}, \x7f", "X-Real-IP": HOSTILE},
    "a forwarded scheme": {"X-Forwarded-Proto": f"https,{HOSTILE}", "X-Forwarded-Port": "x", "X-Forwarded-Ssl": "on"},
    "a forwarded prefix": {"X-Forwarded-Prefix": f"//{HOSTILE}", "X-Script-Name": f"/{HOSTILE}"},
    "Forwarded": {"Forwarded": f'for="[::1]";host={HOSTILE};proto=https'},
    "another path": {"X-Original-URL": f"/{HOSTILE}", "X-Rewrite-URL": f"/{HOSTILE}"},
    "another method": {"X-HTTP-Method-Override": "TRACE", "X-Method-Override": "TRACE", "X-HTTP-Method": "TRACE"},
    "a request id of another form": {"X-Request-ID": f"{HOSTILE}/../<script>"},
    "a short request id": {"X-Request-ID": "short"},
    "a long request id": {"X-Request-ID": "x" * 65},
    "a request id with a NUL": {"X-Request-ID": "12345678\x00"},
    "a request id of Unicode": {"X-Request-ID": "\u0661234567890".encode().decode("latin-1")},
    "an origin": {"Origin": f"https://{HOSTILE}"},
    "a null origin": {"Origin": "null"},
    "a cookie": {"Cookie": f"session={HOSTILE}; access_token_cookie=x; \x7f=;;;"},
    "a referrer": {"Referer": f"https://{HOSTILE}/?token=x"},
    "a user agent": {"User-Agent": "x" * 100_000},
    "a user agent of other characters": {"User-Agent": "a\x00b\x1b[31m\xff\x7f"},
    "a range": {"Range": "bytes=0-0", "If-Range": '"x"'},
    "dates": {"If-Modified-Since": "yesterday", "If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
    "100 kB of If-None-Match": {"If-None-Match": '"a",' * 25_000},
    "garbage in If-None-Match": {"If-None-Match": '"a' + ",  " * 1000 + "x"},
    "an odd Connection": {"Connection": "Authorization, close", "Upgrade": "websocket", "TE": "trailers"},
    "a cache directive": {"Cache-Control": "only-if-cached, max-age=x", "Pragma": "no-cache"},
    "our version": {"API-Version": "1"},
}
UNKNOWN_VERSIONS = ["2", "0", "", "1.0", "01", " ", "v1", "１", "latest", "1, 1", "9" * 10_000]
PRECONDITIONS = [
    *("", " ", "1", "x", '"', '""1', '"1', '1"', "'1'", "W/", "W/1", 'w/"1"', 'W/"1', '"1" "2"', '"1";', '"1",x'),
    *('*, "1"', '"1", *', "**", "* *", '"\x00"', '"1\x7f"', "\xff", '"a' * 2000, '"a",' * 25_000, "," * 4000),
    # Each gap can be read in several ways; a pattern that tries them all never ends.
    *('"1"' + ",  " * 1000 + "x", '"1"' + " , " * 1000 + "x", " " * 4000 + "x", ", " * 2000 + "x", '"1" ' * 800),
]
HOSTS = [
    *(HOSTILE, f"{HOSTILE}:80", f"localhost@{HOSTILE}", f"localhost.{HOSTILE}", f"localhost, {HOSTILE}", "[::1]"),
    *("", " ", "localhost:x", "localhost:99999999", "a b", "a/b", "a\\b", "a?b", "a#b", "<script>", "a\x00b"),
    *("::1", "[", "..", ".", "-", "xn--", "\xff", "x" * 10_000, "127.0.0.1:80:80", "localhost:"),
]


class TestHeaders:
    @on_one_database
    def test_that_mean_nothing_here_are_ignored(self, scene: Scene, report: Report) -> None:
        together = {name: value for headers in HARMLESS.values() for name, value in headers.items()}
        for operation in scene.operations:
            ignored = {name: value for name, value in together.items() if name not in operation.parameters("header")}
            each = HARMLESS if operation.is_safe else {"all of them": ignored}
            for given, headers in each.items():
                answer = scene.send(operation, headers=headers)
                report.check(operation, given, answer, statuses={operation.success})
                if "X-Request-ID" in headers:
                    assert answer.headers["X-Request-ID"] != headers["X-Request-ID"], (operation, given)

    @on_one_database
    def test_of_a_version_that_does_not_exist_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in scene.operations:
            for version in UNKNOWN_VERSIONS:
                answer = scene.send(operation, headers={"API-Version": version})
                report.check(operation, f"API-Version: {version}"[:60], answer, statuses={400})

    @on_one_database
    def test_with_a_malformed_precondition_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in scene.operations:
            if "If-Match" in operation.parameters("header"):
                for value in PRECONDITIONS:
                    started = time.thread_time()
                    answer = scene.send(operation, headers={"If-Match": value})
                    report.check(operation, f"If-Match: {value[:60]!r}", answer, statuses={400})
                    assert time.thread_time() - started < 2, (operation, value[:60])

    @on_one_database
    def test_without_a_precondition_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in scene.operations:
            if operation.parameters("header").get("If-Match", {}).get("required"):
                report.check(operation, "none", scene.send(operation, headers={"If-Match": None}), statuses={428})

    def test_with_a_stale_precondition_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in scene.operations:
            if "If-Match" in operation.parameters("header"):
                for tag in ('"0"', '"999"', 'W/"999"', '""', '"a", "b"', '"01"', '"\xff"'):
                    answer = scene.send(operation, headers={"If-Match": tag})
                    report.check(operation, tag, answer, statuses={412})

    @on_one_database
    def test_with_a_hostile_host_do_not_poison_the_answer(self, scene: Scene, report: Report) -> None:
        for operation in scene.operations:
            for host in HOSTS if operation.is_safe else HOSTS[:2]:
                answer = scene.send(operation, environ={"HTTP_HOST": host})
                allowed = {operation.success, 400}
                report.check(operation, f"Host: {host[:60]!r}", answer, statuses=allowed, may_be_problem=True)

    @on_one_database
    def test_with_a_host_that_is_not_trusted_are_refused(
        self, scene: Scene, report: Report, app_with: Callable[..., Flask]
    ) -> None:
        for operation in scene.operations:
            scene.headers(operation)  # logs in, while that can be done
        scene.app = app_with(trusted_hosts=("shop.example.com",))
        for operation in scene.operations:
            for host in (*HOSTS, "localhost", "example.com", "x.shop.example.com", "shop.example.com.evil.example"):
                answer = scene.send(operation, environ={"HTTP_HOST": host})
                # Probes ask a machine by its address, and there is nothing in a health answer to poison.
                allowed = {400} if operation.path.startswith("/api/") else {400, operation.success}
                report.check(operation, f"Host: {host[:60]!r}", answer, statuses=allowed, may_be_problem=True)


def forged_tokens(scene: Scene, operation: Operation) -> Iterator[tuple[str, str]]:
    """Tokens that are not good for the operation, made from one that is."""
    assert operation.credentials
    good = scene.token(operation.credentials)
    key = scene.app.config["JWT_SECRET_KEY"]
    claims = jwt.decode(good, options={"verify_signature": False})
    head, body, signature = good.split(".")

    def sign(changed: Mapping[str, Any], **options: Any) -> str:
        return jwt.encode({**claims, **changed}, options.pop("key", key), **{"algorithm": "HS256", **options})

    def spelled(header: str, payload: str = body) -> str:
        return f"{_segment(header)}.{payload}.{signature}"

    yield from (("nothing", ""), ("a word", "x"), ("two dots", ".."), ("a NUL", "a\x00b"), ("no ASCII", "\xff\xfe"))
    yield from (("100 kB", "x" * 100_000), ("100 kB of a token", f"{head}.{'A' * 100_000}.{signature}"))
    yield from (("no signature", f"{head}.{body}."), ("two parts", f"{head}.{body}"), ("four parts", f"{good}.x"))
    yield from (
        ("another signature", f"{head}.{body}.{signature[::-1]}"),
        ("another body", f"{head}.{head}.{signature}"),
    )
    yield "a swapped letter", f"{head}.{body[:-2]}{'A' if body[-2] != 'A' else 'B'}{body[-1]}.{signature}"
    algorithms: list[Any] = ["none", "None", "NONE", "nOnE", "", "RS256", "HS1", None, [], {}, 1]
    for algorithm in algorithms:
        header = json.dumps({"alg": algorithm, "typ": "JWT"})
        yield f"the algorithm {algorithm}", spelled(header)
        yield f"the algorithm {algorithm} unsigned", f"{_segment(header)}.{body}."
    for header in ("[]", "null", "1", '"x"', "{}", "{", '{"alg":"HS256","alg":"none"}', '{"alg":"HS256","kid":1}'):
        yield f"the header {header}", spelled(header)
    yield "a header of brackets", spelled("[" * 3000 + "]" * 3000)
    yield "a header of objects", spelled('{"alg":' * 3000 + "1" + "}" * 3000)
    yield "a header of digits", spelled('{"alg": ' + "1" * 5000 + "}")
    yield "a body of brackets", f"{head}.{_segment('[' * 3000 + ']' * 3000)}.{signature}"
    for more in ({"kid": "../../etc/passwd"}, {"crit": ["exp"]}, {"jku": f"https://{HOSTILE}/"}):
        yield f"the header {more}", sign({}, key="x" * 32, headers=more)
    yield "another key", sign({}, key="x" * 32)
    yield "the other secret", sign({}, key=scene.app.config["SECRET_KEY"])
    yield "an empty key", spelled('{"alg":"HS256"}')
    for algorithm in ("HS384", "HS512"):
        yield f"our key twice with {algorithm}", sign({}, algorithm=algorithm, key=key * 2)
    for name in ("sub", "iat", "exp", "jti", "type", "sid", "iss", "aud"):
        without = {other: value for other, value in claims.items() if other != name}
        yield f"no {name}", jwt.encode(without, key, algorithm="HS256")
        values: list[Any] = [None, True, [], {}, "", "x", -1, 1.5, "\x00", "1e3", "٣"]
        for value in values:
            # Any text can be a token's own id, and a NumericDate may have a fraction.
            if not (name == "jti" and isinstance(value, str)) and not (name == "iat" and value == 1.5):
                yield f"{name}: {value!r}", _signed({**claims, name: value}, key)
    now = int(time.time())
    for name, value in (("exp", now - 60), ("exp", 0), ("iat", now + 3600), ("nbf", now + 3600)):
        yield f"{name} {value - now} s from now", sign({name: value})
    for value in (10**18, 10**400, 2**63):
        yield f"exp: {str(value)[:20]}", _signed({**claims, "exp": value}, key)
        yield f"iat: {str(value)[:20]}", _signed({**claims, "iat": -value}, key)
    others = {"access": "refresh", "refresh": "access"}
    yield "the other type", sign({"type": others[claims["type"]]})
    yield "an unknown user", sign({"sub": str(2**62)})
    yield "an unknown session", sign({"sid": str(2**62)})
    for subject in ("0", "-1", "01", "+1", " 1", "1 ", "1.0", "１", str(2**63), "9" * 30, "1 OR 1=1"):
        yield f"the subject {subject}", sign({"sub": subject})
        yield f"the session {subject}", sign({"sid": subject})
    yield "an audience too many", sign({"aud": ["catalog"]})


#: What is sent of these where another operation asks for the same token, reads or writes as well, and was sent all.
FEW_FORGERIES = {
    *("nothing", "a word", "no signature", "another signature", "another body", "another key", "an empty key"),
    *("the algorithm none unsigned", "the other secret", "the other type", "no exp", "no sid", "an unknown user"),
    *("an unknown session", "the session 01", "an audience too many"),
}


def _signed(claims: Mapping[str, Any], key: str) -> str:
    """A token with a good signature over whatever claims; the library would not write some of them."""
    content = f"{_segment({'alg': 'HS256', 'typ': 'JWT'})}.{_segment(dict(claims))}"
    signature = jwt.get_algorithm_by_name("HS256").sign(content.encode(), key.encode())
    return f"{content}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


class TestCredentials:
    @staticmethod
    def protected(scene: Scene) -> list[Operation]:
        return [operation for operation in scene.operations if operation.credentials]

    @on_one_database
    def test_that_are_missing_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in self.protected(scene):
            report.check(operation, "none", scene.send(operation, headers={"Authorization": None}), statuses={401})

    def test_that_are_forged_are_refused(self, scene: Scene, report: Report) -> None:
        asked: set[tuple[str | None, bool]] = set()
        for operation in self.protected(scene):
            kind = (operation.credentials, operation.is_safe)
            for given, token in forged_tokens(scene, operation):
                if kind in asked and given not in FEW_FORGERIES:
                    continue
                answer = scene.send(operation, headers={"Authorization": f"Bearer {token}"})
                report.check(operation, given, answer, statuses={401})
            asked.add(kind)

    @on_one_database
    def test_that_are_oddly_written_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in self.protected(scene):
            token = scene.token(str(operation.credentials))
            for given in (
                *("", " ", "Bearer", "Bearer ", "Bearer  ", "Bearer  x", "bearer  x", "Bearer x y", "Bearer null"),
                *("Basic YWxpY2U6cGFzc3dvcmQ=", f"Basic {token}", f"Token {token}", f"JWT {token}", token),
                *(f"Bearer,{token}", f"Bearer:{token}", f"Bearer={token}", f'Bearer "{token}"', f"Bearer {token} x"),
                *(f"Bearer {token},Bearer {token}", f"Bearer {token}, Basic x", f"Basic x, Bearer {token}"),
                *(f"Bearer\x00{token}", f"Bearer {token}\x00", "\xff", "Digest username=x", "Negotiate", "x" * 100_000),
            ):
                answer = scene.send(operation, headers={"Authorization": given})
                report.check(operation, f"Authorization: {given[:40]!r}", answer, statuses={401})

    @on_one_database
    def test_of_two_principals_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in self.protected(scene):
            for key in ("x", "cat_1_x"):
                answer = scene.send(operation, headers={"X-API-Key": key})
                report.check(operation, f"X-API-Key: {key}", answer, statuses={400})

    def test_that_are_no_key_are_refused(self, scene: Scene, report: Report) -> None:
        for operation in self.protected(scene):
            for key in ("", "x", "cat_", "cat_1_x", "cat_\x00_x", "cat_" + "9" * 400 + "_x", "x" * 100_000, "\xff"):
                answer = scene.send(operation, headers={"Authorization": None, "X-API-Key": key})
                report.check(operation, f"X-API-Key: {key[:40]!r}", answer, statuses={401})

    @on_one_database
    def test_are_looked_at_before_anything_else(self, scene: Scene, report: Report) -> None:
        for operation in self.protected(scene):
            headers = {"Authorization": None, "If-Match": "garbage", "Content-Type": "text/plain"}
            answer = scene.send(operation, headers=headers, query="no_such=1", body=b"[" * DEEP)
            report.check(operation, "everything wrong", answer, statuses={401})

    @on_one_database
    def test_are_named_in_any_case(self, scene: Scene, report: Report) -> None:
        for operation in self.protected(scene):
            for scheme in ("bearer", "BEARER", "bEaReR"):
                token = scene.token(str(operation.credentials))
                answer = scene.send(operation, headers={"Authorization": f"{scheme} {token}"})
                report.check(operation, scheme, answer, statuses={operation.success})


class TestMethods:
    @on_one_database
    def test_that_a_path_does_not_have_are_refused(self, scene: Scene, report: Report) -> None:
        by_path: dict[str, list[Operation]] = {}
        for operation in scene.operations:
            by_path.setdefault(operation.path, []).append(operation)
        for operations in by_path.values():
            there = {operation.method for operation in operations}
            tried = {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "QUERY", "X"}
            for method in sorted(tried - there):
                answer = scene.send(operations[0], environ={"REQUEST_METHOD": method})
                report.check(operations[0], f"by {method}", answer, statuses={405}, routed=False)
                implied = {"OPTIONS"} | ({"HEAD"} if "GET" in there else set())
                assert set(answer.headers.get("Allow", "").split(", ")) == there | implied, (operations[0].path, method)

    @on_one_database
    def test_head_is_get_without_the_body(self, scene: Scene) -> None:
        for operation in scene.operations:
            if operation.is_safe:
                answer = scene.send(operation, environ={"REQUEST_METHOD": "HEAD"})
                assert (answer.status_code, answer.data) == (operation.success, b""), operation

    @on_one_database
    def test_options_tells_the_methods(self, scene: Scene) -> None:
        for operation in scene.operations:
            answer = scene.send(operation, environ={"REQUEST_METHOD": "OPTIONS"}, headers={"Authorization": None})
            assert answer.status_code == 200, operation
            assert operation.method in answer.headers["Allow"].split(", "), operation
