"""What a shop is asked: reads and writes of products and categories of which few are asked for often (Zipf's law)."""

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

from benchmarks.catalogue import Catalogue
from benchmarks.clients import Call
from benchmarks.scenarios import NEW_PRODUCT, PRODUCTS

T = TypeVar("T")

CATEGORIES = "/api/v1/categories"
#: Of a hundred reads, by the name of the mix: of a whole shop, or of what a page of a category needs.
READS = {
    "shop": {"detail": 60, "list": 15, "tree": 10, "search": 10, "facets": 5},
    "lists": {"detail": 60, "list": 24, "tree": 16},
}
#: Of a hundred writes, in each mix.
WRITES = {"price": 50, "movement": 40, "create": 7, "category": 3}
_PAGES = range(1, 11)


@dataclass(frozen=True)
class Shop:
    """What can be asked for, each sequence with the most popular first."""

    products: Sequence[int]
    #: The stock of each product.
    stock: dict[int, int]
    #: Those that have products.
    categories: Sequence[int]
    #: All, those that have others below them too.
    trees: Sequence[int]
    names: dict[int, str]
    words: Sequence[tuple[str, str]]


class Visits:
    """A sequence of requests, the same for the same seed. Whatever the order of the answers, nothing is sold out."""

    def __init__(self, shop: Shop, seed: str, *, mix: str = "shop") -> None:
        self._shop = shop
        self._reads = READS[mix]
        self._random = random.Random(seed)  # noqa: S311 -- the same requests each time
        self._stock = dict(shop.stock)
        self._number = 0
        self._products = self._popular(shop.products)
        self._categories = self._popular(shop.categories)
        self._trees = self._popular(shop.trees)
        self._words = self._popular(shop.words)
        self._pages = self._popular(_PAGES)

    def take(self, count: int, *, writes: float) -> list[Call]:
        """The next requests, of which this share are writes, at places of chance."""
        places = set(self._random.sample(range(count), round(count * writes)))
        return [self._call(WRITES if place in places else self._reads) for place in range(count)]

    def _call(self, shares: dict[str, int]) -> Call:
        self._number += 1
        (kind,) = self._random.choices([*shares], [*shares.values()])
        make: Callable[[], Call] = getattr(self, kind)
        return make()

    def detail(self) -> Call:
        """A product."""
        return Call("detail", "GET", f"{PRODUCTS}/{self._products()}")

    def list(self) -> Call:
        """A page of a category, the newest first."""
        return Call("list", "GET", f"{PRODUCTS}?category_id={self._categories()}&page={self._pages()}")

    def tree(self) -> Call:
        """A page of a category and everything below it, the newest first."""
        return Call("tree", "GET", f"{CATEGORIES}/{self._trees()}/products?page={self._pages()}")

    def search(self) -> Call:
        """Products with two words in their names."""
        return Call("search", "GET", f"{PRODUCTS}?search={'+'.join(self._words())}")

    def facets(self) -> Call:
        """The facets of a category."""
        return Call("facets", "GET", f"{PRODUCTS}/facets?category_id={self._categories()}&currency=USD")

    def price(self) -> Call:
        """Another price of a product."""
        body = json.dumps({"price": f"{self._random.randrange(100, 50_000) / 100:.2f}"})
        return Call("price", "PATCH", f"{PRODUCTS}/{self._products()}", body)

    def movement(self) -> Call:
        """A sale, or a receipt of a product that has been sold out."""
        product = self._products()
        moved: dict[str, object] = {"delta": 1, "reason": "receipt"}
        if self._stock[product]:
            # What is received is never counted: it may arrive after a sale that was asked for later.
            self._stock[product] -= 1
            moved = {"delta": -1, "reason": "sale"}
        path = f"{PRODUCTS}/{product}/stock-movements"
        return Call("movement", "POST", path, json.dumps({**moved, "reference": f"order-{self._number}"}))

    def create(self) -> Call:
        """A new product."""
        key = f"visit-{self._number}"
        new = {**NEW_PRODUCT, "currency": "USD", "category_id": self._categories(), "sku": key, "external_id": key}
        return Call("create", "POST", PRODUCTS, json.dumps(new))

    def category(self) -> Call:
        """Another name of a category."""
        category = self._trees()
        body = json.dumps({"name": f"{self._shop.names[category]} {self._number}"})
        return Call("category", "PATCH", f"{CATEGORIES}/{category}", body)

    def _popular(self, things: Sequence[T]) -> Callable[[], T]:
        """A function that gives the first of some things twice as often as the second, and so on."""
        weights = [*accumulate(1 / rank for rank in range(1, len(things) + 1))]
        return lambda: self._random.choices(things, cum_weights=weights)[0]


def shop_of(made: Catalogue) -> Shop:
    """The products and categories of a catalogue, in an order of popularity that is the same each time."""
    order = random.Random(1)  # noqa: S311 -- the same order each time
    products = made.rows("SELECT id, name, stock, category_id FROM products ORDER BY id")
    order.shuffle(products)
    names = dict(made.rows("SELECT id, name FROM categories ORDER BY id"))
    trees = [*names]
    order.shuffle(trees)
    filled = {category for *_, category in products}
    found = (re.findall(r"[a-z]{3,}", name.lower())[:2] for _, name, *_ in products[:5000])
    return Shop(
        products=[product for product, *_ in products],
        stock={product: stock for product, _, stock, _ in products},
        categories=[category for category in trees if category in filled],
        trees=trees,
        names=names,
        words=list(dict.fromkeys((pair[0], pair[1]) for pair in found if len(pair) == 2)),
    )
