"""What is measured: the loads, and which servers take turns at them."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import requests

from benchmarks.catalogue import EMAIL, PASSWORD, Catalogue
from benchmarks.load import Load
from benchmarks.servers import FASTAPI, HELLO, NAIVE, OURS, Running

PRODUCTS = "/api/v1/products"
_LISTED = "sort_by=price&order=asc"
DEEP_PAGE, _PER_PAGE = 4000, 20
#: A product that is created over and over, each time under another sku.
NEW_PRODUCT: dict[str, object] = {
    "name": "Folding chair of beech, oiled",
    "description": "A chair that folds flat and hangs on the wall, of solid beech from the region.",
    "price": "129.90",
    "currency": "EUR",
    "stock": 12,
    "status": "active",
    "tags": ["chair", "beech", "folding"],
    "attributes": {"width_cm": 45, "colour": "natural", "foldable": True},
    "external_id": "erp-7781",
}


@dataclass(frozen=True)
class Contestant:
    """A load of a server, and what it is called among the results."""

    label: str
    server: Running
    load: Load


@dataclass(frozen=True)
class Scenario:
    """Contestants that take turns."""

    name: str
    contestants: Sequence[Contestant]


@dataclass(frozen=True)
class Subject:
    """What there is to ask for, and with which token."""

    token: str
    categories: Sequence[int]
    products: Sequence[int]

    @property
    def lists(self) -> list[str]:
        """The first five pages of each category, in any order."""
        paths = [f"{PRODUCTS}?category_id={c}&{_LISTED}&page={page}" for c in self.categories for page in range(1, 6)]
        random.Random(2).shuffle(paths)  # noqa: S311 -- the same order each time
        return paths

    @property
    def details(self) -> list[str]:
        """Products all over the table, in any order."""
        return [f"{PRODUCTS}/{product}" for product in self.products]

    @property
    def new_product(self) -> dict[str, object]:
        """The body that creates a product, but for its sku."""
        return {**NEW_PRODUCT, "category_id": self.categories[-1]}


def choose(made: Catalogue, token: str) -> Subject:
    """Categories of at least five pages, and one product in a hundred."""
    categories = made.rows("SELECT category_id FROM products GROUP BY 1 HAVING count(*) >= 100 ORDER BY 1")
    products = [number for (number,) in made.rows("SELECT id FROM products WHERE id % 97 = 0 ORDER BY id")]
    random.Random(1).shuffle(products)  # noqa: S311 -- the same order each time
    return Subject(token, [number for (number,) in categories], products)


def equal_work(subject: Subject, servers: Sequence[Running]) -> Iterator[Scenario]:
    """Each server computes the same answers."""
    created = json.dumps({**subject.new_product, "sku": "BENCH-@"})
    loads = (
        Load("list", subject.lists, subject.token),
        Load("detail", subject.details, subject.token),
        Load("create", [PRODUCTS], subject.token, body=created),
    )
    for load in loads:
        yield Scenario(load.name, [Contestant(each.server.name, each, load) for each in servers])


def repeated(subject: Subject, hello: Running, ours: Running) -> Scenario:
    """What was asked before, beside a server that computes nothing. What has no ETag is left out."""
    one_list, one_product = subject.lists[0], subject.details[0]
    contestants = [
        Contestant(HELLO.name, hello, Load("hello", ["/"])),
        Contestant("repeated list", ours, Load("repeated list", [one_list], subject.token)),
    ]
    for label, path in (("304 list", one_list), ("304 product", one_product)):
        if tag := _unchanging_tag(ours, subject.token, path):
            load = Load(label, [path], subject.token, if_none_match=tag, most_bytes=1000)
            contestants.append(Contestant(label, ours, load))
    return Scenario("repeated", contestants)


def keyset(subject: Subject, ours: Running) -> Scenario:
    """The first page of a walk by cursors and a deep one, whose cursor is found by walking there in larger steps."""

    def path(cursor: str, per_page: int) -> str:
        return f"{PRODUCTS}?{_LISTED}&per_page={per_page}&cursor={cursor}"

    cursor, left = "", (DEEP_PAGE - 1) * _PER_PAGE
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {subject.token}"
        while left:
            step = min(left, 100)
            cursor = session.get(ours.url + path(cursor, step), timeout=30).json()["meta"]["next_cursor"]
            left -= step
    pages = {"page 1": path("", _PER_PAGE), f"page {DEEP_PAGE}": path(cursor, _PER_PAGE)}
    return Scenario(
        "keyset", [Contestant(name, ours, Load(name, [page], subject.token)) for name, page in pages.items()]
    )


def logins(servers: Sequence[Running]) -> Scenario:
    """Logins with hashes of the same cost, where they are implemented; we turn some away when busy."""
    credentials = json.dumps({"email": EMAIL, "password": PASSWORD}).replace("@", r"\u0040")
    load = Load("login", ["/api/v1/auth/login"], body=credentials, may_be_busy=True)
    able = (OURS.name, NAIVE.name, FASTAPI.name)
    return Scenario("login", [Contestant(s.server.name, s, load) for s in servers if s.server.name in able])


def _unchanging_tag(ours: Running, token: str, path: str) -> str | None:
    """The entity tag of a resource, when asking again with it is answered with 304."""
    headers = {"Authorization": f"Bearer {token}"}
    tag = requests.get(ours.url + path, headers=headers, timeout=30).headers.get("ETag")
    if tag is None:
        return None
    again = requests.get(ours.url + path, headers={**headers, "If-None-Match": tag}, timeout=30)
    return tag if again.status_code == 304 else None
