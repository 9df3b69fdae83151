"""Published resources: each has its line, and what caches may store depends on published rows alone."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from flask import Flask
from sqlalchemy import event

from app.api.resources import RESOURCES
from app.core.changelog import LogRow, Published
from app.extensions import Model, db
from app.web import resources
from app.web.openapi import operations
from app.web.resources import ResourceMissing
from tests.operations import Scene

TABLES_READ = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)")
WHAT_TO_DO = "its model must mix in Published (app/core/changelog.py), or its route say @returns(..., cacheable=False)"


@contextmanager
def tables_read(app: Flask) -> Iterator[set[str]]:
    """The tables that an application reads within a block; it must not use compiled statements (FAST_SQL=0)."""
    tables: set[str] = set()

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        tables.update(set(TABLES_READ.findall(statement)) & set(db.metadata.tables))

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield tables
    finally:
        event.remove(engine, "before_cursor_execute", note)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_cacheable_responses_read_published_rows_alone(
    app: Flask, password_hash: str, app_with: Callable[..., Flask]
) -> None:
    published = {str(mapper.local_table) for mapper in Model.registry.mappers if issubclass(mapper.class_, Published)}
    cacheable = {operation.name for _, operation in operations(app) if operation.is_cacheable}
    scene = Scene(app, password_hash)
    ours = [operation for operation in scene.operations if operation.described["operationId"] in cacheable]
    for operation in ours:
        scene.path(operation)
    scene.app = app_with(catalog_public_read=True, fast_sql=False, answer_cache_bytes=0)

    for operation in ours:
        with tables_read(scene.app) as tables:
            # Without credentials, whose own tables are read for each request.
            assert scene.send(operation, headers={"Authorization": None}).status_code == 200
        assert tables
        # The columns of products stand for these where they are read.
        strange = tables - published - {LogRow.__tablename__, "attribute_values", "media_placements"}
        assert not strange, f"{operation} reads {strange}, and caches would keep what is outdated: {WHAT_TO_DO}"
    assert len(ours) == len(cacheable) > 0


def test_a_published_model_needs_its_line(app: Flask) -> None:
    with pytest.raises(ResourceMissing, match=r"^Category: .* without a line in app/api/resources\.py$"):
        resources.init_app(app, [resource for resource in RESOURCES if resource.name != "category"])
