"""The values that products are found by, and what the type of a product says of its attributes.

``attribute_values`` is an index that the application keeps itself, on both databases (decision 49): a row for each tag,
and for each value of a filterable attribute, of each living product. A variant has the values of its options and of its
parent's attributes as well, so that one row of ``products`` meets a filter or does not; a parent, which is not sold,
has its tags alone.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Table,
    Text,
    bindparam,
    cast,
    column,
    delete,
    func,
    literal,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.core import reads
from app.core.errors import Fault, Invalid, pointer_to
from app.core.membership import ValueList, is_one_of
from app.core.model import big_integer, ordered_text
from app.extensions import Model, db
from app.features.product_types.rules import Definition, Rules, find_definitions, find_rules
from app.features.products.models import Product, ProductKind, ProductStatus

Row = Mapping[Any, Any]

#: What an index row has: the attribute, None for a tag; a text; and the number of what has one.
Value = tuple[int | None, str, float | None]

#: A text is at most as long as that of a filterable attribute.
_TEXT = ordered_text(200)

#: The table. ``listed_id`` is the product that a list shows for it: itself, or the parent of an active variant; None
#: for a variant that is not active, and for the tags of one, which are its parent's. There is no primary key: a
#: product's rows are written together, under its lock.
TABLE = Table(
    "attribute_values",
    Model.metadata,
    Column("product_id", big_integer, ForeignKey("products.id", ondelete="CASCADE"), nullable=False),
    Column("listed_id", big_integer, nullable=True),
    Column("attribute_id", big_integer, ForeignKey("attributes.id", ondelete="RESTRICT"), nullable=True),
    Column("text", _TEXT, nullable=False),
    Column("number", Float(53), nullable=True),
)
Index("ix_attribute_values_product_id", TABLE.c.product_id)
Index(
    "ix_attribute_values_attribute_id_text",
    TABLE.c.attribute_id,
    TABLE.c.text,
    TABLE.c.listed_id,
    TABLE.c.product_id,
)
_HAS_NUMBER = TABLE.c.number.is_not(None)
Index(
    "ix_attribute_values_attribute_id_number",
    TABLE.c.attribute_id,
    TABLE.c.number,
    TABLE.c.listed_id,
    TABLE.c.product_id,
    postgresql_where=_HAS_NUMBER,
    sqlite_where=_HAS_NUMBER,
)

#: The table as statements read it: what it says is made of columns of the products, for those who depend on it.
VALUES = table("attribute_values", *(column(one.name, one.type) for one in TABLE.c))
reads.stand_for(Product.attribute_words, VALUES)

#: The members of a product, or of its parent, of which the values are made.
MADE_OF = frozenset({"attributes", "options", "tags", "type_id", "status", "parent_status", "kind", "deleted_at"})


class AttributeMissing(Invalid):
    """An active product of this type needs this attribute."""


class OptionUnknown(Invalid):
    """The type of this product has no such option."""

    pointer = "/options"


class NotAScalar(Invalid):
    """Only an attribute of a product's type can have several values."""


@dataclass(frozen=True)
class Assessment:
    """What the attributes of a product come to: what is wrong, what is missing, what it is found by."""

    faults: Sequence[Fault] = ()
    missing: Sequence[str] = ()
    words: str = ""
    values: Sequence[Value] = ()

    def require(self) -> None:
        """Raise ``Invalid`` with the faults, if there are any."""
        if self.faults:
            raise Invalid(*self.faults)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of the product that follow."""
        return {"missing": list(self.missing) or None, "attribute_words": self.words or None}


@dataclass(frozen=True)
class Definitions:
    """The types and attributes that some products have. Without any it knows none, and takes no statement."""

    rules: Mapping[int, Rules] = field(default_factory=dict)
    attributes: Mapping[str, Definition] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Definitions":
        """Those of ``rows``, products by their columns, parents among them; three statements at most."""
        found = list(rows)
        rules = find_rules({row["type_id"] for row in found if row["type_id"] is not None})
        listed = {code: each for one in rules.values() for code, each in one.definitions.items()}
        codes = {code for row in found for code in (*row["attributes"], *(row["options"] or ()))}
        return cls(rules, {**find_definitions(codes - listed.keys()), **listed})

    def assess(self, row: Row, parent: Row | None = None) -> Assessment:
        """What the attributes of a product come to; ``parent`` is that of a variant."""
        rules = self.rules.get(row["type_id"])
        inherited = parent["attributes"] if parent is not None else {}
        options = row["options"] if isinstance(row["options"], dict) else {}
        stated = {**inherited, **row["attributes"], **options}
        faults = [*self._faults_of_attributes(row, rules), *self._faults_of_options(row["options"], rules)]
        missing = rules.missing(stated) if rules else []
        if missing and _is_for_sale(row):
            faults += (Fault(AttributeMissing.sentence(), AttributeMissing.code(), _at(code)) for code in missing)
        known = [(self.attributes[code], value) for code, value in stated.items() if code in self.attributes]
        words = " ".join(filter(None, (definition.words(value) for definition, value in known)))
        return Assessment(faults, missing, words, self._values_of(row, known))

    def _values_of(self, row: Row, known: Sequence[tuple[Definition, Any]]) -> Sequence[Value]:
        if row["deleted_at"] is not None:
            return ()
        tags: list[Value] = [(None, tag, None) for tag in row["tags"]]
        if row["kind"] == ProductKind.PARENT:
            return tags
        return tags + [(one.id, text, number) for one, value in known for text, number in one.index(value)]

    @staticmethod
    def _faults_of_attributes(row: Row, rules: Rules | None) -> Sequence[Fault]:
        if rules is not None:
            return rules.faults_of(row["attributes"])
        lists = [code for code, value in row["attributes"].items() if isinstance(value, list)]
        return [Fault(NotAScalar.sentence(), NotAScalar.code(), _at(code)) for code in lists]

    @staticmethod
    def _faults_of_options(options: Any, rules: Rules | None) -> Sequence[Fault]:
        if rules is None or not options:
            return ()
        unknown = [name for name in options if name not in rules.options]
        if unknown:
            return [Fault(OptionUnknown.sentence(), OptionUnknown.code(), OptionUnknown.pointer) for _ in unknown]
        values = options.items() if isinstance(options, dict) else ()
        faults = ((name, rules.definitions[name].fault_of(value)) for name, value in values)
        return [Fault(fault.detail, fault.code, pointer_to("options", name)) for name, fault in faults if fault]


# The rows are one parameter, however many they are.
_SPREAD = func.jsonb_to_recordset(cast(bindparam("made", None, Text), JSONB))
_ROWS = _SPREAD.table_valued(*(column(one.name, one.type) for one in TABLE.c)).render_derived(with_types=True)
_INSERT = TABLE.insert().from_select([one.name for one in TABLE.c], select(_ROWS))


def store(rows: Mapping[int, tuple[int | None, Sequence[Value]]], *, are_new: bool = False) -> None:
    """Write the values of products, each with the id that lists show for it, in place of those that they have.

    Two statements however many there are; one where the products ``are_new``, and none where these have no values. The
    caller has the products locked.
    """
    if rows and not are_new:
        ids = literal(sorted(rows), ValueList(big_integer))
        db.session.execute(delete(TABLE).where(is_one_of(TABLE.c.product_id, ids)))
    made = [row for product_id, found_by in rows.items() for row in rows_of(product_id, *found_by)]
    if not made:
        return
    if db.engine.dialect.name != "postgresql":
        db.session.execute(TABLE.insert(), made)
        return
    db.session.execute(_INSERT, {"made": orjson.dumps(made).decode()})


def rows_of(product_id: int, listed_id: int | None, values: Sequence[Value]) -> Sequence[dict[str, Any]]:
    """The rows of a product in the index. Its tags are listed as it is itself: those of a variant are its parent's."""
    return [
        {
            "product_id": product_id,
            "listed_id": listed_id if attribute_id is not None or listed_id == product_id else None,
            "attribute_id": attribute_id,
            "text": text,
            "number": number,
        }
        for attribute_id, text, number in dict.fromkeys(values)
    ]


def find_stored(product_ids: Collection[int]) -> Mapping[int, Sequence[Row]]:
    """The rows that products have in the index; those of a product that has none are missing."""
    found: dict[int, list[Row]] = {}
    ids = literal(sorted(product_ids), ValueList(big_integer))
    for row in db.session.execute(select(TABLE).where(is_one_of(TABLE.c.product_id, ids))).mappings():
        found.setdefault(row["product_id"], []).append(dict(row))
    return found


def listed_id_of(row: Row) -> int | None:
    """The product that a list shows for one that is sold: the parent of an active variant; None for another variant."""
    if row["kind"] != ProductKind.VARIANT:
        return int(row["id"])
    return int(row["parent_id"]) if row["status"] == ProductStatus.ACTIVE else None


def _is_for_sale(row: Row) -> bool:
    """Whether shoppers see a product that is sold; a parent is complete where its variants are."""
    statuses = {row["status"], row["parent_status"] or ProductStatus.ACTIVE}
    return row["kind"] != ProductKind.PARENT and statuses == {ProductStatus.ACTIVE}


def _at(code: str) -> str:
    return pointer_to("attributes", code)
