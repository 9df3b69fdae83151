"""docs/metrics.md has every metric that is exported, as it is."""

import re

import stamina
from flask import Flask
from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from app.core import metrics
from app.core.exposition import Exposition
from tests.conftest import on_one_database
from tests.servers import PROJECT

PAGE = (PROJECT / "docs" / "metrics.md").read_text("utf-8")
#: Name, type and labels of each row.
ROWS = {
    name: (kind, re.findall(r"`(\w+)`", labels))
    for name, kind, labels in re.findall(r"^\| `(catalog_\w+)` \| (\w+) \| (.*?) ?\| .+ \|$", PAGE, re.MULTILINE)
}
DECLARED = [metric for metric in vars(metrics).values() if isinstance(metric, Counter | Gauge | Histogram)]


def exported_name(name: str, kind: str) -> str:
    return name + {"counter": "_total", "info": "_info"}.get(kind, "")


def test_has_each_metric_that_is_declared_with_its_labels() -> None:
    described = {
        exported_name(family.name, family.type): (family.type, list(metric._labelnames))
        for metric in DECLARED
        for family in metric.describe()
    }

    assert len(described) > 15
    assert {name: row for name, row in ROWS.items() if name in described} == described


@on_one_database
def test_has_each_metric_that_is_exported_and_no_other(app: Flask) -> None:
    exposition: Exposition = app.extensions["exposition"]
    names = {exported_name(family.name, family.type) for family in exposition.collect()}

    assert {name for name in names if name.startswith("catalog_")} == ROWS.keys()


def test_names_what_libraries_add() -> None:
    # stamina makes its metric when something is retried for the first time.
    stamina.instrumentation.get_on_retry_hooks()
    others = {family.name for family in REGISTRY.collect() if not family.name.startswith("catalog_")}

    assert others
    assert {name.partition("_")[0] for name in others} == set(re.findall(r"`(\w+)_\*`", PAGE))
