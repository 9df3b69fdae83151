"""Importing through the API: rows a second, and the memory of who takes the file and of who does the work.

Run with ``make bench-imports``. It starts two gunicorn workers and a ``flask worker`` on each database, on the
loopback.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import requests
from flask_migrate import upgrade

from app import create_app
from app.core.transactions import unit_of_work
from app.features.users import service as users
from app.security.permissions import Role
from config import Config, Environment
from tests.servers import PROJECT, GunicornServer, create_database, gunicorn_server, postgres_server

PASSWORD = "a long enough password"  # noqa: S105 -- of an account that lives for a minute
SECRETS = {"secret_key": "benchmark-signing-" * 3, "jwt_secret_key": "benchmark-tokens-" * 3}
ROWS = 100_000
FURNITURE = PROJECT.parent / "shared" / "data" / "ikea.csv"
COLUMNS = {
    "sku": "item_id",
    "name": "name",
    "price": "price",
    "category": "category",
    "description": "short_description",
    "attributes.designer": "designer",
    "attributes.width": "width",
}
FURNITURE_OPTIONS = {"delimiter": ";", "decimal": ",", "currency": "SAR", "map": json.dumps(COLUMNS)}


def generated() -> Iterator[bytes]:
    """The lines of a file of products."""
    yield b"sku,name,description,price,category,stock,tags,attributes\n"
    for number in range(ROWS):
        attributes = json.dumps({"width_cm": number % 200, "colour": "natural"}).replace('"', '""')
        yield (
            f"S-{number},Oak chair {number},A chair of solid oak for {number % 9 + 1} people.,"
            f'{number % 900 + 1}.50,Category {number % 40},{number % 70},oak|chair|garden,"{attributes}"\n'
        ).encode()


@contextmanager
def served(database_url: str) -> Iterator[tuple[GunicornServer, int]]:
    """A server with an editor, and the process id of a worker."""
    app = create_app(Config.from_environment({}, app_env=Environment.TESTING, database_url=database_url, **SECRETS))
    with app.app_context():
        upgrade()
        with unit_of_work():
            users.create_user(email="alice@example.com", username="alice", password=PASSWORD, role=Role.EDITOR)
    environment = {name.upper(): value for name, value in SECRETS.items()}
    environment |= {"APP_ENV": "testing", "DATABASE_URL": database_url, "RATE_LIMIT_ENABLED": "false"}
    environment |= {"LOG_LEVEL": "ERROR"}
    with gunicorn_server(environment, workers=2, threads=2) as server:
        worker = subprocess.Popen([sys.executable, "-m", "flask", "worker"], cwd=PROJECT, env=environment)
        try:
            yield server, worker.pid
        finally:
            worker.terminate()
            worker.wait()


def peak_memory(pid: int) -> float:
    """The most memory that a process has had, in MiB."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines() if "VmHWM" in line)
    return int(line.split()[1]) / 1024


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()]


def measure(name: str, file: Path, server: GunicornServer, worker: int, **options: str) -> None:
    """Import a file, and print what that took."""
    api = f"{server.url}/api/v1"
    with requests.Session() as session:
        credentials = {"email": "alice@example.com", "password": PASSWORD}
        token = session.post(f"{api}/auth/login", json=credentials, timeout=30).json()["access_token"]
        session.headers["Authorization"] = f"Bearer {token}"
        before = {pid: peak_memory(pid) for pid in children(server.process.pid)}
        started = time.perf_counter()
        with file.open("rb") as content:
            headers = {"Content-Type": "text/csv"}
            sent = session.post(f"{api}/imports", data=content, params=options, headers=headers, timeout=600)
        uploaded = time.perf_counter() - started
        if sent.status_code != 202:
            sys.exit(f"{name}: {sent.status_code} {sent.text}")
        while not (done := session.get(f"{api}/imports/{sent.json()['id']}", timeout=30).json())["finished_at"]:
            time.sleep(0.2)
    if done["status"] != "succeeded":
        sys.exit(f"{name}: {done}")
    seconds = (datetime.fromisoformat(done["finished_at"]) - datetime.fromisoformat(done["started_at"])).total_seconds()
    takers = max(peak_memory(pid) for pid in children(server.process.pid))
    taken = max(peak_memory(pid) - before.get(pid, 0) for pid in children(server.process.pid))
    print(
        f"{name}: {done['rows_read']:,} rows, {file.stat().st_size / 2**20:.1f} MiB, taken in {uploaded:.1f} s, "
        f"done in {seconds:.1f} s: {done['rows_read'] / seconds:,.0f} rows/s; "
        f"{done['created']:,} created, {done['merged']:,} merged, {done['failed']:,} failed; "
        f"peak memory: server {takers:.0f} MiB (+{taken:.0f}), "
        f"worker {peak_memory(worker):.0f} MiB"
    )


def main() -> None:
    """Print the figures of each database."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = folder / "generated.csv"
        file.write_bytes(b"".join(generated()))
        postgres = stack.enter_context(postgres_server())
        urls = {"SQLite": f"sqlite:///{folder / 'catalog.db'}", "PostgreSQL": create_database(postgres, "bench")}
        for name, url in urls.items():
            with served(url) as (server, worker):
                measure(f"{name}, generated", file, server, worker)
                measure(f"{name}, the same again", file, server, worker)
                if FURNITURE.exists():
                    measure(f"{name}, furniture", FURNITURE, server, worker, **FURNITURE_OPTIONS)


if __name__ == "__main__":
    main()
