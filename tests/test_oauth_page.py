"""docs/oauth.md: its commands do what it says, and its table of errors is complete."""

import os
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from app.web.oauth_errors import ERRORS
from tests.http_browser import Visitor
from tests.servers import PROJECT, GunicornServer
from tests.test_readme import demo_server

PAGE = (PROJECT / "docs" / "oauth.md").read_text("utf-8")
#: The blocks of code are one script, in which a person with a browser has to fill in the code.
BEFORE, AFTER = "\n".join(
    textwrap.dedent(block) for block in re.findall(r"^ *```sh\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
).split("CODE=...\n")


def run(script: str, server: GunicornServer) -> list[str]:
    """The lines that a script prints."""
    environment = {**os.environ, "API": f"{server.url}/api/v1"}
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail"],
        input=script, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def expected(script: str) -> list[str]:
    return re.findall(r"^# → (.*)$", script, re.MULTILINE)


def code_of(page: str, back: str) -> str:
    """What the editor's browser brings back from the page for consent."""
    visitor = Visitor()
    try:
        here = visitor.open(page)
        login = {"email": "editor@example.com", "password": "demo-editor-password"}
        for values in (login, {"decision": "allow"}):
            form = next(one for one in here.forms if "password" in one.fields or ("decision", "allow") in one.buttons)
            here = visitor.submit(here, form, until=lambda url: url.startswith(back), **values)
    finally:
        visitor.close()
    [code] = parse_qs(urlsplit(here.url).query)["code"]
    return code


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[GunicornServer]:
    with demo_server(tmp_path) as server:
        yield server


@pytest.mark.live
@pytest.mark.timeout(300)
def test_its_commands_print_what_it_says(demo: GunicornServer, tmp_path: Path) -> None:
    state = tmp_path / "state.sh"

    before = run(
        f'{BEFORE}\ndeclare -p PAGE BACK APP VERIFIER EDITOR CLIENT SECRET > "{state}"\necho "$PAGE $BACK"', demo
    )
    page, back = before.pop().split(" ")
    functions = BEFORE.partition("\n}\n")[0] + "\n}\n"
    after = run(f"{functions}\n. '{state}'\nCODE={code_of(page, back)}\n{AFTER}", demo)

    assert before == expected(BEFORE)
    assert after == expected(AFTER)


def test_it_explains_every_error() -> None:
    table = PAGE.partition("| `error` | when |")[2].partition("\n\n")[0]

    assert set(re.findall(r"^\| `([a-z_]+)`", table, re.MULTILINE)) == ERRORS
