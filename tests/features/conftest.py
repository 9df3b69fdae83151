"""What the tests of several features share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from tests.conftest import Caller
from tests.studio import Studio


@pytest.fixture
def studio(app_with: Callable[..., Flask], tmp_path: Path, alice: Caller, root: Caller, bob: Caller) -> Studio:
    """A store that nothing else uses."""
    folder = tmp_path / "media"
    app = app_with(media_store=folder.as_uri(), webhook_allowed_private_hosts=("127.0.0.1",))
    return Studio(app, folder, alice.on(app), root.on(app), bob.on(app))
