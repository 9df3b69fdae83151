"""The bases of all schemas: strict bodies, responses, and the query strings of lists."""

from collections.abc import Collection, Container, Mapping, Sequence
from enum import StrEnum
from functools import cache, cached_property
from itertools import islice
from typing import Any, ClassVar, TypeVar

import marshmallow as ma

from app.core.errors import MAX_FAULTS
from app.core.listing import RELEVANCE
from app.web import fields
from app.web.parameter_groups import ParameterGroup, Repeatable, gather
from app.web.query import Others


class Order(StrEnum):
    """The direction in which a list is sorted."""

    ASCENDING = "asc"
    DESCENDING = "desc"


Made = TypeVar("Made", bound=ma.Schema)
_REQUIRED = object()


class Schema(ma.Schema):
    """A schema of a response."""

    error_messages = {
        "unknown": fields.Message("unknown_field", "There is no such field here, or it cannot be set."),
        "type": fields.Message("not_an_object", "Not an object."),
    }


@cache
def shared(schema: type[Made]) -> Made:
    """The one instance of a schema class, for all threads: an instance is expensive, and has no state between calls."""
    return schema()


class StrictSchema(Schema):
    """A schema of input: it refuses unknown members."""

    class Meta:
        """Refuse unknown members."""

        unknown = ma.RAISE

    def load(self, data: Any, **options: Any) -> Any:
        """The loaded values of ``data``; raises marshmallow's ``ValidationError``."""
        return super().load(self._with_few_unknown(data), **options)

    def _with_few_unknown(self, data: Any) -> Any:
        """``data`` with at most MAX_FAULTS unknown members, because each costs marshmallow microseconds."""
        if not isinstance(data, dict) or len(data) <= MAX_FAULTS:
            return data
        names = {field.data_key or name for name, field in self.load_fields.items()}
        unknown = ((name, value) for name, value in data.items() if name not in names)
        return {name: data[name] for name in names if name in data} | dict(islice(unknown, MAX_FAULTS))


class BodySchema(StrictSchema):
    """A schema of a request body."""

    #: Members that the example of a body leaves out: with a key that is unique, it would succeed only once.
    NOT_IN_EXAMPLE: Collection[str] = ()

    def load(self, data: Any, **options: Any) -> Any:
        """The loaded values of a body, as marshmallow returns them; raises its ``ValidationError``."""
        if not options:
            loaded, fault = self.load_until_fault(data)
            if fault is None:
                return loaded
        return super().load(data, **options)

    def load_until_fault(self, data: Any) -> tuple[dict[str, Any], Any]:
        """The loaded values of a body up to its first fault, and marshmallow's messages of that fault, or None.

        It calls each field as marshmallow does, in a fifth of the time: an import loads a body per row.
        """
        if self._plan is None:
            return self.load_with_faults(data)
        if not isinstance(data, dict):
            return {}, [self.error_messages["type"]]
        loaded: dict[str, Any] = {}
        unknown, name = len(data), ""
        try:
            for name, attribute, field, default in self._plan:
                if name in data:
                    unknown -= 1
                    loaded[attribute] = field.read(data[name], name)
                elif default is _REQUIRED:
                    raise field.make_error("required")
                elif default is not ma.missing:
                    loaded[attribute] = default() if callable(default) else default
        except ma.ValidationError as error:
            return loaded, {name: error.messages}
        if unknown:
            names = {name for name, *_ in self._plan}
            return loaded, {next(name for name in data if name not in names): [self.error_messages["unknown"]]}
        return loaded, None

    def load_with_faults(self, data: Any) -> tuple[dict[str, Any], Any]:
        """The valid values of a body, and marshmallow's messages of all its faults, or None."""
        try:
            return super().load(data), None
        except ma.ValidationError as error:
            return error.valid_data if isinstance(error.valid_data, dict) else {}, error.messages

    @cached_property
    def _plan(self) -> Sequence[tuple[str, str, fields.Field, Any]] | None:
        """For each field: its name in the body, its name in the loaded values, the field, and its default.

        None for a schema with hooks or validators, which only marshmallow runs.
        """
        if any(self._hooks.values()):
            return None
        plan = []
        for name, field in self.load_fields.items():
            if not isinstance(field, fields.Field) or field.validators or field.pre_load or field.post_load:
                return None
            is_optional = self.partial is True or (self.partial and name in self.partial)
            default = ma.missing if is_optional else _REQUIRED if field.required else field.load_default
            plan.append((field.data_key or name, field.attribute or name, field, default))
        return plan


class FormSchema(BodySchema):
    """A form of a protocol such as OAuth 2, whose clients may send more than is known here: that is ignored."""

    class Meta:
        """Ignore unknown parameters."""

        unknown = ma.EXCLUDE

    def load(self, data: Any, **options: Any) -> Any:
        """The loaded values of a form; raises marshmallow's ``ValidationError``."""
        return super(BodySchema, self).load(data, **options)


class ListBodySchema(BodySchema):
    """A body that is a list; a subclass has one field, ``items``, which loads it."""

    error_messages = {"type": fields.Message("not_a_list", "Not a list.")}

    def load(self, data: Any, **options: Any) -> Any:
        """The items under their name; raises marshmallow's ``ValidationError`` with its messages by their index."""
        if not isinstance(data, list):
            raise ma.ValidationError([self.error_messages["type"]])
        try:
            return super().load({"items": data}, **options)
        except ma.ValidationError as error:
            raise ma.ValidationError(error.messages_dict["items"]) from None


class StatedSchema(BodySchema):
    """A body of which only the stated members count: the fields that it inherits lose their defaults.

    For what may change a row that exists, where the default of a new row would reset the value of the row.
    marshmallow's ``partial`` would need a list of members, to be extended with each field.
    """

    def on_bind_field(self, _field_name: str, field_obj: ma.fields.Field[Any]) -> None:
        """Take the default of a field away; each instance of a schema has fields of its own."""
        field_obj.load_default = ma.missing


class PatchSchema(StatedSchema):
    """A body that states what changes: of the fields that it inherits, only those in ``REQUIRED`` are required."""

    REQUIRED: ClassVar[Collection[str]] = ()

    def on_bind_field(self, field_name: str, field_obj: ma.fields.Field[Any]) -> None:
        """Make a field optional."""
        super().on_bind_field(field_name, field_obj)
        field_obj.required = field_name in self.REQUIRED


class QuerySchema(StrictSchema):
    """A schema of a query string."""

    error_messages = {"unknown": fields.Message("unknown_parameter", "There is no such parameter here.")}

    def load(self, data: Any, **options: Any) -> Any:
        """The loaded values of the parameters; raises marshmallow's ``ValidationError``."""
        return super().load(gather(data, self._groups) if self._groups else data, **options)

    @cached_property
    def _groups(self) -> Sequence[str]:
        return [name for name, field in self.load_fields.items() if isinstance(field, ParameterGroup)]


class ProtocolQuerySchema(QuerySchema):
    """A query string of a protocol such as OAuth 2, whose parties may send more than is known here: that is ignored."""

    class Meta:
        """Ignore unknown parameters."""

        unknown = ma.EXCLUDE


@cache
def repeatable_parameters(schema: type[QuerySchema]) -> Container[str]:
    """The names of the parameters that take several values, so that each may be repeated."""
    declared = shared(schema).fields.items()
    if issubclass(schema, ProtocolQuerySchema):
        return Others(frozenset(shared(schema).fields))
    names = frozenset(field.data_key or name for name, field in declared if isinstance(field, fields.Values))
    return Repeatable(names, tuple(f"{name}." for name, field in declared if isinstance(field, ParameterGroup)))


class ListQuerySchema(QuerySchema):
    """The parameters of every collection; a subclass adds ``sort_by`` and its filters, named as in its `Listing`.

    ``page`` and ``cursor`` exclude each other; an empty cursor begins keyset pagination.
    """

    page = fields.QueryInteger(
        minimum=1, maximum=2**31 - 1, note="The number of the page, from 1. Not together with `cursor`."
    )
    cursor = fields.Text(
        min_length=0,
        max_length=1000,
        pattern=r"^[A-Za-z0-9._-]*$",
        note="An opaque position from `meta.next_cursor`; empty for the first page. Not together with `page`.",
    )
    per_page = fields.QueryInteger(
        minimum=1, maximum=100, load_default=20, note="The maximum number of items per page."
    )
    order = fields.Choice(Order, note="The direction of `sort_by`.")
    fields_ = fields.Text(
        max_length=500,
        pattern=r"^[a-z_]+(\.[a-z_]+)?(,[a-z_]+(\.[a-z_]+)?)*$",
        data_key="fields",
        attribute="fields",
        note="The members of each item to return, separated by commas.",
        example="id,name",
    )

    @ma.validates_schema
    def _refuse_page_with_cursor(self, data: Mapping[str, Any], **_: Any) -> None:
        if "page" in data and "cursor" in data:
            message = fields.Message("page_and_cursor", "A page and a cursor exclude each other.")
            raise ma.ValidationError([message], "cursor")


class RankedQuerySchema(ListQuerySchema):
    """The parameters of a collection whose `Listing` can sort by relevance; a subclass adds ``search``."""

    NOTE = (
        "What the items are sorted by. `relevance` needs a `search`, and no `cursor`; it ranks at most 10,000 products."
    )

    @ma.validates_schema
    def _refuse_relevance_without_search(self, data: Mapping[str, Any], **_: Any) -> None:
        if data.get("sort_by") == RELEVANCE and ("search" not in data or "cursor" in data):
            message = fields.Message(
                "relevance_unknown", "Sorting by relevance needs a search, and numbered pages instead of a cursor."
            )
            raise ma.ValidationError([message], "sort_by")


class SearchQuerySchema(ListQuerySchema):
    """The parameters of a collection whose `Listing` can be searched."""

    search = fields.Text(max_length=200, note="Words that an item must contain, in any order.")
