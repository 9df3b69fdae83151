"""flask create-user."""

from collections.abc import Sequence

import pytest
from click.testing import Result
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import select

from app.core.transactions import unit_of_work
from app.extensions import db
from app.features.users.models import User
from tests.conftest import PASSWORD, Caller, body_of, rows_of


@pytest.fixture
def create_user(runner: FlaskCliRunner) -> "CreateUser":
    """Runs the command."""
    return CreateUser(runner)


class CreateUser:
    """The command, with the password on its standard input."""

    def __init__(self, runner: FlaskCliRunner) -> None:
        self.runner = runner

    def __call__(
        self, *options: str, email: str = "dave@example.com", username: str = "dave", typed: str = f"{PASSWORD}\n"
    ) -> Result:
        arguments: Sequence[str] = ["create-user", "--email", email, "--username", username, *options]
        return self.runner.invoke(args=arguments, input=typed)


def user_of(app: Flask) -> User:
    """The one user there is."""
    with app.app_context(), unit_of_work(reading=True):
        user = db.session.scalars(select(User)).one()
        db.session.expunge(user)
        return user


class TestCreateUser:
    @pytest.mark.parametrize("role", ["user", "editor", "admin"])
    def test_makes_a_user_with_the_role(self, app: Flask, create_user: CreateUser, role: str) -> None:
        result = create_user("--role", role, "--password-stdin")

        user = user_of(app)
        assert (result.exit_code, user.role, user.is_active) == (0, role, True)
        assert result.output == f"Created {role} dave with id {user.id}.\n"

    def test_makes_a_plain_user_by_default(self, app: Flask, create_user: CreateUser) -> None:
        create_user("--password-stdin")

        assert user_of(app).role == "user"

    @pytest.mark.parametrize("typed", [PASSWORD, f"{PASSWORD}\n", f"{PASSWORD}\r\n", f"{PASSWORD}\nanother line\n"])
    def test_makes_a_user_who_can_log_in(self, anonymous: Caller, create_user: CreateUser, typed: str) -> None:
        create_user("--password-stdin", email="Dave@Example.com", typed=typed)

        answer = anonymous.post("/auth/login", {"email": "dave@example.com", "password": PASSWORD})

        assert answer.status_code == 200

    def test_keeps_blanks_around_the_password(self, anonymous: Caller, create_user: CreateUser) -> None:
        create_user("--password-stdin", typed=f"  {PASSWORD} \n")

        answer = anonymous.post("/auth/login", {"email": "dave@example.com", "password": f"  {PASSWORD} "})

        assert answer.status_code == 200

    def test_asks_twice_for_the_password(self, app: Flask, create_user: CreateUser) -> None:
        result = create_user(typed=f"{PASSWORD}\n{PASSWORD}\n")

        assert result.exit_code == 0
        assert PASSWORD not in result.output
        assert user_of(app).username == "dave"

    def test_makes_nobody_when_the_passwords_differ(self, app: Flask, create_user: CreateUser) -> None:
        result = create_user(typed=f"{PASSWORD}\nanother password\n")

        assert result.exit_code == 1
        assert rows_of(app, "users") == []

    @pytest.mark.parametrize(
        ("given", "named"),
        [
            ({"email": "dave"}, "email"),
            ({"username": "d"}, "username"),
            ({"typed": "short\n"}, "password"),
            ({"typed": ""}, "password"),
        ],
        ids=["email", "username", "password", "nothing"],
    )
    def test_names_what_is_wrong(self, app: Flask, create_user: CreateUser, given: dict[str, str], named: str) -> None:
        result = create_user("--password-stdin", **given)

        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {named}: ")
        assert "Traceback" not in result.output
        assert rows_of(app, "users") == []

    @pytest.mark.parametrize(
        ("email", "username", "said"),
        [("BOB@example.com", "dave", "e-mail address"), ("dave@example.com", "BOB", "username")],
    )
    @pytest.mark.usefixtures("bob")
    def test_refuses_what_is_taken(
        self, app: Flask, create_user: CreateUser, email: str, username: str, said: str
    ) -> None:
        before = rows_of(app, "users")

        result = create_user("--password-stdin", email=email, username=username)

        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert said in result.output
        assert rows_of(app, "users") == before

    @pytest.mark.parametrize("options", [["--role", "owner"], ["--colour", "red"]])
    def test_refuses_wrong_usage(self, app: Flask, create_user: CreateUser, options: list[str]) -> None:
        result = create_user("--password-stdin", *options)

        assert result.exit_code == 2
        assert rows_of(app, "users") == []

    def test_works_where_registration_is_closed(self, app: Flask, create_user: CreateUser) -> None:
        app.config["REGISTRATION_OPEN"] = False
        try:
            result = create_user("--password-stdin")
        finally:
            app.config["REGISTRATION_OPEN"] = True

        assert result.exit_code == 0

    def test_makes_an_administrator_who_may_do_everything(self, anonymous: Caller, create_user: CreateUser) -> None:
        create_user("--role", "admin", "--password-stdin")
        pair = body_of(anonymous.post("/auth/login", {"email": "dave@example.com", "password": PASSWORD}))

        answer = Caller(anonymous.app, pair["access_token"]).post("/categories", {"name": "Chairs"})

        assert answer.status_code == 201
