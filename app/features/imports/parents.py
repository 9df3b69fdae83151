"""The rows of a file that may be parents: a variant's row needs that of its parent, wherever this stands."""

import pickle
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

from app.features.exports.files import PARENT
from app.features.imports.models import FileUnreadable
from app.features.imports.reading.files import RowFile
from app.features.imports.rows import Row


class Parents:
    """The first row with each sku that names no parent itself, in a temporary file, which is deleted with the process.

    A file whose rows name parents is read once for them, and then from its beginning.
    """

    def __init__(self, file: RowFile) -> None:
        # SQLite keeps a database without a name in a temporary file, as far as its cache does not suffice.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE parents (sku PRIMARY KEY, content) WITHOUT ROWID")
        if file.has_variants:
            # What cannot be read is said in its turn.
            with suppress(FileUnreadable):
                self._keep(file)
            file.rewind()

    def find(self, skus: Collection[str]) -> list[Row]:
        """The rows of parents with these skus, in the order of the file."""
        if not skus:
            return []
        places = ",".join("?" * len(skus))
        found = self._database.execute(f"SELECT content FROM parents WHERE sku IN ({places})", list(skus))  # noqa: S608 -- the places are question marks, and the skus are parameters
        # This process wrote them, to a temporary file that no other opens.
        rows: list[Row] = [pickle.loads(content) for (content,) in found]  # noqa: S301 -- see above # nosec B301
        return sorted(rows, key=lambda row: row.line)

    def close(self) -> None:
        """Delete them."""
        self._database.close()

    def _keep(self, file: RowFile) -> None:
        self._database.execute("BEGIN")
        try:
            self._database.executemany("INSERT OR IGNORE INTO parents VALUES (?, ?)", _contents_of(file))
        finally:
            self._database.execute("COMMIT")


def _contents_of(file: RowFile) -> Iterator[tuple[str, bytes]]:
    for row in file.rows:
        sku: Any = row.values.get("sku")
        if isinstance(row, Row) and isinstance(sku, str) and not row.values.get(PARENT):
            yield sku, pickle.dumps(row)
