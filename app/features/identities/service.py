"""Use cases of logins with identity providers."""

from datetime import timedelta

from app.core import clock
from app.core.pruning import delete_batch
from app.features.identities.models import LoginCode

#: How long the row of a code stays after it has expired: its second use still ends the session.
CODE_RETENTION = timedelta(days=1)


def prune_codes() -> int:
    """Delete a batch of the codes that expired ``CODE_RETENTION`` ago; their number."""
    return delete_batch(LoginCode, LoginCode.expires_at < clock.now() - CODE_RETENTION)
