"""Authorization codes."""

from datetime import timedelta

from app.core import clock
from app.core.pruning import delete_batch
from app.features.oauth.models import AuthorizationCode
from app.features.oauth_clients import models as clients

#: How long the row of a code stays after it has expired: its second use still ends what it was exchanged for.
CODE_RETENTION = timedelta(days=1)

# Codes refer to its table.
OAuthClient = clients.OAuthClient


def prune_codes() -> int:
    """Delete a batch of the codes that expired ``CODE_RETENTION`` ago; their number."""
    return delete_batch(AuthorizationCode, AuthorizationCode.expires_at < clock.now() - CODE_RETENTION)
