"""Category trees from files."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import select

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.categories.models import Category
from tests.conftest import Caller, rows_of
from tests.servers import PROJECT

FILE = PROJECT.parent / "shared" / "data" / "bestbuy-categories.json.gz"

Import = Callable[[Any], str]


@pytest.fixture
def import_tree(runner: FlaskCliRunner, tmp_path: Path) -> Import:
    """Import this content, and tell what the command printed and how it ended."""

    def run(content: Any) -> str:
        path = tmp_path / "tree.json"
        path.write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
        result = runner.invoke(args=["catalog", "import-categories", str(path)])
        return f"{result.exit_code}: {result.output.strip()}"

    return run


def entry(*ids: str, name: str | None = None) -> dict[str, Any]:
    """A category with its ancestors."""
    path = [{"id": one, "name": one.title()} for one in ids[:-1]]
    return {"id": ids[-1], "name": name or ids[-1].title(), "path": path}


def tree_of(app: Flask) -> dict[str, str | None]:
    """The parent's slug of each category, by its own."""
    with app.app_context(), unit_of_work(reading=True):
        rows = db.session.execute(select(Category.id, Category.slug, Category.parent_id)).all()
    slugs: dict[int | None, str] = {row.id: row.slug for row in rows}
    return {row.slug: slugs.get(row.parent_id) for row in rows}


class TestImporting:
    def test_makes_the_tree_whatever_the_order(self, app: Flask, import_tree: Import) -> None:
        told = import_tree([entry("home", "beds", "bunks"), entry("home"), entry("home", "beds"), entry("garden")])

        assert told == "0: 4 categories: 4 created, 0 changed, 0 unchanged."
        assert tree_of(app) == {"home": None, "beds": "home", "bunks": "beds", "garden": None}

    def test_makes_ancestors_that_only_paths_name(self, app: Flask, import_tree: Import) -> None:
        import_tree([entry("home", "beds")])

        assert tree_of(app) == {"home": None, "beds": "home"}

    def test_again_changes_nothing(self, app: Flask, import_tree: Import) -> None:
        tree = [entry("home"), entry("home", "beds")]
        import_tree(tree)
        before = rows_of(app, "categories")

        assert import_tree(tree) == "0: 2 categories: 0 created, 0 changed, 2 unchanged."
        assert rows_of(app, "categories") == before

    def test_renames_and_moves(self, app: Flask, import_tree: Import) -> None:
        import_tree([entry("home", "beds"), entry("garden")])

        told = import_tree([entry("garden", "beds", name="Sleeping outdoors")])

        assert told == "0: 2 categories: 0 created, 1 changed, 1 unchanged."
        assert tree_of(app)["beds"] == "garden"

    def test_meets_a_category_under_its_former_slug(self, app: Flask, alice: Caller, import_tree: Import) -> None:
        import_tree([entry("home", "beds")])
        alice.patch("/categories/by/slug/beds", {"slug": "sleeping"})

        told = import_tree([entry("home", "beds")])

        assert told == "0: 2 categories: 0 created, 0 changed, 2 unchanged."
        assert tree_of(app) == {"home": None, "sleeping": "home"}

    def test_can_turn_a_branch_over(self, app: Flask, import_tree: Import) -> None:
        import_tree([entry("home", "beds", "bunks")])

        import_tree([entry("bunks", "beds", "home")])

        assert tree_of(app) == {"bunks": None, "beds": "bunks", "home": "beds"}

    def test_reads_gzip(self, app: Flask, import_tree: Import) -> None:
        import_tree(gzip.compress(orjson.dumps([entry("home")])))

        assert tree_of(app) == {"home": None}

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"[", "it is not JSON"),
            (b"{}", "it is not an array of categories"),
            (b"\x1f\x8bnonsense", "it is not JSON"),
            (b"[1]", "category 1 is not an object"),
            ([entry("home"), {"id": "x"}], "category 2 is not an object"),
            ([{"id": "!", "name": "x"}], "an id or a name is empty or too long"),
            ([{"id": "x", "name": "n" * 121}], "an id or a name is empty or too long"),
            ([{"id": "x", "name": 7}], "neither text nor number"),
        ],
    )
    def test_refuses_what_is_no_tree_and_changes_nothing(
        self, app: Flask, import_tree: Import, content: Any, said: str
    ) -> None:
        told = import_tree(content)

        assert told.startswith("1: Error:")
        assert said in told
        assert tree_of(app) == {}


@pytest.mark.skipif(not FILE.exists(), reason="the file of categories is not beside the project")
def test_a_real_tree_is_loaded_whole(app: Flask, import_tree: Import) -> None:
    told = import_tree(FILE.read_bytes())

    # 4,584 of its own, and 139 ancestors that only their paths name.
    assert told == "0: 4,723 categories: 4,723 created, 0 changed, 0 unchanged."
    entries = orjson.loads(gzip.decompress(FILE.read_bytes()))
    parents = {one["id"].lower(): (one["path"][-2]["id"].lower() if len(one["path"]) > 1 else None) for one in entries}
    assert tree_of(app) == tree_of(app) | parents
