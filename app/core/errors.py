"""The tree of refusals: what the application says when it refuses a request.

Refusal
├── Malformed               400  the bytes cannot be read as a request
├── Unauthenticated         401  no credentials, or wrong ones
├── Forbidden               403  known, but not allowed
├── NotFound                404  absent, or not yours to see
├── RequestTimeout          408  the client was too slow to send it
├── Conflict                409  the catalogue's state does not permit it now
├── Gone                    410  it was there, and is no longer
├── PreconditionFailed      412  the resource has changed since it was read
├── ContentTooLarge         413  more bytes than are accepted
├── UriTooLong              414  a longer path and query than are read
├── UnsupportedMediaType    415  not a media type that is understood here
├── ExpectationFailed       417  something is expected that is not done here
├── Invalid                 422  understood, but a value is wrong
├── UpgradeRequired         426  another protocol is spoken here
├── PreconditionRequired    428  If-Match is missing
├── TooManyRequests         429  more than is allowed in this time
├── RequestHeaderFieldsTooLarge
│                           431  larger headers than are read
└── Unavailable             503  something that is needed does not answer

A refusal is a class where its rule lives. It inherits a category from this tree; its name becomes the machine-readable
code, its docstring the sentence that the client reads, its keyword arguments the data, whose names and types are its
``members``. `web.errors` holds the one table that turns a category into a status.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

#: Faults of one request that are reported; a limit, because each costs time and bytes.
MAX_FAULTS = 100


@dataclass(frozen=True)
class Fault:
    """One wrong value: where it is (a JSON pointer, a parameter or a header), a sentence, and a stable code."""

    detail: str
    code: str = "invalid"
    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None


def pointer_to(*names: str) -> str:
    """The JSON pointer (RFC 6901) of a member, by the names on the way to it."""
    return "".join(f"/{name.replace('~', '~0').replace('/', '~1')}" for name in names)


class Refusal(Exception):
    """The request was understood and is refused."""

    #: Whether what was written before the refusal must stay (a failed login counted, a token family ended).
    commits: ClassVar[bool] = False

    #: The names and types of the data, which the problem document has beside the members of every problem.
    members: ClassVar[Mapping[str, Any]] = {}

    #: After how many seconds the same request may succeed, where that is worth saying.
    retry_after: int | None = None

    def __init__(self, **data: object) -> None:
        super().__init__(self.code())
        if data.keys() != self.members.keys():
            raise TypeError(f"{self.code()} has the members {sorted(self.members)}")
        self.data = data

    @classmethod
    def code(cls) -> str:
        """The machine-readable code: the class's name in snake case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def sentence(cls) -> str:
        """What the client reads: the docstring, on one line."""
        return " ".join((cls.__doc__ or "").split())


class Malformed(Refusal):
    """The request cannot be read."""


class Unauthenticated(Refusal):
    """Credentials are required."""


class Forbidden(Refusal):
    """These credentials do not allow this operation."""


class NotFound(Refusal):
    """There is nothing here, or it is not yours to see."""


class RequestTimeout(Refusal):
    """The request did not arrive in time."""


class Conflict(Refusal):
    """The current state of the resource does not allow this."""


class Gone(Refusal):
    """This is no longer there."""


class PreconditionFailed(Refusal):
    """The resource has changed since it was read; read it again and retry with its new ETag."""


class ContentTooLarge(Refusal):
    """The request body is larger than is accepted."""

    #: In bytes.
    members = {"limit": int}


class UriTooLong(Refusal):
    """The path and the query string are longer than is accepted."""


class UnsupportedMediaType(Refusal):
    """The request body's media type is not supported here."""

    members = {"accepted": list[str]}


class ExpectationFailed(Refusal):
    """The header Expect names something other than 100-continue."""


class Invalid(Refusal):
    """Some of the values are not acceptable."""

    #: Where the fault lies when the rule is about one known member of the body.
    pointer: ClassVar[str | None] = None

    def __init__(self, *faults: Fault, **data: object) -> None:
        super().__init__(**data)
        self.faults = faults or (Fault(self.sentence(), self.code(), pointer=self.pointer or ""),)

    @classmethod
    def at(cls, *members: str) -> Self:
        """The refusal with a fault at each of these members of the body."""
        return cls(*(Fault(cls.sentence(), cls.code(), pointer=f"/{member}") for member in members))

    @classmethod
    def because(cls, refusal: type[Refusal], member: str) -> Self:
        """The refusal of one item of many, for what ``refusal`` says of a request of its own."""
        return cls(Fault(refusal.sentence(), refusal.code(), pointer=f"/{member}"))

    def below(self, place: str) -> Self:
        """The refusal of a value that lies at a JSON pointer in the body, such as ``/items/3``."""
        return type(self)(*(replace(fault, pointer=f"{place}{fault.pointer or ''}") for fault in self.faults))


class UpgradeRequired(Refusal):
    """Another protocol than HTTP is spoken here."""


class PreconditionRequired(Refusal):
    """Send If-Match with the ETag that you read, or with * to accept whatever is there."""


class TooManyRequests(Refusal):
    """Too many requests; wait as long as Retry-After says."""

    members = {"retry_after": int}

    def __init__(self, *, retry_after: int) -> None:
        super().__init__(retry_after=retry_after)
        self.retry_after = retry_after


class RequestHeaderFieldsTooLarge(Refusal):
    """The headers are larger than is accepted."""


class Unavailable(Refusal):
    """A service that is needed to answer is not available; try again shortly."""

    retry_after = 1
