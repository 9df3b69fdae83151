"""The categories and brands that rows name: found by their names, paths and keys, and made where they are not there.

Making them is a permission of its own: without it, a row that names one that is not there is refused.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import or_, select

from app.core.errors import Fault, Invalid
from app.core.locks import advisory_lock
from app.core.membership import among
from app.extensions import db
from app.features.brands import models as brand_models
from app.features.brands import service as brands
from app.features.categories import models as category_models
from app.features.categories import service as categories
from app.features.imports.paths import CategoryPath
from app.features.imports.rows import Row
from app.features.product_types import models as type_models
from app.security.permissions import Permission


class CategoryAmbiguous(Invalid):
    """Several categories have this name; say which one by its path, its slug or its category_id."""

    pointer = "/category"


class CategoriesSeveral(Invalid):
    """These seem to be several categories, and a product has one; a comma within a name is written with a backslash."""

    pointer = "/category"


class CategorySeparatorUnclear(Invalid):
    """This seems to be a path with another separator; state the category separator, or none where it is one name."""

    pointer = "/category"


#: The members that name what an import can make, and the permission that this needs.
MAKERS: Mapping[str, Permission] = {"category": Permission.CATEGORIES_WRITE, "brand": Permission.BRANDS_WRITE}


class Shelf:
    """The categories that the rows of a chunk are filed under, looked up in one statement."""

    def __init__(self, rows: Sequence[Row], *, may_make: bool = True) -> None:
        self._may_make = may_make
        self._ids: dict[str, list[int]] = {}
        self._below: dict[tuple[int | None, str], list[int]] = {}
        self._known: dict[CategoryPath, int] = {}
        self._by_slug: dict[str, int] = {}
        self._by_external_id: dict[str, int] = {}
        self._paths = {row.values["category"] for row in rows if "category" in row.values}
        self._named = {path.names[0] for path in self._paths if path.is_bare}
        self._find(self._paths)

    def refuse(self, values: Mapping[str, Any]) -> None:
        """Raise the refusal of a row that does not say which category it means, or means one that may not be made."""
        if "category" not in values:
            return
        if self._lookup(values["category"], values.get("category_id")) is None and not self._may_make:
            raise _unknown("category", category_models.CategoryUnknown)

    def id_for(self, values: Mapping[str, Any]) -> int | None:
        """The id of a row's category; None where it states none. Its id picks one of several of its name."""
        if "category" not in values:
            return values.get("category_id")
        return self._lookup(values["category"], values.get("category_id"))

    def make_missing(self, rows: Sequence[Row]) -> list[str]:
        """Make the categories that rows name and that are not there; their paths."""
        named = dict.fromkeys(row.values["category"] for row in rows if "category" in row.values)
        if not all(map(self._candidates, named)):
            # Two imports that both miss a category must not both make it: the second waits here, and looks again.
            advisory_lock("import-categories")
            self._find(self._paths)
        made: list[str] = []
        for path in named:
            made += [] if self._candidates(path) else self._make(path)
            found = self._candidates(path)
            if len(found) == 1:
                # A bare name means what it meant at its row, though another row may make a second category of it.
                self._known[path] = found[0]
        return made

    def _lookup(self, path: CategoryPath, category_id: int | None) -> int | None:
        """The id of a category; None where it is to be made."""
        if path in self._known:
            return self._known[path]
        found = self._candidates(path)
        if len(found) > 1 and category_id not in found:
            raise CategoryAmbiguous
        if found:
            return category_id if category_id in found else found[0]
        if path.is_list or self._has_parts(path):
            raise CategoriesSeveral
        if path.is_foreign:
            raise CategorySeparatorUnclear
        if any(len(self._candidates(path.above(depth))) > 1 for depth in range(1, len(path.names))):
            raise CategoryAmbiguous
        return None

    def _candidates(self, path: CategoryPath) -> Sequence[int]:
        if path.is_bare:
            name = path.names[0]
            by_key = [ids[name] for ids in (self._by_slug, self._by_external_id) if name in ids]
            return self._ids.get(name) or by_key[:1]
        found: Sequence[int | None] = [None]
        for name in path.names:
            found = [each for parent in found for each in self._below.get((parent, name), [])]
        return [each for each in found if each is not None]

    def _has_parts(self, path: CategoryPath) -> bool:
        return any(part in self._ids or part in self._named for part in path.parts)

    def _make(self, path: CategoryPath) -> list[str]:
        """Make a path as far as it is not there."""
        made: list[str] = []
        parent: int | None = None
        for depth, name in enumerate(path.names, 1):
            above = path.above(depth) if depth < len(path.names) else path
            found = self._candidates(above)
            if not found:
                category_id = categories.create_category(name=name, parent_id=parent).id
                self._put(category_id, name, parent)
                made.append(str(above))
                found = [category_id]
            parent = found[0]
        return made

    def _find(self, paths: Collection[CategoryPath]) -> None:
        bare = {path.names[0] for path in paths if path.is_bare}
        names = {name for path in paths for name in (*path.names, *path.parts)}
        if not names:
            return
        self._ids.clear()
        self._below.clear()
        category = category_models.Category
        rows = select(category.id, category.name, category.parent_id, category.slug, category.external_id).where(
            or_(among(category.name, names), among(category.slug, bare), among(category.external_id, bare))
        )
        for row in db.session.execute(rows.order_by(category.id)):
            self._put(row.id, row.name, row.parent_id)
            self._by_slug[row.slug] = row.id
            if row.external_id is not None:
                self._by_external_id[row.external_id] = row.id

    def _put(self, category_id: int, name: str, parent_id: int | None) -> None:
        self._ids.setdefault(name, []).append(category_id)
        self._below.setdefault((parent_id, name), []).append(category_id)


class Brands:
    """The brands of the rows of a chunk, looked up by their names in one statement."""

    def __init__(self, rows: Sequence[Row], *, may_make: bool = True) -> None:
        self._may_make = may_make
        self._ids: dict[str, int] = {}
        self._find(_brands_of(rows))

    def refuse(self, values: Mapping[str, Any]) -> None:
        """Raise the refusal of a row whose brand is not there and may not be made."""
        if not self._may_make and values.get("brand") is not None and values["brand"] not in self._ids:
            raise _unknown("brand", brand_models.BrandUnknown)

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
            found = db.session.execute(select(brand.name, brand.id).where(among(brand.name, names)))
            self._ids |= {row.name: row.id for row in found}


class Types:
    """The product types of the rows of a chunk, looked up by their codes in one statement."""

    def __init__(self, rows: Sequence[Row]) -> None:
        codes = {row.values["type"] for row in rows if row.values.get("type") is not None}
        of_type = type_models.ProductType
        found = select(of_type.code, of_type.id).where(among(of_type.code, codes))
        self._ids = {row.code: row.id for row in db.session.execute(found)} if codes else {}

    def refuse(self, values: Mapping[str, Any]) -> None:
        """Raise the refusal of a row whose type is not there."""
        if values.get("type") is not None and values["type"] not in self._ids:
            code = type_models.ProductTypeUnknown.code()
            raise Invalid(Fault("There is no product type with this code.", code, pointer="/type"))

    def members_for(self, values: Mapping[str, Any]) -> dict[str, int | None]:
        """The id of the type that a row names, or None where the code is empty; nothing where it has no code."""
        if "type" not in values:
            return {}
        return {"type_id": None if values["type"] is None else self._ids[values["type"]]}


def _unknown(member: str, refusal: type[Invalid]) -> Invalid:
    sentence = f"There is no such {member}, and making it needs the permission {MAKERS[member]}."
    return Invalid(Fault(sentence, refusal.code(), pointer=f"/{member}"))


def _brands_of(rows: Sequence[Row]) -> list[str]:
    named = (row.values.get("brand") for row in rows)
    return list(dict.fromkeys(name for name in named if name is not None))
