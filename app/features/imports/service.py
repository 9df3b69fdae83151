"""Use cases of imports: order one, follow it, cancel it; and save a chunk of its rows."""

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import contains_eager

from app.core import jobs
from app.core.audit import record_event
from app.core.changelog import record_in_log
from app.core.errors import Invalid, NotFound
from app.core.jobs import Job
from app.core.listing import Listing, OneOf
from app.core.pruning import delete_batch
from app.core.references import find_unknown_among
from app.extensions import db
from app.features.bulk import upserts
from app.features.bulk.upserts import Upserted
from app.features.exports.files import NAMES
from app.features.imports.filing import MAKERS, Brands, Shelf, Types
from app.features.imports.models import (
    FINISHED,
    FailedRows,
    Import,
    ImportChunk,
    ImportEnded,
    ImportFault,
    ImportFirstRow,
)
from app.features.imports.report import Report
from app.features.imports.rows import BadRow, Row
from app.features.products.keys import find_skus
from app.features.products.models import KEYS, Product, ProductIncomplete, SkuTaken
from app.security.identity import Identity
from app.security.permissions import Permission

#: The kind of an import's job.
KIND = "import"
#: Of a piece of a file in the database, in bytes.
CHUNK_SIZE = 512 * 1024
#: Imports that are pruned at once: each can have a thousand faults.
IMPORTS_PER_BATCH = 20

LISTING = Listing(
    filters={"status": OneOf(Job.status)},
    sorts={"created_at": Import.created_at, "id": Import.id},
    tie_breaker=Import.id,
)
FAULTS = Listing(sorts={"line": ImportFault.line, "id": ImportFault.id}, tie_breaker=ImportFault.id)


def visible_to(identity: Identity) -> Select[Import]:
    """The imports of ``identity``; for those who administer users, the imports of all."""
    rows = select(Import).join(Import.job).options(contains_eager(Import.job))
    return rows if identity.can(Permission.USERS_WRITE) else rows.where(Import.user_id == identity.user_id)


def get_import(import_id: int, *, identity: Identity) -> Import:
    """One import that ``identity`` may see."""
    found = db.session.scalar(visible_to(identity).where(Import.id == import_id))
    if found is None:
        raise NotFound
    return found


def get_failed_import(import_id: int, *, identity: Identity) -> Import:
    """One import that ``identity`` may see and in which rows failed."""
    found = get_import(import_id, identity=identity)
    if not found.report.failed:
        raise NotFound
    return found


def create_import(file: IO[bytes], *, size: int, options: Mapping[str, Any], identity: Identity) -> Import:
    """Keep a file, of ``size`` bytes, and order its import; ``options`` are how to read it.

    It makes the categories and brands that are not there, and fetches pictures, as far as ``identity`` may.
    """
    makes = [member for member, permission in MAKERS.items() if identity.can(permission)]
    job = jobs.enqueue(KIND, {**options, "makes": makes, "may_fetch": identity.can(Permission.MEDIA_WRITE)})
    ordered = Import(user_id=identity.user_id, size=size, job=job)
    db.session.add(ordered)
    db.session.flush()
    number = 0
    while content := file.read(CHUNK_SIZE):
        piece = {"import_id": ordered.id, "number": number, "content": content}
        db.session.execute(ImportChunk.metadata.tables["import_chunks"].insert(), piece)
        number += 1
    return ordered


def cancel_import(ordered: Import) -> Import:
    """Stop an import. What it has saved stays; what it is saving just now is undone."""
    if not jobs.cancel(ordered.job_id):
        raise ImportEnded
    record_event("import.cancelled", resource_type="import", resource_id=ordered.id)
    end_import(ordered.id)
    db.session.refresh(ordered.job)
    return ordered


def end_import(import_id: int) -> None:
    """Delete what only a running import needs, and record that it has finished.

    For the transaction that ends its job, with whatever status, which locks the job's row.
    """
    # It ends once, and has no version.
    record_in_log(Import, FINISHED, import_id, version=1, members=(), before={}, after={})
    for table in (ImportChunk, ImportFirstRow):
        db.session.execute(delete(table).where(table.import_id == import_id))


def retry_refusal(job_id: int) -> str | None:
    """Why the import of an ended job cannot be retried; None where its file is still there."""
    of_job = select(Import.id).where(Import.job_id == job_id).scalar_subquery()
    has_file = db.session.scalar(select(ImportChunk.number).where(ImportChunk.import_id == of_job).limit(1)) is not None
    return None if has_file else "Its file was deleted when it ended; send it again."


def prune_imports(*, before: datetime) -> int:
    """Delete a batch of the imports that ended before a moment; their number. What they made stays."""
    return delete_batch(Import, Import.job_id.in_(jobs.ended(before)), max_rows=IMPORTS_PER_BATCH)


def faults_of(ordered: Import) -> Select[ImportFault]:
    """What is wrong with the rows of an import, as far as it is stored."""
    return select(ImportFault).where(ImportFault.import_id == ordered.id)


def iter_failed_rows(import_id: int) -> Iterator[bytes]:
    """What was stored of the failed rows of an import, in the order of the file; each piece is a read of its own."""
    last = -1
    pieces = select(FailedRows.line, FailedRows.content).where(FailedRows.import_id == import_id)
    pieces = pieces.order_by(FailedRows.line).limit(1)
    while piece := db.session.execute(pieces.where(FailedRows.line > last)).one_or_none():
        yield piece.content
        last = piece.line


class KeyOfAnother(Invalid):
    """The product with the key of this row has another sku."""

    pointer = "/sku"


class SkuRepeated(Invalid):
    """A row before has this sku and another key."""

    pointer = "/sku"


@dataclass
class SavedChunk:
    """What became of a chunk, and which of its rows are left out; nothing of rows on lines that were reported."""

    reported: Collection[int] = ()
    report: Report = field(default_factory=Report)
    bad: list[BadRow] = field(default_factory=list)
    #: The lines of rows, and the assets of pictures that each waits for.
    waiting: list[tuple[int, int]] = field(default_factory=list)

    def leave_out(self, row: Row, refusal: Invalid) -> None:
        """Leave a row out, for what a refusal says."""
        if row.line not in self.reported:
            self.bad.append(BadRow.of_faults(row.line, refusal.faults, row.source))

    def count(self, row: Row, became: Upserted) -> None:
        """Count a row that is saved."""
        if row.line not in self.reported:
            self.report.count(became, row.values)
            self.waiting += [(row.line, media_id) for media_id in became.pending]


@dataclass(frozen=True)
class _Filing:
    """Where the rows of a chunk belong: their categories, brands and types."""

    shelf: Shelf
    brands: Brands
    types: Types

    def can_take(self, row: Row, chunk: SavedChunk) -> bool:
        """Whether a row says which ones it means, or means none, and all can be had; others are left out."""
        try:
            for each in (self.shelf, self.brands, self.types):
                each.refuse(row.values)
        except Invalid as refusal:
            chunk.leave_out(row, refusal)
            return False
        return True

    def members_of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The members of a product that a row states."""
        members = {name: value for name, value in values.items() if name not in NAMES.values()}
        category_id = self.shelf.id_for(values)
        filed = {} if category_id is None else {"category_id": category_id}
        return members | filed | self.brands.members_for(values) | self.types.members_for(values)


def save_chunk(
    rows: Sequence[Row],
    *,
    key: str,
    defaults: Mapping[str, Any],
    makes: Collection[str] = tuple(MAKERS),
    may_fetch: bool = True,
    reported: Collection[int] = (),
) -> SavedChunk:
    """Upsert valid rows by their key, of which no two have the same, in the caller's transaction.

    A new product takes ``defaults`` for what its row does not state. A category or brand that is named and not there is
    made, with all of a category's path, where it is among what the import ``makes``; the URL of a picture is fetched in
    the background, but not without ``may_fetch``. A row is left out, and no other
    with it, that has an unknown reference, such as a category_id that is not there, a name that several categories
    have, or values that the upsert refuses. Rows on lines that were ``reported`` are there for their variants alone.
    """
    chunk = SavedChunk(reported)
    rows = _known_rows(rows, chunk) if key == "sku" else _with_skus(_known_rows(rows, chunk), key, chunk)
    shelf, brands = Shelf(rows, may_make="category" in makes), Brands(rows, may_make="brand" in makes)
    filing = _Filing(shelf, brands, Types(rows))
    rows = [row for row in rows if filing.can_take(row, chunk)]
    if rows:
        _upsert(rows, filing, chunk, defaults=defaults, may_fetch=may_fetch)
    return chunk


def _upsert(rows: Sequence[Row], filing: _Filing, chunk: SavedChunk, **how: Any) -> None:
    """Make or change the product of each row, or leave it out where that is refused."""
    chunk.report.made_categories = dict.fromkeys(filing.shelf.make_missing(rows))
    chunk.report.made_brands = dict.fromkeys(filing.brands.make_missing(rows))
    upserted = upserts.upsert_products((filing.members_of(row.values) for row in rows), **how)
    for row in rows:
        became = upserted[row.values["sku"]]
        if isinstance(became, Invalid):
            chunk.leave_out(row, became)
        else:
            chunk.count(row, became)


def _known_rows(rows: Sequence[Row], chunk: SavedChunk) -> list[Row]:
    """The rows whose references are known; what these refer to stays until the transaction ends."""
    unknown = find_unknown_among(Product, {index: _stated(row.values) for index, row in enumerate(rows)})
    for index, reference in unknown.items():
        chunk.leave_out(rows[index], reference.unknown())
    return [row for index, row in enumerate(rows) if index not in unknown]


def _stated(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a row states. The name of a category or a brand overrules its id, which is another catalogue's perhaps."""
    return {name: value for name, value in values.items() if NAMES.get(name) not in values}


def _with_skus(rows: Sequence[Row], key: str, chunk: SavedChunk) -> list[Row]:
    """The rows, each with the sku of the product that has its key, or with its own if there is no such product."""
    normalize = KEYS[key].normalize
    skus = find_skus(key, {row.values[key] for row in rows})
    taken = find_skus("sku", {row.values["sku"] for row in rows if "sku" in row.values})
    seen: set[str] = set()
    known: list[Row] = []
    for row in rows:
        own, found = row.values.get("sku"), skus.get(normalize(row.values[key]))
        if refusal := _refusal_of_sku(own, found, taken, seen):
            chunk.leave_out(row, refusal)
        else:
            sku = str(found or own)
            seen.add(sku)
            known.append(Row(row.line, {**row.values, "sku": sku}, row.source))
    return known


def _refusal_of_sku(own: str | None, found: str | None, taken: Container[str], seen: Container[str]) -> Invalid | None:
    if found is None and own is None:
        return ProductIncomplete.at("sku")
    if found is not None and own not in {None, found}:
        return KeyOfAnother()
    if found is None and own in taken:
        return Invalid.because(SkuTaken, "sku")
    return SkuRepeated() if (found or own) in seen else None
