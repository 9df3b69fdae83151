"""Where this process counts, and what it exports: its own metrics, or those of all processes of its server.

Importing this decides which. prometheus-client wants to know before the first metric is made, so `core.metrics`, which
makes them, imports this first.
"""

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from prometheus_client import REGISTRY, Metric, disable_created_metrics, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.core.metric_files import FOLDER, forget_the_dead, take_slot

log = structlog.get_logger(__name__)


def _choose_values() -> Path | None:
    """Count in the folder of the server that this process belongs to, and return it; in memory without one."""
    named = os.environ.get(FOLDER)
    if not named:
        # Also where PROMETHEUS_MULTIPROC_DIR is set: it is for servers, and only they clear it.
        values.ValueClass = values.MutexValue
        return None
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = named
    slot = take_slot(Path(named))
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: slot.number)
    return Path(named)


_folder = _choose_values()
# Files have no times of creation, and what is exported should not depend on where it is counted.
disable_created_metrics()


@dataclass
class Exposition(Collector):
    """All that this process exports: what it counts, and what `others` find out when they are asked."""

    others: list[Collector] = field(default_factory=list)

    def collect(self) -> Iterator[Metric]:
        """Every metric. One of the others that fails is left out, and its failure is logged."""
        yield from REGISTRY.collect() if _folder is None else _read_files(_folder)
        for collector in self.others:
            yield from _collect_or_log(collector)


def _read_files(folder: Path) -> Iterable[Metric]:
    forget_the_dead(folder)
    collector = MultiProcessCollector(None, path=str(folder))
    try:
        found: list[Metric] = list(collector.collect())
    except struct.error:
        # A process has just begun a file, which is empty for a moment.
        found = list(collector.collect())
    return found


def _collect_or_log(collector: Collector) -> Iterable[Metric]:
    try:
        return list(collector.collect())
    except Exception as error:
        # Whatever it is: the other metrics are all the more needed.
        log.warning("metrics_incomplete", collector=type(collector).__name__, exc_info=error)
        return ()
