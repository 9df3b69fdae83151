"""Whether the servers agree: the same status and the same body for the same request, before anything is measured."""

import difflib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import requests

from benchmarks.scenarios import Subject
from benchmarks.servers import Running

_PRODUCTS = "/api/v1/products"
#: A problem's sentence, and what names the one request, is each server's own.
_COMPARED_OF_PROBLEM = ("title", "status", "code")
_RANDOM = re.compile(r"-[0-9a-f]{8}$")
_VOLATILE = ("id", "product_id", "created_at", "updated_at")
#: What makes a new product invalid.
_FAULTS: tuple[dict[str, Any], ...] = (
    {"price": "-1"},
    {"price": "1.234"},
    {"compare_at_price": "1.234"},
    {"name": ""},
    {"stock": -1},
    {"slug": "Chair"},
    {"gtin": "4006381333932"},
    {"low_stock_at": -1},
    {"weight_g": -1},
    {"brand_id": "oakworks"},
)
#: The slug of the name that all have, but for the server's.
_SLUG = "chair-by-@"
#: What is created after a first product: it is there already, is faulty, or has a key or the name of another.
_CREATIONS: tuple[dict[str, Any], ...] = (
    {},
    {"sku": "AGREE-@-1"},
    *_FAULTS,
    {"sku": "AGREE-@-1", "external_id": None, "category_id": 10**12},
    {"sku": "AGREE-@-1", "external_id": None, "brand_id": 10**12},
    {"sku": "AGREE-@-1", "external_id": None, "slug": _SLUG},
    {"sku": "AGREE-@-1", "external_id": None},
)
_MOVEMENTS: tuple[dict[str, Any], ...] = (
    {"delta": 3, "reason": "receipt"},
    {"delta": -2, "reason": "sale", "reference": "order-1"},
    {"delta": 2, "reason": "sale"},
    {"delta": -1000, "reason": "sale"},
)
#: The members that a new product may leave out.
_WHOLE: dict[str, Any] = {
    "sku": "AGREE-@-5",
    "external_id": "agree-@-5",
    "slug": "whole-@",
    "mpn": "FC-42/B",
    "compare_at_price": "159",
    "stock": 0,
    "track_stock": False,
    "low_stock_at": 3,
    "weight_g": 6400,
}


@dataclass(frozen=True)
class Question:
    """A request whose answers are compared."""

    name: str
    path: str
    token: str | None
    body: dict[str, Any] | None = None
    #: Whether only those are asked that answer what a shop asks.
    is_for_shops: bool = False


def questions(subject: Subject) -> Iterator[Question]:
    """Lists with filters, sorts and pages, details, what a shop asks, and refusals."""
    first, second = subject.categories[0], subject.categories[1]
    token, products = subject.tokens[0], subject.products
    head, _, signature = token.rpartition(".")
    forged = f"{head}.{signature[::-1]}"
    lists = (
        # We stop counting at ten thousand, and say so; so each of these finds less.
        f"?category_id={first}",
        f"?category_id={first}&page=3",
        f"?category_id={second}&per_page=100&sort_by=id&order=asc",
        f"?category_id={first}&sort_by=price&order=asc",
        f"?category_id={second}&sort_by=price&order=asc&page=2",
        f"?category_id={first}&per_page=7&page=4&sort_by=name&order=desc",
        f"?category_id={second}&min_price=100&max_price=250.50&sort_by=stock&order=desc",
        f"?category_id={first}&in_stock=false&sort_by=updated_at",
        "?status=draft",
        f"?category_id={first}&in_stock=true&min_price=10.00&sort_by=sku&order=asc&page=2",
        f"?category_id={first}&page=100000",
    )
    for query in lists:
        yield Question(f"list {query}", f"{_PRODUCTS}{query}", token)
    for product in products[:3]:
        yield Question("detail", f"{_PRODUCTS}/{product}", token)
    yield Question("detail of nothing", f"{_PRODUCTS}/999999999999", token)
    for query in ("?per_page=101", "?page=0", "?sort_by=colour", "?order=up", "?category_id=x", "?colour=red"):
        yield Question(f"bad list {query}", f"{_PRODUCTS}{query}", token)
    asked = (
        *(subject.category(number) for number in range(7)),
        *(subject.search(number) for number in range(7)),
        *(subject.search_in_vain(number) for number in range(3) if subject.forgives_typos),
        *(subject.facets(number) for number in range(3)),
    )
    for request in asked:
        yield Question(request.path, request.path, token, is_for_shops=True)
    yield Question("tree of nothing", "/api/v1/categories/999999999/products", token, is_for_shops=True)
    drafts = f"{_PRODUCTS}/facets?status=draft&search={subject.words[0][0]}"
    yield Question("facets of drafts", drafts, token, is_for_shops=True)
    for query in (
        "",
        f"?category_id={first}",
        f"?category_id={first}&in_stock=true&status=active&min_price=20&max_price=199.99&currency=USD",
        f"?category_id={second}&max_price=150&currency=USD",
        f"?category_id={second}&min_price=150&in_stock=false",
        "?category_id=999999999&currency=EUR&min_price=1&max_price=100",
    ):
        yield Question(f"facets {query}", f"{_PRODUCTS}/facets{query}", token, is_for_shops=True)
    yield Question("list without a token", _PRODUCTS, None)
    yield Question("list with a forged token", _PRODUCTS, forged)
    yield Question("detail with a forged token", f"{_PRODUCTS}/{products[0]}", forged)


def require_agreement(ours: Running, peers: Sequence[Running], asked: Sequence[Question]) -> None:
    """Exit with the differences if a peer answers anything otherwise than this application does."""
    for question in asked:
        expected = _ask(ours, question)
        for peer in peers:
            if peer.server.is_shop or not question.is_for_shops:
                _compare(peer.server.name, question.name, expected, _ask(peer, question))


def require_agreement_on_writes(ours: Running, peers: Sequence[Running], subject: Subject) -> None:
    """The same for creating products, whose keys have the server's name in them, and for moving their stock."""
    writers = _Writers([ours, *peers], subject)
    made = writers.create()
    for changed in _CREATIONS:
        writers.create(**changed)
    for running, product_id in made:
        _rename(ours, writers.token, product_id, slug=f"renamed-{_label(running)}")
    writers.create(sku="AGREE-@-2", external_id=None, slug=_SLUG)
    writers.create(sku="AGREE-@-2", external_id=None)
    # The slug of its name and the one with its sku are both taken, so it gets random digits.
    writers.create(sku="AGREE-@-3", external_id=None, slug=f"{_SLUG}-agree-@-4")
    writers.create(sku="AGREE-@-4", external_id=None)
    for movement in _MOVEMENTS:
        writers.ask_of(made, "/stock-movements", movement)
    writers.ask_of(made)
    brand = _make_brand(ours, writers.token)
    untracked = writers.create(**_WHOLE, brand_id=brand)
    writers.ask_of(untracked, "/stock-movements", _MOVEMENTS[0])
    writers.ask_of(untracked)
    # The products of each with the brand; then a category with none of it, and the brand beside a price.
    for query in (
        f"?category_id={subject.category_of_new}",
        f"?brand_id={brand}",
        f"?category_id={subject.categories[0]}&brand_id={brand}",
        f"?brand_id={brand}&max_price=200&currency=EUR",
        "?brand_id=999999999",
    ):
        facets = Question(f"facets {query}", f"{_PRODUCTS}/facets{query}", writers.token, is_for_shops=True)
        require_agreement(ours, peers, [facets])


class _Writers:
    """The servers, this application first, that must do alike what they are all asked to do."""

    def __init__(self, everyone: Sequence[Running], subject: Subject) -> None:
        self.token = subject.tokens[0]
        self._everyone = everyone
        self._new = {**subject.new_product, "name": "Chair by @", "sku": "AGREE-@", "external_id": "agree-@"}

    def create(self, **changed: Any) -> list[tuple[Running, int]]:
        """Create a product with each, and give its id if there is one."""
        question = Question(f"create {changed}", _PRODUCTS, self.token, {**self._new, **changed})
        answers = self._compare([(each, question) for each in self._everyone])
        return [(each, body["id"]) for each, (status, body) in answers if status == 201]

    def ask_of(
        self, products: Sequence[tuple[Running, int]], path: str = "", body: dict[str, Any] | None = None
    ) -> None:
        """Ask those that answer what a shop asks, each of its own product."""
        self._compare(
            [
                (each, Question(f"product{path} {body}", f"{_PRODUCTS}/{product_id}{path}", self.token, body))
                for each, product_id in products
                if each.server.ours or each.server.is_shop
            ]
        )

    def _compare(self, asked: Sequence[tuple[Running, Question]]) -> list[tuple[Running, tuple[int, Any]]]:
        answers = [(each, _ask_as(each, question)) for each, question in asked]
        _, (expected_status, expected) = answers[0]
        for (each, question), (_, (status, body)) in zip(asked, answers, strict=True):
            _compare(each.server.name, question.name, (expected_status, _lasting(expected)), (status, _lasting(body)))
        return answers


def _rename(ours: Running, token: str, product_id: int, *, slug: str) -> None:
    """Give a product another slug, so that the one of its name becomes a former one."""
    headers = {"Authorization": f"Bearer {token}", "If-Match": "*"}
    where = f"{ours.url}{_PRODUCTS}/{product_id}"
    requests.patch(where, headers=headers, json={"slug": slug}, timeout=30).raise_for_status()


def _make_brand(ours: Running, token: str) -> int:
    """A brand that no generated product has."""
    headers = {"Authorization": f"Bearer {token}"}
    made = requests.post(f"{ours.url}/api/v1/brands", headers=headers, json={"name": "Oakworks"}, timeout=30)
    made.raise_for_status()
    return int(made.json()["id"])


def _label(running: Running) -> str:
    """The server's name as keys have it."""
    return running.server.name.replace("_", "-")


def _ask_as(running: Running, question: Question) -> tuple[int, Any]:
    """Ask with the server's name for each @, and put the @ back into the answer."""
    label = _label(running)
    body = question.body and json.loads(json.dumps(question.body).replace("@", label))
    status, answer = _ask(running, replace(question, body=body))
    return status, json.loads(json.dumps(answer).replace(label, "@"))


def _lasting(answer: Any) -> Any:
    """An answer without what is each row's own."""
    if not isinstance(answer, dict):
        return answer
    members = {name: value for name, value in answer.items() if name not in _VOLATILE}
    return members | {"slug": _RANDOM.sub("-", members["slug"])} if "slug" in members else members


def _ask(running: Running, question: Question) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {question.token}"} if question.token else {}
    method = "GET" if question.body is None else "POST"
    answer = requests.request(method, running.url + question.path, headers=headers, json=question.body, timeout=30)
    try:
        body = answer.json()
    except requests.JSONDecodeError:
        body = answer.text
    if answer.status_code == 422:
        # Where several faults are, which comes first is each server's own.
        return 422, None
    if answer.status_code >= 400 and isinstance(body, dict):
        body = {name: body.get(name) for name in _COMPARED_OF_PROBLEM}
    return answer.status_code, body


def _compare(peer: str, question: str, expected: tuple[int, Any], answered: tuple[int, Any]) -> None:
    if expected == answered:
        return
    ours, theirs = (json.dumps(each, indent=1, sort_keys=True).splitlines() for each in (expected, answered))
    difference = list(difflib.unified_diff(ours, theirs, "this application", peer, lineterm="", n=1))
    sys.exit("\n".join([f"{peer} answers otherwise to: {question}", *difference[:60]]))
