"""Which refusals an operation can answer with: those that it names, and those that follow from its contract."""

from collections.abc import Callable, Mapping, Sequence

from werkzeug.routing import Rule

from app.core.breaker import DatabaseBusy, DatabaseUnavailable
from app.core.errors import (
    ExpectationFailed,
    Invalid,
    Malformed,
    NotFound,
    PreconditionFailed,
    PreconditionRequired,
    Refusal,
    RequestHeaderFieldsTooLarge,
    RequestTimeout,
    UriTooLong,
)
from app.core.listing import CursorInvalid
from app.web import access, body, forms, hooks, idempotency, uploads
from app.web.conditional import EntityTagMalformed
from app.web.errors import RateLimited, StateChanged, ValueOutOfRange, status_of
from app.web.limits import EXEMPT
from app.web.oauth_errors import oauth_status
from app.web.operation import SAFE_METHODS, Operation
from app.web.query import QueryMalformed

Applies = Callable[[Rule, Operation], bool]
Refusals = tuple[type[Refusal], ...]


def takes_key(rule: Rule, operation: Operation) -> bool:
    """Whether the operation honours Idempotency-Key."""
    return operation.access is not None and idempotency.takes_key(rule, operation.access)


def needs_credentials(_rule: Rule, operation: Operation) -> bool:
    """Whether the operation is not for everybody."""
    return operation.access is not None and not operation.access.is_public


def _writes(rule: Rule, operation: Operation) -> bool:
    return operation.writes or bool((rule.methods or set()) - SAFE_METHODS - {"OPTIONS"})


def _is_limited(rule: Rule, _operation: Operation) -> bool:
    return rule.endpoint.rpartition(".")[0] not in EXEMPT


#: What a part of a contract implies, by the part's name: when it is there, and what is refused then.
PARTS: Mapping[str, tuple[Applies, Refusals]] = {
    "Request": (
        lambda _rule, _operation: True,
        # The first of these are the server's own (gunicorn_worker.py).
        (
            *(UriTooLong, RequestHeaderFieldsTooLarge, RequestTimeout, ExpectationFailed, Malformed),
            *(*hooks.REFUSALS, QueryMalformed, Invalid, DatabaseUnavailable, DatabaseBusy),
        ),
    ),
    "Limit": (_is_limited, (RateLimited,)),
    "Credentials": (needs_credentials, access.REFUSALS),
    "Row": (lambda rule, operation: bool(rule.arguments) or operation.load is not None, (NotFound,)),
    "Version": (
        lambda _rule, operation: operation.by_version,
        (EntityTagMalformed, PreconditionFailed, PreconditionRequired),
    ),
    "Upsert": (lambda _rule, operation: operation.upserts, (EntityTagMalformed, PreconditionFailed)),
    "Write": (_writes, (StateChanged, ValueOutOfRange)),
    "Json": (lambda _rule, operation: operation.accepts is not None and not operation.is_form, body.REFUSALS),
    "File": (lambda _rule, operation: operation.takes_file is not None, uploads.REFUSALS),
    "Form": (lambda _rule, operation: operation.is_form, forms.REFUSALS),
    "Key": (takes_key, idempotency.REFUSALS),
    "List": (lambda _rule, operation: operation.listing is not None, (CursorInvalid,)),
}


def status_at(operation: Operation, refusal: type[Refusal]) -> int:
    """The status with which an operation refuses: an endpoint of OAuth 2 has another for what is invalid."""
    status = status_of(refusal)
    return oauth_status(status) if operation.answers_oauth else status


def refusals_by_status(rule: Rule, operation: Operation) -> Mapping[int, Sequence[type[Refusal]]]:
    """What an operation can refuse, by its status: what its contract implies first, then what it names itself."""
    implied = [refusal for part in _parts_of(rule, operation) for refusal in PARTS[part][1]]
    by_status: dict[int, dict[type[Refusal], None]] = {}
    for refusal in (*implied, *operation.refuses):
        by_status.setdefault(status_at(operation, refusal), {})[refusal] = None
    return {status: tuple(refusals) for status, refusals in sorted(by_status.items())}


def common_name(status: int, rule: Rule, operation: Operation) -> str | None:
    """What the refusals of a status have in common with those of other operations, as the parts that imply them.

    None where the operation names one itself; empty where it has the first of the parts alone.
    """
    if any(status_at(operation, refusal) == status for refusal in operation.refuses):
        return None
    parts = [
        name for name, (_, refusals) in PARTS.items() if any(status_at(operation, one) == status for one in refusals)
    ]
    return "".join(name for name in _parts_of(rule, operation) if name in parts[1:])


def _parts_of(rule: Rule, operation: Operation) -> Sequence[str]:
    return [name for name, (applies, _) in PARTS.items() if applies(rule, operation)]
