"""The media store in a folder, on an S3 server, and on what misbehaves."""

import io
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
from structlog.testing import capture_logs

from app.clients import object_store
from app.clients.object_store import BATCH, CHUNK_BYTES, IMMUTABLE, ObjectMissing, ObjectStore, StoreUnavailable
from app.core import clock
from tests.conftest import QUICK
from tests.outbound.misbehaving import Server
from tests.servers import PROJECT, free_port, s3_environment

KEY = "public/" + "a" * 64 + "-160.webp"
#: In seconds: what a store that hangs is waited for.
SHORT = 0.4


def connect(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name, value in s3_environment(endpoint).items():
        monkeypatch.setenv(name, value)


def _delete_one(store: ObjectStore, key: str) -> None:
    store.delete([key])


def _has_one(store: ObjectStore, key: str) -> None:
    store.has_all([key])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "my media"


@pytest.fixture(params=["folder"] if QUICK else ["folder", "s3"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, folder: Path) -> ObjectStore:
    """An empty store of each kind."""
    if request.param == "folder":
        return ObjectStore(folder.as_uri())
    connect(monkeypatch, request.getfixturevalue("s3_endpoint"))
    return ObjectStore(f"s3://media/{uuid4()}", timeout=30)


def put(store: ObjectStore, *keys: str) -> None:
    for key in keys:
        store.put(key, b"content", media_type="image/webp")


def listed(store: ObjectStore, prefix: str, *, seconds: int = 60) -> list[str]:
    """The keys of what is older than so many seconds from now."""
    batches = store.list_keys(prefix, older_than=clock.now() + timedelta(seconds=seconds))
    return sorted(chain.from_iterable(batches))


class TestPut:
    def test_stores_bytes_and_files(self, store: ObjectStore) -> None:
        store.put("originals/a", b"some", media_type="image/png")
        store.put("originals/b", io.BytesIO(b"other"), media_type="image/png")

        assert (store.read("originals/a"), store.read("originals/b")) == (b"some", b"other")

    def test_replaces(self, store: ObjectStore) -> None:
        store.put(KEY, b"a long one", media_type="image/webp")
        store.put(KEY, b"new", media_type="image/webp")

        assert store.read(KEY) == b"new"

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/etc/passwd",
            "../a",
            "a/../b",
            "a/./b",
            "a//b",
            "a/",
            ".a",
            "a/b#1",
            "a b",
            "a\n",
            "ä",
            "a\\b",
            "a" * 201,
        ],
    )
    def test_refuses_what_is_no_key(self, folder: Path, key: str) -> None:
        store = ObjectStore(folder.as_uri())

        for call in (put, ObjectStore.read, ObjectStore.open, _delete_one, _has_one, listed):
            with pytest.raises(ValueError, match="no key"):
                call(store, key)

    def test_refuses_an_empty_object(self, folder: Path) -> None:
        with pytest.raises(ValueError, match="at least a byte"):
            ObjectStore(folder.as_uri()).put(KEY, b"", media_type="image/webp")

    def test_of_one_key_by_many_threads_shows_nothing_but_the_whole(self, store: ObjectStore) -> None:
        content = os.urandom(100_000)
        seen: set[bytes | None] = set()
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                try:
                    seen.add(store.read(KEY))
                except ObjectMissing:
                    seen.add(None)

        with ThreadPoolExecutor(33) as threads:
            looking = threads.submit(look)
            puts = [threads.submit(store.put, KEY, content, media_type="image/webp") for _ in range(32)]
            errors = [each.exception() for each in puts]
            done.set()
            looking.result()

        assert errors == [None] * 32
        assert seen - {None} == {content}
        assert listed(store, "public") == [KEY]

    def test_tells_a_bucket_what_it_is(self, monkeypatch: pytest.MonkeyPatch, s3_endpoint: str) -> None:
        connect(monkeypatch, s3_endpoint)
        prefix = str(uuid4())
        put(ObjectStore(f"s3://media/{prefix}", timeout=30), KEY)

        with requests.Session() as session:
            found = session.get(
                f"{s3_endpoint}/media/{prefix}/{KEY}",
                headers={"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"},
                timeout=30,
            )

        assert (found.headers["Content-Type"], found.headers["Cache-Control"]) == ("image/webp", IMMUTABLE)

    def test_lets_others_read_what_is_public_alone(self, folder: Path) -> None:
        store = ObjectStore(folder.as_uri())
        put(store, KEY, "originals/a")

        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
        assert modes == {folder.name: 0o755, "public": 0o755, Path(KEY).name: 0o644, "originals": 0o700, "a": 0o644}


class TestRead:
    def test_says_whether_all_are_there(self, store: ObjectStore) -> None:
        store.put("originals/one", b"1", media_type="image/png")
        store.put("public/two", b"2", media_type="image/webp")

        assert store.has_all(["originals/one", "public/two"])
        assert store.has_all([])
        assert not store.has_all(["originals/one", "public/three"])

    def test_of_a_missing_object_is_no_failure(self, store: ObjectStore) -> None:
        for call in (store.read, store.open):
            for _ in range(object_store.MAX_FAILURES + 1):
                with pytest.raises(ObjectMissing):
                    call(KEY)


class TestOpen:
    @pytest.mark.parametrize("size", [1, CHUNK_BYTES, 2 * CHUNK_BYTES + 1])
    def test_reads_piece_by_piece(self, store: ObjectStore, size: int) -> None:
        content = os.urandom(size)
        store.put(KEY, content, media_type="image/webp")

        stored = store.open(KEY)
        pieces = list(stored.chunks())

        assert stored.size == size
        assert b"".join(pieces) == content
        assert max(map(len, pieces)) <= CHUNK_BYTES

    def test_fails_in_the_middle_when_the_object_is_deleted(self, store: ObjectStore) -> None:
        store.put(KEY, os.urandom(2 * CHUNK_BYTES), media_type="image/webp")
        pieces = store.open(KEY).chunks()
        next(pieces)
        store.delete([KEY])

        with pytest.raises(ObjectMissing):
            next(pieces)


class TestDelete:
    def test_takes_what_is_there_and_what_is_not(self, store: ObjectStore) -> None:
        keys = [f"public/{number}" for number in range(30)]
        put(store, *keys, "public/other")

        store.delete(["public/none", *keys[:20], "public/nothing", *keys[20:]])
        store.delete([])

        assert listed(store, "public") == ["public/other"]


class TestListKeys:
    def test_lists_a_folder_by_age(self, store: ObjectStore) -> None:
        put(store, "public/a", "public/b", "publicity/c", "originals/d")

        assert listed(store, "public") == ["public/a", "public/b"]
        assert listed(store, "public", seconds=-60) == []
        assert listed(store, "nothing") == []

    def test_has_batches(self, folder: Path) -> None:
        (folder / "public").mkdir(parents=True)
        for number in range(BATCH + 1):
            (folder / "public" / f"{number}").touch()

        batches = ObjectStore(folder.as_uri()).list_keys("public", older_than=clock.now() + timedelta(seconds=60))

        assert sorted(map(len, batches)) == [1, BATCH]


class TestRemoveUnfinished:
    def test_takes_only_what_is_half_written_and_old(self, folder: Path) -> None:
        store = ObjectStore(folder.as_uri())
        put(store, KEY, "originals/a")
        old, new = folder / f"{KEY}#1", folder / "originals" / "a#12"
        for path in (old, new):
            path.write_bytes(b"cont")
        os.utime(old, (0, 0))
        os.utime(folder / KEY, (0, 0))

        assert listed(store, "public") == [KEY]
        assert store.remove_unfinished(older_than=clock.now() - timedelta(hours=1)) == 1

        assert (old.exists(), new.exists()) == (False, True)
        assert store.read(KEY) == b"content"

    def test_finds_none_in_a_bucket(self, monkeypatch: pytest.MonkeyPatch) -> None:
        connect(monkeypatch, f"http://127.0.0.1:{free_port()}")

        assert ObjectStore("s3://media").remove_unfinished(older_than=clock.now()) == 0


class TestCheck:
    def test_finds_a_store_that_is_there_before_anything_is_in_it(self, store: ObjectStore) -> None:
        store.check()
        put(store, KEY)
        store.check()

        assert listed(store, "public") == [KEY]

    def test_stores_nothing(self, store: ObjectStore, folder: Path) -> None:
        store.check()

        assert listed(store, object_store.PROBE_KEY) == []
        assert [*folder.rglob("*")] == []

    def test_refuses_a_folder_that_has_gone_until_it_is_back(self, folder: Path) -> None:
        store = ObjectStore(folder.as_uri())
        put(store, KEY)
        shutil.rmtree(folder)

        for _ in range(object_store.MAX_FAILURES + 2):
            assert reasons_of(store.check) == ["NotADirectoryError ENOTDIR"]
        folder.mkdir()
        store.check()

    def test_refuses_a_bucket_that_does_not_exist(self, monkeypatch: pytest.MonkeyPatch, s3_endpoint: str) -> None:
        connect(monkeypatch, s3_endpoint)

        assert reasons_of(ObjectStore("s3://nowhere/x", timeout=30).check) == ["no bucket"]

    def test_refuses_what_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        connect(monkeypatch, f"http://127.0.0.1:{free_port()}")

        [reason] = reasons_of(ObjectStore("s3://media/x", timeout=SHORT).check)
        assert reason


def reasons_of(call: Callable[[], Any]) -> list[str]:
    """What is logged of a call to a store that is unavailable."""
    with capture_logs() as lines, pytest.raises(StoreUnavailable):
        call()
    return [line["reason"] for line in lines]


class TestUnavailable:
    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("s3://status/500", "GenericError 500"),
            ("s3://status/503", "GenericError 503"),
            ("s3://status/403", "PermissionDeniedError 403"),
            ("s3://status/401", "UnauthenticatedError 401"),
            ("s3://cut/x", "GenericError"),
            ("s3://garbage/x", "GenericError"),
            ("s3://silent/x", ("overdue", "GenericError TimedOut")),
            ("s3://drip-head/x", ("overdue", "GenericError TimedOut")),
            ("az://container-without-account", "GenericError MissingAccount"),
        ],
    )
    def test_is_whatever_a_server_does(
        self, monkeypatch: pytest.MonkeyPatch, server: Server, url: str, reason: str | tuple[str, str]
    ) -> None:
        connect(monkeypatch, server.url)
        store = ObjectStore(url, timeout=SHORT)

        for call in (lambda: put(store, KEY), lambda: store.read(KEY), lambda: store.open(KEY)):
            (logged,) = reasons_of(call)
            assert logged.startswith(reason), logged
            assert "hunter2" not in logged

    def test_is_a_port_that_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        connect(monkeypatch, f"http://127.0.0.1:{free_port()}")
        store = ObjectStore("s3://media", timeout=SHORT)

        calls = [
            lambda: put(store, KEY), lambda: store.read(KEY), lambda: store.open(KEY),
            lambda: store.has_all([KEY]), lambda: store.delete([KEY]), lambda: listed(store, "public"),
        ]  # fmt: skip
        for call in calls:
            (logged,) = reasons_of(call)
            assert "ConnectionRefused" in logged or logged == "overdue"

    def test_is_a_bucket_that_does_not_exist(self, monkeypatch: pytest.MonkeyPatch, s3_endpoint: str) -> None:
        connect(monkeypatch, s3_endpoint)
        store = ObjectStore("s3://no-such-bucket", timeout=30)

        for call in (lambda: put(store, KEY), lambda: store.read(KEY), lambda: listed(store, "public")):
            assert reasons_of(call) in (["no bucket"], ["GenericError 404"])

    @pytest.mark.parametrize("url", ["file:///sys/media", "file:///proc/media", "file:///dev/null/media"])
    def test_is_a_folder_that_cannot_be_made(self, url: str) -> None:
        store = ObjectStore(url)

        for call in (lambda: put(store, KEY), lambda: store.read(KEY), lambda: listed(store, "public")):
            (logged,) = reasons_of(call)
            assert logged.partition(" ")[2] in {"ENOTDIR", "EROFS", "EACCES", "EPERM", "EEXIST"}

    def test_is_a_folder_that_hangs(self, folder: Path) -> None:
        store = ObjectStore(folder.as_uri(), timeout=SHORT)
        put(store, "public/a")
        # Opening it waits for a writer, as a file on a network waits for its server.
        os.mkfifo(folder / KEY)
        try:
            assert reasons_of(lambda: store.read(KEY)) == ["overdue"]
            assert store.read("public/a") == b"content"
        finally:
            os.close(os.open(folder / KEY, os.O_RDWR | os.O_NONBLOCK))

    def test_is_a_full_disk_that_can_still_be_read(self, folder: Path) -> None:
        put(ObjectStore(folder.as_uri()), "public/a")

        # A process that may not write more than so many bytes into a file gets an error in the middle.
        script = """if True:
            import resource, sys
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
            from app.clients.object_store import MAX_FAILURES, ObjectMissing, ObjectStore, StoreUnavailable
            store, key = ObjectStore(sys.argv[1]), sys.argv[2]
            for _ in range(MAX_FAILURES + 1):
                try:
                    store.put(key, b"x" * 1_000_000, media_type="image/webp")
                except StoreUnavailable:
                    print("refused")
                try:
                    store.read(key)
                except ObjectMissing:
                    print("missing")
            print(store.read("public/a").decode())
        """

        assert output_of(script, folder.as_uri(), KEY) == [
            *["refused", "missing"] * (object_store.MAX_FAILURES + 1),
            "content",
        ]
        assert [path.name for path in folder.rglob("*") if path.is_file()] == ["a"]

    def test_is_refused_at_once_after_some_failures_and_tried_again(
        self, monkeypatch: pytest.MonkeyPatch, server: Server
    ) -> None:
        connect(monkeypatch, server.url)
        monkeypatch.setattr(object_store, "RESET_TIMEOUT", 0.2)
        store = ObjectStore("s3://status/403", timeout=SHORT)
        for _ in range(object_store.MAX_FAILURES):
            assert reasons_of(lambda: store.read(KEY))
        asked = len(server.requests)

        assert reasons_of(lambda: store.read(KEY)) == []
        assert len(server.requests) == asked

        # What is read says nothing about what is written.
        assert reasons_of(lambda: put(store, KEY))
        threading.Event().wait(0.25)
        assert reasons_of(lambda: store.read(KEY))


def output_of(script: str, *arguments: str) -> list[str]:
    """The lines that a Python of its own prints; it must end."""
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return [line for line in ended.stdout.splitlines() if "media_store" not in line]


class TestFork:
    SCRIPT = """if True:
        import os, sys
        from structlog.testing import capture_logs
        import obstore.store
        from app.clients.object_store import ObjectStore, StoreUnavailable

        def use_in_child(*stores):
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
                return
            for store in stores:
                with capture_logs() as lines:
                    try:
                        store.put("public/a", b"stored", media_type="image/webp")
                        print(store.read("public/a").decode(), flush=True)
                    except StoreUnavailable:
                        print(lines[-1]["reason"], flush=True)
            os._exit(0)

        store = ObjectStore(sys.argv[1])
        use_in_child(store)
        store.put("public/b", b"and here", media_type="image/webp")
        # The second is one that the parent has not used.
        use_in_child(store, ObjectStore(sys.argv[1]))
        print(store.read("public/b").decode())
    """

    def test_leaves_an_unused_store_to_both_and_lets_no_child_wait_for_a_used_one(self, folder: Path) -> None:
        assert output_of(self.SCRIPT, folder.as_uri()) == [
            "stored",
            "forked after the first use",
            "forked after the first use",
            "and here",
        ]
