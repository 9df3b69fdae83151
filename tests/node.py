"""Programs of tests/javascript, which Node runs: an identity provider and a stock client, both written by others."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.servers import PROJECT

FOLDER = PROJECT / "tests" / "javascript"
#: The oldest that both packages are made for.
OLDEST_NODE = 22
#: How long an app may take to end.
SECONDS = 60


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


class Application:
    """An app that uses the catalogue by npm's openid-client, while it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def read(self) -> dict[str, Any]:
        """The next line that it prints."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, self._errors()
        content: dict[str, Any] = json.loads(line)
        return content

    def tell(self, line: str) -> None:
        """Give it a line."""
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _errors(self) -> str:
        assert self._process.stderr
        return self._process.stderr.read()


@contextmanager
def application(**settings: str) -> Iterator[Application]:
    """Run client.mjs, an app of a third party; its settings are those that it names."""
    process = subprocess.Popen(
        command("client.mjs", json.dumps(settings)),
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield Application(process)
            assert process.wait(SECONDS) == 0
        finally:
            # Node may be a child of another program, in the group that this one leads.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
