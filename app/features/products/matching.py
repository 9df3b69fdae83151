"""Which variants of a listed product meet the filters that one of them must meet."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.core.transactions import run
from app.features.products import listing
from app.features.products.models import ProductKind


class MatchingVariants:
    """The ids of a parent's variants, each of which meets the filters; for lists with such filters."""

    schema: Mapping[str, Any] = {
        "type": "array",
        "items": {"type": "integer", "format": "int64"},
        "description": "In lists: which variants meet the filters by price, stock and attributes.",
        "examples": [[43, 44]],
    }

    attributes: Sequence[str] = ("id", "kind")

    def find(self, rows: Sequence[Any], query: Mapping[str, Any]) -> Sequence[Any] | None:
        """The ids for each of ``rows`` that is a parent, in the order of the places; one statement if there is any."""
        parents = [row.id for row in rows if row.kind == ProductKind.PARENT]
        if not parents or not listing.asks_for_variants(query):
            return None
        found: dict[int, list[int]] = {}
        for parent_id, variant_id in run(listing.find_matching_of(parents, query)):
            found.setdefault(parent_id, []).append(variant_id)
        return [found.get(row.id) for row in rows]
