"""deploy/grafana/catalog.json needs no plugin, and what it shows is exported; tests/live/test_prometheus.py asks."""

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tests.conftest import on_one_database
from tests.dashboard import DASHBOARD, PANELS, ROWS, queries_of
from tests.exported import exported_families, exported_names, names_in

#: The panels that Grafana has without plugins.
TYPES = {"heatmap", "stat", "table", "timeseries"}
COLUMNS = 24
each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])

Panel = dict[str, Any]


def test_is_a_dashboard_that_any_grafana_can_import() -> None:
    (variable,) = DASHBOARD["templating"]["list"]

    assert DASHBOARD["uid"] == "catalog-api"
    assert 36 <= DASHBOARD["schemaVersion"] <= 41
    # The id is the database's, and its own version would have to be kept.
    assert "id" not in DASHBOARD
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) == {"datasource", "__rate_interval"}


def test_has_a_row_for_each_part() -> None:
    assert [row["title"] for row in ROWS] == [
        "Traffic",
        "Database",
        "Cache and limits",
        "Jobs",
        "Webhooks and streams",
        "Media",
        "People and searches",
        "Versions",
    ]


@each_panel
def test_a_panel_says_what_it_shows(panel: Panel) -> None:
    assert panel["type"] in TYPES
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])


@on_one_database
def test_panels_show_what_is_exported_and_all_of_it(app: Flask) -> None:
    shown = {panel["title"]: {name for query in queries_of(panel) for name in names_in(query)} for panel in PANELS}
    all_shown = {name for names in shown.values() for name in names}

    assert [title for title, names in shown.items() if not names] == ["Processes"]
    assert all_shown - exported_names(app) == set()
    assert [family for family, names in exported_families(app).items() if not names & all_shown] == []


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    placed = [panel["gridPos"] for panel in DASHBOARD["panels"]]

    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(placed)
    assert all(place["x"] + place["w"] <= COLUMNS for place in placed)
    for one, other in combinations(placed, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or apart, (one, other)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's package prometheus")
def test_every_query_is_valid(tmp_path: Path) -> None:
    queries = [query for panel in PANELS for query in queries_of(panel)]
    rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))

    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(queries)} rules found" in done.stdout
