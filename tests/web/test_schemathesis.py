"""schemathesis tries to prove the OpenAPI document wrong, with every check and every phase, on PostgreSQL.

tests/live/test_stranger.py runs its random phases on SQLite, over the wire.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import schemathesis
from flask import Flask
from schemathesis.auths import AuthContext
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema
from schemathesis.schemas import BaseSchema
from schemathesis.transport.wsgi import WSGITransport

from app.security.permissions import Role
from tests.conftest import PASSWORD, Caller
from tests.schemathesis_hooks import filter_failure

pytestmark = pytest.mark.timeout(900)

#: How many requests of each kind the random phases make up for an operation; the others make all that there are.
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "15"))
SEED = int(os.environ.get("SCHEMATHESIS_SEED", "20"))

PHASES = ("examples", "coverage", "fuzzing", "stateful")

#: What no client gets by chance: keys of a signature that this application does not use, a token from a mail, a code,
#: the secret of a client, and what an identity provider says.
UNREACHABLE = {
    "GET /.well-known/jwks.json",
    "GET /api/v1/auth/oidc/{provider}",
    "GET /api/v1/auth/oidc/{provider}/callback",
    "POST /api/v1/auth/oidc/{provider}/backchannel-logout",
    "POST /api/v1/auth/oidc/{provider}/link",
    "POST /api/v1/auth/oidc/exchange",
    "POST /api/v1/auth/password-reset/confirm",
    "POST /api/v1/oauth/introspect",
    "POST /api/v1/oauth/revoke",
    "POST /api/v1/oauth/token",
    # No person has allowed anything, and no login has linked an identity.
    "DELETE /api/v1/auth/identities/{identity_id}",
    "DELETE /api/v1/oauth/grants/{grant_id}",
}


@dataclass
class Findings:
    """What a run came to."""

    faults: list[str] = field(default_factory=list)
    checks: Counter[str] = field(default_factory=Counter)
    phases: dict[str, Status] = field(default_factory=dict)
    answers: dict[str, set[int]] = field(default_factory=dict)


@pytest.fixture
def without_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    # schemathesis hands settings of its HTTP client on to probes without credentials, which no WSGI client knows.
    send = WSGITransport.send

    def send_in_process(self: WSGITransport, case: schemathesis.Case[Any], **options: Any) -> schemathesis.Response:
        if not isinstance(options.get("session"), requests.Session):
            for name in ("max_redirects", "verify", "cert", "proxies"):
                options.pop(name, None)
        return send(self, case, **options)

    monkeypatch.setattr(WSGITransport, "send", send_in_process)


Make = Callable[..., dict[str, Any]]


@pytest.fixture
def rows(
    make_category: Make, make_brand: Make, make_product: Make, make_attribute: Make, make_type: Make
) -> dict[str, list[Any]]:
    """Something to find, to change and to delete."""
    # So many that some stay without products, whatever is created in them: only such a category can be deleted.
    categories = [make_category(slug=f"row-{number}")["id"] for number in range(60)]
    keys = [f"row-{number}" for number in range(20)]
    products = [
        make_product(category_id=categories[0], sku=key, slug=key, external_id=key, gtin=None)["id"] for key in keys
    ]
    # The first is the one that the example of a product type lists.
    attributes = [
        make_attribute(code=code, type="choice")["id"] for code in ("colour", *(f"row_{n}" for n in range(20)))
    ]
    types = [make_type()["id"] for _ in range(20)]
    return {
        "categories": categories,
        "brands": [make_brand()["id"] for _ in range(20)],
        "preconditions": ["*"],
        "products": products,
        "attributes": attributes,
        "types": types,
        "keys": keys,
    }


@pytest.fixture
def explore(
    app: Flask, sign_in: Callable[..., Caller], rows: dict[str, list[Any]], without_sockets: None
) -> Callable[[], Findings]:
    """Run everything, each time as another administrator: sessions are ended here, and administrators deactivated."""
    numbers = iter(range(1_000_000))

    class Administrator:
        """Credentials for each case; new ones wherever the case before may have ended those that there were."""

        def __init__(self) -> None:
            self.caller: Caller | None = None

        def get(self, _case: schemathesis.Case[Any], context: AuthContext) -> str | None:
            caller = self.caller or sign_in(f"administrator{next(numbers)}", Role.ADMIN)
            path = context.operation.path
            self.caller = None if path.startswith(("/api/v1/auth/", "/api/v1/users")) else caller
            return _refresh_token(app, caller) if path.endswith("/auth/refresh") else caller.token

        def set(self, case: schemathesis.Case[Any], token: str, _context: AuthContext) -> None:
            case.headers["Authorization"] = f"Bearer {token}"

    def run() -> Findings:
        config = _config(rows)
        schema = schemathesis.openapi.from_wsgi("/openapi.json", app, config=config)
        schema.auth(refresh_interval=None)(Administrator)
        # The other hooks are registered for every schema when their module is imported.
        schema.hook(filter_failure)
        return _findings(schema)

    return run


def _config(rows: dict[str, list[Any]]) -> SchemathesisConfig:
    # A precondition that no row meets (412) and a body too large (413) are refusals like the others, and who writes to
    # a former slug is sent on (308).
    rejections = ["308", "400", "401", "403", "404", "405", "406", "409", "412", "413", "415", "422", "428", "429"]
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "continue-on-failure": True,
            "generation": {"max-examples": EXAMPLES, "database": "none"},
            "phases": {
                "coverage": {"generate-duplicate-query-parameters": True},
                "stateful": {"max-steps": 6},
            },
            "checks": {
                "max_response_time": 20,
                "negative_data_rejection": {"expected-statuses": rejections},
                "missing_required_header": {
                    "expected-statuses": ["308", "400", "401", "403", "404", "415", "422", "428"]
                },
                # What the catalogue's state allows is not a matter of the schema: nor is If-Match (412).
                "positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", "401", "404", "409", "412"]},
            },
            # Live streams end when their client does, and responses are read whole.
            # Pages are for people, and their forms have tokens: tests/web/test_hostile_inputs.py asks for them.
            "operations": [{"include-path-regex": "/events/(stream|ws)$|/oauth/authorize", "enabled": False}],
            # Random ids would find nothing most of the time.
            "dictionaries": {name: {"values": ids} for name, ids in rows.items()},
            "parameters": {
                "path.category_id": {"dictionary": "categories", "probability": 0.7},
                "path.product_id": {"dictionary": "products", "probability": 0.7},
                "path.attribute_id": {"dictionary": "attributes", "probability": 0.7},
                "path.type_id": {"dictionary": "types", "probability": 0.7},
                "path.value": {"dictionary": "keys", "probability": 0.7},
                "header.If-Match": {"dictionary": "preconditions", "probability": 0.5},
                "body.category_id": {"dictionary": "categories", "probability": 0.7},
                "body.brand_id": {"dictionary": "brands", "probability": 0.8},
                "body.type_id": {"dictionary": "types", "probability": 0.8},
                "body.parent_id": {"dictionary": "categories", "probability": 0.5},
            },
        }
    )


def _refresh_token(app: Flask, caller: Caller) -> str:
    answer = app.test_client().get("/api/v1/users/me", headers={"Authorization": f"Bearer {caller.token}"})
    assert answer.json is not None
    email = answer.json["email"]
    tokens = app.test_client().post("/api/v1/auth/login", json={"email": email, "password": PASSWORD}).json
    assert tokens is not None
    token: str = tokens["refresh_token"]
    return token


def _findings(schema: BaseSchema) -> Findings:
    findings = Findings()
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            findings.faults.append(f"{event.label}: {event.value}")
        elif isinstance(event, events.PhaseFinished):
            findings.phases[event.phase.name.value] = event.status
        elif isinstance(event, events.ScenarioFinished):
            findings.faults += _faults_of(event, findings)
    return findings


def _faults_of(event: events.ScenarioFinished, findings: Findings) -> Iterator[str]:
    for case_id, node in event.recorder.cases.items():
        interaction = event.recorder.interactions.get(case_id)
        if interaction is not None and interaction.response is not None:
            answers = findings.answers.setdefault(node.value.operation.label, set())
            answers.add(interaction.response.status_code)
    for case_id, checks in event.recorder.checks.items():
        for check in checks:
            findings.checks[check.name] += 1
            if check.failure_info is not None:
                interaction = event.recorder.interactions[case_id]
                answer = interaction.response.content.decode(errors="replace")[:500] if interaction.response else ""
                failure = check.failure_info.failure
                title = f"{check.name}: {failure.operation}: {failure.title}"
                yield "\n".join([title, failure.message, check.failure_info.code_sample[:1500], answer])


class TestDocument:
    @pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
    def test_is_kept_by_the_application(self, explore: Callable[[], Findings]) -> None:
        load_all_checks()

        findings = explore()

        assert not findings.faults, "\n\n".join([f"{len(findings.faults)} faults", *findings.faults[:20]])
        # Or else nothing would have been proved.
        assert findings.phases == findings.phases | dict.fromkeys(PHASES, Status.SUCCESS)
        assert set(CHECKS.get_all_names()) - findings.checks.keys() == set()
        refused = {name for name, seen in findings.answers.items() if not any(status < 300 for status in seen)}
        # That a key, a value and a precondition fit each other is chance; tests/web/test_dry_runs.py sends such.
        refused = {name for name in refused if not name.endswith("/by/{key}/{value}")}
        assert refused <= UNREACHABLE, {name: findings.answers[name] for name in refused - UNREACHABLE}
