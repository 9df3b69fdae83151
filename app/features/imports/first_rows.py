"""The first row of a file with each key: later rows with the key are compared with it, whatever became of it.

One with the same content is merged, and one with other content is a fault. What must be remembered of a row is its
line, whether it was saved, and a fingerprint: eight bytes of the whole, and two of each cell to say which one differs.
So a file of twelve columns takes about a hundred bytes a row, in a temporary file or in the database.
"""

import base64
import sqlite3
import struct
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from itertools import zip_longest
from typing import NamedTuple
from zlib import crc32

_WHOLE = 8
#: How many cells have a mark of their own: NDJSON may have short rows of very many members.
MAX_CELLS = 100


class FirstRow(NamedTuple):
    """The first row with a key: where it stands, what stands in it, and whether it was saved."""

    line: int
    content: bytes
    is_saved: bool

    def differing(self, content: bytes) -> list[int] | None:
        """The columns in which another row differs; None where it is the same."""
        if self.content[:_WHOLE] == content[:_WHOLE]:
            return None
        pairs = zip_longest(_cells_of(self.content), _cells_of(content), fillvalue=0)
        return [place for place, (first, other) in enumerate(pairs) if first != other]

    def dump(self) -> str:
        """The row as a text."""
        return f"{self.line} {int(self.is_saved)} {base64.b64encode(self.content).decode()}"

    @classmethod
    def load(cls, text: str) -> "FirstRow":
        """The row that `dump` wrote."""
        line, is_saved, content = text.split(" ")
        return cls(int(line), base64.b64decode(content), is_saved == "1")


def fingerprint(cells: Sequence[str]) -> bytes:
    """What to remember of the content of a row; blanks around cells do not count."""
    texts = [cell.strip().encode() for cell in cells]
    whole = blake2b(b"\0".join(texts), digest_size=_WHOLE).digest()
    marks = [crc32(text) & 0xFFFF for text in texts[:MAX_CELLS]]
    return whole + struct.pack(f"<{len(marks)}H", *marks)


class TemporaryFirstRows:
    """The first rows of one run, in a temporary file of this process, which is deleted with it."""

    def __init__(self) -> None:
        # SQLite keeps a database without a name in a temporary file, as far as its cache does not suffice.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE first_rows (key PRIMARY KEY, line, content, is_saved) WITHOUT ROWID")

    def find(self, keys: Collection[str]) -> dict[str, FirstRow]:
        """The first rows with these keys."""
        places = ",".join("?" * len(keys))
        found = self._database.execute(f"SELECT * FROM first_rows WHERE key IN ({places})", list(keys))  # noqa: S608 -- question marks
        return {key: FirstRow(line, content, bool(is_saved)) for key, line, content, is_saved in found}

    def add(self, first_rows: Mapping[str, FirstRow]) -> None:
        """Remember rows, by their keys."""
        self._database.execute("BEGIN")
        rows = [(key, row.line, row.content, row.is_saved) for key, row in first_rows.items()]
        self._database.executemany("INSERT OR REPLACE INTO first_rows VALUES (?, ?, ?, ?)", rows)
        self._database.execute("COMMIT")

    def close(self) -> None:
        """Delete them."""
        self._database.close()


def _cells_of(content: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{(len(content) - _WHOLE) // 2}H", content[_WHOLE:])
