"""The locked packages: what pyproject.toml asks for, the same everywhere, from any registry, none with a known hole."""

import json
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
NPM_LOCKS = [
    ROOT / folder / "package-lock.json" for folder in ("clients/typescript", "tests/browser", "tests/javascript")
]
#: The groups of pyproject.toml that each lock holds.
SETS: dict[str, set[str]] = {
    "run": {"run"},
    "production": {"run", "production"},
    "worker": {"run", "production", "worker"},
    "test": {"run", "production", "worker", "test"},
    "fast": {"fast"},
    "clients": {"clients"},
}

# The first releases without a hole that was known when this was written.
SECURE_SINCE = [
    "Flask>=3.1.3",
    "Flask-Cors>=6.0.1",
    "gunicorn>=26.1",
    "Jinja2>=3.1.6",
    "marshmallow>=4.1.2",
    "PyJWT>=2.15",
    "Werkzeug>=3.1.6",
]


def lock(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text()


def pins(name: str) -> dict[str, set[str]]:
    """The versions of each package; there may be one for each Python."""
    versions: dict[str, set[str]] = {}
    for package, pinned in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", lock(name), re.MULTILINE):
        versions.setdefault(canonicalize_name(package), set()).add(pinned)
    return versions


def spelled_extras(name: str) -> dict[str, set[str]]:
    """The extras that each package of a lock is pinned with; none, mostly."""
    return {
        canonicalize_name(package): {canonicalize_name(extra) for extra in extras.split(",") if extra}
        for package, extras in re.findall(r"^([A-Za-z0-9._-]+)(?:\[([^]]*)\])?==", lock(name), re.MULTILINE)
    }


def asked_of(package: str, extras: set[str]) -> Iterator[Requirement]:
    """What a package, with these extras, asks for on this Python; nothing where it is not installed."""
    try:
        lines = requires(package) or []
    except PackageNotFoundError:
        return
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            yield requirement


def declared() -> Iterator[tuple[str, Requirement]]:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    yield from (("run", Requirement(line)) for line in settings["project"]["dependencies"])
    for name, lines in (settings["project"]["optional-dependencies"] | settings["dependency-groups"]).items():
        yield from ((name, Requirement(line)) for line in lines)


class TestLocks:
    @pytest.mark.parametrize(("name", "requirement"), list(declared()), ids=str)
    def test_pin_what_the_project_declares(self, name: str, requirement: Requirement) -> None:
        pinned = pins(name).get(canonicalize_name(requirement.name), set())

        assert pinned
        assert all(one in requirement.specifier for one in pinned), "run `make lock`"

    @pytest.mark.parametrize(
        ("smaller", "larger"), [("run", "production"), ("production", "worker"), ("worker", "test")]
    )
    def test_agree_with_each_other(self, smaller: str, larger: str) -> None:
        assert pins(smaller).items() <= pins(larger).items()

    def test_add_no_other_version_to_the_test_set(self) -> None:
        tested, added = pins("test"), pins("clients")

        assert {name: added[name] for name in added.keys() & tested.keys() if added[name] != tested[name]} == {}

    @pytest.mark.parametrize("name", SETS)
    def test_spell_every_extra_that_is_asked_for(self, name: str) -> None:
        # pip before 23.3 does not take the pin of `coverage` for `coverage[toml]`, and refuses to install.
        spelled = spelled_extras(name)
        asking = [("pyproject.toml", requirement) for group, requirement in declared() if group in SETS[name]]
        for package, extras in spelled.items():
            asking += [(package, requirement) for requirement in asked_of(package, extras)]

        assert [
            f"{who} asks for {requirement}"
            for who, requirement in asking
            if {canonicalize_name(extra) for extra in requirement.extras}
            - spelled.get(canonicalize_name(requirement.name), set())
        ] == []

    @pytest.mark.parametrize("name", SETS)
    def test_hash_every_package(self, name: str) -> None:
        packages = re.split(r"^(?=\w)", lock(name), flags=re.MULTILINE)[1:]

        assert packages
        assert [package.split()[0] for package in packages if "--hash=sha256:" not in package] == []

    @pytest.mark.parametrize("path", NPM_LOCKS, ids=lambda path: path.parent.name)
    def test_of_npm_name_no_registry(self, path: Path) -> None:
        assert re.findall(r"\w+://[^\"]*", path.read_text()) == []

    @pytest.mark.parametrize("path", NPM_LOCKS, ids=lambda path: path.parent.name)
    def test_of_npm_hash_every_package(self, path: Path) -> None:
        packages = json.loads(path.read_text())["packages"]

        assert len(packages) > 1
        assert [name for name, package in packages.items() if name and "integrity" not in package] == []

    @pytest.mark.parametrize("name", SETS)
    def test_name_no_registry_and_no_folder(self, name: str) -> None:
        assert re.findall(r"://|--index|--extra-index|--find-links|-i | @ |^/|=/", lock(name), re.MULTILINE) == []


class TestInstalledPackages:
    @pytest.mark.parametrize("floor", SECURE_SINCE)
    def test_carry_the_security_fixes(self, floor: str) -> None:
        requirement = Requirement(floor)

        assert version(requirement.name) in requirement.specifier
