"""The categories and brands that rows name: found by their names, and made where they are not there."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import or_, select

from app.core.locks import advisory_lock
from app.extensions import db
from app.features.brands import models as brand_models
from app.features.brands import service as brands
from app.features.categories import models as category_models
from app.features.categories import service as categories
from app.features.imports.models import CategoryAmbiguous, Row


class Shelf:
    """The categories that the rows of a chunk are filed under, looked up in one statement."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._names: dict[int, str] = {}
        self._ids: dict[str, list[int]] = {}
        self._find(
            names={row.values["category"] for row in rows if "category" in row.values},
            ids={row.values["category_id"] for row in rows if "category_id" in row.values},
        )

    def name_for(self, values: Mapping[str, Any]) -> str:
        """The name of a row's category, there or to be made; raises ``CategoryAmbiguous``."""
        if "category" not in values:
            return self._names[values["category_id"]]
        ids = self._ids.get(values["category"], [])
        if len(ids) > 1 and values.get("category_id") not in ids:
            raise CategoryAmbiguous
        return str(values["category"])

    def id_for(self, values: Mapping[str, Any]) -> int:
        """The id of a row's category. Where it states both, the id picks one of several of its name."""
        if "category" not in values:
            return int(values["category_id"])
        ids = self._ids[values["category"]]
        return int(values["category_id"]) if values.get("category_id") in ids else ids[0]

    def make_missing(self, rows: Sequence[Row]) -> list[str]:
        """Make the categories that rows name and that are not there; their names."""
        missing = self._missing(rows)
        if missing:
            # Two imports that both miss a category must not both make it: the second waits here, and looks again.
            advisory_lock("import-categories")
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


class Brands:
    """The brands of the rows of a chunk, looked up by their names in one statement."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._ids: dict[str, int] = {}
        self._find(_brands_of(rows))

    def members_for(self, values: Mapping[str, Any]) -> dict[str, int | None]:
        """The id of the brand that a row names, or None where the name is empty; nothing where it has no name."""
        if "brand" not in values:
            return {}
        name = values["brand"]
        return {"brand_id": None if name is None else self._ids[name]}

    def make_missing(self, rows: Sequence[Row]) -> list[str]:
        """Make the brands that rows name and that are not there; their names."""
        missing = self._missing(rows)
        if missing:
            # As for categories: the second of two imports waits here, and looks again.
            advisory_lock("import-brands")
            self._find(missing)
            missing = self._missing(rows)
        for name in missing:
            self._ids[name] = brands.create_brand(name=name).id
        return missing

    def _missing(self, rows: Sequence[Row]) -> list[str]:
        return [name for name in _brands_of(rows) if name not in self._ids]

    def _find(self, names: Collection[str]) -> None:
        if names:
            brand = brand_models.Brand
            found = db.session.execute(select(brand.name, brand.id).where(brand.name.in_(names)))
            self._ids |= {row.name: row.id for row in found}


def _brands_of(rows: Sequence[Row]) -> list[str]:
    named = (row.values.get("brand") for row in rows)
    return list(dict.fromkeys(name for name in named if name is not None))
