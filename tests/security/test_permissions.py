"""The access policy."""

import re

import pytest

from app.security.identity import ANONYMOUS, Identity
from app.security.permissions import CATALOG_READS, GRANTS, Permission, Role, roles_with


class TestGrants:
    def test_have_every_role(self) -> None:
        assert set(GRANTS) == set(Role)

    def test_give_admins_every_permission(self) -> None:
        assert GRANTS[Role.ADMIN] == set(Permission)

    def test_grow_from_role_to_role(self) -> None:
        assert GRANTS[Role.USER] < GRANTS[Role.EDITOR] < GRANTS[Role.ADMIN]

    def test_let_plain_users_read_and_keep_their_account(self) -> None:
        assert GRANTS[Role.USER] == CATALOG_READS | {Permission.ACCOUNT_MANAGE, Permission.EVENTS_READ}

    def test_let_editors_write_and_not_delete(self) -> None:
        assert GRANTS[Role.EDITOR] - GRANTS[Role.USER] >= {Permission.CATEGORIES_WRITE, Permission.PRODUCTS_WRITE}
        assert GRANTS[Role.EDITOR].isdisjoint({Permission.CATEGORIES_DELETE, Permission.PRODUCTS_DELETE})

    def test_open_nothing_but_reading_to_the_public(self) -> None:
        assert {Permission.CATEGORIES_READ, Permission.PRODUCTS_READ} <= CATALOG_READS
        assert {permission.partition(":")[2] for permission in CATALOG_READS} == {"read"}
        # Which they are exactly is a reviewed table: tests/architecture/permissions.txt.


@pytest.mark.parametrize("permission", Permission)
class TestEveryPermission:
    def test_is_named_resource_and_action(self, permission: Permission) -> None:
        assert re.fullmatch(r"[a-z-]+:[a-z]+", permission)

    def test_is_held_by_a_role_and_all_above(self, permission: Permission) -> None:
        holders = roles_with(permission)

        assert holders == list(Role)[-len(holders) :]
        assert holders


class TestIdentity:
    def test_of_a_user_can_what_the_role_may(self) -> None:
        identity = Identity.of_user(user_id=1, role=Role.EDITOR, session_id=2)

        assert {permission for permission in Permission if identity.can(permission)} == GRANTS[Role.EDITOR]

    def test_of_nobody_can_nothing(self) -> None:
        assert not any(ANONYMOUS.can(permission) for permission in Permission)
