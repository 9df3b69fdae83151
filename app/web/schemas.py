"""The bases of every schema: strict bodies, answers, and the query strings of lists."""

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Any, TypeVar

import marshmallow as ma

from app.core.listing import RELEVANCE
from app.web import fields

Made = TypeVar("Made", bound=ma.Schema)
_REQUIRED = object()


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

    def load(self, data: Any, **options: Any) -> Any:
        """The values of a body, as marshmallow loads them; raises its ``ValidationError``."""
        loaded = None if options else self._load_right(data)
        return super().load(data, **options) if loaded is None else loaded

    def _load_right(self, data: Any) -> dict[str, Any] | None:
        """The values of a body that is right; None of any other, whose faults marshmallow is to find.

        It asks each field what marshmallow asks it, in a fifth of the time: an import has a body in each row.
        """
        if self._plan is None or not isinstance(data, dict):
            return None
        loaded, left = {}, len(data)
        try:
            for name, attribute, field, default in self._plan:
                if name in data:
                    left -= 1
                    loaded[attribute] = field.read(data[name], name)
                elif default is _REQUIRED:
                    return None
                elif default is not ma.missing:
                    loaded[attribute] = default() if callable(default) else default
        except ma.ValidationError:
            return None
        return None if left else loaded

    @cached_property
    def _plan(self) -> Sequence[tuple[str, str, fields.Field, Any]] | None:
        """The fields with their names in the body and outside, and what stands for one that is missing.

        None where marshmallow has more to do than to ask each field.
        """
        if any(self._hooks.values()):
            return None
        plan = []
        for name, field in self.load_fields.items():
            if not isinstance(field, fields.Field) or field.validators or field.pre_load or field.post_load:
                return None
            may_lack = self.partial is True or (self.partial and name in self.partial)
            default = ma.missing if may_lack else _REQUIRED if field.required else field.load_default
            plan.append((field.data_key or name, field.attribute or name, field, default))
        return plan


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


class RankedQuerySchema(ListQuerySchema):
    """What a collection takes whose `Listing` tells the relevance of a row; a subclass adds ``search``."""

    NOTE = "`relevance` needs a `search`, and no `cursor`; of more products than 10,000 it ranks as many."

    @ma.validates_schema
    def _refuse_relevance_of_nothing(self, data: Mapping[str, Any], **_: Any) -> None:
        if data.get("sort_by") == RELEVANCE and ("search" not in data or "cursor" in data):
            message = fields.Message("relevance_unknown", "Relevance is told of numbered pages of a search only.")
            raise ma.ValidationError([message], "sort_by")


class SearchQuerySchema(ListQuerySchema):
    """What a collection takes whose `Listing` can be searched."""

    search = fields.Text(most=200, note="Words that an item must contain, in any order.")
