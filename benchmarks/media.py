"""Pictures: what one costs a worker, and an import whose rows name three each, some of which cannot be had.

Run with ``make bench-media``. It starts two gunicorn workers, a ``flask worker`` and a server of pictures on the
loopback, with each database; the media are in a folder.
"""

import argparse
import io
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests
from flask_migrate import upgrade
from PIL import ExifTags, Image

from app import create_app
from app.core.transactions import unit_of_work
from app.features.users import service as users
from app.security.permissions import Role
from benchmarks.procfs import cpu_seconds
from config import Config, Environment
from tests.servers import PROJECT, create_database, gunicorn_server, postgres_server

PASSWORD = "a long enough password"  # noqa: S105 -- of an account that lives for a minute
SECRETS = {"secret_key": "benchmark-signing-" * 3, "jwt_secret_key": "benchmark-tokens-" * 3}
ROWS, IMAGES = 1_000, 3
#: Of a camera, 12 megapixels; and of a supplier.
LARGE, SMALL = (4000, 3000), (1000, 800)
#: Of so many pictures one cannot be had, for one of these reasons in turn.
FAULTY_EACH = 25
FAULTS = ("missing", "html", "truncated", "slow")
#: How long a slow one takes, in seconds; it comes in the end.
SLOW = 3.0


def photo(size: tuple[int, int], *, has_place: bool = False) -> bytes:
    """A JPEG with as much detail as a photo, of about half a byte per pixel."""
    base = Image.effect_noise((size[0] // 4, size[1] // 4), 60).resize(size, Image.Resampling.BICUBIC)
    colours = Image.merge("RGB", (base, base.rotate(90, expand=False), base.rotate(180)))
    exif = Image.Exif()
    if has_place:
        exif[ExifTags.Base.Orientation] = 6
        place = exif.get_ifd(ExifTags.IFD.GPSInfo)
        place[ExifTags.GPS.GPSLatitudeRef], place[ExifTags.GPS.GPSLatitude] = "N", (48.0, 8.0, 14.0)
    stream = io.BytesIO()
    colours.save(stream, "JPEG", quality=90, exif=exif)
    return stream.getvalue()


def numbered(content: bytes, number: int) -> bytes:
    """The same JPEG with a comment, so that its bytes are of no other."""
    comment = f"picture {number}".encode()
    return content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + content[2:]


@contextmanager
def supplier(content: bytes) -> Iterator[str]:
    """A server with a picture for each number, or what its path says instead."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _, kind, number = self.path.split("/")
            if kind == "slow":
                time.sleep(SLOW)
            body = b"<!doctype html><p>Not here." if kind == "html" else numbered(content, int(number))
            body = body[: len(body) // 2] if kind == "truncated" else body
            self.send_response(404 if kind == "missing" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def rows(url: str, number_of_rows: int) -> Iterator[str]:
    """The lines of a file whose rows name pictures of the supplier."""
    yield "sku,name,price,category,images\n"
    for row in range(number_of_rows):
        urls = [f"{url}/{_kind_of(row * IMAGES + place)}/{row * IMAGES + place}" for place in range(IMAGES)]
        yield f"S-{row},Oak chair {row},{row % 900 + 1}.50,Chairs,{'|'.join(urls)}\n"


def _kind_of(number: int) -> str:
    return "photo" if number % FAULTY_EACH else FAULTS[number // FAULTY_EACH % len(FAULTS)]


@dataclass
class Scene:
    """A user with a session at a server, and the worker behind it."""

    api: str
    session: requests.Session
    worker: int

    def peak_memory(self) -> float:
        """The most memory that the worker has had, in MiB."""
        status = Path(f"/proc/{self.worker}/status").read_text("utf-8")
        (line,) = (line for line in status.splitlines() if "VmHWM" in line)
        return int(line.split()[1]) / 1024

    def send(self, path: str, content: bytes, media_type: str) -> int:
        """Send a file; the id of what that makes."""
        headers = {"Content-Type": media_type}
        answer = self.session.post(f"{self.api}{path}", data=content, headers=headers, timeout=60)
        if not answer.ok:
            sys.exit(f"{path}: {answer.status_code} {answer.text}")
        return int(answer.json()["id"])

    def read(self, path: str) -> dict[str, object]:
        """What there is at a path."""
        found: dict[str, object] = self.session.get(f"{self.api}{path}", timeout=60).json()
        return found

    def wait(self, path: str, name: str, *values: object, pause: float = 0.05) -> dict[str, object]:
        """Look at a path until a member of its answer has none of these values any more."""
        while (found := self.read(path))[name] in values:
            time.sleep(pause)
        return found


@contextmanager
def served(database_url: str, folder: Path) -> Iterator[Scene]:
    """A server with an editor who is signed in, and a worker."""
    app = create_app(Config.from_environment({}, app_env=Environment.TESTING, database_url=database_url, **SECRETS))
    with app.app_context():
        upgrade()
        with unit_of_work():
            users.create_user(email="alice@example.com", username="alice", password=PASSWORD, role=Role.EDITOR)
    environment = {name.upper(): value for name, value in SECRETS.items()}
    environment |= {"APP_ENV": "testing", "DATABASE_URL": database_url, "RATE_LIMIT_ENABLED": "false"}
    environment |= {"LOG_LEVEL": "ERROR", "MEDIA_STORE": folder.as_uri(), "WEBHOOK_ALLOWED_PRIVATE_HOSTS": "127.0.0.1"}
    with gunicorn_server(environment, workers=2, threads=2) as server, requests.Session() as session:
        credentials = {"email": "alice@example.com", "password": PASSWORD}
        token = session.post(f"{server.url}/api/v1/auth/login", json=credentials, timeout=30).json()["access_token"]
        session.headers["Authorization"] = f"Bearer {token}"
        worker = subprocess.Popen([sys.executable, "-m", "flask", "worker"], cwd=PROJECT, env=environment)
        try:
            yield Scene(f"{server.url}/api/v1", session, worker.pid)
        finally:
            worker.terminate()
            worker.wait()


def measure_large(name: str, scene: Scene) -> None:
    """Send a picture of a camera, after a small one that loads what decodes."""
    scene.wait(f"/media/{scene.send('/media', photo((40, 30)), 'image/jpeg')}", "status", "processing")
    content = photo(LARGE, has_place=True)
    memory, used, started = scene.peak_memory(), cpu_seconds(scene.worker), time.perf_counter()
    media_id = scene.send("/media", content, "image/jpeg")
    taken = time.perf_counter() - started
    made = scene.wait(f"/media/{media_id}", "status", "processing")
    if made["status"] != "ready":
        sys.exit(f"{name}: {made}")
    print(
        f"{name}, {LARGE[0]} x {LARGE[1]} JPEG with GPS, {len(content) / 2**20:.1f} MiB: taken in {taken:.2f} s, "
        f"ready after {time.perf_counter() - started:.2f} s, {cpu_seconds(scene.worker) - used:.2f} s of the worker's "
        f"CPU; its peak memory {scene.peak_memory():.0f} MiB, {memory:.0f} MiB before"
    )


def measure_import(name: str, scene: Scene, url: str, number_of_rows: int) -> None:
    """Import rows that name pictures, and print when the rows were there and when the pictures were."""
    used, started = cpu_seconds(scene.worker), time.perf_counter()
    path = f"/imports/{scene.send('/imports', ''.join(rows(url, number_of_rows)).encode(), 'text/csv')}"
    done = scene.wait(path, "finished_at", None)
    imported = time.perf_counter() - started
    pictures = number_of_rows * IMAGES
    while (done := scene.read(path))["images_pending"]:
        time.sleep(0.5)
    settled = time.perf_counter() - started
    codes = Counter(error["code"] for error in _errors(scene, path))
    print(
        f"{name}, {number_of_rows:,} rows with {pictures:,} pictures: rows after {imported:.1f} s, pictures after "
        f"{settled:.1f} s, {pictures / settled:.1f} a second, {cpu_seconds(scene.worker) - used:.1f} s of the worker's "
        f"CPU; {done['created']} created, {done['images_ready']} ready, {done['images_failed']} failed: "
        f"{dict(sorted(codes.items()))}; peak memory of the worker {scene.peak_memory():.0f} MiB"
    )


def _errors(scene: Scene, path: str) -> Iterator[dict[str, str]]:
    page = 1
    while items := scene.session.get(f"{scene.api}{path}/errors?per_page=100&page={page}", timeout=60).json()["items"]:
        yield from items
        page += 1


def main() -> None:
    """Print the figures of each database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="of the file that is imported")
    number_of_rows = parser.parse_args().rows
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(postgres_server())
        url = stack.enter_context(supplier(photo(SMALL)))
        urls = {"SQLite": f"sqlite:///{folder / 'catalog.db'}", "PostgreSQL": create_database(postgres, "bench")}
        for name, database_url in urls.items():
            with served(database_url, folder / name) as scene:
                measure_large(name, scene)
                measure_import(name, scene, url, number_of_rows)


if __name__ == "__main__":
    main()
