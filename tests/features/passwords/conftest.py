"""A mail server, and an application that has its letters delivered there."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from app.api.tasks import TASKS
from app.core.worker import Worker
from tests.mailbox import Mailbox, mail_server


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A real mail server."""
    with mail_server() as box:
        yield box


@pytest.fixture
def app_with_mail(app_with: Callable[..., Flask], mailbox: Mailbox) -> Flask:
    """An application whose mail server is the mailbox."""
    return app_with(
        mail_server="127.0.0.1", mail_port=mailbox.port, mail_reset_url="https://shop.example/reset?token={token}"
    )


def run_jobs(app: Flask) -> int:
    """Run the jobs that are due, as a worker does; their number."""
    return Worker(TASKS, app.app_context).drain()
