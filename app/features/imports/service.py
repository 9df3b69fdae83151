"""Use cases of imports: order one, follow it, cancel it; and save a chunk of its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import contains_eager

from app.core import jobs
from app.core.audit import record_event
from app.core.errors import Invalid, NotFound
from app.core.jobs import Job
from app.core.listing import Listing, OneOf
from app.core.pruning import delete_batch
from app.core.references import find_unknown_among
from app.extensions import db
from app.features.imports.models import (
    BadRow,
    CategoryAmbiguous,
    Import,
    ImportChunk,
    ImportEnded,
    ImportFault,
    ImportSku,
    Report,
    Row,
)
from app.features.imports.named import Brands, Shelf
from app.features.products import bulk
from app.features.products.files import NAMES
from app.features.products.models import DEFAULTS, Product
from app.security.identity import Identity
from app.security.permissions import Permission

#: The kind of an import's job.
KIND = "import"
#: Of a piece of a file in the database, in bytes.
CHUNK_SIZE = 512 * 1024
#: Rows of one sku that are tried, one after the other, until one is good: each costs the chunk some statements.
MAX_ROUNDS = 5
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


def create_import(file: IO[bytes], *, size: int, reading: Mapping[str, Any], identity: Identity) -> Import:
    """Keep a file, of ``size`` bytes, and order its import; ``reading`` is how to read it."""
    ordered = Import(user_id=identity.user_id, size=size, job=jobs.enqueue(KIND, dict(reading)))
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
    clear_away(ordered.id)
    db.session.refresh(ordered.job)
    return ordered


def clear_away(import_id: int) -> None:
    """Delete what only a running import needs."""
    for table in (ImportChunk, ImportSku):
        db.session.execute(delete(table).where(table.import_id == import_id))


def prune_imports(*, before: datetime) -> int:
    """Delete a batch of the imports that ended before a moment; their number. What they made stays."""
    return delete_batch(Import, Import.job_id.in_(jobs.ended(before)), max_rows=IMPORTS_PER_BATCH)


def faults_of(ordered: Import) -> Select[ImportFault]:
    """What is wrong with the rows of an import, as far as it is stored."""
    return select(ImportFault).where(ImportFault.import_id == ordered.id)


@dataclass
class SavedChunk:
    """What became of a chunk, and the name of the category of each product in it, by sku."""

    report: Report
    filed: dict[str, str] = field(default_factory=dict)


def save_chunk(rows: Sequence[Row], *, seen: Mapping[str, str], currency: str) -> SavedChunk:
    """Upsert valid rows by sku, in the caller's transaction.

    ``seen`` has the category's name of each product that an earlier chunk of the file had; a new product whose row
    states no currency gets ``currency``. Of rows with the same sku the first good one makes the product, and the others
    are merged; after ``MAX_ROUNDS`` bad ones all others fail as the last of these. A category or brand that is named
    and not there is made, a category as a root. A row fails, and no other with it, that has an unknown reference, such
    as a category_id that is not there, a name that several categories have, or values that the upsert refuses.
    """
    chunk = SavedChunk(Report(last_line=rows[-1].line))
    known = _known_rows(rows, chunk.report)
    shelf, brands = Shelf(known), Brands(known)
    left = [row for row in known if _has_one_category(row, shelf, chunk.report)]
    refused: dict[str, Invalid] = {}
    for _ in range(MAX_ROUNDS):
        # The first row of each sku; one after it is merged, or makes the product where the upsert refuses the first.
        left = [row for row in left if not _is_merged(row, shelf, seen, chunk)]
        first = {row.values["sku"]: row for row in reversed(left)}
        kept = [row for row in left if first[row.values["sku"]] is row]
        if not kept:
            return chunk
        refused = _upsert(kept, shelf, brands, chunk, currency=currency)
        left = [row for row in left if first[row.values["sku"]] is not row]
    for row in left:
        if not _is_merged(row, shelf, seen, chunk):
            chunk.report.fail(BadRow.of_faults(row.line, refused[row.values["sku"]].faults))
    return chunk


def _upsert(
    rows: Sequence[Row], shelf: Shelf, brands: Brands, chunk: SavedChunk, *, currency: str
) -> dict[str, Invalid]:
    """Make or change the product of each row, or report why it is refused; the refusals, by sku."""
    chunk.report.made_categories |= dict.fromkeys(shelf.make_missing(rows))
    chunk.report.made_brands |= dict.fromkeys(brands.make_missing(rows))
    defaults = {**DEFAULTS, "currency": currency}
    upserted = bulk.upsert_products((_members(row.values, shelf, brands) for row in rows), defaults=defaults)
    for row in rows:
        sku = row.values["sku"]
        became = upserted[sku]
        if isinstance(became, Invalid):
            chunk.report.fail(BadRow.of_faults(row.line, became.faults))
        else:
            chunk.filed[sku] = shelf.name_for(row.values)
            _count(chunk.report, became.effect)
    return {sku: became for sku, became in upserted.items() if isinstance(became, Invalid)}


def _known_rows(rows: Sequence[Row], report: Report) -> list[Row]:
    """The rows whose references are known; what these refer to stays until the transaction ends. The others fail."""
    unknown = find_unknown_among(Product, {index: _stated(row.values) for index, row in enumerate(rows)})
    for index, reference in unknown.items():
        report.fail(BadRow.of_faults(rows[index].line, reference.unknown().faults))
    return [row for index, row in enumerate(rows) if index not in unknown]


def _stated(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a row states. The name of a category or a brand overrules its id, which is another catalogue's perhaps."""
    return {name: value for name, value in values.items() if NAMES.get(name) not in values}


def _has_one_category(row: Row, shelf: Shelf, report: Report) -> bool:
    """Whether a row says which category it means; one that does not fails."""
    try:
        shelf.name_for(row.values)
    except CategoryAmbiguous as refusal:
        report.fail(BadRow.of_faults(row.line, refusal.faults))
        return False
    return True


def _is_merged(row: Row, shelf: Shelf, seen: Mapping[str, str], chunk: SavedChunk) -> bool:
    """Whether a row before made or changed the product of this one, which is counted then."""
    sku, name = row.values["sku"], shelf.name_for(row.values)
    first = seen.get(sku) or chunk.filed.get(sku)
    if first is None:
        return False
    chunk.report.merged += 1
    if name != first:
        chunk.report.kept_categories[first, name] += 1
    return True


def _members(values: Mapping[str, Any], shelf: Shelf, brands: Brands) -> dict[str, Any]:
    members = {name: value for name, value in values.items() if name not in NAMES.values()}
    return members | {"category_id": shelf.id_for(values)} | brands.members_for(values)


def _count(report: Report, effect: bulk.Effect) -> None:
    match effect:
        case bulk.Effect.CREATED:
            report.created += 1
        case bulk.Effect.UPDATED:
            report.updated += 1
        case bulk.Effect.UNCHANGED:
            report.unchanged += 1
