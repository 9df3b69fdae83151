"""One's own account over HTTP, end to end."""

from typing import Any

import pytest

from tests.conftest import Caller, body_of, code_of, faults_of


class TestReadMe:
    def test_tells_who_asks(self, bob: Caller) -> None:
        user = body_of(bob.get("/users/me"))

        assert user == {
            "id": bob.user_id,
            "email": "bob@example.com",
            "email_verified": True,
            "username": "bob",
            "role": "user",
            "is_active": True,
            "created_at": user["created_at"],
            "updated_at": user["created_at"],
            "version": 1,
        }

    def test_tells_nobody_about_another(self, bob: Caller, carol: Caller) -> None:
        assert body_of(carol.get("/users/me"))["id"] != body_of(bob.get("/users/me"))["id"]

    def test_is_not_for_keeping(self, bob: Caller) -> None:
        assert bob.get("/users/me").headers["Cache-Control"] == "no-store"

    def test_is_304_for_who_holds_the_version(self, bob: Caller) -> None:
        answer = bob.get("/users/me", headers={"If-None-Match": '"1"'})

        assert answer.status_code == 304
        assert answer.headers["ETag"] == '"1"'
        assert answer.headers["Cache-Control"] == "no-store"

    def test_needs_credentials(self, anonymous: Caller) -> None:
        answer = anonymous.get("/users/me")

        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="catalog"'


class TestUpdateMe:
    def test_changes_the_username(self, bob: Caller) -> None:
        answer = bob.patch("/users/me", {"username": "robert"}, if_match='"1"')

        assert answer.status_code == 200
        assert answer.headers["ETag"] == '"2"'
        assert body_of(answer)["username"] == "robert"
        assert body_of(bob.get("/users/me")) == body_of(answer)

    def test_may_change_the_case_alone(self, bob: Caller) -> None:
        assert body_of(bob.patch("/users/me", {"username": "BOB"}))["username"] == "BOB"

    @pytest.mark.parametrize("same", [{}, {"username": "bob"}])
    def test_keeps_the_version_where_nothing_changes(self, bob: Caller, same: dict[str, Any]) -> None:
        before = body_of(bob.get("/users/me"))

        assert body_of(bob.patch("/users/me", same)) == before

    @pytest.mark.parametrize("username", ["carol", "CAROL"])
    @pytest.mark.usefixtures("carol")
    def test_refuses_a_username_that_another_has(self, bob: Caller, username: str) -> None:
        answer = bob.patch("/users/me", {"username": username})

        assert answer.status_code == 409
        assert code_of(answer) == "username_taken"

    @pytest.mark.parametrize("member", ["id", "email", "role", "is_active", "password", "version"])
    def test_refuses_what_is_not_the_persons_to_set(self, bob: Caller, member: str) -> None:
        answer = bob.patch("/users/me", {member: "admin"})

        assert faults_of(answer) == [(f"/{member}", "unknown_field")]

    @pytest.mark.parametrize(
        ("username", "code"), [(None, "null"), ("bo", "too_short"), ("b" * 51, "too_long"), ("bob!", "malformed")]
    )
    def test_refuses_a_username_out_of_form(self, bob: Caller, username: str | None, code: str) -> None:
        assert faults_of(bob.patch("/users/me", {"username": username})) == [("/username", code)]

    @pytest.mark.parametrize(("tags", "status"), [(None, 428), ('"2"', 412), ("bob", 400)])
    def test_needs_the_version_that_was_read(self, bob: Caller, tags: str | None, status: int) -> None:
        answer = bob.patch("/users/me", {"username": "robert"}, if_match=tags)

        assert answer.status_code == status

    @pytest.mark.parametrize("tags", ['"1"', 'W/"1"', "*"])
    def test_lets_the_version_that_was_read_pass(self, bob: Caller, tags: str) -> None:
        assert bob.patch("/users/me", {"username": "robert"}, if_match=tags).status_code == 200

    def test_needs_credentials(self, anonymous: Caller) -> None:
        assert anonymous.patch("/users/me", {"username": "robert"}).status_code == 401
