"""FastAPI with SQLAlchemy 2's asyncio session, asyncpg and pydantic 2."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
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
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import BigInteger, DateTime, ForeignKey, Numeric, Select, String, Text, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SECRET = os.environ["JWT_SECRET_KEY"]
CLAIMS = ["sub", "sid", "iat", "exp", "jti", "iss", "aud"]
MONTH = timedelta(days=30)

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
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=now)
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    version: Mapped[int] = mapped_column(default=1)


Status = Literal["draft", "active", "archived"]
Tag = Annotated[str, Field(min_length=1, max_length=50)]
Scalar = str | int | float | bool


class ProductIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sku: Annotated[str, Field(min_length=1, max_length=64)]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: Annotated[str, Field(max_length=10_000)] = ""
    price: Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=2)]
    currency: Annotated[str, Field(min_length=3, max_length=3)] = "USD"
    category_id: int
    stock: Annotated[int, Field(ge=0, le=2**53)] = 0
    status: Status = "active"
    tags: Annotated[list[Tag], Field(max_length=50)] = []
    attributes: Annotated[dict[str, Scalar], Field(max_length=100)] = {}
    external_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None


class ProductOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    sku: str
    name: str
    description: str
    price: Decimal
    currency: str
    category_id: int
    stock: int
    status: str
    tags: list[str]
    attributes: dict[str, Any]
    external_id: str | None
    created_at: datetime
    updated_at: datetime
    version: int


class Meta(BaseModel):
    page: int
    per_page: int
    total: int
    pages: int


class ProductPage(BaseModel):
    items: list[ProductOut]
    meta: Meta
    links: dict[str, str | None]


class ProductQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    page: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1
    per_page: Annotated[int, Field(ge=1, le=100)] = 20
    sort_by: Literal["created_at", "updated_at", "name", "price", "stock", "sku", "id"] = "created_at"
    order: Literal["asc", "desc"] = "desc"
    category_id: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    min_price: Annotated[Decimal, Field(gt=0)] | None = None
    max_price: Annotated[Decimal, Field(gt=0)] | None = None
    in_stock: bool | None = None
    status: Status | None = None


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


@router.get("/products")
async def list_products(
    request: Request, user: CurrentUser, session: Session, query: Annotated[ProductQuery, Query()]
) -> ProductPage:
    rows = visible(user)
    if query.category_id is not None:
        rows = rows.where(Product.category_id == query.category_id)
    if query.min_price is not None:
        rows = rows.where(Product.price >= query.min_price)
    if query.max_price is not None:
        rows = rows.where(Product.price <= query.max_price)
    if query.in_stock is not None:
        rows = rows.where(Product.stock > 0 if query.in_stock else Product.stock <= 0)
    if query.status is not None:
        rows = rows.where(Product.status == query.status)
    total = await session.scalar(select(func.count()).select_from(rows.subquery())) or 0
    column = getattr(Product, query.sort_by)
    rows = rows.order_by(*(c.desc() if query.order == "desc" else c.asc() for c in (column, Product.id)))
    rows = rows.limit(query.per_page).offset((query.page - 1) * query.per_page)
    products = (await session.scalars(rows)).all()
    pages = -(-total // query.per_page)
    return ProductPage(
        items=[ProductOut.model_validate(product) for product in products],
        meta=Meta(page=query.page, per_page=query.per_page, total=total, pages=pages),
        links=links_of(request, query.page, pages),
    )


@router.get("/products/{product_id}")
async def read_product(product_id: int, user: CurrentUser, session: Session) -> ProductOut:
    product = await session.scalar(visible(user).where(Product.id == product_id))
    if product is None:
        raise Problem(404, "Not Found", "not_found")
    return ProductOut.model_validate(product)


@router.post("/products", status_code=201)
async def create_product(user: CurrentUser, session: Session, data: ProductIn) -> ProductOut:
    if user.role == "user":
        raise Problem(403, "Forbidden", "permission_denied")
    product = Product(**data.model_dump(), search_text=data.name.lower())
    session.add(product)
    try:
        await session.commit()
    except IntegrityError as error:
        if "uq_products_sku" in str(error.orig):
            raise Problem(409, "Conflict", "sku_taken") from None
        raise Problem(422, "Unprocessable Content", "category_unknown") from None
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
