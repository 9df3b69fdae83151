"""A pytest plugin: where CI is true, a skipped test has failed.

CI installs all that tests ask for, so that a skip there means a test that silently stopped running.
"""

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # An expected failure is reported as a skip, too.
    if report.skipped and not hasattr(report, "wasxfail") and _is_ci():
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which CI does not allow: {_reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and _is_ci():
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped, which CI does not allow: {_reason(report.longrepr)}"
    return report


def _is_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true"}


def _reason(longrepr: object) -> object:
    # pytest tells a skip as (file, line, reason).
    return longrepr[2] if isinstance(longrepr, tuple) else longrepr
