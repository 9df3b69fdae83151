"""Pictures on real servers: many at once, workers that are killed, and stores that are away."""

import io
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from operator import le
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from PIL import Image
from sqlalchemy import select

from app.api.tasks import LANES
from app.clients.object_store import ObjectStore
from app.core import clock
from app.core.transactions import unit_of_work
from app.core.worker import Worker
from app.extensions import db
from app.features.media import removal
from app.features.media.models import ASSETS, TABLE, AssetStatus
from tests import pictures
from tests.conftest import MEDIA_STORE, Caller, rows_of
from tests.live.conftest import environment, process
from tests.live.gates import Gate, GatedServer
from tests.live.wire import Answer, Client, asking, at_once, wait_for, wait_for_more
from tests.receiver import Received, Reply, receiver
from tests.servers import GunicornServer, gunicorn_server, s3_environment

pytestmark = pytest.mark.live

Make = Callable[..., dict[str, Any]]
Connect = Callable[..., Client]

UPLOADS = 32
#: Pictures that are large enough to be hit while they are rendered.
LARGE, LARGE_SIZE = 3, (1500, 1100)
WORKER_KILLS = 2
#: Of the walks: threads, pictures, and steps of each thread.
WALKERS, WALKED, STEPS = 16, 4, 15
#: What may be refused for a moment: a picture that is just being deleted, and on a busy machine SQLite's one writer.
BUSY = {"media_busy", "database_busy"}
WRITERS, ROUNDS = 6, 5
#: Of an import, and the pictures of each of its rows.
ROWS, IMAGES = 15, 3


@pytest.fixture
def folder() -> Path:
    """The folder of media that the servers share, without any."""
    folder = Path(urlsplit(MEDIA_STORE).path)
    for name in ("originals", "public"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return folder


def objects_in(folder: Path) -> list[Path]:
    """Whatever files there are in the store."""
    return [path for path in folder.glob("*/*") if path.is_file()]


def upload(client: Client, content: bytes) -> Answer:
    return client.upload("/media", content, "image/jpeg")


def statuses_of(app: Flask) -> Counter[str]:
    """How many assets have which status."""
    with app.app_context(), unit_of_work(reading=True):
        return Counter(db.session.scalars(select(ASSETS.c.status)))


def require_whole(app: Flask, folder: Path) -> None:
    """Check that each object belongs to a row, and that what products show is there."""
    with app.app_context(), unit_of_work(reading=True):
        rows = db.session.execute(select(ASSETS)).all()
        placed = set(db.session.scalars(select(TABLE.c.media_id)))
    assert {path.name[:64] for path in objects_in(folder)} <= {row.sha256 for row in rows}
    assert not [path for path in objects_in(folder) if "#" in path.name]
    for row in rows:
        if row.id in placed and row.source_url is None:
            assert row.status == AssetStatus.READY, row.error
        if row.id in placed and row.status == AssetStatus.READY:
            assert all((folder / "public" / each["file"]).is_file() for each in row.sources)
            assert (folder / "originals" / row.sha256).is_file()


def prune(app: Flask, folder: Path) -> None:
    """Remove what no product shows, and orphans, as if days had passed."""
    store = ObjectStore(folder.as_uri())
    later = clock.now() + timedelta(days=1)
    with app.app_context():
        list(removal.remove(before=later, store=store))
        list(removal.remove_orphans(before=later, store=store))


class TestTheSameFile:
    def test_sent_many_times_at_once_is_one(self, app: Flask, connect: Connect, alice: Caller, folder: Path) -> None:
        content = pictures.photo(200, 150, seed=1)
        clients = [connect(alice) for _ in range(UPLOADS)]

        answers = at_once([partial(upload, client, content) for client in clients])

        assert [answer.status for answer in answers] == [201] * UPLOADS
        assert len({answer.json["id"] for answer in answers}) == 1
        assert statuses_of(app) == {AssetStatus.PROCESSING: 1}
        assert [path.read_bytes() for path in objects_in(folder)] == [content]


@pytest.mark.timeout(180)
class TestWorkersThatAreKilled:
    def test_show_no_half_file_and_leave_no_orphan(
        self, app: Flask, connect: Connect, alice: Caller, make_product: Make, folder: Path
    ) -> None:
        client, env = connect(alice), environment(app.config["DATABASE_URL"])
        ids = [upload(client, pictures.photo(*LARGE_SIZE, seed=seed)).json["id"] for seed in range(LARGE)]
        path = f"/products/{make_product()['id']}"
        assert client.put(f"{path}/media", [{"media_id": media_id} for media_id in ids], if_match="*").status == 200

        def start() -> Any:
            return process(["-m", "flask", "worker", "--lease", "1"], env, folder / "worker.log")

        with ExitStack() as workers, decoding(folder / "public") as seen:
            for number in range(WORKER_KILLS):
                worker = workers.enter_context(start())
                wait_for_more(seen, 1)
                # Amid a rendition, sooner or later in it.
                time.sleep(0.1 * number)
                worker.send_signal(signal.SIGKILL)
                worker.wait()
            workers.enter_context(start())
            wait_for(lambda: statuses_of(app) == {AssetStatus.READY: LARGE})
            wait_for(lambda: (client.get(path).json["image"] or {}).get("media_id") == ids[0])

        prune(app, folder)
        require_whole(app, folder)


@contextmanager
def decoding(folder: Path) -> Iterator[list[Path]]:
    """Decode each file of a folder whenever it is new or another one, for the length of a block."""
    seen: list[Path] = []
    faults: list[str] = []
    over = threading.Event()

    def look() -> None:
        known: dict[Path, int] = {}
        while not over.wait(0.005):
            for path in folder.glob("*.*"):
                # A staged file, which has no name of its own yet.
                if "#" in path.name:
                    continue
                changed = path.stat().st_mtime_ns
                if known.get(path) == changed:
                    continue
                content = path.read_bytes()
                try:
                    Image.open(io.BytesIO(content)).load()
                except Exception as error:  # noqa: BLE001 -- whatever Pillow says of half a file
                    faults.append(f"{path.name}: {len(content)} bytes, {error}")
                known[path] = changed
                seen.append(path)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
    assert faults == []


@pytest.mark.timeout(180)
class TestImports:
    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_get_every_picture_that_can_be_had_although_workers_are_killed(
        self, app: Flask, connect: Connect, alice: Caller, folder: Path
    ) -> None:
        env = environment(app.config["DATABASE_URL"], WEBHOOK_ALLOWED_PRIVATE_HOSTS="127.0.0.1")
        client, numbers = connect(alice), range(ROWS * IMAGES)
        kinds = Counter(kind_of(number) for number in numbers)

        def start() -> Any:
            return process(["-m", "flask", "worker", "--lease", "1"], env, folder / "worker.log")

        with ExitStack() as stack:
            server = stack.enter_context(receiver())
            server.replies = supply
            urls = [f"{server.url}/{number}" for number in numbers]
            rows = [
                f"S-{row},Chair,1.00,Chairs,{'|'.join(urls[row * IMAGES : (row + 1) * IMAGES])}" for row in range(ROWS)
            ]
            file = "\n".join(["sku,name,price,category,images", *rows]).encode()
            path = f"/imports/{client.upload('/imports', file, 'text/csv').json['id']}"
            for _ in range(WORKER_KILLS):
                worker = stack.enter_context(start())
                before = len(server.messages)
                wait_for(lambda: len(server.messages), until=partial(le, before + 8))
                worker.send_signal(signal.SIGKILL)
                worker.wait()
            stack.enter_context(start())
            done = wait_for(
                lambda: client.get(path).json,
                until=lambda found: found["finished_at"] and not found["images_pending"],
            )

        assert (done["status"], done["created"], done["images"]) == ("succeeded", ROWS, len(numbers))
        assert (done["images_ready"], done["images_failed"]) == (kinds["photo"], kinds["missing"] + kinds["page"])
        errors = client.get(f"{path}/errors?per_page=100").json["items"]
        codes = Counter(error["code"] for error in errors)
        assert codes == {"url_refused": kinds["missing"], "picture_unsupported": kinds["page"]}
        # Two URLs each have one picture, of which the later is merged into the other.
        assert statuses_of(app)[AssetStatus.MERGED] > 0
        prune(app, folder)
        require_whole(app, folder)


def kind_of(number: int) -> str:
    """What is at the URL of a number."""
    return {4: "missing", 9: "page"}.get(number % 12, "photo")


def supply(message: Received) -> Reply:
    """A picture for two numbers each, or what there is instead."""
    number = int(message.path.strip("/"))
    if kind_of(number) == "photo":
        return Reply(200, {}, pictures.photo(200, 150, seed=number // 2))
    return Reply(404) if kind_of(number) == "missing" else Reply(200, {}, pictures.HTML)


class Away:
    """A store that can be away, and what has become of its objects."""

    def __init__(self, url: str, env: dict[str, str], leave: Callable[[Gate], None], look: Callable[[], int]) -> None:
        self.url, self.env, self.leave, self.count = url, env, leave, look


@pytest.fixture
def folder_away(tmp_path: Path) -> Away:
    """A folder, in whose place there can be a file: that is refused like a mount that is gone."""
    media, aside = tmp_path / "media", tmp_path / "aside"
    media.mkdir()

    def leave(gate: Gate) -> None:
        if gate == Gate.OPEN:
            media.unlink()
            aside.rename(media)
        else:
            media.rename(aside)
            media.touch()

    return Away(media.as_uri(), {}, leave, lambda: len(objects_in(media)))


@pytest.fixture
def bucket_away(s3_endpoint: str) -> Iterator[Away]:
    """A bucket behind a gate."""
    with GatedServer(urlsplit(s3_endpoint).port or 0) as gate, pytest.MonkeyPatch.context() as patched:
        for name, value in s3_environment(s3_endpoint).items():
            patched.setenv(name, value)
        url = f"s3://media/{time.monotonic_ns()}"
        ours = ObjectStore(url, timeout=30)

        def count() -> int:
            return sum(len(keys) for keys in ours.list_keys("originals", older_than=clock.now() + timedelta(days=1)))

        yield Away(url, s3_environment(f"http://127.0.0.1:{gate.port}"), gate.turn, count)


@pytest.mark.timeout(180)
class TestAStoreThatIsAway:
    @pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
    def test_is_a_folder_that_is_gone(self, app: Flask, alice: Caller, make_product: Make, folder_away: Away) -> None:
        make_product()
        with serving(app, folder_away) as server:
            require_refused(app, server, alice, folder_away, Gate.CLOSED)

    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_is_a_bucket_that_refuses_or_hangs(
        self, app: Flask, alice: Caller, make_product: Make, bucket_away: Away
    ) -> None:
        make_product()
        with serving(app, bucket_away) as server:
            for gate in (Gate.CLOSED, Gate.DEAF):
                require_refused(app, server, alice, bucket_away, gate)


def serving(app: Flask, store: Away) -> Any:
    env = environment(app.config["DATABASE_URL"], MEDIA_STORE=store.url, **store.env)
    return gunicorn_server(env, workers=2, threads=8)


def require_refused(app: Flask, server: GunicornServer, alice: Caller, store: Away, gate: Gate) -> None:
    """Check what uploads and reads get while the store is away, and afterwards."""
    client = Client(server.port, alice.token)
    there, rows = store.count(), rows_of(app, "media_assets")
    content = pictures.photo(60, 40, seed=[*Gate].index(gate))
    store.leave(gate)
    with asking(server.port, alice.token, "/products", connections=2, pause=0.01) as reads:
        refused = [upload(client, content) for _ in range(2)]
        wait_for_more(reads, 10)

    assert [(answer.status, answer.code) for answer in refused] == [(503, "store_unavailable")] * 2
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert {answer.status for answer in reads} == {200}
    assert rows_of(app, "media_assets") == rows

    store.leave(Gate.OPEN)
    assert store.count() == there
    answer = wait_for(lambda: upload(client, content), until=lambda answer: answer.status != 503)
    assert answer.status == 201
    assert store.count() == there + 1
    client.close()


@pytest.mark.timeout(180)
class TestWalks:
    def test_lose_nothing_that_a_product_shows(
        self, app: Flask, connect: Connect, root: Caller, make_product: Make, folder: Path
    ) -> None:
        """Everything unplaced is removed at once, so that removals meet uploads and placements all the time."""
        contents = [pictures.photo(60, 40, seed=seed) for seed in range(WALKED)]
        products = [make_product()["id"] for _ in range(WALKED)]
        faults: list[str] = []
        over = threading.Event()

        def walk(number: int, client: Client) -> None:
            chance = random.Random(number)
            for _ in range(STEPS):
                answer = upload(client, chance.choice(contents))
                note(answer, 201)
                if answer.status != 201:
                    continue
                media_id = answer.json["id"]
                path = f"/products/{chance.choice(products)}/media"
                deed = chance.random()
                if deed < 0.6:
                    answer = client.put(path, [{"media_id": media_id}], if_match="*")
                    note(answer, 200, 422)
                elif deed < 0.8:
                    note(client.put(path, [], if_match="*"), 200)
                else:
                    note(client.delete(f"/media/{media_id}"), 204, 404, 409)

        def note(answer: Answer, *expected: int) -> None:
            is_busy = answer.status == 503 and answer.code in BUSY
            if answer.status not in expected and not is_busy:
                faults.append(f"{answer.status} {answer.body!r}")

        def work() -> None:
            worker = Worker({kind: task for lane in LANES.values() for kind, task in lane.items()}, app.app_context)
            while not over.wait(0.02):
                worker.drain()

        def remove() -> None:
            store = ObjectStore(folder.as_uri())
            while not over.wait(0.02):
                with app.app_context():
                    list(removal.remove(before=clock.now(), store=store))

        def look() -> None:
            while not over.wait(0.02):
                faults.extend(missing(app, folder))

        threads = [threading.Thread(target=target) for target in (work, work, remove, remove, look)]
        for thread in threads:
            thread.start()
        try:
            at_once([partial(walk, number, connect(root)) for number in range(WALKERS)])
        finally:
            over.set()
            for thread in threads:
                thread.join()
        Worker({kind: task for lane in LANES.values() for kind, task in lane.items()}, app.app_context).drain()

        assert faults == []
        assert AssetStatus.FAILED not in statuses_of(app)
        prune(app, folder)
        require_whole(app, folder)


def missing(app: Flask, folder: Path) -> list[str]:
    """The files that products show and the store lacks, seen twice: in between it may have been taken from them."""
    query = select(ASSETS.c.id, ASSETS.c.sha256, ASSETS.c.sources).where(
        ASSETS.c.status == AssetStatus.READY, ASSETS.c.id.in_(select(TABLE.c.media_id))
    )

    def look() -> set[str]:
        with app.app_context(), unit_of_work(reading=True):
            rows = db.session.execute(query).all()
        names = [(row.id, f"public/{each['file']}") for row in rows for each in row.sources]
        names += [(row.id, f"originals/{row.sha256}") for row in rows]
        return {f"{media_id}: {name}" for media_id, name in names if not (folder / name).is_file()}

    first = look()
    return sorted(first & look()) if first else []


@pytest.mark.timeout(180)
class TestManyWriters:
    def test_of_what_a_product_shows_have_one_winner_each_time(
        self, app: Flask, connect: Connect, root: Caller, make_category: Make, folder: Path
    ) -> None:
        client = connect(root)
        media = [upload(client, pictures.photo(40, 30, seed=seed)).json["id"] for seed in range(3)]
        single = client.post("/products", {"name": "Lamp", "price": "1.00", "category_id": make_category()["id"]}).json
        members = {"name": "Shirt", "category_id": make_category()["id"], "options": ["size"]}
        parent = client.post("/products", {**members, "variants": [{"options": {"size": "S"}, "price": "1"}]}).json
        writers = [connect(root) for _ in range(WRITERS)]
        over = threading.Event()
        beside: list[int] = []

        def vary(other: Client) -> None:
            variant = other.post(f"/products/{parent['id']}/variants", {"options": {"size": "M"}, "price": "1"})
            beside.append(variant.status)
            path = f"/products/{variant.json['id']}"
            while not over.is_set():
                beside.append(other.delete(path).status)
                beside.append(other.post(f"{path}/restore").status)

        def write(writer: Client, product_id: int, etag: str, number: int) -> int:
            shown = [{"media_id": each} for each in random.Random(number).sample(media, 2)]
            alt = f"Writer {number}, {etag}"
            return writer.put(
                f"/products/{product_id}/media", [{**shown[0], "alt": alt}, shown[1]], if_match=etag
            ).status

        varying = threading.Thread(target=vary, args=(connect(root),))
        varying.start()
        try:
            for _ in range(ROUNDS):
                for product in (single, parent):
                    etag = client.get(f"/products/{product['id']}/media").etag
                    statuses = at_once(
                        [partial(write, writer, product["id"], etag, number) for number, writer in enumerate(writers)]
                    )
                    assert sorted(statuses) == [200] + [412] * (WRITERS - 1)
        finally:
            over.set()
            varying.join()

        assert set(beside) <= {200, 201, 204}
        assert len(beside) > 2
