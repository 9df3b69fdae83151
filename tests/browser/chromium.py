"""A headless Chromium, and the command line of the application that it visits."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.servers import INHERITED, PROJECT

CHROMIUM = shutil.which("chromium")
CHROMEDRIVER = shutil.which("chromedriver")

#: The checker of accessibility, which npm publishes. CI installs it, and fails where a test is skipped.
AXE = PROJECT / "tests" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="needs npm's axe-core, which make browser installs")

#: The marks of a module whose tests drive the browser.
needs_chromium = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="needs Debian's packages chromium and chromium-driver"),
]

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # Chromium's own sandbox refuses to run as root
    "--disable-dev-shm-usage",  # a container's /dev/shm is often too small
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
)
#: How long anything may take.
SECONDS = 20


def flask(env: dict[str, str], *arguments: str, stdin: str = "") -> None:
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    command = subprocess.run(
        [sys.executable, "-m", "flask", *arguments],
        cwd=PROJECT, env=inherited | env, input=stdin, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert command.returncode == 0, command.stderr


@contextmanager
def chromium(folder: Path) -> Iterator[Chrome]:
    """Run a Chromium with a fresh profile; a failure inside leaves a screenshot."""
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver named, Selenium does not look for one to download.
    browser = Chrome(options=options, service=ChromeService(CHROMEDRIVER))
    try:
        browser.set_page_load_timeout(SECONDS)
        yield browser
    except Exception as failure:
        picture = folder / "failure.png"
        with suppress(WebDriverException):
            browser.save_screenshot(str(picture))
            failure.add_note(f"What the browser showed: {picture}")
            failure.add_note(f"What its console said: {log(browser, 'browser')}")
        raise
    finally:
        browser.quit()


def log(browser: Chrome, kind: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = browser.get_log(kind)  # type: ignore[no-untyped-call]  # Selenium's omission
    return entries
