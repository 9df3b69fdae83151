"""What metrics have counted meanwhile: tests share the metrics of their process."""

from collections.abc import Callable
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

Labels = tuple[str, ...]


def counter_of(metric: MetricWrapperBase) -> Callable[[], dict[Labels, float]]:
    """A function that says by how much a metric has grown from now on, by the values of its labels.

    Of a histogram, how many observations.
    """
    before = _read(metric)

    def grown() -> dict[Labels, float]:
        now = _read(metric)
        return {labels: value - before.get(labels, 0) for labels, value in now.items() if value != before.get(labels)}

    return grown


def _read(metric: Any) -> dict[Labels, float]:
    samples = [sample for family in metric.collect() for sample in family.samples]
    return {
        tuple(sample.labels.values()): sample.value
        for sample in samples
        if sample.name.endswith(("_total", "_count")) and sample.value
    }
