"""Wire shapes of search terms."""

from typing import Any

from app.features.search_terms.models import MAX_TERM_LENGTH
from app.features.search_terms.service import LISTING
from app.web import fields
from app.web.schemas import ListQuerySchema, Order, Schema

WEEK: dict[str, Any] = {"max_length": 8, "pattern": r"^[0-9]{4}-W[0-9]{2}$", "example": "2026-W05"}


class SearchTermSchema(Schema):
    """How often the words of a term were searched for in a week, in the order in which they were written."""

    id = fields.Integer(dump_only=True, example=7)
    week = fields.Text(dump_only=True, note="ISO 8601, in UTC.", **WEEK)
    term = fields.Text(dump_only=True, max_length=MAX_TERM_LENGTH, example="oak chair")
    searches = fields.Integer(minimum=1, dump_only=True, example=31)
    empty_searches = fields.Integer(
        minimum=0, dump_only=True, note="Those that found nothing, and had no other filter.", example=4
    )


class SearchTermQuerySchema(ListQuerySchema):
    """Filters and sorting of search terms; by default the most frequent first."""

    sort_by = fields.Choice(list(LISTING.sorts), name="SearchTermSort", load_default="searches")
    order = fields.Choice(Order, load_default="desc")
    week = fields.Values(fields.Text(**WEEK))
    results = fields.QueryInteger(
        minimum=0, maximum=0, note="With 0, the terms for which nothing was found at least once."
    )
