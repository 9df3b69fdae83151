"""What is measured: the loads, and which servers take turns at them.

At equal work no request is asked twice: what a server remembers of tokens, of query strings or of answers never helps
it. The scenario `repeated` is the other half of the truth, and says so.
"""

import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import requests

from benchmarks.catalogue import EMAIL, PASSWORD, Catalogue
from benchmarks.load import Load, Request
from benchmarks.servers import FASTAPI, HELLO, NAIVE, OURS, Running

PRODUCTS = "/api/v1/products"
_LISTED = "sort_by=price&order=asc"
DEEP_PAGE, _PER_PAGE = 4000, 20
#: We stop counting there, and the peers do not: what is asked for is fewer.
_MOST_COUNTED = 9_900
#: A product that is created over and over, each time with other keys: its sku and external id are stated, and its slug,
#: because another has that of its name, is made of both.
NEW_PRODUCT: dict[str, object] = {
    "name": "Folding chair of beech, oiled",
    "description": "A chair that folds flat and hangs on the wall, of solid beech from the region.",
    "price": "129.90",
    "currency": "EUR",
    "stock": 12,
    "status": "active",
    "tags": ["chair", "beech", "folding"],
    "attributes": {"width_cm": 45, "colour": "natural", "foldable": True},
}
_CONSONANTS = str.maketrans("0123456789abcdef", "bcdfghjklmnpqrst")


@dataclass(frozen=True)
class Contestant:
    """A load of a server, and what it is called among the results."""

    label: str
    server: Running
    load: Load


@dataclass(frozen=True)
class Scenario:
    """Contestants that take turns; ``durable`` where each commit waits for the disk."""

    name: str
    contestants: Sequence[Contestant]
    durable: bool = False


@dataclass(frozen=True)
class Subject:
    """What there is to ask for. Each request is made of a number, and another number makes another request."""

    tokens: Sequence[str]
    #: With at least five pages, and none of them with what is created meanwhile.
    categories: Sequence[int]
    #: Of which each has others below it, where these have few enough products to be counted.
    trees: Sequence[int]
    products: Sequence[int]
    #: The products that can be sold for a while.
    stocked: Sequence[int]
    #: Pairs of words that are together in some products' names.
    words: Sequence[tuple[str, str]]
    category_of_new: int
    #: Whether the database has pg_trgm, without which a search in vain is over at once.
    forgives_typos: bool

    def list(self, number: int) -> Request:
        """One of the first five pages of a category."""
        return Request(f"{PRODUCTS}?category_id={self._category(number)}&{self._page(number, self.categories)}")

    def detail(self, number: int) -> Request:
        """A product anywhere in the table."""
        return Request(f"{PRODUCTS}/{self.products[number % len(self.products)]}")

    def category(self, number: int) -> Request:
        """One of the first five pages of a category and of everything below it."""
        tree = self.trees[number % len(self.trees)]
        return Request(f"/api/v1/categories/{tree}/products?{self._page(number, self.trees)}")

    def search(self, number: int) -> Request:
        """The newest products with two words in their names."""
        first, second = self.words[number % len(self.words)]
        return Request(f"{PRODUCTS}?search={first}+{second}&min_price={_cents(number // len(self.words))}")

    def search_in_vain(self, number: int) -> Request:
        """A word that no product has, nor one like it."""
        return Request(f"{PRODUCTS}?search={nonsense(number)}")

    def facets(self, number: int) -> Request:
        """The facets of a category."""
        least = _cents(number // len(self.categories))
        return Request(f"{PRODUCTS}/facets?category_id={self._category(number)}&min_price={least}&currency=USD")

    def create(self, _number: int) -> Request:
        """A new product."""
        return Request(PRODUCTS, json.dumps({**self.new_product, "sku": "BENCH-@", "external_id": "erp-@"}))

    def movement(self, number: int) -> Request:
        """A product comes in, and the next time one of it goes out."""
        product = self.stocked[number // 2 % len(self.stocked)]
        moved = {"delta": -1, "reason": "sale"} if number % 2 else {"delta": 1, "reason": "receipt"}
        return Request(f"{PRODUCTS}/{product}/stock-movements", json.dumps({**moved, "reference": "order-@"}))

    def mix(self, number: int) -> Request:
        """Of twenty requests ten are details, five lists, two of a category, two searches, and one writes."""
        place, turn = number % 20, number // 20
        if place == 19:
            return (self.movement if turn % 2 else self.create)(turn // 2)
        made = (self.detail, self.list, self.detail, self.category, self.detail, self.list, self.detail, self.search)
        return made[place % 8](number) if place < 16 else (self.detail, self.list, self.detail)[place - 16](number)

    @property
    def new_product(self) -> dict[str, object]:
        """The body that creates a product, but for its keys."""
        return {**NEW_PRODUCT, "category_id": self.category_of_new}

    def _category(self, number: int) -> int:
        return self.categories[number % len(self.categories)]

    @staticmethod
    def _page(number: int, among: Sequence[int]) -> str:
        turn = number // len(among)
        return f"{_LISTED}&page={turn % 5 + 1}&min_price={_cents(turn // 5)}"


def nonsense(number: int) -> str:
    """A word that nothing is like, another for each number."""
    # A multiplication by an odd number modulo a power of two gives each number another.
    return f"{(number + 1) * 0x9E3779B97F4A7C15 % 2**64:016x}".translate(_CONSONANTS)


def choose(made: Catalogue) -> Subject:
    """The categories and trees that can be asked for at equal work, and everything else in an order of its own."""
    counts = dict(made.rows("SELECT category_id, count(*) FROM products GROUP BY 1"))
    parents = dict(made.rows("SELECT id, parent_id FROM categories"))
    leaves = sorted(category for category, count in counts.items() if 100 <= count <= _MOST_COUNTED)
    category_of_new = leaves.pop()
    below: Counter[int] = Counter()
    for category, count in counts.items():
        below.update(dict.fromkeys(_above(category, parents), count))
    for growing in _above(category_of_new, parents):
        del below[growing]
    trees = [tree for tree, count in sorted(below.items()) if 100 <= count <= _MOST_COUNTED]
    products = made.rows("SELECT id, name, stock FROM products ORDER BY id")
    random.Random(1).shuffle(products)  # noqa: S311 -- the same order each time
    found = (re.findall(r"[a-z]{3,}", name.lower())[:2] for _, name, _ in products[:2000])
    words = dict.fromkeys((pair[0], pair[1]) for pair in found if len(pair) == 2)
    return Subject(
        tokens=made.tokens,
        categories=leaves,
        # In a large catalogue every root has more than we count; then a leaf stands for itself and what is below it.
        trees=trees or leaves,
        products=[product for product, _, _ in products],
        stocked=[product for product, _, stock in products if stock >= 10],
        words=list(words),
        category_of_new=category_of_new,
        forgives_typos=made.rows("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'") != [],
    )


def equal_work(subject: Subject, ours: Running, peers: Sequence[Running]) -> Iterator[Scenario]:
    """Each server computes the same answers; what writes comes last, so that the others meet the same catalogue."""
    everyone = [ours, *peers]
    shops = [ours, *(peer for peer in peers if peer.server.is_shop)]

    def scenario(
        name: str, make: Callable[[int], Request], servers: Sequence[Running], *, durable: bool = False
    ) -> Scenario:
        load = Load(name, make, subject.tokens)
        return Scenario(name, [Contestant(each.server.name, each, load) for each in servers], durable)

    yield scenario("list", subject.list, everyone)
    yield scenario("detail", subject.detail, everyone)
    yield scenario("category", subject.category, shops)
    yield scenario("search", subject.search, shops)
    if subject.forgives_typos:
        yield scenario("search-miss", subject.search_in_vain, shops)
    yield scenario("facets", subject.facets, shops)
    yield scenario("create", subject.create, everyone)
    yield scenario("create-durable", subject.create, everyone, durable=True)
    yield scenario("stock", subject.movement, shops)
    yield scenario("mix", subject.mix, shops)


def repeated(subject: Subject, hello: Running, ours: Running) -> Scenario:
    """What was asked before, beside a server that computes nothing. What has no ETag is left out."""
    one_list, one_product = subject.list(0).path, subject.detail(0).path
    contestants = [
        Contestant(HELLO.name, hello, _over_and_over("hello", Request("/"), ())),
        Contestant("repeated list", ours, _over_and_over("repeated list", Request(one_list), subject.tokens)),
    ]
    for label, path in (("304 list", one_list), ("304 product", one_product)):
        if tag := _unchanging_tag(ours, subject.tokens[0], path):
            headers = {"If-None-Match": tag}
            load = _over_and_over(label, Request(path), subject.tokens, headers=headers, most_bytes=1000)
            contestants.append(Contestant(label, ours, load))
    return Scenario("repeated", contestants)


def keyset(subject: Subject, ours: Running) -> Scenario:
    """The first page of a walk by cursors and a deep one, whose cursor is found by walking there in larger steps."""

    def path(cursor: str, per_page: int) -> str:
        return f"{PRODUCTS}?{_LISTED}&per_page={per_page}&cursor={cursor}"

    depth = min(DEEP_PAGE, len(subject.products) // _PER_PAGE)
    cursor, left = "", (depth - 1) * _PER_PAGE
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {subject.tokens[0]}"
        while left:
            step = min(left, 100)
            cursor = session.get(ours.url + path(cursor, step), timeout=30).json()["meta"]["next_cursor"]
            left -= step
    pages = {"page 1": path("", _PER_PAGE), f"page {DEEP_PAGE}": path(cursor, _PER_PAGE)}
    loads = {name: _over_and_over(name, Request(page), subject.tokens) for name, page in pages.items()}
    return Scenario("keyset", [Contestant(name, ours, load) for name, load in loads.items()])


def logins(servers: Sequence[Running]) -> Scenario:
    """Logins with hashes of the same cost, where they are implemented; we turn some away when busy."""
    credentials = json.dumps({"email": EMAIL, "password": PASSWORD}).replace("@", r"\u0040")
    load = _over_and_over("login", Request("/api/v1/auth/login", credentials), (), may_be_busy=True)
    able = (OURS.name, NAIVE.name, FASTAPI.name)
    return Scenario("login", [Contestant(s.server.name, s, load) for s in servers if s.server.name in able])


def steady_mix(subject: Subject) -> Iterator[Request]:
    """Of ten requests three are lists, three details, three the same list again and one creates a product."""
    for number in itertools.count():
        made = (subject.list(number), subject.detail(number), subject.list(0))
        yield subject.create(number) if number % 10 == 9 else made[number % 3]


def _over_and_over(
    name: str,
    request: Request,
    tokens: Sequence[str],
    *,
    headers: dict[str, str] | None = None,
    most_bytes: int = 1024 * 1024,
    may_be_busy: bool = False,
) -> Load:
    """One request with one token."""
    return Load(
        name,
        lambda _: request,
        tokens[:1],
        headers=headers or {},
        repeats=True,
        most_bytes=most_bytes,
        may_be_busy=may_be_busy,
    )


def _above(category: int, parents: Mapping[int, int | None]) -> Iterator[int]:
    """What a category is below of."""
    while (above := parents[category]) is not None:
        yield above
        category = above


def _cents(number: int) -> str:
    """A price: the first few hundred are less than anything costs."""
    return f"{(number + 1) / 100:.2f}"


def _unchanging_tag(ours: Running, token: str, path: str) -> str | None:
    """The entity tag of a resource, when asking again with it is answered with 304."""
    headers = {"Authorization": f"Bearer {token}"}
    tag = requests.get(ours.url + path, headers=headers, timeout=30).headers.get("ETag")
    if tag is None:
        return None
    again = requests.get(ours.url + path, headers={**headers, "If-None-Match": tag}, timeout=30)
    return tag if again.status_code == 304 else None
