"""Django REST Framework on psycopg 3, one persistent connection for each thread."""

import os
import re
from decimal import Decimal
from secrets import token_hex
from typing import Any
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
    INSTALLED_APPS=["rest_framework"],
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
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "UNAUTHENTICATED_USER": None,
        "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
        "EXCEPTION_HANDLER": f"{__name__}.answer_problem",
    },
)
django.setup()

from django.db import IntegrityError, models  # noqa: E402 -- needs the settings
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402
from rest_framework import exceptions, renderers, serializers  # noqa: E402
from rest_framework.authentication import BaseAuthentication  # noqa: E402
from rest_framework.permissions import IsAuthenticated  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

SECRET = os.environ["JWT_SECRET_KEY"]
CLAIMS = {"require": ["sub", "sid", "iat", "exp", "jti", "iss", "aud"]}
STATUSES = ["draft", "active", "archived"]
SORTS = ["created_at", "updated_at", "name", "price", "stock", "sku", "id"]
SLUG, GTIN = r"^[a-z0-9]+(-[a-z0-9]+)*$", r"^([0-9]{8}|[0-9]{12,14})$"
TAKEN = {f"uq_products_{key}": f"{key}_taken" for key in ("sku", "slug", "gtin", "external_id")}
TITLES = {401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict", 422: "Unprocessable Content"}


class User(models.Model):
    id = models.BigIntegerField(primary_key=True)
    role = models.CharField(max_length=16)
    is_active = models.BooleanField()

    is_authenticated = True

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


class Renderer(renderers.BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, *_: Any, **__: Any) -> bytes:
        return b"" if data is None else orjson.dumps(data)


class Problem(exceptions.APIException):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code=code)
        self.status_code, self.code = status, code


def answer_problem(error: Exception, _context: dict[str, Any]) -> Response | None:
    if isinstance(error, exceptions.ValidationError):
        error = Problem(422, "invalid")
    if isinstance(error, exceptions.NotAuthenticated):
        error = Problem(401, "credentials_missing")
    if not isinstance(error, Problem):
        return None
    status = error.status_code
    body = {"type": "about:blank", "title": TITLES[status], "status": status, "code": error.code}
    return Response(body, status=status)


class TokenAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[User, dict[str, Any]] | None:
        header = request.META.get("HTTP_AUTHORIZATION")
        if header is None:
            return None
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
        session = (
            UserSession.objects.select_related("user")
            .filter(id=int(claims["sid"]), revoked_at__isnull=True, user_id=int(claims["sub"]), user__is_active=True)
            .first()
        )
        if session is None:
            raise Problem(401, "credentials_invalid")
        return session.user, claims

    def authenticate_header(self, _request: Request) -> str:
        return "Bearer"


def check_gtin(gtin: str) -> None:
    weights = [1, 3] * 7
    if sum(weight * int(digit) for weight, digit in zip(weights, reversed(gtin), strict=False)) % 10:
        raise serializers.ValidationError("the check digit is wrong")


class ProductSerializer(serializers.ModelSerializer[Product]):
    slug = serializers.RegexField(SLUG, required=False, max_length=140)
    gtin = serializers.RegexField(GTIN, allow_null=True, default=None, validators=[check_gtin])
    mpn = serializers.CharField(allow_null=True, default=None, max_length=70)
    price = serializers.DecimalField(max_digits=12, decimal_places=2, min_value=Decimal(0))
    compare_at_price = serializers.DecimalField(
        max_digits=12, decimal_places=2, min_value=Decimal(0), allow_null=True, default=None
    )
    description = serializers.CharField(allow_blank=True, default="", max_length=10_000, trim_whitespace=False)
    currency = serializers.CharField(default="USD", min_length=3, max_length=3)
    category_id = serializers.IntegerField(min_value=1)
    brand_id = serializers.IntegerField(allow_null=True, default=None, min_value=1)
    stock = serializers.IntegerField(default=0, min_value=0, max_value=2**53)
    track_stock = serializers.BooleanField(default=True)
    low_stock_at = serializers.IntegerField(allow_null=True, default=None, min_value=0, max_value=2**53)
    status = serializers.ChoiceField(STATUSES, default="active")
    tags = serializers.ListField(child=serializers.CharField(max_length=50), default=list, max_length=50)
    attributes = serializers.DictField(default=dict)
    weight_g = serializers.IntegerField(allow_null=True, default=None, min_value=0, max_value=10**9)
    external_id = serializers.CharField(allow_null=True, default=None, max_length=128)

    class Meta:
        model = Product
        fields = [
            "id", "sku", "slug", "gtin", "mpn", "name", "description", "price", "compare_at_price", "currency",
            "category_id", "brand_id", "stock", "track_stock", "low_stock_at", "status", "tags", "attributes",
            "weight_g", "external_id", "created_at", "updated_at", "version", "live",
        ]  # fmt: skip
        read_only_fields = ["id", "created_at", "updated_at", "version", "live"]


class QuerySerializer(serializers.Serializer[Any]):
    page = serializers.IntegerField(default=1, min_value=1, max_value=2**31 - 1)
    per_page = serializers.IntegerField(default=20, min_value=1, max_value=100)
    sort_by = serializers.ChoiceField(SORTS, default="created_at")
    order = serializers.ChoiceField(["asc", "desc"], default="desc")
    category_id = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    min_price = serializers.DecimalField(required=False, max_digits=12, decimal_places=2)
    max_price = serializers.DecimalField(required=False, max_digits=12, decimal_places=2)
    in_stock = serializers.BooleanField(required=False, default=None, allow_null=True)
    status = serializers.ChoiceField(STATUSES, required=False)


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


class View(APIView):
    authentication_classes = [TokenAuthentication]
    permission_classes = [IsAuthenticated]
    renderer_classes = [Renderer]


class ProductsView(View):
    def get(self, request: Request) -> Response:
        given = request.query_params.dict()
        asked = QuerySerializer(data=given)
        asked.is_valid(raise_exception=True)
        query = asked.validated_data
        if given.keys() - query.keys():
            raise Problem(422, "invalid")
        rows = visible(request.user)
        rows = rows.filter(**{lookup: query[name] for name, lookup in FILTERS.items() if name in query})
        if query["in_stock"] is not None:
            rows = rows.filter(IN_STOCK if query["in_stock"] else ~IN_STOCK)
        page, per_page = query["page"], query["per_page"]
        total = rows.count()
        sign = "-" if query["order"] == "desc" else ""
        rows = rows.order_by(f"{sign}{query['sort_by']}", f"{sign}id")[(page - 1) * per_page : page * per_page]
        pages = -(-total // per_page)

        def link(number: int) -> str:
            return f"{request.path}?{urlencode({**given, 'page': number})}"

        return Response(
            {
                "items": ProductSerializer(rows, many=True).data,
                "meta": {"page": page, "per_page": per_page, "total": total, "pages": pages},
                "links": {
                    "self": link(page),
                    "first": link(1),
                    "prev": link(min(page - 1, max(pages, 1))) if page > 1 else None,
                    "next": link(page + 1) if page < pages else None,
                    "last": link(max(pages, 1)),
                },
            }
        )

    def post(self, request: Request) -> Response:
        if request.user.role == "user":
            raise Problem(403, "permission_denied")
        serializer = ProductSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        data, moment = serializer.validated_data, timezone.now()
        base = slugify(data["name"])[:120].strip("-") or "product"
        slug = data.get("slug", base)
        if is_taken(slug):
            if "slug" in data:
                raise Problem(409, "slug_taken")
            slug = f"{base}-{slugify(data['sku'])}"[:140].strip("-")
        made = {"search_text": data["name"].lower(), "created_at": moment, "updated_at": moment}
        try:
            serializer.save(slug=slug, **made)
        except IntegrityError as error:
            refusal = refusal_of(error)
            if refusal.code != "slug_taken" or "slug" in data:
                raise refusal from None
            # Another request has taken it in the meantime.
            serializer.save(slug=f"{base}-{token_hex(4)}", **made)
        return Response(serializer.data, status=201)


class ProductView(View):
    def get(self, request: Request, product_id: int) -> Response:
        product = visible(request.user).filter(id=product_id).first()
        if product is None:
            raise Problem(404, "not_found")
        return Response(ProductSerializer(product).data)


urlpatterns = [
    path("api/v1/products", ProductsView.as_view()),
    path("api/v1/products/<int:product_id>", ProductView.as_view()),
]
app = get_wsgi_application()
