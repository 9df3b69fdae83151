"""The published resources: the kinds of rows in the change feed, who may read them, and their schemas.

`app/api/resources.py` has the table, one line each. The feed and the OpenAPI document read it from here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import marshmallow as ma
from flask import Flask, current_app
from sqlalchemy import Select

from app.core.changelog import Published
from app.core.fastsql import find_rows
from app.extensions import Model
from app.security.identity import Identity
from app.security.permissions import Permission
from app.web.kinds import OfKind, Refer


class ResourceMissing(Exception):
    """A model is `Published`, and the table of resources has no line for it."""


@dataclass(frozen=True)
class Resource:
    """A kind of row: its model, its read schema, the permission to read it, and the rows that an identity may see."""

    model: type[Published]
    schema: type[ma.Schema]
    permission: Permission
    visible_to: Callable[[Identity], Select[Any]]

    @property
    def name(self) -> str:
        """Its name in events and in the audit trail, in the singular."""
        return self.model.audited_as

    def find_visible(self, ids: Iterable[int], identity: Identity) -> Mapping[int, Any]:
        """The rows with these ids that an identity may see, by id; at most one statement."""
        if not identity.can(self.permission):
            return {}
        return find_rows(self.visible_to(identity), self.model.id, ids)


class ResourceRow(OfKind):
    """A row of the published resource that the object's kind names, as its own schema has it; for responses."""

    def schemas(self, refer: Refer) -> Mapping[str, dict[str, Any]]:
        """A reference to the schema of each resource."""
        return {name: refer(resource.schema) for name, resource in published_resources().items()}

    def sample(self, example_of: Callable[[type[ma.Schema]], dict[str, Any]]) -> dict[str, Any]:
        """The example of the first resource."""
        return example_of(next(iter(published_resources().values())).schema)


def init_app(app: Flask, resources: Iterable[Resource]) -> None:
    """Register the table; raises `ResourceMissing` where it lacks a published model."""
    by_name = {resource.name: resource for resource in resources}
    published = {mapper.class_ for mapper in Model.registry.mappers if issubclass(mapper.class_, Published)}
    if missing := published - {resource.model for resource in by_name.values()}:
        names = ", ".join(sorted(model.__name__ for model in missing))
        raise ResourceMissing(f"{names}: Published, but without a line in app/api/resources.py")
    app.extensions["resources"] = by_name


def published_resources() -> Mapping[str, Resource]:
    """The resources of the application at hand, by name."""
    resources: Mapping[str, Resource] = current_app.extensions["resources"]
    return resources
