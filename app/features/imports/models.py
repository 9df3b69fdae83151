"""What an import is made of: its tables and refusals."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, func, select
from sqlalchemy.orm import Mapped, column_property, mapped_column, relationship

from app.core import clock
from app.core.audit import UNAUDITED
from app.core.changelog import Announced
from app.core.errors import Conflict
from app.core.jobs import Job, JobStatus
from app.core.model import Keyed, Moment, big_integer, ordered_text
from app.core.slugs import MAX_SLUG_LENGTH
from app.extensions import Model
from app.features.imports.report import Report

#: The type of the event of an import that ends.
FINISHED = "import.finished"


class FileUnreadable(Exception):
    """The file, or the rest of it from a line on, cannot be read as rows; the message says why."""


class ImportEnded(Conflict):
    """This import has ended already."""


class Import(Keyed, Announced, Model):
    """A file that a user sent to be imported. Its job knows the progress; its end is in the change feed."""

    __tablename__ = "imports"
    audited_as = "import"
    __table_args__ = (UniqueConstraint("job_id"), {"sqlite_autoincrement": True})

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="RESTRICT"))
    #: Of the file, in bytes.
    size: Mapped[int] = mapped_column(big_integer)
    created_at: Mapped[Moment] = mapped_column(default=clock.now)
    #: Pictures of its rows, each as often as a row has it.
    images_failed: Mapped[int] = mapped_column(big_integer, default=0, server_default="0", info=UNAUDITED)

    #: How many pictures its rows wait for; an int, mapped below, where the table of these is known.
    images_waiting: ClassVar[Any]
    job: Mapped[Job] = relationship(lazy="raise")

    @classmethod
    def event_names(cls) -> Mapping[str, str]:
        """The name of its one event."""
        return {FINISHED: "The import has succeeded, failed or been cancelled; only those who may see it get this."}

    @property
    def status(self) -> JobStatus:
        """Where the import is in its life."""
        return self.job.status

    @property
    def format(self) -> str:
        """What the file is written in."""
        return str(self.job.payload["format"])

    @property
    def dry_run(self) -> bool:
        """Whether it reports what would happen, and changes nothing."""
        return bool(self.job.payload.get("dry_run"))

    @property
    def report(self) -> Report:
        """What became of the rows so far."""
        return Report.load(self.job.progress)

    @property
    def images_pending(self) -> int:
        """How many pictures of its rows are being fetched or rendered; of a dry run, how many would be."""
        return self.report.images_pending if self.dry_run else int(self.images_waiting)

    @property
    def images_ready(self) -> int:
        """How many pictures of its rows are ready."""
        return max(0, self.report.images - self.images_pending - self.images_failed)

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
    """What `ImportFirstRow` was in the release before, whose workers need the table; a later migration drops it."""

    __tablename__ = "import_skus"

    import_id: Mapped[int] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"), primary_key=True)
    sku: Mapped[str] = mapped_column(ordered_text(64), primary_key=True)
    category: Mapped[str] = mapped_column(String(200))


class ImportFirstRow(Model):
    """The first row of an import with a key: what later rows with it are compared with. Deleted at the end."""

    __tablename__ = "import_first_rows"

    import_id: Mapped[int] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"), primary_key=True)
    #: As it is compared; none is longer than a slug.
    key: Mapped[str] = mapped_column(ordered_text(MAX_SLUG_LENGTH), primary_key=True)
    content: Mapped[str] = mapped_column(Text)


class FailedRows(Model):
    """The failed rows of a chunk of an import, as its file has them, in UTF-8; a download puts them together."""

    __tablename__ = "import_failed_rows"

    import_id: Mapped[int] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"), primary_key=True)
    #: On which the last row of the chunk begins; 0 for what stands above the rows.
    line: Mapped[int] = mapped_column(big_integer, primary_key=True, autoincrement=False)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class ImportFault(Keyed, Model):
    """What is wrong with a row of an import; only the first ``MAX_ERRORS`` of its report are stored."""

    __tablename__ = "import_faults"

    import_id: Mapped[int] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"))
    line: Mapped[int] = mapped_column(big_integer)
    pointer: Mapped[str] = mapped_column(Text)
    code: Mapped[str] = mapped_column(String(64))
    detail: Mapped[str] = mapped_column(Text)
    #: The name of the column in the file, the value that stands there, shortened, and the expected form.
    file_column: Mapped[str | None] = mapped_column(Text)
    value: Mapped[str | None] = mapped_column(Text)
    expected: Mapped[str | None] = mapped_column(Text)


class ImportImage(Model):
    """A row of an import waits for a picture that it states: until that is ready or has failed."""

    __tablename__ = "import_images"

    import_id: Mapped[int] = mapped_column(ForeignKey("imports.id", ondelete="CASCADE"), primary_key=True)
    line: Mapped[int] = mapped_column(big_integer, primary_key=True, autoincrement=False)
    media_id: Mapped[int] = mapped_column(
        big_integer, ForeignKey("media_assets.id", ondelete="CASCADE"), primary_key=True
    )


Index("ix_import_images_media_id", ImportImage.media_id)
_WAITING = select(func.count()).where(ImportImage.import_id == Import.id).correlate_except(ImportImage)
Import.images_waiting = column_property(_WAITING.scalar_subquery())

Index("ix_import_faults_import_id_line_id", ImportFault.import_id, ImportFault.line, ImportFault.id)
