"""The folder of a server's metrics and its slots: who has which, and what is left when processes end."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.core.metric_files import Folder, forget_the_dead, open_folder, take_slot
from tests.servers import PROJECT

NAME = "catalog-metrics-test"

#: Takes a slot, says which, and keeps it until its input ends; with an argument it forks first, and both take one.
KEEPER = """
import os, runpy, sys
from pathlib import Path
slot = runpy.run_path("app/core/metric_files.py")["take_slot"](Path(sys.argv[1]))
if sys.argv[2:]:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    else:
        print(slot.number, flush=True)
        os._exit(0)
print(slot.number, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where folders are made."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    return tmp_path


def opened() -> Folder:
    return open_folder(NAME, uid=os.geteuid(), gid=os.getegid())


@contextmanager
def keeper(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process with a slot, and the slots that it and its child have taken."""
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPER, folder, *arguments],
        cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process, [int(process.stdout.readline()) for _ in range(1 + len(arguments))]
    finally:
        process.kill()
        process.communicate()


class TestFolder:
    def test_is_its_users_alone(self, base: Path) -> None:
        folder = opened()

        assert folder.path == base / NAME
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        folder.close()

    def test_is_gone_at_the_end(self) -> None:
        folder = opened()
        (folder.path / "counter_1.db").touch()
        folder.close()

        assert not folder.path.exists()

    def test_is_found_again_and_emptied(self) -> None:
        killed = opened()
        (killed.path / "counter_1.db").touch()
        os.close(killed.lock)  # as the system does when a process ends

        folder = opened()

        assert folder.path == killed.path
        assert list(folder.path.iterdir()) == []
        folder.close()

    def test_is_shared_while_another_server_is_there(self) -> None:
        before = opened()
        (before.path / "counter_1.db").touch()
        after = opened()

        assert (after.path / "counter_1.db").exists()
        before.close()
        assert (after.path / "counter_1.db").exists()
        after.close()
        assert not after.path.exists()

    def test_is_made_where_there_is_nothing_yet(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(base / "deep" / "down"))

        folder = opened()

        assert folder.path == base / "deep" / "down" / NAME
        folder.close()

    @pytest.mark.parametrize("trap", ["link", "file", "open", "foreign"])
    def test_is_another_where_somebody_has_the_name(self, base: Path, trap: str) -> None:
        prey = base / "prey"
        prey.mkdir(mode=0o700)
        (prey / "precious.db").touch()
        if trap == "link":
            (base / NAME).symlink_to(prey)
        elif trap == "file":
            (base / NAME).touch()
        else:
            (base / NAME).mkdir(mode=0o777 if trap == "open" else 0o700)
            (base / NAME).chmod(0o777 if trap == "open" else 0o700)
        uid = os.geteuid()
        if trap == "foreign":
            if uid != 0:
                pytest.skip("only root can make a folder of another user's")
            os.chown(base / NAME, 12345, 12345)

        folder = opened()

        assert folder.path.name.startswith(f"{NAME}-")
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        folder.close()
        assert (prey / "precious.db").exists()
        assert os.path.lexists(base / NAME)


class TestSlots:
    def test_are_the_smallest_that_are_free(self, base: Path) -> None:
        with keeper(base) as (_, first):
            with keeper(base) as (_, second), keeper(base) as (_, third):
                assert (first, second, third) == ([1], [2], [3])
            with keeper(base) as (_, again):
                assert again == [2]

    @pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
    def test_are_free_however_a_process_ends(self, base: Path, ending: signal.Signals) -> None:
        with keeper(base) as (process, _):
            process.send_signal(ending)
            process.wait(timeout=10)
            with keeper(base) as (_, successor):
                assert successor == [1]

    def test_are_others_in_a_forked_child(self, base: Path) -> None:
        with keeper(base, "fork") as (_, slots):
            assert slots == [2, 1]
            with keeper(base) as (_, successor):
                assert successor == [2]

    def test_do_not_inherit_gauges_of_the_moment(self, base: Path) -> None:
        for name in ("gauge_livesum_1.db", "gauge_livemin_1.db", "counter_1.db", "gauge_livesum_11.db"):
            (base / name).touch()

        with keeper(base):
            assert {path.name for path in base.glob("*.db")} == {"counter_1.db", "gauge_livesum_11.db"}

    def test_are_forgotten_with_their_gauges_alone(self, base: Path) -> None:
        with keeper(base):
            with keeper(base):
                for name in ("gauge_livesum_1.db", "gauge_livesum_2.db", "counter_2.db"):
                    (base / name).touch()
                forget_the_dead(base)
                assert len(list(base.glob("*.db"))) == 3
            deadline = time.monotonic() + 10
            while (base / "gauge_livesum_2.db").exists() and time.monotonic() < deadline:
                forget_the_dead(base)

        assert {path.name for path in base.glob("*.db")} == {"gauge_livesum_1.db", "counter_2.db"}

    def test_of_this_process_are_not_taken_for_dead(self, base: Path) -> None:
        slot = take_slot(base)
        (base / f"gauge_livesum_{slot.number}.db").touch()

        forget_the_dead(base)

        assert (base / f"gauge_livesum_{slot.number}.db").exists()
        os.close(slot.lock)
