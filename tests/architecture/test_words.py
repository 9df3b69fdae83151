"""The words of the code: the field's own terms, which a stranger greps for."""

import re

from tests.servers import PROJECT

#: Words that hide who acts, or what happens; say the client, the worker, the reader, is logged, is deferred.
VAGUE = re.compile(r"\b(whoever|whosever|nobody|somebody|told|put off)\b", re.IGNORECASE)


def test_the_code_uses_none_that_are_vague() -> None:
    found = [
        f"{path.relative_to(PROJECT)}:{number}: {line.strip()}"
        for path in sorted((PROJECT / "app").rglob("*.py"))
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if VAGUE.search(line)
    ]

    assert found == []
