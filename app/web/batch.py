"""Fields of requests that carry many objects: each is checked, and refused, by itself."""

from collections.abc import Sequence
from typing import Any

from app.core.errors import MAX_FAULTS, Fault, Invalid
from app.web import fields
from app.web.errors import describe_fault
from app.web.schemas import BodySchema, shared
from app.web.validation import faults_of

#: Faults of one item that are told. When the batch has MAX_FAULTS, a wrong item is told its first.
MAX_FAULTS_PER_ITEM = 10


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
        schema, left = shared(self.item), MAX_FAULTS
        checked: list[tuple[dict[str, Any], Sequence[Fault]]] = []
        for index, member in enumerate(self.read_list(value)):
            right, messages = schema.load_until_fault(member)
            if messages and left > 0:
                right, messages = schema.load_with_faults(member)
            faults = faults_of({attr: {index: messages}})[:MAX_FAULTS_PER_ITEM] if messages else ()
            left -= len(faults)
            checked.append((right, faults))
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
