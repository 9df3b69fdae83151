"""A server that misbehaves, and retries without their pauses."""

from collections.abc import Iterator

import pytest
import stamina

from tests.outbound.misbehaving import Server


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on 127.0.0.1 that behaves by the path of the request."""
    with Server() as server:
        yield server


@pytest.fixture
def no_pauses() -> Iterator[None]:
    """Retry at once, as often as otherwise."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield
