"""The names of what is exported for Prometheus, and those that an expression of PromQL asks for."""

import re

from flask import Flask

from app.core.exposition import Exposition

#: What a metric of a type exports is called like this, after the metric.
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",)}
NAME = re.compile(r"\bcatalog_[a-z0-9_]+")
#: Values of labels are no names.
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def exported_families(app: Flask) -> dict[str, set[str]]:
    """Every metric of the catalogue's own, with the names under which a process exports it."""
    exposition: Exposition = app.extensions["exposition"]
    return {
        family.name: {family.name + suffix for suffix in SUFFIXES[family.type]}
        for family in exposition.collect()
        if family.name.startswith("catalog_")
    }


def exported_names(app: Flask) -> set[str]:
    """Every name under which a process of the catalogue exports something of its own."""
    return {name for names in exported_families(app).values() for name in names}


def names_in(expression: str) -> set[str]:
    """The names of the catalogue's metrics in an expression."""
    return set(NAME.findall(STRING.sub("", expression)))
