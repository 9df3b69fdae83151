"""The field of a filter of names of changes, for bodies and query strings."""

import re
from collections.abc import Mapping
from typing import Any

from app.features.events.names import all_filters, all_names
from app.web import fields


class ChangeFilter(fields.Text):
    """A name of changes, or a pattern of names: ``product.updated``, ``product.*``, ``*.deleted`` or ``*``."""

    default_error_messages = {
        "event_unknown": "No change has this name, and no name this pattern; the description of this member has them."
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=64, pattern=r"^(\*|[a-z_]+\.[a-z_]+|[a-z_]+\.\*|\*\.[a-z_]+)$", **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        text = super()._deserialize(value)
        if text not in all_filters():
            raise self.make_error("event_unknown")
        return text

    def describe(self) -> Mapping[str, Any]:
        """The filters that there are, as a pattern, and what each name says."""
        described = "\n".join(f"- `{name}`: {sentence}" for name, sentence in all_names().items())
        return {
            **self.metadata,
            "pattern": f"^({'|'.join(re.escape(each) for each in sorted(all_filters()))})$",
            "description": f"A name, or a pattern of names such as `product.*`, `*.deleted` or `*`.\n\n{described}",
        }
