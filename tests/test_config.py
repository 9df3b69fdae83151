"""config.py: what each setting accepts, and that a refusal names the setting and never its value."""

import os
import re
import stat
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import config
from config import (
    PREFIXES,
    ROOT,
    VERSION,
    Config,
    ConfigError,
    Environment,
    commit_of_checkout,
    development_secret,
    unknown_settings,
)

# Random, and of no use anywhere.
SECRET_KEY = "tJ3xP0vB8qL5nR2wY7cF4kH9mD6sG1zE"
JWT_SECRET_KEY = "bN6yT1gK8rW4pX9fJ2vM7dQ5hL0sC3zA"

PRODUCTION = {
    "APP_ENV": "production",
    "SECRET_KEY": SECRET_KEY,
    "JWT_SECRET_KEY": JWT_SECRET_KEY,
    "DATABASE_URL": "postgresql://catalog@db/catalog",
    "MEDIA_STORE": "file:///srv/media",
}


@pytest.fixture(autouse=True)
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that was never run."""
    folder = tmp_path / "instance"
    monkeypatch.setattr(config, "INSTANCE", folder)
    return folder


def refusal_of(environ: dict[str, str]) -> str:
    """The one line that a wrong setting is refused with."""
    with pytest.raises(ConfigError) as refused:
        Config.from_environment(environ)
    line = str(refused.value)
    assert "\n" not in line
    return line


class TestParsing:
    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("APP_ENV", "testing", Environment.TESTING),
            ("PORT", "1", 1),
            ("PORT", "65535", 65535),
            ("WEB_CONCURRENCY", "4", 4),
            ("ACCESS_TOKEN_TTL", "60", 60),
            ("REFRESH_GRACE", "0", 0),
            ("IDEMPOTENCY_TTL", "3600", 3600),
            ("MAX_BODY_BYTES", "2048", 2048),
            ("MAX_UPLOAD_BYTES", "2048", 2048),
            ("MAX_MEDIA_BYTES", "2048", 2048),
            ("MAX_MEDIA_PIXELS", "1000000", 1_000_000),
            ("MEDIA_STORE", "file:///srv/media/", "file:///srv/media"),
            ("MEDIA_STORE", "file:///srv/my%20media", "file:///srv/my%20media"),
            ("MEDIA_STORE", "s3://bucket/some/prefix", "s3://bucket/some/prefix"),
            ("MEDIA_STORE", "gs://my_bucket", "gs://my_bucket"),
            ("MEDIA_STORE", "az://container/", "az://container"),
            ("MEDIA_URL", "/media/", "/media"),
            ("MEDIA_URL", "https://cdn.example/catalog/", "https://cdn.example/catalog"),
            ("CELERY_BROKER_URL", "redis://broker/1", "redis://broker/1"),
            ("REGISTRATION_OPEN", "false", False),
            ("REGISTRATION_OPEN", "no", False),
            ("REGISTRATION_OPEN", "0", False),
            ("CATALOG_PUBLIC_READ", "TRUE", True),
            ("CATALOG_PUBLIC_READ", "yes", True),
            ("CATALOG_PUBLIC_READ", "1", True),
            ("DEFAULT_CURRENCY", "SAR", "SAR"),
            ("RATE_LIMIT_DEFAULT", "5 per second", "5 per second"),
            ("RATE_LIMIT_LOGIN", "10/hour", "10/hour"),
            ("TRUSTED_HOSTS", " a.test , .b.test,", ("a.test", ".b.test")),
            ("CORS_ORIGINS", "https://a.test,http://b.test:3000", ("https://a.test", "http://b.test:3000")),
            ("PUBLIC_URL", "https://a.test:8443/catalog/", "https://a.test:8443/catalog"),
            ("WEBHOOK_ALLOWED_PRIVATE_HOSTS", "localhost, 10.1.0.0/16,::1", ("localhost", "10.1.0.0/16", "::1")),
            ("LOGIN_RETURN_URLS", "https://a.test/in?x=1, a.test:/in", ("https://a.test/in?x=1", "a.test:/in")),
            ("LOGIN_RETURN_URLS", "http://localhost:5173/,http://[::1]/", ("http://localhost:5173/", "http://[::1]/")),
            ("PREVIOUS_SECRET_KEYS", "one,two", ("one", "two")),
            ("JWT_PREVIOUS_SECRET_KEYS", "one,two", ("one", "two")),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/", "http://collector:4318"),
            ("METRICS_PORT", "9100", 9100),
            ("METRICS_HOST", "10.0.0.1", "10.0.0.1"),
            ("METRICS_TOKEN", "anything in development", "anything in development"),
            ("LOG_LEVEL", "debug", "DEBUG"),
            ("REDIS_URL", "redis://cache:6379/1", "redis://cache:6379/1"),
            ("REDIS_URL", "rediss://:pass@cache", "rediss://:pass@cache"),
            ("DATABASE_URL", "postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
            ("DATABASE_URL", "postgresql://u:%2F@h:5432/d?a=b", "postgresql+psycopg://u:%2F@h:5432/d?a=b"),
            ("DATABASE_URL", "postgresql:///d?host=/run", "postgresql+psycopg:///d?host=%2Frun"),
            ("DATABASE_URL", "sqlite:////var/lib/catalog.db", "sqlite:////var/lib/catalog.db"),
            ("DATABASE_URL", "sqlite:///data/catalog.db", f"sqlite:///{ROOT / 'data/catalog.db'}"),
        ],
    )
    def test_takes(self, name: str, text: str, value: Any) -> None:
        parsed = getattr(Config.from_environment({name: text}), name.lower())

        assert parsed == value
        assert type(parsed) is type(value)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("APP_ENV", "hunter2"),
            ("APP_ENV", "Production"),
            ("PORT", "hunter2"),
            ("PORT", "0"),
            ("PORT", "65536"),
            ("PORT", "80.5"),
            ("PORT", "+8000"),
            ("PORT", "-8000"),
            ("PORT", "８０００"),
            ("PORT", "8_000"),
            ("PORT", "9" * 5000),
            ("WEB_CONCURRENCY", "0"),
            ("WEB_THREADS", "many-hunter2"),
            ("ACCESS_TOKEN_TTL", "900s"),
            ("REFRESH_TOKEN_TTL", "59"),
            ("REFRESH_GRACE", "61"),
            ("IDEMPOTENCY_TTL", "0"),
            ("MAX_BODY_BYTES", "1023"),
            ("MAX_UPLOAD_BYTES", "1023"),
            ("MAX_MEDIA_BYTES", "1023"),
            ("MAX_MEDIA_PIXELS", "0"),
            ("MEDIA_STORE", "/srv/hunter2"),
            ("MEDIA_STORE", "file://srv/media"),
            ("MEDIA_STORE", "file:///./"),
            ("MEDIA_STORE", "file:///srv/../etc"),
            ("MEDIA_STORE", "file:///srv/%2e%2e/etc"),
            ("MEDIA_STORE", "file:///srv/media?x"),
            ("MEDIA_STORE", "ftp://bucket"),
            ("MEDIA_STORE", "memory:///"),
            ("MEDIA_STORE", "s3:///hunter2"),
            ("MEDIA_STORE", "s3://key:hunter2@bucket"),
            ("MEDIA_STORE", "s3://bucket/../other"),
            ("MEDIA_STORE", "s3://bucket/a//b"),
            ("MEDIA_STORE", "s3://bucket?endpoint=x"),
            ("MEDIA_STORE", "https://bucket.example"),
            ("MEDIA_URL", "hunter2"),
            ("MEDIA_URL", "/pictures"),
            ("MEDIA_URL", "//cdn.example"),
            ("MEDIA_URL", "ftp://cdn.example"),
            ("MEDIA_URL", "https://cdn.example/media?size=1"),
            ("MEDIA_URL", 'https://cdn.example/"><script>'),
            ("CELERY_BROKER_URL", "amqp://broker"),
            ("TRUSTED_PROXIES", "9"),
            ("DEBUG", "hunter2"),
            ("REGISTRATION_OPEN", "off-hunter2"),
            ("DEFAULT_CURRENCY", "usd"),
            ("DEFAULT_CURRENCY", "ÄÖÜ"),
            ("DEFAULT_CURRENCY", "EURO"),
            ("RATE_LIMIT_DEFAULT", "hunter2"),
            ("RATE_LIMIT_LOGIN", "5 per blink"),
            ("CORS_ORIGINS", "*"),
            ("PUBLIC_URL", "a.test"),
            ("PUBLIC_URL", "https://hunter2@a.test"),
            ("PUBLIC_URL", "https://a.test/?key=hunter2"),
            ("CORS_ORIGINS", "https://*.hunter2.test"),
            ("CORS_ORIGINS", r"https://.*\.hunter2\.test"),
            ("CORS_ORIGINS", "https://a.test/"),
            ("CORS_ORIGINS", "a.test"),
            ("CORS_ORIGINS", "null"),
            ("CORS_ORIGINS", "https://a.test,[a-z]+"),
            ("LOGIN_RETURN_URLS", "http://hunter2.test/in"),
            ("LOGIN_RETURN_URLS", "https://a.test/in#hunter2"),
            ("LOGIN_RETURN_URLS", "https://hunter2@a.test/in"),
            ("LOGIN_RETURN_URLS", "https://a.test/in,javascript:hunter2"),
            ("LOGIN_RETURN_URLS", "data:text/html;hunter2"),
            ("LOGIN_RETURN_URLS", "//hunter2.test/in"),
            ("LOGIN_RETURN_URLS", "/hunter2"),
            ("LOGIN_RETURN_URLS", "https://[hunter2/"),
            ("LOGIN_RETURN_URLS", "https://a.test\\@hunter2.test"),
            ("LOGIN_RETURN_URLS", "https://a.test/" + "x" * 1000),
            ("OIDC_PROVIDERS", "hunter2"),
            ("OIDC_PROVIDERS", "@/hunter2"),
            ("OIDC_PROVIDERS", "{hunter2"),
            ("OIDC_PROVIDERS", '{"hunter2": {}}'),
            ("WEBHOOK_ALLOWED_PRIVATE_HOSTS", "http://hunter2"),
            ("WEBHOOK_ALLOWED_PRIVATE_HOSTS", "a.test,*.hunter2.test"),
            ("WEBHOOK_ALLOWED_PRIVATE_HOSTS", "10.0.0.1/8"),
            ("LOG_LEVEL", "hunter2"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "hunter2:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://hunter2:4317"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@collector"),
            ("METRICS_PORT", "hunter2"),
            ("METRICS_PORT", "0"),
            ("METRICS_PORT", "65536"),
            ("METRICS_PORT", "8000"),
            ("REDIS_URL", "hunter2"),
            ("REDIS_URL", "http://hunter2"),
            ("DATABASE_URL", "hunter2"),
            ("DATABASE_URL", "mysql://u:hunter2@h/d"),
            ("DATABASE_URL", "postgresql://u:p@h:hunter2/d"),
            ("DATABASE_URL", "postgresql://u:hunter2@[::1/d"),
            ("DATABASE_URL", "postgresql://u:p@hunter2@h/d"),
            ("DATABASE_URL", "postgresql+psycopg2://u:hunter2@h/d"),
            ("DATABASE_URL", "sqlite://"),
            ("DATABASE_URL", "sqlite:///:memory:"),
            ("SECRET_KEY", "hunter2\n"),
            ("SECRET_KEY", b"hunter2\xff\xfe".decode(errors="surrogateescape")),
            ("JWT_PREVIOUS_SECRET_KEYS", "hunter2\0"),
        ],
    )
    def test_refuses_and_names_the_setting_and_not_the_value(self, name: str, text: str) -> None:
        line = refusal_of({name: text})

        assert re.match(rf"{name} must ", line)
        assert "hunter2" not in line
        assert text not in line or len(text) < 3

    @pytest.mark.parametrize("is_namespace_there", [True, False])
    def test_refuses_what_needs_a_package_that_is_not_installed(
        self, monkeypatch: pytest.MonkeyPatch, is_namespace_there: bool
    ) -> None:
        def find(name: str) -> None:
            if not is_namespace_there:
                raise ModuleNotFoundError

        monkeypatch.setattr(config, "find_spec", find)

        assert refusal_of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}) == (
            "OTEL_EXPORTER_OTLP_ENDPOINT needs the package opentelemetry.exporter.otlp.proto.http,"
            " which requirements/tracing.txt installs"
        )

    def test_takes_an_empty_variable_for_one_that_is_not_set(self) -> None:
        names = [declared.upper() for declared in Config.__dataclass_fields__]

        assert Config.from_environment(dict.fromkeys(names, "")) == Config.from_environment({})

    def test_lets_what_is_given_win(self) -> None:
        assert Config.from_environment({"PORT": "9000"}, port=9001).port == 9001

    def test_reads_nothing_but_what_it_is_handed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PORT", "9000")

        assert Config.from_environment({}).port == 8000
        assert Config.from_environment().port == 9000

    @pytest.mark.parametrize(("text", "value"), [("1", True), ("0", False), ("", False)])
    def test_counts_flasks_own_switch_for_debug(self, text: str, value: bool) -> None:
        assert Config.from_environment({"FLASK_DEBUG": text}).debug is value

    def test_knows_environments_by_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [*os.environ]:
            if name in {"SECRET_KEY", "JWT_SECRET_KEY", "DATABASE_URL"}:
                monkeypatch.delenv(name)

        assert Config.named("testing").app_env is Environment.TESTING
        with pytest.raises(ConfigError, match=r"^APP_ENV must be one of"):
            Config.named("staging")


class TestMisspelling:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("CORS_ORIGIN", "CORS_ORIGINS"),
            ("COSR_ORIGINS", "CORS_ORIGINS"),
            ("RATELIMIT_DEFAULT", "RATE_LIMIT_DEFAULT"),
            ("TRUSTED_HOST", "TRUSTED_HOSTS"),
            ("JWT_PREVIOUS_SECRET_KEY", "JWT_PREVIOUS_SECRET_KEYS"),
            ("MAX_UPLOAD_BYTE", "MAX_UPLOAD_BYTES"),
            ("MAX_MEDIA_PIXEL", "MAX_MEDIA_PIXELS"),
            ("DATABASE_URI", "DATABASE_URL"),
        ],
    )
    def test_is_refused_unless_the_setting_is_given_too(self, name: str, meant: str) -> None:
        assert refusal_of({name: "hunter2"}).startswith(f"{name}: did you mean {meant}?")
        assert "hunter2" not in refusal_of({name: "hunter2"})

        Config.from_environment({name: "hunter2", meant: ""})
        Config.from_environment({name: ""})

    @pytest.mark.parametrize(
        "name",
        [
            # Kubernetes, for services named redis, mail, catalog, cors and rate-limit.
            "REDIS_PORT", "REDIS_SERVICE_HOST", "REDIS_PORT_6379_TCP_ADDR", "MAIL_SERVICE_HOST",
            "MAIL_SERVICE_PORT_SMTP", "MAIL_PORT_25_TCP", "CATALOG_SERVICE_PORT", "CATALOG_PORT",
            "CORS_PORT_80_TCP_PROTO", "RATE_LIMIT_PORT",
            # Platforms, shells, other programs.
            "HOSTNAME", "HOSTTYPE", "PORTS", "MAIL", "MAILCHECK", "LOGLEVEL", "WEB_MEMORY", "WEB_PORT", "REDIS_TLS_URL",
            "REDIS_HOST", "DATABASE_HOST", "DATABASE_URL_UNPOOLED", "DATABASE_PRIVATE_URL", "SECRET_KEY_BASE",
            "APP_NAME", "DJANGO_SECRET_KEY", "TEST_DATABASE_URL", "CELERY_RESULT_BACKEND", "LOG_FORMAT",
            "MAX_WORKERS", "PUBLIC_DIR", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
            "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_PROTOCOL",
            "OTEL_TRACES_SAMPLER", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_BSP_SCHEDULE_DELAY",
        ],
    )  # fmt: skip
    def test_is_not_seen_in_what_is_somebody_elses(self, name: str) -> None:
        Config.from_environment({name: "tcp://10.0.0.1:1"})

        assert list(unknown_settings({name: "tcp://10.0.0.1:1"})) == []

    def test_is_named_where_it_may_be_one(self) -> None:
        environ = {"JWT_SECRET": "hunter2", "MAIL_HOST": "hunter2", "CORS_MAX_AGE": "", "CORS_ORIGINS": "hunter2"}
        Config.from_environment({**environ, "CORS_ORIGINS": ""})

        assert list(unknown_settings(environ)) == [
            "JWT_SECRET is no setting; did you mean JWT_SECRET_KEY?",
            "MAIL_HOST is no setting",
        ]

    def test_is_looked_for_under_beginnings_that_settings_have(self) -> None:
        names = [declared.upper() for declared in Config.__dataclass_fields__]

        assert [prefix for prefix in PREFIXES if not any(name.startswith(prefix) for name in names)] == []


class TestProduction:
    def test_takes_strong_secrets(self) -> None:
        config = Config.from_environment(PRODUCTION)

        assert (config.secret_key, config.jwt_secret_key) == (SECRET_KEY, JWT_SECRET_KEY)

    @pytest.mark.parametrize("name", ["SECRET_KEY", "JWT_SECRET_KEY", "DATABASE_URL", "MEDIA_STORE"])
    @pytest.mark.parametrize("missing", ["unset", "empty"])
    def test_needs(self, name: str, missing: str) -> None:
        environ = {**PRODUCTION, name: ""}
        if missing == "unset":
            del environ[name]

        assert refusal_of(environ) == f"{name} must be set in production"

    @pytest.mark.parametrize(
        "name", ["SECRET_KEY", "PREVIOUS_SECRET_KEYS", "JWT_SECRET_KEY", "JWT_PREVIOUS_SECRET_KEYS", "METRICS_TOKEN"]
    )
    @pytest.mark.parametrize(
        "value",
        [
            SECRET_KEY[:31],
            "x" * 64,
            "abc" * 20,
            "please-change-me-before-you-go-live-0123456789",
            "this-is-a-Secret-and-long-enough-0123456789",
            "my-development-key-which-is-long-0123456789",
            "PASSWORD0123456789abcdefghijklmnopqrstuvwxyz",
        ],
        ids=["short", "one letter", "few letters", "change", "secret", "development", "password"],
    )
    def test_refuses_a_weak(self, name: str, value: str) -> None:
        line = refusal_of({**PRODUCTION, name: value})

        assert line.startswith(f"{name} must ")
        assert value not in line

    @pytest.mark.parametrize("name", ["SECRET_KEY", "JWT_SECRET_KEY"])
    def test_counts_bytes_and_not_letters(self, name: str) -> None:
        Config.from_environment({**PRODUCTION, name: "äöüßéèêñçøåæ€µþð"})

    def test_refuses_one_secret_for_two_uses(self) -> None:
        line = refusal_of({**PRODUCTION, "JWT_SECRET_KEY": SECRET_KEY})

        assert line == "JWT_SECRET_KEY must differ from SECRET_KEY in production"

    @pytest.mark.parametrize("name", ["DEBUG", "FLASK_DEBUG"])
    def test_refuses_the_debugger(self, name: str) -> None:
        assert refusal_of({**PRODUCTION, name: "1"}) == "DEBUG must be off in production"

    def test_needs_providers_with_https_and_a_place_to_come_back_to(self) -> None:
        provider = '{"company": {"issuer": "%s", "client_id": "c", "client_secret": "s"}}'
        secure = {**PRODUCTION, "OIDC_PROVIDERS": provider % "https://id.test"}
        plain = {**PRODUCTION, "OIDC_PROVIDERS": provider % "http://127.0.0.1:9000"}
        development = {**plain, "APP_ENV": "development"}

        assert Config.from_environment({**secure, "PUBLIC_URL": "https://api.test"}).oidc_providers.keys() == {
            "company"
        }
        assert refusal_of(secure).startswith("PUBLIC_URL must be an https URL where OIDC_PROVIDERS is set")
        assert refusal_of({**secure, "PUBLIC_URL": "http://api.test"}) == refusal_of(secure)
        assert refusal_of({**development, "PUBLIC_URL": "http://api.test"}) == refusal_of(secure)
        assert refusal_of({**plain, "PUBLIC_URL": "https://api.test"}).startswith("OIDC_PROVIDERS must have issuers")
        assert Config.from_environment(development).oidc_providers.keys() == {"company"}

    def test_makes_no_secret(self, instance: Path) -> None:
        Config.from_environment(PRODUCTION)

        assert not instance.exists()


class TestDevelopment:
    def test_makes_its_secrets_once(self, instance: Path) -> None:
        first, second = Config.from_environment({}), Config.from_environment({})

        assert first == second
        assert first.secret_key != first.jwt_secret_key
        assert len((instance / "secret").read_text()) >= config.MIN_SECRET_LENGTH

    def test_keeps_a_secret_that_is_given(self, instance: Path) -> None:
        given = Config.from_environment({"SECRET_KEY": "mine"})

        assert given.secret_key == "mine"
        assert given.jwt_secret_key

    def test_shows_the_secret_to_its_owner_alone(self, instance: Path) -> None:
        before = os.umask(0)
        try:
            Config.from_environment({})
        finally:
            os.umask(before)

        assert stat.S_IMODE((instance / "secret").stat().st_mode) == 0o600
        assert stat.S_IMODE(instance.stat().st_mode) == 0o700
        assert [path.name for path in instance.iterdir()] == ["secret"]

    def test_makes_one_secret_for_many_threads(self, instance: Path) -> None:
        instance.mkdir()
        with ThreadPoolExecutor(16) as threads:
            made = list(threads.map(development_secret, [instance / "secret"] * 16))

        assert set(made) == {(instance / "secret").read_text()}
        assert [path.name for path in instance.iterdir()] == ["secret"]

    def test_makes_one_secret_for_many_processes(self, instance: Path) -> None:
        instance.mkdir()
        program = "import sys, config, pathlib; print(config.development_secret(pathlib.Path(sys.argv[1])))"
        run = partial(
            subprocess.run, [sys.executable, "-c", program, str(instance / "secret")],
            cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip

        with ThreadPoolExecutor(6) as threads:
            ended = list(threads.map(lambda _: run(), range(6)))

        assert {each.stdout.strip() for each in ended} == {(instance / "secret").read_text()}
        assert [path.name for path in instance.iterdir()] == ["secret"]


class TestForFlask:
    def test_caps_every_body(self) -> None:
        assert Config.from_environment({"MAX_BODY_BYTES": "2048"}).for_flask()["MAX_CONTENT_LENGTH"] == 2048

    @pytest.mark.parametrize("url", ["sqlite:////tmp/x.db", "postgresql://h/d"])
    def test_hides_parameters_from_errors(self, url: str) -> None:
        options = Config.from_environment({"DATABASE_URL": url}).for_flask()["SQLALCHEMY_ENGINE_OPTIONS"]

        assert options["hide_parameters"] is True

    def test_bounds_every_wait_for_postgresql(self) -> None:
        options = Config.from_environment({"DATABASE_URL": "postgresql://h/d"}).for_flask()["SQLALCHEMY_ENGINE_OPTIONS"]

        assert options["pool_timeout"] <= 5
        assert options["connect_args"]["connect_timeout"] <= 2
        assert options["connect_args"]["max_wait"] <= 5
        # TCP must not be the first to give a connection up: it does not know that an answer is overdue.
        assert options["connect_args"]["tcp_user_timeout"] > 1000 * options["connect_args"]["max_wait"]
        assert "statement_timeout" in options["connect_args"]["options"]
        assert "lock_timeout" in options["connect_args"]["options"]

    def test_does_not_wait_long_for_redis(self) -> None:
        settings = Config.from_environment({"REDIS_URL": "redis://cache"}).for_flask()

        assert settings["REDIS_OPTIONS"]["socket_timeout"] <= 0.2
        assert settings["REDIS_OPTIONS"]["socket_connect_timeout"] <= 0.2

    def test_needs_no_redis(self) -> None:
        settings = Config.from_environment({}).for_flask()

        assert settings["REDIS_OPTIONS"] == {}
        assert settings["CACHE_TYPE"] == "app.web.response_cache.ResponseCache"


class TestRunsOn:
    @pytest.mark.parametrize(
        ("environ", "told"),
        [
            ({}, "development, sqlite"),
            (PRODUCTION, "production, postgresql"),
            (PRODUCTION | {"REDIS_URL": "redis://:hunter2@host/1"}, "production, postgresql, redis"),
            (
                PRODUCTION | {"REDIS_URL": "redis://host", "CELERY_BROKER_URL": "redis://host"},
                "production, postgresql, redis, celery",
            ),
        ],
    )
    def test_names_the_environment_and_the_kinds_of_servers(self, environ: dict[str, str], told: str) -> None:
        assert Config.from_environment(environ).runs_on == told


class TestIssuer:
    @pytest.mark.parametrize(
        ("environ", "issuer"),
        [
            ({}, "http://127.0.0.1:8000"),
            ({"PORT": "9000"}, "http://127.0.0.1:9000"),
            ({"PUBLIC_URL": "https://shop.example/catalog/"}, "https://shop.example/catalog"),
            ({"PUBLIC_URL": "http://localhost:8000"}, "http://localhost:8000"),
            ({"PUBLIC_URL": "http://shop.example"}, None),
            ({"PUBLIC_URL": "http://localhost.shop.example"}, None),
            (PRODUCTION, None),
            (PRODUCTION | {"PUBLIC_URL": "https://shop.example"}, "https://shop.example"),
        ],
    )
    def test_is_a_name_that_no_request_can_change(self, environ: dict[str, str], issuer: str | None) -> None:
        assert Config.from_environment(environ).issuer == issuer


class TestRelease:
    def test_is_the_one_of_the_project(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

        assert project["version"] == VERSION

    def test_has_the_commit_that_the_build_says(self) -> None:
        assert Config.from_environment({**PRODUCTION, "CATALOG_COMMIT": "9060526b"}).commit == "9060526b"

    def test_refuses_what_is_no_commit(self) -> None:
        assert refusal_of({"CATALOG_COMMIT": "one\ttwo"}).startswith("CATALOG_COMMIT ")
        assert refusal_of({"CATALOG_COMMIT": "<script>"}) == "CATALOG_COMMIT must be the id of a commit"

    def test_has_the_commit_that_is_checked_out_in_development_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@t.example", "-C", str(tmp_path)]
        for arguments in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message", "First"]):
            subprocess.run([*git, *arguments], check=True, capture_output=True)
        there = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
        monkeypatch.setattr(config, "ROOT", tmp_path)
        commit_of_checkout.cache_clear()

        assert Config.from_environment({}).commit == there
        assert Config.from_environment(PRODUCTION).commit == "unknown"

    @pytest.mark.parametrize("path", ["", os.environ["PATH"]], ids=["without git", "without a checkout"])
    def test_is_unknown_otherwise(self, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(config, "ROOT", tmp_path)
        monkeypatch.setenv("PATH", path)
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
        commit_of_checkout.cache_clear()

        assert Config.from_environment({}).commit == "unknown"
