"""dry_run=true: a write that is checked and answered as always, and rolled back instead of committed (decision 31)."""

import functools
from typing import cast

from flask import Response
from werkzeug.routing import Rule

from app.web import fields
from app.web.operation import SAFE_METHODS
from app.web.schemas import QuerySchema

#: The query parameter that requests a dry run.
PARAMETER = "dry_run"
#: The header of the response to one.
HEADER = "Dry-Run"


def takes_dry_run(rule: Rule) -> bool:
    """Whether an operation can be a dry run: every write, except below /auth and /oauth.

    There a failed login must be counted, and tokens are of no use whose session is not stored.
    """
    is_write = bool((rule.methods or set()) - SAFE_METHODS - {"OPTIONS"})
    return is_write and not any(part in rule.rule for part in ("/auth/", "/oauth/"))


@functools.cache
def with_dry_run(schema: type[QuerySchema]) -> type[QuerySchema]:
    """A schema of a query string that takes ``dry_run`` beside its own parameters."""
    # It returns a subclass of the schema, which its type does not say.
    return cast(type[QuerySchema], schema.from_dict({PARAMETER: fields.QueryBoolean()}, name=schema.__name__))


def mark(response: Response) -> None:
    """Say in the headers that nothing of this response is stored, and that no cache may store it.

    It has no ETag: a real write can get the same version, and the tag would stand for another representation.
    """
    response.headers.remove("ETag")
    response.headers[HEADER] = "true"
    response.headers["Cache-Control"] = "no-store"
