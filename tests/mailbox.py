"""A real mail server on the loopback, which remembers its letters and can be made to answer otherwise."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.servers import free_port

ACCEPTED = "250 OK"


class Mailbox:
    """A mail server's memory.

    ``replies`` has what it answers to a command instead of accepting it. A recipient is answered once it is ``open``.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.letters: list[Message] = []
        self.arrived = threading.Event()
        self.asked = threading.Event()
        self.open = threading.Event()
        self.open.set()
        self.replies: dict[str, str] = {}

    # aiosmtpd finds its hooks by these names.
    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Whether a recipient is accepted."""
        self.asked.set()
        while not self.open.is_set():
            await asyncio.sleep(0.02)
        reply = self.replies.get("RCPT", ACCEPTED)
        if reply == ACCEPTED:
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep a letter, unless it is refused."""
        reply = self.replies.get("DATA", ACCEPTED)
        if reply == ACCEPTED:
            assert isinstance(envelope.content, bytes)
            self.letters.append(message_from_bytes(envelope.content))
            self.arrived.set()
        return reply

    async def handle_QUIT(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802
        """Say goodbye."""
        return self.replies.get("QUIT", "221 Bye")


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """Run a mail server for the length of a block."""
    box = Mailbox(free_port())
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        box.open.set()
        controller.stop()


def text_of(letter: Message) -> str:
    """What a letter says."""
    payload = letter.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode()
