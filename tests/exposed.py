"""What an application has exported, as numbers by name and labels."""

from collections.abc import Iterable
from typing import Any

from flask import Flask
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from app.core.exposition import Exposition


class Exposed(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """The samples of one moment. One that is not there is 0."""

    @classmethod
    def of_text(cls, text: str) -> "Exposed":
        """The samples in Prometheus's text."""
        return cls._of(text_string_to_metric_families(text))

    @classmethod
    def of_app(cls, app: Flask) -> "Exposed":
        """The samples of an application of this process, read without a request."""
        exposition: Exposition = app.extensions["exposition"]
        return cls._of(exposition.collect())

    @classmethod
    def of_process(cls) -> "Exposed":
        """The samples that this process counts itself; reading them asks no database, as `of_app` does now and then."""
        return cls._of(REGISTRY.collect())

    @classmethod
    def _of(cls, families: Iterable[Any]) -> "Exposed":
        samples = (sample for family in families for sample in family.samples)
        return cls({(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples})

    def value(self, name: str, **labels: str) -> float:
        """The one sample with exactly these labels."""
        return self.get((name, frozenset(labels.items())), 0.0)

    def total(self, name: str, **labels: str) -> float:
        """The sum of those that have these labels among others."""
        return sum(value for (one, has), value in self.items() if one == name and labels.items() <= has)

    def since(self, before: "Exposed") -> "Exposed":
        """By how much the samples have grown since an earlier moment."""
        return Exposed({key: value - before.get(key, 0.0) for key, value in self.items()})

    def names(self) -> set[str]:
        """The names of all samples."""
        return {name for name, _ in self}
