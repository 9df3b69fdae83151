"""The job of an import: read the file from the database and save it chunk by chunk, going on after the last one."""

import io
from collections.abc import Collection, Generator, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

import orjson
from sqlalchemy import insert, select, text

from app.core import jobs
from app.core.audit import Origin, origin
from app.core.jobs import Claim, JobFailed, LeaseLost
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.imports import importer, service
from app.features.imports.columns import Columns
from app.features.imports.models import (
    MAX_ERRORS,
    Counts,
    FileUnreadable,
    Import,
    ImportChunk,
    ImportFault,
    ImportSku,
    Report,
    RowError,
)
from app.features.imports.reading import Reading, read_rows
from app.features.products import bulk
from app.features.products.files import FileFormat

SKUS = ImportSku.metadata.tables["import_skus"]
# The skus of a chunk and their categories as one parameter: an object whose members are the rows.
_REMEMBER = {
    dialect: text(f"INSERT INTO import_skus (import_id, sku, category) SELECT :import_id, key, value FROM {members}")  # noqa: S608 -- constants
    for dialect, members in {
        "postgresql": "jsonb_each_text(CAST(:filed AS jsonb))",
        "sqlite": "json_each(:filed)",
    }.items()
}

MAX_POINTER_LENGTH = 200
MAX_DETAIL_LENGTH = 1000


def run_import(claim: Claim) -> Generator[None, None, None]:
    """Import the rows that are not yet imported, yielding after each chunk."""
    with unit_of_work(reading=True):
        of_job = select(Import.id, Import.user_id, Import.size).where(Import.job_id == claim.job_id)
        ordered = db.session.execute(of_job).one()
    memory = StoredMemory(claim, ordered.id)
    # In the audit trail, what an import does was done by the user who ordered it.
    before = origin.set(Origin(user_id=ordered.user_id))
    try:
        file = io.BufferedReader(StoredFile(ordered.id, ordered.size), service.CHUNK_SIZE)
        rows = read_rows(file, _reading(claim.payload)).rows
        # Reading again what was read before is fast, and the only way to be sure of where a CSV record begins.
        rest = islice(rows, memory.counts.rows_read, None)
        for _ in importer.import_rows(
            rest, currency=claim.payload["currency"], rows_per_chunk=importer.ROWS_PER_CHUNK, memory=memory
        ):
            yield
    except FileUnreadable as unreadable:
        raise JobFailed(_storable(str(unreadable), MAX_DETAIL_LENGTH)) from None
    finally:
        origin.reset(before)


def clear_away(job_id: int) -> None:
    """Delete what only the running import needs."""
    service.clear_away(db.session.scalars(select(Import.id).where(Import.job_id == job_id)).one())


class StoredMemory(importer.Memory):
    """What later chunks must know of those before: stored in the transaction of each chunk, with its position."""

    def __init__(self, claim: Claim, import_id: int) -> None:
        super().__init__()
        self.counts = Counts(**claim.progress)
        self._recorded = self.counts
        self._claim, self._import_id, self._progress = claim, import_id, claim.progress

    def recall(self, skus: Collection[str]) -> Mapping[str, str]:
        """The category's name of each of these skus that was saved, by any worker."""
        jobs.confirm(self._claim, self._progress)
        seen = select(SKUS.c.sku, SKUS.c.category).where(
            SKUS.c.import_id == self._import_id, bulk.is_one_of(SKUS.c.sku, list(skus))
        )
        # A prepared plan would be for the table as it was when the import began: nearly empty.
        return {row.sku: row.category for row in db.session.execute(seen)}

    def record(self, report: Report, filed: Mapping[str, str]) -> None:
        """Store the skus and faults of a chunk, and that it is saved."""
        remember = _REMEMBER[db.engine.dialect.name]
        db.session.execute(remember, {"import_id": self._import_id, "filed": orjson.dumps(filed).decode()})
        faults = [self._fault(error) for error in report.errors[: max(0, MAX_ERRORS - self.counts.faults)]]
        if faults:
            db.session.execute(insert(ImportFault), faults)
        self._recorded = self.counts.plus(report)
        jobs.advance(self._claim, asdict(self._recorded))

    def keep(self, _filed: Mapping[str, str]) -> None:
        """Count a chunk that is saved."""
        self.counts, self._progress = self._recorded, asdict(self._recorded)

    def _fault(self, error: RowError) -> dict[str, Any]:
        return {
            "import_id": self._import_id,
            "line": error.line,
            "pointer": _storable(f"/{error.field}" if error.field else "", MAX_POINTER_LENGTH),
            "code": error.code,
            "detail": _storable(error.sentence, MAX_DETAIL_LENGTH),
        }


class StoredFile(io.RawIOBase):
    """The file of an import, read from the database piece by piece, each in a short read of its own."""

    def __init__(self, import_id: int, size: int) -> None:
        super().__init__()
        self._import_id, self._size, self._at = import_id, size, 0
        self._number, self._content = -1, b""

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """The offset of the next byte."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read on, within one piece."""
        if self._at >= self._size:
            return 0
        number, start = divmod(self._at, service.CHUNK_SIZE)
        found = self._piece(number)[start : start + len(buffer)]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def _piece(self, number: int) -> bytes:
        if number != self._number:
            pieces = select(ImportChunk.content).where(
                ImportChunk.import_id == self._import_id, ImportChunk.number == number
            )
            with unit_of_work(reading=True):
                content = db.session.scalar(pieces)
            if content is None:
                raise LeaseLost  # the import was cancelled, and its file is gone
            self._number, self._content = number, content
        return self._content


def _reading(payload: Mapping[str, Any]) -> Reading:
    return Reading(
        file_format=FileFormat(payload["format"]),
        encoding=payload["encoding"],
        delimiter=payload["delimiter"],
        decimal_mark=payload["decimal"],
        columns=Columns.parse(payload["columns"]),
    )


def _storable(text: str, max_length: int) -> str:
    # Names of columns and members are the file's, and PostgreSQL takes no NUL.
    return text.replace("\0", "\ufffd")[:max_length]
