"""What is deprecated goes on working, says so to those who use it, and counts who they are."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import Any

import pytest
from flask import Flask
from openapi_spec_validator import validate
from sqlalchemy import select
from werkzeug.test import TestResponse

from app import create_app
from app.core.listing import Listing
from app.core.metrics import DEPRECATED_CALLS
from app.extensions import cache
from app.features.categories.models import Category
from app.security.permissions import Permission
from app.web import deprecated_calls, fields
from app.web.batch import Batch
from app.web.contract import (
    Blueprint,
    ContractMissing,
    accepts,
    deprecated,
    ignores_query,
    lists,
    public,
    queries,
    requires,
    returns,
    takes_file,
)
from app.web.deprecated_calls import CountedKeys
from app.web.deprecation import Deprecation, headers_of
from app.web.openapi import describe
from app.web.schemas import BodySchema, ListBodySchema, ListQuerySchema, Order, QuerySchema, Schema
from tests.conftest import Caller, code_of, on_one_database, settings_for

SINCE, SUNSET = date(2026, 1, 15), date(2027, 2, 1)
PAGE = "/docs"
MAKE = Callable[..., dict[str, Any]]


class SampleSchema(Schema):
    """A sample."""

    name = fields.Text(max_length=20, example="Oak")
    title = fields.Text(
        max_length=20,
        note="The name.",
        example="Oak",
        attribute="slug",
        deprecated=Deprecation(since=SINCE, sunset=SUNSET, link=PAGE),
    )


class SampleItemSchema(BodySchema):
    """One of several."""

    name = fields.Text(max_length=20, example="Oak")
    title = fields.Text(max_length=20, deprecated=Deprecation(since=SINCE, link="/docs/titles"))


class SampleCreateSchema(BodySchema):
    """What makes a sample."""

    name = fields.Text(max_length=20, example="Oak")
    kind = fields.Choice(["oak", "pine"], name="SampleKind", deprecated=Deprecation(since=SINCE, link=PAGE))
    items = Batch(SampleItemSchema, max_items=10, load_default=list)


class SampleListSchema(ListBodySchema):
    """Several samples."""

    items = Batch(SampleItemSchema, max_items=10, required=True, example=[{"name": "Oak"}])


class SampleOptionsSchema(QuerySchema):
    """What a list may be asked for."""

    limit = fields.QueryInteger(minimum=1, maximum=9, note="How many.")
    size = fields.QueryInteger(minimum=1, maximum=9, deprecated=Deprecation(since=SINCE, sunset=SUNSET, link=PAGE))


class SampleQuerySchema(ListQuerySchema):
    """A list of samples."""

    sort_by = fields.Choice(["name"], load_default="name", name="SampleSort")
    order = fields.Choice(Order, load_default="asc")


LISTING = Listing(sorts={"name": Category.name}, tie_breaker=Category.id)


def blueprint() -> Blueprint:
    """A sample of each way in which something is deprecated."""
    samples = Blueprint("samples_of_old", __name__, about="Samples.", url_prefix="/api/v1/samples")

    @samples.get("/old")
    @requires(Permission.CATEGORIES_READ)
    @deprecated(since=SINCE, sunset=SUNSET, link="https://example.com/old")
    @returns(SampleSchema)
    def read_old() -> dict[str, str]:
        """Read it as before."""
        return {"name": "Oak", "slug": "oak"}

    @samples.get("/pages")
    @requires(Permission.CATEGORIES_READ)
    @deprecated(since=SINCE, link=PAGE)
    @lists(SampleSchema, SampleQuerySchema, LISTING)
    def list_old() -> Any:
        """List them as before."""
        return select(Category)

    @samples.get("/sizes")
    @requires(Permission.CATEGORIES_READ)
    @deprecated(since=date(2026, 3, 1), link="/docs/limits", parameter="limit")
    @queries(SampleOptionsSchema)
    @returns(SampleSchema)
    def read_sizes(query: Mapping[str, Any]) -> dict[str, str]:
        """Read what the query says."""
        return {"name": str(query.get("limit", "")), "slug": str(query.get("size", ""))}

    @samples.post("")
    @requires(Permission.CATEGORIES_WRITE)
    @accepts(SampleCreateSchema)
    @returns(SampleSchema, status=201)
    def create_sample(data: Mapping[str, Any]) -> dict[str, str]:
        """Create a sample."""
        return {"name": data["name"], "slug": data["name"]}

    @samples.put("/all")
    @requires(Permission.CATEGORIES_WRITE)
    @accepts(SampleListSchema)
    @returns()
    def replace_samples(data: Mapping[str, Any]) -> None:
        """Replace all samples."""

    @samples.post("/files")
    @requires(Permission.CATEGORIES_WRITE)
    @takes_file("text/csv", options=SampleOptionsSchema, limit="MAX_UPLOAD_BYTES")
    @returns(SampleSchema, status=201)
    def send_samples(upload: Any, query: Mapping[str, Any]) -> dict[str, str]:
        """Send a file."""
        return {"name": "Oak", "slug": "oak"}

    return samples


@pytest.fixture
def old(app: Flask, shared_applications: dict[str, Flask]) -> Flask:
    """An application on the database of the test that has the samples as well."""
    key = f"samples {app.config['DATABASE_URL']}"
    if key not in shared_applications:
        shared_applications[key] = create_app(settings_for(app.config["DATABASE_URL"]))
        shared_applications[key].register_blueprint(blueprint())
        deprecated_calls.init_app(shared_applications[key])
    with shared_applications[key].app_context():
        cache.clear()
    return shared_applications[key]


@pytest.fixture
def alice(alice: Caller, old: Flask) -> Caller:
    """Alice, at the application with the samples."""
    return alice.on(old)


@pytest.fixture
def anonymous(anonymous: Caller, old: Flask) -> Caller:
    """Somebody without credentials, there too."""
    return anonymous.on(old)


def deprecation_of(answer: TestResponse) -> tuple[date, date | None] | None:
    """The dates that a response carries."""
    if "Deprecation" not in answer.headers:
        assert "Sunset" not in answer.headers
        return None
    since = datetime.fromtimestamp(int(answer.headers["Deprecation"].removeprefix("@")), UTC)
    sunset = answer.headers.get("Sunset")
    return since.date(), parsedate_to_datetime(sunset).date() if sunset else None


def calls() -> dict[tuple[str, ...], float]:
    """The calls that were counted, by their labels."""
    names = ("operation", "item", "principal", "api_key_id")
    return {
        tuple(sample.labels[name] for name in names): sample.value
        for metric in DEPRECATED_CALLS.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


@pytest.fixture
def counted() -> Callable[[], dict[tuple[str, ...], float]]:
    """The calls of this test."""
    before = calls()
    return lambda: {key: count - before.get(key, 0) for key, count in calls().items() if count > before.get(key, 0)}


class TestAnOperation:
    def test_works_and_says_since_when_and_until_when(self, alice: Caller) -> None:
        answer = alice.get("/samples/old")

        assert (answer.status_code, answer.get_json()) == (200, {"name": "Oak", "title": "oak"})
        assert answer.headers["Deprecation"] == "@1768435200"
        assert answer.headers["Sunset"] == "Mon, 01 Feb 2027 00:00:00 GMT"
        assert answer.headers["Link"] == '<https://example.com/old>; rel="deprecation"'

    def test_says_it_from_the_cache_and_with_304(self, alice: Caller) -> None:
        first, second = alice.get("/samples/old"), alice.get("/samples/old")
        third = alice.get("/samples/old", headers={"If-None-Match": first.headers["ETag"]})

        assert [answer.status_code for answer in (first, second, third)] == [200, 200, 304]
        assert [deprecation_of(answer) for answer in (first, second, third)] == [(SINCE, SUNSET)] * 3
        # A cached response has them once, and not those of the response before as well.
        assert len(second.headers.getlist("Deprecation")) == len(second.headers.getlist("Link")) == 1

    def test_says_it_when_it_refuses(self, alice: Caller, anonymous: Caller) -> None:
        answers = [alice.get("/samples/old?surprise=1"), anonymous.get("/samples/old", headers={"X-API-Key": "cat_"})]

        assert [answer.status_code for answer in answers] == [422, 401]
        assert [deprecation_of(answer) for answer in answers] == [(SINCE, SUNSET)] * 2

    def test_keeps_the_links_of_a_list(self, alice: Caller, make_category: MAKE) -> None:
        for name in ("Chairs", "Tables"):
            make_category(name=name)

        answer = alice.get("/samples/pages?per_page=1")

        [links] = answer.headers.getlist("Link")
        assert 'rel="next"' in links
        assert links.endswith(f'<{PAGE}>; rel="deprecation"')
        assert deprecation_of(answer) == (SINCE, None)

    def test_is_not_what_a_browser_asks_before_it(self, anonymous: Caller) -> None:
        assert deprecation_of(anonymous.call("OPTIONS", "/samples/old")) is None

    def test_is_not_what_stands_beside_it(self, alice: Caller) -> None:
        assert [deprecation_of(alice.get(path)) for path in ("/samples/sizes", "/categories", "/samples/none")] == [
            None
        ] * 3


class TestAParameter:
    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("", None),
            ("limit=3", (date(2026, 3, 1), None)),
            ("size=3", (SINCE, SUNSET)),
            ("s%69ze=3", (SINCE, SUNSET)),
            # The earliest of what the request uses.
            ("limit=3&size=2", (SINCE, SUNSET)),
            ("size=many", (SINCE, SUNSET)),
            ("size=1&size=2", (SINCE, SUNSET)),
            ("size=", (SINCE, SUNSET)),
            ("sizes=3", None),
        ],
    )
    def test_is_said_of_where_the_request_has_it(
        self, alice: Caller, query: str, expected: tuple[date, date | None] | None
    ) -> None:
        # Once as it is made, and once from the cache.
        for _ in range(2):
            assert deprecation_of(alice.get(f"/samples/sizes?{query}")) == expected

    def test_leads_to_the_page_of_each(self, alice: Caller) -> None:
        answer = alice.get("/samples/sizes?limit=3&size=2")

        assert answer.headers["Link"] == '</docs/limits>; rel="deprecation", </docs>; rel="deprecation"'

    def test_may_be_a_field_of_a_form(self, alice: Caller) -> None:
        def send(**form: str) -> TestResponse:
            return alice.call("POST", "/samples/files", data={"file": (BytesIO(b"a"), "a.csv", "text/csv"), **form})

        assert deprecation_of(send(size="3")) == (SINCE, SUNSET)
        assert deprecation_of(send()) is None


class TestAMember:
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({"name": "Oak"}, None),
            ({"name": "Oak", "kind": "oak"}, [PAGE]),
            ({"name": "Oak", "items": [{"name": "A"}, {"name": "B", "title": "B"}]}, ["/docs/titles"]),
            ({"name": "Oak", "kind": "oak", "items": [{"title": "B"}]}, [PAGE, "/docs/titles"]),
            ({"name": "Oak", "kind": None}, [PAGE]),
            ({"name": {"kind": "oak"}}, None),
            (["kind"], None),
            ("kind", None),
        ],
    )
    def test_is_said_of_where_the_body_states_it(self, alice: Caller, body: Any, expected: list[str] | None) -> None:
        answer = alice.call("POST", "/samples", json=body)

        links = ", ".join(f'<{page}>; rel="deprecation"' for page in expected or [])
        assert answer.headers.get("Link", "") == links
        assert deprecation_of(answer) == ((SINCE, None) if expected else None)

    def test_may_be_of_items_that_are_the_whole_body(self, alice: Caller) -> None:
        assert deprecation_of(alice.call("PUT", "/samples/all", json=[{"name": "A"}])) is None
        assert deprecation_of(alice.call("PUT", "/samples/all", json=[{"name": "A", "title": "A"}])) == (SINCE, None)

    def test_is_said_of_in_a_dry_run_and_in_a_replayed_response(self, alice: Caller) -> None:
        body, key = {"name": "Oak", "kind": "oak"}, {"Idempotency-Key": "k"}

        dry = alice.post("/samples?dry_run=true", body, headers=key)
        answers = [alice.post("/samples", body, headers=key) for _ in range(2)]

        assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true"]
        assert [deprecation_of(answer) for answer in (dry, *answers)] == [(SINCE, None)] * 3

    def test_of_a_body_that_cannot_be_read_is_none(self, alice: Caller) -> None:
        answer = alice.call("POST", "/samples", data=b'{"kind": ', content_type="application/json")

        assert (code_of(answer), deprecation_of(answer)) == ("json_malformed", None)


class TestTheMetric:
    def test_counts_who_calls_what(self, alice: Caller, anonymous: Caller, counted: Callable[[], Any]) -> None:
        made = alice.post("/api-keys", {"name": "Shop", "scopes": ["categories:read"]}).get_json()
        key = {"X-API-Key": made["key"]}
        for _ in range(2):
            alice.get("/samples/old")
            anonymous.get("/samples/sizes?size=1&limit=1", headers=key)
        alice.post("/samples", {"name": "Oak", "items": [{"title": "A"}]})
        alice.get("/samples/sizes")
        anonymous.get("/samples/old", headers={"Authorization": "Bearer nothing"})

        assert counted() == {
            ("read_old", "operation", "user", ""): 2,
            ("read_old", "operation", "anonymous", ""): 1,
            ("read_sizes", "query.size", "api_key", str(made["id"])): 2,
            ("read_sizes", "query.limit", "api_key", str(made["id"])): 2,
            ("create_sample", "body.items.title", "user", ""): 1,
        }

    def test_has_no_label_for_what_a_client_makes_up(self, alice: Caller, counted: Callable[[], Any]) -> None:
        for number in range(20):
            alice.get(f"/samples/sizes?size={number}&made_up_{number}=1")

        assert counted() == {("read_sizes", "query.size", "user", ""): 20}

    def test_has_a_bounded_number_of_keys(self) -> None:
        keys = CountedKeys(max_keys=2)

        labels = [keys.label_of(key_id) for key_id in (None, 7, 8, 9, 7, 10)]

        assert labels == ["", "7", "8", "other", "7", "other"]


class TestTheDocument:
    @pytest.fixture
    def document(self, old: Flask) -> dict[str, Any]:
        return describe(old)

    @on_one_database
    def test_is_valid(self, document: dict[str, Any]) -> None:
        validate(document)

    @on_one_database
    def test_marks_the_operation(self, document: dict[str, Any]) -> None:
        operation = document["paths"]["/api/v1/samples/old"]["get"]

        assert (operation["deprecated"], operation["x-sunset"]) == (True, "2027-02-01")
        assert operation["description"].startswith(
            "Deprecated since 2026-01-15, and works at least until 2027-02-01: see <https://example.com/old>."
        )

    @on_one_database
    def test_marks_parameters(self, document: dict[str, Any]) -> None:
        shared = document["components"]["parameters"]
        parameters = [
            shared[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
            for one in document["paths"]["/api/v1/samples/sizes"]["get"]["parameters"]
        ]
        marked = {one["name"]: (one.get("deprecated"), one.get("x-sunset")) for one in parameters}

        assert {name: marked[name] for name in ("limit", "size")} == {
            "limit": (True, None),
            "size": (True, "2027-02-01"),
        }
        # The operation that only shares the schema has it without.
        assert "deprecated" not in shared["SampleOptions.limit"]

    @on_one_database
    def test_marks_members_of_requests_and_responses(self, document: dict[str, Any]) -> None:
        schemas = document["components"]["schemas"]

        marked = {
            (schema, name)
            for schema in ("Sample", "SampleItem", "SampleCreate")
            for name, member in schemas[schema]["properties"].items()
            if member.get("deprecated")
        }
        assert marked == {("Sample", "title"), ("SampleItem", "title"), ("SampleCreate", "kind")}
        assert schemas["Sample"]["properties"]["title"]["description"] == (
            "The name. Deprecated since 2026-01-15, and works at least until 2027-02-01: see </docs>."
        )

    @on_one_database
    def test_has_the_headers_on_every_response(self, document: dict[str, Any]) -> None:
        headers = {"Deprecation", "Sunset", "Link"}
        for path, method in (("/old", "get"), ("/pages", "get"), ("/sizes", "get"), ("", "post")):
            for status, response in document["paths"][f"/api/v1/samples{path}"][method]["responses"].items():
                assert headers <= response["headers"].keys(), (path, status)

    @on_one_database
    def test_has_no_such_headers_where_nothing_is_deprecated(self, app: Flask) -> None:
        assert not {"Deprecation", "Sunset"} & describe(app)["components"]["headers"].keys()


class TestADeclaration:
    @pytest.mark.parametrize("sunset", [SINCE, date(2025, 1, 1), date(2027, 1, 14)])
    def test_refuses_a_sunset_that_is_within_a_year_of_it(self, sunset: date) -> None:
        with pytest.raises(ValueError, match="is not a year after"):
            Deprecation(since=SINCE, sunset=sunset, link=PAGE)

    @pytest.mark.parametrize(
        ("since", "sunset"),
        [(SINCE, date(2027, 1, 15)), (date(2028, 2, 29), date(2029, 3, 1)), (date(2027, 2, 28), date(2028, 2, 28))],
    )
    def test_takes_a_sunset_a_year_after_it(self, since: date, sunset: date) -> None:
        assert Deprecation(since=since, sunset=sunset, link=PAGE).sunset == sunset

    def test_counts_a_year_from_the_last_of_february(self) -> None:
        with pytest.raises(ValueError, match="is not a year after"):
            Deprecation(since=date(2028, 2, 29), sunset=date(2029, 2, 28), link=PAGE)

    @pytest.mark.parametrize("link", ["", "docs", "ftp://example.com", '/a"b', "/a>b", "/a b"])
    def test_refuses_what_is_no_link(self, link: str) -> None:
        with pytest.raises(ValueError, match="neither a URL nor a path"):
            Deprecation(since=SINCE, link=link)

    def test_takes_the_earliest_dates_of_several(self) -> None:
        several = [
            Deprecation(since=date(2026, 5, 1), sunset=date(2027, 9, 1), link=PAGE),
            Deprecation(since=date(2026, 4, 1), sunset=date(2027, 12, 1), link=PAGE),
        ]

        headers = headers_of(several)

        assert headers["Deprecation"] == f"@{int(datetime(2026, 4, 1, tzinfo=UTC).timestamp())}"
        assert headers["Sunset"] == "Wed, 01 Sep 2027 00:00:00 GMT"
        assert headers["Link"] == '</docs>; rel="deprecation"'

    @pytest.mark.parametrize("parameter", [None, "size"])
    def test_is_made_once(self, parameter: str | None) -> None:
        twice = deprecated(since=SINCE, link=PAGE, parameter=parameter)

        with pytest.raises(ContractMissing, match="declared twice"):
            twice(twice(public(returns(SampleSchema)(lambda: None))))

    @pytest.mark.parametrize(("parameter", "problem"), [("width", "there is no query.width"), ("size", "twice")])
    def test_is_of_a_parameter_that_is_there_and_not_declared_by_its_schema(self, parameter: str, problem: str) -> None:
        def view(query: Mapping[str, Any]) -> None:
            """Do nothing."""

        declare = deprecated(since=SINCE, link=PAGE, parameter=parameter)

        with pytest.raises(ContractMissing, match=problem):
            Blueprint("new", __name__).get("/new")(declare(public(queries(SampleOptionsSchema)(returns()(view)))))


def test_an_application_in_which_nothing_is_deprecated_does_nothing_for_it() -> None:
    app = Flask("bare")
    bare = Blueprint("bare", __name__)
    bare.get("/bare")(public(ignores_query(returns()(lambda: None))))
    app.register_blueprint(bare)

    deprecated_calls.init_app(app)

    assert app.after_request_funcs == {}
