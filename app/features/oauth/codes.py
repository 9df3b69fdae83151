"""Authorization codes: issued when a person agrees, and exchanged once, within a minute."""

import secrets
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import select, update

from app.core import clock
from app.core.audit import record_event
from app.core.pruning import delete_batch
from app.extensions import db
from app.features.oauth.errors import InvalidGrant
from app.features.oauth.grants import Grant, find_active_user
from app.features.oauth.models import AuthorizationCode
from app.features.oauth_clients.models import OAuthClient
from app.features.sessions import service as sessions
from app.security.api_keys import hash_secret
from app.security.permissions import Role

LIFETIME = timedelta(seconds=60)
#: For how long after a decision the same decision is a repetition, as of a button that was clicked twice.
REPEATABLE = timedelta(seconds=5)
#: How long the row of a code stays after it has expired: its second use still ends what it was exchanged for.
CODE_RETENTION = timedelta(days=1)


def issue(client: OAuthClient, user_id: int, redirect_uri: str, scopes: Iterable[str], code_challenge: str) -> str:
    """A code with which a client gets what a user has agreed to: ``scopes``.

    Who exchanges it repeats ``redirect_uri``, and knows what the S256 ``code_challenge`` was made of (RFC 7636).
    """
    code = secrets.token_urlsafe(32)
    db.session.add(
        AuthorizationCode(
            code_hash=hash_secret(code),
            client_id=client.id,
            user_id=user_id,
            redirect_uri=redirect_uri,
            scopes=sorted(scopes),
            code_challenge=code_challenge,
            expires_at=clock.now() + LIFETIME,
        )
    )
    return code


def repeat(client: OAuthClient, user_id: int, redirect_uri: str, code_challenge: str) -> str | None:
    """Replace the code that a user's decision within ``REPEATABLE`` has led to; None if there is none, or it was used.

    The new code expires when the old one would have: one decision leads to one grant at most, and repeating it again
    and again extends nothing.
    """
    repeated = select(AuthorizationCode.code_hash).where(
        AuthorizationCode.client_id == client.id,
        AuthorizationCode.user_id == user_id,
        AuthorizationCode.redirect_uri == redirect_uri,
        AuthorizationCode.code_challenge == code_challenge,
        AuthorizationCode.expires_at > clock.now() + LIFETIME - REPEATABLE,
    )
    code = secrets.token_urlsafe(32)
    statement = update(AuthorizationCode).where(
        AuthorizationCode.code_hash == repeated.limit(1).scalar_subquery(), AuthorizationCode.used_at.is_(None)
    )
    changed = statement.values(code_hash=hash_secret(code)).returning(AuthorizationCode.code_hash)
    options = {"synchronize_session": False}
    return None if db.session.scalar(changed, execution_options=options) is None else code


def find_code(text: str, *, client_id: int) -> AuthorizationCode | None:
    """The code of a client that can still be exchanged; None where there is none.

    One that was exchanged before is refused (``InvalidGrant``), and ends what it was exchanged for: two parties have it
    (RFC 6749 section 4.1.2).
    """
    rows = select(AuthorizationCode).where(
        AuthorizationCode.code_hash == hash_secret(text), AuthorizationCode.client_id == client_id
    )
    code = db.session.scalar(rows)
    if code is None:
        return None
    if code.used_at is not None:
        _refuse_second_use(code)
    return code if code.expires_at > clock.now() else None


def exchange_code(code: AuthorizationCode, *, device: str, address: str, lifetime: int) -> Grant:
    """Open the session of what the person has agreed to; it expires ``lifetime`` seconds after its last refresh.

    One UPDATE decides which of several concurrent exchanges wins; the others end what it has opened.
    """
    unused = update(AuthorizationCode).where(
        AuthorizationCode.code_hash == code.code_hash, AuthorizationCode.used_at.is_(None)
    )
    won = db.session.scalar(unused.values(used_at=clock.now()).returning(AuthorizationCode.code_hash))
    if won is None:
        _refuse_second_use(code)
    user = find_active_user(code.user_id)
    if user is None:
        raise InvalidGrant
    session, token = sessions.open_session(
        user.id, device=device, address=address, lifetime=lifetime, client_id=code.client_id, scopes=code.scopes
    )
    code.session_id = session.id
    record_event(
        "grant.opened",
        resource_type="user",
        resource_id=user.id,
        after={"session_id": session.id, "client_id": code.client_id, "scopes": code.scopes},
        actor_id=user.id,
    )
    return Grant(user_id=user.id, role=Role(user.role), session=session, token=token)


def prune_codes() -> int:
    """Delete a batch of the codes that expired ``CODE_RETENTION`` ago; their number."""
    return delete_batch(AuthorizationCode, AuthorizationCode.expires_at < clock.now() - CODE_RETENTION)


def _refuse_second_use(code: AuthorizationCode) -> None:
    # The session is one of another transaction, which has committed by now; or that one has deleted the code, because
    # the person has ended all sessions, or the client is no more.
    found = select(AuthorizationCode).where(AuthorizationCode.code_hash == code.code_hash)
    if db.session.scalar(found.execution_options(populate_existing=True)) is None:
        raise InvalidGrant
    if code.session_id is not None:
        sessions.end_reused(code.session_id, user_id=code.user_id, action="authorization_code.reused")
    raise InvalidGrant
