"""The Flask of the textbooks: Flask-SQLAlchemy models, marshmallow schemas and flask-jwt-extended.

The threads that were tried: see README.md beside the peers.
"""

import os
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from flask import Blueprint, Flask, Response, current_app, jsonify, request
from flask_jwt_extended import JWTManager, create_access_token, current_user, jwt_required
from flask_sqlalchemy import SQLAlchemy
from marshmallow import Schema, ValidationError, fields, validate
from sqlalchemy import BigInteger, DateTime, ForeignKey, Numeric, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

db = SQLAlchemy()
jwt = JWTManager()
api = Blueprint("api", __name__, url_prefix="/api/v1")
hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

STATUSES = ["draft", "active", "archived"]
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
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    currency: Mapped[str] = mapped_column(String(3))
    category_id: Mapped[int] = mapped_column(BigInteger)
    stock: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(16))
    tags: Mapped[list[str]] = mapped_column(JSONB)
    attributes: Mapped[dict[str, Any]] = mapped_column(JSONB)
    external_id: Mapped[str | None] = mapped_column(String(128))
    search_text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now, onupdate=now)
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    version: Mapped[int] = mapped_column(default=1)


class Moment(fields.DateTime):
    """UTC, ending in Z."""

    def _serialize(self, value: datetime | None, *_: Any, **__: Any) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def has_cents(price: Decimal) -> None:
    if price != round(price, 2):
        raise ValidationError("At most two decimals.")


class ProductSchema(Schema):
    id = fields.Integer(dump_only=True)
    sku = fields.String(required=True, validate=validate.Length(1, 64))
    name = fields.String(required=True, validate=validate.Length(1, 200))
    description = fields.String(load_default="", validate=validate.Length(max=10_000))
    price = fields.Decimal(
        required=True, as_string=True, validate=[validate.Range(Decimal("0.01"), Decimal("9999999999.99")), has_cents]
    )
    currency = fields.String(load_default="USD", validate=validate.Length(equal=3))
    category_id = fields.Integer(required=True, strict=True)
    stock = fields.Integer(load_default=0, strict=True, validate=validate.Range(0, 2**53))
    status = fields.String(load_default="active", validate=validate.OneOf(STATUSES))
    tags = fields.List(
        fields.String(validate=validate.Length(1, 50)), load_default=list, validate=validate.Length(max=50)
    )
    attributes = fields.Dict(keys=fields.String(), load_default=dict, validate=validate.Length(max=100))
    external_id = fields.String(load_default=None, allow_none=True, validate=validate.Length(1, 128))
    created_at = Moment(dump_only=True)
    updated_at = Moment(dump_only=True)
    version = fields.Integer(dump_only=True)


class ProductQuerySchema(Schema):
    page = fields.Integer(load_default=1, validate=validate.Range(1, 2**31 - 1))
    per_page = fields.Integer(load_default=20, validate=validate.Range(1, 100))
    sort_by = fields.String(load_default="created_at", validate=validate.OneOf(SORTS))
    order = fields.String(load_default="desc", validate=validate.OneOf(["asc", "desc"]))
    category_id = fields.Integer(validate=validate.Range(1, 2**63 - 1))
    min_price = fields.Decimal(validate=validate.Range(Decimal("0.01")))
    max_price = fields.Decimal(validate=validate.Range(Decimal("0.01")))
    in_stock = fields.Boolean()
    status = fields.String(validate=validate.OneOf(STATUSES))


class LoginSchema(Schema):
    email = fields.Email(required=True)
    password = fields.String(required=True, validate=validate.Length(1, 1024))


product_schema = ProductSchema()
query_schema = ProductQuerySchema()
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


@api.get("/products")
@jwt_required()
def list_products() -> Response:
    query = query_schema.load(request.args.to_dict())
    rows = visible()
    if "category_id" in query:
        rows = rows.where(Product.category_id == query["category_id"])
    if "min_price" in query:
        rows = rows.where(Product.price >= query["min_price"])
    if "max_price" in query:
        rows = rows.where(Product.price <= query["max_price"])
    if "in_stock" in query:
        rows = rows.where(Product.stock > 0 if query["in_stock"] else Product.stock <= 0)
    if "status" in query:
        rows = rows.where(Product.status == query["status"])
    column = getattr(Product, query["sort_by"])
    rows = rows.order_by(*(c.desc() if query["order"] == "desc" else c.asc() for c in (column, Product.id)))
    page = db.paginate(rows, page=query["page"], per_page=query["per_page"], max_per_page=100, error_out=False)
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


@api.get("/products/<int:product_id>")
@jwt_required()
def read_product(product_id: int) -> Response:
    product = db.session.scalar(visible().where(Product.id == product_id))
    if product is None:
        return problem(404, "Not Found", "not_found")
    return jsonify(product_schema.dump(product))


@api.post("/products")
@jwt_required()
def create_product() -> tuple[Response, int] | Response:
    if current_user.role == "user":
        return problem(403, "Forbidden", "permission_denied")
    product = Product(**product_schema.load(request.get_json()))
    product.search_text = product.name.lower()
    db.session.add(product)
    try:
        db.session.commit()
    except IntegrityError as error:
        db.session.rollback()
        if "uq_products_sku" in str(error.orig):
            return problem(409, "Conflict", "sku_taken")
        return problem(422, "Unprocessable Content", "category_unknown")
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
