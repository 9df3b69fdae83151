"""The bases of every schema: strict bodies, answers, and the query strings of lists."""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import marshmallow as ma

from app.web import fields

Made = TypeVar("Made", bound=ma.Schema)


class Schema(ma.Schema):
    """A schema of an answer."""

    error_messages = {
        "unknown": fields.Message("unknown_field", "There is no such field here, or it is not yours to set."),
        "type": fields.Message("not_an_object", "Not an object."),
    }


@cache
def shared(schema: type[Made]) -> Made:
    """The one instance of a schema class: making one copies every field, and none keeps state between calls."""
    return schema()


class BodySchema(Schema):
    """A schema of a request body: what it does not name is refused."""

    class Meta:
        """Strict."""

        unknown = ma.RAISE


class QuerySchema(Schema):
    """A schema of a query string: what it does not name is refused."""

    error_messages = {"unknown": fields.Message("unknown_parameter", "There is no such parameter here.")}

    class Meta:
        """Strict."""

        unknown = ma.RAISE


class ListQuerySchema(QuerySchema):
    """What every collection takes; a subclass adds ``sort_by`` and its filters under the names of its `Listing`.

    A ``page`` and a ``cursor`` exclude each other; an empty cursor starts a walk.
    """

    page = fields.QueryInteger(
        least=1, most=2**31 - 1, note="The number of the page, from 1. Not together with `cursor`."
    )
    cursor = fields.Text(
        least=0,
        most=1000,
        pattern=r"^[A-Za-z0-9._-]*$",
        note="An opaque position from `meta.next_cursor`; empty starts a walk. Not together with `page`.",
    )
    per_page = fields.QueryInteger(least=1, most=100, load_default=20, note="How many items a page has.")
    order = fields.Choice(["asc", "desc"], note="The direction of `sort_by`.")
    fields_ = fields.Text(
        most=500,
        pattern=r"^[a-z_]+(,[a-z_]+)*$",
        data_key="fields",
        attribute="fields",
        note="The members to keep of each item, separated by commas.",
        example="id,name",
    )

    @ma.validates_schema
    def _refuse_page_with_cursor(self, data: Mapping[str, Any], **_: Any) -> None:
        if "page" in data and "cursor" in data:
            message = fields.Message("page_and_cursor", "Give either a page or a cursor.")
            raise ma.ValidationError([message], "cursor")


class SearchSchema(QuerySchema):
    """What whatever can be searched takes."""

    search = fields.Text(most=200, note="Words that an item must contain, in any order.")


class SearchQuerySchema(ListQuerySchema, SearchSchema):
    """What a collection takes whose `Listing` can be searched."""
