"""The links of a row: itself, and what the caller may do with it or read beside it."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from flask import current_app, request

from app.security.identity import Identity
from app.web.access import current_identity
from app.web.operation import operation_of


@dataclass(frozen=True)
class Link:
    """A route of the same version of the API, as ``blueprint.view``; an attribute of the row is its one argument.

    ``parameter`` is the name that the query string has for it, where the path has none. ``given`` is an attribute
    without which a row has no such link.
    """

    endpoint: str
    attribute: str = "id"
    parameter: str | None = None
    given: str | None = None

    def path(self, api: str) -> str:
        """The path and query of the route, with braces in the place of its argument."""
        rule = next(current_app.url_map.iter_rules(f"{api}.{self.endpoint}"))
        path = re.sub(r"<[^>]+>", "{}", rule.rule)
        return f"{path}?{self.parameter}={{}}" if self.parameter else path


@dataclass(frozen=True)
class Links:
    """What `include=links` embeds: links by their names, each left out where the caller lacks its permission.

    It is also left out where the attribute that it needs is null.
    """

    links: Mapping[str, Link]

    @property
    def attributes(self) -> Sequence[str]:
        """The attributes that the paths are made of."""
        named = [name for link in self.links.values() for name in (link.attribute, link.given)]
        return tuple(dict.fromkeys(name for name in named if name is not None))

    @property
    def members(self) -> Collection[str]:
        """The names of the links."""
        return self.links.keys()

    def embed(self, rows: Sequence[Any], members: tuple[str, ...] | None) -> Sequence[Any]:
        """The links of each of ``rows``; no statement."""
        api = (request.blueprint or "").rpartition(".")[0]
        paths = dict(self._permitted(api, current_identity(), members or tuple(self.links)))
        return [self._paths_of(row, paths) for row in rows]

    def example(self, api: str, row: Any) -> Mapping[str, str]:
        """All links of a row, for those who may follow each."""
        # What is null in the example is not among its members.
        whole = SimpleNamespace(**{**dict.fromkeys(self.attributes), **vars(row)})
        return self._paths_of(whole, {name: link.path(api) for name, link in self.links.items()})

    def _permitted(self, api: str, identity: Identity, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for name in names:
            link = self.links[name]
            access = operation_of(current_app.view_functions[f"{api}.{link.endpoint}"]).access
            if access is None or access.permission is None or identity.can(access.permission):
                yield name, link.path(api)

    def _paths_of(self, row: Any, paths: Mapping[str, str]) -> dict[str, str]:
        links = {name: self.links[name] for name in paths}
        values = {
            name: getattr(row, link.attribute)
            for name, link in links.items()
            if link.given is None or getattr(row, link.given) is not None
        }
        return {name: path.format(values[name]) for name, path in paths.items() if values.get(name) is not None}
