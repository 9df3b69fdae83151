"""Which of two faults a request is refused for: 401, 403, 400/415, 422 query, 404, 428, 412, 422 body, 409."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.conftest import Caller, code_of

Make = Callable[..., dict[str, Any]]
Send = Callable[..., TestResponse]

#: The faults in the order of the contract, and the code that each is refused with.
FAULTS = {
    "no credentials": (401, "credentials_missing"),
    "no right": (403, "permission_denied"),
    "wrong media type": (415, "unsupported_media_type"),
    "broken json": (400, "json_malformed"),
    "broken if-match": (400, "entity_tag_malformed"),
    "unknown parameter": (422, "invalid"),
    "absent": (404, "not_found"),
    "no if-match": (428, "precondition_required"),
    "stale if-match": (412, "precondition_failed"),
    "bad member": (422, "invalid"),
    "sku taken": (409, "sku_taken"),
}
#: Faults that one request cannot have at the same time.
EXCLUSIVE = [
    {"no credentials", "no right"},
    {"wrong media type", "broken json"},
    {"broken json", "bad member"},
    {"broken json", "sku taken"},
    {"broken if-match", "no if-match"},
    {"broken if-match", "stale if-match"},
    {"no if-match", "stale if-match"},
]
PAIRS = [pair for pair in combinations(FAULTS, 2) if set(pair) not in EXCLUSIVE]


@pytest.fixture
def send(anonymous: Caller, alice: Caller, bob: Caller, make_product: Make) -> Callable[[str, set[str]], TestResponse]:
    """Change a product by a request with these faults and no others."""
    taken, product = make_product(sku="A-1"), make_product()

    def send(method: str, faults: set[str]) -> TestResponse:
        caller = anonymous if "no credentials" in faults else bob if "no right" in faults else alice
        path = f"/products/{2**40 if 'absent' in faults else product['id']}"
        path += "?surprise=1" if "unknown parameter" in faults else ""
        headers = {"Content-Type": "text/plain" if "wrong media type" in faults else "application/json"}
        if "no if-match" not in faults:
            tags = "1" if "broken if-match" in faults else '"7"' if "stale if-match" in faults else '"1"'
            headers["If-Match"] = tags
        name = '""' if "bad member" in faults else '"Oak chair"'
        sku = taken["sku"] if "sku taken" in faults else "A-2"
        body = f'{{"name": {name}, "sku": "{sku}", "price": "1.00", "category_id": {product["category_id"]}}}'
        if "broken json" in faults:
            body = body[:-1]
        return caller.call(method, path, data=body.encode(), headers=headers)

    return send


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
class TestOneFault:
    def test_is_none(self, send: Send, method: str) -> None:
        assert send(method, set()).status_code == 200

    @pytest.mark.parametrize("fault", FAULTS)
    def test_is_answered(self, send: Send, method: str, fault: str) -> None:
        answer = send(method, {fault})

        assert (answer.status_code, code_of(answer)) == FAULTS[fault]


class TestTwoFaults:
    @pytest.mark.parametrize(("earlier", "later"), PAIRS)
    def test_the_earlier_one_is_answered(self, send: Send, earlier: str, later: str) -> None:
        answer = send("PATCH", {earlier, later})

        assert (answer.status_code, code_of(answer)) == FAULTS[earlier]

    def test_everything_at_once_is_401(self, send: Send) -> None:
        faults = set(FAULTS) - {"no right", "wrong media type", "broken if-match", "no if-match"}

        assert send("PATCH", faults).status_code == 401


class TestDelete:
    @pytest.mark.parametrize(
        ("path", "headers", "status"),
        [
            ("/products/{absent}?surprise=1", {}, 422),
            ("/products/{absent}", {}, 404),
            ("/products/{absent}", {"If-Match": "1"}, 400),
            ("/products/{absent}", {"If-Match": '"7"'}, 404),
            ("/products/{present}", {}, 428),
            ("/products/{present}", {"If-Match": '"7"'}, 412),
            ("/products/{present}?surprise=1", {"If-Match": '"7"'}, 422),
        ],
    )
    def test_is_refused_in_the_same_order(
        self, root: Caller, make_product: Make, path: str, headers: dict[str, str], status: int
    ) -> None:
        where = path.format(absent=2**40, present=make_product()["id"])

        assert root.call("DELETE", where, headers=headers).status_code == status


class TestCreate:
    @pytest.mark.parametrize(
        ("members", "status"),
        [({"sku": "A-1", "name": ""}, 422), ({"sku": "A-1", "category_id": 2**40}, 422), ({"sku": "A-1"}, 409)],
        ids=["bad member", "unknown category", "neither"],
    )
    def test_values_come_before_conflicts(
        self, alice: Caller, make_product: Make, members: dict[str, Any], status: int
    ) -> None:
        category_id = make_product(sku="A-1")["category_id"]

        answer = alice.post("/products", {"name": "Oak", "price": "1.00", "category_id": category_id, **members})

        assert answer.status_code == status

    def test_the_query_comes_before_the_body(self, alice: Caller) -> None:
        answer = alice.post("/products?surprise=1", {})

        assert [fault["parameter"] for fault in answer.get_json()["errors"]] == ["surprise"]
