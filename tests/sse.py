"""A reader of server-sent events, as the HTML Living Standard says (section 9.2.6): blocks, ids, types and data."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Block:
    """One block: its type, its data as JSON, and the id that a client sends as Last-Event-ID from then on."""

    event: str
    data: Any
    last_id: str

    @property
    def is_comment(self) -> bool:
        """Whether it makes no event."""
        return self.data is None


def read_blocks(chunks: Iterable[bytes]) -> Iterator[Block]:
    """The blocks of a stream, which may be cut anywhere: what is not whole is not there."""
    buffered, last_id = b"", ""
    for chunk in chunks:
        buffered += chunk
        *blocks, buffered = buffered.split(b"\n\n")
        for block in blocks:
            fields = dict(line.partition(": ")[::2] for line in block.decode().split("\n") if not line.startswith(":"))
            last_id = fields.get("id", last_id)
            yield Block(fields.get("event", ""), json.loads(fields["data"]) if "data" in fields else None, last_id)
