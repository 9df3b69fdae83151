"""Use cases of sample data: the demo catalogue with its users, and generated products."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from itertools import count, cycle
from random import Random
from types import MappingProxyType
from typing import Any

from sqlalchemy import or_, select, text, true

from app.core.locks import advisory_lock
from app.core.money import round_amount
from app.extensions import db
from app.features.attributes import models as attribute_models
from app.features.attributes import service as attributes
from app.features.brands import models as brand_models
from app.features.brands import service as brands
from app.features.categories import models as category_models
from app.features.categories import service as categories
from app.features.product_types import models as type_models
from app.features.product_types import service as product_types
from app.features.products import models as product_models
from app.features.samples import gallery, insertion
from app.features.samples.gallery import PARCEL, PICTURES, Drawing, Gallery, Shown
from app.features.samples.insertion import VARIANTS
from app.features.samples.vocabulary import ATTRIBUTES, BRANDS, PIECES, TREE, TYPES, Line, Option, Shelf
from app.features.users import models as user_models
from app.features.users import service as users
from app.security.passwords import verify_password
from app.security.permissions import Role

#: Products per transaction of `flask catalog generate`.
PRODUCTS_PER_CHUNK = 1000


@dataclass(frozen=True)
class DemoLogin:
    """A user of the demo catalogue, with a public password."""

    role: Role

    @property
    def email(self) -> str:
        """The e-mail address of the user."""
        return f"{self.role}@example.com"

    @property
    def password(self) -> str:
        """The public password."""
        return f"demo-{self.role}-password"


DEMO_LOGINS = tuple(DemoLogin(role) for role in (Role.ADMIN, Role.EDITOR, Role.USER))


@dataclass(frozen=True)
class Loaded:
    """The numbers of products, as lists show them, of their variants, of categories and of brands that were loaded."""

    products: int
    variants: int
    categories: int
    brands: int


_NO_PICTURES: Gallery = MappingProxyType({})


def load_demo(*, currency: str, pictures: Gallery = _NO_PICTURES) -> Loaded | None:
    """Fill an empty database with the demo catalogue and its users, always the same, but for the ``pictures``.

    These are of `demo_drawings`, or none. None, and no change, unless it `is_empty`.
    """
    advisory_lock("samples")
    if not is_empty():
        return None
    for login in DEMO_LOGINS:
        users.create_user(email=login.email, username=login.role, password=login.password, role=login.role)
    types = _create_types()
    shelves = plant_tree()
    products = list(_demo_products(shelves, find_or_create_brands(), types, currency))
    insertion.insert_products(products, pictures)
    variants = sum(len(product.get(VARIANTS, ())) for product in products)
    return Loaded(products=len(products), variants=variants, categories=len(shelves), brands=len(BRANDS))


def is_empty() -> bool:
    """Whether there is no category, brand, attribute, product type, product or user."""
    of_catalogue = (category_models.Category, brand_models.Brand, attribute_models.Attribute, type_models.ProductType)
    tables = (*of_catalogue, product_models.Product, user_models.User)
    return not db.session.scalar(select(or_(*(select(true()).select_from(table).exists() for table in tables))))


@lru_cache(maxsize=1)
def demo_drawings() -> tuple[Drawing, ...]:
    """What the pictures of the demo catalogue show."""
    views = (_view_of(category, shelf, line, one) for category, shelf, line in _LINES for one in line.choice.options)
    return tuple(dict.fromkeys((*(drawing for drawing, _ in views), PARCEL)))


def working_logins() -> list[DemoLogin]:
    """The demo logins that work: their users are active and have the original password."""
    emails = [login.email for login in DEMO_LOGINS]
    rows = db.session.scalars(select(user_models.User).where(user_models.User.email.in_(emails)))
    hashes = {user.email: user.password_hash for user in rows if user.is_active}
    return [login for login in DEMO_LOGINS if login.email in hashes and _is_original(login, hashes[login.email])]


@lru_cache(maxsize=16)
def _is_original(login: DemoLogin, password_hash: str) -> bool:
    # Cached because pages ask at each request, and hashing is slow on purpose.
    return verify_password(login.password, password_hash)


def plant_tree() -> dict[str, int]:
    """Create the missing categories of the sample catalogue; the ids of all of them, by name."""
    advisory_lock("samples")
    ids: dict[str, int] = {}
    for name, parent in _names_with_parents(TREE, None):
        ids[name] = _find_or_create_category(name, ids[parent] if parent else None)
    return ids


def find_or_create_brands() -> dict[str, int]:
    """The ids of the brands of the sample catalogue, by name; the missing ones are created."""
    found = _find_brands()
    if len(found) < len(BRANDS):
        advisory_lock("samples")
        found = _find_brands()
        found |= {name: brands.create_brand(name=name).id for name in BRANDS if name not in found}
    return found


def next_number(seed: int) -> int:
    """The number after that of the last product that was generated from the seed."""
    prefix = _generated_sku(seed, "")
    sku = product_models.Product.sku
    is_alive = product_models.Product.deleted_at.is_(None)
    latest = select(sku).where(is_alive, sku >= prefix, sku < f"{prefix}:").order_by(sku.desc()).limit(100)
    suffixes = (sku.removeprefix(prefix) for sku in db.session.scalars(latest))
    # Clients can create products with skus such as GEN-1-9x; the last hundred are read to skip them.
    return next((int(suffix) + 1 for suffix in suffixes if suffix.isdecimal()), 1)


def generate_products(
    seed: int,
    numbers: range,
    categories_by_name: Mapping[str, int],
    *,
    currency: str,
    parents: int = 0,
    pictures: Gallery = _NO_PICTURES,
) -> None:
    """Insert the products with these numbers; a seed and a number always give the same product.

    Of a hundred, ``parents`` have 2 to 8 variants, which are not counted by the numbers. Prices are rounded to the
    minor units of ``currency``. Each shows one of the ``pictures``, in turn.
    """
    brand_ids = find_or_create_brands()
    rows = (_generated_product(seed, number, categories_by_name, brand_ids) for number in numbers)
    priced = ({**row, "price": round_amount(row["price"], currency), "currency": currency} for row in rows)
    products = [_with_variants(seed, number, row, parents) for number, row in zip(numbers, priced, strict=True)]
    if drawings := list(pictures):
        for number, row in zip(numbers, products, strict=True):
            row[PICTURES] = [Shown(drawings[number % len(drawings)], row["name"])]
    insertion.insert_products(products, pictures)


def refresh_statistics() -> None:
    """Update PostgreSQL's planner statistics now (ANALYZE), because autovacuum would take minutes."""
    if db.engine.dialect.name == "postgresql":
        db.session.execute(text("ANALYZE products"))


def _names_with_parents(tree: Mapping[str, Any], parent: str | None) -> Iterator[tuple[str, str | None]]:
    """The name of each category with its parent's, parents first."""
    for name, children in tree.items():
        yield name, parent
        if isinstance(children, Mapping):
            yield from _names_with_parents(children, name)


def _find_brands() -> dict[str, int]:
    brand = brand_models.Brand
    found = select(brand.name, brand.id).where(brand.name.in_(BRANDS))
    return {row.name: row.id for row in db.session.execute(found)}


def _find_or_create_category(name: str, parent_id: int | None) -> int:
    category = category_models.Category
    has_parent = category.parent_id.is_(None) if parent_id is None else category.parent_id == parent_id
    existing = select(category.id).where(category.name == name, has_parent).order_by(category.id).limit(1)
    return db.session.scalar(existing) or categories.create_category(name=name, parent_id=parent_id).id


def _shelves(tree: Mapping[str, Any]) -> Iterator[tuple[str, Shelf]]:
    """The leaves of the tree, by name."""
    for name, children in tree.items():
        if isinstance(children, Shelf):
            yield name, children
        else:
            yield from _shelves(children)


_LINES = [(name, shelf, line) for name, shelf in _shelves(TREE) for line in shelf.lines]
_GIVEN_NAMES = [line.name.split()[0] for _, _, line in _LINES]
# Not every range has a brand.
_BRANDS_OF_RANGES = dict(zip(_GIVEN_NAMES, cycle((*BRANDS, None)), strict=False))


def _create_types() -> Mapping[str, int]:
    """Create the attributes and the product types of the demo; the ids of the latter by code."""
    for members in ATTRIBUTES:
        choices = _choices_of(members["code"]) if members["type"] in attribute_models.OF_CHOICES else []
        attributes.create_attribute(**{"filterable": True, **members}, choices=choices)
    ids: dict[str, int] = {}
    for code, (label, option, others) in TYPES.items():
        listed = [{"code": each, "required": each == option, "is_option": each == option} for each in (option, *others)]
        ids[code] = product_types.create_product_type(code=code, label=label, attributes=listed).id
    return ids


def _choices_of(code: str) -> list[dict[str, str]]:
    options = (option for _, _, line in _LINES for option in line.choice.options)
    values = sorted({str(option.attributes[code]) for option in options if code in option.attributes})
    return [{"code": value, "label": value.capitalize()} for value in values]


def _demo_products(
    shelves: Mapping[str, int], brand_ids: Mapping[str, int], types: Mapping[str, int], currency: str
) -> Iterator[dict[str, Any]]:
    numbers = count(1)
    for position, (category, shelf, line) in enumerate(_LINES):
        of_line = {"category_id": shelves[category], "brand_id": _brand_of(line.name, brand_ids), "currency": currency}
        sku = f"{shelf.code}-{position:02}"
        if shelf.type is not None:
            own = {"type_id": types[shelf.type], "options": [TYPES[shelf.type][1]]}
            parent = {
                **of_line,
                **_demo_parent(sku, shelf, line),
                **own,
                PICTURES: _demo_views(sku, category, shelf, line),
            }
            yield {**parent, VARIANTS: [_demo_variant(next(numbers), parent, line, one) for one in line.choice.options]}
            continue
        for option in line.choice.options:
            number = next(numbers)
            yield {
                **of_line,
                **_described(shelf, line, option),
                **_for_sale(number, line, option, currency),
                "sku": f"{sku}-{option.code}",
                "name": f"{line.name}, {option.label}",
                "status": _demo_status(number),
                "tags": [*shelf.tags, *_marketing_tags(number)],
                PICTURES: _demo_pictures(number, category, shelf, line, option),
            }


def _demo_pictures(number: int, category: str, shelf: Shelf, line: Line, option: Option) -> list[Shown]:
    """What a product of the demo shows: itself, and here and there how it comes."""
    drawing, seen = _view_of(category, shelf, line, option)
    shown = [Shown(drawing, _alt_of(line, seen, option))]
    return [*shown, Shown(PARCEL, f"{line.name}, as it is delivered")] if number % 5 == 2 else shown


def _demo_views(sku: str, category: str, shelf: Shelf, line: Line) -> list[Shown]:
    """What a parent of the demo shows: each colour with the variant that has it, or one picture for all sizes."""
    options = line.choice.options
    views = [(*_view_of(category, shelf, line, option), option) for option in options]
    if len({drawing for drawing, _, _ in views}) == 1:
        return [Shown(views[0][0], line.name), Shown(PARCEL, f"{line.name}, as it is delivered")]
    return [Shown(drawing, _alt_of(line, seen, one), (f"{sku}-{one.code}",)) for drawing, seen, one in views]


def _view_of(category: str, shelf: Shelf, line: Line, option: Option) -> tuple[Drawing, Option]:
    """The drawing of an option with the option that it is of: few are drawn, so that a motif has one colour.

    But variants that differ by their colours have their own.
    """
    drawing = gallery.drawing_of(category, line, option)
    return (drawing, option) if shelf.type and "colour" in option.attributes else _views()[drawing.motif]


@lru_cache(maxsize=1)
def _views() -> Mapping[str, tuple[Drawing, Option]]:
    """The one drawing of each motif, of the first option that has it."""
    views: dict[str, tuple[Drawing, Option]] = {}
    for category, _, line in _LINES:
        for option in line.choice.options:
            drawing = gallery.drawing_of(category, line, option)
            views.setdefault(drawing.motif, (drawing, option))
    return views


def _alt_of(line: Line, seen: Option, option: Option) -> str:
    """What a picture of a line shows, in words: the option that it was drawn for need not be the product's."""
    if seen.attributes.keys().isdisjoint({"colour", "material"}):
        return line.name
    return f"{line.name} in {seen.label}" if seen.label == option.label else f"{line.name}, here in {seen.label}"


def _demo_parent(sku: str, shelf: Shelf, line: Line) -> dict[str, Any]:
    """A line of a shelf with a type; its options are its variants."""
    return {
        "sku": sku,
        "name": line.name,
        "description": line.text,
        "status": product_models.ProductStatus.ACTIVE,
        "tags": list(shelf.tags),
        "attributes": {"range": line.name.split()[0]},
    }


def _demo_variant(number: int, parent: Mapping[str, Any], line: Line, option: Option) -> dict[str, Any]:
    """What of a variant is its own: the option by which it differs, and the other attributes that come with it."""
    (name,) = parent["options"]
    return {
        **_for_sale(number, line, option, parent["currency"]),
        "sku": f"{parent['sku']}-{option.code}",
        "options": {name: option.attributes[name]},
        "attributes": {code: value for code, value in option.attributes.items() if code != name},
        "status": _demo_status(number),
    }


def _for_sale(number: int, line: Line, option: Option, currency: str) -> dict[str, Any]:
    """What one that is sold costs, and how many there are of it."""
    return {
        "price": round_amount(_shop_price(line.price * option.price), currency),
        "stock": 0 if number % 13 == 7 else number * 37 % 90 + 3,
        "low_stock_at": 10,
        "external_id": f"demo-{number:04}" if number % 3 else None,
    }


def _described(shelf: Shelf, line: Line, option: Option) -> dict[str, Any]:
    return {
        "description": f"{line.text} {line.choice.sentence.format(label=option.label)}",
        "attributes": {"range": line.name.split()[0], **option.attributes},
        "tags": list(shelf.tags),
    }


def _brand_of(name: str, brand_ids: Mapping[str, int]) -> int | None:
    """The id of the brand of a product, by the range that its name begins with."""
    brand = _BRANDS_OF_RANGES[name.split(maxsplit=1)[0]]
    return None if brand is None else brand_ids[brand]


def _shop_price(hundredths: int) -> Decimal:
    """A price with a typical retail ending, such as 129.00 or 18.90; ``hundredths`` are of the currency unit."""
    whole = hundredths // 100
    return Decimal(f"{(whole + 5) // 10 * 10 - 1}.00") if whole >= 100 else Decimal(f"{whole}.90")


def _demo_status(number: int) -> product_models.ProductStatus:
    if number % 29 == 11:
        return product_models.ProductStatus.DRAFT
    return product_models.ProductStatus.ARCHIVED if number % 37 == 17 else product_models.ProductStatus.ACTIVE


def _marketing_tags(number: int) -> list[str]:
    tags = {"new": number % 11 == 3, "bestseller": number % 7 == 2, "last chance": number % 17 == 9}
    return [tag for tag, is_set in tags.items() if is_set]


def _generated_sku(seed: int, number: int | str) -> str:
    # Zero-padded, so that skus sort by number.
    return f"GEN-{seed}-{number:09}" if isinstance(number, int) else f"GEN-{seed}-"


def _generated_product(
    seed: int, number: int, shelves: Mapping[str, int], brand_ids: Mapping[str, int]
) -> dict[str, Any]:
    random = _random_of(seed, number)
    category, shelf, line = random.choice(_LINES)
    option = random.choice(line.choice.options)
    given_name, kind = random.choice(_GIVEN_NAMES), line.name.partition(" ")[2]
    return {
        **_described(shelf, line, option),
        "sku": _generated_sku(seed, number),
        "name": f"{given_name} {kind}, {option.label}",
        "category_id": shelves[category],
        "brand_id": _brand_of(given_name, brand_ids),
        "price": Decimal(max(1, line.price * option.price * random.randint(60, 160) // 100)).scaleb(-2),
        "stock": random.choice((0, random.randint(1, 20), random.randint(1, 500))),
        "status": random.choices(_STATUSES, _STATUS_WEIGHTS)[0],
        "tags": [*shelf.tags, *_marketing_tags(random.randint(0, 10_000))],
    }


def _with_variants(seed: int, number: int, product: dict[str, Any], parents: int) -> dict[str, Any]:
    """A generated product, with variants if it is one of the ``parents`` among a hundred."""
    # Numbers of its own, so that the others are the same whatever the share.
    random = Random(f"{seed} {number}")  # noqa: S311 -- reproducible numbers are wanted
    if random.randrange(100) >= parents:
        return product
    _, _, line = _line_of(seed, number)
    pairs = [(option, pieces) for option in line.choice.options for pieces in PIECES]
    chosen = random.sample(pairs, random.randint(2, len(pairs)))
    variants = [_generated_variant(random, product, option, pieces) for option, pieces in chosen]
    shown = {name: value for name, value in product.items() if name not in {"price", "stock", "attributes"}}
    return {**shown, "name": product["name"].partition(",")[0], "options": ["model", "set"], VARIANTS: variants}


def _line_of(seed: int, number: int) -> tuple[str, Shelf, Line]:
    """The product line of a generated product, with the category and the shelf."""
    return _random_of(seed, number).choice(_LINES)


def _random_of(seed: int, number: int) -> Random:
    return Random(seed << 40 | number)  # noqa: S311 -- reproducible numbers are wanted


def _generated_variant(random: Random, product: Mapping[str, Any], option: Option, pieces: str) -> dict[str, Any]:
    hundredths = Decimal(option.price * (PIECES.index(pieces) + 1)).scaleb(-2)
    return {
        "sku": f"{product['sku']}-{option.code}{PIECES.index(pieces) + 1}",
        "options": {"model": option.label, "set": pieces},
        "attributes": dict(option.attributes),
        "price": round_amount(product["price"] * hundredths, product["currency"]),
        "stock": random.choice((0, random.randint(1, 20), random.randint(1, 500))),
        "status": random.choices(_STATUSES, _STATUS_WEIGHTS)[0],
    }


_STATUSES = tuple(product_models.ProductStatus)
_STATUS_WEIGHTS = (4, 93, 3)
