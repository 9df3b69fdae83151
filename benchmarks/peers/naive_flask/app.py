"""The Flask of the textbooks: Flask-SQLAlchemy models, marshmallow schemas and flask-jwt-extended.

The threads that were tried: see README.md beside the peers.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from secrets import token_hex
from typing import Any
from urllib.parse import urlencode

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from flask import Blueprint, Flask, Response, current_app, jsonify, request
from flask_jwt_extended import JWTManager, create_access_token, current_user, jwt_required
from flask_sqlalchemy import SQLAlchemy
from marshmallow import Schema, ValidationError, fields, validate, validates_schema
from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    CompoundSelect,
    DateTime,
    ForeignKey,
    Integer,
    Numeric,
    String,
    Text,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

db = SQLAlchemy()
jwt = JWTManager()
api = Blueprint("api", __name__, url_prefix="/api/v1")
hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

STATUSES = ["draft", "active", "archived"]
REASONS = ["receipt", "sale", "correction", "return"]
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
SORTS = ["created_at", "updated_at", "name", "price", "stock", "sku", "id"]


def now() -> datetime:
    return datetime.now(UTC)


class User(db.Model):  # type: ignore[name-defined,misc]
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    email: Mapped[str] = mapped_column(String(254))
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(16))
    is_active: Mapped[bool]


class UserSession(db.Model):  # type: ignore[name-defined,misc]
    __tablename__ = "sessions"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    device: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(45))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    last_seen_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Product(db.Model):  # type: ignore[name-defined,misc]
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
    kind: Mapped[str] = mapped_column(String(8), default="single")
    parent_id: Mapped[int | None] = mapped_column(BigInteger)
    options: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    position: Mapped[int | None] = mapped_column(BigInteger)
    price_max: Mapped[Decimal | None] = mapped_column(Numeric(14, 4))
    variant_count: Mapped[int | None] = mapped_column(BigInteger)
    image: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    type_id: Mapped[int | None] = mapped_column(BigInteger)
    missing: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    search_text: Mapped[str] = mapped_column(Text, deferred=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now, onupdate=now)
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    version: Mapped[int] = mapped_column(default=1)
    live: Mapped[int] = mapped_column(BigInteger, default=0)


class FormerSlug(db.Model):  # type: ignore[name-defined,misc]
    __tablename__ = "former_slugs"

    resource_type: Mapped[str] = mapped_column(String(32), primary_key=True)
    slug: Mapped[str] = mapped_column(String(140), primary_key=True)
    resource_id: Mapped[int] = mapped_column(BigInteger)


class Category(db.Model):  # type: ignore[name-defined,misc]
    __tablename__ = "categories"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    parent_id: Mapped[int | None] = mapped_column(BigInteger)


class Brand(db.Model):  # type: ignore[name-defined,misc]
    __tablename__ = "brands"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(120))


class Hold(db.Model):  # type: ignore[name-defined,misc]
    __tablename__ = "holds"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    product_id: Mapped[int] = mapped_column(BigInteger)
    quantity: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    outcome: Mapped[str | None] = mapped_column(String(16))


class StockMovement(db.Model):  # type: ignore[name-defined,misc]
    __tablename__ = "stock_movements"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    product_id: Mapped[int] = mapped_column(BigInteger)
    delta: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(String(16))
    reference: Mapped[str | None] = mapped_column(String(128))
    stock_after: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    actor_id: Mapped[int | None] = mapped_column(BigInteger)


class Moment(fields.DateTime):
    """UTC, ending in Z."""

    def _serialize(self, value: datetime | None, *_: Any, **__: Any) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Money(fields.Decimal):
    """With cents."""

    def _serialize(self, value: Decimal | None, *_: Any, **__: Any) -> str | None:
        return None if value is None else f"{value:.2f}"


def has_cents(price: Decimal) -> None:
    if price != round(price, 2):
        raise ValidationError("At most two decimals.")


def check_gtin(gtin: str) -> None:
    weights = [1, 3] * 7
    if sum(weight * int(digit) for weight, digit in zip(weights, reversed(gtin), strict=False)) % 10:
        raise ValidationError("The check digit is wrong.")


IS_PRICE: list[Any] = [validate.Range(Decimal(0), MOST_PRICE), has_cents]


class ProductSchema(Schema):
    id = fields.Integer(dump_only=True)
    sku = fields.String(required=True, validate=validate.Length(1, 64))
    slug = fields.String(validate=[validate.Length(max=140), validate.Regexp(SLUG)])
    gtin = fields.String(load_default=None, allow_none=True, validate=[validate.Regexp(GTIN), check_gtin])
    mpn = fields.String(load_default=None, allow_none=True, validate=validate.Length(1, 70))
    name = fields.String(required=True, validate=validate.Length(1, 200))
    description = fields.String(load_default="", validate=validate.Length(max=10_000))
    price = Money(required=True, validate=IS_PRICE)
    compare_at_price = Money(load_default=None, allow_none=True, validate=IS_PRICE)
    currency = fields.String(load_default="USD", validate=validate.Length(equal=3))
    category_id = fields.Integer(required=True, strict=True)
    brand_id = fields.Integer(load_default=None, allow_none=True, strict=True)
    stock = fields.Integer(load_default=0, strict=True, validate=validate.Range(0, 2**53))
    track_stock = fields.Boolean(load_default=True)
    low_stock_at = fields.Integer(load_default=None, allow_none=True, strict=True, validate=validate.Range(0, 2**53))
    status = fields.String(load_default="active", validate=validate.OneOf(STATUSES))
    tags = fields.List(
        fields.String(validate=validate.Length(1, 50)), load_default=list, validate=validate.Length(max=50)
    )
    attributes = fields.Dict(keys=fields.String(), load_default=dict, validate=validate.Length(max=100))
    weight_g = fields.Integer(load_default=None, allow_none=True, strict=True, validate=validate.Range(0, 10**9))
    external_id = fields.String(load_default=None, allow_none=True, validate=validate.Length(1, 128))
    kind = fields.String(dump_only=True)
    parent_id = fields.Integer(dump_only=True)
    options = fields.Raw(dump_only=True)
    position = fields.Integer(dump_only=True)
    price_max = Money(dump_only=True)
    variant_count = fields.Integer(dump_only=True)
    image = fields.Raw(dump_only=True)
    type_id = fields.Integer(load_default=None, allow_none=True, strict=True)
    missing = fields.Function(lambda product: product.missing or [])
    created_at = Moment(dump_only=True)
    updated_at = Moment(dump_only=True)
    version = fields.Integer(dump_only=True)
    live = fields.Integer(dump_only=True)


class ProductFilterSchema(Schema):
    category_id = fields.Integer(validate=validate.Range(1, 2**63 - 1))
    brand_id = fields.Integer(validate=validate.Range(1, 2**63 - 1))
    min_price = fields.Decimal(validate=validate.Range(Decimal(0)))
    max_price = fields.Decimal(validate=validate.Range(Decimal(0)))
    currency = fields.String(validate=validate.Length(equal=3))
    in_stock = fields.Boolean()
    status = fields.String(validate=validate.OneOf(STATUSES))
    search = fields.String(validate=validate.Length(max=200))


class ProductQuerySchema(ProductFilterSchema):
    page = fields.Integer(load_default=1, validate=validate.Range(1, 2**31 - 1))
    per_page = fields.Integer(load_default=20, validate=validate.Range(1, 100))
    sort_by = fields.String(load_default="created_at", validate=validate.OneOf(SORTS))
    order = fields.String(load_default="desc", validate=validate.OneOf(["asc", "desc"]))


class MovementSchema(Schema):
    id = fields.Integer(dump_only=True)
    product_id = fields.Integer(dump_only=True)
    delta = fields.Integer(required=True, strict=True, validate=validate.Range(-MOST_STOCK, MOST_STOCK))
    reason = fields.String(required=True, validate=validate.OneOf(REASONS))
    reference = fields.String(load_default=None, allow_none=True, validate=validate.Length(1, 128))
    stock_after = fields.Integer(dump_only=True)
    created_at = Moment(dump_only=True)
    actor_id = fields.Integer(dump_only=True)

    @validates_schema
    def delta_fits_reason(self, data: dict[str, Any], **_: Any) -> None:
        delta = data["delta"]
        if not {"sale": delta < 0, "correction": delta != 0}.get(data["reason"], delta > 0):
            raise ValidationError("The delta does not fit the reason.", "delta")


class LoginSchema(Schema):
    email = fields.Email(required=True)
    password = fields.String(required=True, validate=validate.Length(1, 1024))


product_schema = ProductSchema()
query_schema = ProductQuerySchema()
filter_schema = ProductFilterSchema()
movement_schema = MovementSchema()
login_schema = LoginSchema()


@jwt.user_lookup_loader
def load_user(_header: dict[str, Any], payload: dict[str, Any]) -> User | None:
    user: User | None = db.session.scalar(
        db.select(User)
        .join(UserSession, UserSession.user_id == User.id)
        .where(
            User.id == int(payload["sub"]),
            User.is_active,
            UserSession.id == int(payload["sid"]),
            UserSession.revoked_at.is_(None),
        )
    )
    return user


def problem(status: int, title: str, code: str, detail: str = "") -> Response:
    response = jsonify(type="about:blank", title=title, status=status, code=code, detail=detail)
    response.status_code = status
    response.mimetype = "application/problem+json"
    return response


@jwt.unauthorized_loader
def answer_missing(_reason: str) -> Response:
    return problem(401, "Unauthorized", "credentials_missing")


@jwt.invalid_token_loader
def answer_invalid(_reason: str) -> Response:
    return problem(401, "Unauthorized", "token_invalid")


@jwt.expired_token_loader
def answer_expired(_header: dict[str, Any], _payload: dict[str, Any]) -> Response:
    return problem(401, "Unauthorized", "token_expired")


@jwt.user_lookup_error_loader
def answer_unknown(_header: dict[str, Any], _payload: dict[str, Any]) -> Response:
    return problem(401, "Unauthorized", "credentials_invalid")


def visible() -> Any:
    rows = db.select(Product).where(Product.deleted_at.is_(None))
    return rows.where(Product.status == "active") if current_user.role == "user" else rows


def words_of(search: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", search.lower())


def has_words(words: list[str]) -> Any:
    sought = " & ".join(f"{word}:*" for word in words)
    return literal_column("products.search_vector").bool_op("@@")(func.to_tsquery("simple", sought))


def has_similar_words(words: list[str]) -> Any:
    # Asked first what is similar: the planner would otherwise walk the order's index and compare each row.
    first_lines = "(split_part(products.search_text, chr(10), 1) || split_part(products.search_text, chr(10), 2))"
    alike = [literal(word).bool_op("<%")(literal_column(first_lines, Text)) for word in words]
    similar = db.select(Product.id).where(Product.deleted_at.is_(None), *alike).cte("similar")
    return Product.id.in_(db.select(similar.prefix_with("MATERIALIZED").c.id))


def is_in_stock() -> ColumnElement[bool]:
    return or_(Product.stock > 0, Product.track_stock.is_(False))


IN_STOCK = is_in_stock().label("in_stock")
COUNT = func.count().label("count")
#: A value as a number or a text, and how many products have it.
Counted = tuple[int, str, int]


def narrow(rows: Any, query: dict[str, Any]) -> Any:
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


def answer_page(rows: Any) -> Response:
    query = query_schema.load(request.args.to_dict())
    everything = narrow(rows, query)
    words = words_of(query.get("search", ""))

    def find(rows: Any) -> Any:
        column = getattr(Product, query["sort_by"])
        rows = rows.order_by(*(c.desc() if query["order"] == "desc" else c.asc() for c in (column, Product.id)))
        return db.paginate(rows, page=query["page"], per_page=query["per_page"], max_per_page=100, error_out=False)

    page = find(everything.where(has_words(words)) if words else everything)
    if words and not page.total:
        page = find(everything.where(has_similar_words(words)))
    pages = page.pages

    def link(number: int) -> str:
        return f"{request.path}?{urlencode({**request.args.to_dict(), 'page': number})}"

    return jsonify(
        items=product_schema.dump(page.items, many=True),
        meta={"page": page.page, "per_page": page.per_page, "total": page.total, "pages": pages},
        links={
            "self": link(page.page),
            "first": link(1),
            "prev": link(min(page.page - 1, max(pages, 1))) if page.page > 1 else None,
            "next": link(page.page + 1) if page.page < pages else None,
            "last": link(max(pages, 1)),
        },
    )


@api.get("/products")
@jwt_required()
def list_products() -> Response:
    return answer_page(visible())


@api.get("/categories/<int:category_id>/products")
@jwt_required()
def list_products_below(category_id: int) -> Response:
    if db.session.get(Category, category_id) is None:
        return problem(404, "Not Found", "not_found")
    below = db.select(Category.id).where(Category.id == category_id).cte("below", recursive=True)
    below = below.union_all(db.select(Category.id).join(below, Category.parent_id == below.c.id))
    ids = func.array(db.select(below.c.id).scalar_subquery())
    return answer_page(visible().where(Product.category_id == func.any(ids)))


def find_for(facet: str, found: CTE, products: Any, query: dict[str, Any], *columns: Any) -> Any:
    """What a facet is counted from: all that is found, or, where its own filters are set, what the others find."""
    if not any(name in query for name in OWN[facet]):
        return found
    others = {name: value for name, value in query.items() if name not in OWN[facet]}
    return narrow(products, others).with_only_columns(*columns).cte(f"found_for_{facet}")


def counted(facet: str, number: Any, text: Any, count: Any) -> Any:
    return db.select(literal(facet), cast(number, BigInteger), cast(text, Text), count)


def count_references(facet: str, rows: CTE, named: Any, chosen: int | None) -> list[Any]:
    key = rows.c[f"{facet}_id"].label("id")
    counts = db.select(key, COUNT).where(key.is_not(None)).group_by(key).cte(f"by_{facet}")
    top = db.select(counts).order_by(counts.c.count.desc(), counts.c.id).limit(50).subquery()
    parts = [counted(facet, named.id, named.name, top.c.count).join_from(top, named, named.id == top.c.id)]
    if chosen is not None:
        count = func.coalesce(counts.c.count, 0)
        part = counted(facet, named.id, named.name, count).join_from(
            named, counts, counts.c.id == named.id, isouter=True
        )
        parts.append(part.where(named.id == chosen))
    return parts


def count_tags(rows: CTE) -> Any:
    tags = func.jsonb_array_elements_text(rows.c.tags).table_valued("value")
    tag = tags.c.value.collate("C").label("tag")
    tagged = db.select(tag, COUNT).select_from(rows.join(tags, true())).group_by("tag").order_by(COUNT.desc(), tag)
    tagged = tagged.limit(50).subquery()
    return counted("tag", literal(0), tagged.c.tag, tagged.c.count)


def count_prices(rows: CTE) -> Any:
    band = case(*((rows.c.price < edge, number) for number, edge in enumerate(EDGES)), else_=len(EDGES)).label("band")
    bands = db.select(band, COUNT).group_by("band").subquery()
    return counted("price", bands.c.band, literal(""), bands.c.count)


def facets_statement(products: Any, query: dict[str, Any]) -> CompoundSelect[Any]:
    members = (Product.category_id, Product.brand_id, Product.price, Product.tags, Product.status, IN_STOCK)
    found = narrow(products, query).with_only_columns(*members).cte("found")

    def rows_for(facet: str, column: Any) -> Any:
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


@api.get("/products/facets")
@jwt_required()
def count_facets() -> Response:
    query = filter_schema.load(request.args.to_dict())
    products = visible()
    if "search" in query:
        products = products.where(has_words(words_of(query["search"])))
    return jsonify(show_facets(db.session.execute(facets_statement(products, query)), query))


@api.post("/products/<int:product_id>/stock-movements")
@jwt_required()
def record_movement(product_id: int) -> tuple[Response, int] | Response:
    if current_user.role == "user":
        return problem(403, "Forbidden", "permission_denied")
    data = movement_schema.load(request.get_json())
    rows = visible().where(Product.id == product_id)
    product = db.session.scalar(rows.with_for_update(key_share=True))
    if product is None:
        return problem(404, "Not Found", "not_found")
    if not product.track_stock:
        return problem(409, "Conflict", "stock_not_tracked")
    held = 0
    if data["delta"] < 0:
        live = Hold.product_id == product_id, Hold.outcome.is_(None), Hold.expires_at > now()
        held = db.session.scalar(db.select(func.coalesce(func.sum(Hold.quantity), 0)).where(*live))
    if not held <= product.stock + data["delta"] <= MOST_STOCK:
        return problem(409, "Conflict", "out_of_stock" if data["delta"] < 0 else "stock_too_large")
    product.stock += data["delta"]
    product.live += 1
    movement = StockMovement(**data, product_id=product_id, stock_after=product.stock, actor_id=current_user.id)
    db.session.add(movement)
    db.session.commit()
    return jsonify(movement_schema.dump(movement)), 201


@api.get("/products/<int:product_id>")
@jwt_required()
def read_product(product_id: int) -> Response:
    product = db.session.scalar(visible().where(Product.id == product_id))
    if product is None:
        return problem(404, "Not Found", "not_found")
    return jsonify(product_schema.dump(product))


def slugify(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def is_taken(slug: str) -> bool:
    living = db.select(Product.id).where(Product.deleted_at.is_(None))
    former = living.join(FormerSlug, FormerSlug.resource_id == Product.id)
    former = former.where(FormerSlug.resource_type == "product", FormerSlug.slug == slug)
    return bool(db.session.scalar(db.select(or_(living.where(Product.slug == slug).exists(), former.exists()))))


def insert(**values: Any) -> tuple[Product | None, str]:
    """The product, or the code of what prevents it."""
    product = Product(**values, search_text=values["name"].lower())
    db.session.add(product)
    try:
        db.session.commit()
    except IntegrityError as error:
        db.session.rollback()
        refused = [code for constraint, code in REFUSALS.items() if constraint in str(error.orig)]
        return None, refused[0]
    return product, ""


@api.post("/products")
@jwt_required()
def create_product() -> tuple[Response, int] | Response:
    if current_user.role == "user":
        return problem(403, "Forbidden", "permission_denied")
    data = product_schema.load(request.get_json())
    base = slugify(data["name"])[:120].strip("-") or "product"
    slug = data.get("slug", base)
    if is_taken(slug):
        if "slug" in data:
            return problem(409, "Conflict", "slug_taken")
        slug = f"{base}-{slugify(data['sku'])}"[:140].strip("-")
    product, code = insert(**{**data, "slug": slug})
    if code == "slug_taken" and "slug" not in data:
        # Another request has taken it in the meantime.
        product, code = insert(**data, slug=f"{base}-{token_hex(4)}")
    if code.endswith("_unknown"):
        return problem(422, "Unprocessable Content", code)
    if code:
        return problem(409, "Conflict", code)
    return jsonify(product_schema.dump(product)), 201


@api.post("/auth/login")
def log_in() -> Response:
    data = login_schema.load(request.get_json())
    user = db.session.scalar(db.select(User).where(User.email == data["email"].lower(), User.is_active))
    if user is None:
        return problem(401, "Unauthorized", "login_failed")
    try:
        hasher.verify(user.password_hash, data["password"])
    except VerifyMismatchError:
        return problem(401, "Unauthorized", "login_failed")
    session = UserSession(
        user_id=user.id,
        device=str(request.user_agent)[:200],
        address=request.remote_addr or "",
        expires_at=now() + current_app.config["JWT_REFRESH_TOKEN_EXPIRES"],
    )
    db.session.add(session)
    db.session.flush()
    token = create_access_token(str(user.id), additional_claims={"sid": str(session.id), "role": user.role})
    db.session.commit()
    return jsonify(access_token=token, token_type="Bearer")  # noqa: S106 -- the name of a scheme


@api.errorhandler(ValidationError)
def answer_invalid_values(error: ValidationError) -> Response:
    return problem(422, "Unprocessable Content", "invalid", str(error.messages))


def create_app(database_url: str, jwt_secret: str, *, threads: int) -> Flask:
    app = Flask(__name__)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.config.update(
        SQLALCHEMY_DATABASE_URI=database_url.replace("postgresql://", "postgresql+psycopg://", 1),
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": threads},
        JWT_SECRET_KEY=jwt_secret,
        JWT_ENCODE_ISSUER="catalog-api",
        JWT_DECODE_ISSUER="catalog-api",
        JWT_ENCODE_AUDIENCE="catalog-api",
        JWT_DECODE_AUDIENCE="catalog-api",
    )
    db.init_app(app)
    jwt.init_app(app)
    app.register_blueprint(api)
    return app


def main() -> Flask:
    """What gunicorn serves."""
    return create_app(os.environ["DATABASE_URL"], os.environ["JWT_SECRET_KEY"], threads=int(os.environ["THREADS"]))
