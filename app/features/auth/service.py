"""Use cases of authentication: log in, refresh, and load the identity that credentials name."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select

from app.core import clock
from app.core.audit import record_event
from app.core.changelog import LOG_TAIL, LogPosition, tail_of, values_of
from app.core.fastsql import Prepared
from app.core.metrics import LOGINS
from app.core.transactions import release_connection
from app.extensions import db
from app.features.api_keys import service as api_keys
from app.features.auth import guard
from app.features.auth.models import LoginFailed, TooManyFailures
from app.features.oauth_clients.models import OAuthClient
from app.features.sessions import service as sessions
from app.features.sessions.models import RefreshToken, SessionEnded, UserSession
from app.features.users.models import User
from app.security.api_keys import ParsedKey
from app.security.identity import Identity
from app.security.passwords import hash_password, needs_rehash, verify_password
from app.security.permissions import Role
from app.security.tokens import Claims, KeyClaims, issue_access_token, issue_refresh_token

_LIVE = (
    select(User.id, User.role, UserSession.last_seen_at, LOG_TAIL)
    .join(UserSession, UserSession.user_id == User.id)
    .where(
        User.id == bindparam("named_user", None),
        User.is_active,
        UserSession.id == bindparam("named_session", None),
        UserSession.revoked_at.is_(None),
    )
)
# Compiled once, because every request with an access token executes one of them.
_LOGIN = Prepared(_LIVE.where(UserSession.client_id.is_(None)))
# What a client may ask for can have become less since the person agreed.
_GRANT = Prepared(
    _LIVE.add_columns(UserSession.scopes, OAuthClient.scopes.label("allowed"))
    .join(OAuthClient, OAuthClient.id == UserSession.client_id)
    .where(OAuthClient.id == bindparam("named_client", None))
)


@dataclass(frozen=True)
class TokenPair:
    """The tokens of a login or a refresh. ``expires_in`` is the access token's lifetime in seconds."""

    access_token: str
    refresh_token: str
    refresh_token_id: str
    session_id: int
    expires_in: int
    token_type: str = "Bearer"  # noqa: S105 -- the name of a scheme


@dataclass(frozen=True, kw_only=True)
class Lifetimes:
    """The lifetimes of tokens, and the ``grace`` in which a refresh token's exchange may be repeated, in seconds."""

    access: int
    refresh: int
    grace: int


def load_identity(credentials: Claims | KeyClaims | ParsedKey, position: LogPosition | None = None) -> Identity | None:
    """The identity that the credentials name, read from the database at each request.

    None if they are revoked, the key has expired, or the account is inactive. The caller checks the token's own expiry.
    With a position the identity has what the log of changes has after it.
    """
    if not isinstance(credentials, Claims):
        return api_keys.load_identity(credentials, position)
    # A token of an app is no token of the person, even where both name the session.
    client_id = credentials.client_id
    named = {"named_user": credentials.user_id, "named_session": credentials.session_id} | values_of(position)
    row = _LOGIN.one_or_none(named) if client_id is None else _GRANT.one_or_none({**named, "named_client": client_id})
    if row is None:
        return None
    known: dict[str, Any] = {
        "user_id": row.id,
        "role": Role(row.role),
        "session_id": credentials.session_id,
        "is_unseen": row.last_seen_at < clock.now() - sessions.LAST_SEEN_RESOLUTION,
        "log": tail_of(position, row.log),
    }
    if client_id is None:
        return Identity.of_user(**known)
    scopes = credentials.scopes.intersection(row.scopes, row.allowed)
    return Identity.of_delegate(scopes=scopes, client_id=client_id, **known)


def mark_seen(identity: Identity) -> None:
    """Store when a session or a key was last used; called after the request, and only if that is a minute old."""
    if identity.session_id is not None:
        sessions.touch_session(identity.session_id)
    elif identity.api_key_id is not None:
        api_keys.touch_key(identity.api_key_id)


def log_in(*, email: str, password: str, device: str, address: str, lifetimes: Lifetimes) -> TokenPair:
    """Open a session, or refuse (``LoginFailed``).

    An unknown address, a wrong password and an inactive account get the same response, after the same statements and in
    the same time. After too many failures a correct password is refused like a wrong one (``TooManyFailures``): see
    `guard`.
    """
    try:
        pair = _log_in(email=email, password=password, device=device, address=address, lifetimes=lifetimes)
    except LoginFailed:
        LOGINS.labels("failed").inc()
        raise
    except TooManyFailures:
        LOGINS.labels("blocked").inc()
        raise
    LOGINS.labels("succeeded").inc()
    return pair


def start_session(user: User, *, device: str, address: str, lifetimes: Lifetimes, **origin: Any) -> TokenPair:
    """Open a session for a user who is authenticated, and issue its first tokens.

    ``origin`` are ``identity_id`` and ``provider_session`` of a login with an identity provider.
    """
    session, token = sessions.open_session(
        user.id, device=device, address=address, lifetime=lifetimes.refresh, **origin
    )
    record_event(
        "session.opened", resource_type="user", resource_id=user.id, after={"session_id": session.id}, actor_id=user.id
    )
    return _pair(user, session.id, token, lifetimes)


def record_failure(user_id: int | None, *, reaches_limit: bool) -> None:
    """Record a failed login in the audit trail. ``user_id`` is None if no account has the address."""
    record_event("login.blocked" if reaches_limit else "login.failed", resource_type="user", resource_id=user_id)


def refresh(claims: Claims, *, address: str, lifetimes: Lifetimes) -> TokenPair:
    """Exchange a refresh token for a new pair, once; refuses what `sessions.service.exchange_token` refuses."""
    token = sessions.exchange_token(claims, address=address, lifetime=lifetimes.refresh, grace=lifetimes.grace)
    user = db.session.scalar(select(User).where(User.id == claims.user_id, User.is_active))
    if user is None:
        raise SessionEnded
    return _pair(user, claims.session_id, token, lifetimes)


def _log_in(*, email: str, password: str, device: str, address: str, lifetimes: Lifetimes) -> TokenPair:
    guard.require_few_failures(email, address)
    # Columns rather than the user: releasing the connection would expire its attributes, and hashing reload them.
    columns = User.id, User.password_hash, User.is_active
    known = db.session.execute(select(*columns).where(User.email == email.lower())).one_or_none()
    release_connection()
    is_correct = verify_password(password, known.password_hash if known else None)
    # Other attempts may have been counted while this password was hashed, so count it before using the outcome.
    reaches_limit = guard.count_attempt(email, address)
    user = None
    # No further statement for an inactive account: its duration would reveal that the password is correct.
    if is_correct and known and known.is_active:
        # Read again, because the account can be deactivated or its password changed while this one was hashed.
        # Locked, so that a change that comes now waits for this session, and ends it.
        unchanged = User.id == known.id, User.password_hash == known.password_hash, User.is_active
        user = db.session.scalar(select(User).where(*unchanged).with_for_update(key_share=True))
    if user is None:
        record_failure(known.id if known else None, reaches_limit=reaches_limit)
        raise LoginFailed
    guard.clear_failures(email, address)
    if needs_rehash(user.password_hash):
        user.password_hash = hash_password(password)
    return start_session(user, device=device, address=address, lifetimes=lifetimes)


def _pair(user: User, session_id: int, token: RefreshToken, lifetimes: Lifetimes) -> TokenPair:
    access_token = issue_access_token(user_id=user.id, session_id=session_id, role=Role(user.role))
    refresh_token = issue_refresh_token(
        user_id=user.id,
        session_id=session_id,
        token_id=token.id,
        issued_at=token.issued_at,
        expires_at=token.expires_at,
    )
    return TokenPair(access_token, refresh_token, token.id, session_id, lifetimes.access)
