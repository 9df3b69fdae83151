"""Mail over SMTP, sent behind the answer; written to the log in development, where no server is configured.

A request must not wait for a mail server, nor tell by its time whether there was anybody to write to: another thread
makes and sends the letter once the answer has gone.
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
    """Where mail goes. Without a ``host`` it is printed."""

    host: str | None
    port: int
    username: str | None
    password: str | None
    starttls: bool
    sender: str
    prints: bool


def init_app(app: Flask) -> None:
    """Configure the outgoing mail server, and the one thread that talks to it."""
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
    """Hand a letter to the mail thread once this request has succeeded and is answered; ``to`` None sends none.

    A request that is done anew, because the database lost it, sends its last letter.
    """
    is_first = "letter" not in g
    g.letter = {"to": to, "subject": subject, "text": text}
    if is_first:
        # Beside the request, the thread would take turns with it and slow it down where there is a letter.
        after_this_request(_send_when_answered)


def _send_when_answered(response: Response) -> Response:
    (server, thread), letter = current_app.extensions["mail"], g.letter
    if letter["to"] is not None and response.status_code < 400:
        response.call_on_close(lambda: thread.submit(deliver, server, **letter))
    return response


def deliver(server: MailServer, *, to: str, subject: str, text: str) -> None:
    """Deliver one letter; three tries, and a line in the log when none worked."""
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
