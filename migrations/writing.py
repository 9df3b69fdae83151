"""What `make migration` writes: numbers, column types and references as this project has them."""

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops

from app.core.model import Json, Money, UtcDateTime


def render_item(kind: str, item: object, context: AutogenContext) -> str | bool:
    """Write our column types into migrations under their own names, and JSON as the databases have it."""
    if kind == "type" and isinstance(item, Money | UtcDateTime):
        name = type(item).__name__
        context.imports.add(f"from app.core.model import {name}")
        return f"{name}()"
    if kind == "type" and isinstance(item, Json):
        context.imports.add("from sqlalchemy.dialects.postgresql import JSONB")
        return 'sa.JSON().with_variant(JSONB(), "postgresql")'
    return False


def next_number(revisions: Iterable[str]) -> str:
    """The number that follows those of all migrations."""
    return f"{max(map(int, revisions), default=0) + 1:04}"


@dataclass(frozen=True)
class Reference:
    """A reference that autogenerate found in the models."""

    table: str
    column: str
    referred: str
    on_delete: str
    has_index: bool

    @property
    def constraint(self) -> str:
        """The name of its constraint."""
        return f"fk_{self.table}_{self.column}_{self.referred}"

    @property
    def index(self) -> str:
        """The name of its index."""
        return f"ix_{self.table}_{self.column}"


class ReferenceOp(ops.MigrateOperation):
    """A line of a migration: a call of ``add_reference`` or ``drop_reference``."""

    def __init__(self, function: str, *arguments: str) -> None:
        self.function, self.arguments = function, arguments

    def to_diff_tuple(self) -> tuple[str, ...]:
        """What `flask db check` says of it."""
        return (self.function, *self.arguments)


@renderers.dispatch_for(ReferenceOp)
def _render(context: AutogenContext, operation: ReferenceOp) -> str:
    context.imports.add(f"from migrations.references import {operation.function}")
    return f"{operation.function}({', '.join(operation.arguments)})"


def write_references(script: ops.MigrationScript) -> None:
    """Let a new migration call migrations.references where autogenerate would add a constraint to a table."""
    for changes in _tables(script.upgrade_ops):
        for reference in list(_references(changes)):
            arguments = [repr(reference.table), repr(reference.column), repr(reference.referred)]
            if reference.on_delete != "RESTRICT":
                arguments.append(f"on_delete={reference.on_delete!r}")
            if not reference.has_index:
                arguments.append("index=False")
            _replace(changes, reference, ReferenceOp("add_reference", *arguments))
            for undone in _tables(script.downgrade_ops):
                if undone.table_name == reference.table:
                    _replace(undone, reference, ReferenceOp("drop_reference", *arguments[:2]))


def _tables(operations: ops.OpContainer | None) -> Iterable[ops.ModifyTableOps]:
    return [found for found in operations.ops if isinstance(found, ops.ModifyTableOps)] if operations else []


def _references(changes: ops.ModifyTableOps) -> Iterable[Reference]:
    added = {found.column.name: found.column for found in changes.ops if isinstance(found, ops.AddColumnOp)}
    indexes = {found.index_name for found in changes.ops if isinstance(found, ops.CreateIndexOp) and _is_plain(found)}
    for found in changes.ops:
        if not isinstance(found, ops.CreateForeignKeyOp) or found.remote_cols != ["id"]:
            continue
        options = {name: value for name, value in found.kw.items() if value}
        column = added.get(found.local_cols[0])
        if column is None or not column.nullable or not isinstance(column.type, sa.BigInteger):
            continue
        on_delete = options.pop("ondelete", "NO ACTION")
        reference = Reference(
            changes.table_name,
            column.name,
            found.referent_table,
            on_delete,
            f"ix_{changes.table_name}_{column.name}" in indexes,
        )
        if found.constraint_name == reference.constraint and not options:
            yield reference


def _is_plain(index: ops.CreateIndexOp) -> bool:
    """Whether an index is what ``add_reference`` would create: of all rows, and not unique."""
    options = [value for value in index.kw.values() if value is not None]
    return not index.unique and not options and len(index.columns) == 1


def _replace(changes: ops.ModifyTableOps, reference: Reference, operation: ReferenceOp) -> None:
    """Put the call where the column is added or dropped, and leave out its constraint and index."""
    kept: list[ops.MigrateOperation] = []
    for found in changes.ops:
        match found:
            case (
                ops.AddColumnOp(column=sa.Column(name=reference.column))
                | ops.DropColumnOp(column_name=reference.column)
            ):
                kept.append(operation)
            case (
                ops.CreateForeignKeyOp(constraint_name=reference.constraint)
                | ops.DropConstraintOp(constraint_name=reference.constraint)
            ):
                pass
            case ops.CreateIndexOp(index_name=reference.index) | ops.DropIndexOp(index_name=reference.index):
                if not reference.has_index:
                    kept.append(found)
            case _:
                kept.append(found)
    changes.ops = kept
