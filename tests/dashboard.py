"""The dashboard for Grafana as a test reads it: its panels, and their queries as Prometheus takes them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.servers import PROJECT

DASHBOARD: dict[str, Any] = json.loads((PROJECT / "deploy" / "grafana" / "catalog.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ROWS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] == "row"]


def queries_of(panel: Mapping[str, Any], *, window: str = "5m") -> Iterator[str]:
    """The queries of a panel, with what Grafana fills in; ``window`` is over how long rates are taken."""
    for target in panel["targets"]:
        yield target["expr"].replace("$__rate_interval", window)
