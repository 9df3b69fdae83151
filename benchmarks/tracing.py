"""What traces cost: the CPU time of a request where they are off, recorded, and recorded of a tenth of the requests.

Run with ``make bench-tracing``. One server each on one PostgreSQL, measured in turn; ``--before`` adds the application
of another commit. Figures are ratios of the servers' own CPU time, the sending of spans included, each the median of
rounds. The response cache is off, so that each read has its statements.
"""

import argparse
import io
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from flask_migrate import upgrade

from app import create_app
from app.core.transactions import unit_of_work
from app.features.users import service as users
from app.security.permissions import Role
from benchmarks import procfs
from config import Config, Environment
from tests.live.conftest import SECRETS, environment
from tests.live.wire import Client
from tests.receiver import receiver
from tests.servers import PROJECT, GunicornServer, create_database, gunicorn_server, postgres_server

PASSWORD = "correct horse battery"  # noqa: S105 -- of an account that lives as long as the benchmark
PRODUCTS = 2000
#: What a request is compared with.
OFF = "off"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracing", description=__doc__)
    parser.add_argument("--before", metavar="COMMIT", help="compare the application of this commit too")
    parser.add_argument("--requests", type=int, default=400, help="of each kind, server and round")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with _servers(arguments.before) as servers, ExitStack() as stack:
        clients = {name: stack.enter_context(closing(_log_in(server))) for name, server in servers.items()}
        for title, send in _requests(clients[OFF]).items():
            for client in clients.values():
                _repeat(send, client, arguments.requests // 4)
            costs: dict[str, list[float]] = {name: [] for name in servers}
            for _ in range(arguments.rounds):
                for name, server in servers.items():
                    began = procfs.cpu_seconds(server.process.pid)
                    _repeat(send, clients[name], arguments.requests)
                    costs[name].append(procfs.cpu_seconds(server.process.pid) - began)
            print(_line(title, costs, arguments.requests))


def _line(title: str, costs: Mapping[str, list[float]], number: int) -> str:
    # Of each round, so that a change of the machine's speed is in both.
    ratios = {
        name: statistics.median(cost / off for cost, off in zip(each, costs[OFF], strict=True))
        for name, each in costs.items()
        if name != OFF
    }
    milliseconds = 1000 * statistics.median(costs[OFF]) / number
    shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    return f"{title}: {shown} of what it takes where traces are off ({milliseconds:.2f} ms of CPU)"


def _requests(client: Client) -> dict[str, Callable[[Client], int]]:
    product = client.get("/products?per_page=1").json["items"][0]["id"]
    names = iter(range(10**9))
    return {
        "a product": lambda client: client.get(f"/products/{product}").status,
        "a list of 20": lambda client: client.get("/products?per_page=20").status,
        "a change": lambda client: client.patch(f"/products/{product}", {"name": f"Name {next(names)}"}).status,
    }


def _repeat(send: Callable[[Client], int], client: Client, times: int) -> None:
    for _ in range(times):
        if (status := send(client)) != 200:
            sys.exit(f"a request got {status}")


@contextmanager
def _servers(before: str | None) -> Iterator[dict[str, GunicornServer]]:
    with ExitStack() as stack:
        url = create_database(stack.enter_context(postgres_server()), "catalog")
        _fill(url)
        collector = stack.enter_context(receiver())
        collector.reply(200)
        plain = environment(url, ANSWER_CACHE_BYTES="0")
        traced = {**plain, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        sampled = {**traced, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
        made = {OFF: (plain, PROJECT), "recorded": (traced, PROJECT), "a tenth": (sampled, PROJECT)}
        if before is not None:
            made["before"] = plain, _unpack(before, stack)
        yield {
            name: stack.enter_context(gunicorn_server(env, workers=1, threads=1, folder=folder))
            for name, (env, folder) in made.items()
        }


def _fill(url: str) -> None:
    keys = {name.lower(): value for name, value in SECRETS.items()}
    settings = {"app_env": Environment.TESTING, "database_url": url, "rate_limit_enabled": False, **keys}
    app = create_app(Config.from_environment({}, **settings))
    with app.app_context():
        upgrade()
        with unit_of_work():
            users.create_user(email="root@example.com", username="root", password=PASSWORD, role=Role.ADMIN)
    command = ["catalog", "generate", "--count", str(PRODUCTS), "--parents", "0"]
    app.test_cli_runner().invoke(args=command, catch_exceptions=False)


def _unpack(commit: str, stack: ExitStack) -> Path:
    """The application of a commit, in a folder of its own."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="catalog-before-")))
    archive = subprocess.run(["git", "archive", commit], cwd=PROJECT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def _log_in(server: GunicornServer) -> Client:
    client = Client(server.port)
    answer = client.post("/auth/login", {"email": "root@example.com", "password": PASSWORD})
    if answer.status != 200:
        sys.exit(f"the login got {answer.status}")
    client.token = answer.json["access_token"]
    return client


if __name__ == "__main__":
    main()
