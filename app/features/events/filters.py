"""The fields of what a reader wants of the changes, for bodies and query strings."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.core.changelog import announced_models
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
            "pattern": _pattern_of(all_filters()),
            "description": f"A name, or a pattern of names such as `product.*`, `*.deleted` or `*`.\n\n{described}",
        }


class ResourceName(fields.Text):
    """The name of a resource in the change feed."""

    default_error_messages = {"resource_unknown": "The change feed has no resource of this name, but: {names}."}

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=32, pattern=r"^[a-z_]+$", **options)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        text, names = super()._deserialize(value), _resource_names()
        if text not in names:
            raise self.make_error("resource_unknown", names=", ".join(names))
        return text

    def describe(self) -> Mapping[str, Any]:
        """The names that there are, as a pattern."""
        return {**self.metadata, "pattern": _pattern_of(_resource_names())}


def _resource_names() -> Sequence[str]:
    return [model.audited_as for model in announced_models()]


def _pattern_of(texts: Iterable[str]) -> str:
    return f"^({'|'.join(re.escape(text) for text in sorted(texts))})$"
