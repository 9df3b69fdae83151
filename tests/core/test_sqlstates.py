"""What errors of the databases mean, by their codes."""

import sqlite3
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from app.core.sqlstates import Meaning, is_transient, meaning_of


def from_postgresql(sqlstate: str) -> DBAPIError:
    """An error as PostgreSQL raises it, in SQLAlchemy's wrapping."""
    return DBAPIError("", {}, psycopg.errors.lookup(sqlstate)())


class TestTheMeaning:
    @pytest.mark.parametrize(
        ("sqlstate", "meaning"),
        [
            ("08006", Meaning.UNAVAILABLE),
            ("0A000", Meaning.BUSY),
            ("22001", Meaning.VALUE),
            ("23505", Meaning.CONFLICT),
            ("25006", Meaning.UNAVAILABLE),
            ("26000", Meaning.BUSY),
            ("40001", Meaning.BUSY),
            ("40P01", Meaning.BUSY),
            ("42P01", Meaning.FAULT),
            ("53100", Meaning.UNAVAILABLE),
            ("53300", Meaning.BUSY),
            ("54000", Meaning.VALUE),
            ("55P03", Meaning.BUSY),
            ("57014", Meaning.BUSY),
            ("57P01", Meaning.UNAVAILABLE),
            ("57P03", Meaning.UNAVAILABLE),
            ("58030", Meaning.UNAVAILABLE),
            ("XX000", Meaning.FAULT),
        ],
    )
    def test_is_told_by_the_sqlstate(self, sqlstate: str, meaning: Meaning) -> None:
        assert meaning_of(from_postgresql(sqlstate)) is meaning

    @pytest.mark.parametrize(
        ("code", "meaning"),
        [
            ("SQLITE_BUSY", Meaning.BUSY),
            ("SQLITE_BUSY_SNAPSHOT", Meaning.BUSY),
            ("SQLITE_CONSTRAINT_FOREIGNKEY", Meaning.CONFLICT),
            ("SQLITE_ERROR", Meaning.FAULT),
            ("SQLITE_FULL", Meaning.UNAVAILABLE),
            ("SQLITE_IOERR_WRITE", Meaning.UNAVAILABLE),
            ("SQLITE_READONLY_DBMOVED", Meaning.UNAVAILABLE),
        ],
    )
    def test_is_told_by_sqlites_result_code(self, code: str, meaning: Meaning) -> None:
        error = sqlite3.OperationalError()
        error.sqlite_errorname = code

        assert meaning_of(DBAPIError("", {}, error)) is meaning

    def test_of_one_without_a_code_is_that_nobody_is_there(self) -> None:
        assert meaning_of(OperationalError("", {}, psycopg.OperationalError())) is Meaning.UNAVAILABLE
        assert meaning_of(ProgrammingError("", {}, psycopg.ProgrammingError())) is Meaning.FAULT


class TestTransientErrors:
    @pytest.mark.parametrize(
        ("sqlstate", "transient"), [("40P01", True), ("0A000", True), ("26000", True), ("57014", False)]
    )
    def test_are_those_after_which_the_same_succeeds(self, sqlstate: str, transient: bool) -> None:
        assert is_transient(from_postgresql(sqlstate)) is transient

    def test_are_lost_connections(self) -> None:
        def lost(orig: Any) -> DBAPIError:
            return OperationalError("", {}, orig, connection_invalidated=True)

        class Overdue(psycopg.OperationalError):
            is_overdue = True

        assert is_transient(lost(psycopg.OperationalError()))
        assert not is_transient(lost(Overdue()))

    def test_are_no_violated_constraints(self) -> None:
        assert not is_transient(IntegrityError("", {}, sqlite3.IntegrityError()))
