"""Answers that are kept: whose they are, how long they are, and how much memory they take."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import orjson
import pytest
import time_machine
from flask import Flask, Response
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError
from werkzeug.test import TestResponse

from app.core import clock
from app.core.changelog import Follower, LoggedChange, LogPosition, LogTail
from app.core.topics import topics_of_change
from app.core.transactions import run, unit_of_work
from app.extensions import cache, db
from app.features.facets import service as facets
from app.features.users.models import User
from app.security.permissions import Role
from app.web.operation import Operation
from app.web.response_cache import MIN_ENTRIES, TOPICS_SHARE, CachedResponse, ResponseCache, size_of
from tests.conftest import API, Caller, body_of, on_one_database
from tests.live.wire import wait_for

AppWith = Callable[..., Flask]
Make = Callable[..., dict[str, Any]]
SignIn = Callable[..., Caller]

#: What else could decide an answer; each is sent and left out.
HEADERS: list[dict[str, str]] = [
    {"Accept": "text/html"},
    {"Accept-Language": "de"},
    {"Accept-Encoding": "gzip, br"},
    {"Host": "elsewhere.example"},
    {"Origin": "https://shop.example"},
    {"Origin": "https://evil.example"},
    {"X-Forwarded-For": "192.0.2.7"},
    {"X-Forwarded-Host": "elsewhere.example"},
    {"X-Forwarded-Proto": "https"},
    {"X-Forwarded-Prefix": "/elsewhere"},
    {"X-Request-ID": "of-my-own-choice"},
    {"API-Version": "1"},
    {"API-Version": "2"},
    {"Cookie": "refresh_token=x; session=y"},
    {"If-None-Match": '"1"'},
    {"If-None-Match": "*"},
    {"If-Match": '"7"'},
    {"If-Modified-Since": "Sat, 01 Jan 2050 00:00:00 GMT"},
    {"Range": "bytes=0-3"},
    {"Idempotency-Key": "a-key-of-mine"},
    {"Cache-Control": "no-cache"},
    {"Content-Type": "application/xml"},
]
QUERIES = [
    "",
    "page=1",
    "page=1&per_page=2",
    "per_page=2&page=1",
    "per_page=%32&page=1",
    "p%61ge=1&per_page=2",
    "page=2&per_page=2",
    "per_page=2&per_page=2",
    "per_page=2&per_page=3",
    "cursor=",
    "cursor",
    "cursor=&per_page=2",
    "fields=id",
    "fields=id,name",
    "fields=name,id",
    "fields=name%2Cid",
    "fields=nonsense",
    "FIELDS=id",
    "fields=",
    "sort_by=name",
    "sort_by=NAME",
    "sort_by=name&order=desc",
    "order=desc&sort_by=name",
    "order=desc",
    "search=chair",
    "search=CHAIR",
    "search=chair%20oak",
    "search=chair+oak",
    "search=%C3%A9",
    "search=%E9",
    "search=",
    "status=draft",
    "status=active",
    "status=archived",
    "status=Active",
    "in_stock=true",
    "in_stock=false",
    "min_price=10.00",
    "min_price=10",
    "min_price=10.0",
    "tag=garden",
    "tree=true",
    "tree=false",
    "parent_id=1",
    "slug=chairs",
    "unknown=1",
    "&&",
    "&page=1",
    "page=1&",
    "page=%",
    "page=0",
]


@pytest.fixture
def public(app_with: AppWith) -> Flask:
    """An application that keeps answers, and whose catalogue anybody may read."""
    return app_with(catalog_public_read=True, cors_origins=["https://shop.example"])


@pytest.fixture
def plain(app_with: AppWith) -> Flask:
    """The same without kept answers."""
    return app_with(catalog_public_read=True, cors_origins=["https://shop.example"], answer_cache_bytes=0)


@pytest.fixture
def catalogue(make_product: Make, make_category: Make, root: Caller) -> dict[str, int]:
    """Products of every status and a tree of categories; what stands in paths."""
    home = make_category(name="Chairs")
    make_category(name="Stools", parent_id=home["id"])
    given = {"category_id": home["id"]}
    for number, status in enumerate(["draft", "active", "archived", "active"]):
        make_product(**given, name=f"Oak chair {number}", status=status, stock=number % 2, tags=["garden"])
    hidden = make_product(**given, name="A secret chair", status="draft")
    gone = make_product(**given, name="A chair that is gone")
    assert root.delete(f"/products/{gone['id']}").status_code == 204
    return {"product_id": hidden["id"], "category_id": home["id"], "gone_id": gone["id"]}


def keepable(app: Flask) -> dict[str, Operation]:
    """The rules whose answers are kept, and their operations."""
    operations = {
        rule.rule: getattr(app.view_functions[rule.endpoint], "operation", None)
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ())
    }
    return {rule: one for rule, one in operations.items() if isinstance(one, Operation) and one.is_cacheable}


def paths(app: Flask, catalogue: dict[str, int]) -> list[str]:
    """The path of each cacheable operation on these rows; rights decide whether the product in it is there."""
    return sorted(
        re.sub(r"<(?:[^>]+:)?(\w+)>", r"{\1}", rule.removeprefix(API)).format_map(catalogue)
        for rule in keepable(app)
        if "<value:" not in rule and catalogue.keys() >= set(re.findall(r"<id:(\w+)>", rule))
    )


def shown(answer: TestResponse) -> dict[str, Any]:
    """What must be the same, whether it was kept or made; what is of this one request is left out."""
    own = {"X-Process-Time", "Server-Timing", "X-Request-ID", "Date"}
    body = re.sub(rb'"request_id":"[^"]+"', b"", answer.get_data())
    headers = sorted((name, value) for name, value in answer.headers.items() if name not in own)
    return {"status": answer.status_code, "headers": headers, "body": body}


def queries_of(answer: TestResponse) -> int:
    """How many statements an answer took."""
    return int(answer.headers["Server-Timing"].split('desc="')[1].split()[0])


def key_of(owner: Caller, *scopes: str, **members: Any) -> dict[str, Any]:
    return body_of(owner.post("/api-keys", {"name": "k", "scopes": list(scopes), **members}))


class Holder(Caller):
    """Somebody with an API key."""

    def call(self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> TestResponse:
        return Caller(self.app).call(
            method, path, headers={"X-API-Key": self.token or "", **(headers or {})}, **options
        )


@pytest.fixture
def cast(anonymous: Caller, bob: Caller, alice: Caller, root: Caller, sign_in: SignIn) -> dict[str, Caller]:
    """Everybody who can ask: of every role, with every kind of key, and those who no longer may."""
    app = anonymous.app
    people = {"anonymous": anonymous, "bob": bob, "alice": alice, "root": root, "forger": Caller(app, "x.y.z")}
    scopes = [
        ("products:read",),
        ("categories:read",),
        ("products:read", "categories:read"),
        ("products:read", "products:write"),
        ("categories:read", "products:write"),
        ("stock:read",),
    ]
    keys = {f"alice's key for {' '.join(some)}": key_of(alice, *some) for some in scopes}
    keys["bob's key"] = key_of(bob, "products:read", "categories:read")
    keys["a revoked key"] = key_of(alice, "products:read", "products:write")
    keys["an expired key"] = key_of(
        alice, "products:read", "products:write", expires_at=(clock.now() + timedelta(seconds=90)).isoformat()
    )
    for title in ("a demoted editor", "a deactivated editor", "an ended session"):
        people[title] = sign_in(title.split()[1], Role.EDITOR)
    keys["the key of a demoted editor"] = key_of(people["a demoted editor"], "products:read", "products:write")
    keys["the key of a deactivated editor"] = key_of(people["a deactivated editor"], "products:read", "products:write")

    assert alice.delete(f"/api-keys/{keys['a revoked key']['id']}").status_code == 204
    assert root.patch(f"/users/{people['a demoted editor'].user_id}", {"role": "user"}).status_code == 200
    assert root.patch(f"/users/{people['a deactivated editor'].user_id}", {"is_active": False}).status_code == 200
    assert people["an ended session"].post("/auth/logout").status_code == 204
    return people | {name: Holder(app, key["key"]) for name, key in keys.items()}


# Everybody's answer beside everybody else's: a busy machine may take its time.
@pytest.mark.timeout(240)
@on_one_database
class TestACallersAnswer:
    """Everybody gets what an application without kept answers gives them, whoever has asked before."""

    def test_never_reaches_somebody_with_other_rights(
        self, public: Flask, plain: Flask, cast: dict[str, Caller], catalogue: dict[str, int]
    ) -> None:
        asked = [*paths(public, catalogue), "/products?cursor=&status=draft", f"/products/{catalogue['gone_id']}"]
        with time_machine.travel(clock.now() + timedelta(minutes=2), tick=True):
            expected = {(who, path): shown(cast[who].on(plain).get(path)) for who in cast for path in asked}
            for number, first in enumerate(cast):
                with public.app_context():
                    cache.clear()
                # Each path has every third of them as the first, and each of them is the first at every third path.
                for path in asked[number % 3 :: 3]:
                    for who in (first, *cast):
                        assert shown(cast[who].on(public).get(path)) == expected[who, path], (first, who, path)

        # There is something that rights decide, and everything was asked by somebody who got it.
        assert len({repr(expected["bob", path]) != repr(expected["alice", path]) for path in asked}) == 2
        assert {expected[who, asked[0]]["status"] for who in cast} == {200, 401, 403}

    @pytest.mark.parametrize("headers", HEADERS, ids=str)
    def test_depends_on_no_other_header(
        self, public: Flask, plain: Flask, alice: Caller, catalogue: dict[str, int], headers: dict[str, str]
    ) -> None:
        for path in paths(public, catalogue):
            expected = {bool(some): shown(alice.on(plain).get(path, headers=some)) for some in ({}, headers)}
            for first in ({}, headers):
                with public.app_context():
                    cache.clear()
                for some in (first, {}, headers, {}):
                    assert shown(alice.on(public).get(path, headers=some)) == expected[bool(some)], (path, some)

    def test_is_the_same_to_head(self, public: Flask, plain: Flask, alice: Caller, catalogue: dict[str, int]) -> None:
        for path in paths(public, catalogue):
            for methods in (("HEAD", "GET", "HEAD"), ("GET", "HEAD", "GET")):
                with public.app_context():
                    cache.clear()
                for method in methods:
                    assert shown(alice.on(public).call(method, path)) == shown(alice.on(plain).call(method, path))

    def test_is_that_of_the_query_as_it_is_spelled(
        self, public: Flask, plain: Flask, alice: Caller, catalogue: dict[str, int]
    ) -> None:
        for path in paths(public, catalogue):
            expected = {query: shown(alice.on(plain).get(path, query_string=query)) for query in QUERIES}
            for query in [*QUERIES, *reversed(QUERIES)]:
                assert shown(alice.on(public).get(path, query_string=query)) == expected[query], (path, query)

    def test_is_kept_for_each_keepable_operation(self, public: Flask, alice: Caller, catalogue: dict[str, int]) -> None:
        """Else all of the above compares nothing with nothing."""
        assert len(paths(public, catalogue)) >= 6
        for path in paths(public, catalogue):
            first, again = (alice.on(public).get(path) for _ in range(2))
            assert (first.status_code, queries_of(again)) == (200, 1), path
            assert queries_of(first) > 1, path


class TestEveryWrite:
    """Nobody else writes meanwhile, so that each kind of write must end what was kept by itself."""

    def test_is_seen_wherever_it_can_be_read(
        self, public: Flask, plain: Flask, alice: Caller, root: Caller, catalogue: dict[str, int]
    ) -> None:
        product_id, category_id = catalogue["product_id"], catalogue["category_id"]
        product = f"/products/{product_id}"
        reads = [*paths(public, catalogue), "/products?cursor=", "/categories?tree=true", "/products?in_stock=true"]
        sku = body_of(alice.get(product))["sku"]
        whole = {"name": "Whole", "price": "4.00", "category_id": category_id}
        new = {"name": "New", "price": "4.00", "category_id": category_id}

        def place_hold(path: str) -> TestResponse:
            hold = body_of(root.post(f"{product}/holds", {"quantity": 1}))
            return root.post(path.format(**hold))

        writes: list[Callable[[], TestResponse]] = [
            partial(root.patch, product, {"price": "3.00"}),
            partial(root.put, product, whole),
            partial(root.post, f"{product}/stock-movements", {"delta": 5, "reason": "receipt"}),
            partial(root.post, f"{product}/stock-movements", {"delta": -1, "reason": "sale"}),
            partial(place_hold, "/holds/{id}/confirm"),
            partial(root.post, "/products", new),
            partial(root.post, "/products/bulk", {"items": [{"sku": sku, "price": "5.00"}]}),
            partial(root.post, "/products/bulk", {"items": [{"sku": "FRESH-1", **new}]}),
            partial(root.delete, product),
            partial(root.post, f"{product}/restore"),
            partial(root.patch, f"/categories/{category_id}", {"name": "Seats"}),
            partial(root.put, f"/categories/{category_id}", {"name": "Benches", "slug": "benches"}),
            partial(root.post, "/categories", {"name": "Extra", "slug": "extra"}),
        ]
        for write in writes:
            before = [shown(alice.on(public).get(path)) for path in reads]
            assert before == [shown(alice.on(public).get(path)) for path in reads]
            answer = write()
            assert 200 <= answer.status_code < 300, (write, answer.get_data())
            after = [shown(alice.on(public).get(path)) for path in reads]
            assert after == [shown(alice.on(plain).get(path)) for path in reads], write
            assert after != before, write


class TestRights:
    @pytest.fixture
    def secret(self, catalogue: dict[str, int]) -> str:
        """The path of a draft."""
        return f"/products/{catalogue['product_id']}"

    def test_that_are_taken_hold_at_once(self, root: Caller, alice: Caller, bob: Caller, secret: str) -> None:
        assert [alice.get(secret).status_code for _ in range(2)] == [200, 200]

        root.patch(f"/users/{alice.user_id}", {"role": "user"})
        assert alice.get(secret).status_code == 404
        root.patch(f"/users/{bob.user_id}", {"role": "editor"})
        assert bob.get(secret).status_code == 200
        root.patch(f"/users/{bob.user_id}", {"is_active": False})
        assert bob.get(secret).status_code == 401

    def test_of_a_session_end_with_it(self, alice: Caller, secret: str) -> None:
        assert [alice.get(secret).status_code for _ in range(2)] == [200, 200]
        alice.post("/auth/logout")
        assert alice.get(secret).status_code == 401

    def test_of_a_key_end_with_it(self, app: Flask, alice: Caller, secret: str) -> None:
        soon = (clock.now() + timedelta(minutes=1)).isoformat()
        revoked, expiring = (
            key_of(alice, "products:read", "products:write", **more) for more in ({}, {"expires_at": soon})
        )
        assert [Holder(app, key["key"]).get(secret).status_code for key in (revoked, expiring) * 2] == [200] * 4

        assert alice.delete(f"/api-keys/{revoked['id']}").status_code == 204
        assert Holder(app, revoked["key"]).get(secret).status_code == 401
        with time_machine.travel(clock.now() + timedelta(minutes=2), tick=False):
            assert Holder(app, expiring["key"]).get(secret).status_code == 401


class TestWordsOfARelease:
    """What is stored of a product's words is what the release before made of them; the next write makes them anew."""

    @pytest.fixture
    def path(self, app: Flask, make_product: Make) -> str:
        product_id = make_product(name="Chair")["id"]
        with app.app_context(), unit_of_work():
            db.session.execute(text("UPDATE products SET search_text = ' \n \n '"))
        return f"/products/{product_id}"

    def test_are_a_change_of_the_product_by_themselves(self, root: Caller, path: str) -> None:
        assert [body_of(root.get(path))["version"] for _ in range(2)] == [1, 1]

        written = body_of(root.patch(path, {"name": "Chair"}))

        assert body_of(root.get(path))["version"] == written["version"] == 2

    @pytest.mark.parametrize("is_bulk", [False, True], ids=["one", "many"])
    def test_are_found_after_another_change(self, root: Caller, path: str, is_bulk: bool) -> None:
        search = "/products?search=chair&fields=id"
        assert [body_of(root.get(search))["items"] for _ in range(2)] == [[], []]

        if is_bulk:
            root.post("/products/bulk", {"items": [{"sku": body_of(root.get(path))["sku"], "price": "7.77"}]})
        else:
            root.patch(path, {"price": "7.77"})

        assert len(body_of(root.get(search))["items"]) == 1


class TestErrors:
    def test_that_something_is_missing_ends_when_it_appears(
        self, alice: Caller, bob: Caller, root: Caller, make_product: Make
    ) -> None:
        product = make_product(status="draft")
        path = f"/products/{product['id']}"
        for change, status in [
            (partial(alice.patch, path, {"status": "active"}), 200),
            (partial(alice.patch, path, {"status": "archived"}), 404),
            (partial(alice.patch, path, {"status": "active"}), 200),
            (partial(root.delete, path), 404),
            (partial(root.post, f"{path}/restore"), 200),
        ]:
            change()
            assert [bob.get(path).status_code for _ in range(2)] == [status] * 2

    def test_are_not_kept(self, alice: Caller, app: Flask) -> None:
        with app.app_context():
            cache.clear()
        for _ in range(2):
            assert alice.get("/products/999999").status_code == 404
            assert alice.get("/products?page=0").status_code == 422
            assert alice.get("/products?cursor=forged").status_code == 422
            assert alice.get("/categories/999999/products").status_code == 404
            assert Caller(app, "forged").get("/products").status_code == 401
            assert Caller(app).get("/products").status_code == 401
        assert kept_in(app) == 0

    def test_of_the_database_are_not_kept(
        self, alice: Caller, make_product: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_product()

        def fail(*_: Any, **__: Any) -> None:
            raise OperationalError("SELECT", {}, Exception("database is locked"))

        with monkeypatch.context() as broken:
            broken.setattr(facets, "count_facets", fail)
            assert alice.get("/products/facets").status_code == 503

        assert body_of(alice.get("/products/facets"))["total"] == 1


def kept_in(app: Flask) -> int:
    """How many bytes of answers an application keeps."""
    with app.app_context():
        kept: Any = cache.cache
        return int(kept.bytes)


class TestEntityTags:
    def test_spare_the_content_until_it_changes(
        self, public: Flask, anonymous: Caller, alice: Caller, catalogue: dict[str, int]
    ) -> None:
        category = catalogue["category_id"]
        product = body_of(alice.get(f"/products?status=active&category_id={category}"))["items"][0]
        reads = [
            "/products",
            "/products?cursor=",
            "/products?fields=id,version",
            f"/products/{product['id']}",
            "/products/facets?min_price=11",
            f"/categories/{category}/products",
            f"/categories/{category}",
            "/categories",
            "/categories?tree=true",
        ]
        for caller in (alice.on(public), anonymous.on(public)):
            for path in reads:
                first = caller.get(path)
                tag = first.headers["ETag"]
                for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
                    again = caller.get(path, headers={"If-None-Match": sent})
                    assert (again.status_code, again.get_data()) == (304, b""), (path, sent)
                    for name in ("ETag", "Cache-Control", "Vary"):
                        assert again.headers[name] == first.headers[name]
                assert caller.get(path, headers={"If-None-Match": '"other"'}).get_data() == first.get_data()

        # Something else was changed: the content is the same and so is the tag.
        before = {path: alice.get(path).headers["ETag"] for path in reads}
        alice.post("/categories", {"name": "Elsewhere"})
        assert alice.get("/products/facets?min_price=11").headers["ETag"] == before["/products/facets?min_price=11"]
        assert alice.get("/products").headers["ETag"] == before["/products"]
        assert alice.get("/categories").headers["ETag"] != before["/categories"]

        alice.patch(f"/products/{product['id']}", {"price": "12.00"})
        alice.patch(f"/categories/{category}", {"name": "Renamed"})
        for path in reads:
            answer = alice.get(path, headers={"If-None-Match": before[path]})
            assert (answer.status_code, answer.headers["ETag"] != before[path]) == (200, True), path

    def test_are_the_same_again_when_the_content_is(self, alice: Caller, make_product: Make) -> None:
        product = make_product(price="10.00")
        facet = "/products/facets?currency=USD"
        first = alice.get(facet)
        alice.patch(f"/products/{product['id']}", {"price": "70.00"})
        second = alice.get(facet)
        alice.patch(f"/products/{product['id']}", {"price": "10.00"})
        third = alice.get(facet, headers={"If-None-Match": first.headers["ETag"]})

        assert second.headers["ETag"] != first.headers["ETag"]
        assert (third.status_code, third.headers["ETag"]) == (304, first.headers["ETag"])

    def test_differ_where_rights_show_something_else(
        self, alice: Caller, bob: Caller, catalogue: dict[str, int]
    ) -> None:
        assert catalogue
        for path in ("/products", "/products/facets"):
            tag = alice.get(path).headers["ETag"]
            assert bob.get(path, headers={"If-None-Match": tag}).status_code == 200


class TestHowLongOthersMayKeepIt:
    @pytest.mark.parametrize(
        ("settings", "lifetime"),
        [
            ({}, "public, max-age=0"),
            ({"public_cache_max_age": 60}, "public, max-age=60"),
            (
                {"public_cache_max_age": 5, "public_cache_stale_while_revalidate": 30},
                "public, max-age=5, stale-while-revalidate=30",
            ),
        ],
        ids=["default", "a minute", "while it is fetched anew"],
    )
    def test_is_told_of_anonymous_answers_alone(
        self, app_with: AppWith, anonymous: Caller, bob: Caller, settings: Any, lifetime: str
    ) -> None:
        path = "/products"
        app = app_with(catalog_public_read=True, **settings)
        for order in ((anonymous, bob, anonymous), (bob, anonymous, bob)):
            with app.app_context():
                cache.clear()
            for caller in order:
                answer = caller.on(app).get(path)
                assert answer.headers["Cache-Control"] == ("private, no-cache" if caller.token else lifetime)
                assert answer.headers["Vary"] == "Authorization, X-API-Key"
        assert anonymous.on(app).get("/products/999999").headers["Cache-Control"] == "no-store"

    def test_is_told_of_a_reading_key_as_of_any_other_caller(
        self, app_with: AppWith, anonymous: Caller, alice: Caller, make_product: Make
    ) -> None:
        """A key that may only read the catalogue has the rights of somebody anonymous, and so their answers."""
        path = f"/products/{make_product()['id']}"
        app = app_with(catalog_public_read=True, public_cache_max_age=60)
        key = Holder(app, key_of(alice, "products:read", "categories:read")["key"])

        seen = [
            caller.get(path).headers["Cache-Control"] for caller in (anonymous.on(app), key, anonymous.on(app), key)
        ]

        assert seen == ["public, max-age=60", "private, no-cache"] * 2


keys = st.integers(0, 20)
sizes = st.integers(0, 3000)


def sizes_of(answers: Mapping[int, CachedResponse]) -> int:
    """What answers and their keys take."""
    return sum(size_of(key, answer) for key, answer in answers.items())


class TestMemory:
    def test_is_counted_with_what_an_answer_holds(self) -> None:
        content = orjson.dumps([0] * 1000)
        answer = CachedResponse.of(Response(content, headers={"X-Long": "x" * 5000}))

        assert answer.content == content
        assert answer.content is not content
        assert size_of(("/path", b"q" * 3000), answer) > len(content) + 5000 + 3000

    @given(st.integers(0, 20_000), st.lists(st.tuples(keys, st.one_of(st.none(), sizes)), max_size=80))
    def test_is_bounded_and_holds_what_was_used_lately(
        self, most: int, steps: Sequence[tuple[int, int | None]]
    ) -> None:
        kept, model = ResponseCache(most), OrderedDict[int, CachedResponse]()
        for key, size in steps:
            if size is None:
                found = kept.get(key)
                assert found == model.get(key)
                if key in model:
                    model.move_to_end(key)
                continue
            answer = CachedResponse(b"x" * size, ())
            is_small = size_of(key, answer) * MIN_ENTRIES <= most
            assert kept.set(key, answer) is is_small
            if is_small:
                model.pop(key, None)
                model[key] = answer
                while sizes_of(model) > most:
                    model.popitem(last=False)
            assert kept.bytes == sizes_of(model) <= most

        assert {key: kept.get(key) is not None for key in range(21)} == {key: key in model for key in range(21)}

    def test_gives_up_what_was_used_least_lately(self) -> None:
        room, answer = 10, CachedResponse(b"", ())
        kept = ResponseCache(room * size_of(0, answer) + 100)
        for key in range(room):
            kept.set(key, answer)
        kept.get(0)
        kept.set(1, answer)

        for key in range(room, room + 4):
            kept.set(key, answer)

        assert [key for key in range(room + 4) if kept.get(key)] == [0, 1, *range(6, room + 4)]

    def test_is_bounded_while_many_use_it(self) -> None:
        kept = ResponseCache(40_000)

        def work(first: int) -> int:
            most = 0
            for number in range(2000):
                kept.set((first * number) % 97, CachedResponse(b"x" * (number % 3000), ()))
                kept.get(number % 97)
                most = max(most, kept.bytes)
            return most

        with ThreadPoolExecutor(8) as threads:
            most = max(threads.map(work, range(1, 9)))

        # Between a write and its eviction, under the lock, it is one answer more.
        assert most <= 40_000 + size_of(0, CachedResponse(b"x" * 3000, ()))
        assert kept.bytes == sizes_of({key: found for key in range(97) if (found := kept.get(key))}) <= 40_000

    def test_holds_no_answer_that_is_too_large(self, app_with: AppWith, alice: Caller, make_product: Make) -> None:
        make_product(description="x" * 9000)
        app = app_with(answer_cache_bytes=16_000)

        first, again = (alice.on(app).get("/products") for _ in range(2))

        assert first.get_data() == again.get_data()
        assert (queries_of(first), kept_in(app)) == (queries_of(again), 0)

    def test_holds_nothing_where_there_is_none(self, plain: Flask, alice: Caller, make_product: Make) -> None:
        path = f"/products/{make_product()['id']}"

        first, again = (alice.on(plain).get(path) for _ in range(2))

        assert (first.status_code, queries_of(first)) == (200, queries_of(again))
        assert first.headers["ETag"] == again.headers["ETag"]
        assert kept_in(plain) == 0


NOTHING = LogTail(LogPosition(), "")


class Log(Follower):
    """Tells a cache what the test says: the changes of rows, or that anything may have changed."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[LoggedChange] | None = []

    def tell(self, kind: str, row_id: int, members: set[str] | None, **scopes: Sequence[int]) -> None:
        if self.told is not None:
            self.told.append(LoggedChange(0, kind, row_id, None if members is None else frozenset(members), scopes))

    def follow(self, _tail: LogTail) -> list[LoggedChange] | None:
        told, self.told = self.told, []
        return told


class Cache(ResponseCache):
    """A cache with its log; a response is named by its content."""

    def __init__(self, max_bytes: int = 1_000_000) -> None:
        self.log = Log()
        super().__init__(max_bytes, self.log)

    def change(self, *members: str, row: int = 1) -> int:
        """A product's columns change; without one, it comes or goes. The moment of the next request."""
        self.log.tell("product", row, set(members) or None)
        return self.follow(NOTHING)

    def make(self, name: str, *topics: str, moment: int | None = None, key: str = "/") -> bool:
        """Store a response that was made at a moment; whether it is kept."""
        at = self.follow(NOTHING) if moment is None else moment
        return self.set(key, CachedResponse(name.encode(), (), topics, at))

    def found(self, key: str = "/") -> str | None:
        response = self.get(key)
        return response.content.decode() if response else None


class TestAResponse:
    def test_is_valid_until_a_topic_of_its_own_is_raised(self) -> None:
        kept = Cache()
        kept.make("list", "product.price", "product/7")

        kept.change("name")
        kept.change("stock", row=8)
        assert kept.found() == "list"
        kept.change("name", row=7)
        assert kept.found() is None

    def test_is_dropped_when_it_is_met_and_no_longer_valid(self) -> None:
        kept = Cache()
        kept.make("list", "product.price")
        kept.change("price")

        assert kept.bytes > 0
        assert kept.found() is None
        assert kept.bytes == 0

    def test_that_was_made_after_a_change_is_not_touched_by_it(self) -> None:
        kept = Cache()
        moment = kept.change("price")

        assert kept.make("list", "product.price", moment=moment)
        assert kept.found() == "list"

    def test_that_was_being_made_during_a_change_is_not_kept(self) -> None:
        kept = Cache()
        moment = kept.follow(NOTHING)
        kept.change("price")

        assert not kept.make("list", "product.price", moment=moment)
        assert kept.make("other", "product.name", moment=moment, key="/other")

    def test_that_is_older_does_not_replace_a_newer_one(self) -> None:
        kept = Cache()
        early = kept.follow(NOTHING)
        kept.change("name")
        kept.make("new", "product.price")

        assert not kept.make("old", "product.price", moment=early)
        assert kept.found() == "new"

    def test_that_is_older_replaces_a_newer_one_that_is_no_longer_valid(self) -> None:
        kept = Cache()
        early = kept.follow(NOTHING)
        kept.change("name")
        kept.make("new", "product.price")
        kept.change("price")

        assert kept.make("old", "product.stock", moment=early)

    def test_is_forgotten_where_anything_may_have_changed(self) -> None:
        kept = Cache()
        early = kept.follow(NOTHING)
        kept.make("list", "product.price")
        kept.change("name")
        kept.log.told = None
        kept.follow(NOTHING)

        assert (kept.found(), kept.bytes, kept.topic_bytes) == (None, 0, 0)
        assert not kept.make("list", "product.price", moment=early)

    def test_is_waited_for_by_requests_of_its_own_moment_alone(self) -> None:
        kept = Cache()
        early = kept.follow(NOTHING)
        first, makes = kept.begin("/", early)
        assert (makes, kept.begin("/", early)) == (True, (first, False))

        late = kept.change("price")
        second, makes_too = kept.begin("/", late)
        assert makes_too
        assert second is not first

        kept.end("/", early)
        assert kept.begin("/", late) == (second, False)

    def test_takes_the_memory_of_its_topics(self) -> None:
        plain, named = (CachedResponse(b"", (), topics) for topics in ((), ("product/1234567", "x" * 500)))

        assert size_of("/", named) - size_of("/", plain) > 500 + 15


class TestRaisedTopics:
    MOST = 40_000

    def test_take_a_part_of_the_memory_at_most(self) -> None:
        kept = Cache(self.MOST)
        for key in range(1000):
            kept.make("x" * 100, key=str(key))
        for row in range(1000):
            kept.change("price", row=row)
            assert kept.topic_bytes * TOPICS_SHARE <= self.MOST
            assert kept.bytes + kept.topic_bytes <= self.MOST

        assert kept.topic_bytes * TOPICS_SHARE > self.MOST / 2

    def test_that_are_forgotten_are_taken_for_raised(self) -> None:
        kept = Cache(self.MOST)
        kept.make("old", "product/1")
        kept.change("name", row=1)
        for row in range(2, 1000):
            kept.change("price", row=row)

        assert kept.found() is None

    def test_that_are_forgotten_leave_what_was_valid_later(self) -> None:
        kept = Cache(self.MOST)
        kept.make("used", "product/1", key="/used")
        kept.make("unused", "product/1", key="/unused")
        for row in range(2, 1000):
            kept.change("price", row=row)
            assert kept.found("/used") == "used"

        assert kept.found("/unused") is None

    def test_of_more_changes_than_fit_at_once_forget_everything(self) -> None:
        kept = Cache(self.MOST)
        kept.make("list", "brand")
        for row in range(1000):
            kept.log.tell("product", row, {"price"})
        kept.follow(NOTHING)

        assert kept.found() is None


#: What happens: a change of a row's column is committed, a request looks, or begins to make a response, or ends.
steps = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(1, 4), st.sampled_from(["price", "name"])),
        st.tuples(st.just("forget"), st.just(0), st.just("")),
        *(st.tuples(st.just(step), st.integers(0, 3), st.just("")) for step in ("begin", "read", "end", "look")),
    ),
    max_size=60,
)


class TestAnyOrderOfThings:
    @given(steps, st.sampled_from([12_000, 1_000_000]))
    def test_never_shows_what_is_outdated(self, steps: list[tuple[str, int, str]], most: int) -> None:
        """Each response shows how often its topics changed: when it is found, that must be true."""
        kept, changed = Cache(most), dict[str, int]()
        reads = [("product/1", "product.price"), ("product/2",), ("product.name",), ("product", "brand")]
        #: Each request's moment, and what it has read, if it has.
        making: dict[int, tuple[int, str | None]] = {}

        def truth(number: int) -> str:
            return repr([changed.get(topic, 0) for topic in reads[number]])

        for step, number, member in steps:
            if step == "change":
                kept.log.tell("product", number, {member})
                for topic in topics_of_change(LoggedChange(0, "product", number, frozenset({member}), {})):
                    changed[topic] = changed.get(topic, 0) + 1
            elif step == "forget":
                kept.log.told = None
            elif step == "begin":
                making[number] = kept.follow(NOTHING), None
            elif step == "read" and number in making:
                making[number] = making[number][0], truth(number)
            elif step == "end" and number in making:
                moment, content = making.pop(number)
                if content is not None:
                    kept.make(content, *reads[number], moment=moment, key=str(number))
            elif step == "look":
                kept.follow(NOTHING)
                assert kept.found(str(number)) in {None, truth(number)}


@on_one_database
@pytest.mark.parametrize("fast_sql", [True, False], ids=["fast", "plain"])
class TestAChange:
    """What is kept survives a change that does not touch it, and no other."""

    @pytest.fixture
    def shop(
        self, app_with: AppWith, make_product: Make, make_category: Make, make_brand: Make, fast_sql: bool
    ) -> "Shop":
        app = app_with(fast_sql=fast_sql, catalog_public_read=True)
        (kept,) = app.extensions["cache"].values()
        kept._follower = log = Log()
        home, other = make_category(name="Home"), make_category(name="Other")
        brand = make_brand(name="Oakwood")
        chair = make_product(name="Chair", price="5.00", category_id=home["id"], brand_id=brand["id"])
        table = make_product(name="Table", price="9.00", category_id=home["id"])
        lamp = make_product(name="Lamp", price="7.00", category_id=other["id"])
        ids = {"chair": chair, "table": table, "lamp": lamp, "home": home, "other": other, "brand": brand}
        return Shop(app, log, {name: row["id"] for name, row in ids.items()})

    def test_of_a_price_touches_what_shows_it_and_what_it_decides(self, shop: "Shop", root: Caller) -> None:
        touched = shop.touched_by(
            lambda: root.patch(f"/products/{shop.ids['chair']}", {"price": "8.00"}),
            ("product", "chair", {"price"}, {"category_id": ["home"], "brand_id": ["brand"]}),
        )

        # It is shown by neither the detail of another, nor a page that ends before it.
        assert touched == {"chair", "newest", "home", "below home", "cheapest", "cheap at home", "search", "facets"}

    def test_of_a_name_touches_searches_and_orders_by_it(self, shop: "Shop", root: Caller) -> None:
        touched = shop.touched_by(
            lambda: root.patch(f"/products/{shop.ids['lamp']}", {"name": "A chair"}),
            ("product", "lamp", {"name"}, {"category_id": ["other"]}),
        )

        assert touched == {"newest", "newest one", "cheapest", "other", "by name", "search"}

    def test_of_a_category_touches_both_of_them(self, shop: "Shop", root: Caller) -> None:
        touched = shop.touched_by(
            lambda: root.patch(f"/products/{shop.ids['lamp']}", {"category_id": shop.ids["home"]}),
            ("product", "lamp", {"category_id"}, {"category_id": ["other", "home"]}),
        )

        assert {"other", "home", "cheap at home", "below home", "facets"} <= touched
        assert not touched & {"chair", "table", "categories", "tree", "brands"}

    def test_of_a_stock_touches_what_shows_it_alone(self, shop: "Shop", root: Caller) -> None:
        movement = {"delta": 1, "reason": "receipt"}
        touched = shop.touched_by(
            lambda: root.post(f"/products/{shop.ids['table']}/stock-movements", movement),
            ("product", "table", {"stock"}, {"category_id": ["home"]}),
        )

        assert touched == {"table", "with its category", "newest", "by name", "home", "below home", "facets"}

    def test_of_a_whole_row_touches_every_list_of_its_scope(self, shop: "Shop", root: Caller) -> None:
        touched = shop.touched_by(
            lambda: root.delete(f"/products/{shop.ids['chair']}"),
            ("product", "chair", None, {"category_id": ["home"], "brand_id": ["brand"]}),
        )

        lists = {"newest", "newest one", "by name", "cheapest", "search", "facets"}
        assert touched == {"chair", "home", "below home", "cheap at home", *lists}

    def test_of_a_categorys_name_touches_what_has_it(self, shop: "Shop", root: Caller) -> None:
        touched = shop.touched_by(
            lambda: root.patch(f"/categories/{shop.ids['home']}", {"name": "Renamed"}),
            ("category", "home", {"name"}, {}),
        )

        assert touched == {"a category", "categories", "tree", "below home", "facets", "with its category"}

    def test_of_a_brands_website_touches_what_reads_brands(self, shop: "Shop", root: Caller) -> None:
        touched = shop.touched_by(
            lambda: root.patch(f"/brands/{shop.ids['brand']}", {"website": "https://oak.example"}),
            ("brand", "brand", {"website"}, {}),
        )

        assert touched == {"brands", "search"}

    def test_that_is_not_known_touches_everything(self, shop: "Shop") -> None:
        shop.read()
        shop.log.told = None

        assert shop.forgotten() == set(shop.paths)


@dataclass
class Shop:
    """A small catalogue, the reads of it that are kept, and who reads them."""

    app: Flask
    log: Log
    ids: dict[str, int]

    @property
    def paths(self) -> dict[str, str]:
        home, other = self.ids["home"], self.ids["other"]
        return {
            "chair": f"/products/{self.ids['chair']}",
            "table": f"/products/{self.ids['table']}",
            "with its category": f"/products/{self.ids['table']}?include=category",
            "newest": "/products",
            "newest one": "/products?per_page=1&fields=name",
            "by name": "/products?sort_by=name&per_page=1&fields=id,name&order=desc",
            "cheapest": "/products?cursor=&sort_by=price&order=asc&per_page=2",
            "home": f"/products?category_id={home}",
            "other": f"/products?category_id={other}",
            "cheap at home": f"/products?category_id={home}&max_price=6.00",
            "below home": f"/categories/{home}/products",
            "search": "/products?search=chair",
            "facets": "/products/facets",
            "a category": f"/categories/{home}",
            "categories": "/categories",
            "tree": "/categories?tree=true",
            "brands": "/brands",
        }

    def read(self) -> dict[str, TestResponse]:
        return {name: Caller(self.app).get(path) for name, path in self.paths.items()}

    def forgotten(self) -> set[str]:
        """Which of the reads are not answered from the cache."""
        return {name for name, answer in self.read().items() if queries_of(answer) > 1}

    def touched_by(
        self,
        write: Callable[[], TestResponse],
        *changes: tuple[str, str, set[str] | None, Mapping[str, Sequence[str]]],
    ) -> set[str]:
        """Which of the reads a write makes anew; all of them are then as they are without a cache."""
        self.read()
        assert self.forgotten() == set()
        assert write().status_code < 300
        for kind, row, members, scopes in changes:
            named = {name: [self.ids[one] for one in rows] for name, rows in scopes.items()}
            self.log.tell(kind, self.ids[row], members, **named)
        touched = self.forgotten()
        after = self.read()
        with self.app.app_context():
            cache.clear()
        assert {name: shown(one) for name, one in after.items()} == {
            name: shown(one) for name, one in self.read().items()
        }
        return touched


class TestManyAtOnce:
    """Callers that want the same thing while it is being made."""

    MANY = 8

    @pytest.fixture
    def slow(self, monkeypatch: pytest.MonkeyPatch, make_product: Make) -> "Slow":
        """Facets that take until they are let go."""
        make_product()
        slow = Slow(facets.count_facets)
        monkeypatch.setattr(facets, "count_facets", slow)
        return slow

    @pytest.fixture
    def alice(self, alice: Caller, app_with: AppWith) -> Caller:
        """An editor at an application with as many threads, and so with connections enough for them."""
        return alice.on(app_with(web_threads=self.MANY))

    def test_cost_what_one_costs(self, alice: Caller, slow: "Slow") -> None:
        with ThreadPoolExecutor(self.MANY) as threads:
            asking = [threads.submit(alice.get, "/products/facets") for _ in range(self.MANY)]
            slow.let_go(alice.app, waiting=self.MANY - 1)
            answers = [one.result() for one in asking]

        assert slow.calls == 1
        assert {answer.get_data() for answer in answers} == {alice.get("/products/facets").get_data()}
        assert sorted(map(queries_of, answers)) == [1] * (self.MANY - 1) + [3]

    def test_survive_the_failure_of_the_first(self, alice: Caller, slow: "Slow") -> None:
        slow.fails_first = True
        with ThreadPoolExecutor(self.MANY) as threads:
            asking = [threads.submit(alice.get, "/products/facets") for _ in range(self.MANY)]
            slow.let_go(alice.app, waiting=self.MANY - 1)
            statuses = [one.result().status_code for one in asking]

        assert sorted(statuses) == [200] * (self.MANY - 1) + [503]
        assert not making_at(alice.app)

    def test_do_not_wait_for_each_other_with_other_rights(self, alice: Caller, bob: Caller, slow: "Slow") -> None:
        with ThreadPoolExecutor(1) as threads:
            asking = threads.submit(alice.get, "/products/facets")
            assert slow.began.wait(30)
            # Alice's is being made, and stays so.
            assert bob.on(alice.app).get("/products/facets").status_code == 200
            assert not asking.done()
            slow.may_go.set()
            assert asking.result().status_code == 200

        assert slow.calls == 2

    def test_do_not_share_what_the_log_does_not_tell_of(
        self, alice: Caller, slow: "Slow", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def count_users(*_: Any, **__: Any) -> Any:
            run(select(User.id)).all()
            return slow(*_, **__)

        monkeypatch.setattr(facets, "count_facets", count_users)
        with ThreadPoolExecutor(self.MANY) as threads:
            asking = [threads.submit(alice.get, "/products/facets") for _ in range(self.MANY)]
            slow.let_go(alice.app, waiting=self.MANY - 1)
            statuses = {one.result().status_code for one in asking}

        assert statuses == {200}
        assert slow.calls == self.MANY
        assert kept_in(alice.app) == 0

    def test_do_not_wait_for_what_was_asked_before_a_write(self, alice: Caller, slow: "Slow") -> None:
        with ThreadPoolExecutor(1) as threads:
            asking = threads.submit(alice.get, "/products/facets")
            assert slow.began.wait(30)
            # SQLite's one writer is nobody who reads.
            alice.post("/categories", {"name": "A change"})
            assert alice.get("/products/facets").status_code == 200
            assert not asking.done()
            slow.may_go.set()
            asking.result()

        assert slow.calls == 2


class Slow:
    """A use case whose first call waits until it may go on, and then fails if it is to."""

    def __init__(self, perform: Callable[..., Any]) -> None:
        self.perform = perform
        self.calls = 0
        self.fails_first = False
        self.began, self.may_go = threading.Event(), threading.Event()

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            self.began.set()
            assert self.may_go.wait(30)
            if self.fails_first:
                raise OperationalError("SELECT", {}, Exception("canceling statement due to statement timeout"))
        return self.perform(*args, **options)

    def let_go(self, app: Flask, waiting: int) -> None:
        """Let the first go on once so many others wait for it."""
        assert self.began.wait(30)
        wait_for(lambda: waiting_at(app) >= waiting)
        self.may_go.set()


def making_at(app: Flask) -> dict[Any, Any]:
    """What becomes of the answers that are being made."""
    (kept,) = app.extensions["cache"].values()
    making: dict[Any, Any] = kept._in_flight
    return making


def waiting_at(app: Flask) -> int:
    """How many threads wait for an answer that another makes."""
    conditions: list[Any] = [one._condition for one in making_at(app).values()]
    return sum(len(condition._waiters) for condition in conditions)
