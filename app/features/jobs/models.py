"""Refusals of jobs; `core.jobs` has the table."""

from app.core.errors import Conflict


class JobNotEnded(Conflict):
    """This job has not ended; wait for it, or cancel it first."""


class JobEnded(Conflict):
    """This job has ended already."""


class JobSucceeded(Conflict):
    """This job has succeeded; there is nothing to retry."""


class JobReplaced(Conflict):
    """Another job has taken its place and has not ended."""


class JobNotRetriable(Conflict):
    """This job cannot be retried; `reason` says why."""

    members = {"reason": str}


class JobKindUnknown(Conflict):
    """This release has no such kind of job."""
