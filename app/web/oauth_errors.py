"""What an endpoint of OAuth 2 refuses, as its clients read it: RFC 6749 section 5.2 beside the problem document."""

from collections.abc import Mapping
from typing import Any

#: The errors of RFC 6749 section 5.2 and RFC 7009 section 2.2.1. A refusal with such a code is one.
ERRORS = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_token_type",
        "invalid_scope",
    }
)
#: What any other refusal is to a client, by its status. RFC 6749 has the last two names in section 4.1.2.1.
_BY_STATUS = {
    401: "invalid_client",
    500: "server_error",
    429: "temporarily_unavailable",
    503: "temporarily_unavailable",
}


def oauth_status(status: int) -> int:
    """The status at these endpoints: a request with a wrong value is 400 too."""
    return 400 if status == 422 else status


def oauth_members(problem: Mapping[str, Any]) -> dict[str, Any]:
    """The members of the error for a problem; clients ignore those of the problem that stand beside them."""
    code, status = problem["code"], problem["status"]
    error = code if code in ERRORS else _BY_STATUS.get(status, "invalid_request")
    return {"error": error, "error_description": problem["detail"], **problem}
