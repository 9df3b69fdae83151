"""A field of requests for a few objects that belong together: one that is invalid makes the whole list invalid."""

from typing import Any

import marshmallow as ma

from app.web import fields
from app.web.schemas import BodySchema, shared


class Objects(fields.Array):
    """A list of ``min_items`` to ``max_items`` objects of another schema, no two with the same ``unique`` member."""

    default_error_messages = {"repeated": "Another item before this one has the same."}

    def __init__(self, item: type[BodySchema], *, unique: str, **options: Any) -> None:
        self.item, self.unique = item, unique
        super().__init__(**options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> list[dict[str, Any]]:
        schema, seen = shared(self.item), set()
        items, errors = [], {}
        for index, member in enumerate(self.read_list(value)):
            item, messages = schema.load_with_faults(member)
            if messages:
                errors[index] = messages
            elif item[self.unique] in seen:
                errors[index] = {self.unique: self.make_error("repeated").messages}
            else:
                seen.add(item[self.unique])
                items.append(item)
        if errors:
            raise ma.ValidationError(errors)
        return items
