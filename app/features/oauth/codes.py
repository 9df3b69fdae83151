"""Authorization codes: what a person has let an app do, for the seconds until the app exchanges it for tokens."""

import secrets
from collections.abc import Iterable
from datetime import timedelta

from app.core import clock
from app.core.pruning import delete_batch
from app.extensions import db
from app.features.oauth.models import AuthorizationCode
from app.features.oauth_clients.models import OAuthClient
from app.security.api_keys import hash_secret

#: How long a code is valid: as long as a redirect takes.
LIFETIME = timedelta(seconds=60)
#: How long the row of a code stays after it has expired: its second use still ends what it was exchanged for.
CODE_RETENTION = timedelta(days=1)


def issue(client: OAuthClient, user_id: int, redirect_uri: str, scopes: Iterable[str], code_challenge: str) -> str:
    """A code for a client, valid for `LIFETIME`, with which it may do for the user what these scopes say."""
    code = secrets.token_urlsafe(32)
    db.session.add(
        AuthorizationCode(
            code_hash=hash_secret(code),
            client_id=client.id,
            user_id=user_id,
            redirect_uri=redirect_uri,
            scopes=list(scopes),
            code_challenge=code_challenge,
            expires_at=clock.now() + LIFETIME,
        )
    )
    return code


def prune_codes() -> int:
    """Delete a batch of the codes that expired ``CODE_RETENTION`` ago; their number."""
    return delete_batch(AuthorizationCode, AuthorizationCode.expires_at < clock.now() - CODE_RETENTION)
