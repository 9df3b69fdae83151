"""No operation has a secret, an e-mail address or a search text in logs, spans or metrics, whatever comes of it."""

import json
from collections.abc import Callable

import pytest
import structlog
from flask import Flask
from prometheus_client import generate_latest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.core.transactions import unit_of_work
from app.extensions import db
from app.web.logs import set_up_logs
from tests.conftest import PASSWORD, on_one_database
from tests.leaks import SEARCHED, leaks_in
from tests.operations import Operation, Scene
from tests.recording import recording

#: Members and parameters that hold what a client looks for.
SEARCHES = {"search", "q"}


def searching(operation: Operation) -> str:
    """A query that looks for `SEARCHED`, where there is one."""
    return "&".join(f"{name}={SEARCHED}" for name in operation.parameters("query").keys() & SEARCHES)


@on_one_database
@pytest.mark.parametrize("as_json", [True, False])
def test_of_any_operation(
    restored_scene: Scene, app_with: Callable[..., Flask], capfd: pytest.CaptureFixture[str], as_json: bool
) -> None:
    with recording() as recorded, restored_scene as scene:
        scene.app = app_with(log_level="DEBUG")
        set_up_logs(level="DEBUG", as_json=as_json)
        for operation in scene.operations:
            scene.reset()
            succeeded = scene.send(operation, query=searching(operation))
            assert succeeded.status_code == operation.success, (operation, succeeded.json)
            # Refused: forged credentials, then a body that quotes secrets where they do not belong.
            scene.send(operation, headers={"Authorization": f"Bearer {scene.token('bearer')}x"})
            if operation.media_types:
                scene.send(operation, body={"email": "eve@example.com", "name": PASSWORD, "token": "whsec_" + "x" * 32})
            if operation.takes_form:
                secret = f"cas_1_{'x' * 40}"
                scene.send(operation, body={"client_id": "app_1", "client_secret": secret, "token": PASSWORD})

    written = capfd.readouterr().err
    assert written.count("\n") > 2 * len(scene.operations)
    assert leaks_in(written) == []
    assert "SELECT" in recorded.text
    assert leaks_in(recorded.text) == []
    assert leaks_in(generate_latest().decode()) == []


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_of_a_row_that_the_database_refuses(app: Flask, capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logs(level="INFO", as_json=True)
    row = {"email": "eve@example.com", "username": "eve"}

    with app.app_context(), pytest.raises(IntegrityError) as caught, unit_of_work():
        db.session.execute(text("INSERT INTO users (email, username) VALUES (:email, :username)"), row)
    structlog.get_logger("any").warning("job_failed", exc_info=caught.value)

    (line,) = map(json.loads, capfd.readouterr().err.splitlines())
    assert leaks_in(str(caught.value))
    assert "violates not-null constraint" in line["exception"][0]["exc_value"]
    assert "[SQL: INSERT INTO users" in line["exception"][0]["exc_value"]
    assert "eve@" not in json.dumps(line)
    assert leaks_in(json.dumps(line)) == []
