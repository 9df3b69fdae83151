"""What an import is made of: the tables, the rows of a file, what is wrong with them, and the report."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core import clock
from app.core.audit import Audited
from app.core.errors import Conflict, Fault, Invalid
from app.core.jobs import Job, JobStatus
from app.core.model import Keyed, Moment, big_integer, ordered_text
from app.extensions import Model

#: A report lists this many errors and counts the others.
MAX_ERRORS = 1000


class FileUnreadable(Exception):
    """The file, or the rest of it from a line on, cannot be read as rows; the message says why."""


class ImportEnded(Conflict):
    """This import has ended already."""


class CategoryAmbiguous(Invalid):
    """Several categories have this name; say which one by its category_id."""

    pointer = "/category"


class Import(Keyed, Audited, Model):
    """A file that a user sent to be imported. Its job knows the progress."""

    __tablename__ = "imports"
    audited_as = "import"
    __table_args__ = (UniqueConstraint("job_id"), {"sqlite_autoincrement": True})

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="RESTRICT"))
    #: Of the file, in bytes.
    size: Mapped[int] = mapped_column(big_integer)
    created_at: Mapped[Moment] = mapped_column(default=clock.now)

    job: Mapped[Job] = relationship(lazy="raise")

    @property
    def status(self) -> JobStatus:
        """Where the import is in its life."""
        return self.job.status

    @property
    def format(self) -> str:
        """What the file is written in."""
        return str(self.job.payload["format"])

    @property
    def counts(self) -> "Counts":
        """What became of the rows so far."""
        return Counts(**self.job.progress)

    @property
    def error(self) -> str | None:
        """Why the import failed, or has to be tried again."""
        return self.job.error

    @property
    def started_at(self) -> datetime | None:
        """When a worker took it up first."""
        return self.job.started_at

    @property
    def finished_at(self) -> datetime | None:
        """When it ended."""
        return self.job.finished_at


Index("ix_imports_user_id_id", Import.user_id, Import.id)


class ImportChunk(Model):
    """A piece of an import's file, so that a worker on any machine can read it; deleted when the import ends."""

    __tablename__ = "import_chunks"

    import_id: Mapped[int] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class ImportSku(Model):
    """A sku that an import has saved, and its category's name: later rows with it are merged. Deleted at the end."""

    __tablename__ = "import_skus"

    import_id: Mapped[int] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"), primary_key=True)
    sku: Mapped[str] = mapped_column(ordered_text(64), primary_key=True)
    category: Mapped[str] = mapped_column(String(200))


class ImportFault(Keyed, Model):
    """What is wrong with a row of an import; only the first MAX_ERRORS are stored."""

    __tablename__ = "import_faults"

    import_id: Mapped[int] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"))
    line: Mapped[int] = mapped_column(big_integer)
    pointer: Mapped[str] = mapped_column(Text)
    code: Mapped[str] = mapped_column(String(64))
    detail: Mapped[str] = mapped_column(Text)


Index("ix_import_faults_import_id_line_id", ImportFault.import_id, ImportFault.line, ImportFault.id)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many rows of a file were read, and what became of them; how many faults the failed ones have."""

    rows_read: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    merged: int = 0
    failed: int = 0
    faults: int = 0

    def plus(self, report: "Report") -> "Counts":
        """The counts after one more chunk."""
        return Counts(
            rows_read=self.rows_read + report.rows,
            created=self.created + report.created,
            updated=self.updated + report.updated,
            unchanged=self.unchanged + report.unchanged,
            merged=self.merged + report.merged,
            failed=self.failed + report.failed,
            faults=self.faults + len(report.errors),
        )


@dataclass(frozen=True)
class Row:
    """The members that one row states, and the line it begins on, counted from 1 as an editor does."""

    line: int
    values: dict[str, Any]


@dataclass(frozen=True)
class RowError:
    """What is wrong with one row. The field is empty where it is the row as a whole."""

    line: int
    field: str
    code: str
    sentence: str


@dataclass(frozen=True)
class BadRow:
    """A row that is left out, and why."""

    line: int
    errors: tuple[RowError, ...]

    @classmethod
    def of_faults(cls, line: int, faults: Iterable[Fault]) -> "BadRow":
        """A row whose values are not acceptable."""
        return cls(
            line,
            tuple(
                RowError(line, (fault.pointer or "").removeprefix("/"), fault.code, fault.detail) for fault in faults
            ),
        )


@dataclass
class Report:
    """What became of the rows of an import, or of one chunk of it."""

    #: The line on which the last of the rows begins.
    last_line: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    merged: int = 0
    failed: int = 0
    #: The names of the categories that were made; a dict for its order.
    made_categories: dict[str, None] = field(default_factory=dict)
    #: The names of the brands that were made, likewise.
    made_brands: dict[str, None] = field(default_factory=dict)
    #: How often a product stayed in the first category while a merged row named the second.
    kept_categories: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: list[RowError] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows there were."""
        return self.created + self.updated + self.unchanged + self.merged + self.failed

    def fail(self, row: BadRow) -> None:
        """Count a bad row."""
        self.failed += 1
        self.errors.extend(row.errors)

    def add(self, other: "Report") -> None:
        """Count what a later chunk reports."""
        self.last_line = other.last_line
        self.created += other.created
        self.updated += other.updated
        self.unchanged += other.unchanged
        self.merged += other.merged
        self.failed += other.failed
        self.made_categories |= other.made_categories
        self.made_brands |= other.made_brands
        self.kept_categories += other.kept_categories
        self.errors.extend(other.errors[: MAX_ERRORS - len(self.errors)])
