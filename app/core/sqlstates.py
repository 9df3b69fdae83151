"""What an error of the database means, by its SQLSTATE and not by the class that a driver made for it.

The codes are those of PostgreSQL's documentation, appendix A; SQLite's result codes take the same places.
"""

from enum import StrEnum

from sqlalchemy.exc import DBAPIError


class Meaning(StrEnum):
    """What to make of an error."""

    #: The database is away, shutting down, read-only, or cannot use its disk.
    UNAVAILABLE = "unavailable"
    #: It has too much to do, a lock was held too long, or others were in the way.
    BUSY = "busy"
    #: Something that the statement depends on has changed.
    CONFLICT = "conflict"
    #: A value cannot be stored.
    VALUE = "value"
    #: A fault of ours.
    FAULT = "fault"


#: By the whole code first, then by its class, which is its first two characters.
MEANINGS: dict[str, Meaning] = {
    "08": Meaning.UNAVAILABLE,  # connection exceptions
    "22": Meaning.VALUE,  # data exceptions
    "23": Meaning.CONFLICT,  # integrity constraints
    "25006": Meaning.UNAVAILABLE,  # a read-only transaction: a standby, or a primary that was demoted
    "28": Meaning.UNAVAILABLE,  # it does not know us
    "3D": Meaning.UNAVAILABLE,  # there is no such database
    "40": Meaning.BUSY,  # deadlocks, serialization failures
    "53": Meaning.BUSY,  # out of connections, memory
    "53100": Meaning.UNAVAILABLE,  # disk full
    "54": Meaning.VALUE,  # longer or deeper than it takes
    "55": Meaning.BUSY,  # a lock that was not granted in time
    "57": Meaning.UNAVAILABLE,  # shutting down, starting up
    "57014": Meaning.BUSY,  # statement_timeout
    "58": Meaning.UNAVAILABLE,  # the system under it
    "0A000": Meaning.BUSY,  # a cached plan that no longer fits its table
    "26000": Meaning.BUSY,  # a prepared statement that is not there (any more)
    "SQLITE_BUSY": Meaning.BUSY,
    "SQLITE_LOCKED": Meaning.BUSY,
    "SQLITE_CANTOPEN": Meaning.UNAVAILABLE,
    "SQLITE_CORRUPT": Meaning.UNAVAILABLE,
    "SQLITE_NOTADB": Meaning.UNAVAILABLE,
    "SQLITE_NOMEM": Meaning.BUSY,
    "SQLITE_FULL": Meaning.UNAVAILABLE,
    "SQLITE_IOERR": Meaning.UNAVAILABLE,
    "SQLITE_READONLY": Meaning.UNAVAILABLE,
    "SQLITE_CONSTRAINT": Meaning.CONFLICT,
    "SQLITE_TOOBIG": Meaning.VALUE,
}

#: Errors after which a retry is likely to succeed.
TRANSIENT = ("40", "0A000", "26000")


def meaning_of(error: DBAPIError) -> Meaning:
    """What an error means. One without a code is a connection that could not be made, or was lost."""
    code = code_of(error)
    if code is None:
        return Meaning.UNAVAILABLE if error.connection_invalidated or _is_operational(error) else Meaning.FAULT
    # SQLite's codes are refined by a third part, as in SQLITE_IOERR_WRITE.
    for key in (code, code[:2], "_".join(code.split("_")[:2])):
        if key in MEANINGS:
            return MEANINGS[key]
    return Meaning.UNAVAILABLE if error.connection_invalidated else Meaning.FAULT


def code_of(error: DBAPIError) -> str | None:
    """The SQLSTATE of PostgreSQL or the name of SQLite's result code; None where the driver itself failed."""
    return _code_in(error.orig)


def error_name_of(error: BaseException) -> str:
    """The code of an error of the driver, or else the name of its class; for what may not have its message."""
    return _code_in(error) or type(error).__name__


def class_of(error: BaseException) -> str:
    """The class of a driver's error: of its SQLSTATE, or of SQLite's result code without its refinement.

    `overdue` where the server did not answer in time, and `none` where the driver itself failed.
    """
    if getattr(error, "is_overdue", False):
        return "overdue"
    if sqlstate := getattr(error, "sqlstate", None):
        return str(sqlstate)[:2]
    return "_".join(getattr(error, "sqlite_errorname", "none").split("_")[:2])


def is_transient(error: DBAPIError) -> bool:
    """Whether an immediate retry may succeed."""
    if getattr(error.orig, "is_overdue", False):
        return False
    return error.connection_invalidated or (code_of(error) or "").startswith(TRANSIENT)


def _is_operational(error: DBAPIError) -> bool:
    return type(error).__name__ in {"OperationalError", "InterfaceError"}


def _code_in(error: BaseException | None) -> str | None:
    code: str | None = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    return code
