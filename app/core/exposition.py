"""Where this process counts, and what it exports: its own metrics, or those of all processes of its server.

Importing this decides which. prometheus-client wants to know before the first metric is made, so `core.metrics`, which
makes them, imports this first.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from prometheus_client import REGISTRY, Metric, disable_created_metrics, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.core.metric_files import FOLDER, Slot, forget_the_dead, take_slot

#: What must be free where the folder is. A process that maps a file for which there is no room left is killed (SIGBUS).
MIN_FREE_BYTES = 8 * 1024 * 1024

log = structlog.get_logger(__name__)


def _choose_values() -> tuple[Path | None, OSError | None]:
    """Count in the folder of the server that this process belongs to, and return it; in memory without one.

    Also in memory where the folder cannot be used, and then the error is returned: serving matters more.
    """
    named, error = os.environ.get(FOLDER), None
    if named:
        try:
            slot = _take_slot(Path(named))
        except OSError as found:
            error = found
        else:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = named
            values.ValueClass = values.MultiProcessValue(process_identifier=lambda: slot.number)
            return Path(named), None
    # Also where PROMETHEUS_MULTIPROC_DIR is set: it is for servers, and only they clear it.
    values.ValueClass = values.MutexValue
    return None, error


def _take_slot(folder: Path) -> Slot:
    found = os.statvfs(folder)
    if found.f_bavail * found.f_frsize < MIN_FREE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    return take_slot(folder)


_folder, _error = _choose_values()
# Files have no times of creation, and what is exported should not depend on where it is counted.
disable_created_metrics()


def log_where_counted() -> None:
    """Log that this process counts for itself alone, where it should count with the others of its server."""
    if _error is not None:
        log.warning("metrics_not_shared", error=_error.strerror, effect="each process exports what it counts itself")


def expose(exposition: Collector, accept: str) -> tuple[bytes, str]:
    """All that is exported, in the format that a header `Accept` asks for, or else Prometheus's; and its media type."""
    try:
        encode, media_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # A version that is no number.
        encode, media_type = choose_encoder("")
    return encode(exposition), media_type


@dataclass
class Exposition(Collector):
    """All that this process exports: what it counts, and what `others` find out when they are asked."""

    others: list[Collector] = field(default_factory=list)

    def collect(self) -> Iterator[Metric]:
        """Every metric. One of the others that fails is left out, and its failure is logged."""
        yield from REGISTRY.collect() if _folder is None else read_files(_folder)
        for collector in self.others:
            yield from _collect_or_log(collector)


def read_files(folder: Path) -> Iterable[Metric]:
    """What the processes have counted in a folder; without those of its files that cannot be read."""
    if not folder.is_dir():
        log.warning(
            "metrics_not_shared", error="the folder is gone", effect="this process exports what it counts itself"
        )
        return REGISTRY.collect()
    forget_the_dead(folder)
    files = [str(path) for path in folder.glob("*.db")]
    try:
        return _merge(files)
    except Exception:  # noqa: BLE001 -- a file that is broken, or begun just now, can make the library raise anything
        readable = [path for path in files if _is_readable(path)]
        log.warning("metrics_incomplete", unreadable_files=len(files) - len(readable))
        return _merge(readable)


def _merge(files: list[str]) -> list[Metric]:
    return list(MultiProcessCollector.merge(files))


def _is_readable(path: str) -> bool:
    try:
        _merge([path])
    except Exception:  # noqa: BLE001 -- the library names no error for a broken file
        return False
    return True


def _collect_or_log(collector: Collector) -> Iterable[Metric]:
    try:
        return list(collector.collect())
    except Exception as error:
        # Whatever it is: the other metrics are all the more needed.
        log.warning("metrics_incomplete", collector=type(collector).__name__, exc_info=error)
        return ()
