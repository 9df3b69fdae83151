"""The attributes table, its rules and its refusals."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Index, String, Text, event
from sqlalchemy.orm import Mapped, mapped_column

from app.core.audit import UNAUDITED
from app.core.changelog import Published
from app.core.errors import Conflict, Invalid
from app.core.keys import Key
from app.core.model import Keyed, Stamped, Versioned, json_type, ordered_text
from app.core.text import fold
from app.extensions import Model

#: The most characters of a code: the name of a column in PostgreSQL is as long.
MAX_CODE_LENGTH = 63
MAX_CHOICES = 1000


class AttributeType(StrEnum):
    """Which values an attribute has."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    DATE = "date"
    CHOICE = "choice"
    CHOICES = "choices"


#: The types whose values are codes of the attribute's own choices.
OF_CHOICES = frozenset({AttributeType.CHOICE, AttributeType.CHOICES})


class AttributeCodeTaken(Conflict):
    """Another attribute has this code."""


class AttributeInUse(Conflict):
    """Product types list this attribute, or products have values of it; take it from them first."""


class AttributeUnknown(Invalid):
    """There is no attribute with this code here."""


class AttributeInvalid(Invalid):
    """A value is not one that its attribute can have."""


class ChoicesMissing(Invalid):
    """An attribute of the type `choice` or `choices` needs at least one choice."""

    pointer = "/choices"


class ChoicesUnexpected(Invalid):
    """Only an attribute of the type `choice` or `choices` has choices."""

    pointer = "/choices"


class Attribute(Keyed, Stamped, Versioned, Published, Model):
    """What can be said of products. ``choices`` has a ``code`` and a ``label`` each; their order is that of answers."""

    __tablename__ = "attributes"
    audited_as = "attribute"
    __table_args__ = (
        CheckConstraint(f"type IN ({', '.join(repr(each.value) for each in AttributeType)})", name="type"),
        {"sqlite_autoincrement": True},
    )

    code: Mapped[str] = mapped_column(ordered_text(MAX_CODE_LENGTH), unique=True)
    label: Mapped[str] = mapped_column(ordered_text(120))
    type: Mapped[AttributeType] = mapped_column(String(16))
    unit: Mapped[str | None] = mapped_column(String(20))
    choices: Mapped[list[dict[str, str]]] = mapped_column(json_type, default=list)
    filterable: Mapped[bool] = mapped_column(default=False)
    searchable: Mapped[bool] = mapped_column(default=False)
    search_text: Mapped[str] = mapped_column(Text, info=UNAUDITED)


@event.listens_for(Attribute, "before_insert")
@event.listens_for(Attribute, "before_update")
def _update_search_text(_mapper: object, _connection: object, attribute: Attribute) -> None:
    attribute.search_text = fold(f"{attribute.label} {attribute.code}")


Index("ix_attributes_label_id", Attribute.label, Attribute.id)
Index("ix_attributes_created_at_id", Attribute.created_at, Attribute.id)
Index("ix_attributes_updated_at_id", Attribute.updated_at, Attribute.id)

#: The keys by which others know an attribute.
KEYS: Mapping[str, Key] = {"code": Key(column=Attribute.code, taken=AttributeCodeTaken)}

#: The members that are set as an attribute is created.
FIXED = ("code", "type")

#: The refusal that stands for each violated constraint when an attribute is inserted or updated.
REFUSALS: dict[str, type[Conflict]] = {f"uq_attributes_{name}": key.taken for name, key in KEYS.items()}


def require_choices(type_: AttributeType, choices: Sequence[Any]) -> None:
    """Raise ``ChoicesMissing`` or ``ChoicesUnexpected`` where attributes of a type cannot have these choices."""
    if type_ in OF_CHOICES and not choices:
        raise ChoicesMissing
    if type_ not in OF_CHOICES and choices:
        raise ChoicesUnexpected
