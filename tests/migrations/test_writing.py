"""`make migration` in a copy of the project: what it writes is right, and is understood on both databases."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import ops
from alembic.script import ScriptDirectory

from app.core.model import big_integer
from app.web import migrations
from migrations.writing import write_references
from tests.servers import INHERITED, PROJECT

#: A table, and a reference to it from one that has rows. Under names of their own, and behind everything that is there.
MODELS = """

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped as M

class Maker(Keyed, Stamped, Model):
    __tablename__ = "makers"
    __table_args__ = (CheckConstraint("length(name) > 0", name="named"), {"sqlite_autoincrement": True})

    name: M[str] = mapped_column(ordered_text(120))
    turnover: M[Decimal] = mapped_column(Money)
    labels: M[list[str]] = mapped_column(json_type)

Product.maker_id = mapped_column(big_integer, ForeignKey("makers.id", ondelete="RESTRICT"), nullable=True)
Index("ix_products_maker_id", Product.maker_id)
Index("ix_products_maker_id_id", Product.maker_id, Product.id)
"""
#: Goes up, compares and comes down again.
THERE_AND_BACK = """
import wsgi
from flask_migrate import check, downgrade, upgrade
with wsgi.app.app_context():
    upgrade()
    check()
    downgrade()
    upgrade()
    check()
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project without makers."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("app", "migrations", "requirements"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "config.py", "pyproject.toml", "wsgi.py"):
        shutil.copy(PROJECT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    # The environment is there, whatever made it.
    (folder / "requirements" / "install.sh").write_text("")
    return folder


@pytest.fixture(scope="module")
def run(checkout: Path) -> Run:
    """Runs a command in the copy."""

    def run(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        env = {name: os.environ[name] for name in INHERITED if name in os.environ} | environ
        return subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=100, check=False)

    return run


@pytest.fixture(scope="module")
def written(checkout: Path, run: Run) -> Path:
    """The migration that `make migration` writes of the makers."""
    with (checkout / "app" / "features" / "products" / "models.py").open("a") as models:
        models.write(MODELS)
    before = {*(checkout / "migrations" / "versions").glob("*.py")}
    # The developer's own database is not asked.
    done = run("make", "migration", "m=add makers", DATABASE_URL="sqlite:////no/such/folder/catalog.db")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    (made,) = {*(checkout / "migrations" / "versions").glob("*.py")} - before
    return made


def newest_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The newest revision as the server finds it in another folder of migrations."""
    monkeypatch.setattr(migrations, "VERSIONS", folder / "versions")
    return migrations.newest_revision.__wrapped__()


class TestMakeMigration:
    def test_has_the_next_number(self, written: Path) -> None:
        newest = max(int(path.name[:4]) for path in (PROJECT / "migrations" / "versions").glob("*.py"))

        assert written.name == f"{newest + 1:04}_add_makers.py"
        assert f'\nrevision = "{newest + 1:04}"\ndown_revision = "{newest:04}"\n' in written.read_text()

    def test_is_written_in_our_style(self, written: Path, run: Run) -> None:
        for command in ("check", "format --check"):
            done = run(sys.executable, "-m", "ruff", *command.split(), "--no-cache", "migrations")
            assert done.returncode == 0, done.stdout
        assert written.read_text().startswith('"""Add makers."""\n')

    def test_calls_columns_and_references_by_their_names(self, written: Path) -> None:
        text = re.sub(r"\s+", " ", written.read_text())

        assert 'sa.Column("turnover", Money(), nullable=False)' in text
        assert 'sa.Column("labels", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False)' in text
        assert 'add_reference("products", "maker_id", "makers")' in text
        assert 'drop_reference("products", "maker_id")' in text

    @pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
    def test_goes_up_and_down_and_leaves_nothing_to_add(
        self, written: Path, run: Run, backend: str, new_database: Callable[[str], str]
    ) -> None:
        settings = {"APP_ENV": "testing", "SECRET_KEY": "s" * 32, "JWT_SECRET_KEY": "j" * 32, "LOG_LEVEL": "WARNING"}

        done = run(sys.executable, "-W", "ignore", "-c", THERE_AND_BACK, DATABASE_URL=new_database(backend), **settings)

        assert done.returncode == 0, done.stdout + done.stderr

    def test_is_the_newest_to_the_server(self, written: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        newest = ScriptDirectory(str(checkout / "migrations")).get_current_head()

        assert newest_in(checkout / "migrations", monkeypatch) == newest == written.name[:4]

    def test_is_asked_what_it_does(self, run: Run) -> None:
        done = run("make", "migration")

        assert done.returncode != 0
        assert done.stderr.startswith('Say what it does: make migration m="add suppliers"\n')


class TestReferences:
    @staticmethod
    def script(*, referred: str = "id", nullable: bool = True, **options: Any) -> ops.MigrationScript:
        """What autogenerate finds where products have got a column that refers to makers, with a partial index."""
        add = ops.AddColumnOp("products", sa.Column("maker_id", big_integer, nullable=nullable))
        names = "fk_products_maker_id_makers", "products", "makers", ["maker_id"], [referred]
        key = ops.CreateForeignKeyOp(*names, **options)
        index = ops.CreateIndexOp("ix_products_maker_id", "products", ["maker_id"], sqlite_where=sa.text("id > 9"))
        changes = ops.UpgradeOps([ops.ModifyTableOps("products", [add, index, key])])
        return ops.MigrationScript("0001", changes, ops.DowngradeOps([]))

    def test_are_a_difference_that_flask_db_check_tells(self) -> None:
        script = self.script()

        write_references(script)

        assert script.upgrade_ops is not None
        reference, index = script.upgrade_ops.as_diffs()
        assert reference == (
            "add_reference", "'products'", "'maker_id'", "'makers'", "on_delete='NO ACTION'", "index=False",
        )  # fmt: skip
        assert index[0] == "add_index"

    @pytest.mark.parametrize("different", [{"referred": "code"}, {"nullable": False}, {"onupdate": "CASCADE"}])
    def test_of_another_kind_are_left_to_alembic(self, different: dict[str, Any]) -> None:
        script = self.script(**different)

        write_references(script)

        assert script.upgrade_ops is not None
        assert [kind for kind, *_ in script.upgrade_ops.as_diffs()] == ["add_column", "add_index", "add_fk"]


class TestNewestRevision:
    @pytest.mark.parametrize(
        "head",
        [
            "revision = '0002'\ndown_revision = '0001'",
            'revision: str = "a1b2"\ndown_revision: str | None = "0001"',
            'revision = ("ff2")  # by hand\ndown_revision = (\n    "0001",\n)',
        ],
    )
    def test_is_the_one_of_alembic_however_it_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
    ) -> None:
        (tmp_path / "versions").mkdir()
        (tmp_path / "versions" / "0001_first.py").write_text('revision = "0001"\ndown_revision = None\n')
        (tmp_path / "versions" / "another.py").write_text(f'"""\nrevision = "0003"\n"""\n\n{head}\n')

        assert newest_in(tmp_path, monkeypatch) == ScriptDirectory(str(tmp_path)).get_current_head()
