"""Cookies of the page for consent that others have set: a site of the same domain can."""

import pytest
from flask import Flask

from tests.conftest import API, on_one_database
from tests.consent_page import add_client

CALLBACK = "https://shop.example/cb"

pytestmark = on_one_database


@pytest.mark.parametrize("value", ["x" * 6000, "short", '"\\012X: 1"', '"\\303\\251"', "\xe9", '"\\000"'], ids=ascii)
def test_are_replaced(app: Flask, value: str) -> None:
    asked = {
        "client_id": add_client(app, redirect_uris=[CALLBACK]),
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "code_challenge": "x" * 43,
        "code_challenge_method": "S256",
    }

    answer = app.test_client(use_cookies=False).get(
        f"{API}/oauth/authorize", query_string=asked, headers={"Cookie": f"catalog_form={value}"}
    )

    (cookie,) = answer.headers.getlist("Set-Cookie")
    kept = cookie.partition(";")[0].removeprefix("catalog_form=")
    assert (answer.status_code, len(kept)) == (200, 43)
