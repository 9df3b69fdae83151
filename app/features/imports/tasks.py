"""The job of an import: read the file from the database and save it chunk by chunk, going on after the last one."""

import io
from collections.abc import Collection, Generator, Mapping
from typing import Any

import orjson
from sqlalchemy import insert, select, text

from app.core import jobs
from app.core.audit import Origin, origin
from app.core.jobs import Claim, JobFailed, LeaseLost
from app.core.membership import among
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.imports import failed_rows, first_rows, images, importer, service
from app.features.imports.filing import MAKERS
from app.features.imports.models import FailedRows, FileUnreadable, Import, ImportChunk, ImportFault, ImportFirstRow
from app.features.imports.reading.files import RowFile, read_rows
from app.features.imports.reading.options import Reading
from app.features.imports.report import MAX_ERRORS, NothingImported, Report
from app.features.imports.rows import RowError

FIRST_ROWS = ImportFirstRow.metadata.tables["import_first_rows"]
# The first rows of a chunk as one parameter: an object whose members are the rows.
_INSERT = "INSERT INTO import_first_rows (import_id, key, content) SELECT :import_id, key, value FROM "
_REMEMBER = {
    "postgresql": text(f"{_INSERT} jsonb_each_text(CAST(:rows AS jsonb))"),
    "sqlite": text(f"{_INSERT} json_each(:rows)"),
}

MAX_POINTER_LENGTH = 200
MAX_DETAIL_LENGTH = 1000


def run_import(claim: Claim) -> Generator[None, None, None]:
    """Import the rows that are not yet imported, yielding after each chunk."""
    with unit_of_work(reading=True):
        of_job = select(Import.id, Import.user_id, Import.size).where(Import.job_id == claim.job_id)
        ordered = db.session.execute(of_job).one()
    # In the audit trail, what an import does was done by the user who ordered it.
    before = origin.set(Origin(user_id=ordered.user_id))
    try:
        stream = io.BufferedReader(StoredFile(ordered.id, ordered.size), service.CHUNK_SIZE)
        file = read_rows(stream, Reading.of(claim.payload))
        memory = StoredMemory(claim, ordered.id, file)
        for _ in importer.import_rows(
            file,
            status=claim.payload.get("status"),
            dry_run=claim.payload.get("dry_run", False),
            rows_per_chunk=importer.ROWS_PER_CHUNK,
            # A job that waits may be of the release before, when every import made both.
            makes=claim.payload.get("makes", list(MAKERS)),
            may_fetch=claim.payload.get("may_fetch", True),
            memory=memory,
            skip=memory.report.read,
        ):
            yield
        memory.report.require_a_row()
    except (FileUnreadable, NothingImported) as unreadable:
        raise JobFailed(_storable(str(unreadable), MAX_DETAIL_LENGTH)) from None
    finally:
        origin.reset(before)


def end_import(job_id: int) -> None:
    """Delete what only the running import needs, and record that it has finished."""
    service.end_import(db.session.scalars(select(Import.id).where(Import.job_id == job_id)).one())


class StoredMemory(importer.Memory):
    """What later chunks must know of those before: stored in the transaction of each chunk, with its position."""

    def __init__(self, claim: Claim, import_id: int, file: RowFile) -> None:
        self.report = Report.load(claim.progress)
        self._recorded = self.report
        self._claim, self._import_id, self._file, self._progress = claim, import_id, file, claim.progress

    def begin(self) -> None:
        """Check that this worker still has the import."""
        jobs.confirm(self._claim, self._progress)

    def recall(self, keys: Collection[str]) -> Mapping[str, first_rows.FirstRow]:
        """The first rows with these keys that any worker stored."""
        found = select(FIRST_ROWS.c.key, FIRST_ROWS.c.content).where(
            FIRST_ROWS.c.import_id == self._import_id, among(FIRST_ROWS.c.key, list(keys))
        )
        # A prepared plan would be for the table as it was when the import began: nearly empty.
        return {row.key: first_rows.FirstRow.load(row.content) for row in db.session.execute(found)}

    def record(self, chunk: importer.Chunk) -> None:
        """Store the first rows, the faults and the failed rows of a chunk, and that it is saved."""
        if chunk.first_rows:
            content = orjson.dumps({key: row.dump() for key, row in chunk.first_rows.items()}).decode()
            db.session.execute(_REMEMBER[db.engine.dialect.name], {"import_id": self._import_id, "rows": content})
        self._record_faults(chunk)
        images.wait_for(self._import_id, chunk.waiting)
        self._record_failed_rows(chunk)
        self._recorded = Report.load(self._progress)
        self._recorded.add(chunk.report)
        jobs.advance(self._claim, self._recorded.dump())

    def keep(self, chunk: importer.Chunk) -> None:  # noqa: ARG002 -- it is stored already
        """Count a chunk that is saved."""
        self.report, self._progress = self._recorded, self._recorded.dump()

    def close(self) -> None:
        """Leave what is stored to the end of the job."""

    def _record_faults(self, chunk: importer.Chunk) -> None:
        if not chunk.report.errors or self.report.faults >= MAX_ERRORS:
            return
        # Pictures that have failed meanwhile take of the same room.
        room = images.room_for_faults(self._import_id)
        if faults := [self._fault(error) for error in chunk.report.errors[:room]]:
            db.session.execute(insert(ImportFault), faults)

    def _record_failed_rows(self, chunk: importer.Chunk) -> None:
        if not chunk.bad:
            return
        pieces = {chunk.report.last_line: failed_rows.text_of(self._file, chunk.bad)}
        if not self.report.failed:
            pieces[0] = failed_rows.head_of(self._file)
        rows = [
            {"import_id": self._import_id, "line": line, "content": content.encode()}
            for line, content in pieces.items()
        ]
        db.session.execute(insert(FailedRows), rows)

    def _fault(self, error: RowError) -> dict[str, Any]:
        return {
            "import_id": self._import_id,
            "line": error.line,
            "pointer": _storable(f"/{error.field}" if error.field else "", MAX_POINTER_LENGTH),
            "code": error.code,
            "detail": _storable(error.sentence, MAX_DETAIL_LENGTH),
            "file_column": error.column or None,
            "value": error.value or None,
            "expected": error.expected or None,
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


def _storable(text: str, max_length: int) -> str:
    # Names of columns and members are the file's, and PostgreSQL takes no NUL.
    return text.replace("\0", "\ufffd")[:max_length]
