"""The job of a password reset: sign the token, compose the letter, and deliver it to the mail server."""

from collections.abc import Generator
from datetime import timedelta

import structlog
from flask import current_app

from app.clients import mail
from app.core import clock
from app.core.jobs import Claim, JobFailed, TransientFailure
from app.core.transactions import unit_of_work
from app.features.passwords import service

#: How long a letter may wait, as long as its token is then valid: by the end its reader has requested another.
MAX_WAIT = timedelta(seconds=service.RESET_TOKEN_SECONDS)

log = structlog.get_logger(__name__)


def send_reset(claim: Claim) -> Generator[None, None, None]:
    """Send the letter that a reset was requested for, or nothing where there is no account or it has changed since.

    One claim sends it at most once. A worker that dies after the delivery and before its job is finished leaves the job
    to another, which sends it again: a letter is delivered at least once.
    """
    yield from ()  # a job of one step, which is finished after it
    with unit_of_work(reading=True):
        reset = service.sign_requested(**claim.payload, keys=current_app.config["SECRET_KEYS"])
    if reset is None:
        return
    if clock.now() - claim.created_at > MAX_WAIT:
        raise _failure(claim, "It waited too long.")
    try:
        mail.deliver(to=reset.email, subject="Reset your password", text=_letter(reset.token))
    except mail.MailRefused as refusal:
        raise _failure(claim, str(refusal)) from None
    except mail.MailDelayed as delay:
        if claim.is_last:
            raise _failure(claim, str(delay)) from None
        log.warning("mail_delayed", job_id=claim.job_id, attempt=claim.attempts, reason=str(delay))
        raise TransientFailure(str(delay)) from None


def _failure(claim: Claim, reason: str) -> JobFailed:
    log.error("mail_undeliverable", job_id=claim.job_id, reason=reason)
    return JobFailed(reason)


def _letter(token: str) -> str:
    link = current_app.config["MAIL_RESET_URL"]
    where = link.replace("{token}", token) if link else token
    return (
        "We received a request to reset your password.\n\n"
        f"{where}\n\n"
        "This works once, within 30 minutes. If you did not request it, do nothing: your password is unchanged.\n"
    )
