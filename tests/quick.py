"""A pytest plugin: with TEST_QUICK=1, only tests that need this process and SQLite and do not take long (`make quick`).

A test is left out for what it uses, so that a new one is in the right set by itself.
"""

from collections import Counter
from typing import Any

import pytest

from tests import servers
from tests.conftest import QUICK

#: What their tests are about is processes, or the schema's history.
FOLDERS = {"browser", "deploy", "live", "migrations", "performance"}
#: The functions that start a server.
STARTERS = {"gunicorn_server", "pgbouncer", "postgres_server", "s3_server", "valkey_server"}
assert all(hasattr(servers, name) for name in STARTERS)

left_out = pytest.StashKey[Counter[str]]()


def pytest_report_header() -> str | None:
    return "quick: SQLite alone, no servers, nothing that may take long (make test runs everything)" if QUICK else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not QUICK:
        return
    reasons = {item: reason for item in items if (reason := _reason_against(item))}
    config.stash[left_out] = Counter(reasons.values())
    config.hook.pytest_deselected(items=list(reasons))
    items[:] = [item for item in items if item not in reasons]


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    counts = config.stash.get(left_out, Counter[str]())
    return [f"quick: left out {number}: {reason}" for reason, number in counts.most_common()]


def _reason_against(item: pytest.Item) -> str | None:
    """Why a test is left out; None when it is not."""
    folder = item.path.relative_to(item.config.rootpath / "tests").parts[0]
    if folder in FOLDERS:
        return f"in tests/{folder}"
    if item.get_closest_marker("timeout"):
        return "may take longer than others (pytest.mark.timeout)"
    if getattr(item, "callspec", None) and "postgresql" in item.callspec.params.values():  # type: ignore[attr-defined]
        return "runs on PostgreSQL"
    if "explain" in item.fixturenames:  # type: ignore[attr-defined]
        return "reads the plans of a database"
    if _starts_server(item):
        return "starts a server"
    return None


def _starts_server(item: pytest.Item) -> bool:
    """Whether the module of a test, or a fixture that it uses, uses a function that starts a server."""
    here: Any = item
    fixtures = (definition.func for found in here._fixtureinfo.name2fixturedefs.values() for definition in found[-1:])
    named = {name for function in fixtures for name in function.__code__.co_names}
    return bool(STARTERS & (named | vars(here.module).keys()))
