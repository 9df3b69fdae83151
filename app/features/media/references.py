"""Pictures that the rows of files and the items of batches name, by SHA-256 or by URL: found, and added, many at once.

A SHA-256 names an asset that is there. A URL names the copy of what is at it, which a worker fetches unless that has
been done; one that has failed is tried again. `receiving` does the same for one URL.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, case, func, literal, null, or_, select, update

from app.core import clock, jobs
from app.core.changes import record_write
from app.core.errors import Fault, Invalid
from app.core.membership import ValueList, among, is_one_of
from app.core.model import big_integer
from app.core.upserts import insert_unless_there
from app.extensions import db
from app.features.media.models import ASSETS, SHOWN, Asset, AssetStatus, Keep, MediaBusy, MediaUnknown
from app.security.permissions import Permission

#: The kind of the job that fetches and renders a picture.
KIND = "media"
#: The store may be away for an hour.
MAX_ATTEMPTS = 20

is_digest = re.compile("[0-9a-f]{64}").fullmatch
_TARGET = ASSETS.alias("target")


def job_key(media_id: int) -> str:
    """What the job of an asset is called among the open jobs."""
    return f"media:{media_id}"


def new_columns(now: datetime) -> Mapping[str, Any]:
    """The columns of a new row that are no content."""
    return {
        "keep": Keep.COPY,
        "is_animated": False,
        "sources": [],
        "used_at": now,
        "is_settled": True,
        "created_at": now,
        "updated_at": now,
        "version": 1,
    }


@dataclass(frozen=True)
class _Named:
    """The asset that is shown for a reference, as it is locked; without an id there is none."""

    media_id: int | None = None
    status: AssetStatus | None = None
    is_deleted: bool = False

    @property
    def is_there(self) -> bool:
        """Whether there is one that clients see."""
        return self.media_id is not None and not self.is_deleted

    @property
    def is_stale(self) -> bool:
        """Whether it has to be begun again, or brought back."""
        return self.is_deleted or self.status == AssetStatus.FAILED


class References:
    """Some references and the assets that stand for them, locked against deletion; for one transaction.

    Three statements, or four, however many there are. Without ``may_fetch`` no URL makes an asset, and none is tried
    again.
    """

    def __init__(self, references: Collection[str], *, may_fetch: bool) -> None:
        self._may_fetch = may_fetch
        self._named: dict[str, _Named] = _find(references) if references else {}

    def require(self, reference: str, pointer: str) -> None:
        """Raise the refusal of a reference that names nothing, or what is just being deleted."""
        named = self._named[reference]
        if named.status == AssetStatus.REMOVING:
            raise Invalid.because(MediaBusy, pointer)
        if is_digest(reference) and not named.is_there:
            raise MediaUnknown.at(pointer)
        if not self._may_fetch and not named.is_there:
            sentence = f"There is no such media, and fetching it needs the permission {Permission.MEDIA_WRITE}."
            raise Invalid(Fault(sentence, MediaUnknown.code(), pointer=f"/{pointer}"))

    def id_of(self, reference: str) -> int | None:
        """The id of the asset; None for a URL that has none yet."""
        return self._named[reference].media_id

    def is_pending(self, reference: str) -> bool:
        """Whether the asset is being fetched or rendered."""
        return self._named[reference].status == AssetStatus.PROCESSING

    def is_ready(self, reference: str) -> bool:
        """Whether the asset can be shown."""
        return self._named[reference].status == AssetStatus.READY

    def add(self, references: Iterable[str]) -> None:
        """Make the assets of URLs that have none, and begin those that have failed; workers fetch them.

        Raises ``MediaBusy`` where another transaction is in the way.
        """
        if not self._may_fetch:
            return
        wanted, now = sorted(set(references)), clock.now()
        new = self._insert([each for each in wanted if self._named[each].media_id is None], now)
        begun = self._begin([each for each in wanted if self._named[each].is_stale and not is_digest(each)], now)
        jobs.enqueue_all(
            KIND, {job_key(each): {"media_id": each} for each in (*new, *begun)}, max_attempts=MAX_ATTEMPTS
        )

    def _insert(self, urls: list[str], now: datetime) -> list[int]:
        """Make the assets of URLs, which are in the order of all transactions; their ids."""
        values = {**new_columns(now), "status": AssetStatus.PROCESSING}
        inserted = insert_unless_there(ASSETS, [{**values, "source_url": url} for url in urls], *ASSETS.c)
        made = [] if inserted is None else inserted.mappings().all()
        for row in made:
            record_write(Asset, before=None, after=dict(row), members=ASSETS.c.keys())
            self._named[row["source_url"]] = _Named(row["id"], AssetStatus.PROCESSING)
        # Another transaction has made these since they were looked for.
        if late := {*urls} - {row["source_url"] for row in made}:
            self._named |= _find(late)
            if any(not self._named[url].is_there or self._named[url].is_stale for url in late):
                raise MediaBusy
        return [row["id"] for row in made]

    def _begin(self, urls: list[str], now: datetime) -> list[int]:
        """Process those again that have failed, and bring back what was deleted; the ids of what is processed."""
        by_id: dict[int, list[str]] = {}
        for url in urls:
            by_id.setdefault(self._named[url].media_id or 0, []).append(url)
        if not by_id:
            return []
        is_it = is_one_of(ASSETS.c.id, literal(sorted(by_id), ValueList(big_integer)))
        before = {row["id"]: row for row in db.session.execute(select(ASSETS).where(is_it)).mappings()}
        values = {
            "status": case((ASSETS.c.status == AssetStatus.FAILED, AssetStatus.PROCESSING), else_=ASSETS.c.status),
            **dict.fromkeys(("error_code", "error", "deleted_at"), null()),
            "used_at": now,
            "updated_at": now,
            "version": ASSETS.c.version + 1,
        }
        begun = db.session.execute(update(ASSETS).where(is_it).values(values).returning(ASSETS)).mappings().all()
        for row in begun:
            there = before[row["id"]]
            members = [name for name in ("status", "error_code", "error", "deleted_at") if row[name] != there[name]]
            record_write(Asset, before=dict(there), after=dict(row), members=members)
            for url in by_id[row["id"]]:
                self._named[url] = _Named(row["id"], AssetStatus(row["status"]))
        return [row["id"] for row in begun if row["status"] == AssetStatus.PROCESSING]


def _find(references: Collection[str]) -> dict[str, _Named]:
    """The assets that stand for references, locked in the order of their ids; what is to be written more strongly."""
    digests = {each for each in references if is_digest(each)}
    found = db.session.execute(_select(digests, set(references) - digests)).all()
    ids = {row.id for row in found}
    _lock({row.id for row in found if _is_stale(row)}, read=False)
    locked = _lock(ids, read=True)
    named = dict.fromkeys(references, _Named())
    for row in found:
        asset = locked.get(row.id)
        if asset is None or asset.status not in {*SHOWN, AssetStatus.REMOVING}:
            continue
        for reference in {row.sha256, row.source_url} & named.keys():
            named[reference] = _Named(asset.id, AssetStatus(asset.status), asset.deleted_at is not None)
    return named


def _select(digests: Collection[str], urls: Collection[str]) -> Select[Any]:
    """The assets of references, each as the one that it was merged into."""
    is_copy = and_(among(ASSETS.c.source_url, urls), ASSETS.c.keep == Keep.COPY)
    is_content = and_(among(ASSETS.c.sha256, digests), ASSETS.c.merged_into_id.is_(None))
    columns = [func.coalesce(_TARGET.c[name], ASSETS.c[name]).label(name) for name in ("id", "status", "deleted_at")]
    rows = select(ASSETS.c.sha256, ASSETS.c.source_url, *columns)
    rows = rows.outerjoin_from(ASSETS, _TARGET, _TARGET.c.id == ASSETS.c.merged_into_id)
    return rows.where(or_(is_copy, is_content))


def _is_stale(row: Any) -> bool:
    return row.status == AssetStatus.FAILED or row.deleted_at is not None


def _lock(media_ids: Collection[int], *, read: bool) -> dict[int, Any]:
    if not media_ids:
        return {}
    columns = (ASSETS.c.id, ASSETS.c.status, ASSETS.c.deleted_at)
    is_it = is_one_of(ASSETS.c.id, literal(sorted(media_ids), ValueList(big_integer)))
    rows = select(*columns).where(is_it).order_by(ASSETS.c.id).with_for_update(read=read, key_share=not read)
    return {row.id: row for row in db.session.execute(rows)}
