"""Names of apps on the page for consent, whose writing direction must not reach what stands around them."""

from flask import Flask

from tests.conftest import Caller, on_one_database
from tests.consent_page import Visitor, add_client

#: A right-to-left override: without isolation it would reverse the warning that follows.
NAME = "Prices \u202e"

pytestmark = on_one_database


def test_are_isolated(app: Flask, bob: Caller) -> None:
    visitor = Visitor(app, add_client(app, name=NAME))

    for show in (visitor.open, visitor.log_in):
        show()
        assert visitor.response is not None
        assert f"<bdi>{NAME}</bdi>" in visitor.response.text
