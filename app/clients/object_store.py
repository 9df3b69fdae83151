"""The media store: objects of immutable content in a folder or in a bucket of S3, Google or Azure, over obstore.

Each call ends within the timeout of the store, and none shows half of an object. Credentials and endpoints come from
obstore's own environment variables, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL.
"""

import errno
import os
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar, TypeVar
from urllib.parse import unquote, urlsplit

import structlog
from flask import Flask, current_app

from app.clients.deadlines import Calls, Overdue
from app.clients.errors import CircuitOpen
from app.core import tracing
from app.core.errors import Unavailable
from app.core.tracing import Kind

if TYPE_CHECKING:
    from obstore import Attributes, ListStream, ObjectMeta
    from obstore.store import ObjectStore as Backend

    from app.clients.breakers import Breakers

#: What browsers and shared caches may do with an object: its content never changes.
IMMUTABLE = "public, max-age=31536000, immutable"
#: The first segment of the keys that everybody may read: in a folder also other users of the machine, such as nginx.
PUBLIC = "public"
#: In seconds, for each call.
TIMEOUT = 5.0
#: Calls at once in a process; one that hangs keeps its place.
MAX_CALLS = 16
#: Failures in a row after which calls are refused at once, and the seconds until one of them is tried again.
MAX_FAILURES, RESET_TIMEOUT = 5, 2.0
#: Bytes of an object that are in memory while it is read in pieces.
CHUNK_BYTES = 512 * 1024
#: The key of no object, which is asked for to see whether the store answers.
PROBE_KEY = "probe"
#: Keys in a batch of a listing, and names of a folder that are looked at in one call.
BATCH = 1000

#: No segment is `.` or `..`, because each begins with a letter or a digit.
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}(/[A-Za-z0-9][A-Za-z0-9._-]{0,199}){0,7}")
#: The name under which obstore writes a file before it renames it.
_UNFINISHED = re.compile(r".+#[0-9]+")
#: What is 404 like a missing object, and is not one.
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist")

T = TypeVar("T")

log = structlog.get_logger(__name__)


class StoreUnavailable(Unavailable):
    """The media store cannot be reached now; try again shortly."""


class ObjectMissing(Exception):
    """The store has no object with this key."""


@dataclass(frozen=True)
class StoredObject:
    """An object that is being read. ``size`` is in bytes."""

    size: int
    _first: bytes
    _read: Callable[[int, int], bytes]

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces of at most CHUNK_BYTES, each read when the one before it is used up.

        No connection and no file is held between two pieces. Raises ``StoreUnavailable``, and ``ObjectMissing`` when
        the object was deleted meanwhile.
        """
        yield self._first
        position = len(self._first)
        while position < self.size:
            piece = self._read(position, min(position + CHUNK_BYTES, self.size))
            if not piece:
                raise ObjectMissing
            yield piece
            position += len(piece)


class ObjectStore:
    """The objects below a URL such as `file:///srv/media`, `s3://bucket/prefix`, `gs://bucket` or `az://container`.

    Thread-safe. Each method raises ``StoreUnavailable`` when the store does not answer within ``timeout`` seconds or
    answers with an error, whatever its kind; after several in a row at once. Reads and writes are counted apart: a full
    disk can be read. A key has segments of ASCII letters, digits, dots, hyphens and underscores between slashes;
    another is a ``ValueError``.

    It connects at its first call, so it may be made before a fork. obstore cannot be used in a process that is forked
    after the first call of any store: there every call raises ``StoreUnavailable`` at once.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        self._url = url
        self._timeout = timeout
        self._folder = _folder_of(url)
        self._is_folder_made = False
        self._lock = threading.Lock()
        self._backend: Backend | None = None
        self._calls = Calls(MAX_CALLS)
        self._breakers: Breakers | None = None

    def put(self, key: str, content: bytes | IO[bytes], *, media_type: str) -> None:
        """Store an object of at least a byte, in place of one with the same key; all of it is in memory meanwhile.

        It is durable at the return. After ``StoreUnavailable`` it may be there, or appear later.
        """
        _check(key)
        data = content if isinstance(content, bytes) else content.read()
        if not data:
            raise ValueError("An object has at least a byte.")

        def put() -> None:
            backend = self._connect()
            if self._folder is None:
                attributes: Attributes = {"Content-Type": media_type, "Cache-Control": IMMUTABLE}
                backend.put(key, data, attributes=attributes, use_multipart=False)
                return
            path = self._folder / key
            _make_folders(path.parent, self._folder)
            backend.put(key, data, use_multipart=False)
            _sync(path)

        try:
            self._call("write", put)
        except ObjectMissing:
            # There is no bucket.
            raise StoreUnavailable from None

    def read(self, key: str) -> bytes:
        """All of an object, which must fit into memory. Raises ``ObjectMissing``."""
        _check(key)

        def read() -> bytes:
            return bytes(self._connect().get(key).bytes())

        return self._call("read", read)

    def has_all(self, keys: Collection[str]) -> bool:
        """Whether there are objects with these keys, each one looked up within the one timeout; a few, that is."""
        for key in keys:
            _check(key)

        def look_up() -> None:
            for key in keys:
                self._connect().head(key)

        try:
            self._call("read", look_up)
        except ObjectMissing:
            return False
        return True

    def check(self) -> None:
        """Raise ``StoreUnavailable`` unless the store answers; nothing is stored.

        A folder must be there: it is made when this process first needs it, and must not go away after that.
        """

        def look() -> None:
            if self._folder is None:
                # Not HEAD, which does not tell a missing object from a missing bucket.
                self._connect().get(PROBE_KEY)
            elif not self._is_folder_made:
                self._make_folder()
            elif not self._folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "The folder is gone.")

        # Without the circuit breaker: this is called every few seconds at most.
        with suppress(ObjectMissing):
            self._attempt("check", look)

    def open(self, key: str) -> StoredObject:
        """An object that is read piece by piece, the first one now. Raises ``ObjectMissing``."""
        _check(key)

        def open_() -> tuple[int, bytes]:
            found = self._connect().get(key, options={"range": (0, CHUNK_BYTES)})
            return found.meta["size"], bytes(found.bytes())

        def read(start: int, end: int) -> bytes:
            return self._call("read", lambda: bytes(self._connect().get_range(key, start=start, end=end)))

        size, first = self._call("read", open_)
        return StoredObject(size, first, read)

    def delete(self, keys: Collection[str]) -> None:
        """Delete the objects with these keys; those that are missing are no error."""
        for key in keys:
            _check(key)

        def delete() -> None:
            backend = self._connect()
            try:
                backend.delete([*keys])
            except FileNotFoundError:
                # S3 ignores what is missing; a folder and the others stop there.
                for key in keys:
                    with suppress(FileNotFoundError):
                        backend.delete(key)

        if keys:
            self._call("write", delete)

    def list_keys(self, prefix: str, *, older_than: datetime) -> Iterator[Sequence[str]]:
        """The keys below a folder such as ``originals`` whose objects were stored before a time, in batches.

        A batch has up to BATCH keys, in no order. What is stored or deleted meanwhile may be listed or not.
        """
        _check(prefix)

        def begin() -> "ListStream[Sequence[ObjectMeta]]":
            return self._connect().list(prefix, chunk_size=BATCH)

        batches = self._call("read", begin)
        while (batch := self._call("read", lambda: next(batches, None))) is not None:
            if keys := [each["path"] for each in batch if each["last_modified"] < older_than]:
                yield keys

    def remove_unfinished(self, *, older_than: datetime) -> int:
        """Delete what a killed process has left half written in a folder before a time, and return how many files.

        No key leads to these files, and no listing has them. A bucket has none.
        """
        if self._folder is None:
            return 0
        names, removed = _walk(self._folder), 0

        def remove() -> tuple[int, int]:
            batch = [*islice(names, BATCH)]
            old = [path for path in batch if _UNFINISHED.fullmatch(path.name) and _is_older(path, older_than)]
            for path in old:
                path.unlink(missing_ok=True)
            return len(batch), len(old)

        while True:
            looked_at, deleted = self._call("write", remove)
            removed += deleted
            if not looked_at:
                return removed

    def _call(self, kind: str, call: Callable[[], T]) -> T:
        """Run a call of a kind, read or write, against the deadline and through the circuit breaker of its kind."""
        try:
            with tracing.span(f"media store {kind}", kind=Kind.CLIENT), self._find_breakers().passing(kind):
                return self._attempt(kind, call)
        except CircuitOpen:
            raise StoreUnavailable from None

    def _attempt(self, kind: str, call: Callable[[], T]) -> T:
        try:
            _Runtime.require()
            return self._calls.run(call, timeout=self._timeout)
        except FileNotFoundError as error:
            if not _NO_BUCKET.search(str(error)):
                raise ObjectMissing from None
            reason = "no bucket"
        except Overdue:
            reason = "overdue"
        except _Forked:
            reason = "forked after the first use"
        except BaseException as error:
            if not _is_of_store(error):
                raise
            reason = _reason_of(error)
        # Raised where no error is at hand: those of obstore quote addresses, and an address can have a signature.
        log.warning("media_store", call=kind, reason=reason)
        raise StoreUnavailable

    def _find_breakers(self) -> "Breakers":
        from app.clients.breakers import Breakers  # noqa: PLC0415 -- it loads redis, which is slow and seldom needed

        with self._lock:
            if self._breakers is None:
                self._breakers = Breakers(_is_unavailable, max_failures=MAX_FAILURES, reset_timeout=RESET_TIMEOUT)
            return self._breakers

    def _connect(self) -> "Backend":
        with self._lock:
            if self._backend is None:
                self._make_folder()
                self._backend = _backend_at(self._url, self._folder, self._timeout)
            return self._backend

    def _make_folder(self) -> None:
        if self._folder is None:
            return
        try:
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        except FileNotFoundError:
            # Not what a missing object raises.
            raise NotADirectoryError(errno.ENOTDIR, "The folder cannot be made.") from None
        self._is_folder_made = True


class _Forked(Exception):
    """This process was forked from one that had used obstore."""


class _Runtime:
    """obstore's threads, which it starts once: a process that is forked later has none, and would wait without end."""

    _pid: ClassVar[int | None] = None

    @classmethod
    def require(cls) -> None:
        """Claim the threads for this process, or raise ``_Forked``."""
        if cls._pid is None:
            cls._pid = os.getpid()
        elif cls._pid != os.getpid():
            raise _Forked


def init_app(app: Flask) -> None:
    """Register the store of MEDIA_STORE; it is not connected to yet."""
    app.extensions["media_store"] = ObjectStore(app.config["MEDIA_STORE"])


def current_store() -> ObjectStore:
    """The media store of the application at hand."""
    store: ObjectStore = current_app.extensions["media_store"]
    return store


def _check(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise ValueError("This is no key of an object.")


def _is_unavailable(error: BaseException) -> bool:
    return isinstance(error, StoreUnavailable)


def _folder_of(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _backend_at(url: str, folder: Path | None, timeout: float) -> "Backend":
    from obstore.store import LocalStore, from_url  # noqa: PLC0415 -- it takes a tenth of a second, seldom needed

    if folder is not None:
        return LocalStore(prefix=folder)
    return from_url(
        url,
        # All of obstore's own options of the client in the environment are ignored where some are given.
        client_options={
            "timeout": timedelta(seconds=timeout),
            "connect_timeout": timedelta(seconds=timeout / 2),
            "allow_http": _allows_http(os.environ),
        },
        retry_config={
            "max_retries": 2,
            "retry_timeout": timedelta(seconds=timeout / 2),
            "backoff": {"init_backoff": timedelta(seconds=timeout / 50), "max_backoff": timedelta(seconds=timeout / 5)},
        },
    )


def _allows_http(environ: Mapping[str, str]) -> bool:
    names = ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP")
    return any(environ.get(name, "").lower() in {"true", "1", "yes"} for name in names)


def _make_folders(path: Path, root: Path) -> None:
    """Make the folders of a key below the root; only those of public objects are open to other users."""
    names = path.relative_to(root).parts
    for depth in range(1, len(names) + 1):
        root.joinpath(*names[:depth]).mkdir(mode=0o755 if names[0] == PUBLIC else 0o700, exist_ok=True)


def _sync(path: Path) -> None:
    """Have the disk store a file and its name; without it, one that was written before a power failure may be empty."""
    with suppress(FileNotFoundError):
        # Not there: it is deleted already.
        for place in (path, path.parent):
            descriptor = os.open(place, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _walk(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names)


def _is_older(path: Path, time: datetime) -> bool:
    with suppress(FileNotFoundError):
        return datetime.fromtimestamp(path.stat().st_mtime, UTC) < time
    return False


def _is_of_store(error: BaseException) -> bool:
    """Whether it comes from the file system or from obstore, whose worst is a panic of its Rust."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in {"obstore", "pyo3_runtime"}


def _reason_of(error: BaseException) -> str:
    """What went wrong, for the log: the name of the class, an error number of the system, a status; no text."""
    message = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := re.search(r"\(os error ([0-9]{1,4})\)", message)):
        number = int(found[1])
    # "non-2xx status code: 403 Forbidden", "Os { code: 111, kind: ConnectionRefused", "source: TimedOut".
    status = re.search(r"status code: ([0-9]{3})", message)
    kinds = re.findall(r"(?:kind|source): ([A-Z][A-Za-z]{1,30})\b(?! ?[({])", message)
    words = [type(error).__name__, errno.errorcode.get(number or 0), status and status[1], kinds and kinds[-1]]
    return " ".join(word for word in words if word)
