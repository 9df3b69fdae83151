"""How a file is to be read: the one place that knows every option, of the command and of the API alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from app.features.exports.files import CATEGORY_SEPARATOR, TAG_SEPARATOR, FileFormat
from app.features.imports.reading.columns import Columns


class Quoting(StrEnum):
    """Whether a quotation mark begins a cell in which delimiters and line ends are text."""

    STANDARD = "standard"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How to read a file; `schemas.ImportOptionsSchema` says what each option means.

    ``columns`` names the column of a field where it is not the field's own name, and ``constants`` has what stands in a
    column that is not there.
    """

    file_format: FileFormat
    encoding: str = "utf-8-sig"
    delimiter: str = ","
    quoting: str = Quoting.STANDARD
    skip_lines: int = 0
    key: str = "sku"
    columns: Columns = field(default_factory=Columns)
    constants: Mapping[str, str] = field(default_factory=dict)
    clear_with: str | None = None
    decimal: str = "."
    thousands: str = ""
    currency_marks: bool = False
    trailing_zeros: bool = False
    list_separator: str = TAG_SEPARATOR
    #: None where a category is a name, and no path.
    category_separator: str | None = CATEGORY_SEPARATOR
    status_words: Mapping[str, str] = field(default_factory=dict)
    #: Of new products whose rows state none.
    currency: str | None = None
    #: The same, where no option states it.
    default_currency: str = "USD"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Reading":
        """The reading that validated options come to; what they do not have is as always."""
        own = {each.name for each in fields(cls)} - {"file_format", "columns", "constants"}
        # None is what a separator is that there is not; a job that waits may be of a release before, with other names.
        stated = {name: value for name, value in options.items() if name in own}
        return cls(
            **{**stated, "thousands": stated.get("thousands") or ""},
            file_format=FileFormat(options["format"]),
            columns=Columns.parse(options.get("map", options.get("columns", []))),
            constants=options.get("set", {}),
        )
