"""What tests of products share."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import Connection, event

from app import create_app
from app.core.fastsql.prepared import Compiled
from app.extensions import cache, db
from tests.conftest import Caller, settings_for
from tests.servers import create_database, postgres_server


@pytest.fixture
def explain(app: Flask, backend: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Call a path, and give the plan of the last statement of its answer, or of every statement."""
    with app.app_context():
        engine = db.engine
    executed: list[tuple[str, Any, bool]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        executed.append((statement, parameters, False))

    def find(compiled: Compiled, here: Connection, values: dict[str, Any]) -> Any:
        executed.append((compiled.sql, compiled.parameters(values), True))
        return whole(compiled, here, values)

    def explain(caller: Caller, path: str, *, without_seqscan: bool = False, every: bool = False) -> str:
        executed.clear()
        with caller.app.app_context():
            cache.clear()
        answer = caller.get(path)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        # What a list asks beside its rows: which variants match.
        listed = [one for one in executed if "ORDER BY products.parent_id, products.position" not in one[0]]
        asked = listed if every else listed[-1:]
        return "\n".join(plan_of(*one, without_seqscan=without_seqscan) for one in asked)

    def plan_of(statement: str, parameters: Any, is_prepared: bool, *, without_seqscan: bool) -> str:
        with engine.begin() as connection:
            if backend == "sqlite":
                lines = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", tuple(parameters))
                return "\n".join(line[3] for line in lines)
            if without_seqscan:
                connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            explained = f"EXPLAIN (COSTS OFF) {statement}"
            if is_prepared:
                driver: Any = connection.connection.dbapi_connection
                return "\n".join(line for (line,) in driver.execute_prepared(explained, parameters))
            return "\n".join(connection.exec_driver_sql(explained, parameters).scalars())

    # Readers pass SQLAlchemy's events by.
    whole = Compiled.all
    monkeypatch.setattr(Compiled, "all", find)
    event.listen(engine, "before_cursor_execute", note)
    yield explain
    event.remove(engine, "before_cursor_execute", note)


@pytest.fixture(scope="module")
def debian_url() -> Iterator[str]:
    """Debian's PostgreSQL, which has the extensions that pip's lacks."""
    if "DEBIAN_PG_BIN" not in os.environ:
        pytest.skip("DEBIAN_PG_BIN does not say where Debian's PostgreSQL is")
    with postgres_server(binaries=Path(os.environ["DEBIAN_PG_BIN"])) as url:
        yield url


@contextmanager
def migrated(url: str) -> Iterator[Flask]:
    """An application on a new database."""
    app = create_app(settings_for(url))
    with app.app_context():
        upgrade()
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture(scope="module")
def debian_app(debian_url: str) -> Iterator[Flask]:
    """An application that knows trigrams."""
    with migrated(create_database(debian_url, "catalog")) as app:
        yield app
