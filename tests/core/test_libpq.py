"""Statements put to PostgreSQL through libpq: when they are sent, and what becomes of those that fail."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from app.core import libpq
from tests.servers import create_database, drop_database

ADD = "INSERT INTO things (name) VALUES ($1::VARCHAR)"
COUNT = "SELECT count(*) FROM things"


@pytest.fixture(scope="module")
def url(postgres_url: str) -> Iterator[str]:
    made = create_database(postgres_url, "libpq").replace("+psycopg", "")
    with psycopg.connect(made) as connection:
        connection.execute("CREATE TABLE things (id bigserial PRIMARY KEY, name varchar UNIQUE)")
    yield made
    drop_database(postgres_url, "libpq")


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection as the pool hands them out, to an empty table."""
    with psycopg.connect(url, prepare_threshold=None) as connection:
        connection.execute("TRUNCATE things")
        connection.commit()
        yield connection


def committed(url: str) -> list[str]:
    """The names that everybody sees."""
    with psycopg.connect(url, autocommit=True) as other:
        return [name for (name,) in other.execute("SELECT name FROM things ORDER BY id")]


def in_transaction(connection: psycopg.Connection[Any]) -> bool:
    return connection.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE


class TestATransaction:
    def test_begins_with_its_first_statement(self, connection: psycopg.Connection[Any], url: str) -> None:
        libpq.ask(connection, ADD, ["a"])
        assert in_transaction(connection)
        assert committed(url) == []

        connection.commit()
        assert committed(url) == ["a"]

    def test_ends_with_the_statement_that_commits(self, connection: psycopg.Connection[Any], url: str) -> None:
        libpq.ask(connection, ADD, ["a"])
        libpq.ask(connection, ADD, ["b"], commits=True)

        assert not in_transaction(connection)
        assert committed(url) == ["a", "b"]

    def test_can_be_one_statement(self, connection: psycopg.Connection[Any], url: str) -> None:
        assert libpq.ask(connection, f"{ADD} RETURNING name", ["a"], commits=True)[0] == [("a",)]
        assert not in_transaction(connection)
        assert committed(url) == ["a"]

    def test_is_not_committed_when_its_last_statement_fails(
        self, connection: psycopg.Connection[Any], url: str
    ) -> None:
        libpq.ask(connection, ADD, ["a"])
        with pytest.raises(psycopg.errors.UniqueViolation):
            libpq.ask(connection, ADD, ["a"], commits=True)
        connection.rollback()

        assert committed(url) == []
        libpq.ask(connection, ADD, ["b"], commits=True)
        assert committed(url) == ["b"]

    def test_that_the_commit_refuses_raises(self, connection: psycopg.Connection[Any], url: str) -> None:
        connection.execute("CREATE TABLE twins (id bigint UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        connection.commit()
        libpq.ask(connection, "INSERT INTO twins VALUES (1)", [])
        with pytest.raises(psycopg.errors.UniqueViolation):
            libpq.ask(connection, "INSERT INTO twins VALUES (1)", [], commits=True)
        connection.rollback()

        assert libpq.ask(connection, "SELECT count(*) FROM twins", [])[0] == [(0,)]
        connection.execute("DROP TABLE twins")
        connection.commit()

    def test_takes_what_does_not_fit_into_the_sockets(self, connection: psycopg.Connection[Any]) -> None:
        long = "x" * 30_000_000

        assert libpq.ask(connection, "SELECT $1::TEXT", [long], commits=True)[0] == [(long,)]

    def test_reads_without_one_in_autocommit(self, connection: psycopg.Connection[Any]) -> None:
        connection.autocommit = True

        assert libpq.ask(connection, COUNT, [])[0] == [(0,)]
        assert not in_transaction(connection)


class TestWhatIsPutOff:
    def test_is_done_before_the_next_statement(self, connection: psycopg.Connection[Any]) -> None:
        libpq.put_off(connection, ADD, ["a"])
        libpq.put_off(connection, ADD, ["b"])
        assert not in_transaction(connection)

        assert libpq.ask(connection, COUNT, [])[0] == [(2,)]
        assert libpq.ask(connection, COUNT, [])[0] == [(2,)]

    def test_is_done_when_somebody_needs_it(self, connection: psycopg.Connection[Any], url: str) -> None:
        libpq.put_off(connection, ADD, ["a"])
        libpq.catch_up(connection)
        assert connection.execute("SELECT name FROM things").fetchall() == [("a",)]
        libpq.put_off(connection, ADD, ["b"])
        libpq.catch_up(connection, commits=True)

        assert not in_transaction(connection)
        assert committed(url) == ["a", "b"]

    def test_can_be_forgotten(self, connection: psycopg.Connection[Any]) -> None:
        libpq.put_off(connection, ADD, ["a"])
        libpq.forget(connection)

        assert libpq.ask(connection, COUNT, [])[0] == [(0,)]

    def test_keeps_what_follows_from_being_done_when_it_fails(
        self, connection: psycopg.Connection[Any], url: str
    ) -> None:
        libpq.ask(connection, ADD, ["a"], commits=True)
        libpq.put_off(connection, ADD, ["b"])
        libpq.put_off(connection, ADD, ["a"])
        with pytest.raises(psycopg.errors.UniqueViolation):
            libpq.ask(connection, ADD, ["c"], commits=True)
        connection.rollback()

        assert committed(url) == ["a"]
        # It is not tried again.
        assert libpq.ask(connection, COUNT, [])[0] == [(1,)]


class TestAConnection:
    def test_keeps_no_more_statements_than_that(self, connection: psycopg.Connection[Any]) -> None:
        for number in [*range(libpq.MOST_PREPARED + 50), *range(10)]:
            assert libpq.ask(connection, f"SELECT {number}", [])[0] == [(number,)]

        kept = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
        assert kept == (libpq.MOST_PREPARED,)

    def test_keeps_them_when_something_is_rolled_back(self, connection: psycopg.Connection[Any]) -> None:
        libpq.ask(connection, COUNT, [])
        connection.rollback()

        assert libpq.ask(connection, COUNT, [])[0] == [(0,)]

    @pytest.mark.parametrize("commits", [False, True])
    def test_that_is_lost_is_told_as_such(self, connection: psycopg.Connection[Any], url: str, commits: bool) -> None:
        libpq.ask(connection, COUNT, [])
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])

        with pytest.raises(psycopg.OperationalError):
            libpq.ask(connection, COUNT, [], commits=commits)
        assert connection.closed
