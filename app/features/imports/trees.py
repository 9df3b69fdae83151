"""Category trees in JSON files, as suppliers and open data sets publish them."""

import gzip
from collections.abc import Iterator
from typing import IO, Any

import orjson

from app.core.text import slugify
from app.features.categories.service import Node
from app.features.imports.models import FileUnreadable

#: Of the file's bytes, unpacked: what a few hundred thousand categories take.
MAX_BYTES = 256 * 2**20


def read_tree(stream: IO[bytes]) -> list[Node]:
    """The nodes of a JSON file, gzipped or not, each after its parent.

    The file is an array of objects with an ``id``, a ``name`` and, but for roots, a ``path``: the ids and names of its
    ancestors from the root down, with or without itself at the end. An ancestor that has no object of its own is made
    from the paths that name it. A category is found again by its slug, which is made from the id; without a name it is
    called by its id.
    """
    nodes: dict[str, Node] = {}
    for number, entry in enumerate(_entries(stream), 1):
        try:
            own = {"id": entry["id"], "name": entry["name"]}
            path = [*(entry.get("path") or [])]
            if not path or path[-1]["id"] != own["id"]:
                path.append(own)
            parent = None
            for step in path:
                node = _node(step, parent)
                nodes.setdefault(node.slug, node)
                parent = node.slug
        except (KeyError, TypeError, ValueError) as error:
            raise FileUnreadable(f"category {number} is not an object with id, name and path ({error})") from None
    return list(nodes.values())


def _entries(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    content = stream.read(MAX_BYTES + 1)
    try:
        if content.startswith(b"\x1f\x8b"):
            with gzip.open(_rewound(stream)) as unpacked:
                content = unpacked.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise FileUnreadable("it is too large")
        entries = orjson.loads(content)
    except (OSError, EOFError, orjson.JSONDecodeError) as error:
        raise FileUnreadable(f"it is not JSON: {error}") from None
    if not isinstance(entries, list):
        raise FileUnreadable("it is not an array of categories")
    yield from entries


def _rewound(stream: IO[bytes]) -> IO[bytes]:
    stream.seek(0)
    return stream


def _node(step: dict[str, Any], parent: str | None) -> Node:
    key, name = step["id"], step["name"] or step["id"]
    if not isinstance(key, str | int) or not isinstance(name, str):
        raise TypeError("an id or a name is neither text nor number")
    name = " ".join(name.split())
    slug = slugify(str(key))
    if not slug or len(slug) > 140 or not 0 < len(name) <= 120:
        raise ValueError("an id or a name is empty or too long")
    return Node(slug, name, parent)
