"""Deleting in batches, whatever the statistics of the database say about the table."""

import pytest
from flask import Flask
from sqlalchemy import delete, select, text

from app.core import clock
from app.core.feed import ChangeEvent
from app.core.idempotency import StoredResponse
from app.core.pruning import delete_batch, iter_batches
from app.core.transactions import unit_of_work
from app.extensions import Model, db

ROWS = 50_000
INSERTS: dict[type[Model], str] = {
    ChangeEvent: """
        INSERT INTO change_events (created_at, type, resource_type, resource_id, row_version)
        SELECT now(), 'product.updated', 'product', number, 1 FROM generate_series(1, :rows) AS number""",
    StoredResponse: """
        INSERT INTO idempotency_keys (principal, route, key, fingerprint, status, headers, body, expires_at)
        SELECT 'user:1', 'POST /', number, '', 201, '{}', '', now() FROM generate_series(1, :rows) AS number""",
}


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("model", INSERTS)
def test_deletes_from_a_table_that_is_believed_empty(app: Flask, model: type[Model]) -> None:
    """A join would be a nested loop over all rows for each of the batch, and end by DB_STATEMENT_TIMEOUT."""
    fill = text(INSERTS[model]).bindparams(rows=ROWS)
    with app.app_context():
        with unit_of_work():
            db.session.execute(fill)
            db.session.execute(delete(model))
            db.session.execute(text(f"ANALYZE {model.__tablename__}"))
            db.session.execute(fill)

        assert sum(iter_batches(lambda: delete_batch(model))) == ROWS


def test_deletes_no_more_than_a_batch(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        db.session.add_all(
            StoredResponse(
                principal="user:1",
                route="POST /",
                key=str(number),
                fingerprint="",
                status=201,
                headers={},
                body=b"",
                expires_at=clock.now(),
            )
            for number in range(3)
        )
        db.session.flush()

        assert delete_batch(StoredResponse, StoredResponse.key != "1", max_rows=1) == 1
        assert delete_batch(StoredResponse, StoredResponse.key != "1") == 1
        assert delete_batch(StoredResponse, StoredResponse.key != "1") == 0
        assert db.session.scalars(select(StoredResponse.key)).all() == ["1"]
