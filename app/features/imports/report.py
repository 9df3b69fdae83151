"""What became of the rows of an import, the same for the command and for the API."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from app.features.bulk.upserts import Effect, Upserted
from app.features.exports.files import IMAGES
from app.features.imports.rows import BadRow, RowError, shortened
from app.features.products.models import ProductKind

#: A report lists this many errors and counts the others.
MAX_ERRORS = 1000
#: Names of columns, categories and brands, and groups of faults that a report has.
MAX_NAMES = 200
MAX_GROUPS = 50
#: Lines and values that a group of faults shows.
MAX_SHOWN = 3
MAX_NAME_LENGTH = 200
MAX_SENTENCE_LENGTH = 300


class NothingImported(Exception):
    """Not one row of a file went in; the message says why."""


@dataclass
class FaultGroup:
    """Equal faults: what they say, how many there are, and where the first of them stand."""

    column: str
    code: str
    detail: str
    expected: str
    count: int = 0
    lines: list[int] = field(default_factory=list)
    values: list[str] = field(default_factory=list)

    def add(self, other: "FaultGroup") -> None:
        """Count more of the same."""
        self.count += other.count
        self.lines = [*self.lines, *other.lines][:MAX_SHOWN]
        self.values = list(dict.fromkeys([*self.values, *other.values]))[:MAX_SHOWN]

    @classmethod
    def of(cls, error: RowError) -> "FaultGroup":
        """The group of one fault."""
        return cls(
            column=error.column or shortened(error.field),
            code=error.code,
            detail=shortened(error.sentence, MAX_SENTENCE_LENGTH),
            expected=error.expected,
            count=1,
            lines=[error.line],
            values=[error.value] if error.value else [],
        )


@dataclass
class Report:
    """What became of the rows of an import, or of one chunk of it."""

    #: The line on which the last of the rows begins, and how many were read; parents are saved before they are read.
    last_line: int = 0
    read: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    merged: int = 0
    failed: int = 0
    #: Of the failed rows, which may have several each.
    faults: int = 0
    #: Products that have this status since: new ones, and others that had another.
    made_active: int = 0
    made_draft: int = 0
    made_archived: int = 0
    #: New products whose stock is 0 because their rows state none.
    stock_assumed: int = 0
    #: Pictures that the rows state, and those of them that are being fetched or rendered when their row is saved.
    images: int = 0
    images_pending: int = 0
    #: The paths of the categories that were made, and the names of the brands; dicts for their order.
    made_categories: dict[str, None] = field(default_factory=dict)
    made_brands: dict[str, None] = field(default_factory=dict)
    unread_columns: dict[str, None] = field(default_factory=dict)
    groups: dict[tuple[str, str], FaultGroup] = field(default_factory=dict)
    #: The first of the faults, in the order of the file.
    errors: list[RowError] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows there were."""
        return self.created + self.updated + self.unchanged + self.merged + self.failed

    @property
    def went_in(self) -> int:
        """How many rows are in the catalogue now."""
        return self.rows - self.failed

    def require_a_row(self) -> None:
        """Refuse a file of which no row went in: such an import has failed."""
        if not self.rows:
            raise NothingImported("the file has no rows")
        if not self.went_in:
            raise NothingImported(f"no row went in: all {self.failed:,} failed")

    @property
    def unread(self) -> list[str]:
        """The columns that feed no field."""
        return list(self.unread_columns)

    @property
    def categories(self) -> list[str]:
        """The paths of the categories that were made."""
        return list(self.made_categories)

    @property
    def brands(self) -> list[str]:
        """The names of the brands that were made."""
        return list(self.made_brands)

    @property
    def fault_groups(self) -> list[FaultGroup]:
        """Equal faults, the commonest first."""
        return sorted(self.groups.values(), key=lambda group: -group.count)

    def fail(self, row: BadRow) -> None:
        """Count a bad row."""
        self.failed += 1
        self.faults += len(row.errors)
        self.errors.extend(row.errors)

    def group_faults(self) -> None:
        """Group the faults that were counted."""
        for error in self.errors:
            self._join(FaultGroup.of(error))

    def count(self, became: Upserted, row: Mapping[str, Any]) -> None:
        """Count a row that made or changed a product, or found it as stated."""
        match became.effect:
            case Effect.CREATED:
                self.created += 1
                is_parent = row.get("kind") == ProductKind.PARENT or isinstance(row.get("options"), list)
                self.stock_assumed += "stock" not in row and bool(row.get("track_stock", True)) and not is_parent
            case Effect.UPDATED:
                self.updated += 1
            case Effect.UNCHANGED:
                self.unchanged += 1
        if became.status is not None:
            name = f"made_{became.status}"
            setattr(self, name, getattr(self, name) + 1)
        self.images += len(row.get(IMAGES, ()))
        self.images_pending += len(became.pending)

    def add(self, other: "Report") -> None:
        """Count what a later chunk reports."""
        self.last_line = other.last_line
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _NAMES:
            getattr(self, name).update(getattr(other, name))
        for group in other.groups.values():
            self._join(group)
        self.errors.extend(other.errors[: MAX_ERRORS - len(self.errors)])

    def dump(self) -> dict[str, Any]:
        """The report as JSON, without the single faults and with a bounded number of names."""
        numbers = {name: getattr(self, name) for name in ("last_line", *_NUMBERS)}
        names = {
            name: [shortened(one, MAX_NAME_LENGTH) for one in list(getattr(self, name))[:MAX_NAMES]] for name in _NAMES
        }
        return {**numbers, **names, "groups": [asdict(group) for group in self.groups.values()]}

    @classmethod
    def load(cls, progress: Mapping[str, Any]) -> "Report":
        """The report that `dump` wrote, or a release before, which had less to say."""
        report = cls()
        for name in ("last_line", *_NUMBERS):
            setattr(report, name, progress.get(name, 0))
        report.read = progress.get("read", report.rows)
        for name in _NAMES:
            setattr(report, name, dict.fromkeys(progress.get(name, ())))
        for group in progress.get("groups", ()):
            report._join(FaultGroup(**group))
        return report

    def _join(self, group: FaultGroup) -> None:
        key = (group.column, group.code)
        if key not in self.groups and len(self.groups) >= MAX_GROUPS:
            # The last stands for all that find no place.
            key = ("", "other")
            group = FaultGroup("", "other", "Other faults.", "", group.count, group.lines, [])
        if key in self.groups:
            self.groups[key].add(group)
        else:
            self.groups[key] = group


_NUMBERS = (
    "read",
    "created",
    "updated",
    "unchanged",
    "merged",
    "failed",
    "faults",
    "made_active",
    "made_draft",
    "made_archived",
    "stock_assumed",
    "images",
    "images_pending",
)
_NAMES = ("made_categories", "made_brands", "unread_columns")
