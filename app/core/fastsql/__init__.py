"""The one door to SQL that is compiled once and put to the driver without the layers between.

Why. Of the CPU of a small read, SQLAlchemy's way from a statement to its rows takes several times what the driver and
the database take: it builds the statement again, finds its compiled form, carries it through the session, wraps
cursor and rows, and makes objects of them. Statements compiled once save 40 to 60 % of a list, an insertion past the
mapper a quarter of a create (benchmarks/README.md).

What. A `Prepared` holds the SQL that SQLAlchemy compiled from a statement, and how values go in and come out. Its rows
are tuples with names. On PostgreSQL it is a prepared statement of psycopg's (`RawCursor`, ``prepare=True``); one that
an ALTER TABLE made stale is deallocated and prepared again. On SQLite the driver caches it.

- `memoize` caches what was made for a shape of a query, such as the `Prepared` of a list with these filters;
  `public_columns` are the columns of a model that responses may show, `columns_named` those with some names.
- `find_row` reads one row by its key, to read and not to change; `find_rows` those with some keys.
- `insert_row` inserts a published row without the mapper, and records it for the audit trail and the log of changes.

When not. For anything that changes a row (the mapper counts and compares versions), for searches (PostgreSQL must plan
them for their own words), and for statements that few requests execute: write a SELECT and give it to
`transactions.run` or to the session. A use case does not import this package to be faster unless it was measured.

How to switch it off. With ``FAST_SQL=0`` each of these goes through SQLAlchemy's session instead, and finds or leaves
behind the same: tests hold the two against each other, and the suites run both ways. So does a pooler that gives each
transaction another connection (``DATABASE_POOLING=transaction``), since a prepared statement belongs to a connection.

Nothing imports the modules within.
"""

from app.core.fastsql.insertion import insert_row
from app.core.fastsql.prepared import Prepared
from app.core.fastsql.shapes import columns_named, find_row, find_rows, memoize, public_columns

__all__ = ["Prepared", "columns_named", "find_row", "find_rows", "insert_row", "memoize", "public_columns"]
