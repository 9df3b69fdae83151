"""The published resources: the kinds of rows in the change feed, who may read them, and their schemas.

`app/api/resources.py` has the table, one line each. The feed and the OpenAPI document read it from here.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import marshmallow as ma
from flask import Flask, current_app
from sqlalchemy import Select, literal
from sqlalchemy.orm import InstrumentedAttribute

from app.core.changelog import Announced
from app.core.fastsql import find_rows, public_columns
from app.core.membership import ValueList, is_one_of
from app.core.model import big_integer
from app.core.reads import extent_of, kind_of, stating
from app.core.topics import scope_of
from app.core.transactions import run
from app.extensions import Model, db
from app.security.identity import Identity
from app.security.permissions import Permission
from app.web.kinds import OfKind, Refer


class ResourceMissing(Exception):
    """A model is `Published` or `Announced`, and the table of resources has no line for it."""


@dataclass(frozen=True)
class Children:
    """The rows of a kind that refer to another of it by ``reference``, in the order of some columns of theirs.

    ``schema`` is that of a row with its children, which are its ``member``. Rows without the attribute ``given`` have
    none.
    """

    member: str
    reference: str
    order: Sequence[str]
    given: str
    schema: type[ma.Schema]


@dataclass(frozen=True)
class Resource:
    """A kind of row: its model, its read schema, the permission to read it, and the rows that an identity may see."""

    model: type[Announced]
    schema: type[ma.Schema]
    permission: Permission
    visible_to: Callable[[Identity], Select[Any]]
    #: Finds those of the rows whose key is among some values, by key.
    find: Callable[[Select[Any], InstrumentedAttribute[int], Iterable[int]], Mapping[int, Any]] = find_rows
    #: Whether a reader that may not see a row gets to know that something became of it.
    shows_hidden: bool = True
    #: The rows of the same kind that events have with a row.
    children: "Children | None" = None

    @property
    def name(self) -> str:
        """Its name in events and in the audit trail, in the singular."""
        return self.model.audited_as

    def find_visible(self, ids: Iterable[int], identity: Identity) -> Mapping[int, Any]:
        """The rows with these ids that an identity may see, by id; at most one statement."""
        if not identity.can(self.permission):
            return {}
        key: Any = self.model.id
        return self.find(self.visible_to(identity), key, ids)

    def find_referring(
        self, reference: str, order: Sequence[str], ids: Collection[int], identity: Identity
    ) -> Sequence[Any]:
        """The rows that an identity may see whose column ``reference`` has one of these ids; at most one statement."""
        if not ids or not identity.can(self.permission):
            return ()
        columns: Mapping[str, Any] = {column.key: column for column in public_columns(self.model)}
        refers = is_one_of(columns[reference], literal(sorted(ids), ValueList(big_integer)))
        rows = self.visible_to(identity).with_only_columns(*columns.values()).where(refers)
        statement = rows.order_by(*(columns[name] for name in order))
        with stating() as reads:
            found = run(statement).all()
        if reads is not None:
            scopes = [scope_of(reference, each) for each in ids]
            reads.add(extent_of(statement).within(kind_of(self.model), scopes))
        return found


class ResourceRow(OfKind):
    """A row of the published resource that the object's kind names, as its own schema has it; for responses."""

    def schemas(self, refer: Refer) -> Mapping[str, dict[str, Any]]:
        """A reference to the schema of each resource."""
        resources = published_resources().items()
        return {name: refer(one.children.schema if one.children else one.schema) for name, one in resources}

    def sample(self, example_of: Callable[[type[ma.Schema]], dict[str, Any]]) -> dict[str, Any]:
        """The example of the first resource."""
        return example_of(next(iter(published_resources().values())).schema)


def find_objects(rows: Select[Any], key: InstrumentedAttribute[int], values: Iterable[int]) -> Mapping[int, Any]:
    """Those of ``rows`` whose ``key`` is among the values, by key, as objects: a schema may read more than columns."""
    found = db.session.scalars(rows.where(key.in_(set(values))))
    return {getattr(row, key.key): row for row in found}


def init_app(app: Flask, resources: Iterable[Resource]) -> None:
    """Register the table; raises `ResourceMissing` where it lacks a model of the change feed."""
    by_name = {resource.name: resource for resource in resources}
    announced = {mapper.class_ for mapper in Model.registry.mappers if issubclass(mapper.class_, Announced)}
    if missing := announced - {resource.model for resource in by_name.values()}:
        names = ", ".join(sorted(model.__name__ for model in missing))
        raise ResourceMissing(f"{names}: in the change feed, but without a line in app/api/resources.py")
    app.extensions["resources"] = by_name


def published_resources() -> Mapping[str, Resource]:
    """The resources of the application at hand, by name."""
    resources: Mapping[str, Resource] = current_app.extensions["resources"]
    return resources
