"""What a process exports where its folder, or a file in it, cannot be used: metrics must not take the server along."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from app.core.exposition import MIN_FREE_BYTES, expose, read_files
from app.core.metric_files import FOLDER
from tests.servers import INHERITED, PROJECT

COUNT = """
import os, sys
free = int(sys.argv[1])
if free:
    system = os.statvfs
    os.statvfs = lambda path: type("Found", (), {"f_bavail": free, "f_frsize": 1, "path": system(path)})
from app.core import exposition, metrics
metrics.STATEMENTS.inc()
exposition.log_where_counted()
print(exposition.expose(exposition.Exposition(), "")[0].decode())
"""


def exported_in(folder: Path, *, free: int = 0) -> str:
    """What a process prints that counts one statement in a folder, where so many bytes are ``free``."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    command = [sys.executable, "-c", COUNT, str(free)]
    environment = {**inherited, FOLDER: str(folder)}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True).stdout


class TestAProcess:
    def test_counts_in_the_folder(self, tmp_path: Path) -> None:
        assert "catalog_database_statements_total 1.0" in exported_in(tmp_path)
        # The next one goes on in its files.
        assert "catalog_database_statements_total 2.0" in exported_in(tmp_path)

    def test_counts_for_itself_where_the_folder_is_gone(self, tmp_path: Path) -> None:
        printed = exported_in(tmp_path / "gone")

        assert "metrics_not_shared" in printed
        assert "catalog_database_statements_total 1.0" in printed

    def test_counts_for_itself_where_the_folder_is_full(self, tmp_path: Path) -> None:
        printed = exported_in(tmp_path, free=MIN_FREE_BYTES - 1)

        assert "metrics_not_shared" in printed
        assert "catalog_database_statements_total 1.0" in printed
        assert list(tmp_path.iterdir()) == []
        assert "metrics_not_shared" not in exported_in(tmp_path, free=MIN_FREE_BYTES)


class TestReading:
    @pytest.mark.parametrize("content", [b"", b"\0" * 4096, bytes(range(256)) * 16], ids=["empty", "new", "broken"])
    def test_leaves_out_a_file_that_cannot_be_read(self, tmp_path: Path, content: bytes) -> None:
        exported_in(tmp_path)
        (tmp_path / "counter_7.db").write_bytes(content)

        found = {metric.name: metric.samples[0].value for metric in read_files(tmp_path) if metric.samples}

        assert found["catalog_database_statements"] == 1

    def test_exports_its_own_where_the_folder_is_gone(self, tmp_path: Path) -> None:
        with capture_logs() as lines:
            names = {metric.name for metric in read_files(tmp_path / "gone")}

        assert "catalog_database_statements" in names
        assert [line["event"] for line in lines] == ["metrics_not_shared"]


def test_a_version_that_is_none_gets_prometheus_text() -> None:
    content, media_type = expose(CollectorRegistry(), "application/openmetrics-text;version=x")

    assert (content, media_type.partition(";")[0]) == (b"", "text/plain")
