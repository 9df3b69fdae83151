"""deploy/prometheus: the rules are valid, each alert fires on its fault and on nothing else, and has its section."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask

from tests.conftest import on_one_database
from tests.exported import exported_names, names_in
from tests.servers import PROJECT

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's package prometheus")

FOLDER = PROJECT / "deploy" / "prometheus"
RUNBOOK = PROJECT / "docs" / "alerts.md"
GROUPS = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}

REQUESTS = "catalog_http_request_duration_seconds"
API, STREAMS, WORKER = (f'job="catalog-{name}",instance="{name}:9100"' for name in ("api", "streams", "worker"))
#: Of each series, its values: every 15 s for an hour, in promtool's notation.
Series = Mapping[str, str]
HEALTHY: Series = {
    **{f"up{{{labels}}}": "1x240" for labels in (API, STREAMS, WORKER)},
    **{f"catalog_database_up{{{labels}}}": "1x240" for labels in (API, STREAMS, WORKER)},
    **{f'catalog_build_info{{{labels},version="1.0.0",commit="a"}}': "1x240" for labels in (API, STREAMS, WORKER)},
    # 20 requests a second, of which one in a hundred fails, and nine in ten take 10 ms.
    f'{REQUESTS}_count{{{API},route="/api/v1/products",method="GET",status="2xx"}}': "0+297x240",
    f'{REQUESTS}_count{{{API},route="/api/v1/products",method="GET",status="5xx"}}': "0+3x240",
    f'{REQUESTS}_bucket{{{API},le="0.01"}}': "0+270x240",
    f'{REQUESTS}_bucket{{{API},le="0.1"}}': "0+299x240",
    f'{REQUESTS}_bucket{{{API},le="1.0"}}': "0+300x240",
    f'{REQUESTS}_bucket{{{API},le="2.5"}}': "0+300x240",
    f'{REQUESTS}_bucket{{{API},le="+Inf"}}': "0+300x240",
    # Clients send what breaks constraints, and transactions that meet are retried.
    f'catalog_database_errors_total{{{API},sqlstate_class="23"}}': "0+30x240",
    f'catalog_database_errors_total{{{API},sqlstate_class="40"}}': "0+30x240",
    f'catalog_database_errors_total{{{API},sqlstate_class="57"}}': "0+1x240",
    f'catalog_redis_up{{{API},purpose="rate_limits"}}': "1x240",
    f'catalog_workers{{{API},kind="worker"}}': "1x240",
    f'catalog_workers{{{API},kind="celery"}}': "0x240",
    # One has died before, and was replaced.
    f'catalog_workers_silent{{{API},kind="worker"}}': "1x240",
    f'catalog_jobs_oldest_due_seconds{{{API},kind="import"}}': "0x100 200x20 0x120",
    f'catalog_job_duration_seconds_count{{{WORKER},kind="import",status="succeeded"}}': "0+1x240",
    f'catalog_job_duration_seconds_count{{{WORKER},kind="import",status="failed"}}': "0x200 1x40",
    f'catalog_media_processed_total{{{WORKER},outcome="ready"}}': "0+2x240",
    f'catalog_media_processed_total{{{WORKER},outcome="failed"}}': "0+1x240",
    f'catalog_webhook_lag_seconds{{{API},stage="feed"}}': "1x240",
    f'catalog_webhook_lag_seconds{{{API},stage="delivery"}}': "0x240",
    f'catalog_webhook_deliveries_total{{{WORKER},outcome="succeeded"}}': "0+9x240",
    f'catalog_webhook_deliveries_total{{{WORKER},outcome="retried"}}': "0+1x240",
    f'catalog_logins_total{{{API},outcome="succeeded"}}': "0+15x240",
    f'catalog_logins_total{{{API},outcome="failed"}}': "0+5x240",
}
#: Of each alert, what is otherwise than on a healthy day; None where a series is gone.
FAULTS: Mapping[str, Mapping[str, str | None]] = {
    "CatalogTargetDown": {f"up{{{WORKER}}}": "0x240"},
    "CatalogProcessMissing": {f"up{{{STREAMS}}}": None},
    "CatalogTwoReleases": {f'catalog_build_info{{{API},version="1.1.0",commit="b"}}': "1x240"},
    "CatalogErrors": {f'{REQUESTS}_count{{{API},route="/api/v1/products",method="GET",status="5xx"}}': "0+30x240"},
    "CatalogSlow": {f'{REQUESTS}_bucket{{{API},le="{bound}"}}': "0+280x240" for bound in ("0.1", "1.0")},
    "CatalogDatabaseDown": {f"catalog_database_up{{{API}}}": "0x240"},
    "CatalogDatabaseErrors": {f'catalog_database_errors_total{{{API},sqlstate_class="08"}}': "0+3x240"},
    "CatalogDatabaseOutOfResources": {f'catalog_database_errors_total{{{API},sqlstate_class="53"}}': "0+1x240"},
    "CatalogRedisLost": {f'catalog_redis_up{{{API},purpose="rate_limits"}}': "0x240"},
    "CatalogNoWorker": {f'catalog_workers{{{API},kind="worker"}}': "0x240"},
    "CatalogWorkerDied": {f'catalog_workers_silent{{{API},kind="worker"}}': "1x200 2x40"},
    "CatalogJobsLate": {f'catalog_jobs_oldest_due_seconds{{{API},kind="media"}}': "0+15x240"},
    "CatalogJobsFailing": {
        f'catalog_job_duration_seconds_count{{{WORKER},kind="webhook",status="queued"}}': "0+1x240",
        f'catalog_job_duration_seconds_count{{{WORKER},kind="webhook",status="failed"}}': "0+2x240",
    },
    "CatalogMediaFailing": {f'catalog_media_processed_total{{{WORKER},outcome="failed"}}': "0+3x240"},
    "CatalogWebhooksLate": {f'catalog_webhook_lag_seconds{{{API},stage="delivery"}}': "0+15x240"},
    "CatalogWebhooksFailing": {f'catalog_webhook_deliveries_total{{{WORKER},outcome="retried"}}': "0+10x240"},
    "CatalogLoginFailures": {
        f'catalog_logins_total{{{API},outcome="failed"}}': "0+100x240",
        f'catalog_logins_total{{{API},outcome="blocked"}}': "0+100x240",
    },
}
#: What must not be an alert: a ratio of next to no traffic, and what lasts only for a moment.
HARMLESS: Mapping[str, Mapping[str, str | None]] = {
    "one request at night that fails": {
        **{name: None for name in HEALTHY if name.startswith(REQUESTS)},
        f'{REQUESTS}_count{{{API},route="/api/v1/products",method="GET",status="5xx"}}': "0x100 1x140",
        f'{REQUESTS}_bucket{{{API},le="2.5"}}': "0x100 0x140",
        f'{REQUESTS}_bucket{{{API},le="+Inf"}}': "0x100 1x140",
    },
    "a restart": {f"up{{{API}}}": "1x100 0x4 1x136", f'catalog_workers{{{API},kind="worker"}}': "1x100 0x4 1x136"},
    "a moment without Redis": {f'catalog_redis_up{{{API},purpose="rate_limits"}}': "1x100 0x6 1x134"},
    "no traffic at all": {name: "0x240" for name in HEALTHY if name.endswith("_total") or name.startswith(REQUESTS)},
    "a server without Redis, and a database without webhooks": {
        name: None for name in HEALTHY if "redis" in name or "webhook" in name
    },
}
FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'


def case(name: str, changed: Mapping[str, str | None], *, firing: set[str]) -> dict[str, Any]:
    """A test of promtool: over an hour, these alerts fire at its end, and no other at any time."""
    series = {**HEALTHY, **changed}
    seen = "count by (alertname) (max_over_time(ALERTS{alertstate='firing'}[1h]))"
    samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(firing)]
    return {
        "name": name,
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items() if values is not None],
        "promql_expr_test": [
            {"expr": expression, "eval_time": "60m", "exp_samples": samples} for expression in (FIRING, seen)
        ],
    }


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def run_cases(folder: Path, *cases: dict[str, Any], rules: Path = FOLDER / "alerts.yaml") -> None:
    # YAML is a superset of JSON.
    (folder / "cases.yaml").write_text(
        json.dumps({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": list(cases)})
    )
    promtool("test", "rules", folder / "cases.yaml")


class TestTheFiles:
    def test_are_valid(self) -> None:
        promtool("check", "config", "--lint-fatal", FOLDER / "prometheus.yaml")
        promtool("check", "rules", "--lint-fatal", FOLDER / "alerts.yaml")

    def test_are_valid_with_a_token(self, tmp_path: Path) -> None:
        shutil.copy(FOLDER / "alerts.yaml", tmp_path)
        text = (FOLDER / "prometheus.yaml").read_text()
        with_token = re.sub(r"# (authorization:|  credentials_file:)", r"\1", text)
        (tmp_path / "prometheus.yaml").write_text(with_token)
        (tmp_path / "metrics_token").write_text("t" * 32)

        promtool("check", "config", tmp_path / "prometheus.yaml")
        jobs = yaml.safe_load(with_token)["scrape_configs"]
        assert [job["authorization"]["credentials_file"] for job in jobs] == ["metrics_token"] * 3

    def test_scrape_every_process_of_the_composition(self) -> None:
        services = yaml.safe_load((PROJECT / "deploy" / "compose.yaml").read_text())["services"]
        jobs = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
        hosts = {name for job in jobs for found in job["dns_sd_configs"] for name in found["names"]}

        # The application's own services, but for that which ends.
        own = {name for name, service in services.items() if service.get("image") == "catalog-api"} - {"migrate"}
        assert hosts == own
        assert {job["job_name"] for job in jobs} == {f"catalog-{host}" for host in hosts}
        ports = {str(found["port"]) for job in jobs for found in job["dns_sd_configs"]}
        assert ports == {services[name]["environment"]["METRICS_PORT"] for name in own}

    @on_one_database
    def test_name_only_what_is_exported(self, app: Flask) -> None:
        names = {name for rule in ALERTS.values() for name in names_in(rule["expr"])}

        assert names - exported_names(app) == set()


class TestEachAlert:
    @pytest.mark.parametrize("alert", ALERTS)
    def test_says_how_bad_it_is_and_what_to_do(self, alert: str) -> None:
        rule = ALERTS[alert]

        assert rule["labels"] == {"severity": rule["labels"]["severity"]}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#{alert.lower()}"
        assert re.fullmatch(r"[1-9]\d*m", rule["for"])

    def test_has_its_section_in_the_runbook(self) -> None:
        text = RUNBOOK.read_text()

        assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == list(ALERTS)
        for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
            assert re.findall(r"^\*\*(.+?)\*\*", section, re.MULTILINE) == ["Means.", "Look at.", "Do."], section

    def test_fires_on_its_fault_and_on_no_other(self, tmp_path: Path) -> None:
        assert FAULTS.keys() == ALERTS.keys()

        run_cases(tmp_path, *(case(alert, fault, firing={alert}) for alert, fault in FAULTS.items()))

    def test_is_quiet_on_a_healthy_day_and_after_what_is_harmless(self, tmp_path: Path) -> None:
        run_cases(tmp_path, *(case(name, fault, firing=set()) for name, fault in {"": {}, **HARMLESS}.items()))

    def test_would_be_missed(self, tmp_path: Path) -> None:
        # The other tests believe promtool: without any rule it must find each alert missing.
        none = tmp_path / "none.yaml"
        none.write_text('{"groups": []}')

        with pytest.raises(AssertionError) as missed:
            run_cases(tmp_path, *(case(alert, fault, firing={alert}) for alert, fault in FAULTS.items()), rules=none)

        assert set(re.findall(r'exp: {alertname="(\w+)"}', str(missed.value))) == ALERTS.keys()
