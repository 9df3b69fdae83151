"""A small shop that changes: what each change sends to the API, and what the shop then holds, by a model of its own.

For tests of whether reads show the last write. A shop shares its database with other shops: its tag is a word in every
name and key of its rows, and no shop refers to a row of another. Every move is one that the server acknowledges.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from random import Random
from typing import Any

Row = dict[str, Any]

#: Of no two do the letters resemble each other: PostgreSQL forgives typos where a search finds nothing.
NAMES = ("Walnut", "Bamboo", "Cherry")
BRAND_NAMES = ("Zephyr", "Quokka", "Fjord")
MATERIALS = ("Marble", "Copper", "Velvet")
TAGS = ("garden", "office")
STATUSES = ("active", "draft", "archived")
PRODUCT_KEYS = ("sku", "slug", "gtin", "external_id")
#: Of a category or a brand.
ROW_KEYS = ("slug", "external_id")
#: How many values of each key there are: so few that one row takes what another had.
KEY_VALUES = 24
SCOPES = (
    ("products:read", "categories:read", "brands:read", "types:read"),
    ("products:read", "products:write"),
    ("products:read",),
    ("categories:read", "brands:read"),
)
NDJSON = "application/x-ndjson"
#: The collections whose paths have other names.
PATHS = {"types": "product-types"}

#: What a new product has for the members that are not stated.
DEFAULTS: Mapping[str, Any] = {
    "gtin": None,
    "external_id": None,
    "brand": None,
    "track_stock": True,
    "status": "active",
    "tags": [],
    "description": "",
}


@dataclass(frozen=True)
class Move:
    """One request that changes a shop.

    ``effect`` makes of the shop what it then is; the answer is None before there is one. ``about`` has the numbers of
    rows that it changes, by their kinds. A text as content is a file, which is imported once the due jobs have run.
    """

    name: str
    method: str
    path: str
    content: Any
    effect: Callable[["Shop", Any], None]
    about: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_import(self) -> bool:
        return isinstance(self.content, str)

    @property
    def creates_by_key(self) -> bool:
        """Whether it needs no row to be there: a precondition would be refused."""
        return self.method == "PUT" and "/by/" in self.path

    def __str__(self) -> str:
        return f"{self.name}: {self.method} {self.path} {json.dumps(self.content)[:2000]}"


@dataclass
class Shop:
    """The rows of a shop, by numbers of the model's own: a row has its id once it is there.

    In a row, ``category``, ``brand`` and ``parent`` are such numbers. ``former`` has the slugs that were given up, with
    the kind and the number of the row that had them.
    """

    tag: str
    chance: Random
    #: Whose role changes, and the key whose scopes change; of an editor.
    user_id: int
    key_id: int
    role: str = "user"
    scopes: tuple[str, ...] = SCOPES[0]
    products: dict[int, Row] = field(default_factory=dict)
    categories: dict[int, Row] = field(default_factory=dict)
    brands: dict[int, Row] = field(default_factory=dict)
    #: The codes that a type lists are those of attributes.
    attributes: dict[int, Row] = field(default_factory=dict)
    types: dict[int, Row] = field(default_factory=dict)
    holds: dict[int, Row] = field(default_factory=dict)
    #: How the last hold ended; they are confirmed and cancelled in turns, so that few moves make both.
    last_end: str = "cancel"
    former: dict[tuple[str, str], int] = field(default_factory=dict)
    #: The values that rows gave up, by kind and key: others take them rather than new ones.
    given_up: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    #: How often rows of a kind were named in the path of a method.
    addressed: Counter[tuple[str, str]] = field(default_factory=Counter)
    numbers: int = 0

    def opening(self) -> Iterator[Move]:
        """The moves that begin a shop. Each needs the effect of those before it."""
        yield self._make_category("open a root", parent=None)
        of_types = ((Shop.create_attribute, 3), (Shop.create_type, 2))
        for make, times in ((Shop.create_category, 4), (Shop.create_brand, 2), (Shop.create_product, 9), *of_types):
            for _ in range(times):
                if move := make(self):
                    yield move

    def moves(self) -> Iterator[Move]:
        """Moves without end, each as soon as it can be made; each needs the effect of those before it."""
        while True:
            for make in self.chance.sample(MOVES, len(MOVES)):
                if move := make(self):
                    yield move

    def without_ids(self) -> Iterator[tuple[str, Row]]:
        """The rows that are there and whose ids no answer told, with their kinds: what an import made."""
        for kind in ("products", "categories", "brands"):
            for row in self._rows(kind).values():
                if row["id"] is None:
                    yield kind, row

    # What is where.

    @property
    def root(self) -> int:
        """The category above all others of this shop; it is neither moved nor deleted."""
        return min(self.categories)

    def living(self) -> dict[int, Row]:
        """The products that are not deleted."""
        return {number: one for number, one in self.products.items() if not one["is_deleted"]}

    def is_below(self, number: int | None, top: int) -> bool:
        """Whether a category is another one, or below it."""
        while number is not None and number != top:
            number = self.categories[number]["parent"]
        return number == top

    def holder(self, kind: str, key: str, value: str) -> int | None:
        """The row, of those that are not deleted, that has this value of a key."""
        rows = self.living() if kind == "products" else self._rows(kind)
        return next((number for number, one in rows.items() if one[key] == value), None)

    def former_holder(self, kind: str, slug: str) -> int | None:
        """The row, of those that are not deleted, that had this slug."""
        number = self.former.get((kind, slug))
        return number if number in (self.living() if kind == "products" else self._rows(kind)) else None

    def key_values(self, kind: str, key: str) -> list[str]:
        """Every value of a key that a row of this shop may get by a move of its own."""
        if key == "gtin":
            return [_gtin(self.tag, number) for number in range(KEY_VALUES)]
        if key == "code":
            return [f"{self.tag}_{kind[0]}_{number}".replace("-", "_") for number in range(KEY_VALUES)]
        return [f"{self.tag}-{kind[0]}-{key[:2]}-{number}" for number in range(KEY_VALUES)]

    # Products.

    def create_product(self) -> Move | None:
        if len(self.living()) >= 12:
            return None
        return self._new_product("create a product", "POST", "/products", stock=self.chance.randrange(3))

    def put_new_product(self) -> Move | None:
        if len(self.living()) >= 12:
            return None
        sku = self._free("products", "sku")
        return self._new_product("put a new product by its sku", "PUT", f"/products/by/sku/{sku}", sku=sku)

    def refile_product(self) -> Move | None:
        number = self._any_product()
        others = self.categories.keys() - {self.products[number]["category"]}
        return self._change_product("refile a product", number, category=self._one_of(others))

    def rebrand_product(self) -> Move | None:
        number = self._any_product()
        others = {None, *self.brands} - {self.products[number]["brand"]}
        return self._change_product("rebrand a product", number, brand=self._one_of(others))

    def publish_product(self) -> Move | None:
        number = self._any_product()
        before = self.products[number]["status"]
        # Most are active, so that others than editors see something.
        after = self._one_of({"draft", "archived"}) if before == "active" else "active"
        return self._change_product("change the status of a product", number, status=after)

    def reprice_product(self) -> Move | None:
        return self._change_product("reprice a product", self._any_product(), price=self._price())

    def rename_product(self) -> Move | None:
        number = self._any_product()
        # To another place in the order of names.
        others = [word for word in NAMES if not self.products[number]["name"].startswith(word)]
        return self._change_product("rename a product", number, name=self._name(others))

    def describe_product(self) -> Move | None:
        text = f"<p>{self.chance.choice(MATERIALS)}, {self.chance.randrange(1000)} times"
        return self._change_product("describe a product", self._any_product(), description=text)

    def retag_product(self) -> Move | None:
        number = self._any_product()
        lists = [[self.tag, *some] for count in range(len(TAGS) + 1) for some in combinations(TAGS, count)]
        others = [tags for tags in lists if tags != self.products[number]["tags"]]
        return self._change_product("retag a product", number, tags=self.chance.choice(others))

    def rekey_product(self, key: str) -> Move | None:
        number = self._any_product()
        value = self._free("products", key, number)
        return self._change_product(f"change the {key} of a product", number, **{key: value})

    def take_key_of_product(self, key: str) -> Move | None:
        """Take a key that may be null from a product, so that another can have it."""
        keyed = [number for number, one in self.living().items() if one[key]]
        if not keyed:
            return None
        number = self.chance.choice(keyed)
        return self._change_product(f"take the {key} of a product away", number, **{key: None})

    def track_product(self) -> Move | None:
        # One that is sold out is in stock without being tracked.
        sold_out = [number for number, one in self.living().items() if not one["stock"]]
        number = self.chance.choice(sold_out or sorted(self.living()))
        tracks = not self.products[number]["track_stock"]
        return self._change_product("track the stock of a product, or no longer", number, track_stock=tracks)

    def replace_product(self) -> Move | None:
        number = self._any_product()
        one = self.products[number]
        members = {"name": self._name(), "price": self._price(), "category": one["category"], "tags": [self.tag]}
        path = self._address("PUT", "products", number)
        if "/by/" in path:
            key = path.split("/")[-2]
            members[key] = one[key]

        def effect(shop: Shop, _answer: Any) -> None:
            shop._set_product(number, {**DEFAULTS, **members})

        return Move("replace a product", "PUT", path, self._wire(members), effect, {"products": number})

    def delete_product(self) -> Move | None:
        if len(self.living()) <= 8:
            return None
        number = self._any_product()

        def effect(shop: Shop, _answer: Any) -> None:
            shop.products[number]["is_deleted"] = True
            shop._give_up("products", number)

        path = self._address("DELETE", "products", number)
        return Move("delete a product", "DELETE", path, None, effect, {"products": number})

    def restore_product(self) -> Move | None:
        deleted = [number for number in self.products.keys() - self.living().keys() if self._can_be_restored(number)]
        if not deleted:
            return None
        number = self.chance.choice(sorted(deleted))

        def effect(shop: Shop, _answer: Any) -> None:
            shop.products[number]["is_deleted"] = False

        path = f"/products/{self.products[number]['id']}/restore"
        return Move("restore a product", "POST", path, None, effect, {"products": number})

    # Stock.

    def move_stock(self) -> Move | None:
        tracked = [number for number, one in self.living().items() if one["track_stock"]]
        number = self.chance.choice(tracked)
        available = self._available(number)
        content = {"delta": -available, "reason": "sale"} if available > 0 else {"delta": 5, "reason": "receipt"}

        def effect(shop: Shop, _answer: Any) -> None:
            shop.products[number]["stock"] += content["delta"]

        path = f"/products/{self.products[number]['id']}/stock-movements"
        return Move("move stock", "POST", path, content, effect, {"products": number})

    def place_hold(self) -> Move | None:
        tracked = [number for number, one in self.living().items() if one["track_stock"]]
        stocked = [number for number in tracked if self._available(number) > 0]
        if not stocked:
            return None
        product = self.chance.choice(stocked)
        # All of it more often than not, so that confirming it sells the product out.
        quantity = self.chance.choice([self._available(product)] * 2 + [1])

        def effect(shop: Shop, answer: Any) -> None:
            hold = {"id": answer and answer["id"], "product": product, "quantity": quantity}
            shop.holds[shop._next()] = hold

        path = f"/products/{self.products[product]['id']}/holds"
        return Move("place a hold", "POST", path, {"quantity": quantity}, effect)

    def confirm_hold(self) -> Move | None:
        sellable = {
            number: hold for number, hold in self._live_holds().items() if self.products[hold["product"]]["track_stock"]
        }
        return self._end_hold("confirm", sellable, sold=1)

    def cancel_hold(self) -> Move | None:
        return self._end_hold("cancel", self._live_holds(), sold=0)

    # Categories.

    def create_category(self) -> Move | None:
        if len(self.categories) >= 13:
            return None
        return self._make_category("create a category", parent=self.chance.choice(sorted(self.categories)))

    def put_new_category(self) -> Move | None:
        if len(self.categories) >= 13:
            return None
        return self._make_category("put a new category by its slug", parent=self.root, by_key=True)

    def rename_category(self) -> Move | None:
        return self._change("rename a category", "categories", self._any("categories"), name=self._name())

    def move_category(self) -> Move | None:
        number = self._one_of(self.categories.keys() - {self.root})
        others = [
            other
            for other in self.categories
            if not self.is_below(other, number) and other != self.categories[number]["parent"]
        ]
        return self._change("move a category", "categories", number, parent=self._one_of(others)) if others else None

    def rekey_category(self, key: str) -> Move | None:
        number = self._any("categories")
        value = self._free("categories", key, number)
        return self._change(f"change the {key} of a category", "categories", number, **{key: value})

    def replace_category(self) -> Move | None:
        number = self._any("categories")
        members = {"name": self._name(), "parent": self.categories[number]["parent"], "external_id": None}
        return self._replace("replace a category", "categories", number, members)

    def delete_category(self) -> Move | None:
        filed = {one["category"] for one in self.products.values()}
        parents = {one["parent"] for one in self.categories.values()}
        return self._delete("delete a category", "categories", self.categories.keys() - filed - parents - {self.root})

    # Brands.

    def create_brand(self) -> Move | None:
        return None if len(self.brands) >= 11 else self._make_brand("create a brand")

    def put_new_brand(self) -> Move | None:
        return None if len(self.brands) >= 11 else self._make_brand("put a new brand by its slug", by_key=True)

    def rename_brand(self) -> Move | None:
        return self._change("rename a brand", "brands", self._any("brands"), name=self._name(BRAND_NAMES))

    def rekey_brand(self, key: str) -> Move | None:
        number = self._any("brands")
        value = self._free("brands", key, number)
        return self._change(f"change the {key} of a brand", "brands", number, **{key: value})

    def replace_brand(self) -> Move | None:
        members = {"name": self._name(BRAND_NAMES), "external_id": None}
        return self._replace("replace a brand", "brands", self._any("brands"), members)

    def delete_brand(self) -> Move | None:
        unused = self.brands.keys() - {one["brand"] for one in self.products.values()}
        return self._delete("delete a brand", "brands", unused) if len(self.brands) > 1 else None

    # Attributes and product types.

    def create_attribute(self) -> Move | None:
        return None if len(self.attributes) >= 8 else self._make_attribute("create an attribute")

    def put_new_attribute(self) -> Move | None:
        has_room = len(self.attributes) < 8
        return self._make_attribute("put a new attribute by its code", by_key=True) if has_room else None

    def relabel_attribute(self) -> Move | None:
        return self._change("relabel an attribute", "attributes", self._any("attributes"), label=self._name())

    def filter_by_attribute(self) -> Move | None:
        number = self._any("attributes")
        filterable = not self.attributes[number]["filterable"]
        return self._change("filter by an attribute, or no longer", "attributes", number, filterable=filterable)

    def replace_attribute(self) -> Move | None:
        members = {"label": self._name(), "type": "text", "filterable": True}
        return self._replace("replace an attribute", "attributes", self._any("attributes"), members)

    def delete_attribute(self) -> Move | None:
        listed = {each["code"] for one in self.types.values() for each in one["attributes"]}
        unused = {number for number, one in self.attributes.items() if one["code"] not in listed}
        return self._delete("delete an attribute", "attributes", unused) if len(self.attributes) > 1 else None

    def create_type(self) -> Move | None:
        return None if len(self.types) >= 6 else self._make_type("create a product type")

    def put_new_type(self) -> Move | None:
        return None if len(self.types) >= 6 else self._make_type("put a new product type by its code", by_key=True)

    def relabel_type(self) -> Move | None:
        return self._change("relabel a product type", "types", self._any("types"), label=self._name())

    def relist_type(self) -> Move | None:
        number = self._any("types")
        return self._change("list other attributes of a type", "types", number, attributes=self._listed())

    def replace_type(self) -> Move | None:
        members = {"label": self._name(), "attributes": self._listed()}
        return self._replace("replace a product type", "types", self._any("types"), members)

    def delete_type(self) -> Move | None:
        return self._delete("delete a product type", "types", self.types.keys()) if len(self.types) > 1 else None

    # Many rows at once.

    def save_batch(self) -> Move | None:
        return self._batch("save an atomic batch", "atomic")

    def save_partial_batch(self) -> Move | None:
        return self._batch("save a batch in part", "partial", {"sku": f"{self.tag}-bad", "price": "none"})

    def rehearse_batch(self) -> Move | None:
        move = self._batch("rehearse a batch", "atomic", dry_run=True)
        return Move(move.name, move.method, move.path, move.content, lambda _shop, _answer: None)

    def import_file(self) -> Move | None:
        """Import rows that change products and make one, with a category and a brand that are not there."""
        if len(self.living()) >= 16:
            return None
        category, brand = self._name(), self._name(BRAND_NAMES)
        rows = self._items()
        lines = [self._wire(row) for _, row in rows]
        lines[-1] |= {"category": f"{self.categories[self.root]['name']} > {category}", "brand": brand}
        del lines[-1]["category_id"], lines[-1]["brand_id"]
        slugs = [name.lower().replace(" ", "-") for name in (category, brand)]

        def effect(shop: Shop, _answer: Any) -> None:
            made = shop._add("categories", None, name=category, slug=slugs[0], parent=shop.root, external_id=None)
            rows[-1][1]["category"] = made
            made = shop._add("brands", None, name=brand, slug=slugs[1], external_id=None)
            rows[-1][1]["brand"] = made
            shop._save_items(rows)

        return Move("import a file", "POST", "/imports", "\n".join(map(json.dumps, lines)), effect)

    # Rights.

    def change_role(self) -> Move | None:
        role = "editor" if self.role == "user" else "user"

        def effect(shop: Shop, _answer: Any) -> None:
            shop.role = role

        return Move("change the role of a user", "PATCH", f"/users/{self.user_id}", {"role": role}, effect)

    def change_scopes(self) -> Move | None:
        scopes = self._one_of({*SCOPES} - {self.scopes})

        def effect(shop: Shop, _answer: Any) -> None:
            shop.scopes = scopes

        path = f"/api-keys/{self.key_id}"
        return Move("change the scopes of a key", "PATCH", path, {"scopes": list(scopes)}, effect)

    # How moves are made.

    def _next(self) -> int:
        self.numbers += 1
        return self.numbers

    def _rows(self, kind: str) -> dict[int, Row]:
        rows: dict[int, Row] = getattr(self, kind)
        return rows

    def _one_of(self, choices: Any) -> Any:
        # Sorted, so that a seed makes the same choices in every process.
        return self.chance.choice(sorted(choices, key=lambda one: (one is not None, one)))

    def _any(self, kind: str) -> int:
        return self.chance.choice(sorted(self._rows(kind)))

    def _any_product(self) -> int:
        return self.chance.choice(sorted(self.living()))

    def _name(self, words: Sequence[str] = NAMES) -> str:
        return f"{self.chance.choice(words)} {self.tag} {self._next()}"

    def _price(self) -> str:
        return f"{self.chance.choice([3, 8, 30, 80, 300])}.{self.chance.randrange(100):02}"

    def _tags(self) -> list[str]:
        return [self.tag, *sorted(self.chance.sample(TAGS, self.chance.randrange(3)))]

    def _free(self, kind: str, key: str, number: int | None = None) -> str:
        """A value of a key that a row may get: rather one that another row gave up."""
        given_up = self.given_up.get((kind, key), [])
        free = [value for value in self.key_values(kind, key) if self._is_free(kind, key, value, number)]
        reused = [value for value in free if value in given_up]
        if not free:
            return f"{self.tag}-{self._next()}"
        return self.chance.choice(reused if reused and self.chance.random() < 0.8 else free)

    def _is_free(self, kind: str, key: str, value: str, number: int | None) -> bool:
        is_reserved = key == "slug" and self.former_holder(kind, value) not in {None, number}
        return self.holder(kind, key, value) is None and not is_reserved

    def _can_be_restored(self, number: int) -> bool:
        keys = {key: self.products[number][key] for key in PRODUCT_KEYS if self.products[number][key] is not None}
        return all(self._is_free("products", key, value, number) for key, value in keys.items())

    def _address(self, method: str, kind: str, number: int) -> str:
        """The path of a row, by its id and by one of its keys in turn."""
        row = self._rows(kind)[number]
        keys = PRODUCT_KEYS if kind == "products" else (*ROW_KEYS, "code")
        paths = [f"/by/{key}/{row[key]}" for key in keys if row.get(key) is not None]
        self.addressed[method, kind] += 1
        by_id, by_key = f"/{row['id']}", self.addressed[method, kind] % 2
        return f"/{PATHS.get(kind, kind)}{self.chance.choice(paths) if by_key else by_id}"

    def _wire(self, members: Mapping[str, Any]) -> Row:
        """The members as the API has them: with ids in the place of the model's numbers."""
        others = {"category": "categories", "brand": "brands", "parent": "categories"}
        return {
            (f"{name}_id" if name in others else name): (
                self._rows(others[name])[value]["id"] if name in others and value is not None else value
            )
            for name, value in members.items()
        }

    def _add(self, kind: str, answer: Any, /, **members: Any) -> int:
        number = self._next()
        self._rows(kind)[number] = {"id": answer and answer["id"], **members}
        return number

    def _set(self, kind: str, number: int, members: Mapping[str, Any]) -> None:
        row = self._rows(kind)[number]
        if "slug" in members:
            self._retire(kind, number, row["slug"], members["slug"])
        for key in PRODUCT_KEYS:
            if row.get(key) is not None and members.get(key, row[key]) != row[key]:
                self.given_up.setdefault((kind, key), []).append(row[key])
        row.update(members)

    def _set_product(self, number: int, members: Mapping[str, Any]) -> None:
        self._set("products", number, members)

    def _retire(self, kind: str, number: int, before: str, after: str) -> None:
        if before != after:
            if self.former.get((kind, after)) == number:
                del self.former[kind, after]
            self.former[kind, before] = number

    def _give_up(self, kind: str, number: int) -> None:
        row = self._rows(kind)[number]
        for key in (*PRODUCT_KEYS, "code"):
            if row.get(key) is not None:
                self.given_up.setdefault((kind, key), []).append(row[key])

    def _change(self, title: str, kind: str, number: int, /, **members: Any) -> Move:
        def effect(shop: Shop, _answer: Any) -> None:
            shop._set(kind, number, members)

        return Move(title, "PATCH", self._address("PATCH", kind, number), self._wire(members), effect, {kind: number})

    def _change_product(self, title: str, number: int, /, **members: Any) -> Move:
        return self._change(title, "products", number, **members)

    def _replace(self, name: str, kind: str, number: int, members: Row) -> Move:
        """Replace a row that is no product, which keeps its slug or its code."""
        path = self._address("PUT", kind, number)
        if "/by/external_id/" in path:
            members = members | {"external_id": self._rows(kind)[number]["external_id"]}

        def effect(shop: Shop, _answer: Any) -> None:
            shop._set(kind, number, members)

        return Move(name, "PUT", path, self._wire(members), effect, {kind: number})

    def _delete(self, name: str, kind: str, numbers: Any) -> Move | None:
        if not numbers:
            return None
        number = self._one_of(numbers)

        def effect(shop: Shop, _answer: Any) -> None:
            shop._give_up(kind, number)
            del shop._rows(kind)[number]

        return Move(name, "DELETE", self._address("DELETE", kind, number), None, effect, {kind: number})

    def _make_category(self, name: str, *, parent: int | None, by_key: bool = False) -> Move:
        members = {"name": self._name(), "parent": parent, "external_id": None}
        return self._make(name, "categories", members, by_key=by_key)

    def _make_brand(self, name: str, *, by_key: bool = False) -> Move:
        return self._make(name, "brands", {"name": self._name(BRAND_NAMES), "external_id": None}, by_key=by_key)

    def _make(self, name: str, kind: str, members: Row, *, by_key: bool) -> Move:
        members = {**members, "slug": self._free(kind, "slug")}

        def effect(shop: Shop, answer: Any) -> None:
            shop._add(kind, answer, **members)

        where = f"/{kind}/by/slug/{members['slug']}" if by_key else f"/{kind}"
        return Move(name, "PUT" if by_key else "POST", where, self._wire(members), effect)

    def _make_attribute(self, name: str, *, by_key: bool = False) -> Move:
        members = {"label": self._name(), "type": "text", "filterable": self.chance.random() < 0.5}
        return self._make_coded(name, "attributes", members, by_key=by_key)

    def _make_type(self, name: str, *, by_key: bool = False) -> Move:
        return self._make_coded(name, "types", {"label": self._name(), "attributes": self._listed()}, by_key=by_key)

    def _make_coded(self, name: str, kind: str, members: Row, *, by_key: bool) -> Move:
        members = {**members, "code": self._free(kind, "code")}

        def effect(shop: Shop, answer: Any) -> None:
            shop._add(kind, answer, **members)

        collection = f"/{PATHS.get(kind, kind)}"
        where = f"{collection}/by/code/{members['code']}" if by_key else collection
        return Move(name, "PUT" if by_key else "POST", where, members, effect)

    def _listed(self) -> list[Row]:
        codes = sorted(one["code"] for one in self.attributes.values())
        return [{"code": code} for code in self.chance.sample(codes, min(len(codes), self.chance.choice([0, 1, 2])))]

    def _new_product(self, title: str, method: str, path: str, /, **members: Any) -> Move:
        members = self._new_members() | members

        def effect(shop: Shop, answer: Any) -> None:
            shop._add("products", answer, **{**DEFAULTS, "stock": 0, "is_deleted": False, **members})

        return Move(title, method, path, self._wire(members), effect)

    def _new_members(self) -> Row:
        return {
            "sku": self._free("products", "sku"),
            "slug": self._free("products", "slug"),
            "name": self._name(),
            "price": self._price(),
            "category": self._any("categories"),
            "brand": self._one_of({None, *self.brands}),
            "status": self.chance.choice([*STATUSES, "active"]),
            "tags": self._tags(),
        }

    def _items(self) -> list[tuple[int | None, Row]]:
        """Rows of products by their skus: three that are there, each with the number of its product, and a new one."""
        there = self.chance.sample(sorted(self.living()), 3)
        changes = [self._some_members(number) for number in there]
        return [*zip(there, changes, strict=True), (None, self._new_members())]

    def _some_members(self, number: int) -> Row:
        members: Row = {"price": self._price(), "name": self._name(), "tags": self._tags()}
        members["category"] = self._any("categories")
        if self.products[number]["track_stock"] and not self._held(number):
            members["stock"] = self.chance.choice([0, 4])
        members["status"] = self.chance.choice([*STATUSES, "active"])
        chosen = self.chance.sample(sorted(members), self.chance.choice([1, 2]))
        return {"sku": self.products[number]["sku"], **{name: members[name] for name in chosen}}

    def _save_items(self, rows: Sequence[tuple[int | None, Row]], answer: Any = None) -> None:
        for place, (number, row) in enumerate(rows):
            if number is None:
                there = answer and {"id": answer["items"][place]["id"]}
                self._add("products", there, **{**DEFAULTS, "stock": 0, "is_deleted": False, **row})
            else:
                self._set_product(number, row)

    def _batch(self, name: str, mode: str, *bad: Row, dry_run: bool = False) -> Move:
        rows = self._items() if len(self.living()) < 14 else self._items()[:-1]

        def effect(shop: Shop, answer: Any) -> None:
            shop._save_items(rows, answer)

        items, about = [*(self._wire(row) for _, row in rows), *bad], {"products": rows[0][0] or 0}
        return Move(name, "POST", "/products/bulk", {"mode": mode, "dry_run": dry_run, "items": items}, effect, about)

    def _held(self, number: int) -> int:
        return sum(hold["quantity"] for hold in self.holds.values() if hold["product"] == number)

    def _available(self, number: int) -> int:
        return int(self.products[number]["stock"]) - self._held(number)

    def _live_holds(self) -> dict[int, Row]:
        return {number: hold for number, hold in self.holds.items() if hold["product"] in self.living()}

    def _end_hold(self, how: str, holds: Mapping[int, Row], *, sold: int) -> Move | None:
        if not holds or how == self.last_end:
            return None
        number = self._one_of(holds)
        hold = holds[number]

        def effect(shop: Shop, _answer: Any) -> None:
            shop.last_end = how
            del shop.holds[number]
            shop.products[hold["product"]]["stock"] -= sold * hold["quantity"]

        about = {"products": hold["product"]}
        return Move(f"{how} a hold", "POST", f"/holds/{hold['id']}/{how}", None, effect, about)


def _gtin(tag: str, number: int) -> str:
    """A GTIN of thirteen digits, the last of which is the check digit of the others (GS1)."""
    digits = f"{400000 + sum(map(ord, tag))}{number:06}"
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return f"{digits}{-total % 10}"


#: Each makes one kind of move, or None where the shop has nothing to make it with.
MOVES: Sequence[Callable[[Shop], Move | None]] = (
    Shop.create_product,
    Shop.put_new_product,
    Shop.refile_product,
    Shop.rebrand_product,
    Shop.publish_product,
    Shop.reprice_product,
    Shop.rename_product,
    Shop.describe_product,
    Shop.retag_product,
    *(partial(Shop.rekey_product, key=key) for key in PRODUCT_KEYS),
    *(partial(Shop.take_key_of_product, key=key) for key in ("gtin", "external_id")),
    Shop.track_product,
    Shop.replace_product,
    # As many as come.
    *[Shop.delete_product] * 3,
    Shop.restore_product,
    Shop.move_stock,
    Shop.place_hold,
    Shop.confirm_hold,
    Shop.cancel_hold,
    Shop.create_category,
    Shop.put_new_category,
    Shop.rename_category,
    Shop.move_category,
    *(partial(Shop.rekey_category, key=key) for key in ROW_KEYS),
    Shop.replace_category,
    Shop.delete_category,
    Shop.create_brand,
    Shop.put_new_brand,
    Shop.rename_brand,
    *(partial(Shop.rekey_brand, key=key) for key in ROW_KEYS),
    Shop.replace_brand,
    Shop.delete_brand,
    Shop.create_attribute,
    Shop.put_new_attribute,
    Shop.relabel_attribute,
    Shop.filter_by_attribute,
    Shop.replace_attribute,
    Shop.delete_attribute,
    Shop.create_type,
    Shop.put_new_type,
    Shop.relabel_type,
    Shop.relist_type,
    Shop.replace_type,
    Shop.delete_type,
    Shop.save_batch,
    Shop.save_partial_batch,
    Shop.rehearse_batch,
    Shop.import_file,
    Shop.change_role,
    Shop.change_scopes,
)
