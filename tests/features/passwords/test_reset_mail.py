"""The letter of a password reset as a job: what is stored, when it is sent, and how its delivery fails."""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask
from sqlalchemy import func, select, text
from structlog.testing import capture_logs

from app.core import clock, jobs
from app.core.jobs import Job, JobStatus
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.passwords import service
from app.features.passwords.service import MAX_MAIL_ATTEMPTS
from config import Environment
from tests.conftest import TABLES, Caller, on_one_database
from tests.features.passwords.conftest import run_jobs
from tests.mailbox import Mailbox, text_of
from tests.servers import free_port

ADDRESS = "bob@example.com"
SECRET = "hunter2-of-the-mail-server"


def request(app: Flask, email: str = ADDRESS) -> None:
    assert Caller(app).post("/auth/password-reset", {"email": email}).status_code == 202


def token_in(box: Mailbox) -> str:
    match = re.search(r"token=(\S+)", text_of(box.letters[-1]))
    assert match is not None
    return match[1]


def confirm(app: Flask, token: str) -> int:
    body = {"token": token, "new_password": "staple battery horse"}
    return Caller(app).post("/auth/password-reset/confirm", body).status_code


def job_of(app: Flask) -> Job:
    """The only job that there is."""
    with app.app_context(), unit_of_work(reading=True):
        job = db.session.scalars(select(Job)).one()
        db.session.expunge(job)
    return job


def run_after(app: Flask, **passed: float) -> int:
    """Run the jobs that are due once so much time has passed."""
    with time_machine.travel(clock.now() + timedelta(**passed), tick=True):
        return run_jobs(app)


def run_to_the_end(app: Flask) -> None:
    """Run the job as often as it is retried."""
    for number in range(1, 2 * MAX_MAIL_ATTEMPTS):
        run_after(app, seconds=number * jobs.MAX_RETRY_DELAY / 10)
        with app.app_context(), unit_of_work():
            db.session.execute(Job.metadata.tables["jobs"].update().values(due_at=clock.now()))


def dump(app: Flask) -> str:
    """Every value in the database but the accounts'."""
    with app.app_context(), unit_of_work(reading=True):
        rows = [db.session.execute(text(f"SELECT * FROM {name}")).all() for name in TABLES if name != "users"]
    return repr(rows)


class TestStoredLetter:
    def test_waits_for_a_worker(self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox) -> None:
        request(app_with_mail)
        waiting = list(mailbox.letters)

        assert run_jobs(app_with_mail) == 1

        assert waiting == []
        assert [letter["To"] for letter in mailbox.letters] == [ADDRESS]

    def test_is_neither_its_token_nor_its_address(self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox) -> None:
        before = dump(app_with_mail)

        request(app_with_mail)
        waiting = dump(app_with_mail)
        run_jobs(app_with_mail)
        sent, token = dump(app_with_mail), token_in(mailbox)

        assert "'password_reset'" in waiting
        for secret in (token, token.split(".")[-1], ADDRESS):
            # The audit trail has the address from when the account was created.
            assert before.count(secret) == waiting.count(secret) == sent.count(secret)

    def test_is_none_of_a_request_that_was_rolled_back(
        self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox
    ) -> None:
        with app_with_mail.app_context(), suppress(ZeroDivisionError), unit_of_work():
            service.request_reset(email=ADDRESS)
            raise ZeroDivisionError

        assert run_jobs(app_with_mail) == 0
        assert mailbox.letters == []

    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_is_one_though_the_database_loses_the_transaction(
        self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        enqueue, tried = jobs.enqueue, []

        def enqueue_and_lose_the_connection(*arguments: Any, **options: Any) -> Job:
            job = enqueue(*arguments, **options)
            tried.append(db.session.scalar(select(func.pg_backend_pid())))
            if len(tried) == 1:
                with db.engine.connect() as other:
                    other.execute(select(func.pg_terminate_backend(tried[0], 5000)))
                db.session.execute(select(Job.id))
            return job

        monkeypatch.setattr(jobs, "enqueue", enqueue_and_lose_the_connection)

        request(app_with_mail)
        run_jobs(app_with_mail)

        assert len(tried) == 2
        assert len(mailbox.letters) == 1


class TestLetterNotSent:
    """Its job ends as any other does: what is stored about it does not reveal whether there is an account."""

    @pytest.mark.parametrize("who", ["nobody", "carol"], ids=["no account", "inactive account"])
    def test_without_an_active_account(
        self, app_with_mail: Flask, carol: Caller, root: Caller, mailbox: Mailbox, who: str
    ) -> None:
        root.patch(f"/users/{carol.user_id}", {"is_active": False})

        request(app_with_mail, f"{who}@example.com")

        assert run_jobs(app_with_mail) == 1
        assert mailbox.letters == []
        assert job_of(app_with_mail).status == JobStatus.SUCCEEDED

    @pytest.mark.parametrize("change", [{"email": "robert@example.com"}, {"is_active": False}])
    def test_once_the_account_has_changed(
        self, app_with_mail: Flask, bob: Caller, root: Caller, mailbox: Mailbox, change: dict[str, Any]
    ) -> None:
        request(app_with_mail)
        root.patch(f"/users/{bob.user_id}", change)

        run_jobs(app_with_mail)

        assert mailbox.letters == []


class TestLateLetter:
    def test_has_a_token_that_is_valid_from_its_delivery_on(
        self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox
    ) -> None:
        request(app_with_mail)

        run_after(app_with_mail, minutes=25)
        with time_machine.travel(clock.now() + timedelta(minutes=50), tick=True):
            assert confirm(app_with_mail, token_in(mailbox)) == 204

    def test_is_not_sent_after_thirty_minutes(self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox) -> None:
        request(app_with_mail)

        with capture_logs() as logs:
            run_after(app_with_mail, minutes=31)

        assert mailbox.letters == []
        assert (job_of(app_with_mail).status, job_of(app_with_mail).error) == (JobStatus.FAILED, "It waited too long.")
        assert [line["event"] for line in logs] == ["mail_undeliverable"]


class TestDelivery:
    @pytest.mark.parametrize(
        "replies",
        [{"RCPT": f"550 5.1.1 <{ADDRESS}> is unknown"}, {"DATA": "554 5.7.1 Looks like spam"}],
        ids=["recipient", "content"],
    )
    def test_that_is_refused_for_good_is_not_retried(
        self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox, replies: dict[str, str]
    ) -> None:
        mailbox.replies = replies
        request(app_with_mail)

        with capture_logs() as logs:
            run_jobs(app_with_mail)
        job = job_of(app_with_mail)

        code = next(iter(replies.values()))[:3]
        assert (job.status, job.attempts, job.error) == (JobStatus.FAILED, 1, f"The mail server refused it ({code}).")
        assert [line["event"] for line in logs] == ["mail_undeliverable"]
        assert ADDRESS not in repr(logs)

    @pytest.mark.parametrize(
        "replies",
        [{"RCPT": f"450 4.2.0 <{ADDRESS}> is greylisted"}, {"DATA": "451 Try again later"}],
        ids=["recipient", "content"],
    )
    def test_that_is_refused_for_now_is_retried(
        self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox, replies: dict[str, str]
    ) -> None:
        mailbox.replies = replies
        request(app_with_mail)

        with capture_logs() as logs:
            run_jobs(app_with_mail)
        waiting = job_of(app_with_mail)
        mailbox.replies = {}
        run_after(app_with_mail, seconds=3)

        assert (waiting.status, waiting.attempts) == (JobStatus.QUEUED, 1)
        assert [line["event"] for line in logs] == ["mail_delayed"]
        assert ADDRESS not in repr((logs, waiting.error))
        assert [letter["To"] for letter in mailbox.letters] == [ADDRESS]
        assert job_of(app_with_mail).status == JobStatus.SUCCEEDED

    def test_to_a_server_that_stays_away_is_given_up(self, app_with: Callable[..., Flask], bob: Caller) -> None:
        app = app_with(mail_server="127.0.0.1", mail_port=free_port(), mail_username="catalog", mail_password=SECRET)
        request(app)

        with capture_logs() as logs:
            run_to_the_end(app)
        job = job_of(app)

        assert (job.status, job.attempts) == (JobStatus.FAILED, MAX_MAIL_ATTEMPTS)
        assert job.error == "The mail server is unavailable (ConnectionRefusedError)."
        assert [line["event"] for line in logs] == ["mail_delayed"] * (MAX_MAIL_ATTEMPTS - 1) + ["mail_undeliverable"]
        for secret in (ADDRESS, SECRET):
            assert secret not in repr(logs)

    def test_is_done_once_the_letter_is_accepted(self, app_with_mail: Flask, bob: Caller, mailbox: Mailbox) -> None:
        mailbox.replies = {"QUIT": "451 Do not go"}
        request(app_with_mail)

        run_jobs(app_with_mail)

        assert len(mailbox.letters) == 1
        assert job_of(app_with_mail).status == JobStatus.SUCCEEDED

    @on_one_database
    @pytest.mark.parametrize(
        "settings", [{"mail_starttls": True}, {"mail_username": "catalog", "mail_password": SECRET}]
    )
    def test_is_not_made_less_safe_than_the_settings_say(
        self, app_with: Callable[..., Flask], bob: Caller, mailbox: Mailbox, settings: dict[str, Any]
    ) -> None:
        app = app_with(mail_server="127.0.0.1", mail_port=mailbox.port, **settings)
        request(app)

        run_jobs(app)

        assert mailbox.letters == []
        assert job_of(app).error == "The mail server cannot take it (SMTPNotSupportedError)."


@on_one_database
class TestNoMailServer:
    def test_fails_the_letter_and_says_so(self, app: Flask, bob: Caller) -> None:
        request(app)

        with capture_logs() as logs:
            run_jobs(app)

        (line,) = logs
        assert (line["event"], line["reason"]) == ("mail_undeliverable", "MAIL_SERVER is not set.")
        assert job_of(app).status == JobStatus.FAILED

    def test_prints_the_letter_in_development(self, app_with: Callable[..., Flask], bob: Caller) -> None:
        app = app_with(app_env=Environment.DEVELOPMENT, log_level="INFO")
        request(app)

        with capture_logs() as logs:
            run_jobs(app)

        (line,) = (line for line in logs if line["event"] == "mail")
        assert ADDRESS in line["letter"]
        assert job_of(app).status == JobStatus.SUCCEEDED
