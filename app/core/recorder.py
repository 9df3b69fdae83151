"""The recorder of a session: what its transaction adds to the audit trail and to the log of changes, as it commits.

What is recorded within a savepoint is dropped when that is rolled back, and everything when the transaction ends.
"""

from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction


class Recorder:
    """Rows for the audit trail and for the log of changes, in their order. One session and its one thread use it."""

    def __init__(self) -> None:
        self.trail: list[dict[str, Any]] = []
        self.log: list[Any] = []
        #: How many rows there were of both as each savepoint began.
        self._savepoints: dict[SessionTransaction, tuple[int, int]] = {}
        self._rolled_back: set[SessionTransaction] = set()

    def begin_savepoint(self, transaction: SessionTransaction) -> None:
        """Remember how much is recorded before a nested transaction."""
        self._savepoints[transaction] = len(self.trail), len(self.log)

    def roll_back(self, transaction: SessionTransaction) -> None:
        """Drop what was recorded since the savepoint that ``transaction`` is or lies in; without one, do nothing.

        A flush that fails is a transaction of its own here, and rolls back to the savepoint that it is in.
        """
        savepoint = transaction
        while savepoint not in self._savepoints:
            if savepoint.parent is None:
                return
            savepoint = savepoint.parent
        trail, log = self._savepoints[savepoint]
        del self.trail[trail:], self.log[log:]
        self._rolled_back.add(savepoint)

    def end_savepoint(self, transaction: SessionTransaction) -> None:
        """Drop what was recorded between a flush that failed and the end of its savepoint."""
        if transaction in self._rolled_back:
            self.roll_back(transaction)


def recorder_of(session: Session) -> Recorder:
    """The recorder of a session."""
    recorder: Recorder | None = session.info.get(Recorder)
    if recorder is None:
        recorder = session.info[Recorder] = Recorder()
    return recorder


@event.listens_for(Session, "after_transaction_create")
def _begin(session: Session, transaction: SessionTransaction) -> None:
    if transaction.nested:
        recorder_of(session).begin_savepoint(transaction)


@event.listens_for(Session, "after_soft_rollback")
def _roll_back(session: Session, transaction: SessionTransaction) -> None:
    if Recorder in session.info:
        recorder_of(session).roll_back(transaction)


@event.listens_for(Session, "after_transaction_end")
def _end(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        session.info.pop(Recorder, None)
    elif Recorder in session.info:
        recorder_of(session).end_savepoint(transaction)
