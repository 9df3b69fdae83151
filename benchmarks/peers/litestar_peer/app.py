"""Litestar over raw asyncpg, answers as msgspec structs."""

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from secrets import token_hex
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import asyncpg
import jwt
import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import ValidationException
from litestar.params import Parameter
from msgspec import Meta

SECRET = os.environ["JWT_SECRET_KEY"]
CLAIMS = {"require": ["sub", "sid", "iat", "exp", "jti", "iss", "aud"]}
COLUMNS = (
    "id, sku, slug, gtin, mpn, name, description, round(price, 2), round(compare_at_price, 2), currency, category_id,"
    " brand_id, stock, track_stock, low_stock_at, status, tags, attributes, weight_g, external_id, created_at,"
    " updated_at, version, live"
)
WHO = """
    SELECT u.id, u.role FROM users u JOIN sessions s ON s.user_id = u.id
    WHERE u.id = $1 AND u.is_active AND s.id = $2 AND s.revoked_at IS NULL
"""
# $2 is the slug to try, $3 the one where that is taken: without one, NOT NULL refuses the row.
CREATE = f"""
    INSERT INTO products (sku, slug, gtin, mpn, name, description, price, compare_at_price, currency, category_id,
        brand_id, stock, track_stock, low_stock_at, status, tags, attributes, weight_g, external_id, search_text,
        created_at, updated_at, version, live)
    VALUES ($1, CASE WHEN
        EXISTS (SELECT FROM products WHERE deleted_at IS NULL AND slug = $2::text)
        OR EXISTS (
            SELECT FROM former_slugs former JOIN products ON products.id = former.resource_id
            WHERE former.resource_type = 'product' AND former.slug = $2::text AND products.deleted_at IS NULL
        ) THEN $3::text ELSE $2::text END,
        $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $22, 1, 0)
    ON CONFLICT (slug) WHERE deleted_at IS NULL DO NOTHING
    RETURNING {COLUMNS}
"""
PRICE = r"^(0|[1-9][0-9]{0,9})(\.[0-9]{1,2})?$"
SLUG, GTIN = r"^[a-z0-9]+(-[a-z0-9]+)*$", r"^([0-9]{8}|[0-9]{12,14})$"
UNKNOWN = {"fk_products_category_id_categories": "category_unknown", "fk_products_brand_id_brands": "brand_unknown"}
TITLES = {401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict", 422: "Unprocessable Content"}

PARAMETERS = {
    "page", "per_page", "sort_by", "order", "category_id", "min_price", "max_price", "in_stock", "status",
}  # fmt: skip

Status = Literal["draft", "active", "archived"]
Sort = Literal["created_at", "updated_at", "name", "price", "stock", "sku", "id"]


class Product(msgspec.Struct):
    id: int
    sku: str
    slug: str
    gtin: str | None
    mpn: str | None
    name: str
    description: str
    price: Decimal
    compare_at_price: Decimal | None
    currency: str
    category_id: int
    brand_id: int | None
    stock: int
    track_stock: bool
    low_stock_at: int | None
    status: str
    tags: msgspec.Raw
    attributes: msgspec.Raw
    weight_g: int | None
    external_id: str | None
    created_at: datetime
    updated_at: datetime
    version: int
    live: int


class PageMeta(msgspec.Struct):
    page: int
    per_page: int
    total: int
    pages: int


class ProductPage(msgspec.Struct):
    items: list[Product]
    meta: PageMeta
    links: dict[str, str | None]


def check_gtin(gtin: str) -> None:
    weights = [1, 3] * 7
    if sum(weight * int(digit) for weight, digit in zip(weights, reversed(gtin), strict=False)) % 10:
        raise ValueError("the check digit is wrong")


class NewProduct(msgspec.Struct, forbid_unknown_fields=True):
    sku: Annotated[str, Meta(min_length=1, max_length=64)]
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    price: Annotated[str, Meta(pattern=PRICE)]
    category_id: Annotated[int, Meta(ge=1)]
    slug: Annotated[str, Meta(max_length=140, pattern=SLUG)] | None = None
    gtin: Annotated[str, Meta(pattern=GTIN)] | None = None
    mpn: Annotated[str, Meta(min_length=1, max_length=70)] | None = None
    description: Annotated[str, Meta(max_length=10_000)] = ""
    compare_at_price: Annotated[str, Meta(pattern=PRICE)] | None = None
    currency: Annotated[str, Meta(min_length=3, max_length=3)] = "USD"
    brand_id: Annotated[int, Meta(ge=1)] | None = None
    stock: Annotated[int, Meta(ge=0, le=2**53)] = 0
    track_stock: bool = True
    low_stock_at: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    status: Status = "active"
    tags: Annotated[list[Annotated[str, Meta(min_length=1, max_length=50)]], Meta(max_length=50)] = []
    attributes: Annotated[dict[str, str | int | float | bool], Meta(max_length=100)] = {}
    weight_g: Annotated[int, Meta(ge=0, le=10**9)] | None = None
    external_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None

    def __post_init__(self) -> None:
        if self.gtin is not None:
            check_gtin(self.gtin)


class User(msgspec.Struct):
    id: int
    role: str


class Problem(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


async def configure(connection: asyncpg.Connection) -> None:
    # What the database has as JSON goes into the answer without a look into it.
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=lambda text: msgspec.Raw(text.encode()),
    )


async def leave_as_is(connection: asyncpg.Connection) -> None:
    """No request leaves a setting, a lock or a cursor behind; the pool would otherwise send four statements for it."""


@asynccontextmanager
async def open_pool(app: Litestar) -> AsyncIterator[None]:
    size = int(os.environ["POOL"])
    async with asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=size, max_size=size, init=configure, reset=leave_as_is
    ) as pool:
        app.state.pool = pool
        yield


async def open_connection(state: State) -> AsyncIterator[asyncpg.Connection]:
    async with state.pool.acquire() as connection:
        yield connection


async def load_user(request: Request[Any, Any, Any], connection: asyncpg.Connection) -> User:
    header = request.headers.get("Authorization")
    if header is None:
        raise Problem(401, "credentials_missing")
    try:
        claims = jwt.decode(
            header.removeprefix("Bearer "),
            SECRET,
            algorithms=["HS256"],
            issuer="catalog-api",
            audience="catalog-api",
            options=CLAIMS,
        )
    except jwt.InvalidTokenError:
        raise Problem(401, "token_invalid") from None
    row = await connection.fetchrow(WHO, int(claims["sub"]), int(claims["sid"]))
    if row is None:
        raise Problem(401, "credentials_invalid")
    return User(*row)


@get("/api/v1/products")
async def list_products(  # noqa: PLR0917 -- Litestar hands them over by name
    request: Request[Any, Any, Any],
    connection: asyncpg.Connection,
    user: User,
    page: Annotated[int, Parameter(ge=1, le=2**31 - 1)] = 1,
    per_page: Annotated[int, Parameter(ge=1, le=100)] = 20,
    sort_by: Sort = "created_at",
    order: Literal["asc", "desc"] = "desc",
    category_id: Annotated[int | None, Parameter(ge=1, le=2**63 - 1)] = None,
    min_price: Decimal | None = None,
    max_price: Decimal | None = None,
    in_stock: bool | None = None,
    status: Status | None = None,
) -> ProductPage:
    if request.query_params.keys() - PARAMETERS:
        raise Problem(422, "invalid")
    conditions, values = ["deleted_at IS NULL"], []
    if user.role == "user":
        conditions.append("status = 'active'")
    compared = (("category_id =", category_id), ("price >=", min_price), ("price <=", max_price), ("status =", status))
    for comparison, value in compared:
        if value is not None:
            values.append(value)
            conditions.append(f"{comparison} ${len(values)}")
    if in_stock is not None:
        conditions.append("(stock > 0 OR NOT track_stock)" if in_stock else "stock <= 0 AND track_stock")
    where = " AND ".join(conditions)
    total = await connection.fetchval(f"SELECT count(*) FROM products WHERE {where}", *values)
    rows = await connection.fetch(
        f"SELECT {COLUMNS} FROM products WHERE {where} ORDER BY {sort_by} {order}, id {order}"
        f" LIMIT ${len(values) + 1} OFFSET ${len(values) + 2}",
        *values,
        per_page,
        (page - 1) * per_page,
    )
    pages = -(-total // per_page)
    path, query = request.url.path, dict(request.query_params)

    def link(number: int) -> str:
        return f"{path}?{urlencode({**query, 'page': number})}"

    return ProductPage(
        items=[Product(*row) for row in rows],
        meta=PageMeta(page, per_page, total, pages),
        links={
            "self": link(page),
            "first": link(1),
            "prev": link(min(page - 1, max(pages, 1))) if page > 1 else None,
            "next": link(page + 1) if page < pages else None,
            "last": link(max(pages, 1)),
        },
    )


@get("/api/v1/products/{product_id:int}")
async def read_product(product_id: int, connection: asyncpg.Connection, user: User) -> Product:
    hidden = " AND status = 'active'" if user.role == "user" else ""
    row = await connection.fetchrow(
        f"SELECT {COLUMNS} FROM products WHERE deleted_at IS NULL AND id = $1{hidden}",
        product_id,
    )
    if row is None:
        raise Problem(404, "not_found")
    return Product(*row)


def slugify(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@post("/api/v1/products")
async def create_product(data: NewProduct, connection: asyncpg.Connection, user: User) -> Product:
    if user.role == "user":
        raise Problem(403, "permission_denied")
    base = slugify(data.name)[:120].strip("-") or "product"
    values = (
        data.gtin,
        data.mpn,
        data.name,
        data.description,
        Decimal(data.price),
        None if data.compare_at_price is None else Decimal(data.compare_at_price),
        data.currency,
        data.category_id,
        data.brand_id,
        data.stock,
        data.track_stock,
        data.low_stock_at,
        data.status,
        data.tags,
        data.attributes,
        data.weight_g,
        data.external_id,
        data.name.lower(),
        datetime.now(UTC),
    )
    try:
        if data.slug is None:
            spare = f"{base}-{slugify(data.sku)}"[:140].strip("-")
            row = await connection.fetchrow(CREATE, data.sku, base, spare, *values)
            # Without a row another request has taken the slug at the same moment.
            row = row or await connection.fetchrow(CREATE, data.sku, f"{base}-{token_hex(4)}", None, *values)
        else:
            row = await connection.fetchrow(CREATE, data.sku, data.slug, None, *values)
    except asyncpg.UniqueViolationError as error:
        raise Problem(409, error.constraint_name.replace("uq_products_", "") + "_taken") from None
    except asyncpg.NotNullViolationError:
        row = None
    except asyncpg.ForeignKeyViolationError as error:
        raise Problem(422, UNKNOWN[error.constraint_name]) from None
    if row is None:
        raise Problem(409, "slug_taken")
    return Product(*row)


def answer_problem(_request: Request[Any, Any, Any], problem: Problem) -> Response[dict[str, Any]]:
    status = problem.status
    body = {"type": "about:blank", "title": TITLES[status], "status": status, "code": problem.code}
    return Response(body, status_code=status, media_type="application/problem+json")


def answer_invalid(request: Request[Any, Any, Any], _error: ValidationException) -> Response[dict[str, Any]]:
    return answer_problem(request, Problem(422, "invalid"))


app = Litestar(
    [list_products, read_product, create_product],
    lifespan=[open_pool],
    dependencies={"connection": Provide(open_connection), "user": Provide(load_user)},
    exception_handlers={Problem: answer_problem, ValidationException: answer_invalid},
    openapi_config=None,
    logging_config=None,
)
