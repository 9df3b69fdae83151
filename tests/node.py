"""Programs of tests/javascript, which Node runs: an identity provider and a stock client, both written by others."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.servers import PROJECT

FOLDER = PROJECT / "tests" / "javascript"
#: The oldest that both packages are made for.
OLDEST_NODE = 22


@cache
def node() -> str | None:
    """Where Node is: that of the clients' set, else the system's; None without one that is new enough."""
    for name in (Path(sys.executable).with_name("node"), "node"):
        if found := shutil.which(name):
            answer = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=30, check=False)
            if answer.returncode == 0 and int(answer.stdout.removeprefix("v").split(".")[0]) >= OLDEST_NODE:
                return found
    return None


needs_node = pytest.mark.skipif(
    not (node() and (FOLDER / "node_modules" / "openid-client").exists()),
    reason=f"needs Node {OLDEST_NODE} or newer, and what make test installs into tests/javascript where there is npm",
)


def command(program: str, argument: str) -> list[str]:
    """How to run a program of tests/javascript, with what it is to do."""
    found = node()
    assert found is not None
    return [found, str(FOLDER / program), argument]


def environment() -> dict[str, str]:
    """What Node needs of the shell: no NODE_OPTIONS, and no proxy, since all is on the loopback."""
    return {name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ}
