"""A scene for tests of every operation."""

import time

import pytest
from flask import Flask

from tests.operations import Scene

#: After so many seconds a scene is made anew: its holds expire after 900.
SCENE_SECONDS = 300


@pytest.fixture(scope="module")
def scenes() -> dict[str, tuple[float, Scene]]:
    """The scene on each database, and when it was made."""
    return {}


@pytest.fixture
def restored_scene(app: Flask, backend: str, password_hash: str, scenes: dict[str, tuple[float, Scene]]) -> Scene:
    """A scene as it is at the start: to make one takes longer than most tests, and to put one back does not."""
    now = time.monotonic()
    if backend not in scenes or now - scenes[backend][0] > SCENE_SECONDS:
        scenes[backend] = now, Scene(app, password_hash)
    scene = scenes[backend][1]
    # A test may have exchanged it.
    scene.app = app
    scene.reset()
    return scene
