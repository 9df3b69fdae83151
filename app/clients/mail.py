"""Mail over SMTP, sent after the response; in development, where no server is configured, it is logged.

A request must not wait for a mail server, and its duration must not reveal whether a recipient exists: another thread
composes and sends the mail once the response is sent.
"""

import smtplib
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import EmailMessage

import structlog
from flask import Flask, Response, after_this_request, current_app, g

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class MailServer:
    """The outgoing mail server. Without a ``host``, mail is logged if ``prints``, and dropped otherwise."""

    host: str | None
    port: int
    username: str | None
    password: str | None
    starttls: bool
    sender: str
    prints: bool


def init_app(app: Flask) -> None:
    """Register the outgoing mail server, and the one thread that connects to it."""
    config = app.config
    server = MailServer(
        host=config["MAIL_SERVER"],
        port=config["MAIL_PORT"],
        username=config["MAIL_USERNAME"],
        password=config["MAIL_PASSWORD"],
        starttls=config["MAIL_STARTTLS"],
        sender=config["MAIL_FROM"],
        prints=config["APP_ENV"] == "development",
    )
    app.extensions["mail"] = (server, ThreadPoolExecutor(1, thread_name_prefix="mail"))


def send_later(*, to: str | None, subject: str, text: str) -> None:
    """Send a mail after the response to this request, if that is a success. With ``to`` None nothing is sent.

    One mail per request: where a transaction is retried, its last attempt's mail is sent.
    """
    is_first = "letter" not in g
    g.letter = {"to": to, "subject": subject, "text": text}
    if is_first:
        # Not at once: the thread would compete with the request for the GIL, so that a mail would show in its duration.
        after_this_request(_send_after_response)


def _send_after_response(response: Response) -> Response:
    (server, thread), letter = current_app.extensions["mail"], g.letter
    if letter["to"] is not None and response.status_code < 400:
        response.call_on_close(lambda: thread.submit(deliver, server, **letter))
    return response


def deliver(server: MailServer, *, to: str, subject: str, text: str) -> None:
    """Deliver one mail with up to three attempts; logs each failure, and ``mail_undeliverable`` after the last."""
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = server.sender, to, subject
    letter.set_content(text)
    if server.host is None:
        if server.prints:
            log.info("mail", letter=letter.as_string())
        else:
            log.error("mail_undeliverable", reason="MAIL_SERVER is not set")
        return
    for attempt in (1, 2, 3):
        try:
            with smtplib.SMTP(server.host, server.port, timeout=10) as smtp:
                if server.starttls:
                    smtp.starttls(context=ssl.create_default_context())
                if server.username:
                    smtp.login(server.username, server.password or "")
                smtp.send_message(letter)
        except (OSError, smtplib.SMTPException) as error:
            log.warning("mail_refused", attempt=attempt, error=type(error).__name__)
        else:
            return
    log.error("mail_undeliverable", reason="the server refused it three times")
