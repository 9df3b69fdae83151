"""A pytest plugin: a test that writes a secret, an e-mail address or a search text to a log has failed.

Looked at are what a test and its children write to standard error, and at the end of the session the metrics of its
process; tests/servers.py and tests/live/conftest.py look at the logs of the servers that tests start.
"""

from collections.abc import Generator, Iterator

import pytest
from prometheus_client import generate_latest

from tests.leaks import leaks_in, require_no_leak


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a phase of a test that has written what should not be written."""
    report = yield
    written = {f"Captured stderr {report.when}", f"Captured log {report.when}"}
    leaks = [leak for title, text in report.sections if title in written for leak in leaks_in(text)]
    if leaks and report.passed:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} wrote what must not be written:\n" + "\n".join(leaks[:5])
    return report


@pytest.fixture(scope="session", autouse=True)
def metrics_tell_nothing() -> Iterator[None]:
    """Look at the metrics of this process once, after its last test."""
    yield
    require_no_leak(generate_latest().decode(), "/metrics")
