"""Mail over SMTP; in development, where no server is configured, it is logged.

A delivery waits for the mail server, so it belongs in a background job and not in a request.
"""

import smtplib
import ssl
from contextlib import closing, suppress
from dataclasses import dataclass
from email.message import EmailMessage

import structlog
from flask import Flask, current_app

from app.core import tracing
from app.core.tracing import Kind

#: In seconds, for each reply of the server.
SMTP_TIMEOUT = 10

log = structlog.get_logger(__name__)


class MailRefused(Exception):
    """The mail cannot be delivered, however often it is retried; the message quotes neither mail nor address."""


class MailDelayed(Exception):
    """The mail server is unavailable or asks for a retry; the message quotes neither mail nor address."""


@dataclass(frozen=True, kw_only=True)
class MailServer:
    """The outgoing mail server. Without a ``host``, mail is logged if ``prints``, and refused otherwise."""

    host: str | None
    port: int
    username: str | None
    password: str | None
    starttls: bool
    sender: str
    prints: bool


def init_app(app: Flask) -> None:
    """Register the outgoing mail server."""
    config = app.config
    app.extensions["mail"] = MailServer(
        host=config["MAIL_SERVER"],
        port=config["MAIL_PORT"],
        username=config["MAIL_USERNAME"],
        password=config["MAIL_PASSWORD"],
        starttls=config["MAIL_STARTTLS"],
        sender=config["MAIL_FROM"],
        prints=config["APP_ENV"] == "development",
    )


def deliver(*, to: str, subject: str, text: str) -> None:
    """Deliver one mail to the mail server, in one attempt. Raises ``MailRefused`` and ``MailDelayed``."""
    server: MailServer = current_app.extensions["mail"]
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = server.sender, to, subject
    letter.set_content(text)
    if server.host is not None:
        with tracing.span("mail", kind=Kind.CLIENT, attributes={"server.address": server.host}):
            failure = _send(server, server.host, letter)
            if failure is not None:
                # Not raised where the error is caught: replies quote addresses, and a traceback would show its cause.
                raise failure
    elif server.prints:
        log.info("mail", letter=letter.as_string())
    else:
        raise MailRefused("MAIL_SERVER is not set.")


def _send(server: MailServer, host: str, letter: EmailMessage) -> MailRefused | MailDelayed | None:
    try:
        with closing(smtplib.SMTP(host, server.port, timeout=SMTP_TIMEOUT)) as smtp:
            if server.starttls:
                smtp.starttls(context=ssl.create_default_context())
            if server.username:
                smtp.login(server.username, server.password or "")
            smtp.send_message(letter)
            # The server has accepted the mail: a failure from here on must not have it sent again.
            with suppress(OSError, smtplib.SMTPException):
                smtp.quit()
    except (smtplib.SMTPNotSupportedError, UnicodeError) as error:
        return MailRefused(f"The mail server cannot take it ({type(error).__name__}).")
    except (OSError, smtplib.SMTPException) as error:
        return _judged(error)
    return None


def _judged(error: OSError | smtplib.SMTPException) -> MailRefused | MailDelayed:
    """What an error means by its reply code: RFC 5321, section 4.2.1, calls those from 500 on permanent."""
    code = _reply_code(error)
    if code is None:
        return MailDelayed(f"The mail server is unavailable ({type(error).__name__}).")
    if code >= 500:
        return MailRefused(f"The mail server refused it ({code}).")
    return MailDelayed(f"The mail server asked for a retry ({code}).")


def _reply_code(error: Exception) -> int | None:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        # There is one recipient.
        return next(code for code, _ in error.recipients.values())
    # Python uses -1 for a reply that is none.
    return error.smtp_code if isinstance(error, smtplib.SMTPResponseException) and error.smtp_code > 0 else None
