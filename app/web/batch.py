"""Fields of requests that carry many objects: each is checked, and refused, by itself."""

from collections.abc import Sequence
from typing import Any

import marshmallow as ma

from app.core.errors import Fault, Invalid
from app.web import fields
from app.web.errors import describe_fault
from app.web.schemas import BodySchema, shared
from app.web.validation import faults_of

#: More faults of one item than anybody reads; a thousand items may each have thousands.
MOST_FAULTS = 10


class Batch(fields.Array):
    """A list of ``least`` to ``most`` objects, read as pairs: what is right in one, and its faults.

    A wrong object does not make the list wrong: what that means for the others is for the use case to say.
    """

    def __init__(self, item: type[BodySchema], *, most: int, least: int = 1, **options: Any) -> None:
        self.item = item
        super().__init__(most=most, least=least, **options)

    def _deserialize(
        self, value: Any, attr: str | None, *_: Any, **__: Any
    ) -> list[tuple[dict[str, Any], Sequence[Fault]]]:
        schema = shared(self.item)
        checked: list[tuple[dict[str, Any], Sequence[Fault]]] = []
        for index, member in enumerate(self.read_list(value)):
            try:
                checked.append((schema.load(member), ()))
            except ma.ValidationError as error:
                right = error.valid_data if isinstance(error.valid_data, dict) else {}
                checked.append((right, faults_of({attr: {index: error.messages}})[:MOST_FAULTS]))
        return checked


class Problem(fields.Field):
    """Why one object of many was refused: what is particular in a problem document; for answers."""

    openapi_type = "object"

    def __init__(self, **options: Any) -> None:
        members = {
            "code": {"type": "string"},
            "detail": {"type": "string"},
            "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Fault"}},
        }
        super().__init__(schema={"required": list(members), "properties": members}, **options)

    def write(self, value: Invalid | None) -> dict[str, Any] | None:
        """The code, the sentence and the faults."""
        if value is None:
            return None
        faults = [describe_fault(fault) for fault in value.faults]
        return {"code": value.code(), "detail": value.sentence(), "errors": faults}
