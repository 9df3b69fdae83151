"""The README's tour does what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import PROJECT, gunicorn_server


def tour() -> str:
    """The script in the README's tour."""
    section = (PROJECT / "README.md").read_text("utf-8").split("## A tour with curl")[1]
    script = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert script is not None
    return script[1]


@pytest.mark.live
def test_the_tour_prints_what_it_says(tmp_path: Path) -> None:
    environment = {"DATABASE_URL": f"sqlite:///{tmp_path / 'tour.db'}"}
    for command in (["db", "upgrade"], ["catalog", "demo"]):
        subprocess.run(
            [sys.executable, "-m", "flask", *command],
            cwd=PROJECT, env={**os.environ, **environment}, check=True, capture_output=True,
        )  # fmt: skip

    with gunicorn_server(environment) as server:
        script = tour().replace("http://127.0.0.1:8000", server.url)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, timeout=60, check=False
        )

    assert done.stdout.splitlines() == re.findall(r"^# → (.*)$", tour(), re.MULTILINE), done.stderr
