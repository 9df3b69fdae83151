"""Which products their type would refuse as they are now, in SQL: what `values.Definitions.assess` says of a row."""

from dataclasses import replace
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Text, and_, case, literal, null, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import aliased

from app.core.membership import Condition
from app.features.product_types.rules import Rules
from app.features.product_types.validity import is_refused
from app.features.products.models import Product, ProductKind, ProductStatus

#: A status that needs no attribute.
_DRAFT = literal(ProductStatus.DRAFT.value)


def is_valid(rules: Rules, wanted: bool) -> ColumnElement[bool]:
    """Whether a type would take a product of it as it is; a parent is refused where one of its variants is."""
    variant, parent = aliased(Product), aliased(Product)
    of_variant = select(variant.id).where(
        variant.parent_id == Product.id, variant.deleted_at.is_(None), _breaks(variant, rules, Product.attributes)
    )
    of_parent = select(parent.attributes).where(parent.id == Product.parent_id).scalar_subquery()
    inherited = case((Product.parent_id.is_not(None), of_parent), else_=null())
    # A CASE has two values at least, and NOT of it is whatever it is not.
    breaks = case((or_(_breaks(Product, rules, inherited), of_variant.exists()), 1), else_=0)
    return breaks == (0 if wanted else 1)


def _breaks(of: Any, rules: Rules, inherited: Any) -> ColumnElement[bool]:
    """Whether a row by itself is refused; ``of`` is the model or an alias, ``inherited`` the values of its parent."""
    options = {code: definition for code, definition in rules.definitions.items() if code in rules.options}
    of_options = replace(rules, definitions=options, required=frozenset())
    is_for_sale = and_(
        of.kind != ProductKind.PARENT,
        of.status == ProductStatus.ACTIVE,
        or_(of.parent_status.is_(None), of.parent_status == ProductStatus.ACTIVE),
    )
    needed = literal(orjson.dumps(sorted(rules.required)).decode(), Text())
    return or_(
        is_refused(rules, attributes=of.attributes, status=_DRAFT),
        and_(of.kind == ProductKind.VARIANT, is_refused(of_options, attributes=of.options, status=_DRAFT)),
        and_(is_for_sale, lacks(needed, of.attributes, inherited, of.options)),
    )


class lacks(Condition):  # noqa: N801 -- reads as the condition that it compiles to
    """Whether one of some names (first, the text of a JSON array) is a member of none of the objects (the others)."""

    inherit_cache = True


@compiles(lacks, "postgresql")
def _lacks_postgresql(element: lacks, compiler: Any, **options: Any) -> str:
    names, *objects = (compiler.process(clause, **options) for clause in element.clauses)
    has = " OR ".join(f"coalesce(CAST({each} AS jsonb) ? needed.code, false)" for each in objects)
    return f"EXISTS (SELECT FROM jsonb_array_elements_text(CAST({names} AS jsonb)) AS needed (code) WHERE NOT ({has}))"


@compiles(lacks, "sqlite")
def _lacks_sqlite(element: lacks, compiler: Any, **options: Any) -> str:
    names, *objects = (compiler.process(clause, **options) for clause in element.clauses)
    has = " OR ".join(f"needed.value IN (SELECT key FROM json_each({each}))" for each in objects)  # noqa: S608 -- compiled clauses
    return f"EXISTS (SELECT 1 FROM json_each({names}) AS needed WHERE NOT ({has}))"  # noqa: S608 -- compiled clauses
