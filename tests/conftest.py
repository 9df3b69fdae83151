"""The world of the tests: both databases, an application, and the cast.

alice edits, bob looks, carol must not know, root administers. A test that asks for ``app`` or anybody of the cast runs
once on SQLite and once on PostgreSQL, on an empty database whose transactions are as real as in production.
"""

import gc
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from flask_migrate import upgrade
from sqlalchemy import Connection, insert, inspect, text
from structlog.testing import capture_logs
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from app import create_app
from app.core import clock
from app.core.audit import record_event
from app.core.changes import audited_members
from app.core.text import fold
from app.core.transactions import unit_of_work
from app.extensions import cache, db
from app.features.sessions.models import UserSession
from app.features.users.models import User
from app.security.passwords import hash_password
from app.security.permissions import Role
from app.security.tokens import issue_access_token
from app.web.body import JSON
from app.web.errors import PROBLEM
from app.web.logs import set_up_logs
from app.web.operation import Operation
from app.web.refusals import refusals_by_status
from config import Config, Environment
from tests.servers import create_database, drop_database, postgres_server, s3_server, valkey_server

pytest_plugins = ["tests.no_leaks", "tests.no_skips", "tests.quick"]

API = "/api/v1"
PASSWORD = "correct horse battery"
#: TEST_QUICK=1 runs what needs neither servers nor much time (`make quick`); see tests/quick.py.
QUICK = os.environ.get("TEST_QUICK", "0") != "0"
BACKENDS = ["sqlite"] if QUICK else ["sqlite", "postgresql"]
#: TEST_FAST_SQL=0 runs every test without compiled statements (`make plain`).
FAST_SQL = os.environ.get("TEST_FAST_SQL", "1") != "0"
_MEDIA = tempfile.TemporaryDirectory(prefix="catalog-media-")
#: The folder of media that applications of this process share; what is in it has names by its content.
MEDIA_STORE = Path(_MEDIA.name).as_uri()
#: Parents first.
TABLES = [table.name for table in db.metadata.sorted_tables]
#: The names of those that have rows.
FILLED_TABLES = " UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS (SELECT * FROM {name})" for name in TABLES)


#: Made once: SQLAlchemy takes longer to make a statement than to find the one that it has compiled.
INSERT_USER = insert(User).returning(User.id)
INSERT_SESSION = insert(UserSession).returning(UserSession.id)


def pytest_configure() -> None:
    """Log what an application in a test logs, before there is one."""
    set_up_logs(level="WARNING", as_json=False)


@pytest.fixture(autouse=True)
def logs() -> None:
    """Log as at the start, whatever the application of the test before logs; each application sets it for all."""
    set_up_logs(level="WARNING", as_json=False)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Run half as many workers again as there are processors: many tests wait for servers, and for time to pass."""
    processors = yield
    return processors if QUICK else processors + processors // 2


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what may take longest, lest one worker be left with it when the other has finished."""

    def allowed(item: pytest.Item) -> float:
        marker = item.get_closest_marker("timeout")
        return float(marker.args[0]) if marker else 0

    items.sort(key=allowed, reverse=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Spare the garbage collector what has been imported and collected, which all lives until the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Undo what the test's applications set up: the level of logs is the process's."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def refuse_when_quick() -> None:
    """Fail a test that asks for a server without naming its fixture: tests/quick.py has not seen it."""
    if QUICK:
        pytest.fail("make quick starts no servers: name the fixture of the server among the test's own")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The maintenance database of a real PostgreSQL."""
    refuse_when_quick()
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Valkey."""
    refuse_when_quick()
    with valkey_server() as url:
        yield url


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3 server, with the bucket ``media``; `tests.servers.s3_environment` has what its clients need."""
    refuse_when_quick()
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Make an empty database of a kind, for tests that migrate or serve it themselves."""
    numbers, made = count(), []

    def make(backend: str) -> str:
        name = f"catalog_{abs(hash(request.node.nodeid)):x}_{next(numbers)}"
        if backend == "sqlite":
            return f"sqlite:///{tmp_path / name}.db"
        made.append(name)
        return create_database(request.getfixturevalue("postgres_url"), name)

    yield make
    for name in made:
        drop_database(request.getfixturevalue("postgres_url"), name)


def settings_for(database_url: str, **changed: Any) -> Config:
    """Settings of a test: nothing from the shell, no request limits unless the test is about them."""
    fixed = {
        "app_env": Environment.TESTING,
        "database_url": database_url,
        "secret_key": "s" * 32,
        "jwt_secret_key": "j" * 32,
        "media_store": MEDIA_STORE,
        "rate_limit_enabled": False,
        # A thread would write into the database of another test.
        "search_terms_interval": 0,
        "log_level": "WARNING",
        "fast_sql": FAST_SQL,
    }
    return Config.from_environment({}, **{**fixed, **changed})


@pytest.fixture(scope="session")
def applications(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Flask]]:
    """One application for each database, on a schema made by the migrations."""
    made: dict[str, Flask] = {}

    def application(backend: str) -> Flask:
        if backend not in made:
            if backend == "sqlite":
                url = f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'catalog.db'}"
            else:
                url = create_database(request.getfixturevalue("postgres_url"), "catalog")
            made[backend] = create_app(settings_for(url))
            with made[backend].app_context():
                upgrade()
        return made[backend]

    yield application
    for app in made.values():
        with app.app_context():
            db.engine.dispose()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The database this test runs on."""
    name: str = request.param
    return name


#: For tests that the database cannot make a difference to.
on_one_database = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
def app(backend: str, applications: Callable[[str], Flask]) -> Flask:
    """An application on an empty database."""
    app = applications(backend)
    empty(app)
    return app


def empty(app: Flask) -> None:
    """Delete every row, whichever process has written it."""
    with app.app_context(), unit_of_work():
        connection = db.session.connection()
        # Most tables are empty: asking which are not is faster than deleting from all of them.
        filled = set(_filled_tables(connection))
        statements = [f"DELETE FROM {name}" for name in reversed(TABLES) if name in filled]
        if "categories" in filled:
            # SQLite would refuse to delete a parent before its child, even in one statement.
            statements.insert(0, "UPDATE categories SET parent_id = NULL WHERE parent_id IS NOT NULL")
        if "products" in filled:
            single = (
                "UPDATE products SET kind = 'single', parent_id = NULL, position = NULL WHERE parent_id IS NOT NULL"
            )
            statements.insert(0, single)
        if connection.dialect.name == "postgresql":
            statements = ["; ".join(statements)] if statements else []
        for statement in statements:
            connection.exec_driver_sql(statement)


def _filled_tables(connection: Connection) -> Sequence[str]:
    """The names of the tables that have rows."""
    driver: Any = connection.connection.dbapi_connection
    if not isinstance(driver, psycopg.Connection):
        return connection.exec_driver_sql(FILLED_TABLES).scalars().all()
    # Prepared: almost every test asks, and PostgreSQL takes longer to plan so many parts than to answer.
    return [name for (name,) in driver.execute(FILLED_TABLES, prepare=True)]


#: Settings of which an application keeps nothing between requests, so that those who set only these can share one.
SHARED_BY_TESTS = {
    *("catalog_public_read", "cors_origins", "default_currency", "max_body_bytes", "refresh_grace"),
    *("registration_open", "trusted_hosts", "trusted_proxies"),
    *("secret_key", "previous_secret_keys", "jwt_secret_key", "jwt_previous_secret_keys"),
    *("public_cache_max_age", "public_cache_stale_while_revalidate"),
}


@pytest.fixture(scope="session")
def shared_applications() -> Iterator[dict[str, Flask]]:
    """Applications that tests made of settings in SHARED_BY_TESTS."""
    made: dict[str, Flask] = {}
    yield made
    for app in made.values():
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def app_with(app: Flask, shared_applications: dict[str, Flask]) -> Iterator[Callable[..., Flask]]:
    """Make another application on the same database with other settings."""
    made = []

    def make(**changed: Any) -> Flask:
        settings = settings_for(app.config["DATABASE_URL"], **changed)
        if changed and changed.keys() <= SHARED_BY_TESTS:
            return shared(repr((app.config["DATABASE_URL"], sorted(changed.items()))), settings)
        other = create_app(settings)
        made.append(other)
        return other

    def shared(key: str, settings: Config) -> Flask:
        if key not in shared_applications:
            shared_applications[key] = create_app(settings)
        with shared_applications[key].app_context():
            cache.clear()
        return shared_applications[key]

    yield make
    for other in made:
        with other.app_context():
            db.engine.dispose()


@pytest.fixture
def statements_of(app_with: Callable[..., Flask]) -> Callable[[Callable[[Flask], TestResponse]], int]:
    """Count the statements of a request by the access log: below /auth no response shows them."""
    logged = app_with(log_level="INFO")

    def count_statements(send: Callable[[Flask], TestResponse]) -> int:
        with capture_logs() as lines:
            send(logged)
        (line,) = (line for line in lines if line["event"] == "request")
        queries: int = line["queries"]
        return queries

    return count_statements


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Somebody without credentials, for requests in the raw."""
    return app.test_client()


@pytest.fixture
def runner(app: Flask) -> FlaskCliRunner:
    """Runs the commands of ``flask``."""
    return app.test_cli_runner()


@dataclass(frozen=True)
class Caller:
    """Somebody who calls the API. Paths are below /api/v1 unless they begin with a second slash."""

    app: Flask
    token: str | None = None
    user_id: int | None = None

    def call(self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> TestResponse:
        """Send one request."""
        credentials = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        where = path.removeprefix("/") if path.startswith("//") else API + path
        answer = self.app.test_client(use_cookies=False).open(
            where, method=method, headers={**credentials, **(headers or {})}, **options
        )
        require_declared(self.app, answer)
        return answer

    def get(self, path: str, **options: Any) -> TestResponse:
        """Read."""
        return self.call("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> TestResponse:
        """Create."""
        return self.call("POST", path, **_with_json(json), **options)

    def put(self, path: str, json: Any = None, *, if_match: str | None = "*", **options: Any) -> TestResponse:
        """Replace."""
        return self.call("PUT", path, **_with_json(json), **_matching(if_match, options))

    def patch(self, path: str, json: Any = None, *, if_match: str | None = "*", **options: Any) -> TestResponse:
        """Merge."""
        return self.call("PATCH", path, **_with_json(json), **_matching(if_match, options))

    def delete(self, path: str, *, if_match: str | None = "*", **options: Any) -> TestResponse:
        """Delete."""
        return self.call("DELETE", path, **_matching(if_match, options))

    def on(self, app: Flask) -> "Caller":
        """The same person at an application with other settings."""
        return replace(self, app=app)


def require_declared(app: Flask, answer: TestResponse) -> None:
    """What refuses a request must be documented for its operation and status: a client has a type for it."""
    # Those of OAuth 2 are JSON; pages are for people.
    if answer.status_code < 400 or answer.mimetype not in {PROBLEM, JSON} or not answer.data:
        return
    if answer.status_code == 500:
        return
    try:
        rule, _ = app.url_map.bind("localhost").match(answer.request.path, answer.request.method, return_rule=True)
    except HTTPException:
        return
    operation = getattr(app.view_functions[rule.endpoint], "operation", None)
    if isinstance(operation, Operation) and answer.json is not None:
        declared = refusals_by_status(rule, operation).get(answer.status_code, ())
        assert answer.json["code"] in {refusal.code() for refusal in declared}, f"{operation.name} lacks @refuses"


def _with_json(json: Any) -> dict[str, Any]:
    return {} if json is None else {"json": json}


def _matching(if_match: str | None, options: dict[str, Any]) -> dict[str, Any]:
    headers = {} if if_match is None else {"If-Match": if_match}
    return {**options, "headers": {**headers, **(options.get("headers") or {})}}


@pytest.fixture(scope="session")
def password_hash() -> str:
    """The hash of PASSWORD, made once: hashing is slow on purpose."""
    return hash_password(PASSWORD)


def insert_user_with_session(username: str, role: Role, password_hash: str) -> tuple[int, int]:
    """Write the rows, and the one in the trail, that an ORM would write: almost every test waits for them."""
    now, email = clock.now(), f"{username}@example.com"
    stamps = {"created_at": now, "updated_at": now, "version": 1}
    own = {"email": email, "username": username, "role": role, "is_active": True, "epoch": 0, "email_verified": True}
    hidden = {"password_hash": password_hash, "search_text": fold(f"{username} {email}")}
    user_id = db.session.connection().execute(INSERT_USER, {**own, **hidden, **stamps}).scalar_one()
    shown = {"id": user_id, **own, "created_at": now.isoformat(), "updated_at": now.isoformat(), "version": 1}
    record_event(
        "user.created",
        resource_type="user",
        resource_id=user_id,
        after={name: shown[name] for name in audited_members(inspect(User))},
    )
    session = {"user_id": user_id, "device": "tests", "address": "127.0.0.1", "expires_at": now + timedelta(days=1)}
    moments = {"created_at": now, "last_seen_at": now}
    session_id = db.session.connection().execute(INSERT_SESSION, {**session, **moments}).scalar_one()
    return user_id, session_id


@pytest.fixture
def sign_in(app: Flask, password_hash: str) -> Callable[..., Caller]:
    """Make a user with a session, and hand out the caller."""

    def sign_in(username: str, role: Role = Role.USER) -> Caller:
        with app.app_context(), unit_of_work():
            user_id, session_id = insert_user_with_session(username, role, password_hash)
            token = issue_access_token(user_id=user_id, session_id=session_id, role=role)
            return Caller(app, token, user_id)

    return sign_in


@pytest.fixture
def alice(sign_in: Callable[..., Caller]) -> Caller:
    """An editor."""
    return sign_in("alice", Role.EDITOR)


@pytest.fixture
def bob(sign_in: Callable[..., Caller]) -> Caller:
    """A plain user."""
    return sign_in("bob")


@pytest.fixture
def carol(sign_in: Callable[..., Caller]) -> Caller:
    """Another plain user, to whom nothing of bob's may show."""
    return sign_in("carol")


@pytest.fixture
def root(sign_in: Callable[..., Caller]) -> Caller:
    """An administrator."""
    return sign_in("root", Role.ADMIN)


@pytest.fixture
def anonymous(app: Flask) -> Caller:
    """Nobody."""
    return Caller(app)


@pytest.fixture
def make_category(alice: Caller) -> Callable[..., dict[str, Any]]:
    """Make a category; a test mentions what matters."""
    numbers = count(1)

    def make(**members: Any) -> dict[str, Any]:
        answer = alice.post("/categories", {"name": f"Category {next(numbers)}", **members})
        assert answer.status_code == 201, answer.get_data(as_text=True)
        return body_of(answer)

    return make


@pytest.fixture
def make_brand(alice: Caller) -> Callable[..., dict[str, Any]]:
    """Make a brand; a test mentions what matters."""
    numbers = count(1)

    def make(**members: Any) -> dict[str, Any]:
        answer = alice.post("/brands", {"name": f"Brand {next(numbers)}", **members})
        assert answer.status_code == 201, answer.get_data(as_text=True)
        return body_of(answer)

    return make


@pytest.fixture
def make_attribute(alice: Caller) -> Callable[..., dict[str, Any]]:
    """Make an attribute, a text unless its type is given, with choices where it needs some."""
    numbers = count(1)

    def make(**members: Any) -> dict[str, Any]:
        number = next(numbers)
        default: dict[str, Any] = {"code": f"attribute_{number}", "label": f"Attribute {number}", "type": "text"}
        if members.get("type") in {"choice", "choices"}:
            default["choices"] = [{"code": "red", "label": "Deep red"}, {"code": "blue", "label": "Blue"}]
        answer = alice.post("/attributes", {**default, **members})
        assert answer.status_code == 201, answer.get_data(as_text=True)
        return body_of(answer)

    return make


@pytest.fixture
def make_type(alice: Caller) -> Callable[..., dict[str, Any]]:
    """Make a product type; a test mentions what matters."""
    numbers = count(1)

    def make(**members: Any) -> dict[str, Any]:
        number = next(numbers)
        answer = alice.post("/product-types", {"code": f"type_{number}", "label": f"Type {number}", **members})
        assert answer.status_code == 201, answer.get_data(as_text=True)
        return body_of(answer)

    return make


@pytest.fixture
def make_product(alice: Caller, make_category: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Make a product, and a category for it unless one is given; a test mentions what matters."""
    numbers = count(1)
    home: list[int] = []

    def make(**members: Any) -> dict[str, Any]:
        if "category_id" not in members and not home:
            home.append(make_category()["id"])
        number = next(numbers)
        default = {"name": f"Product {number}", "price": "10.00", "category_id": home[0] if home else None}
        answer = alice.post("/products", {**default, **members})
        assert answer.status_code == 201, answer.get_data(as_text=True)
        return body_of(answer)

    return make


def body_of(answer: TestResponse) -> dict[str, Any]:
    """The JSON object of an answer."""
    body = answer.get_json()
    assert isinstance(body, dict)
    return body


def code_of(answer: TestResponse) -> str:
    """The code of a problem."""
    assert answer.mimetype == "application/problem+json", answer.get_data(as_text=True)
    return str(body_of(answer)["code"])


def faults_of(answer: TestResponse) -> list[tuple[str, str]]:
    """Where each fault of a 422 is, a pointer or the name of a parameter, and its code."""
    assert answer.status_code == 422, answer.get_data(as_text=True)
    return [
        (next(fault[place] for place in ("pointer", "parameter", "header") if place in fault), fault["code"])
        for fault in body_of(answer)["errors"]
    ]


def rows_of(app: Flask, table: str) -> list[tuple[Any, ...]]:
    """Every row of a table, to compare a state with an earlier one."""
    with app.app_context(), unit_of_work(reading=True):
        return [tuple(row) for row in db.session.execute(text(f"SELECT * FROM {table} ORDER BY id"))]
