"""Jobs over HTTP: what administrators see of them, and what they can do."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select, update

from app.api.tasks import TASKS
from app.core import clock, jobs
from app.core.jobs import Claim, Job, JobStatus, Task
from app.core.transactions import unit_of_work
from app.core.worker import Worker
from app.extensions import db
from app.features.imports.models import ImportChunk
from app.features.imports.service import KIND as IMPORT
from app.features.passwords.service import KIND as RESET
from tests.conftest import Caller, body_of, code_of

PERIODIC, UNKNOWN = "tidy", "gone"
FILE = b"sku,name,price,category\nA-1,Chair,1.50,Chairs\n"


def do_nothing(_claim: Claim) -> Generator[None, None, None]:
    yield from ()


@pytest.fixture
def ended() -> list[int]:
    """The ids of the periodic jobs that ended."""
    return []


@pytest.fixture(autouse=True)
def periodic(app: Flask, ended: list[int], monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task with a period, beside those of the application."""
    task = Task(do_nothing, ended.append, every=timedelta(hours=1))
    monkeypatch.setitem(app.extensions, "find_tasks", lambda: {**TASKS, PERIODIC: task})
    return task


@pytest.fixture
def make_job(app: Flask) -> Callable[..., int]:
    """Enqueue a job, and end it with a status and an error."""

    def make_job(
        kind: str = RESET, *, status: JobStatus = JobStatus.QUEUED, error: str | None = None, **options: Any
    ) -> int:
        with app.app_context(), unit_of_work():
            job_id = jobs.enqueue(kind, {"user_id": 7, "epoch": 3}, **options).id
            if status not in jobs.OPEN:
                values = {"status": status, "error": error, "attempts": 5, "finished_at": clock.now()}
                db.session.execute(update(Job).where(Job.id == job_id).values(values))
        return job_id

    return make_job


def count(app: Flask, model: type[Any]) -> int:
    with app.app_context(), unit_of_work(reading=True):
        return db.session.scalar(select(func.count()).select_from(model)) or 0


def actions_on(root: Caller, job_id: int) -> list[tuple[str, int]]:
    events = body_of(root.get(f"/audit-events?resource=job/{job_id}"))["items"]
    return [(event["action"], event["actor_id"]) for event in events]


class TestListJobs:
    def test_shows_no_payload_no_key_and_no_lease(self, root: Caller, make_job: Callable[..., int]) -> None:
        job_id = make_job(key="user:7")

        [job] = body_of(root.get("/jobs"))["items"]

        times = {"due_at", "created_at", "started_at", "finished_at"}
        assert job.keys() == {"id", "kind", "status", "attempts", "max_attempts", "error"} | times
        assert (job["id"], job["kind"], job["status"]) == (job_id, RESET, "queued")

    def test_filters_by_status_and_kind_and_has_the_newest_first(
        self, root: Caller, make_job: Callable[..., int]
    ) -> None:
        first, other, last = make_job(), make_job(IMPORT), make_job(status=JobStatus.FAILED)

        def ids(query: str) -> list[int]:
            return [job["id"] for job in body_of(root.get(f"/jobs{query}"))["items"]]

        assert ids("") == [last, other, first]
        assert ids("?status=queued") == [other, first]
        assert ids("?status=queued,failed&kind=password_reset") == [last, first]
        assert ids("?sort_by=created_at&order=asc&kind=import") == [other]

    def test_pages(self, root: Caller, make_job: Callable[..., int]) -> None:
        ids = [make_job() for _ in range(5)]

        seen, path = [], "/jobs?cursor=&per_page=2"
        while path:
            page = body_of(root.get(path))
            seen += [job["id"] for job in page["items"]]
            cursor = page["meta"]["next_cursor"]
            path = f"/jobs?cursor={cursor}&per_page=2" if cursor else ""

        assert seen == ids[::-1]

    def test_is_for_administrators(self, alice: Caller, bob: Caller, make_job: Callable[..., int]) -> None:
        job_id = make_job()

        paths = (
            ("GET", "/jobs"),
            ("GET", f"/jobs/{job_id}"),
            *(("POST", f"/jobs/{job_id}/{do}") for do in ("retry", "cancel")),
        )
        assert {who.call(method, path).status_code for who in (alice, bob) for method, path in paths} == {403}


class TestReadJob:
    def test_says_why_it_failed(self, root: Caller, make_job: Callable[..., int]) -> None:
        job_id = make_job(status=JobStatus.FAILED, error="No mail server is set.")

        job = body_of(root.get(f"/jobs/{job_id}"))

        assert (job["status"], job["error"], job["attempts"]) == ("failed", "No mail server is set.", 5)
        assert root.get(f"/jobs/{job_id + 1}").status_code == 404


class TestRetryJob:
    @pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED])
    def test_queues_it_with_all_its_attempts(
        self, app: Flask, root: Caller, make_job: Callable[..., int], status: JobStatus
    ) -> None:
        job_id = make_job(status=status, error="No.")

        job = body_of(root.post(f"/jobs/{job_id}/retry"))

        assert (job["status"], job["attempts"], job["error"], job["finished_at"]) == ("queued", 0, None, None)
        assert actions_on(root, job_id) == [("job.retried", root.user_id)]
        with app.app_context(), unit_of_work():
            claim = jobs.claim_job([RESET])
        assert claim is not None
        assert (claim.job_id, claim.attempts) == (job_id, 1)

    @pytest.mark.parametrize(
        ("status", "code"), [(JobStatus.QUEUED, "job_not_ended"), (JobStatus.SUCCEEDED, "job_succeeded")]
    )
    def test_refuses_others(self, root: Caller, make_job: Callable[..., int], status: JobStatus, code: str) -> None:
        job_id = make_job(status=status)

        answer = root.post(f"/jobs/{job_id}/retry")

        assert (answer.status_code, code_of(answer)) == (409, code)
        assert actions_on(root, job_id) == []

    def test_refuses_one_that_runs(self, app: Flask, root: Caller, make_job: Callable[..., int]) -> None:
        job_id = make_job()
        with app.app_context(), unit_of_work():
            jobs.claim_job([RESET])

        assert code_of(root.post(f"/jobs/{job_id}/retry")) == "job_not_ended"

    def test_refuses_an_import_whose_file_is_gone(self, root: Caller) -> None:
        root.call("POST", "/imports", data=FILE, headers={"Content-Type": "text/csv"})
        [job] = body_of(root.get("/jobs"))["items"]
        root.post(f"/jobs/{job['id']}/cancel")

        answer = root.post(f"/jobs/{job['id']}/retry")

        assert (answer.status_code, code_of(answer)) == (409, "job_not_retriable")
        assert body_of(answer)["reason"] == "Its file was deleted when it ended; send it again."

    def test_refuses_one_whose_key_another_has(self, root: Caller, make_job: Callable[..., int]) -> None:
        first = make_job(key="one", status=JobStatus.FAILED)
        make_job(key="one")

        assert code_of(root.post(f"/jobs/{first}/retry")) == "job_replaced"
        assert body_of(root.get(f"/jobs/{first}"))["status"] == "failed"

    def test_refuses_a_kind_of_another_release(self, root: Caller, make_job: Callable[..., int]) -> None:
        assert code_of(root.post(f"/jobs/{make_job(UNKNOWN, status=JobStatus.FAILED)}/retry")) == "job_kind_unknown"

    def test_by_several_at_once_queues_it_once(self, root: Caller, make_job: Callable[..., int]) -> None:
        job_id = make_job(status=JobStatus.FAILED)

        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda _: root.post(f"/jobs/{job_id}/retry").status_code, range(4)))

        assert sorted(answers) == [200, 409, 409, 409]
        assert len(actions_on(root, job_id)) == 1


class TestCancelJob:
    def test_ends_it(self, app: Flask, root: Caller, make_job: Callable[..., int]) -> None:
        job_id = make_job()

        job = body_of(root.post(f"/jobs/{job_id}/cancel"))

        assert (job["status"], job["finished_at"] is not None) == ("cancelled", True)
        assert actions_on(root, job_id) == [("job.cancelled", root.user_id)]
        with app.app_context(), unit_of_work():
            assert jobs.claim_job([RESET]) is None

    def test_of_an_import_deletes_its_file_as_cancelling_the_import_does(self, app: Flask, root: Caller) -> None:
        sent = root.call("POST", "/imports", data=FILE, headers={"Content-Type": "text/csv"})
        [job] = body_of(root.get("/jobs"))["items"]
        before = count(app, ImportChunk)

        root.post(f"/jobs/{job['id']}/cancel")

        assert (before, count(app, ImportChunk)) == (1, 0)
        assert body_of(root.get(f"/imports/{body_of(sent)['id']}"))["status"] == "cancelled"

    def test_of_periodic_work_leaves_its_next_slot(
        self, app: Flask, root: Caller, periodic: Task, ended: list[int]
    ) -> None:
        with app.app_context(), unit_of_work():
            jobs.enqueue_periodic(PERIODIC, periodic)
        [job] = body_of(root.get("/jobs"))["items"]

        root.post(f"/jobs/{job['id']}/cancel")
        newer, older = body_of(root.get("/jobs"))["items"]

        assert (older["id"], older["status"], newer["status"]) == (job["id"], "cancelled", "queued")
        assert newer["due_at"] == job["due_at"]
        assert ended == [job["id"]]
        assert code_of(root.post(f"/jobs/{older['id']}/retry")) == "job_replaced"

    def test_takes_it_from_its_worker(self, app: Flask, root: Caller, make_job: Callable[..., int]) -> None:
        job_id = make_job()

        def run(claim: Claim) -> Generator[None, None, None]:
            yield
            assert root.post(f"/jobs/{job_id}/cancel").status_code == 200

        Worker({RESET: Task(run)}, app.app_context).drain()

        assert body_of(root.get(f"/jobs/{job_id}"))["status"] == "cancelled"

    def test_refuses_one_that_has_ended(self, root: Caller, make_job: Callable[..., int]) -> None:
        job_id = make_job(status=JobStatus.SUCCEEDED)

        assert code_of(root.post(f"/jobs/{job_id}/cancel")) == "job_ended"

    def test_refuses_a_kind_of_another_release(self, root: Caller, make_job: Callable[..., int]) -> None:
        assert code_of(root.post(f"/jobs/{make_job(UNKNOWN)}/cancel")) == "job_kind_unknown"
