"""Logging in: whether its time betrays an account, and what a storm of logins leaves for those who read.

Run with ``make bench-login``. It starts two gunicorn workers on a SQLite file of its own, on the loopback.
"""

import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from flask import Flask
from flask_migrate import upgrade

from app import create_app
from app.core.transactions import unit_of_work
from app.features.users import service as users
from config import Config, Environment
from tests.servers import gunicorn_server

PASSWORD = "a long enough password"  # noqa: S105 -- of accounts that live for a minute
SECRETS = {"secret_key": "benchmark-signing-" * 3, "jwt_secret_key": "benchmark-tokens-" * 3}
TRIES = 30
#: Below the guard's ten failures for each account.
TRIES_AN_ACCOUNT = 6
STORM_SECONDS = 10


@contextmanager
def served() -> Iterator[str]:
    """A server with active and inactive accounts."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder, 'catalog.db')}"
        app = create_app(Config.from_environment({}, app_env=Environment.TESTING, database_url=url, **SECRETS))
        with app.app_context():
            upgrade()
            make_accounts(app)
        environment = {name.upper(): value for name, value in SECRETS.items()}
        environment |= {"APP_ENV": "testing", "DATABASE_URL": url, "RATE_LIMIT_ENABLED": "false", "LOG_LEVEL": "ERROR"}
        with gunicorn_server(environment, workers=2, threads=4) as server:
            yield server.url + "/api/v1"


def make_accounts(_app: Flask) -> None:
    for number in range(TRIES // TRIES_AN_ACCOUNT):
        for kind in ("active", "inactive"):
            name = f"{kind}{number}"
            with unit_of_work():
                users.create_user(
                    email=f"{name}@example.com", username=name, password=PASSWORD, is_active=kind == "active"
                )


def time_refusals(api: str) -> dict[str, float]:
    """The median seconds of each kind of refusal, tried in turns."""
    kinds: dict[str, Callable[[int], tuple[str, str]]] = {
        "unknown": lambda n: (f"unknown{n}@example.com", PASSWORD),
        "wrong": lambda n: (f"active{n}@example.com", "not the password"),
        "inactive": lambda n: (f"inactive{n}@example.com", PASSWORD),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    with requests.Session() as session:
        for attempt in range(TRIES):
            for kind, credentials in kinds.items():
                email, password = credentials(attempt // TRIES_AN_ACCOUNT)
                started = time.perf_counter()
                answer = session.post(f"{api}/auth/login", json={"email": email, "password": password}, timeout=30)
                seconds[kind].append(time.perf_counter() - started)
                if answer.status_code != 401:
                    sys.exit(f"{kind}: {answer.status_code} {answer.text}")
    return {kind: statistics.median(values) for kind, values in seconds.items()}


def storm(api: str) -> tuple[float, float, int]:
    """Logins a second from eight clients, the 99th percentile of a read meanwhile, and logins told to come again."""
    over = threading.Event()

    def log_in(number: int) -> list[requests.Response]:
        body = {"email": f"active{number % 5}@example.com", "password": PASSWORD}
        return ask_on("POST", "/auth/login", json=body)

    def ask_on(method: str, path: str, **content: Any) -> list[requests.Response]:
        answers = []
        with requests.Session() as session:
            while not over.is_set():
                answers.append(session.request(method, f"{api}{path}", timeout=30, **content))
        return answers

    credentials = {"email": "active0@example.com", "password": PASSWORD}
    token = requests.post(f"{api}/auth/login", json=credentials, timeout=30).json()["access_token"]
    with ThreadPoolExecutor(9) as threads:
        storming = [threads.submit(log_in, number) for number in range(8)]
        reading = threads.submit(ask_on, "GET", "/users/me", headers={"Authorization": f"Bearer {token}"})
        time.sleep(STORM_SECONDS)
        over.set()
    logins = Counter(answer.status_code for thread in storming for answer in thread.result())
    reads = Counter(answer.status_code for answer in reading.result())
    if logins.keys() - {200, 503} or reads.keys() - {200}:
        sys.exit(f"errors: logins {dict(logins)}, reads {dict(reads)}")
    p99 = statistics.quantiles((answer.elapsed.total_seconds() for answer in reading.result()), n=100)[98]
    return logins[200] / STORM_SECONDS, p99, logins[503]


def main() -> None:
    """Print both, and fail where the times tell accounts apart."""
    with served() as api:
        medians = time_refusals(api)
        ratio = max(medians.values()) / min(medians.values())
        each = ", ".join(f"{kind} {seconds * 1000:.1f} ms" for kind, seconds in medians.items())
        print(f"refusals, median of {TRIES}: {each}; slowest to fastest {ratio:.2f} (at most 1.20)")
        rate, p99, refused = storm(api)
        print(
            f"storm of eight clients: {rate:.0f} logins/s (at least 20), {refused} told to come again; "
            f"reads meanwhile p99 {p99 * 1000:.0f} ms (at most 500)"
        )
    if ratio > 1.2:
        sys.exit("the time of a refusal tells accounts apart")


if __name__ == "__main__":
    main()
