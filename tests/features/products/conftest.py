"""What tests of products share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, event

from app.core.fastsql.prepared import Compiled
from app.extensions import cache, db
from tests.conftest import Caller


@pytest.fixture
def explain(app: Flask, backend: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Call a path, and give the plan of the last statement of its answer."""
    with app.app_context():
        engine = db.engine
    executed: list[tuple[str, Any, bool]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        executed.append((statement, parameters, False))

    def find(compiled: Compiled, here: Connection, values: dict[str, Any]) -> Any:
        executed.append((compiled.sql, compiled.parameters(values), True))
        return whole(compiled, here, values)

    def explain(caller: Caller, path: str, *, without_seqscan: bool = False) -> str:
        executed.clear()
        with caller.app.app_context():
            cache.clear()
        answer = caller.get(path)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        statement, parameters, is_prepared = executed[-1]
        with engine.begin() as connection:
            if backend == "sqlite":
                lines = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", tuple(parameters))
                return "\n".join(line[3] for line in lines)
            if without_seqscan:
                connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            explained = f"EXPLAIN (COSTS OFF) {statement}"
            if is_prepared:
                driver: Any = connection.connection.dbapi_connection
                return "\n".join(line for (line,) in driver.raw_cursor.execute(explained, parameters))
            return "\n".join(connection.exec_driver_sql(explained, parameters).scalars())

    # Readers pass SQLAlchemy's events by.
    whole = Compiled.all
    monkeypatch.setattr(Compiled, "all", find)
    event.listen(engine, "before_cursor_execute", note)
    yield explain
    event.remove(engine, "before_cursor_execute", note)
