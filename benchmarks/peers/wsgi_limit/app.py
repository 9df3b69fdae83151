"""No framework at all: WSGI by hand, psycopg with prepared statements, orjson. What Python can do behind gunicorn."""

import os
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qsl, urlencode

import jwt
import orjson
import psycopg
from psycopg.adapt import Loader
from psycopg.errors import ForeignKeyViolation, NotNullViolation, UniqueViolation
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg.types.string import TextLoader
from psycopg_pool import ConnectionPool

SECRET = os.environ["JWT_SECRET_KEY"]
CLAIMS = {"require": ["sub", "sid", "iat", "exp", "jti", "iss", "aud"]}
PRODUCTS = "/api/v1/products"
COLUMNS = (
    "p.id, p.sku, p.slug, p.gtin, p.mpn, p.name, p.description, round(p.price, 2) AS price,"
    " round(p.compare_at_price, 2) AS compare_at_price, p.currency, p.category_id, p.brand_id, p.stock, p.track_stock,"
    " p.low_stock_at, p.status, p.tags, p.attributes, p.weight_g, p.external_id, p.created_at, p.updated_at,"
    " p.version, p.live"
)
SORTS = {name: f"p.{name}" for name in ("created_at", "updated_at", "name", "price", "stock", "sku", "id")}
PRICE = re.compile(r"(0|[1-9][0-9]{0,9})(\.[0-9]{1,2})?")
SLUG, GTIN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*"), re.compile(r"[0-9]{8}|[0-9]{12,14}")
UNKNOWN = {"fk_products_category_id_categories": "category_unknown", "fk_products_brand_id_brands": "brand_unknown"}
STATUSES = {"draft", "active", "archived"}
IN_STOCK = {"true": "(p.stock > 0 OR NOT p.track_stock)", "false": "p.stock <= 0 AND p.track_stock"}
PARAMETERS = {
    "page", "per_page", "sort_by", "order", "category_id", "min_price", "max_price", "in_stock", "status",
}  # fmt: skip
REASONS = {
    200: "200 OK",
    201: "201 Created",
    401: "401 Unauthorized",
    403: "403 Forbidden",
    404: "404 Not Found",
    409: "409 Conflict",
    422: "422 Unprocessable Content",
}
WHO = """
    SELECT u.role FROM users u JOIN sessions s ON s.user_id = u.id
    WHERE u.id = %s AND u.is_active AND s.id = %s AND s.revoked_at IS NULL
"""
# Where the slug is taken, the row gets the spare one: without one, NOT NULL refuses it.
CREATE = f"""
    INSERT INTO products AS p (sku, slug, gtin, mpn, name, description, price, compare_at_price, currency, category_id,
        brand_id, stock, track_stock, low_stock_at, status, tags, attributes, weight_g, external_id, search_text,
        created_at, updated_at, version, live)
    VALUES (%(sku)s, CASE WHEN
        EXISTS (SELECT FROM products WHERE deleted_at IS NULL AND slug = %(slug)s::text)
        OR EXISTS (
            SELECT FROM former_slugs former JOIN products ON products.id = former.resource_id
            WHERE former.resource_type = 'product' AND former.slug = %(slug)s::text AND products.deleted_at IS NULL
        ) THEN %(spare)s::text ELSE %(slug)s::text END,
        %(gtin)s, %(mpn)s, %(name)s, %(description)s, %(price)s, %(compare_at_price)s, %(currency)s, %(category_id)s,
        %(brand_id)s, %(stock)s, %(track_stock)s, %(low_stock_at)s, %(status)s, %(tags)s, %(attributes)s,
        %(weight_g)s, %(external_id)s, %(search_text)s, %(now)s, %(now)s, 1, 0)
    ON CONFLICT (slug) WHERE deleted_at IS NULL DO NOTHING
    RETURNING {COLUMNS}
"""


class JsonAsIs(Loader):
    """JSON of the database, put into the answer without a look into it."""

    def load(self, data: Any) -> orjson.Fragment:
        return orjson.Fragment(bytes(data))


class Problem(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


def configure(connection: psycopg.Connection[Any]) -> None:
    connection.autocommit = True
    connection.prepare_threshold = 0
    connection.row_factory = dict_row
    connection.adapters.register_loader("numeric", TextLoader)
    connection.adapters.register_loader("jsonb", JsonAsIs)
    connection.execute("SET timezone TO 'UTC'")


_size = int(os.environ["THREADS"])
pool = ConnectionPool(os.environ["DATABASE_URL"], min_size=_size, max_size=_size, configure=configure, open=True)


def read_token(environ: dict[str, Any]) -> tuple[int, int]:
    header = environ.get("HTTP_AUTHORIZATION")
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
    return int(claims["sub"]), int(claims["sid"])


def whole(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise ValueError(text)
    return int(text)


def list_products(connection: psycopg.Connection[Any], role: str, raw: str) -> dict[str, Any]:
    query = dict(parse_qsl(raw, keep_blank_values=True))
    if query.keys() - PARAMETERS:
        raise Problem(422, "invalid")
    conditions, values = ["p.deleted_at IS NULL"], []
    if role == "user":
        conditions.append("p.status = 'active'")
    try:
        page, per_page = whole(query.get("page", "1"), 2**31 - 1), whole(query.get("per_page", "20"), 100)
        column, direction = (
            SORTS[query.get("sort_by", "created_at")],
            {"asc": "ASC", "desc": "DESC"}[query.get("order", "desc")],
        )
        if "category_id" in query:
            conditions.append("p.category_id = %s")
            values.append(whole(query["category_id"], 2**63 - 1))
        for name, comparison in (("min_price", ">="), ("max_price", "<=")):
            if name in query:
                conditions.append(f"p.price {comparison} %s")
                values.append(Decimal(query[name]))
        if "in_stock" in query:
            conditions.append(IN_STOCK[query["in_stock"]])
        if "status" in query:
            if query["status"] not in STATUSES:
                raise Problem(422, "invalid")
            conditions.append("p.status = %s")
            values.append(query["status"])
    except (ValueError, KeyError, InvalidOperation):
        raise Problem(422, "invalid") from None
    where = " AND ".join(conditions)
    counted = connection.execute(f"SELECT count(*) AS total FROM products p WHERE {where}", values).fetchone()
    items = connection.execute(
        f"SELECT {COLUMNS} FROM products p WHERE {where}"
        f" ORDER BY {column} {direction}, p.id {direction} LIMIT %s OFFSET %s",
        [*values, per_page, (page - 1) * per_page],
        binary=False,
    ).fetchall()
    total = counted["total"]
    pages = -(-total // per_page)

    def link(number: int) -> str:
        return f"{PRODUCTS}?{urlencode({**query, 'page': number})}"

    return {
        "items": items,
        "meta": {"page": page, "per_page": per_page, "total": total, "pages": pages},
        "links": {
            "self": link(page),
            "first": link(1),
            "prev": link(min(page - 1, max(pages, 1))) if page > 1 else None,
            "next": link(page + 1) if page < pages else None,
            "last": link(max(pages, 1)),
        },
    }


def read_product(connection: psycopg.Connection[Any], role: str, product_id: int) -> dict[str, Any]:
    hidden = " AND p.status = 'active'" if role == "user" else ""
    row = connection.execute(
        f"SELECT {COLUMNS} FROM products p WHERE p.deleted_at IS NULL AND p.id = %s{hidden}",
        [product_id],
    ).fetchone()
    if row is None:
        raise Problem(404, "not_found")
    return row  # type: ignore[no-any-return]


def is_text(value: object, least: int, most: int) -> bool:
    return isinstance(value, str) and least <= len(value) <= most


def is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_price(value: object) -> bool:
    return isinstance(value, str) and PRICE.fullmatch(value) is not None


def is_slug(value: object) -> bool:
    return is_text(value, 1, 140) and SLUG.fullmatch(value) is not None  # type: ignore[call-overload,no-any-return]


def is_gtin(value: object) -> bool:
    if not isinstance(value, str) or not GTIN.fullmatch(value):
        return False
    return sum(weight * int(digit) for weight, digit in zip([1, 3] * 7, reversed(value), strict=False)) % 10 == 0


def read_body(content: bytes) -> dict[str, Any]:
    defaults = {
        "slug": None, "gtin": None, "mpn": None, "description": "", "compare_at_price": None, "currency": "USD",
        "brand_id": None, "stock": 0, "track_stock": True, "low_stock_at": None, "status": "active", "weight_g": None,
        "external_id": None,
    }  # fmt: skip
    try:
        given = orjson.loads(content)
        data = {**defaults, "tags": [], "attributes": {}, **given}
        good = (
            data.keys() == {*defaults, "tags", "attributes", "sku", "name", "price", "category_id"}
            and is_text(data["sku"], 1, 64)
            and is_text(data["name"], 1, 200)
            and is_text(data["description"], 0, 10_000)
            and (data["slug"] is None or is_slug(data["slug"]))
            and (data["gtin"] is None or is_gtin(data["gtin"]))
            and (data["mpn"] is None or is_text(data["mpn"], 1, 70))
            and is_price(data["price"])
            and (data["compare_at_price"] is None or is_price(data["compare_at_price"]))
            and is_text(data["currency"], 3, 3)
            and is_whole(data["category_id"], 1, 2**63 - 1)
            and (data["brand_id"] is None or is_whole(data["brand_id"], 1, 2**63 - 1))
            and is_whole(data["stock"], 0, 2**53)
            and isinstance(data["track_stock"], bool)
            and (data["low_stock_at"] is None or is_whole(data["low_stock_at"], 0, 2**53))
            and (data["weight_g"] is None or is_whole(data["weight_g"], 0, 10**9))
            and data["status"] in STATUSES
            and isinstance(data["tags"], list)
            and len(data["tags"]) <= 50
            and all(is_text(tag, 1, 50) for tag in data["tags"])
            and isinstance(data["attributes"], dict)
            and len(data["attributes"]) <= 100
            and all(isinstance(value, str | int | float) for value in data["attributes"].values())
            and (data["external_id"] is None or is_text(data["external_id"], 1, 128))
        )
    except (ValueError, TypeError):
        raise Problem(422, "invalid") from None
    if not good:
        raise Problem(422, "invalid")
    return data


def slugify(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def create_product(connection: psycopg.Connection[Any], role: str, content: bytes) -> dict[str, Any]:
    if role == "user":
        raise Problem(403, "permission_denied")
    data = read_body(content)
    data["tags"], data["attributes"] = Jsonb(data["tags"], orjson.dumps), Jsonb(data["attributes"], orjson.dumps)
    for name in ("price", "compare_at_price"):
        data[name] = None if data[name] is None else Decimal(data[name])
    data |= {"search_text": data["name"].lower(), "now": datetime.now(UTC), "spare": None}
    try:
        if data["slug"] is None:
            base = slugify(data["name"])[:120].strip("-") or "product"
            data |= {"slug": base, "spare": f"{base}-{slugify(data['sku'])}"[:140].strip("-")}
            row = connection.execute(CREATE, data).fetchone()
            if row is None:
                # Another request has taken it at the same moment.
                row = connection.execute(CREATE, {**data, "slug": f"{base}-{token_hex(4)}"}).fetchone()
        else:
            row = connection.execute(CREATE, data).fetchone()
    except UniqueViolation as error:
        raise Problem(409, str(error.diag.constraint_name).replace("uq_products_", "") + "_taken") from None
    except NotNullViolation:
        row = None
    except ForeignKeyViolation as error:
        raise Problem(422, UNKNOWN[str(error.diag.constraint_name)]) from None
    if row is None:
        raise Problem(409, "slug_taken")
    return row


def answer(environ: dict[str, Any]) -> tuple[int, Any]:
    path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
    user_id, session_id = read_token(environ)
    with pool.connection() as connection:
        user = connection.execute(WHO, (user_id, session_id)).fetchone()
        if user is None:
            raise Problem(401, "credentials_invalid")
        if path == PRODUCTS and method == "GET":
            return 200, list_products(connection, user["role"], environ["QUERY_STRING"])
        if path == PRODUCTS and method == "POST":
            content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return 201, create_product(connection, user["role"], content)
        if method == "GET" and re.fullmatch(rf"{PRODUCTS}/[1-9][0-9]{{0,17}}", path):
            return 200, read_product(connection, user["role"], int(path.rpartition("/")[2]))
    raise Problem(404, "not_found")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    kind = "application/json"
    try:
        status, value = answer(environ)
    except Problem as problem:
        status, kind = problem.status, "application/problem+json"
        value = {"type": "about:blank", "title": REASONS[status][4:], "status": status, "code": problem.code}
    body = orjson.dumps(value, option=orjson.OPT_UTC_Z)
    start_response(REASONS[status], [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
