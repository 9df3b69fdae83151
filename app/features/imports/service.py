"""The use case of an import: save a chunk of rows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import or_, select

from app.core.database import take_turns
from app.core.errors import Invalid
from app.extensions import db
from app.features.categories import models as category_models
from app.features.categories import service as categories
from app.features.imports.models import BadRow, CategoryAmbiguous, Report, Row
from app.features.products import bulk


@dataclass
class SavedChunk:
    """What became of a chunk, and the name of the category of each product in it, by sku."""

    report: Report
    filed: dict[str, str] = field(default_factory=dict)


def save_chunk(rows: Sequence[Row], *, seen: Mapping[str, str]) -> SavedChunk:
    """Upsert valid rows by sku, in the caller's transaction.

    ``seen`` tells the category's name of each product that an earlier chunk of the file had. Of rows with the same sku
    the first makes the product, and the others are merged. A category that is named and not there is made, a root, for
    rows that stay; a category_id that is not there, or a name that several categories have, fails the row.
    """
    report = Report(last_line=rows[-1].line)
    chunk = SavedChunk(report)
    shelf = _Shelf()
    shelf.look_up(rows)
    kept: list[tuple[Row, str]] = []
    for row in rows:
        sku = row.values["sku"]
        try:
            name = shelf.name_for(row.values)
        except Invalid as refusal:
            report.fail(BadRow.of_faults(row.line, refusal.faults))
            continue
        first = seen.get(sku) or chunk.filed.get(sku)
        if first is None:
            chunk.filed[sku] = name
            kept.append((row, name))
            continue
        report.merged += 1
        if name != first:
            report.kept_categories[first, name] += 1
    for name in shelf.make_missing([row for row, _ in kept]):
        report.made_categories[name] = None
    for upserted in bulk.upsert_products(_members(row.values, shelf) for row, _ in kept).values():
        _count(report, upserted.effect)
    return chunk


class _Shelf:
    """The categories that the rows of a chunk are filed under, looked up in one statement."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._ids: dict[str, list[int]] = {}

    def look_up(self, rows: Sequence[Row]) -> None:
        """Find what the rows name."""
        self._find(
            names={row.values["category"] for row in rows if "category" in row.values},
            ids={row.values["category_id"] for row in rows if "category_id" in row.values},
        )

    def name_for(self, values: Mapping[str, Any]) -> str:
        """The name of a row's category, there or to be made; refuses an unknown id and an ambiguous name."""
        if "category" not in values:
            if values["category_id"] not in self._names:
                raise category_models.CategoryUnknown
            return self._names[values["category_id"]]
        ids = self._ids.get(values["category"], [])
        if len(ids) > 1 and values.get("category_id") not in ids:
            raise CategoryAmbiguous
        return str(values["category"])

    def id_for(self, values: Mapping[str, Any]) -> int:
        """The id of a row's category. Where it names one by both, the id tells it from others of its name."""
        if "category" not in values:
            return int(values["category_id"])
        ids = self._ids[values["category"]]
        return int(values["category_id"]) if values.get("category_id") in ids else ids[0]

    def make_missing(self, rows: Sequence[Row]) -> list[str]:
        """Make the categories that rows name and that are not there; their names."""
        missing = self._missing(rows)
        if missing:
            # Two imports that both miss a category must not both make it: the second waits here, and looks again.
            take_turns("import-categories")
            self._find(names=missing, ids=())
            missing = self._missing(rows)
        for name in missing:
            self._put(categories.create_category(name=name).id, name)
        return missing

    def _missing(self, rows: Sequence[Row]) -> list[str]:
        named = (row.values["category"] for row in rows if "category" in row.values)
        return list(dict.fromkeys(name for name in named if name not in self._ids))

    def _find(self, *, names: Collection[str], ids: Collection[int]) -> None:
        category = category_models.Category
        rows = select(category.id, category.name).where(or_(category.name.in_(names), category.id.in_(ids)))
        for category_id, name in db.session.execute(rows.order_by(category.id)):
            self._put(category_id, name)

    def _put(self, category_id: int, name: str) -> None:
        self._names[category_id] = name
        self._ids.setdefault(name, []).append(category_id)


def _members(values: Mapping[str, Any], shelf: _Shelf) -> dict[str, Any]:
    members = {name: value for name, value in values.items() if name != "category"}
    return members | {"category_id": shelf.id_for(values)}


def _count(report: Report, effect: bulk.Effect) -> None:
    match effect:
        case bulk.Effect.CREATED:
            report.created += 1
        case bulk.Effect.UPDATED:
            report.updated += 1
        case bulk.Effect.UNCHANGED:
            report.unchanged += 1
