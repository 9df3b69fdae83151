"""Uploads, jobs and removals of one picture between each other's steps, and workers that die or were taken for dead."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import delete, event, text, update

from app.api.tasks import TASKS
from app.clients.object_store import ObjectStore, StoreUnavailable, current_store
from app.core import clock, jobs
from app.core.jobs import Claim, Job, JobFailed, LeaseLost
from app.core.transactions import unit_of_work
from app.core.worker import Worker
from app.extensions import db
from app.features.media import placing, processing, receiving, removal, service
from app.features.media.models import ASSETS, Asset, AssetStatus, Keep, MediaBusy, MediaLost
from app.features.media.names import keys_of_asset
from app.features.media.receiving import Original
from app.features.media.references import KIND
from app.features.products import families
from tests import pictures
from tests.conftest import Caller, body_of
from tests.live.wire import PATIENCE, at_once, wait_for

Make = Callable[..., dict[str, Any]]

URL = "https://pictures.example/chair"
WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")


class Scene:
    """What requests and workers do, step by step; within a context of the application."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def upload(self, content: bytes) -> int:
        """Send a picture: both steps of the request."""
        return self.make_known(self.send(content))

    def send(self, content: bytes) -> Original:
        """Send a picture, up to the moment in which it is in the store."""
        return receiving.store_original(Original.of(content, max_pixels=10**6), self.store)

    def make_known(self, original: Original) -> int:
        """Do the second step of an upload."""
        with unit_of_work():
            return receiving.add_original(original).id

    def add_url(self, url: str = URL) -> int:
        """Give a URL."""
        with unit_of_work():
            return receiving.add_url(url, Keep.COPY).id

    def delete(self, media_id: int) -> None:
        """Delete an asset, as a client does."""
        with unit_of_work():
            service.delete_media(receiving.lock_asset(Asset.id == media_id))

    def remove(self) -> None:
        """Remove what was deleted, as a worker does."""
        for _ in removal.remove(before=clock.now() - timedelta(days=1), store=self.store):
            pass

    def claim(self) -> Claim:
        """Claim the job of a picture, after its last worker was taken for dead where there was one."""
        with unit_of_work():
            db.session.execute(update(Job).where(Job.kind == KIND, jobs.IS_OPEN).values(due_at=clock.now()))
            claim = jobs.claim_job({KIND})
        assert claim is not None
        return claim

    def look_at(self, media_id: int) -> Any:
        """The row of an asset."""
        with unit_of_work(reading=True):
            return db.session.execute(ASSETS.select().where(ASSETS.c.id == media_id)).one()

    def has_all(self, media_id: int) -> bool:
        """Whether the store has the original and every source of an asset."""
        row = self.look_at(media_id)
        names = [f"originals/{row.sha256}", *(f"public/{each['file']}" for each in row.sources)]
        return all(self.store.read(name) for name in names)


@pytest.fixture
def scene(app: Flask) -> Iterator[Scene]:
    """An application without media."""
    with app.app_context():
        yield Scene(current_store())


@pytest.fixture
def work(app: Flask) -> Callable[[], int]:
    """Run the jobs that are due."""
    return Worker(TASKS, app.app_context).drain


def broken(seed: int) -> bytes:
    """A picture whose header is good."""
    return pictures.truncated(pictures.photo(400, 300, seed=seed))


class TestAnUpload:
    def test_is_refused_when_what_it_found_was_removed_meanwhile_and_works_the_next_time(
        self, scene: Scene, work: Callable[[], int]
    ) -> None:
        content = pictures.photo(60, 40, seed=1)
        first = scene.upload(content)
        work()
        scene.delete(first)
        found = scene.send(content)
        assert not found.is_written
        scene.remove()

        with pytest.raises(MediaBusy):
            scene.make_known(found)

        second = scene.upload(content)
        work()
        assert scene.look_at(second).status == AssetStatus.READY
        assert scene.has_all(second)

    def test_is_refused_when_another_is_writing_what_it_had_found(self, scene: Scene, work: Callable[[], int]) -> None:
        content = pictures.photo(60, 40, seed=2)
        first = scene.upload(content)
        work()
        scene.delete(first)
        found = scene.send(content)
        scene.remove()
        written = scene.send(content)

        with pytest.raises(MediaBusy):
            scene.make_known(found)

        assert scene.look_at(scene.make_known(written)).status == AssetStatus.PROCESSING

    def test_is_refused_when_its_row_was_removed_after_the_writing(self, scene: Scene, work: Callable[[], int]) -> None:
        content = broken(3)
        failed = scene.upload(content)
        work()
        scene.delete(failed)
        written = scene.send(content)
        assert written.is_written
        scene.remove()

        with pytest.raises(MediaBusy):
            scene.make_known(written)

    def test_that_the_store_refuses_leaves_the_row_to_another_that_writes(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = pictures.photo(60, 40, seed=4)
        written = scene.send(content)

        def refuse(*_: object, **__: object) -> None:
            raise StoreUnavailable

        with monkeypatch.context() as patched:
            patched.setattr(ObjectStore, "put", refuse)
            with pytest.raises(StoreUnavailable):
                scene.send(content)
        # The last to touch it has deleted its row.
        with pytest.raises(MediaBusy):
            scene.make_known(written)

        assert scene.look_at(scene.upload(content)).status == AssetStatus.PROCESSING

    def test_of_a_picture_that_is_just_failing_has_the_reason_and_not_another(
        self, scene: Scene, work: Callable[[], int]
    ) -> None:
        content = broken(5)
        media_id = scene.upload(content)
        claim = scene.claim()
        with pytest.raises(JobFailed):
            list(processing.process(claim))

        # Its job has not ended yet: it must not become one that is processed without a job.
        scene.upload(content)
        with unit_of_work():
            jobs.fail(claim, "")
            jobs.after_end(claim.job_id, claim.kind, TASKS[claim.kind])

        assert scene.look_at(media_id).error_code == "picture_unreadable"
        scene.upload(content)
        assert scene.look_at(media_id).status == AssetStatus.PROCESSING
        work()
        assert scene.look_at(media_id).error_code == "picture_unreadable"

    def test_of_what_was_lost_restores_it(self, scene: Scene, work: Callable[[], int]) -> None:
        content = pictures.photo(60, 40, seed=6)
        media_id = scene.upload(content)
        scene.store.delete(keys_of_asset(scene.look_at(media_id)))
        found = scene.send(content)
        work()
        assert scene.look_at(media_id).error_code == "media_lost"

        with pytest.raises(MediaBusy):
            scene.make_known(found)
        assert scene.upload(content) == media_id
        work()

        assert scene.look_at(media_id).status == AssetStatus.READY
        assert scene.has_all(media_id)


class TestAWorkerThatWasTakenForDead:
    def test_does_not_make_fail_what_another_has_made_ready(
        self, scene: Scene, work: Callable[[], int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        media_id = scene.upload(pictures.photo(60, 40, seed=7))
        steps = processing.process(scene.claim())
        render = processing._render

        def overtaken(*_: object) -> None:
            monkeypatch.setattr(processing, "_render", render)
            with unit_of_work():
                db.session.execute(update(Job).where(Job.kind == KIND).values(due_at=clock.now()))
            work()
            raise MediaLost

        monkeypatch.setattr(processing, "_render", overtaken)
        with pytest.raises(LeaseLost):
            list(steps)

        assert scene.look_at(media_id).status == AssetStatus.READY
        assert scene.has_all(media_id)

    def test_leaves_a_picture_that_was_removed_meanwhile(
        self, scene: Scene, work: Callable[[], int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        media_id = scene.upload(pictures.photo(60, 40, seed=8))
        steps = processing.process(scene.claim())
        put = ObjectStore.put

        def overtaken(*arguments: Any, **options: Any) -> None:
            monkeypatch.setattr(ObjectStore, "put", put)
            with unit_of_work():
                db.session.execute(update(Job).where(Job.kind == KIND).values(due_at=clock.now()))
            work()
            scene.delete(media_id)
            scene.remove()
            put(*arguments, **options)

        monkeypatch.setattr(ObjectStore, "put", overtaken)
        with pytest.raises(LeaseLost):
            list(steps)


class TestAUrl:
    @pytest.fixture
    def serve(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
        """Let there be a picture at the URL."""

        def serve(content: bytes) -> None:
            monkeypatch.setattr(processing, "fetch", lambda _url, is_last: content)

        return serve

    def test_whose_content_is_known_is_not_fetched_again_when_its_worker_dies(
        self, scene: Scene, work: Callable[[], int], serve: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        media_id, content = scene.add_url(), pictures.photo(60, 40, seed=9)
        serve(content)

        def die(*_: object, **__: object) -> None:
            raise SystemExit

        with monkeypatch.context() as patched:
            patched.setattr(ObjectStore, "put", die)
            with pytest.raises(SystemExit):
                list(processing.process(scene.claim()))
        # Its content is claimed and was not written. An upload of it finds the asset, and writes.
        assert scene.upload(content) == media_id
        serve(pictures.photo(60, 40, seed=10))
        scene.claim()
        with unit_of_work():
            db.session.execute(update(Job).where(Job.kind == KIND).values(due_at=clock.now()))
        work()

        row = scene.look_at(media_id)
        assert (row.status, row.sha256) == (AssetStatus.READY, Original.of(content, max_pixels=10**6).sha256)
        assert scene.has_all(media_id)

    def test_that_has_failed_is_fetched_again_when_it_is_given_again(
        self, scene: Scene, work: Callable[[], int], serve: Callable[[bytes], None]
    ) -> None:
        media_id = scene.add_url()
        serve(broken(11))
        work()
        assert scene.look_at(media_id).error_code == "picture_unreadable"

        serve(pictures.photo(60, 40, seed=11))
        assert scene.add_url() == media_id
        work()

        assert scene.look_at(media_id).status == AssetStatus.READY
        assert scene.has_all(media_id)

    def test_whose_content_changes_between_attempts_keeps_none_of_what_it_is_not(
        self, scene: Scene, work: Callable[[], int], serve: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        former, latter = (pictures.photo(60, 40, seed=seed) for seed in (13, 14))
        owner_id = scene.upload(latter)
        work()
        media_id = scene.add_url()
        serve(former)

        def die(*_: object, **__: object) -> None:
            raise SystemExit

        with monkeypatch.context() as patched:
            patched.setattr(ObjectStore, "put", die)
            with pytest.raises(SystemExit):
                list(processing.process(scene.claim()))
        serve(latter)
        list(processing.process(scene.claim()))

        merged = scene.look_at(media_id)
        assert (merged.status, merged.merged_into_id, merged.sha256) == (AssetStatus.MERGED, owner_id, None)
        # So the former is a picture of its own.
        other_id = scene.upload(former)
        assert other_id not in {media_id, owner_id}
        # Other tests have the same store.
        scene.store.delete(keys_of_asset(scene.look_at(other_id)))

    def test_leads_where_what_it_was_merged_into_leads(
        self, scene: Scene, work: Callable[[], int], serve: Callable[[bytes], None]
    ) -> None:
        content = pictures.photo(60, 40, seed=15)
        owner_id = scene.upload(content)
        work()
        first, second = scene.add_url(), scene.add_url(f"{URL}-again")
        merged = {"status": AssetStatus.MERGED, "merged_into_id": first}
        with unit_of_work():
            db.session.execute(update(ASSETS).where(ASSETS.c.id == second).values(merged))
        serve(content)
        work()

        assert [scene.look_at(each).merged_into_id for each in (first, second)] == [owner_id, owner_id]
        assert scene.add_url(f"{URL}-again") == owner_id

    def test_that_is_removed_between_two_statements_is_refused_for_a_moment(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        media_id, lock_asset = scene.add_url(), receiving.lock_asset

        def removed(*conditions: Any) -> Asset:
            db.session.execute(delete(ASSETS).where(ASSETS.c.id == media_id))
            return lock_asset(*conditions)

        monkeypatch.setattr(receiving, "lock_asset", removed)
        with pytest.raises(MediaBusy):
            scene.add_url()


class TestProducts:
    def test_that_take_pictures_from_each_other_do_not_wait_in_a_circle(
        self, scene: Scene, alice: Caller, make_product: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        media = [scene.upload(pictures.flat("red", (8 + number, 8))) for number in range(2)]
        products = [make_product()["id"] for _ in range(2)]
        both, replace_placements = threading.Barrier(2), placing.replace_placements
        lost: list[str] = []

        def show(number: int, shown: int) -> int:
            return alice.put(f"/products/{products[number]}/media", [{"media_id": media[shown]}]).status_code

        def linger(*arguments: Any) -> None:
            # Only one comes so far where the other waits for its locks.
            with suppress(threading.BrokenBarrierError):
                both.wait(0.5)
            replace_placements(*arguments)

        def note(context: Any) -> None:
            lost.append(type(context.original_exception).__name__)

        assert [show(0, 0), show(1, 1)] == [200, 200]
        monkeypatch.setattr(placing, "replace_placements", linger)
        event.listen(db.engine, "handle_error", note)
        try:
            assert at_once([partial(show, 0, 1), partial(show, 1, 0)]) == [200, 200]
        finally:
            event.remove(db.engine, "handle_error", note)

        assert lost == []

    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_show_a_picture_that_becomes_ready_while_they_get_a_variant(
        self, app: Flask, scene: Scene, alice: Caller, make_category: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        members = {"name": "Shirt", "category_id": make_category()["id"], "options": ["size"]}
        parent = body_of(alice.post("/products", {**members, "variants": [{"options": {"size": "S"}, "price": "1"}]}))
        media_id = scene.upload(pictures.photo(60, 40, seed=12))
        answer = alice.put(f"/products/{parent['id']}/media", [{"media_id": media_id}])
        assert answer.status_code == 200, answer.get_data(as_text=True)
        is_made, may_commit = threading.Event(), threading.Event()
        roll_up = families.roll_up

        def linger(product_ids: Any) -> None:
            roll_up(product_ids)
            is_made.set()
            assert may_commit.wait(PATIENCE)

        monkeypatch.setattr(families, "roll_up", linger)
        with ThreadPoolExecutor(2) as threads:
            another = {"options": {"size": "M"}, "price": "1"}
            adding = threads.submit(alice.post, f"/products/{parent['id']}/variants", another)
            assert is_made.wait(PATIENCE)
            working = threads.submit(Worker(TASKS, app.app_context).drain)
            wait_for(lambda: count_waiting(app))
            may_commit.set()
            variant = body_of(adding.result())
            working.result()

        assert body_of(alice.get(f"/products/{variant['id']}"))["image"]["media_id"] == media_id


def count_waiting(app: Flask) -> int:
    """How many statements wait for a lock."""
    with app.app_context(), unit_of_work(reading=True):
        return int(db.session.scalar(WAITING) or 0)
