"""The names of what is exported for Prometheus, and those that an expression of PromQL asks for."""

import re

from prometheus_client import REGISTRY

from app.core import metrics  # noqa: F401 -- they are in the registry once they are made

#: What a metric of a type exports is called like this, after the metric.
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
NAME = re.compile(r"\bcatalog_[a-z0-9_]+")
#: Values of labels are no names.
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def exported_families() -> dict[str, set[str]]:
    """Every metric of the catalogue's own, with the names under which a process exports it."""
    return {
        family.name: {family.name + suffix for suffix in SUFFIXES.get(family.type, ("",))}
        for family in REGISTRY.collect()
        if family.name.startswith("catalog_")
    }


def exported_names() -> set[str]:
    """Every name under which a process of the catalogue exports something of its own."""
    return {name for names in exported_families().values() for name in names}


def names_in(expression: str) -> set[str]:
    """The names of the catalogue's metrics in an expression."""
    return set(NAME.findall(STRING.sub("", expression)))
