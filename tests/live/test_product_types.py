"""Attributes and product types, written by many at once: no code is doubled, and no type lists what is gone."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.conftest import Caller
from tests.live.wire import Client, at_once

pytestmark = pytest.mark.live

Connect = Callable[..., Client]
Make = Callable[..., dict[str, Any]]

BODIES = {"attributes": {"label": "Width", "type": "integer"}, "product-types": {"label": "Chair"}}


@pytest.mark.parametrize("collection", BODIES)
class TestCreating:
    def test_one_code_from_16_threads_makes_one_row(self, alice: Caller, connect: Connect, collection: str) -> None:
        crowd = [connect(alice) for _ in range(16)]
        for number in range(3):
            body = {**BODIES[collection], "code": f"code_{number}"}

            answers = at_once([partial(client.post, f"/{collection}", body) for client in crowd])

            assert Counter(answer.status for answer in answers) == {201: 1, 409: 15}

    def test_by_code_from_16_threads_makes_one_row(self, alice: Caller, connect: Connect, collection: str) -> None:
        crowd = [connect(alice) for _ in range(16)]
        for number in range(3):
            path = f"/{collection}/by/code/code_{number}"

            answers = at_once([partial(client.put, path, BODIES[collection]) for client in crowd])

            assert Counter(answer.status for answer in answers) == {201: 1, 200: 15}
            assert len({answer.json["id"] for answer in answers}) == 1


class TestDeletingAnAttribute:
    def test_while_types_come_to_list_it_leaves_no_type_with_it(
        self, root: Caller, connect: Connect, make_attribute: Make, make_type: Make
    ) -> None:
        crowd = [connect(root) for _ in range(3)]
        for number in range(12):
            attribute, there = make_attribute(), make_type()
            listed = {"attributes": [{"code": attribute["code"]}]}

            deleted, created, changed = at_once(
                [
                    partial(crowd[0].delete, f"/attributes/{attribute['id']}", '"1"'),
                    partial(crowd[1].post, "/product-types", {"code": f"new_{number}", "label": "New", **listed}),
                    partial(crowd[2].patch, f"/product-types/{there['id']}", listed, '"1"'),
                ]
            )

            is_gone = deleted.status == 204
            assert is_gone or deleted.code == "attribute_in_use"
            # A type that came first kept the attribute, and so both have it.
            assert (created.status, changed.status) == ((422, 422) if is_gone else (201, 200))
