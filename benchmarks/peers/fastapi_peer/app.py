"""FastAPI with SQLAlchemy 2's asyncio session, asyncpg and pydantic 2."""

import os
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from secrets import token_hex
from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from uuid import uuid4

import jwt
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, model_validator
from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    CompoundSelect,
    DateTime,
    ForeignKey,
    Integer,
    Numeric,
    Select,
    String,
    Text,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SECRET = os.environ["JWT_SECRET_KEY"]
CLAIMS = ["sub", "sid", "iat", "exp", "jti", "iss", "aud"]
MONTH = timedelta(days=30)
MOST_STOCK = 2**53
EDGES = [Decimal(digit).scaleb(exponent) for exponent in range(10) for digit in (1, 2, 5)]
CENT, MOST_PRICE = Decimal("0.01"), Decimal("9999999999.99")
SLUG, GTIN = r"^[a-z0-9]+(-[a-z0-9]+)*$", r"^([0-9]{8}|[0-9]{12,14})$"
REFUSALS = {
    **{f"uq_products_{key}": f"{key}_taken" for key in ("sku", "slug", "gtin", "external_id")},
    "fk_products_category_id": "category_unknown",
    "fk_products_brand_id": "brand_unknown",
}
#: The filters that choose among the values of a facet, which is counted without them.
OWN = {
    "category": ["category_id"],
    "brand": ["brand_id"],
    "price": ["min_price", "max_price"],
    "stock": ["in_stock"],
    "status": ["status"],
}

engine = create_async_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://", 1),
    pool_size=int(os.environ["POOL"]),
    max_overflow=0,
)
make_session = async_sessionmaker(engine, expire_on_commit=False)
hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    email: Mapped[str] = mapped_column(String(254))
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(16))
    is_active: Mapped[bool]


class UserSession(Base):
    __tablename__ = "sessions"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    device: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(45))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    last_seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Product(Base):
    __tablename__ = "products"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    sku: Mapped[str] = mapped_column(String(64))
    slug: Mapped[str] = mapped_column(String(140))
    gtin: Mapped[str | None] = mapped_column(String(14))
    mpn: Mapped[str | None] = mapped_column(String(70))
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    price: Mapped[Decimal] = mapped_column(Numeric(14, 4))
    compare_at_price: Mapped[Decimal | None] = mapped_column(Numeric(14, 4))
    currency: Mapped[str] = mapped_column(String(3))
    category_id: Mapped[int] = mapped_column(BigInteger)
    brand_id: Mapped[int | None] = mapped_column(BigInteger)
    stock: Mapped[int] = mapped_column(BigInteger)
    track_stock: Mapped[bool]
    low_stock_at: Mapped[int | None] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(16))
    tags: Mapped[list[str]] = mapped_column(JSONB)
    attributes: Mapped[dict[str, Any]] = mapped_column(JSONB)
    weight_g: Mapped[int | None] = mapped_column(BigInteger)
    external_id: Mapped[str | None] = mapped_column(String(128))
    search_text: Mapped[str] = mapped_column(Text, deferred=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    version: Mapped[int] = mapped_column(default=1)
    live: Mapped[int] = mapped_column(BigInteger, default=0)


class FormerSlug(Base):
    __tablename__ = "former_slugs"

    resource_type: Mapped[str] = mapped_column(String(32), primary_key=True)
    slug: Mapped[str] = mapped_column(String(140), primary_key=True)
    resource_id: Mapped[int] = mapped_column(BigInteger)


class Category(Base):
    __tablename__ = "categories"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    parent_id: Mapped[int | None] = mapped_column(BigInteger)


class Brand(Base):
    __tablename__ = "brands"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(120))


class Hold(Base):
    __tablename__ = "holds"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    product_id: Mapped[int] = mapped_column(BigInteger)
    quantity: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    outcome: Mapped[str | None] = mapped_column(String(16))


class StockMovement(Base):
    __tablename__ = "stock_movements"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    product_id: Mapped[int] = mapped_column(BigInteger)
    delta: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(String(16))
    reference: Mapped[str | None] = mapped_column(String(128))
    stock_after: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    actor_id: Mapped[int | None] = mapped_column(BigInteger)


def check_gtin(gtin: str) -> str:
    weights = [1, 3] * 7
    if sum(weight * int(digit) for weight, digit in zip(weights, reversed(gtin), strict=False)) % 10:
        raise ValueError("the check digit is wrong")
    return gtin


STATUSES = ("draft", "active", "archived")
Status = Literal["draft", "active", "archived"]
Tag = Annotated[str, Field(min_length=1, max_length=50)]
Scalar = str | int | float | bool


class ProductIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sku: Annotated[str, Field(min_length=1, max_length=64)]
    slug: Annotated[str, Field(max_length=140, pattern=SLUG)] | None = None
    gtin: Annotated[str, Field(pattern=GTIN), AfterValidator(check_gtin)] | None = None
    mpn: Annotated[str, Field(min_length=1, max_length=70)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: Annotated[str, Field(max_length=10_000)] = ""
    price: Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2)]
    compare_at_price: Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2)] | None = None
    currency: Annotated[str, Field(min_length=3, max_length=3)] = "USD"
    category_id: int
    brand_id: int | None = None
    stock: Annotated[int, Field(ge=0, le=2**53)] = 0
    track_stock: bool = True
    low_stock_at: Annotated[int, Field(ge=0, le=2**53)] | None = None
    status: Status = "active"
    tags: Annotated[list[Tag], Field(max_length=50)] = []
    attributes: Annotated[dict[str, Scalar], Field(max_length=100)] = {}
    weight_g: Annotated[int, Field(ge=0, le=10**9)] | None = None
    external_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None


Money = Annotated[Decimal, PlainSerializer(lambda amount: f"{amount:.2f}", return_type=str)]


class ProductOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    sku: str
    slug: str
    gtin: str | None
    mpn: str | None
    name: str
    description: str
    price: Money
    compare_at_price: Money | None
    currency: str
    category_id: int
    brand_id: int | None
    stock: int
    track_stock: bool
    low_stock_at: int | None
    status: str
    tags: list[str]
    attributes: dict[str, Any]
    weight_g: int | None
    external_id: str | None
    created_at: datetime
    updated_at: datetime
    version: int
    live: int


class Meta(BaseModel):
    page: int
    per_page: int
    total: int
    pages: int


class ProductPage(BaseModel):
    items: list[ProductOut]
    meta: Meta
    links: dict[str, str | None]


class ProductFilter(BaseModel):
    model_config = ConfigDict(extra="forbid")

    category_id: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    brand_id: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    min_price: Annotated[Decimal, Field(ge=0)] | None = None
    max_price: Annotated[Decimal, Field(ge=0)] | None = None
    currency: Annotated[str, Field(min_length=3, max_length=3)] | None = None
    in_stock: bool | None = None
    status: Status | None = None
    search: Annotated[str, Field(max_length=200)] | None = None


class ProductQuery(ProductFilter):
    page: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1
    per_page: Annotated[int, Field(ge=1, le=100)] = 20
    sort_by: Literal["created_at", "updated_at", "name", "price", "stock", "sku", "id"] = "created_at"
    order: Literal["asc", "desc"] = "desc"


class MovementIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    delta: Annotated[int, Field(ge=-MOST_STOCK, le=MOST_STOCK)]
    reason: Literal["receipt", "sale", "correction", "return"]
    reference: Annotated[str, Field(min_length=1, max_length=128)] | None = None

    @model_validator(mode="after")
    def delta_fits_reason(self) -> "MovementIn":
        if not {"sale": self.delta < 0, "correction": self.delta != 0}.get(self.reason, self.delta > 0):
            raise ValueError("delta does not fit the reason")
        return self


class MovementOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    product_id: int
    delta: int
    reason: str
    reference: str | None
    stock_after: int
    created_at: datetime
    actor_id: int | None


class Credentials(BaseModel):
    email: Annotated[str, Field(max_length=254)]
    password: Annotated[str, Field(min_length=1, max_length=1024)]


class Problem(Exception):
    def __init__(self, status: int, title: str, code: str) -> None:
        self.status, self.title, self.code = status, title, code


async def open_session() -> AsyncIterator[AsyncSession]:
    async with make_session() as session:
        yield session


Session = Annotated[AsyncSession, Depends(open_session)]


async def load_user(request: Request, session: Session) -> User:
    header = request.headers.get("Authorization")
    if header is None:
        raise Problem(401, "Unauthorized", "credentials_missing")
    try:
        claims = jwt.decode(
            header.removeprefix("Bearer "),
            SECRET,
            algorithms=["HS256"],
            issuer="catalog-api",
            audience="catalog-api",
            options={"require": CLAIMS},
        )
    except jwt.InvalidTokenError:
        raise Problem(401, "Unauthorized", "token_invalid") from None
    user = await session.scalar(
        select(User)
        .join(UserSession, UserSession.user_id == User.id)
        .where(
            User.id == int(claims["sub"]),
            User.is_active,
            UserSession.id == int(claims["sid"]),
            UserSession.revoked_at.is_(None),
        )
    )
    if user is None:
        raise Problem(401, "Unauthorized", "credentials_invalid")
    return user


CurrentUser = Annotated[User, Depends(load_user)]
router = APIRouter(prefix="/api/v1")


def visible(user: User) -> Select[tuple[Product]]:
    rows = select(Product).where(Product.deleted_at.is_(None))
    return rows.where(Product.status == "active") if user.role == "user" else rows


def links_of(request: Request, page: int, pages: int) -> dict[str, str | None]:
    path, query = request.url.path, dict(request.query_params)

    def link(number: int) -> str:
        return f"{path}?{urlencode({**query, 'page': number})}"

    return {
        "self": link(page),
        "first": link(1),
        "prev": link(min(page - 1, max(pages, 1))) if page > 1 else None,
        "next": link(page + 1) if page < pages else None,
        "last": link(max(pages, 1)),
    }


def has_words(words: list[str]) -> ColumnElement[bool]:
    sought = " & ".join(f"{word}:*" for word in words)
    return literal_column("products.search_vector").bool_op("@@")(func.to_tsquery("simple", sought))


def has_similar_words(words: list[str]) -> ColumnElement[bool]:
    # Asked first what is similar: the planner would otherwise walk the order's index and compare each row.
    first_lines = "(split_part(products.search_text, chr(10), 1) || split_part(products.search_text, chr(10), 2))"
    alike = [literal(word).bool_op("<%")(literal_column(first_lines, Text)) for word in words]
    similar = select(Product.id).where(Product.deleted_at.is_(None), *alike).cte("similar")
    return Product.id.in_(select(similar.prefix_with("MATERIALIZED").c.id))


def is_in_stock() -> ColumnElement[bool]:
    return or_(Product.stock > 0, Product.track_stock.is_(False))


IN_STOCK = is_in_stock().label("in_stock")
COUNT = func.count().label("count")
#: A value as a number or a text, and how many products have it.
Counted = tuple[int, str, int]


def narrow(rows: Select[tuple[Product]], query: dict[str, Any]) -> Select[tuple[Product]]:
    if "category_id" in query:
        rows = rows.where(Product.category_id == query["category_id"])
    if "brand_id" in query:
        rows = rows.where(Product.brand_id == query["brand_id"])
    if "min_price" in query:
        rows = rows.where(Product.price >= query["min_price"])
    if "max_price" in query:
        rows = rows.where(Product.price <= query["max_price"])
    if "currency" in query:
        rows = rows.where(Product.currency == query["currency"])
    if "in_stock" in query:
        rows = rows.where(is_in_stock() if query["in_stock"] else ~is_in_stock())
    if "status" in query:
        rows = rows.where(Product.status == query["status"])
    return rows


async def answer_page(
    request: Request, session: AsyncSession, rows: Select[tuple[Product]], query: ProductQuery
) -> ProductPage:
    rows = everything = narrow(rows, query.model_dump(exclude_none=True))
    words = re.findall(r"[a-z0-9]+", query.search.lower()) if query.search else []
    if words:
        rows = everything.where(has_words(words))
    total = await session.scalar(select(func.count()).select_from(rows.subquery())) or 0
    if words and not total:
        rows = everything.where(has_similar_words(words))
        total = await session.scalar(select(func.count()).select_from(rows.subquery())) or 0
    column = getattr(Product, query.sort_by)
    rows = rows.order_by(*(c.desc() if query.order == "desc" else c.asc() for c in (column, Product.id)))
    rows = rows.limit(query.per_page).offset((query.page - 1) * query.per_page)
    products = (await session.scalars(rows)).all() if total else []
    pages = -(-total // query.per_page)
    return ProductPage(
        items=[ProductOut.model_validate(product) for product in products],
        meta=Meta(page=query.page, per_page=query.per_page, total=total, pages=pages),
        links=links_of(request, query.page, pages),
    )


@router.get("/products")
async def list_products(
    request: Request, user: CurrentUser, session: Session, query: Annotated[ProductQuery, Query()]
) -> ProductPage:
    return await answer_page(request, session, visible(user), query)


@router.get("/categories/{category_id}/products")
async def list_products_below(
    request: Request, category_id: int, user: CurrentUser, session: Session, query: Annotated[ProductQuery, Query()]
) -> ProductPage:
    if await session.get(Category, category_id) is None:
        raise Problem(404, "Not Found", "not_found")
    below = select(Category.id).where(Category.id == category_id).cte("below", recursive=True)
    below = below.union_all(select(Category.id).join(below, Category.parent_id == below.c.id))
    ids = func.array(select(below.c.id).scalar_subquery())
    return await answer_page(request, session, visible(user).where(Product.category_id == func.any(ids)), query)


def find_for(facet: str, found: CTE, products: Any, query: dict[str, Any], *columns: Any) -> CTE:
    """What a facet is counted from: all that is found, or, where its own filters are set, what the others find."""
    if not any(name in query for name in OWN[facet]):
        return found
    others = {name: value for name, value in query.items() if name not in OWN[facet]}
    return narrow(products, others).with_only_columns(*columns).cte(f"found_for_{facet}")


def counted(facet: str, number: Any, text: Any, count: Any) -> Select[Any]:
    return select(literal(facet), cast(number, BigInteger), cast(text, Text), count)


def count_references(facet: str, rows: CTE, named: Any, chosen: int | None) -> list[Select[Any]]:
    key = rows.c[f"{facet}_id"].label("id")
    counts = select(key, COUNT).where(key.is_not(None)).group_by(key).cte(f"by_{facet}")
    top = select(counts).order_by(counts.c.count.desc(), counts.c.id).limit(50).subquery()
    parts = [counted(facet, named.id, named.name, top.c.count).join_from(top, named, named.id == top.c.id)]
    if chosen is not None:
        count = func.coalesce(counts.c.count, 0)
        part = counted(facet, named.id, named.name, count).join_from(
            named, counts, counts.c.id == named.id, isouter=True
        )
        parts.append(part.where(named.id == chosen))
    return parts


def count_tags(rows: CTE) -> Select[Any]:
    tags = func.jsonb_array_elements_text(rows.c.tags).table_valued("value")
    tag = tags.c.value.collate("C").label("tag")
    tagged = select(tag, COUNT).select_from(rows.join(tags, true())).group_by("tag").order_by(COUNT.desc(), tag)
    tagged = tagged.limit(50).subquery()
    return counted("tag", literal(0), tagged.c.tag, tagged.c.count)


def count_prices(rows: CTE) -> Select[Any]:
    band = case(*((rows.c.price < edge, number) for number, edge in enumerate(EDGES)), else_=len(EDGES)).label("band")
    bands = select(band, COUNT).group_by("band").subquery()
    return counted("price", bands.c.band, literal(""), bands.c.count)


def facets_statement(products: Any, query: dict[str, Any]) -> CompoundSelect[Any]:
    members = (Product.category_id, Product.brand_id, Product.price, Product.tags, Product.status, IN_STOCK)
    found = narrow(products, query).with_only_columns(*members).cte("found")

    def rows_for(facet: str, column: Any) -> CTE:
        return find_for(facet, found, products, query, column)

    by_both = counted("found", cast(found.c.in_stock, Integer), found.c.status, func.count())
    parts = [by_both.group_by(found.c.in_stock, found.c.status), count_tags(found)]
    parts += count_references("category", rows_for("category", Product.category_id), Category, query.get("category_id"))
    parts += count_references("brand", rows_for("brand", Product.brand_id), Brand, query.get("brand_id"))
    if "currency" in query:
        parts.append(count_prices(rows_for("price", Product.price)))
    if "in_stock" in query:
        rows = rows_for("stock", IN_STOCK)
        part = counted("stock", cast(rows.c.in_stock, Integer), literal(""), func.count())
        parts.append(part.group_by(rows.c.in_stock))
    if "status" in query:
        rows = rows_for("status", Product.status)
        parts.append(counted("status", literal(0), rows.c.status, func.count()).group_by(rows.c.status))
    return union_all(*parts)


def show_references(counts: set[Counted], chosen: int | None) -> list[dict[str, Any]]:
    ranked = sorted(counts, key=lambda one: (-one[2], one[0]))
    return [
        {"id": number, "name": name, "count": count, "selected": number == chosen}
        for place, (number, name, count) in enumerate(ranked)
        if place < 50 or number == chosen
    ]


def show_tags(counts: set[Counted]) -> list[dict[str, Any]]:
    # No filter of this list chooses among them.
    ranked = sorted(counts, key=lambda one: (-one[2], one[1]))
    return [{"value": tag, "count": count, "selected": False} for _, tag, count in ranked]


def show_prices(counts: set[Counted], query: dict[str, Any]) -> list[dict[str, Any]]:
    bounds = list(zip([Decimal(0), *EDGES], [*(edge - CENT for edge in EDGES), MOST_PRICE], strict=True))
    given = [name for name in OWN["price"] if name in query]
    least, most = query.get("min_price", Decimal(0)), query.get("max_price", MOST_PRICE)
    chosen = {number for number, (low, high) in enumerate(bounds) if given and least <= low and high <= most}
    products = {number: count for number, _, count in counts}
    shown = products.keys() | (chosen if len(given) == 2 else set())
    return [
        {
            "min_price": f"{bounds[number][0]:.2f}",
            "max_price": f"{bounds[number][1]:.2f}",
            "count": products.get(number, 0),
            "selected": number in chosen,
        }
        for number in sorted(shown)
    ]


def show_facets(rows: Iterable[Any], query: dict[str, Any]) -> dict[str, Any]:
    counts: defaultdict[str, set[Counted]] = defaultdict(set)
    for facet, number, text, count in rows:
        counts[facet].add((number, text, count))
    found = counts["found"]
    by_stock = counts["stock"] if "in_stock" in query else found
    by_status = counts["status"] if "status" in query else found
    return {
        "total": sum(count for _, _, count in found),
        "category": show_references(counts["category"], query.get("category_id")),
        "brand": show_references(counts["brand"], query.get("brand_id")),
        "tag": show_tags(counts["tag"]),
        "price": show_prices(counts["price"], query) if "currency" in query else [],
        "stock": [
            {
                "value": value,
                "count": sum(count for number, _, count in by_stock if number == value),
                "selected": query.get("in_stock") is value,
            }
            for value in (True, False)
        ],
        "status": [
            {
                "value": status,
                "count": sum(count for _, text, count in by_status if text == status),
                "selected": query.get("status") == status,
            }
            for status in STATUSES
        ],
    }


@router.get("/products/facets")
async def count_facets(user: CurrentUser, session: Session, asked: Annotated[ProductFilter, Query()]) -> dict[str, Any]:
    query = asked.model_dump(exclude_none=True)
    products = visible(user)
    if asked.search:
        products = products.where(has_words(re.findall(r"[a-z0-9]+", asked.search.lower())))
    return show_facets(await session.execute(facets_statement(products, query)), query)


@router.post("/products/{product_id}/stock-movements", status_code=201)
async def record_movement(product_id: int, user: CurrentUser, session: Session, data: MovementIn) -> MovementOut:
    if user.role == "user":
        raise Problem(403, "Forbidden", "permission_denied")
    rows = visible(user).where(Product.id == product_id)
    product = await session.scalar(rows.with_for_update(key_share=True))
    if product is None:
        raise Problem(404, "Not Found", "not_found")
    if not product.track_stock:
        raise Problem(409, "Conflict", "stock_not_tracked")
    held = 0
    if data.delta < 0:
        live = Hold.product_id == product_id, Hold.outcome.is_(None), Hold.expires_at > now()
        held = await session.scalar(select(func.coalesce(func.sum(Hold.quantity), 0)).where(*live))
    if not held <= product.stock + data.delta <= MOST_STOCK:
        raise Problem(409, "Conflict", "out_of_stock" if data.delta < 0 else "stock_too_large")
    product.stock += data.delta
    product.live += 1
    movement = StockMovement(**data.model_dump(), product_id=product_id, stock_after=product.stock, actor_id=user.id)
    session.add(movement)
    await session.commit()
    return MovementOut.model_validate(movement)


@router.get("/products/{product_id}")
async def read_product(product_id: int, user: CurrentUser, session: Session) -> ProductOut:
    product = await session.scalar(visible(user).where(Product.id == product_id))
    if product is None:
        raise Problem(404, "Not Found", "not_found")
    return ProductOut.model_validate(product)


def slugify(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


async def is_taken(session: AsyncSession, slug: str) -> bool:
    living = select(Product.id).where(Product.deleted_at.is_(None))
    former = living.join(FormerSlug, FormerSlug.resource_id == Product.id)
    former = former.where(FormerSlug.resource_type == "product", FormerSlug.slug == slug)
    return bool(await session.scalar(select(or_(living.where(Product.slug == slug).exists(), former.exists()))))


async def insert(session: AsyncSession, **values: Any) -> Product:
    product = Product(**values)
    session.add(product)
    try:
        await session.commit()
    except IntegrityError as error:
        await session.rollback()
        code = next(code for constraint, code in REFUSALS.items() if constraint in str(error.orig))
        if code.endswith("_unknown"):
            raise Problem(422, "Unprocessable Content", code) from None
        raise Problem(409, "Conflict", code) from None
    return product


@router.post("/products", status_code=201)
async def create_product(user: CurrentUser, session: Session, data: ProductIn) -> ProductOut:
    if user.role == "user":
        raise Problem(403, "Forbidden", "permission_denied")
    base = slugify(data.name)[:120].strip("-") or "product"
    slug = data.slug or base
    if await is_taken(session, slug):
        if data.slug:
            raise Problem(409, "Conflict", "slug_taken")
        slug = f"{base}-{slugify(data.sku)}"[:140].strip("-")
    values = {**data.model_dump(), "search_text": data.name.lower()}
    try:
        product = await insert(session, **values | {"slug": slug})
    except Problem as problem:
        if problem.code != "slug_taken" or data.slug:
            raise
        # Another request has taken it in the meantime.
        product = await insert(session, **values | {"slug": f"{base}-{token_hex(4)}"})
    return ProductOut.model_validate(product)


@router.post("/auth/login")
async def log_in(request: Request, session: Session, data: Credentials) -> dict[str, str]:
    user = await session.scalar(select(User).where(User.email == data.email.lower(), User.is_active))
    if user is None:
        raise Problem(401, "Unauthorized", "login_failed")
    try:
        await run_in_threadpool(hasher.verify, user.password_hash, data.password)
    except VerifyMismatchError:
        raise Problem(401, "Unauthorized", "login_failed") from None
    moment = now()
    opened = UserSession(
        user_id=user.id,
        device=request.headers.get("User-Agent", "")[:200],
        address=request.client.host if request.client else "",
        expires_at=moment + MONTH,
    )
    session.add(opened)
    await session.commit()
    claims = {"sub": str(user.id), "sid": str(opened.id), "role": user.role, "type": "access", "jti": str(uuid4())}
    claims |= {"iss": "catalog-api", "aud": "catalog-api"}
    token = jwt.encode({**claims, "iat": moment, "exp": moment + timedelta(minutes=15)}, SECRET, algorithm="HS256")
    return {"access_token": token, "token_type": "Bearer"}


app = FastAPI(openapi_url=None)
app.include_router(router)


@app.exception_handler(Problem)
async def answer_problem(_request: Request, problem: Problem) -> JSONResponse:
    body = {"type": "about:blank", "title": problem.title, "status": problem.status, "code": problem.code}
    return JSONResponse(body, problem.status, media_type="application/problem+json")


@app.exception_handler(RequestValidationError)
async def answer_invalid(request: Request, _error: RequestValidationError) -> JSONResponse:
    return await answer_problem(request, Problem(422, "Unprocessable Content", "invalid"))
