"""Every setting: its name, type, default, and whether production must set it.

A setting is read from the environment variable of its own name in capitals. A value that does not parse, and in
production a secret that is missing, default or short, stops the start with one line that names the setting and never
its value. So does a misspelt setting (`CORS_ORIGIN`). A variable that only begins like a setting may belong to another
program, and is reported by one line at the server's start (`unknown_settings`).
"""

import contextlib
import logging
import os
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import orjson
from limits import parse as parse_rate
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

#: The version of this release, as pyproject.toml has it. The API's own is in its path.
VERSION = "1.0.0"
ROOT = Path(__file__).resolve().parent
INSTANCE = ROOT / "instance"

#: In bytes: RFC 7518 section 3.2 requires a key of at least 256 bits for HS256.
MIN_SECRET_LENGTH = 32
#: Parts of values that are placeholders and no secrets.
PLACEHOLDERS = ("change", "secret", "default", "example", "password", "development", "insecure")

#: Prefixes of settings' names that hardly any other program uses.
PREFIXES = (
    "ACCESS_TOKEN_", "ANSWER_CACHE_", "CORS_", "IDEMPOTENCY_", "JWT_", "MAIL_", "MAX_BODY_", "MAX_MEDIA_",
    "MAX_UPLOAD_", "MEDIA_", "OIDC_", "PUBLIC_CACHE_", "RATE_LIMIT_", "REFRESH_TOKEN_", "TRUSTED_", "WEBHOOK_",
)  # fmt: skip

#: Kubernetes sets such variables for every service of a namespace, and a service may be named "mail".
SERVICE_LINK = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT|PORT)(_\w+)?")
#: OpenTelemetry's own names that resemble a setting: where a signal has an endpoint of its own.
SIGNAL_ENDPOINT = re.compile(r"OTEL_EXPORTER_OTLP_(TRACES|METRICS|LOGS|PROFILES)_ENDPOINT")


class ConfigError(Exception):
    """A setting is missing or wrong; the message names the setting, never its value."""


#: The settings of each PostgreSQL session. gunicorn cannot stop a thread that is stuck, so the database ends statements
#: that take too long; migrations have no such timeout.
SESSION_SETTINGS = {
    "statement_timeout": "4500ms",
    # Statements are short, and some are long texts, which take longer to compile than to execute.
    "jit": "off",
    "lock_timeout": "4s",
    "idle_in_transaction_session_timeout": "30s",
    "timezone": "UTC",
    # The share of common trigrams: it admits one wrong letter in a word of five, in searches without an exact match.
    "pg_trgm.word_similarity_threshold": "0.5",
}
#: The longest wait for a response of PostgreSQL, a little more than its own statement_timeout: a server that sends
#: nothing for as long hangs, and its connection is closed.
MAX_WAIT_SECONDS = 5.0
#: Connections for the live streams of a process, which all share a few places in the database.
STREAM_CONNECTIONS = 10
#: The threads of `flask worker --concurrency 64`: as many for batches, for mails and for pictures, four times as many
#: for webhooks.
MAX_WORKER_THREADS = (1 + 1 + 1 + 4) * 64
#: Psycopg prepares a statement after so many executions: never. The best plan of a search depends on how common its
#: words are, so PostgreSQL must not use a generic plan. `core.fastsql` prepares the statements whose plan never varies.
NEVER_PREPARE = 2**31 - 1


class Pooling(StrEnum):
    """How long a client has the same server connection: a pooler such as PgBouncer may change it per transaction."""

    SESSION = "session"
    TRANSACTION = "transaction"


class Environment(StrEnum):
    """Where the application runs."""

    DEVELOPMENT = "development"
    TESTING = "testing"
    PRODUCTION = "production"


def _text(value: str) -> str:
    return value


def _integer(least: int, most: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        # The length comes first: int() refuses thousands of digits with a message that reveals their number.
        if not (value.isascii() and value.isdigit() and len(value) < 20 and least <= int(value) <= most):
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(value)

    return parse


def _boolean(value: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if value.lower() not in known:
        raise ValueError("must be true or false")
    return known[value.lower()]


def _list(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _key_files(value: str) -> tuple[bytes, ...]:
    from app.security.keys import KeyUnusable, read_key_files  # noqa: PLC0415 -- a cycle: `app` imports this module

    try:
        contents = tuple(Path(name).read_bytes() for name in _list(value))
        read_key_files(contents)
    except OSError:
        raise ValueError("must name readable files") from None
    except KeyUnusable as error:
        raise ValueError(f"names a file that {error}") from None
    return contents


def _rate(value: str) -> str:
    try:
        parse_rate(value)
    except ValueError:
        raise ValueError('must be a rate such as "300 per minute"') from None
    return value


def _require(package: str, lock: str) -> None:
    # Checked here for a message of one line: Flask would turn the ImportError into "No such command 'db'".
    try:
        is_installed = find_spec(package) is not None
    except ModuleNotFoundError:  # of what the package lies in
        is_installed = False
    if not is_installed:
        raise ValueError(f"needs the package {package}, which requirements/{lock}.txt installs")


def _redis(value: str) -> str:
    if not value.startswith(("redis://", "rediss://", "redis+unix://")):
        raise ValueError("must be a redis URL")
    _require("redis", "production")
    return value


def _broker(value: str) -> str:
    value = _redis(value)
    _require("celery", "worker")
    return value


def _collector(value: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?", value):
        raise ValueError("must be the URL of a collector for OTLP over HTTP, such as http://collector:4318")
    _require("opentelemetry.exporter.otlp.proto.http", "tracing")
    return value.rstrip("/")


def _level(value: str) -> str:
    if value.upper() not in logging.getLevelNamesMapping():
        raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
    return value.upper()


def _origins(value: str) -> tuple[str, ...]:
    # Flask-CORS would interpret an origin with a star, a bracket or a backslash as a regular expression.
    origins = _list(value)
    if not all(re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?", origin) for origin in origins):
        raise ValueError("must name exact origins, such as https://shop.example.com: requests carry credentials")
    return origins


def _public_url(value: str) -> str:
    # A path is allowed, because a proxy may serve this below one; a query would end the paths that follow it.
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?", value):
        raise ValueError("must be a URL such as https://api.example.com")
    return value.rstrip("/")


def _media_store(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme == "file":
        # Encoded where it has a question mark or a number sign, which would begin something else.
        path = PurePosixPath(unquote(parts.path))
        is_well_formed = not parts.netloc and path.is_absolute() and ".." not in path.parts and len(path.parts) > 1
    else:
        # Credentials have variables of their own, and a port belongs to an endpoint.
        is_well_formed = (
            re.fullmatch(r"(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]{1,221}(/[\w.~-]+)*/?", value, re.A) is not None
        )
    if not is_well_formed or parts.query or parts.fragment or "/../" in f"{value}/":
        raise ValueError("must be a URL such as file:///srv/media, s3://bucket/prefix, gs://bucket or az://container")
    return value.rstrip("/")


def _media_url(value: str) -> str:
    # Renditions are names of files behind it.
    if value.rstrip("/") == MEDIA_PATH:
        return MEDIA_PATH
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?", value):
        raise ValueError("must be /media or a URL such as https://media.example.com")
    return value.rstrip("/")


def _private_hosts(value: str) -> tuple[str, ...]:
    from app.clients.addresses import Guard  # noqa: PLC0415 -- a cycle: `app` imports this module

    hosts = _list(value)
    Guard(allowed_hosts=hosts)
    return hosts


def _providers(value: str) -> Mapping[str, Any]:
    from app.clients.oidc_settings import parse_providers  # noqa: PLC0415 -- a cycle: `app` imports this module

    return parse_providers(value)


def _return_urls(value: str) -> tuple[str, ...]:
    urls = _list(value)
    if not all(_is_return_url(url) for url in urls):
        raise ValueError("must name URLs that are https, http on this machine, or of a scheme of an app's own")
    return urls


def _is_return_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    # Someone who logs in is sent there with a code: the URL is compared as a whole, and a fragment is what we add.
    if not re.fullmatch(r"[\x21-\x7e]+", url) or set(url) & set("#@\\") or len(url) > MAX_RETURN_URL:
        return False
    if parts.scheme in {"https", "http"}:
        return bool(parts.hostname) and (parts.scheme == "https" or parts.hostname in LOOPBACK)
    # RFC 8252 section 7.1: such schemes are names of a domain in reverse, unlike javascript and data.
    return "." in parts.scheme


def _commit(value: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z._-]{1,64}", value):
        raise ValueError("must be the id of a commit")
    return value


def _currency(value: str) -> str:
    if not (len(value) == 3 and value.isascii() and value.isalpha() and value.isupper()):
        raise ValueError("must be three capital letters (ISO 4217)")
    return value


def _import_status(value: str) -> str:
    if value not in {"draft", "active"}:
        raise ValueError("must be draft or active")
    return value


def _database(value: str) -> str:
    url = _database_url(value)
    if url.get_backend_name() == "postgresql":
        _require("psycopg", "production")
    elif not url.database or url.database == ":memory:":
        raise ValueError("must name a file: workers cannot share a database in memory")
    elif not Path(url.database).is_absolute():
        url = url.set(database=str(ROOT / url.database))
    return url.render_as_string(hide_password=False)


def _database_url(value: str) -> URL:
    # Hosting services use postgres:// and postgresql://; both mean the one driver that the requirements have.
    for prefix in ("postgres://", "postgresql://"):
        if value.startswith(prefix):
            value = "postgresql+psycopg://" + value.removeprefix(prefix)
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        # ValueError is for a port that is no number, and its message quotes what may be half a password.
        raise ValueError("must be a database URL") from None
    if url.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise ValueError("must be a sqlite or postgresql URL")
    if "@" in (url.host or ""):
        # Otherwise a part of the password would be parsed as the host, and would appear in the driver's errors.
        raise ValueError("must be a database URL: an @ in a password is written %40")
    return url


def _pooling(value: str) -> Pooling:
    if value not in list(Pooling):
        raise ValueError("must be session or transaction")
    return Pooling(value)


def _setting(default: Any, parse: Callable[[str], Any] = _text, *, required: bool = False) -> Any:
    """Declare a setting; ``required`` means that production must set it."""
    return field(default=default, metadata={"parse": parse, "required": required})


#: The pages that a developer serves from this machine, such as those of a build tool, on any port.
LOCAL_ORIGINS = (re.compile(r"http://(localhost|127\.0\.0\.1)(:[0-9]{1,5})?\Z"),)
#: The hosts of this machine, as URLs have them.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
#: In characters: a cookie has to carry it.
MAX_RETURN_URL = 1000
#: Where this server itself serves the renditions of media.
MEDIA_PATH = "/media"
#: In seconds.
MONTH = 30 * 24 * 3600


def _check_secret(name: str, value: str) -> None:
    if len(value.encode()) < MIN_SECRET_LENGTH:
        raise ConfigError(f"{name} must have at least {MIN_SECRET_LENGTH} bytes in production")
    if len(set(value)) < 8 or any(word in value.lower() for word in PLACEHOLDERS):
        raise ConfigError(f"{name} must be random in production, not a default")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The application's settings, parsed and checked. Durations are whole seconds, sizes are bytes."""

    app_env: Environment = _setting(Environment.DEVELOPMENT, Environment)
    catalog_commit: str = _setting("", _commit)
    secret_key: str = _setting("", required=True)
    previous_secret_keys: tuple[str, ...] = _setting((), _list)
    jwt_secret_key: str = _setting("", required=True)
    jwt_previous_secret_keys: tuple[str, ...] = _setting((), _list)
    jwt_key_files: tuple[bytes, ...] = _setting((), _key_files)
    database_url: str = _setting(f"sqlite:///{INSTANCE / 'catalog.db'}", _database, required=True)
    database_pooling: Pooling = _setting(Pooling.SESSION, _pooling)
    fast_sql: bool = _setting(True, _boolean)
    redis_url: str | None = _setting(None, _redis)
    celery_broker_url: str | None = _setting(None, _broker)

    host: str = _setting("127.0.0.1")
    port: int = _setting(8000, _integer(1, 65535))
    web_concurrency: int = _setting(2, _integer(1, 512))
    web_threads: int = _setting(3, _integer(1, 256))
    client_timeout: int = _setting(10, _integer(1, 3600))
    max_streams: int = _setting(50, _integer(0, 10_000))

    access_token_ttl: int = _setting(900, _integer(1, 24 * 3600))
    refresh_token_ttl: int = _setting(MONTH, _integer(60, 12 * MONTH))
    event_retention: int = _setting(MONTH, _integer(60, 120 * MONTH))
    refresh_grace: int = _setting(10, _integer(0, 60))
    idempotency_ttl: int = _setting(24 * 3600, _integer(1, MONTH))
    registration_open: bool = _setting(True, _boolean)

    catalog_public_read: bool = _setting(False, _boolean)
    public_cache_max_age: int = _setting(0, _integer(0, MONTH))
    public_cache_stale_while_revalidate: int = _setting(0, _integer(0, MONTH))
    answer_cache_bytes: int = _setting(32 * 1024 * 1024, _integer(0, 2**40))
    search_terms_interval: int = _setting(30, _integer(0, 3600))
    default_currency: str = _setting("USD", _currency)
    default_import_status: str = _setting("draft", _import_status)
    max_body_bytes: int = _setting(1024 * 1024, _integer(1024, 64 * 1024 * 1024))
    max_upload_bytes: int = _setting(100 * 1024 * 1024, _integer(1024, 2**31 - 1))

    media_store: str = _setting((INSTANCE / "media").as_uri(), _media_store, required=True)
    media_url: str = _setting(MEDIA_PATH, _media_url)
    max_media_bytes: int = _setting(20 * 1024 * 1024, _integer(1024, 256 * 1024 * 1024))
    max_media_pixels: int = _setting(50_000_000, _integer(1, 1_000_000_000))

    rate_limit_enabled: bool = _setting(True, _boolean)
    rate_limit_default: str = _setting("300 per minute", _rate)
    rate_limit_login: str = _setting("5 per minute", _rate)

    cors_origins: tuple[str, ...] = _setting((), _origins)
    public_url: str | None = _setting(None, _public_url)
    trusted_hosts: tuple[str, ...] = _setting((), _list)
    trusted_proxies: int = _setting(0, _integer(0, 8))

    mail_server: str | None = _setting(None)
    mail_port: int = _setting(25, _integer(1, 65535))
    mail_username: str | None = _setting(None)
    mail_password: str | None = _setting(None)
    mail_starttls: bool = _setting(False, _boolean)
    mail_from: str = _setting("catalog@localhost")
    mail_reset_url: str | None = _setting(None)

    oidc_providers: Mapping[str, Any] = field(
        default_factory=dict, repr=False, metadata={"parse": _providers, "required": False}
    )
    login_return_urls: tuple[str, ...] = _setting((), _return_urls)

    webhook_allowed_private_hosts: tuple[str, ...] = _setting((), _private_hosts)

    metrics_token: str | None = _setting(None)
    metrics_port: int | None = _setting(None, _integer(1, 65535))
    metrics_host: str | None = _setting(None)
    otel_exporter_otlp_endpoint: str | None = _setting(None, _collector)
    log_level: str = _setting("INFO", _level)
    debug: bool = _setting(False, _boolean)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ, **fixed: Any) -> Self:
        """Read every setting from ``environ``; ``fixed`` takes precedence.

        Raises ``ConfigError`` for the first invalid setting.
        """
        # `flask --debug` and FLASK_DEBUG turn the debugger on as well, so they count as the setting.
        environ = {"DEBUG": environ.get("FLASK_DEBUG", ""), **environ}
        _refuse_misspelt(environ, {*environ, *(name.upper() for name in fixed)})
        values = dict(fixed)
        for declared in fields(cls):
            name = declared.name.upper()
            if declared.name in fixed or not environ.get(name, ""):
                continue
            if not environ[name].isprintable():
                raise ConfigError(f"{name} must be printable UTF-8")
            try:
                values[declared.name] = declared.metadata["parse"](environ[name])
            except ValueError as error:
                reason = str(error) if declared.name != "app_env" else f"must be one of {', '.join(Environment)}"
                raise ConfigError(f"{name} {reason}") from None
        config = cls(**values)
        if config.metrics_port == config.port:
            raise ConfigError("METRICS_PORT must differ from PORT")
        if config.oidc_providers and config.issuer is None:
            raise ConfigError("PUBLIC_URL must be an https URL where OIDC_PROVIDERS is set, which leads back to it")
        if config.app_env is Environment.PRODUCTION:
            config._check_production(given=set(values))
            return config
        return config._with_development_secrets()

    @classmethod
    def named(cls, name: str) -> Self:
        """The settings with ``name`` as APP_ENV, the others from environment variables; raises ``ConfigError``."""
        try:
            return cls.from_environment(app_env=Environment(name))
        except ValueError:
            raise ConfigError(f"APP_ENV must be one of {', '.join(Environment)}") from None

    def _check_production(self, given: set[str]) -> None:
        for declared in fields(self):
            if declared.metadata["required"] and declared.name not in given:
                raise ConfigError(f"{declared.name.upper()} must be set in production")
        secrets_in_use = {
            "SECRET_KEY": (self.secret_key,),
            "PREVIOUS_SECRET_KEYS": self.previous_secret_keys,
            "JWT_SECRET_KEY": (self.jwt_secret_key,),
            "JWT_PREVIOUS_SECRET_KEYS": self.jwt_previous_secret_keys,
            "METRICS_TOKEN": (self.metrics_token,) if self.metrics_token else (),
        }
        for name, values in secrets_in_use.items():
            for value in values:
                _check_secret(name, value)
        if self.secret_key == self.jwt_secret_key:
            raise ConfigError("JWT_SECRET_KEY must differ from SECRET_KEY in production")
        if self.debug:
            raise ConfigError("DEBUG must be off in production")
        if any(provider.is_local for provider in self.oidc_providers.values()):
            raise ConfigError("OIDC_PROVIDERS must have issuers that are https in production")

    def _with_development_secrets(self) -> Self:
        INSTANCE.mkdir(mode=0o700, exist_ok=True)
        if self.secret_key and self.jwt_secret_key:
            return self
        secret = development_secret(INSTANCE / "secret")
        return replace(
            self,
            secret_key=self.secret_key or f"{secret}:signing",
            jwt_secret_key=self.jwt_secret_key or f"{secret}:tokens",
        )

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a SQLite file."""
        return self.database_url.startswith("sqlite")

    @property
    def runs_on(self) -> str:
        """The environment and the kinds of servers that are used, for the log: no address and no password."""
        optional = {"redis": self.redis_url, "celery": self.celery_broker_url}
        return ", ".join(
            (self.app_env, "sqlite" if self.is_sqlite else "postgresql", *(name for name in optional if optional[name]))
        )

    @property
    def commit(self) -> str:
        """The commit that this was built from; "unknown" where neither CATALOG_COMMIT nor a checkout says it."""
        found = commit_of_checkout() if self.app_env is Environment.DEVELOPMENT else None
        return self.catalog_commit or found or "unknown"

    @property
    def browser_origins(self) -> tuple[str | re.Pattern[str], ...]:
        """The origins whose scripts may use the API: those of CORS_ORIGINS, and in development all of this machine."""
        return (*self.cors_origins, *(LOCAL_ORIGINS if self.app_env is Environment.DEVELOPMENT else ()))

    @property
    def issuer(self) -> str | None:
        """The name of this server in OAuth 2 (RFC 8414 section 2): PUBLIC_URL, or in development where it listens.

        None in production without PUBLIC_URL: what clients compare must not depend on a request. And None where that is
        http and another machine's, because secrets and tokens must not go over an open line (RFC 6749 section 1.6).
        """
        here = None if self.app_env is Environment.PRODUCTION else f"http://127.0.0.1:{self.port}"
        name = self.public_url or here
        if name is not None and name.startswith("http:") and urlsplit(name).hostname not in LOOPBACK:
            return None
        return name

    @property
    def runs_jobs_in_server(self) -> bool:
        """Whether the server runs the background jobs itself: in development, where no worker needs to be started."""
        return self.app_env is Environment.DEVELOPMENT and not self.celery_broker_url

    def for_flask(self) -> dict[str, Any]:
        """Flask's configuration: our settings, and those of Flask and its extensions that follow from them."""
        own = {declared.name.upper(): getattr(self, declared.name) for declared in fields(self)}
        return own | {
            "TESTING": self.app_env is Environment.TESTING,
            "RUNS_ON": self.runs_on,
            "VERSION": VERSION,
            "COMMIT": self.commit,
            "ISSUER": self.issuer,
            "SHOWS_README": self.app_env is Environment.DEVELOPMENT,
            "DEBUG": self.debug,
            "PROPAGATE_EXCEPTIONS": False,
            "MAX_CONTENT_LENGTH": self.max_body_bytes,
            # In the order of itsdangerous: the last signs, and all verify.
            "SECRET_KEYS": (*self.previous_secret_keys, self.secret_key),
            # `web.hooks` checks the hosts instead of Flask, because probes of /livez may use any Host.
            "TRUSTED_HOSTS": None,
            "HOSTS": [host.lower() for host in self.trusted_hosts],
            "SQLALCHEMY_DATABASE_URI": self.database_url,
            "SQLALCHEMY_ENGINE_OPTIONS": self._engine_options(),
            "JWT_ALGORITHM": "HS256",
            "JWT_ACCESS_TOKEN_EXPIRES": timedelta(seconds=self.access_token_ttl),
            "JWT_REFRESH_TOKEN_EXPIRES": timedelta(seconds=self.refresh_token_ttl),
            "JWT_ENCODE_ISSUER": "catalog-api",
            "JWT_ENCODE_AUDIENCE": "catalog-api",
            "JWT_ENCODE_NBF": False,
            # Otherwise each token would have a random csrf claim, for cookies that are not used here.
            "JWT_COOKIE_CSRF_PROTECT": False,
            "REDIS_OPTIONS": _redis_options() if self.redis_url else {},
            # In each worker's memory, and not in Redis: decision 20.
            "CACHE_TYPE": "app.web.response_cache.ResponseCache",
        }

    def _engine_options(self) -> dict[str, Any]:
        # hide_parameters: hashes of passwords and tokens, and addresses, must not appear in errors and logs.
        options: dict[str, Any] = {
            "hide_parameters": True,
            "json_serializer": _json_text,
            "json_deserializer": orjson.loads,
        }
        if self.is_sqlite:
            return options | {
                "connect_args": {"timeout": 10},
                "execution_options": {"fast_sql": self.fast_sql},
                **self._pool_options,
            }
        return options | self._postgresql_options()

    @property
    def _pool_options(self) -> dict[str, int]:
        """How many connections stay open, and how many more there may be at once; these are closed after use.

        Each thread of a server has one for reads in autocommit, or a snapshot that it streams, and one for its session;
        `flask worker` may need one for each of its threads. And a few are for overlaps, for what polls and renews
        leases, and for live streams.
        """
        streams = STREAM_CONNECTIONS if self.max_streams else 0
        return {"pool_size": 2 * self.web_threads, "max_overflow": 4 + streams + MAX_WORKER_THREADS}

    def _postgresql_options(self) -> dict[str, Any]:
        by_session = self.database_pooling is Pooling.SESSION
        settings = " ".join(f"-c {name}={value}" for name, value in SESSION_SETTINGS.items())
        return {
            **self._pool_options,
            "pool_timeout": 2,
            # A connection in autocommit has nothing to roll back when it returns to the pool.
            "skip_autocommit_rollback": True,
            # Prepared statements belong to a server connection, which transaction pooling changes.
            "execution_options": {"fast_sql": self.fast_sql and by_session},
            "connect_args": {
                "connect_timeout": 2,
                "max_wait": MAX_WAIT_SECONDS,
                # TCP detects a lost network in about ten seconds on an idle connection. During a statement max_wait is
                # shorter, and reports that the database is overdue.
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": 7000,
                "prepare_threshold": NEVER_PREPARE if by_session else None,
                **({"options": settings} if by_session else {}),
            },
        }


def _setting_names() -> list[str]:
    return [declared.name.upper() for declared in fields(Config)]


def _closest(name: str, cutoff: float) -> str | None:
    """The setting whose name is most similar, with a ratio of difflib's of at least ``cutoff``; None where none is."""
    # Only names with a common word are compared, because comparing is expensive. A name that contains a whole setting's
    # is not misspelt: TEST_DATABASE_URL, SECRET_KEY_BASE.
    words = {*name.split("_")}
    names = [known for known in _setting_names() if words & {*known.split("_")} and f"_{known}_" not in f"_{name}_"]
    return next(iter(get_close_matches(name, names, n=1, cutoff=cutoff)), None)


def _refuse_misspelt(environ: Mapping[str, str], given: set[str]) -> None:
    """Raise ``ConfigError`` for a variable whose name differs from a setting's by one letter in ten or less.

    Stopping the start because of another program's variable would be worse than missing a misspelt one. So a name
    without an underscore is ignored, and so is one that resembles a setting which is itself set, even to nothing: that
    is how an operator declares the other name intended.
    """
    for name in sorted(set(environ) - {*_setting_names()}):
        if not environ[name] or "_" not in name or SERVICE_LINK.fullmatch(name) or SIGNAL_ENDPOINT.fullmatch(name):
            continue
        meant = _closest(name, 0.9)
        if meant and meant not in given:
            raise ConfigError(f"{name}: did you mean {meant}? If not, set {meant} as well, if only to nothing")


def unknown_settings(environ: Mapping[str, str]) -> Iterator[str]:
    """A line per variable that begins like a setting and is none: it may be misspelt, or belong to another program."""
    for name in sorted(set(environ) - {*_setting_names()}):
        if environ[name] and name.startswith(PREFIXES) and not SERVICE_LINK.fullmatch(name):
            meant = _closest(name, 0.8)
            yield f"{name} is no setting" + (f"; did you mean {meant}?" if meant else "")


@cache
def commit_of_checkout() -> str | None:
    """The commit that is checked out here; None where this is no checkout, or there is no git."""
    command = ("git", "-C", str(ROOT), "rev-parse", "HEAD")
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=1, check=True).stdout.strip()  # noqa: S603 -- a fixed command
    except (OSError, subprocess.SubprocessError):
        return None
    return found or None


def _json_text(value: Any) -> str:
    return orjson.dumps(value).decode()


def _redis_options() -> dict[str, Any]:
    # By the client's defaults a command waits up to a minute for an unavailable server. The import is here because the
    # package is optional: it is needed only where REDIS_URL is set.
    backoff, retry = import_module("redis.backoff"), import_module("redis.retry")
    return {"socket_timeout": 0.2, "socket_connect_timeout": 0.2, "retry": retry.Retry(backoff.NoBackoff(), 0)}


def development_secret(path: Path) -> str:
    """The secret of this checkout, created at its first use, readable by its owner only; safe for several processes."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    if not path.exists():
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        # os.link is atomic, and fails where the file exists: the first of several starting workers wins.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()
