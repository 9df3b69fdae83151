"""The pictures that rows of imports wait for: a row goes in without them, and a picture that fails becomes its fault.

A row waits in `import_images` from the transaction that has saved it until its picture is ready or has failed, whether
or not the import has ended by then.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Row, delete, func, insert, literal, or_, select, tuple_, update

from app.core.jobs import Job
from app.core.membership import ValueList, is_one_of
from app.core.model import big_integer
from app.core.upserts import insert_unless_there
from app.extensions import db
from app.features.exports.files import IMAGES
from app.features.imports.models import Import, ImportFault, ImportImage
from app.features.imports.reading.columns import Columns
from app.features.imports.report import MAX_ERRORS
from app.features.imports.rows import shortened
from app.features.media.models import ASSETS, AssetStatus

#: Rows of one transaction: a picture may be that of every row of a file.
BATCH = 1000
MAX_VALUE_LENGTH = 200

WAITING = ImportImage.metadata.tables["import_images"]
_TARGET = ASSETS.alias("target")
_SETTLED = (AssetStatus.READY, AssetStatus.FAILED)


def wait_for(import_id: int, waiting: Sequence[tuple[int, int]]) -> None:
    """Note that rows, by their lines, wait for assets; in the transaction that has named these."""
    insert_unless_there(
        WAITING, [{"import_id": import_id, "line": line, "media_id": media_id} for line, media_id in waiting]
    )


def settle(media_ids: Collection[int]) -> bool:
    """Report on a batch of the rows that wait for these assets, which are locked; whether it was the last.

    A picture that turned out to be another is as that is. Of failures an import stores as faults what it has room for,
    and counts the others.
    """
    rows = _settled(media_ids)
    failed = [row for row in rows if row.status == AssetStatus.FAILED]
    columns = _columns_of({row.import_id for row in failed})
    for import_id, some in groupby(failed, key=lambda row: row.import_id):
        _fail(import_id, list(some), columns[import_id])
    if rows:
        keys = [(row.import_id, row.line, row.media_id) for row in rows]
        db.session.execute(delete(WAITING).where(tuple_(*WAITING.c).in_(keys)))
    return len(rows) < BATCH


def room_for_faults(import_id: int) -> int:
    """How many more faults an import stores; it is locked, so that no other transaction fills the room meanwhile."""
    db.session.execute(select(Import.id).where(Import.id == import_id).with_for_update(key_share=True))
    stored = select(func.count()).select_from(ImportFault).where(ImportFault.import_id == import_id)
    return max(0, MAX_ERRORS - db.session.execute(stored).scalar_one())


def _settled(media_ids: Collection[int]) -> Sequence[Row[Any]]:
    """The first of the rows whose pictures are ready or have failed, in the order of their imports and lines."""
    if not media_ids:
        return ()
    wanted = literal(sorted(media_ids), ValueList(big_integer))
    is_of_these = or_(is_one_of(ASSETS.c.id, wanted), is_one_of(ASSETS.c.merged_into_id, wanted))
    status, code, error = (func.coalesce(_TARGET.c[name], ASSETS.c[name]) for name in ("status", "error_code", "error"))
    columns = (
        *WAITING.c,
        func.coalesce(ASSETS.c.source_url, ASSETS.c.sha256).label("reference"),
        *(status.label("status"), code.label("code"), error.label("detail")),
    )
    rows = select(*columns).join(ASSETS, ASSETS.c.id == WAITING.c.media_id)
    rows = rows.outerjoin(_TARGET, _TARGET.c.id == ASSETS.c.merged_into_id).where(is_of_these, status.in_(_SETTLED))
    return db.session.execute(rows.order_by(WAITING.c.import_id, WAITING.c.line).limit(BATCH)).all()


def _columns_of(import_ids: Collection[int]) -> Mapping[int, str]:
    """The name of the column with the pictures in the file of each import."""
    if not import_ids:
        return {}
    orders = select(Import.id, Job.payload).join(Job, Job.id == Import.job_id).where(Import.id.in_(import_ids))
    maps = {row.id: row.payload.get("map", ()) for row in db.session.execute(orders)}
    return {import_id: Columns.parse(pairs).named.get(IMAGES, IMAGES) for import_id, pairs in maps.items()}


def _fail(import_id: int, rows: Sequence[Row[Any]], column: str) -> None:
    counted = {"images_failed": Import.images_failed + len(rows)}
    db.session.execute(update(Import).where(Import.id == import_id).values(counted))
    faults = [
        {
            "import_id": import_id,
            "line": row.line,
            "pointer": f"/{IMAGES}",
            "code": row.code,
            "detail": row.detail,
            "file_column": shortened(column),
            "value": shortened(row.reference, MAX_VALUE_LENGTH),
            "expected": None,
        }
        for row in rows[: room_for_faults(import_id)]
    ]
    if faults:
        db.session.execute(insert(ImportFault), faults)
