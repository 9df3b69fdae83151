"""What is loaded when the application starts: the libraries by the master, the application by each worker, no more."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.servers import PROJECT, gunicorn_server

#: The master reads gunicorn.conf.py, and then a worker the application.
START = """
import json, runpy, sys

def loaded():
    return {name for name, module in sys.modules.items() if module}

runpy.run_path("gunicorn.conf.py")
master = loaded()
from prometheus_client import REGISTRY
counted = [metric.name for metric in REGISTRY.collect() if metric.name.startswith("catalog_")]
import wsgi
print(json.dumps([sorted(master), sorted(loaded() - master), counted]))
"""
#: What commands, tests and the documentation need, and a request never does.
NEVER = {
    "alembic", "apispec", "celery", "flask_migrate", "hypothesis", "mako", "pytest", "redis", "zxcvbn",
    "app.cli.catalog", "app.cli.users", "app.features.imports.importer", "app.features.samples", "app.web.openapi",
}  # fmt: skip


def settings(folder: Path) -> dict[str, str]:
    return {
        "APP_ENV": "testing",
        "SECRET_KEY": "0123456789abcdef" * 2,
        "JWT_SECRET_KEY": "fedcba9876543210" * 2,
        "DATABASE_URL": f"sqlite:///{folder / 'catalog.db'}",
    }


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """The modules that the master loads, and those that a worker then loads."""
    return modules_with(settings(tmp_path_factory.mktemp("start")))


def modules_with(environ: dict[str, str]) -> tuple[set[str], set[str]]:
    """The same with some settings."""
    started = subprocess.run(
        [sys.executable, "-c", START],
        cwd=PROJECT,
        env=environ,
        check=True,
        capture_output=True,
        timeout=60,
    )
    master, worker, _ = json.loads(started.stdout)
    return set(master), set(worker)


class TestMaster:
    def test_holds_nothing_that_a_reload_must_read_anew(self, modules: tuple[set[str], set[str]]) -> None:
        assert {name for name in modules[0] if name.partition(".")[0] in {"app", "config", "wsgi"}} == set()

    def test_nor_what_a_setting_is_checked_by(self, tmp_path: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / "key.pem").write_bytes(key)
        checked = {"WEBHOOK_ALLOWED_PRIVATE_HOSTS": "127.0.0.1", "JWT_KEY_FILES": str(tmp_path / "key.pem")}

        started = subprocess.run(
            [sys.executable, "-c", START], cwd=PROJECT, env=settings(tmp_path) | checked, check=True,
            capture_output=True, timeout=60,
        )  # fmt: skip

        master, worker, counted = json.loads(started.stdout)
        assert [name for name in master if name.partition(".")[0] == "app"] == []
        assert {"app.clients.addresses", "app.security.keys"} <= set(worker)
        # What the master counts, each worker would count for itself alone.
        assert counted == []

    def test_holds_every_library(self, modules: tuple[set[str], set[str]]) -> None:
        master, worker = ({name.partition(".")[0] for name in loaded} for loaded in modules)

        assert worker - master - sys.stdlib_module_names == {"app", "config", "wsgi"}

    def test_holds_those_that_trace_where_traces_are_on(
        self, modules: tuple[set[str], set[str]], tmp_path: Path
    ) -> None:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
        traced = modules_with({**settings(tmp_path), **endpoint})
        master, worker = ({name.partition(".")[0] for name in loaded} for loaded in traced)

        assert "opentelemetry" not in {name.partition(".")[0] for name in (*modules[0], *modules[1])}
        assert "opentelemetry" in master
        assert worker - master - sys.stdlib_module_names == {"app", "config", "wsgi"}


class TestWorker:
    def test_loads_nothing_that_no_request_needs(self, modules: tuple[set[str], set[str]]) -> None:
        assert NEVER & (modules[0] | modules[1]) == set()


@pytest.mark.live
class TestReload:
    def test_picks_up_the_code_of_a_new_release(self, tmp_path: Path) -> None:
        for name in ("app", "migrations"):
            shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("config.py", "gunicorn.conf.py", "gunicorn_worker.py", "wsgi.py"):
            shutil.copy(PROJECT / name, tmp_path / name)

        with gunicorn_server(settings(tmp_path), workers=1, folder=tmp_path) as server:
            self.release(tmp_path)
            server.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and self.status(server.port) != "new":
                time.sleep(0.1)

            assert self.status(server.port) == "new", server.log()
            assert server.log().count("testing, sqlite, 1 worker x 8 threads") == 2

    @staticmethod
    def release(folder: Path) -> None:
        """Add a setting, and answer with it."""
        config, health = folder / "config.py", folder / "app" / "web" / "health.py"
        setting = '    news: str = _setting("new")\n'
        config.write_text(config.read_text("utf-8").replace("    host:", f"{setting}    host:", 1), "utf-8")
        view = health.read_text("utf-8").replace('"ok"}', 'current_app.config["NEWS"]}')
        health.write_text(f"from flask import current_app\n{view}", "utf-8")

    @staticmethod
    def status(port: int) -> str | None:
        try:
            status: str = requests.get(f"http://127.0.0.1:{port}/livez", timeout=10).json()["status"]
        except requests.ConnectionError:
            return None
        return status
