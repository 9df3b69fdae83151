"""Which variants of a listed product meet the filters that one of them must meet, and what they look like."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from app.core.transactions import run
from app.features.media.schemas import Image
from app.features.products import listing
from app.features.products.models import ProductKind


class MatchingVariants:
    """The ids of a parent's variants, each of which meets the filters, and the image of the first that has one."""

    schemas: Mapping[str, Mapping[str, Any]] = {
        "matching_variants": {
            "type": "array",
            "items": {"type": "integer", "format": "int64"},
            "description": "In lists: which variants meet the filters by price, stock and attributes.",
            "examples": [[43, 44]],
        }
    }
    replaces: Collection[str] = ("image",)
    attributes: Sequence[str] = ("id", "kind")
    _write = Image().write

    def find(self, rows: Sequence[Any], query: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """The members of each of ``rows`` that is a parent; one statement if there is any."""
        parents = [row.id for row in rows if row.kind == ProductKind.PARENT]
        if not parents or not listing.asks_for_variants(query):
            return ()
        found: dict[int, dict[str, Any]] = {each: {} for each in parents}
        for parent_id, variant_id, image in run(listing.find_matching_of(parents, query)):
            found[parent_id].setdefault("matching_variants", []).append(variant_id)
            if image is not None:
                found[parent_id].setdefault("image", self._write(image))
        return [found.get(row.id, {}) for row in rows]
