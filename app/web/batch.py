"""Fields of requests that carry many objects: each object is validated, and refused, separately."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from app.core.errors import MAX_FAULTS, Fault, Invalid
from app.web import fields
from app.web.schemas import BodySchema, shared
from app.web.validation import describe_fault, faults_of

#: Faults that are reported for one item. Once the batch has MAX_FAULTS, an invalid item reports its first fault only.
MAX_FAULTS_PER_ITEM = 10


class Batch(fields.Array):
    """A list of ``min_items`` to ``max_items`` objects, loaded as pairs: the valid values of an object, and its faults.

    An invalid object does not make the list invalid: the use case decides what becomes of the other objects.
    """

    def __init__(self, item: type[BodySchema], *, max_items: int, min_items: int = 1, **options: Any) -> None:
        self.item = item
        super().__init__(max_items=max_items, min_items=min_items, **options)

    def _deserialize(
        self, value: Any, attr: str | None, *_: Any, **__: Any
    ) -> list[tuple[dict[str, Any], Sequence[Fault]]]:
        schema, faults_left = shared(self.item), MAX_FAULTS
        checked: list[tuple[dict[str, Any], Sequence[Fault]]] = []
        for index, member in enumerate(self.read_list(value)):
            valid, messages = schema.load_until_fault(member)
            if messages and faults_left > 0:
                valid, messages = schema.load_with_faults(member)
            faults = faults_of({attr: {index: messages}})[:MAX_FAULTS_PER_ITEM] if messages else ()
            faults_left -= len(faults)
            checked.append((valid, faults))
        return checked


class Problem(fields.Field):
    """Why one object of many was refused: the code, detail and errors of a problem document; for responses."""

    openapi_type = "object"
    SCHEMA: ClassVar[Mapping[str, Any]] = {
        "required": ["code", "detail", "errors"],
        "properties": {
            "code": {"type": "string", "description": "Identifies the kind of problem, for programs."},
            "detail": {"type": "string", "description": "A sentence for people."},
            "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Fault"}},
        },
    }

    def write(self, value: Invalid | None, _beside: Any = None) -> dict[str, Any] | None:
        """The code, the sentence and the faults; None where the object was not refused."""
        if value is None:
            return None
        faults = [describe_fault(fault) for fault in value.faults]
        return {"code": value.code(), "detail": value.sentence(), "errors": faults}
