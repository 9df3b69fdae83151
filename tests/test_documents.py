"""The documents name only what exists: files, headings, make targets, settings, and the words of the code."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from werkzeug.routing import MapAdapter

from app import create_app
from config import Config
from tests.conftest import settings_for
from tests.servers import PROJECT

PAPERS = [*(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "clients/README.md"))]
PAPERS += sorted((PROJECT / "docs").glob("*.md"))
#: Documents of which only the paths are followed: the others of their names are of other machines or releases.
OTHER_PAPERS = [
    PROJECT / "CHANGELOG.md",
    PROJECT / "deploy" / "README.md",
    *sorted((PROJECT / "docs" / "decisions").glob("*.md")),
]
SETTINGS = {field.name.upper() for field in fields(Config)}
#: Variables that the documents name because they are no settings or a client's, and one that only the debugger needs.
NO_SETTINGS, UNLISTED = {"API_URL", "CORS_ORIGIN", "JWT_ALGORITHM", "MAIL_HOST", "NO_COLOR", "ZSH_VERSION"}, {"DEBUG"}
#: Where another program, or a library, looks.
NO_SETTINGS |= {"PROMETHEUS_MULTIPROC_DIR"}
#: Those with which obstore reaches a bucket, and those of OpenTelemetry's SDK.
NO_SETTINGS |= {
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP"),
    *("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TIMEOUT"),
    *("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_BSP_SCHEDULE_DELAY"),
    *("GOOGLE_SERVICE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"),
}
#: What is made when something runs, and is in no commit.
MADE = ("instance", ".venv", "build")
#: What a reader makes who follows the steps of a document.
MADE_BY_STEPS = re.compile(r"^`([\w./]+)`:$", re.MULTILINE)
MEDIA_TYPES = ("application", "image", "text")
PATH = re.compile(r"[\w.<>*-]+(?:/[\w.<>*-]*)+|[\w.-]+\.(?:conf|ini|json|md|py|sh|toml|txt|yaml)")

#: The start of an address, or the variables and shorthands of examples, which come before a path.
BEFORE_A_PATH = re.compile(r"^(https?://)?[\w.-]+:\d+(?=/)|^https?://localhost(?=/)")
API = re.compile(r"^\$\{?(API|api)\}?(?=/)")
SERVED = re.compile(r"/(?!/)[\w{}$<>./%~-]*")
#: What looks like a path of the server and is a folder of a machine, or the length of a network's prefix.
NOT_SERVED = re.compile(r"/(tmp|dev|etc|srv|opt|\d+)(/.*)?")

each_paper = pytest.mark.parametrize("paper", PAPERS, ids=[str(paper.relative_to(PROJECT)) for paper in PAPERS])


def code_in(paper: Path) -> list[str]:
    """What stands in a document as code: blocks of commands and output, and what is between backticks."""
    text = re.sub(r"^```(python|diff|html)\n.*?^```", "", paper.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    block = re.compile(r"^ *```\w*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
    return [*block.findall(text), *re.findall(r"`([^`\n]+)`", block.sub("", text))]


def paths_in(paper: Path) -> Iterator[str]:
    """The names of files and folders; ``<name>`` stands for any."""
    for word in re.split(r"[\s,;='\"()\[\]]+", " ".join(code_in(paper))):
        name = word.rstrip(".:")
        if PATH.fullmatch(name) and not {*MADE, *MEDIA_TYPES} & set(name.split("/")):
            yield name


def exists(name: str, paper: Path) -> bool:
    """Whether there is such a file, seen from the project, its application or the document; or in a feature."""
    pattern = re.sub(r"<\w+>", "*", name.rstrip("/"))
    folders = [PROJECT, PROJECT / "app", paper.parent]
    if "/" not in name:
        folders += (PROJECT / "app" / "features").iterdir()
    return any(next(folder.glob(pattern), None) for folder in folders)


def anchors_of(paper: Path) -> set[str]:
    """The anchors of a document's headings, as the sites that show it make them."""
    headings = re.findall(r"^#+ (.+)$", paper.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_paper
def test_every_file_that_is_named_exists(paper: Path) -> None:
    made = MADE_BY_STEPS.findall(paper.read_text("utf-8"))

    assert [name for name in paths_in(paper) if name not in made and not exists(name, paper)] == []


def served_paths_in(paper: Path) -> Iterator[str]:
    """The paths of the server that a document names, without their query."""
    commands = re.sub(r"^# → .*$", "", "\n".join(code_in(paper)), flags=re.MULTILINE)
    for word in re.split(r"[\s,;='\"()\[\]`]+", commands):
        path = API.sub("/api/v1", BEFORE_A_PATH.sub("", word)).partition("?")[0].partition("#")[0].rstrip(".:…")
        if SERVED.fullmatch(path) and path != "/" and not NOT_SERVED.fullmatch(path):
            yield path


def is_served(path: str, routes: MapAdapter) -> bool:
    """Whether a route has this path, or it is a part of a route's. ``{name}`` stands for any value."""
    concrete = re.sub(r"\{\w+\}|<\w+>|\$\w+", "1", path.replace("{key}", "external_id")).rstrip("/")
    if any(routes.allowed_methods(prefix + concrete) for prefix in ("", "/api/v1")):
        return True
    rules = (re.sub(r"<any\(.*?>", "external_id", rule.rule) for rule in routes.map.iter_rules())
    return any(f"{concrete}/" in re.sub(r"<.*?>", "1", rule) + "/" for rule in rules)


@pytest.mark.parametrize("paper", [*PAPERS, *OTHER_PAPERS], ids=lambda paper: str(paper.relative_to(PROJECT)))
def test_every_path_that_is_named_is_served(paper: Path) -> None:
    app = create_app(settings_for("sqlite:////nowhere/catalog.db"))
    routes = app.url_map.bind("localhost")

    assert [path for path in served_paths_in(paper) if not is_served(path, routes)] == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/livez", True),
        ("/products/by/{key}/{value}", True),
        ("/api/v1/products/$PRODUCT/holds", True),
        ("/auth", True),
        ("/metrics", True),
        ("/metrics/all", False),
        ("/products/nothing", False),
        ("/api/v2/products", False),
        ("/product", False),
    ],
)
def test_what_is_served_is_told_apart(path: str, expected: bool) -> None:
    app = create_app(settings_for("sqlite:////nowhere/catalog.db"))

    assert is_served(path, app.url_map.bind("localhost")) == expected


@each_paper
def test_every_link_leads_somewhere(paper: Path) -> None:
    dead = []
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([\w-]*)\)", paper.read_text("utf-8")):
        there = (paper.parent / target).resolve() if target else paper
        if not there.exists() or (anchor and anchor not in anchors_of(there)):
            dead.append(f"{target}#{anchor}")
    assert dead == []


@each_paper
def test_every_make_target_that_is_named_exists(paper: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE))

    named = {
        name for code in code_in(paper) for name in re.findall(r"^ *(?:\$ )?make ([a-z][a-z-]*)", code, re.MULTILINE)
    }
    assert named - targets == set()


@each_paper
def test_every_setting_that_is_named_exists(paper: Path) -> None:
    named = {name for code in code_in(paper) for name in re.findall(r"(?<![\w$-])[A-Z][A-Z0-9]*_[A-Z0-9_]+", code)}

    assert named - SETTINGS - NO_SETTINGS == set()


def test_the_readme_has_every_setting() -> None:
    section = (PROJECT / "README.md").read_text("utf-8").split("\n## Settings\n")[1].split("\n## ")[0]
    first_cells = re.findall(r"^\|([^|]+)\|", section, re.MULTILINE)

    assert set(re.findall(r"`([A-Z_]+)`", " ".join(first_cells))) == SETTINGS - UNLISTED


def test_the_deployment_passes_every_optional_setting_on_that_its_readme_names() -> None:
    optional = (PROJECT / "deploy" / "README.md").read_text("utf-8").split("\n   Optional: ")[1].split("\n2. ")[0]
    environment = (PROJECT / "deploy" / "compose.yaml").read_text("utf-8")
    passed = re.findall(r"^ +([A-Z_]+): \$\{\1:-", environment, re.MULTILINE)

    assert {"DEFAULT_IMPORT_STATUS", "PUBLIC_URL"} < set(passed) <= SETTINGS | {"COMMIT", "REQUIREMENTS"}
    assert set(re.findall(r"`([A-Z_]+)`", optional)) == {*passed, "PUBLISH"}


def test_every_word_of_the_glossary_is_in_the_code_that_it_names() -> None:
    rows = re.findall(r"^\| (.+) \| (.+) \| `(.+)` \|$", (PROJECT / "docs" / "glossary.md").read_text("utf-8"), re.M)
    assert len(rows) > 15

    missing = []
    for word, meaning, path in rows:
        code = (PROJECT / path).read_text("utf-8")
        missing += [
            (name, path) for name in re.findall(r"`(\w+)`", word + meaning) if not re.search(rf"\b{name}\b", code)
        ]
    assert missing == []
