"""The job that follows a change of an attribute: what products are found by is made anew."""

from collections.abc import Generator

from sqlalchemy import select

from app.core import jobs
from app.core.jobs import Claim
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.attributes.models import Attribute
from app.features.products.indexing import rebuild_next


def index_attribute(claim: Claim) -> Generator[None, None, None]:
    """Make the index of values of an attribute anew, yielding after each batch of products."""
    after = claim.progress.get("after", 0)
    while True:
        with unit_of_work():
            jobs.confirm(claim, {"after": after} if after else {})
            code = db.session.scalar(select(Attribute.code).where(Attribute.id == claim.payload["attribute_id"]))
            rebuilt = rebuild_next(after, code=code) if code is not None else None
            if rebuilt is None:
                return
            jobs.advance(claim, {"after": rebuilt.last_id})
        after = rebuilt.last_id
        yield
