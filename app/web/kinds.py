"""Objects of several kinds in responses: one member names the kind, and others have the schema of that kind.

The OpenAPI document has such an object as a union of one component for each kind, distinguished by that member.
"""

from collections.abc import Callable, Mapping
from typing import Any

import marshmallow as ma

from app.web import fields

#: Makes a reference to the component of a schema.
Refer = Callable[[type[ma.Schema]], dict[str, Any]]


class Kind(fields.Text):
    """The name of the kind of an object."""


class OfKind(fields.Anything):
    """A member whose schema depends on the kind."""

    def schemas(self, refer: Refer) -> Mapping[str, dict[str, Any]]:
        """The JSON Schema of the member for each kind, by its name."""
        raise NotImplementedError

    def sample(self, example_of: Callable[[type[ma.Schema]], dict[str, Any]]) -> dict[str, Any]:
        """An example of the member, for the kind of the object's own example."""
        raise NotImplementedError
