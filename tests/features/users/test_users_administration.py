"""Accounts as administrators govern them."""

import pytest

from tests.conftest import PASSWORD, Caller, body_of, code_of

DAVE = {"email": "Dave@Example.com", "username": "dave", "password": PASSWORD, "role": "editor"}


class TestListUsers:
    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("search=BOB", {"bob"}),
            ("search=example.com+car", {"carol"}),
            ("role=admin", {"root"}),
            ("role=admin,user", {"bob", "carol", "root"}),
            ("role=editor&role=admin", {"root"}),
            ("is_active=false", set()),
            ("sort_by=username&order=asc", {"bob", "carol", "root"}),
        ],
    )
    def test_finds(self, root: Caller, bob: Caller, carol: Caller, query: str, found: set[str]) -> None:
        listed = body_of(root.get(f"/users?{query}"))["items"]

        assert {user["username"] for user in listed} == found

    def test_shows_no_hash(self, root: Caller) -> None:
        assert "password" not in root.get("/users").get_data(as_text=True)


class TestCreateUser:
    def test_gives_the_role(self, root: Caller) -> None:
        answer = root.post("/users", DAVE)

        assert answer.status_code == 201
        assert body_of(answer)["role"] == "editor"
        assert body_of(answer)["email"] == "dave@example.com"

    def test_refuses_a_common_password(self, root: Caller) -> None:
        answer = root.post("/users", {**DAVE, "password": "Password1"})

        assert (answer.status_code, code_of(answer)) == (422, "password_too_common")

    def test_refuses_an_address_in_use(self, root: Caller) -> None:
        root.post("/users", DAVE)

        answer = root.post("/users", {**DAVE, "username": "other"})

        assert (answer.status_code, code_of(answer)) == (409, "email_taken")


class TestUpdateUser:
    def test_demotes_from_the_next_request_on(self, root: Caller, alice: Caller) -> None:
        assert root.patch(f"/users/{alice.user_id}", {"role": "user"}).status_code == 200

        assert alice.post("/categories", {"name": "Mine"}).status_code == 403

    def test_deactivates_from_the_next_request_on_and_for_good(self, root: Caller, alice: Caller) -> None:
        root.patch(f"/users/{alice.user_id}", {"is_active": False})
        assert alice.get("/users/me").status_code == 401

        root.patch(f"/users/{alice.user_id}", {"is_active": True})

        assert alice.get("/users/me").status_code == 401

    def test_refuses_to_demote_the_last_administrator(self, root: Caller) -> None:
        answer = root.patch(f"/users/{root.user_id}", {"role": "editor"})

        assert (answer.status_code, code_of(answer)) == (409, "last_admin")

    def test_lets_one_of_two_administrators_go(self, root: Caller) -> None:
        second = body_of(root.post("/users", {**DAVE, "role": "admin"}))

        assert root.patch(f"/users/{root.user_id}", {"role": "user"}).status_code == 200
        assert second["role"] == "admin"


class TestDeactivateUser:
    def test_closes_the_account(self, root: Caller, bob: Caller) -> None:
        assert root.delete(f"/users/{bob.user_id}", if_match='"1"').status_code == 204

        assert bob.get("/users/me").status_code == 401
        assert body_of(root.get(f"/users/{bob.user_id}"))["is_active"] is False

    def test_repeated_is_404(self, root: Caller, bob: Caller) -> None:
        root.delete(f"/users/{bob.user_id}")

        assert root.delete(f"/users/{bob.user_id}").status_code == 404

    def test_refuses_the_last_administrator(self, root: Caller) -> None:
        assert code_of(root.delete(f"/users/{root.user_id}")) == "last_admin"


class TestAKeyThatAdministers:
    def test_makes_nobody_who_can_do_more_than_it(self, root: Caller, bob: Caller) -> None:
        key = body_of(root.post("/api-keys", {"name": "People", "scopes": ["users:write"]}))["key"]
        program = Caller(root.app)

        made = program.post("/users", {**DAVE, "role": "admin"}, headers={"X-API-Key": key})
        raised = program.patch(f"/users/{bob.user_id}", {"role": "admin"}, headers={"X-API-Key": key})
        stolen = program.patch(f"/users/{root.user_id}", {"email": "me@example.com"}, headers={"X-API-Key": key})

        assert [(answer.status_code, code_of(answer)) for answer in (made, raised, stolen)] == [
            (403, "role_not_held")
        ] * 3
