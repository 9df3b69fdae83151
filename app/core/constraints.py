"""Which constraint refused a statement, and the refusal that stands for it."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.exc import IntegrityError

from app.core.errors import Refusal
from app.extensions import db


@contextlib.contextmanager
def refusing(refusals: Mapping[str, type[Refusal]]) -> Iterator[None]:
    """Flush at the end of the block, and answer the constraints named in ``refusals`` with those refusals."""
    try:
        yield
        db.session.flush()
    except IntegrityError as error:
        refusal = refusals.get(violated_constraint(error) or "")
        if refusal is None:
            raise
        raise refusal from error


def violated_constraint(error: IntegrityError) -> str | None:
    """The name of the constraint or unique index that was violated, where the database reports it."""
    diagnosis: Any = getattr(error.orig, "diag", None)
    if diagnosis is not None:
        name: str | None = diagnosis.constraint_name
        return name
    # SQLite names CHECK constraints, but of a UNIQUE one only its columns: "UNIQUE constraint failed: users.email".
    text = str(error.orig)
    if index := re.fullmatch(r"UNIQUE constraint failed: index '(\w+)'", text):
        return index[1]
    if columns := re.fullmatch(r"UNIQUE constraint failed: (.+)", text):
        table, names = "", []
        for column in columns[1].split(", "):
            table, name = column.split(".")
            names.append(name)
        return f"uq_{table}_{'_'.join(names)}"
    if check := re.fullmatch(r"CHECK constraint failed: (\w+)", text):
        return check[1]
    return None
