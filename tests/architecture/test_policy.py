"""The access policy, reviewed as text: who holds each permission, and what is open where the catalogue is public."""

from app.security.permissions import CATALOG_READS, GRANTS, MEANINGS, SCOPES, Permission, Role
from tests.architecture.reviewed import assert_reviewed, table_of


def test_is_the_reviewed_one() -> None:
    rows = [
        (
            permission.value,
            *("yes" if permission in GRANTS[role] else "no" for role in Role),
            "yes" if permission in SCOPES else "no",
            "yes" if permission in CATALOG_READS else "no",
        )
        for permission in Permission
    ]

    assert_reviewed("permissions.txt", table_of(("permission", *map(str, Role), "API key", "public"), rows))


def test_says_of_each_scope_what_it_allows() -> None:
    assert set(MEANINGS) == set(SCOPES)
    assert len(set(MEANINGS.values())) == len(SCOPES)
    assert [meaning for meaning in MEANINGS.values() if not meaning.endswith(".")] == []
