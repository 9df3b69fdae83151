"""The files in which the processes of a server count, so that each of them can report what all have counted.

prometheus-client names them by process id: then every worker that is replaced leaves files, and a sum that lost some
of them would go back. Here they are named by slot, the smallest number that no living process has. A successor goes on
in the files of a process that has ended, so counters never go back, and there are no more files than processes.
A process holds its slot by a lock on a file, which the system releases however the process ends (decision 53).

This imports nothing of the application: gunicorn.conf.py runs it in the master, which must not import any.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

#: The environment variable that names the folder to the processes of a server.
FOLDER = "CATALOG_METRICS_FOLDER"
#: What prometheus-client names the files of gauges that only living processes have.
LIVE_GAUGES = "gauge_live*_{slot}.db"


@dataclass(frozen=True)
class Folder:
    """The folder of one server, which a lock keeps for it; the server's children inherit the lock."""

    path: Path
    lock: int

    def close(self) -> None:
        """Remove it, unless another server is there: the successor, during an upgrade by SIGUSR2."""
        if _is_locked(self.lock, fcntl.LOCK_EX):
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


@dataclass
class Slot:
    """The number by which the files of this process are named, and the lock that keeps it."""

    folder: Path
    number: int
    lock: int

    def leave_to_parent(self) -> None:
        """In a forked child: take a slot of its own."""
        os.close(self.lock)
        self.number, self.lock = _take_slot(self.folder)


def open_folder(name: str, *, uid: int, gid: int) -> Folder:
    """The folder of the server that has this name, where its workers are of this user; emptied unless it is in use.

    A server that was killed finds its folder again. Where other users may write, as in /dev/shm and /tmp, one of them
    may have taken the name: then the folder gets another.
    """
    while True:
        path = _base() / name
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            os.chown(path, uid, gid)
        descriptor = _open_private(path, uid)
        if descriptor is None:
            path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_base()))
            os.chown(path, uid, gid)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        if _is_locked(descriptor, fcntl.LOCK_EX):
            _remove(path.iterdir())
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        # A server that has just ended may have removed it in between.
        if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
            return Folder(path, descriptor)
        os.close(descriptor)


def take_slot(folder: Path) -> Slot:
    """The smallest slot that no living process has; what its predecessor said of itself alone is forgotten.

    A forked child takes a slot of its own.
    """
    slot = Slot(folder, *_take_slot(folder))
    os.register_at_fork(after_in_child=slot.leave_to_parent)
    return slot


def forget_the_dead(folder: Path) -> None:
    """Remove the gauges of processes that have ended, such as their open connections."""
    for path in folder.glob("*.lock"):
        lock = os.open(path, os.O_RDWR)
        if _is_locked(lock, fcntl.LOCK_EX):
            _remove(folder.glob(LIVE_GAUGES.format(slot=path.stem)))
        os.close(lock)


def _take_slot(folder: Path) -> tuple[int, int]:
    for number in count(1):
        lock = os.open(folder / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        if _is_locked(lock, fcntl.LOCK_EX):
            _remove(folder.glob(LIVE_GAUGES.format(slot=number)))
            return number, lock
        os.close(lock)
    raise AssertionError


def _base() -> Path:
    """Where folders are made: in memory, because each count writes to a file."""
    if given := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        Path(given).mkdir(parents=True, exist_ok=True)
        return Path(given)
    memory = Path("/dev/shm")  # noqa: S108 -- the folder in it is private
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


def _open_private(path: Path, uid: int) -> int | None:
    """Open a folder; None where it is none, or not this user's alone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    found = os.fstat(descriptor)
    if found.st_uid == uid and not stat.S_IMODE(found.st_mode) & 0o077:
        return descriptor
    os.close(descriptor)
    return None


def _is_locked(descriptor: int, kind: int) -> bool:
    """Lock what is open, without waiting; whether that succeeded."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        path.unlink(missing_ok=True)
