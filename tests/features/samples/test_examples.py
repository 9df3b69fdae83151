"""The examples of the document are those with which a newcomer begins: they work with the demo catalogue."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask_migrate import upgrade

from app import create_app
from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.samples import service as samples
from app.web.openapi import describe
from tests.conftest import Caller, body_of, settings_for
from tests.features.samples.test_gallery import make_gallery
from tests.operations import FILE, Operation, operations_in
from tests.pictures import flat

#: What needs rows that a newcomer makes first, and the status until then.
NOT_THERE_YET = {
    "read_key_set": 404,
    # The product of the examples is no parent.
    "add_variant": 409,
    "download_failed_rows": 404,
    **dict.fromkeys(("read_api_key", "update_api_key", "rotate_api_key", "revoke_api_key"), 404),
    **dict.fromkeys(("read_hold", "confirm_hold", "cancel_hold", "read_stock_movement"), 404),
    **dict.fromkeys(("read_webhook", "update_webhook", "delete_webhook", "rotate_webhook_secret"), 404),
    **dict.fromkeys(("ping_webhook", "replay_webhook", "list_webhook_deliveries", "read_webhook_delivery"), 404),
    "redeliver_webhook_delivery": 404,
    "retry_job": 409,
    # A handshake needs a WebSocket.
    "connect_events": 426,
    # The demo has no identity provider.
    **dict.fromkeys(("begin_oidc_login", "end_oidc_login", "link_identity", "end_sessions_by_provider"), 404),
    **dict.fromkeys(("unlink_identity", "end_grant"), 404),
    # It has just been deleted.
    "rotate_oauth_client": 404,
    # No app has sent the person there.
    **dict.fromkeys(("read_authorization_page", "decide_on_authorization", "log_in_on_page", "log_out_of_page"), 400),
}
#: What needs a secret that no document can state: a refresh token, a token from a mail, a password, a code, a key.
NEED_SECRETS = {
    "refresh": 401,
    "confirm_password_reset": 422,
    "change_password": 422,
    "exchange_login_code": 422,
    **dict.fromkeys(("issue_token", "revoke_token", "introspect_token"), 401),
}
#: What the demo's products are of or show, or its types list, and so stays.
IN_USE = {
    "delete_media": 409,
    **dict.fromkeys(("delete_brand", "delete_brand_by_key", "delete_category", "delete_category_by_key"), 409),
    **dict.fromkeys(("delete_attribute", "delete_attribute_by_key"), 409),
    **dict.fromkeys(("delete_product_type", "delete_product_type_by_key"), 409),
}
#: What ends the session that the others need.
ENDS = ("log_out", "end_all_sessions", "end_session")


@pytest.fixture
def app(new_database: Callable[[str], str]) -> Iterator[Flask]:
    """An application with the demo catalogue, whose rows have the ids that they have for a newcomer."""
    app = create_app(settings_for(new_database("sqlite")))
    with app.app_context():
        upgrade()
        with unit_of_work():
            samples.load_demo(currency="USD", pictures=make_gallery(samples.demo_drawings()))
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def admin(app: Flask) -> Caller:
    """The administrator of the demo catalogue."""
    login = {"email": "admin@example.com", "password": "demo-admin-password"}
    return Caller(app, body_of(Caller(app).post("/auth/login", login))["access_token"])


def send(caller: Caller, operation: Operation) -> int:
    """The status of a request that has the examples of all that it needs; it stores nothing where it can."""
    path, headers = operation.path, {}
    for name, parameter in operation.parameters("path").items():
        path = path.replace(f"{{{name}}}", str(parameter["example"]))
    for name, parameter in operation.parameters("header").items():
        if parameter.get("required"):
            headers[name] = parameter["example"]
    query = "?dry_run=true" if "dry_run" in operation.parameters("query") else ""
    options: dict[str, Any] = {}
    if operation.takes_file:
        headers["Content-Type"] = operation.media_type_of_file
        options["data"] = flat("red") if operation.media_type_of_file == "image/png" else FILE
    elif operation.takes_form:
        options["data"] = operation.example
    elif operation.media_types:
        options["json"] = operation.example
    return caller.call(operation.method, f"/{path}{query}", headers=headers, **options).status_code


class TestExamples:
    def test_work_with_the_demo_catalogue(self, app: Flask, admin: Caller) -> None:
        operations = [one for one in operations_in(describe(app)) if one.name not in ENDS]

        told = {operation.name: send(admin, operation) for operation in operations}

        failed = {name: status for name, status in told.items() if status >= 400}
        assert failed == NOT_THERE_YET | NEED_SECRETS | IN_USE

    def test_of_bodies_work_as_often_as_they_are_sent(self, app: Flask, admin: Caller) -> None:
        examples = {one.name: one.example for one in operations_in(describe(app)) if one.media_types}

        answers = [admin.patch(f"/products/{number}", examples["update_product"]) for number in (1, 42)]
        answers += [admin.post("/products", examples["create_product"]) for _ in range(2)]

        assert [answer.status_code for answer in answers] == [200, 200, 201, 201]
