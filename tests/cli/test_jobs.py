"""``flask jobs``: what an operator sees of background jobs, and does with them."""

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import update

from app.core import clock, jobs
from app.core.jobs import Job, JobStatus
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.passwords.service import KIND
from tests.conftest import Caller, body_of

Make = Callable[..., int]


@pytest.fixture
def make_job(app: Flask) -> Make:
    def make_job(*, kind: str = KIND, status: JobStatus = JobStatus.QUEUED, error: str | None = None) -> int:
        with app.app_context(), unit_of_work():
            job_id = jobs.enqueue(kind, {"address": "bob@example.com"}).id
            if status not in jobs.OPEN:
                values = {"status": status, "error": error, "finished_at": clock.now()}
                db.session.execute(update(Job).where(Job.id == job_id).values(values))
        return job_id

    return make_job


def test_list_has_the_newest_first(runner: FlaskCliRunner, make_job: Make) -> None:
    ids = [make_job(), make_job(status=JobStatus.FAILED, error="no\nanswer " + 100 * "x"), make_job(kind="import")]

    everything = runner.invoke(args=["jobs", "list"]).output
    head, *lines = everything.splitlines()
    failed = runner.invoke(args=["jobs", "list", "--status", "failed", "--kind", KIND, "--limit", "1"]).output

    assert head.split() == ["id", "kind", "status", "attempts", "due_at", "error"]
    assert [int(line.split()[0]) for line in lines] == ids[::-1]
    assert "bob@example.com" not in everything
    assert [line.split()[:3] for line in failed.splitlines()[1:]] == [[str(ids[1]), KIND, "failed"]]
    assert "no answer xxx" in failed
    assert max(map(len, everything.splitlines())) < 160


def test_list_of_nothing_is_its_head(runner: FlaskCliRunner, app: Flask) -> None:
    listed = runner.invoke(args=["jobs", "list", "--limit", "5"])

    assert (listed.exit_code, len(listed.output.splitlines())) == (0, 1)


def test_show_has_everything_but_what_the_job_is_to_do(runner: FlaskCliRunner, make_job: Make) -> None:
    job_id = make_job(status=JobStatus.FAILED, error="no answer")

    shown = runner.invoke(args=["jobs", "show", str(job_id)]).output

    assert f"id: {job_id}\n" in shown
    assert "error: no answer\n" in shown
    assert "bob@example.com" not in shown


def test_retry_and_cancel_change_the_job(runner: FlaskCliRunner, make_job: Make, root: Caller) -> None:
    job_id = make_job(status=JobStatus.FAILED)

    retried = runner.invoke(args=["jobs", "retry", str(job_id)])
    status = body_of(root.get(f"/jobs/{job_id}"))["status"]
    cancelled = runner.invoke(args=["jobs", "cancel", str(job_id)])
    events = body_of(root.get(f"/audit-events?resource=job/{job_id}"))["items"]

    assert (retried.exit_code, status, cancelled.exit_code) == (0, "queued", 0)
    assert body_of(root.get(f"/jobs/{job_id}"))["status"] == "cancelled"
    assert [event["action"] for event in events] == ["job.cancelled", "job.retried"]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("show", "Error: There is nothing here"),
        ("retry", "Error: There is nothing here"),
        ("cancel", "Error: There is nothing here"),
    ],
)
def test_of_a_job_that_is_not_there_fails_in_one_line(
    runner: FlaskCliRunner, app: Flask, command: str, sentence: str
) -> None:
    failed = runner.invoke(args=["jobs", command, "12345"])

    assert (failed.exit_code, len(failed.output.splitlines())) == (1, 1)
    assert failed.output.startswith(sentence)


def test_retry_says_why_it_cannot_be(runner: FlaskCliRunner, root: Caller) -> None:
    file = b"sku,name,price,category\nA-1,Chair,1.50,Chairs\n"
    root.call("POST", "/imports", data=file, headers={"Content-Type": "text/csv"})
    [job] = body_of(root.get("/jobs"))["items"]
    root.post(f"/jobs/{job['id']}/cancel")

    failed = runner.invoke(args=["jobs", "retry", str(job["id"])])

    assert failed.exit_code == 1
    assert failed.output == "Error: This job cannot be retried: Its file was deleted when it ended; send it again.\n"
