"""Django Ninja on psycopg 3, one persistent connection for each thread, pydantic in and out, orjson to write."""

import os
import re
from datetime import datetime
from decimal import Decimal
from secrets import token_hex
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlencode, urlsplit

import django
import jwt
import orjson
from django.conf import settings
from django.core.wsgi import get_wsgi_application

_url = urlsplit(os.environ["DATABASE_URL"])
settings.configure(
    SECRET_KEY=os.environ["JWT_SECRET_KEY"],
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    USE_TZ=True,
    TIME_ZONE="UTC",
    USE_I18N=False,
    APPEND_SLASH=False,
    MIDDLEWARE=[],
    INSTALLED_APPS=[],
    LOGGING_CONFIG=None,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _url.path.lstrip("/"),
            "USER": _url.username,
            "HOST": unquote(_url.query.removeprefix("host=")),
            "CONN_MAX_AGE": None,
            "OPTIONS": {"server_side_binding": True, "prepare_threshold": 1},
        }
    },
)
django.setup()

from django.db import IntegrityError, models  # noqa: E402 -- needs the settings
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402
from ninja import NinjaAPI, Query, Schema  # noqa: E402
from ninja.errors import AuthenticationError, ValidationError  # noqa: E402
from ninja.renderers import BaseRenderer  # noqa: E402
from ninja.security import HttpBearer  # noqa: E402
from pydantic import AfterValidator, ConfigDict, Field, PlainSerializer  # noqa: E402

SECRET = os.environ["JWT_SECRET_KEY"]
CLAIMS = {"require": ["sub", "sid", "iat", "exp", "jti", "iss", "aud"]}
SLUG, GTIN = r"^[a-z0-9]+(-[a-z0-9]+)*$", r"^([0-9]{8}|[0-9]{12,14})$"
TAKEN = {f"uq_products_{key}": f"{key}_taken" for key in ("sku", "slug", "gtin", "external_id")}
TITLES = {401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict", 422: "Unprocessable Content"}


class User(models.Model):
    id = models.BigIntegerField(primary_key=True)
    role = models.CharField(max_length=16)
    is_active = models.BooleanField()

    class Meta:
        app_label = "catalog"
        managed = False
        db_table = "users"


class UserSession(models.Model):
    id = models.BigIntegerField(primary_key=True)
    user = models.ForeignKey(User, models.CASCADE)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "catalog"
        managed = False
        db_table = "sessions"


class Product(models.Model):
    id = models.BigAutoField(primary_key=True)
    sku = models.CharField(max_length=64)
    slug = models.CharField(max_length=140)
    gtin = models.CharField(max_length=14, null=True)
    mpn = models.CharField(max_length=70, null=True)
    name = models.CharField(max_length=200)
    description = models.TextField()
    price = models.DecimalField(max_digits=14, decimal_places=4)
    compare_at_price = models.DecimalField(max_digits=14, decimal_places=4, null=True)
    currency = models.CharField(max_length=3)
    category_id = models.BigIntegerField()
    brand_id = models.BigIntegerField(null=True)
    stock = models.BigIntegerField(default=0)
    track_stock = models.BooleanField(default=True)
    low_stock_at = models.BigIntegerField(null=True)
    status = models.CharField(max_length=16)
    tags = models.JSONField(default=list)
    attributes = models.JSONField(default=dict)
    weight_g = models.BigIntegerField(null=True)
    external_id = models.CharField(max_length=128, null=True)
    search_text = models.TextField()
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True)
    version = models.IntegerField(default=1)
    live = models.BigIntegerField(default=0)

    class Meta:
        app_label = "catalog"
        managed = False
        db_table = "products"


class FormerSlug(models.Model):
    pk = models.CompositePrimaryKey("resource_type", "slug")
    resource_type = models.CharField(max_length=32)
    slug = models.CharField(max_length=140)
    resource_id = models.BigIntegerField()

    class Meta:
        app_label = "catalog"
        managed = False
        db_table = "former_slugs"


def check_gtin(gtin: str) -> str:
    weights = [1, 3] * 7
    if sum(weight * int(digit) for weight, digit in zip(weights, reversed(gtin), strict=False)) % 10:
        raise ValueError("the check digit is wrong")
    return gtin


Status = Literal["draft", "active", "archived"]
Tag = Annotated[str, Field(min_length=1, max_length=50)]


class ProductIn(Schema):
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
    attributes: Annotated[dict[str, str | int | float | bool], Field(max_length=100)] = {}
    weight_g: Annotated[int, Field(ge=0, le=10**9)] | None = None
    external_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None


Money = Annotated[Decimal, PlainSerializer(lambda amount: f"{amount:.2f}", return_type=str)]


class ProductOut(Schema):
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


class Meta(Schema):
    page: int
    per_page: int
    total: int
    pages: int


class ProductPage(Schema):
    items: list[ProductOut]
    meta: Meta
    links: dict[str, str | None]


class ProductQuery(Schema):
    page: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1
    per_page: Annotated[int, Field(ge=1, le=100)] = 20
    sort_by: Literal["created_at", "updated_at", "name", "price", "stock", "sku", "id"] = "created_at"
    order: Literal["asc", "desc"] = "desc"
    category_id: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    min_price: Annotated[Decimal, Field(ge=0)] | None = None
    max_price: Annotated[Decimal, Field(ge=0)] | None = None
    in_stock: bool | None = None
    status: Status | None = None


class Renderer(BaseRenderer):
    media_type = "application/json"

    def render(self, _request: HttpRequest, data: Any, *, response_status: int) -> bytes:  # noqa: ARG002 -- named so
        return orjson.dumps(data, default=str, option=orjson.OPT_UTC_Z)


class Problem(Exception):
    def __init__(self, status: int, code: str) -> None:
        self.status, self.code = status, code


class TokenAuthentication(HttpBearer):
    def authenticate(self, _request: HttpRequest, token: str) -> User:
        try:
            claims = jwt.decode(
                token,
                SECRET,
                algorithms=["HS256"],
                issuer="catalog-api",
                audience="catalog-api",
                options=CLAIMS,
            )
        except jwt.InvalidTokenError:
            raise Problem(401, "token_invalid") from None
        session = (
            UserSession.objects.select_related("user")
            .filter(id=int(claims["sid"]), revoked_at__isnull=True, user_id=int(claims["sub"]), user__is_active=True)
            .first()
        )
        if session is None:
            raise Problem(401, "credentials_invalid")
        return session.user


api = NinjaAPI(auth=TokenAuthentication(), renderer=Renderer(), openapi_url=None, docs_url=None)
IN_STOCK = models.Q(stock__gt=0) | models.Q(track_stock=False)
FILTERS = {"category_id": "category_id", "min_price": "price__gte", "max_price": "price__lte", "status": "status"}


def slugify(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def is_taken(slug: str) -> bool:
    living = Product.objects.filter(deleted_at__isnull=True).values("id")
    former = FormerSlug.objects.filter(resource_type="product", slug=slug).values("resource_id")
    return living.filter(slug=slug).union(living.filter(id__in=former), all=True).exists()


def refusal_of(error: IntegrityError) -> Problem:
    taken = [code for constraint, code in TAKEN.items() if constraint in str(error)]
    unknown = "brand_unknown" if "brand_id" in str(error) else "category_unknown"
    return Problem(409, taken[0]) if taken else Problem(422, unknown)


def visible(user: User) -> "models.QuerySet[Product]":
    rows = Product.objects.filter(deleted_at__isnull=True).defer("search_text", "deleted_at")
    return rows.filter(status="active") if user.role == "user" else rows


@api.get("/products", response=ProductPage)
def list_products(request: HttpRequest, query: Query[ProductQuery]) -> dict[str, Any]:
    given = request.GET.dict()
    if given.keys() - ProductQuery.model_fields.keys():
        raise Problem(422, "invalid")
    asked = {name: value for name in FILTERS if (value := getattr(query, name)) is not None}
    rows = visible(request.auth).filter(**{FILTERS[name]: value for name, value in asked.items()})
    if query.in_stock is not None:
        rows = rows.filter(IN_STOCK if query.in_stock else ~IN_STOCK)
    page, per_page = query.page, query.per_page
    total = rows.count()
    sign = "-" if query.order == "desc" else ""
    rows = rows.order_by(f"{sign}{query.sort_by}", f"{sign}id")[(page - 1) * per_page : page * per_page]
    pages = -(-total // per_page)

    def link(number: int) -> str:
        return f"{request.path}?{urlencode({**given, 'page': number})}"

    return {
        "items": list(rows),
        "meta": {"page": page, "per_page": per_page, "total": total, "pages": pages},
        "links": {
            "self": link(page),
            "first": link(1),
            "prev": link(min(page - 1, max(pages, 1))) if page > 1 else None,
            "next": link(page + 1) if page < pages else None,
            "last": link(max(pages, 1)),
        },
    }


@api.get("/products/{int:product_id}", response=ProductOut)
def read_product(request: HttpRequest, product_id: int) -> Product:
    product = visible(request.auth).filter(id=product_id).first()
    if product is None:
        raise Problem(404, "not_found")
    return product


@api.post("/products", response={201: ProductOut})
def create_product(request: HttpRequest, data: ProductIn) -> tuple[int, Product]:
    if request.auth.role == "user":
        raise Problem(403, "permission_denied")
    base = slugify(data.name)[:120].strip("-") or "product"
    slug = data.slug or base
    if is_taken(slug):
        if data.slug:
            raise Problem(409, "slug_taken")
        slug = f"{base}-{slugify(data.sku)}"[:140].strip("-")
    moment = timezone.now()
    values = {**data.model_dump(), "search_text": data.name.lower(), "created_at": moment, "updated_at": moment}
    try:
        product = Product.objects.create(**values | {"slug": slug})
    except IntegrityError as error:
        refusal = refusal_of(error)
        if refusal.code != "slug_taken" or data.slug:
            raise refusal from None
        # Another request has taken it in the meantime.
        product = Product.objects.create(**values | {"slug": f"{base}-{token_hex(4)}"})
    return 201, product


@api.exception_handler(Problem)
def answer_problem(request: HttpRequest, problem: Problem) -> HttpResponse:
    status = problem.status
    body = {"type": "about:blank", "title": TITLES[status], "status": status, "code": problem.code}
    return api.create_response(request, body, status=status)


@api.exception_handler(AuthenticationError)
def answer_missing(request: HttpRequest, _error: AuthenticationError) -> HttpResponse:
    return answer_problem(request, Problem(401, "credentials_missing"))


@api.exception_handler(ValidationError)
def answer_invalid(request: HttpRequest, _error: ValidationError) -> HttpResponse:
    return answer_problem(request, Problem(422, "invalid"))


urlpatterns = [path("api/v1/", api.urls)]
app = get_wsgi_application()
