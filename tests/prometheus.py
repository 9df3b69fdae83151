"""A real Prometheus for tests: it scrapes what a test runs, by the shipped rules with shorter times."""

import http.client
import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.servers import PROJECT, free_port

RULES = PROJECT / "deploy" / "prometheus" / "alerts.yaml"
#: Seconds. A scrape may take as long as a database that hangs is waited for.
INTERVAL = 2
#: Over which rates are taken, instead of minutes: a few scrapes.
WINDOW = "12s"

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")), reason="needs Debian's package prometheus"
)

Labels = dict[str, str]


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    port: int

    def query(self, expression: str) -> list[tuple[Labels, float]]:
        """What an expression is now: the labels and value of each series that has one, and is a number."""
        found = self._read(f"/api/v1/query?query={quote(expression, safe='')}")["result"]
        samples = [(series["metric"], float(series["value"][1])) for series in found]
        return [(labels, value) for labels, value in samples if not math.isnan(value)]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = self._read("/api/v1/alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def _read(self, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            content = json.loads(answer.read())
            assert answer.status == 200, content
            data: dict[str, Any] = content["data"]
            return data
        finally:
            connection.close()


def shortened_rules() -> str:
    """The shipped rules, which hold at once and look at the last seconds; thresholds are as they are."""
    text = re.sub(r"\bfor: \d+m$", f"for: {3 * INTERVAL}s", RULES.read_text(), flags=re.MULTILINE)
    return re.sub(r"\[\d+m\]", f"[{WINDOW}]", text)


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, int], *, token: str) -> Iterator[Prometheus]:
    """Scrape the ports of the jobs, by the token, until the end of the block; what was scraped is in the folder."""
    (folder / "alerts.yaml").write_text(shortened_rules())
    times = {"scrape_interval": f"{INTERVAL}s", "scrape_timeout": f"{INTERVAL}s", "evaluation_interval": "1s"}
    jobs = [
        {
            "job_name": job,
            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
            "authorization": {"credentials": token},
        }
        for job, port in targets.items()
    ]
    config = {"global": times, "rule_files": ["alerts.yaml"], "scrape_configs": jobs}
    # YAML is a superset of JSON.
    (folder / "prometheus.yaml").write_text(json.dumps(config))
    port = free_port()
    command = ["prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--log.level=warn"]
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for(port, process, folder / "log")
        yield Prometheus(port)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while not _is_ready(port):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
