"""Whether the servers agree: the same status and the same body for the same request, before anything is measured."""

import difflib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from benchmarks.scenarios import Subject
from benchmarks.servers import Running

_PRODUCTS = "/api/v1/products"
#: A problem's sentence, and what names the one request, is each server's own.
_COMPARED_OF_PROBLEM = ("title", "status", "code")
_VOLATILE_OF_CREATED = ("id", "created_at", "updated_at")
_VOLATILE_OF_MOVED = ("id", "product_id", "created_at")


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
    """The same for creating, each a product that but for the sku is the same, and for moving its stock."""
    token, body = subject.tokens[0], subject.new_product
    moved = (
        {"delta": 3, "reason": "receipt"},
        {"delta": -2, "reason": "sale", "reference": "order-1"},
        {"delta": 2, "reason": "sale"},
        {"delta": -1000, "reason": "sale"},
    )

    def created(running: Running, changed: dict[str, Any]) -> tuple[int, Any]:
        sku = f"AGREE-{running.server.name.upper()}"
        status, answer = _ask(running, Question("create", _PRODUCTS, token, {**body, "sku": sku, **changed}))
        if status == 201:
            made[running.server.name] = answer["id"]
            answer = {name: value for name, value in answer.items() if name not in (*_VOLATILE_OF_CREATED, "sku")}
        return status, answer

    def moves(running: Running, body: dict[str, Any]) -> tuple[int, Any]:
        path = f"{_PRODUCTS}/{made[running.server.name]}/stock-movements"
        status, answer = _ask(running, Question("movement", path, token, body))
        if status == 201:
            answer = {name: value for name, value in answer.items() if name not in _VOLATILE_OF_MOVED}
        return status, answer

    made: dict[str, int] = {}
    nowhere = {"sku": "AGREE-NOWHERE", "category_id": 10**12}
    for changed in ({}, {}, {"price": "-1"}, {"price": "1.234"}, {"name": ""}, {"stock": -1}, nowhere):
        expected = created(ours, changed)
        for peer in peers:
            _compare(peer.server.name, f"create {changed}", expected, created(peer, changed))
    for movement in moved:
        expected = moves(ours, movement)
        for peer in peers:
            if peer.server.is_shop:
                _compare(peer.server.name, f"movement {movement}", expected, moves(peer, movement))


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
