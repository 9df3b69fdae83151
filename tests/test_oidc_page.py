"""docs/oidc.md: its settings are ones that are accepted, and its tables are complete."""

import json
import re
from pathlib import Path

from app.clients.oidc_settings import MEMBERS, parse_providers
from app.features.identities.providers import FAILURES
from app.security.permissions import Role
from tests.servers import PROJECT

PAGE = (PROJECT / "docs" / "oidc.md").read_text("utf-8")


def first_cells(heading: str) -> list[str]:
    """What stands between backticks in the first column of the table after a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)]


def test_its_settings_are_accepted(tmp_path: Path) -> None:
    (text,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    described = json.loads(text)
    described["company"]["client_secret_file"] = str(secret)

    (provider,) = parse_providers(json.dumps(described)).values()

    assert (provider.trusted, provider.client_secret) == (True, "s3cret")
    assert set(provider.roles.values()) == {Role.EDITOR, Role.ADMIN}


def test_it_explains_every_member() -> None:
    assert set(first_cells("Settings")) == MEMBERS


def test_it_explains_every_reason() -> None:
    assert sorted(first_cells("What is refused, and why")) == sorted(refusal.code() for refusal in FAILURES)
