"""The README's commands do what it says."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config import Config, ConfigError
from tests.servers import PROJECT, GunicornServer, gunicorn_server


def block(heading: str, language: str = "sh") -> str:
    """The first block of code below a heading of the README."""
    section = (PROJECT / "README.md").read_text("utf-8").split(f"\n## {heading}\n")[1]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


def tour() -> str:
    """The script in the README's tour."""
    return block("A tour with curl")


#: Where it is pasted first, and where again. Without zsh, which CI must have, it is pasted into bash twice.
SHELLS = ("bash", "zsh" if os.environ.get("CI") or shutil.which("zsh") else "bash")


@contextmanager
def demo_server(folder: Path) -> Iterator[GunicornServer]:
    """What `make run` serves, with its data in a folder."""
    environment = {"DATABASE_URL": f"sqlite:///{folder / 'tour.db'}", "MEDIA_STORE": (folder / "media").as_uri()}
    for command in (["db", "upgrade"], ["catalog", "demo"]):
        subprocess.run(
            [sys.executable, "-m", "flask", *command],
            cwd=PROJECT, env={**os.environ, **environment}, check=True, capture_output=True,
        )  # fmt: skip
    with gunicorn_server(environment) as server:
        yield server


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[GunicornServer]:
    with demo_server(tmp_path) as server:
        yield server


# Two commands, a server and two shells that ask it dozens of times: a busy machine may take its time.
@pytest.mark.live
@pytest.mark.timeout(300)
def test_the_tour_prints_what_it_says_and_says_it_again(demo: GunicornServer) -> None:
    environment = {**os.environ, "API": f"{demo.url}/api/v1"}

    for name in SHELLS:
        # As it is pasted: an interactive shell, which reads no file of the user's.
        done = subprocess.run(
            [name, *{"bash": ["--norc", "-i"], "zsh": ["-f", "-i"]}[name]],
            input=tour(), env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

        assert done.stdout.splitlines() == re.findall(r"^# → (.*)$", tour(), re.MULTILINE), (name, done.stderr)


def test_the_tour_needs_no_new_curl() -> None:
    # Ubuntu 22.04 has curl 7.81; --json came with 7.82.
    assert "--json" not in tour()


def production_settings(secret: str) -> dict[str, str]:
    """The environment that the README's commands for production export, with this for each secret."""
    exports = [line for line in block("In production").splitlines() if line.startswith("export ")]
    script = "\n".join([*exports, "env"]).replace("=...", f"={secret}")
    told = subprocess.run(
        ["bash", "-euc", script], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    )
    return dict(line.split("=", 1) for line in told.stdout.splitlines())


def test_the_commands_for_production_run_production() -> None:
    command = re.search(r"python3 -c '.*'", block("In production"))
    assert command is not None

    settings = production_settings(f"$({command[0]})")

    assert Config.from_environment(settings).runs_on == "production, postgresql, redis"


def test_the_commands_for_production_refuse_to_run_without_secrets() -> None:
    with pytest.raises(ConfigError, match="SECRET_KEY must have at least 32 bytes"):
        Config.from_environment(production_settings("..."))
