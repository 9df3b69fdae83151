"""Pictures that are deleted for good: by clients, by time, and what nothing stands for any more."""

import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import event
from structlog.testing import capture_logs

from app.api.tasks import TASKS
from app.clients.object_store import ObjectMissing, ObjectStore, StoreUnavailable, current_store
from app.core import clock
from app.core.jobs import Claim, TransientFailure
from app.core.transactions import unit_of_work
from app.core.worker import Worker
from app.extensions import db
from app.features.media import removal
from app.features.media.models import ASSETS, AssetStatus
from app.features.media.names import original_key
from app.features.media.references import new_columns
from tests import pictures
from tests.conftest import Caller, body_of, code_of, rows_of

Make = Callable[..., dict[str, Any]]

DAY = timedelta(days=1)
ORPHANS = 2_500


@pytest.fixture
def work(app: Flask) -> Callable[[], int]:
    """Run the jobs that are due."""
    return Worker(TASKS, app.app_context).drain


@pytest.fixture
def make_picture(alice: Caller, work: Callable[[], int]) -> Make:
    """Send a picture, and have it rendered; the seed is what it shows."""

    def make(seed: int, *, rendered: bool = True) -> dict[str, Any]:
        answer = send(alice, seed)
        assert answer.status_code == 201, answer.get_data(as_text=True)
        if rendered:
            work()
        return body_of(alice.get(f"/media/{body_of(answer)['id']}"))

    return make


def send(caller: Caller, seed: int) -> Any:
    content = pictures.photo(40, 30, seed=seed)
    return caller.post("/media", data=content, headers={"Content-Type": "image/jpeg"})


def keys_of(picture: dict[str, Any]) -> list[str]:
    """The keys of what the store has of a picture that is ready."""
    names = [source["url"].removeprefix("/media/") for source in picture["sources"]]
    return [original_key(picture["sha256"]), *(f"public/{name}" for name in names)]


def stored(store: ObjectStore, keys: Collection[str]) -> list[str]:
    """Those of these keys that a store has objects of."""

    def is_there(key: str) -> bool:
        try:
            return bool(store.read(key))
        except ObjectMissing:
            return False

    return [key for key in keys if is_there(key)]


@pytest.fixture
def still_there(app: Flask) -> Callable[[dict[str, Any]], list[str]]:
    """What the store has of a picture."""

    def look(picture: dict[str, Any]) -> list[str]:
        with app.app_context():
            return stored(current_store(), keys_of(picture))

    return look


class TestRemoval:
    def test_follows_the_deletion_by_a_client(
        self, app: Flask, root: Caller, make_picture: Make, still_there: Callable[..., list[str]],
        work: Callable[[], int],
    ) -> None:  # fmt: skip
        picture, other = make_picture(1), make_picture(2)
        assert still_there(picture) == keys_of(picture)

        assert root.delete(f"/media/{picture['id']}").status_code == 204
        work()

        assert still_there(picture) == []
        assert [row[0] for row in rows_of(app, "media_assets")] == [other["id"]]
        assert still_there(other) == keys_of(other)

    def test_takes_a_day_later_what_no_product_shows(
        self, alice: Caller, make_picture: Make, make_product: Make, runner: FlaskCliRunner,
        still_there: Callable[..., list[str]],
    ) -> None:  # fmt: skip
        unplaced, placed, left = (make_picture(seed) for seed in (3, 4, 5))
        product = make_product()
        for shown in ([placed, left], [placed]):
            items = [{"media_id": each["id"]} for each in shown]
            assert alice.put(f"/products/{product['id']}/media", items).status_code == 200

        assert runner.invoke(args=["prune"]).exit_code == 0
        assert [bool(still_there(each)) for each in (unplaced, placed, left)] == [True, True, True]
        with time_machine.travel(clock.now() + DAY + timedelta(minutes=1)):
            output = runner.invoke(args=["prune"]).output

        assert "Deleted 2 media." in output
        assert still_there(placed) == keys_of(placed)
        assert still_there(unplaced) + still_there(left) == []

    def test_looks_at_a_few_in_each_statement(
        self, app: Flask, alice: Caller, make_picture: Make, make_product: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pictures_ = [make_picture(seed) for seed in range(40, 45)]
        shown = [{"media_id": picture["id"]} for picture in pictures_[1:4]]
        assert alice.put(f"/products/{make_product()['id']}/media", shown).status_code == 200
        monkeypatch.setattr(removal, "WINDOW", 2)

        with app.app_context(), time_machine.travel(clock.now() + 2 * DAY):
            batches = list(removal.remove(before=clock.now() - DAY, store=current_store()))

        # Three windows, in which two pictures are that no product shows.
        assert batches == [0, 0, 0, 2]
        assert [row[0] for row in rows_of(app, "media_assets")] == [picture["id"] for picture in pictures_[1:4]]

    def test_leaves_what_is_being_processed(self, app: Flask, make_picture: Make, runner: FlaskCliRunner) -> None:
        picture = make_picture(6, rendered=False)

        with time_machine.travel(clock.now() + 2 * DAY):
            runner.invoke(args=["prune"])

        assert [row[0] for row in rows_of(app, "media_assets")] == [picture["id"]]

    def test_takes_what_was_never_received_whole(self, app: Flask, runner: FlaskCliRunner) -> None:
        with app.app_context(), unit_of_work():
            row = {"sha256": "a" * 64, "status": AssetStatus.RECEIVING, "media_type": "image/png"}
            db.session.execute(ASSETS.insert().values({**new_columns(clock.now()), **row, "width": 1, "height": 1}))

        with time_machine.travel(clock.now() + 2 * DAY):
            runner.invoke(args=["prune"])

        assert rows_of(app, "media_assets") == []

    def test_refuses_uploads_meanwhile_and_goes_on_where_another_died(
        self, app: Flask, root: Caller, make_picture: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        picture = make_picture(7)
        root.delete(f"/media/{picture['id']}")

        with app.app_context(), monkeypatch.context() as patched:
            patched.setattr(ObjectStore, "delete", refuse)
            with pytest.raises(StoreUnavailable):
                list(removal.remove(before=clock.now() - DAY, store=current_store()))
        answer = send(root, 7)
        assert (answer.status_code, code_of(answer)) == (503, "media_busy")
        assert int(answer.headers["Retry-After"]) > 0
        with app.app_context():
            assert list(removal.remove(before=clock.now() - DAY, store=current_store())) == []
            with time_machine.travel(clock.now() + removal.LEASE + timedelta(seconds=1)):
                assert list(removal.remove(before=clock.now() - DAY, store=current_store())) == [1]
            assert stored(current_store(), keys_of(picture)) == []

        again = make_picture(7)
        assert again["id"] != picture["id"]
        with app.app_context():
            assert stored(current_store(), keys_of(again)) == keys_of(again)

    def test_deletes_nothing_when_its_lease_is_nearly_over(
        self, app: Flask, root: Caller, make_picture: Make, still_there: Callable[..., list[str]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        made = [make_picture(seed) for seed in (8, 9)]
        for picture in made:
            root.delete(f"/media/{picture['id']}")
        take = removal._take

        with app.app_context(), time_machine.travel(clock.now()) as traveller:

            def sleep_after_it() -> Any:
                taken = take()
                traveller.shift(removal.LEASE)
                return taken

            monkeypatch.setattr(removal, "_take", sleep_after_it)
            next(removal.remove(before=clock.now() - DAY, store=current_store()))

        assert [still_there(picture) for picture in made] == [keys_of(picture) for picture in made]

    def test_stops_nothing_else_when_the_store_is_away(
        self, root: Caller, make_picture: Make, runner: FlaskCliRunner, work: Callable[[], int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        root.delete(f"/media/{make_picture(10)['id']}")
        monkeypatch.setattr(ObjectStore, "delete", refuse)

        with capture_logs() as lines:
            result = runner.invoke(args=["prune"])

        assert result.exit_code == 0
        assert "Deleted 0 events of the change feed." in result.output
        assert [line["event"] for line in lines] == ["media_not_removed"]


def refuse(*_: object) -> None:
    raise StoreUnavailable


class TestOrphans:
    @pytest.fixture
    def store(self, app: Flask, tmp_path: Path) -> Iterator[ObjectStore]:
        """An empty store, within a context of the application."""
        with app.app_context():
            yield ObjectStore(tmp_path.as_uri())

    def test_are_deleted_when_they_are_old_enough(
        self, alice: Caller, store: ObjectStore, make_picture: Make, tmp_path: Path
    ) -> None:
        known = make_picture(11)["sha256"]
        old = [original_key("b" * 64), f"public/{'b' * 64}-40.webp", f"public/{'c' * 64}-160.gif"]
        kept = [original_key(known), f"public/{known}-40.webp", original_key("d" * 64), "public/robots.txt"]
        for key in (*old, *kept):
            store.put(key, b"content", media_type="image/webp")
        (tmp_path / "originals" / f"{'e' * 64}#1").write_bytes(b"half")
        age(tmp_path, clock.now() - 2 * DAY, besides="d" * 64)

        assert sum(removal.remove_orphans(before=clock.now() - DAY, store=store)) == 3

        assert stored(store, old) == []
        assert stored(store, kept) == kept
        assert not (tmp_path / "originals" / f"{'e' * 64}#1").exists()

    def test_leave_no_row_and_let_no_upload_write_meanwhile(
        self, app: Flask, alice: Caller, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sha256 = hashlib.sha256(pictures.photo(40, 30, seed=12)).hexdigest()
        store.put(original_key(sha256), b"content", media_type="image/jpeg")
        delete, seen = ObjectStore.delete, []

        def upload_first(its: ObjectStore, keys: Collection[str]) -> None:
            with app.app_context():
                seen.append(send(alice, 12).status_code)
            delete(its, keys)

        with monkeypatch.context() as patched:
            patched.setattr(ObjectStore, "delete", upload_first)
            list(removal.remove_orphans(before=clock.now() + DAY, store=store))

        assert seen == [503]
        assert rows_of(app, "media_assets") == []
        assert send(alice, 12).status_code == 201

    def test_that_a_dead_process_has_taken_are_taken_again(
        self, app: Flask, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys = [original_key("f" * 64), f"public/{'f' * 64}-40.webp"]
        for key in keys:
            store.put(key, b"content", media_type="image/webp")
        with monkeypatch.context() as patched:
            patched.setattr(ObjectStore, "delete", refuse)
            with pytest.raises(StoreUnavailable):
                list(removal.remove_orphans(before=clock.now() + DAY, store=store))
        assert len(rows_of(app, "media_assets")) == 1

        with time_machine.travel(clock.now() + removal.LEASE + timedelta(seconds=1)):
            assert list(removal.remove(before=clock.now() - DAY, store=store)) == [1]
            assert stored(store, keys) == keys[1:]
            list(removal.remove_orphans(before=clock.now() + DAY, store=store))

        assert stored(store, keys) == []
        assert rows_of(app, "media_assets") == []

    def test_cost_as_many_statements_as_there_are_thousands(self, store: ObjectStore, tmp_path: Path) -> None:
        (tmp_path / "originals").mkdir()
        for number in range(ORPHANS):
            (tmp_path / "originals" / f"{number:064x}").write_bytes(b"content")
        executed: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if not statement.startswith("BEGIN"):
                executed.append(statement)

        event.listen(db.engine, "after_cursor_execute", note)
        try:
            assert sum(removal.remove_orphans(before=clock.now() + DAY, store=store)) == ORPHANS
        finally:
            event.remove(db.engine, "after_cursor_execute", note)

        assert list((tmp_path / "originals").iterdir()) == []
        # Two for each thousand of the list, and one for each fifty that are deleted.
        assert len(executed) <= 2 * 4 + ORPHANS / removal.BATCH + 4

    def test_wait_for_a_store_that_is_away(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ObjectStore, "list_keys", refuse_with)

        claim = cast("Claim", None)
        with app.app_context(), pytest.raises(TransientFailure):
            list(removal.remove_orphaned(claim))


def refuse_with(*_: object, **__: object) -> None:
    raise StoreUnavailable


def age(folder: Path, moment: datetime, *, besides: str) -> None:
    """Let the files of a folder be from a moment, but for those with a name."""
    for path in folder.rglob("*"):
        if path.is_file() and besides not in path.name:
            os.utime(path, (moment.timestamp(), moment.timestamp()))
