"""OIDC_PROVIDERS: what it may say, and that a refusal quotes nothing of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.clients.oidc_settings import Provider, parse_providers
from app.security.permissions import Role

LEAST = {"issuer": "https://id.example", "client_id": "catalog", "client_secret": "hunter2"}


def parse(**changed: Any) -> Provider:
    """One provider, with other members; those that are None are left out."""
    members = {name: value for name, value in {**LEAST, **changed}.items() if value is not None}
    return parse_providers(json.dumps({"company": members}))["company"]


class TestAProvider:
    def test_is_trusted_with_nothing_unless_it_says_so(self) -> None:
        assert parse() == Provider(
            name="company",
            title="Company",
            issuer="https://id.example",
            client_id="catalog",
            client_secret="hunter2",
            scopes=("openid", "email", "profile"),
            trusted=False,
            creates_accounts=None,
            role_claim=None,
            roles={},
        )

    def test_may_say_all_of_it(self) -> None:
        found = parse(
            title="Acme & Söhne",
            scopes="openid groups",
            trusted=True,
            creates_accounts=False,
            role_claim="groups",
            roles={"staff": "editor", "bosses": "admin"},
        )

        assert (found.title, found.scopes, found.trusted, found.creates_accounts) == (
            *("Acme & Söhne", ("openid", "groups")),
            *(True, False),
        )
        assert (found.role_claim, found.roles) == ("groups", {"staff": Role.EDITOR, "bosses": Role.ADMIN})

    def test_may_have_its_secret_in_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("hunter2\n")

        assert parse(client_secret=None, client_secret_file=str(tmp_path / "secret")).client_secret == "hunter2"

    def test_shows_no_secret(self) -> None:
        assert "hunter2" not in repr(parse())

    @pytest.mark.parametrize(
        "issuer", ["http://127.0.0.1:9000", "http://[::1]/x", "http://localhost:1", "https://id.example:8443/realms/a/"]
    )
    def test_has_an_issuer_that_is_https_or_on_this_machine(self, issuer: str) -> None:
        assert parse(issuer=issuer).issuer == issuer

    @pytest.mark.parametrize(
        "wrong",
        [
            {"issuer": None},
            {"issuer": 7},
            {"issuer": "hunter2"},
            {"issuer": "http://hunter2.example"},
            {"issuer": "https://"},
            {"issuer": "https://hunter2@id.example"},
            {"issuer": "https://id.example?hunter2"},
            {"issuer": "https://id.example#"},
            {"issuer": "https://id.example/\\hunter2"},
            {"issuer": "https://[hunter2"},
            {"issuer": "https://id.example:0"},
            {"issuer": "https://id.example:hunter2"},
            {"issuer": "https://id.example/" + "x" * 255},
            {"issuer": "ftp://hunter2.example"},
            {"client_id": None},
            {"client_id": ""},
            {"client_id": "a b"},
            {"client_secret": None},
            {"client_secret": "hunter2\n"},
            {"client_secret": 7},
            {"client_secret_file": "/hunter2"},
            {"client_secret": None, "client_secret_file": "/hunter2"},
            {"client_secret": None, "client_secret_file": "a\0hunter2"},
            {"title": ""},
            {"title": "x" * 81},
            {"title": "a\nhunter2"},
            {"scopes": []},
            {"scopes": ["email"]},
            {"scopes": ["openid", 7]},
            {"scopes": 7},
            {"scopes": 'openid "hunter2"'},
            {"trusted": "true"},
            {"trusted": 1},
            {"creates_accounts": "hunter2"},
            {"role_claim": "groups"},
            {"roles": {"staff": "editor"}},
            {"role_claim": "groups", "roles": {"staff": "hunter2"}},
            {"role_claim": "groups", "roles": ["hunter2"]},
            {"role_claim": "groups", "roles": {"staff": ["editor"]}},
            {"hunter2": True},
        ],
    )
    def test_is_refused_without_a_word_of_what_is_wrong(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"^must ") as refused:
            parse(**wrong)

        assert "hunter2" not in str(refused.value)
        assert "\n" not in str(refused.value)


class TestTheSetting:
    @pytest.mark.parametrize("prefix", ["", "@"])
    def test_may_be_the_path_of_a_file(self, tmp_path: Path, prefix: str) -> None:
        (tmp_path / "providers.json").write_text(json.dumps({"a": LEAST}, indent=2))

        assert parse_providers(f"{prefix}{tmp_path / 'providers.json'}").keys() == {"a"}

    @pytest.mark.parametrize("name", ["a", "company", "our-company-2", "x" * 32])
    def test_has_names_that_fit_a_path(self, name: str) -> None:
        assert parse_providers(json.dumps({name: LEAST})).keys() == {name}

    @pytest.mark.parametrize("name", ["", "A", "a_b", "a/b", "-a", "a-", "x" * 33, "exchange", "ä"])
    def test_has_no_other_names(self, name: str) -> None:
        with pytest.raises(ValueError, match="names"):
            parse_providers(json.dumps({name: LEAST}))

    def test_has_each_issuer_once(self) -> None:
        with pytest.raises(ValueError, match="each issuer once"):
            parse_providers(json.dumps({"a": LEAST, "b": LEAST}))

    @pytest.mark.parametrize("text", ["[]", "7", '{"a": []}', '{"a": null}', "{", "", "/nowhere/at/all"])
    def test_is_an_object_of_objects(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"^must "):
            parse_providers(text)
