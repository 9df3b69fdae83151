"""The categories and brands that the rows of a chunk name, looked up at once."""

from collections.abc import Sequence

import pytest
from flask import Flask

from app.core.transactions import unit_of_work
from app.features.brands.service import create_brand
from app.features.categories.service import create_category
from app.features.imports.filing import Brands, Shelf
from app.features.imports.paths import CategoryPath
from app.features.imports.rows import Row

#: More than a database takes as parameters of one statement: 65,535 are the limit of PostgreSQL's protocol.
MANY = {"sqlite": 300_000, "postgresql": 70_000}


def rows_of(paths: Sequence[CategoryPath]) -> list[Row]:
    return [Row(line, {"category": path}) for line, path in enumerate(paths, 2)]


@pytest.fixture
def many(backend: str) -> int:
    """So many names that no statement could have each as a parameter."""
    return MANY[backend]


class TestManyNames:
    def test_of_categories_are_looked_up_in_one_statement(self, app: Flask, many: int) -> None:
        long = CategoryPath(("Cups",), parts=tuple(f"part {number}" for number in range(many)))
        with app.app_context(), unit_of_work():
            category_id = create_category(name="Cups").id
            shelf = Shelf(rows_of([long, CategoryPath(("Pans",))]))

            assert shelf.id_for({"category": long}) == category_id
            assert shelf.id_for({"category": CategoryPath(("Pans",))}) is None

    def test_of_categories_are_looked_up_by_their_keys(self, app: Flask, many: int) -> None:
        paths = [CategoryPath((f"c-{number}",)) for number in range(many)]
        with app.app_context(), unit_of_work():
            category_id = create_category(name="Cups", slug="c-7").id

            assert Shelf(rows_of(paths)).id_for({"category": paths[7]}) == category_id

    def test_of_brands_are_looked_up_in_one_statement(self, app: Flask, many: int) -> None:
        rows = [Row(number, {"brand": f"Brand {number}"}) for number in range(many)]
        with app.app_context(), unit_of_work():
            brand_id = create_brand(name="Brand 7").id

            assert Brands(rows).members_for({"brand": "Brand 7"}) == {"brand_id": brand_id}
