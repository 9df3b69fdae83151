"""docs/following.md: its program keeps a copy of the products."""

import re
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_migrate import upgrade

from app import create_app
from app.core import clock
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.events import service as events
from tests.conftest import Caller, body_of, settings_for
from tests.live.conftest import SECRETS, environment
from tests.servers import PROJECT, GunicornServer, gunicorn_server

pytestmark = pytest.mark.live

Make = Callable[..., dict[str, Any]]
Keep = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def backend() -> str:
    """The program does not see the database."""
    return "sqlite"


@pytest.fixture
def app(backend: str, new_database: Callable[[str], str]) -> Iterator[Flask]:
    """The application of the server, as seen from within."""
    app = create_app(settings_for(new_database(backend), **{name.lower(): value for name, value in SECRETS.items()}))
    with app.app_context():
        upgrade()
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def server(app: Flask) -> Iterator[GunicornServer]:
    with gunicorn_server(environment(app.config["DATABASE_URL"]), workers=1, threads=2) as server:
        yield server


@pytest.fixture
def keep(tmp_path: Path, server: GunicornServer, root: Caller) -> Keep:
    """Run the program once, against the server or another URL."""
    document = (PROJECT / "docs" / "following.md").read_text("utf-8")
    program = re.search(r"^```python\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)
    assert program is not None
    (tmp_path / "follow.py").write_text(program[1])
    scopes = ["products:read", "products:write", "events:read"]
    key = body_of(root.post("/api-keys", {"name": "Copy", "scopes": scopes}))["key"]

    def run(url: str = server.url) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "follow.py", f"{url}/api/v1", key],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return run


def copied(folder: Path) -> list[tuple[Any, ...]]:
    """What the copy has."""
    with closing(sqlite3.connect(folder / "copy.db")) as copy:
        return copy.execute("SELECT * FROM products ORDER BY id").fetchall()


def listed(caller: Caller) -> list[tuple[Any, ...]]:
    """What it should have."""
    items = body_of(caller.get("/products?sort_by=id&order=asc"))["items"]
    return [tuple(item[name] for name in ("id", "sku", "name", "price", "stock")) for item in items]


def write(root: Caller, make_product: Make) -> None:
    """Create, change, sell and delete."""
    made = [make_product(status=status, stock=3) for status in ("active", "draft", "active")]
    root.patch(f"/products/{made[0]['id']}", {"price": "77.00"})
    root.post(f"/products/{made[1]['id']}/stock-movements", {"delta": -1, "reason": "sale"})
    root.delete(f"/products/{made[2]['id']}")


def test_keeps_up_with_what_is_written(tmp_path: Path, keep: Keep, root: Caller, make_product: Make) -> None:
    write(root, make_product)
    last = make_product()

    for _ in range(3):
        done = keep()

        assert done.returncode == 0, done.stderr
        assert copied(tmp_path) == listed(root) != []
        write(root, make_product)
        root.delete(f"/products/{last['id']}")


def test_begins_anew_after_a_long_time(
    tmp_path: Path, app: Flask, keep: Keep, root: Caller, make_product: Make
) -> None:
    write(root, make_product)
    keep()
    write(root, make_product)
    with app.app_context(), unit_of_work():
        events.expire_events(before=clock.now() + timedelta(days=1))

    done = keep()

    assert done.returncode == 0, done.stderr
    assert copied(tmp_path) == listed(root) != []


def test_leaves_the_copy_alone_where_the_download_is_cut(tmp_path: Path, keep: Keep) -> None:
    with cut_download() as url:
        done = keep(url)

    assert "IncompleteRead" in done.stderr
    assert copied(tmp_path) == []


@contextmanager
def cut_download() -> Iterator[str]:
    """A server whose download ends after its first line."""
    line = b'{"id": 1, "sku": "A", "name": "Chair", "price": "1.00", "stock": 3}\n'
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nEvents-Cursor: x\r\n\r\n"

    def answer() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(64 * 1024)
            client.sendall(head + b"%x\r\n%s\r\n" % (len(line), line))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        server = threading.Thread(target=answer)
        server.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.join()
