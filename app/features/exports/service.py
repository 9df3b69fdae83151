"""All products that filters leave, read in batches."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, select

from app.core.transactions import run
from app.features.brands.models import Brand
from app.features.categories.models import Category
from app.features.exports.files import IMAGES, join_path
from app.features.media import placing
from app.features.media.models import AssetStatus
from app.features.product_types.models import ProductType
from app.features.products.models import MEMBERS, PRODUCTS

_COLUMNS = [PRODUCTS.c[member] for member in (*MEMBERS, "kind", "options", "position")]


def iter_products(*conditions: ColumnElement[bool], batch: int = 1000) -> Iterator[Sequence[Mapping[str, Any]]]:
    """The living products that meet the conditions, in batches by id.

    Each has its ``id``, the path of its ``category``, from the root down, the name of its ``brand``, the code of its
    ``type`` and, of a variant, the ``parent_sku``. Its ``images`` are those that name a variant, or of another product
    those that name none. Each batch is two statements of its own, so that memory stays flat and no writer waits for a
    slow reader. Only within a snapshot are all of one moment.
    """
    last_id, paths = 0, _Paths()
    parent = PRODUCTS.alias("parent")
    beside = (Brand.name.label("brand"), ProductType.code.label("type"), parent.c.sku.label("parent_sku"))
    rows = (
        select(PRODUCTS.c.id, PRODUCTS.c.parent_id, *_COLUMNS, *beside)
        .outerjoin(Brand, Brand.id == PRODUCTS.c.brand_id)
        .outerjoin(ProductType, ProductType.id == PRODUCTS.c.type_id)
        .outerjoin(parent, parent.c.id == PRODUCTS.c.parent_id)
        .where(PRODUCTS.c.deleted_at.is_(None), *conditions)
        .order_by(PRODUCTS.c.id)
        .limit(batch)
    )
    while found := run(rows.where(PRODUCTS.c.id > last_id)).mappings().all():
        placed = placing.find_named({row["parent_id"] or row["id"] for row in found})
        yield [_product(row, paths, placed) for row in found]
        last_id = found[-1]["id"]


def _product(row: Mapping[Any, Any], paths: "_Paths", placed: Mapping[int, Sequence[Any]]) -> dict[str, Any]:
    product = {**row, "category": paths.path_of(row["category_id"]), IMAGES: _images_of(row, placed)}
    del product["parent_id"]
    return product


def _images_of(product: Mapping[Any, Any], placed: Mapping[int, Sequence[Any]]) -> list[str]:
    """The pictures of a product's row, in their order."""
    if product["parent_id"] is None:
        return [_reference_to(each) for each in placed.get(product["id"], ()) if not each.variants]
    of_family = placed.get(product["parent_id"], ())
    return [_reference_to(each) for each in of_family if product["id"] in each.variants]


def _reference_to(placed: Any) -> str:
    """What an import finds a picture by: its content, and of a link, or what was not fetched, the URL."""
    is_lost = placed.status == AssetStatus.FAILED and placed.source_url is not None
    return str(placed.source_url if placed.sha256 is None or is_lost else placed.sha256)


class _Paths:
    """The paths of categories, from the whole tree, which is read in one statement because it is small."""

    def __init__(self) -> None:
        self._paths: dict[int, str] = {}

    def path_of(self, category_id: int) -> str:
        """The path of a category, as files have it."""
        if category_id not in self._paths:
            # At the first, and where a category has come since.
            self._paths = self._read()
        return self._paths[category_id]

    @staticmethod
    def _read() -> dict[int, str]:
        rows = run(select(Category.id, Category.name, Category.parent_id)).all()
        names = {row.id: row.name for row in rows}
        parents = {row.id: row.parent_id for row in rows}
        times = Counter(names.values())

        def line_of(category_id: int) -> list[str]:
            line: list[str] = []
            above: int | None = category_id
            while above in names:
                line.append(names[above])
                above = parents[above]
            return line[::-1]

        return {each: join_path(line_of(each), is_unique=times[names[each]] == 1) for each in names}
