"""Use cases of logging in, staying logged in, and logging out."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import bindparam, case, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from app.core import clock
from app.core.audit import record_event
from app.core.fastsql import Prepared
from app.core.feed import CATALOGUE_VERSION
from app.core.pruning import delete_batch
from app.core.transactions import release_connection
from app.extensions import db
from app.features.api_keys import service as api_keys
from app.features.auth.models import LoginFailed, LoginFailures, TooManyFailures
from app.features.sessions import service as sessions
from app.features.sessions.models import RefreshToken, SessionEnded, UserSession
from app.features.users.models import User
from app.security.api_keys import ParsedKey
from app.security.identity import Identity
from app.security.passwords import hash_password, needs_rehash, verify_password
from app.security.permissions import Role
from app.security.tokens import Claims, issue_access_token, issue_refresh_token

#: This many failures on one account within the window close it to logins until the window ends.
MOST_FAILURES = 10
FAILURE_WINDOW = timedelta(minutes=5)

# Made once, for every request asks it.
_IDENTITY = Prepared(
    select(User.id, User.role, UserSession.last_seen_at, CATALOGUE_VERSION.label("catalogue_version"))
    .join(UserSession, UserSession.user_id == User.id)
    .where(
        User.id == bindparam("named_user", None),
        User.is_active,
        UserSession.id == bindparam("named_session", None),
        UserSession.revoked_at.is_(None),
    )
)


@dataclass(frozen=True)
class TokenPair:
    """What a login or a refresh answers with. ``expires_in`` are the access token's seconds."""

    access_token: str
    refresh_token: str
    refresh_token_id: str
    expires_in: int
    token_type: str = "Bearer"  # noqa: S105 -- the name of a scheme


@dataclass(frozen=True, kw_only=True)
class Lifetimes:
    """How long tokens live, and how long the exchange of a refresh token may be repeated; in seconds."""

    access: int
    refresh: int
    grace: int


def load_identity(credentials: Claims | ParsedKey) -> Identity | None:
    """Who the credentials name, by the database as it is now: nobody once they are revoked or the account inactive."""
    if isinstance(credentials, ParsedKey):
        return api_keys.load_identity(credentials)
    named = {"named_user": credentials.user_id, "named_session": credentials.session_id}
    row = _IDENTITY.one_or_none(named)
    if row is None:
        return None
    return Identity.of_user(
        user_id=row.id,
        role=Role(row.role),
        session_id=credentials.session_id,
        is_unseen=row.last_seen_at < clock.now() - sessions.SEEN_EVERY,
        catalogue_version=row.catalogue_version,
    )


def mark_seen(identity: Identity) -> None:
    """Remember when a session or a key was last used; called after the request, and only when that is a minute old."""
    if identity.session_id is not None:
        sessions.touch_session(identity.session_id)
    elif identity.api_key_id is not None:
        api_keys.touch_key(identity.api_key_id)


def log_in(*, email: str, password: str, device: str, address: str, lifetimes: Lifetimes) -> TokenPair:
    """Open a session.

    Unknown address, wrong password and inactive account are refused alike, in the same time. After ten failures in
    five minutes the account takes no login until the window ends (``TooManyFailures``), the right password included:
    it would tell otherwise. The count is in the database, so that no outage of Redis opens the door.
    """
    require_few_failures(email)
    # Columns and not the user, whose attributes the release would expire and the hashing would load again.
    known = db.session.execute(select(User.id, User.password_hash).where(User.email == email.lower())).one_or_none()
    release_connection()
    user = None
    if verify_password(password, known.password_hash if known else None) and known:
        # Asked again, because an account can be closed or its password changed while this one was hashed.
        unchanged = User.id == known.id, User.password_hash == known.password_hash, User.is_active
        user = db.session.scalar(select(User).where(*unchanged))
    if user is None:
        count_failure(email, known.id if known else None)
        raise LoginFailed
    # Others may have guessed while this one was hashed.
    require_few_failures(email)
    db.session.execute(delete(LoginFailures).where(LoginFailures.account == _account(email)))
    if needs_rehash(user.password_hash):
        user.password_hash = hash_password(password)
    return start_session(user, device=device, address=address, lifetimes=lifetimes)


def start_session(user: User, *, device: str, address: str, lifetimes: Lifetimes) -> TokenPair:
    """Open a session for somebody who has proven who they are."""
    session, token = sessions.open_session(user.id, device=device, address=address, lifetime=lifetimes.refresh)
    record_event(
        "session.opened", resource_type="user", resource_id=user.id, after={"session_id": session.id}, actor_id=user.id
    )
    return _pair(user, session.id, token, lifetimes)


def refresh(claims: Claims, lifetimes: Lifetimes) -> TokenPair:
    """Exchange a refresh token for a new pair, once."""
    token = sessions.exchange_token(claims, lifetime=lifetimes.refresh, grace=lifetimes.grace)
    user = db.session.scalar(select(User).where(User.id == claims.user_id, User.is_active))
    if user is None:
        raise SessionEnded
    return _pair(user, claims.session_id, token, lifetimes)


def prune_failures() -> int:
    """Delete a batch of the failures whose window has ended; how many accounts they were."""
    return delete_batch(LoginFailures, LoginFailures.first_at < clock.now() - FAILURE_WINDOW)


def require_few_failures(email: str) -> None:
    """Refuse while an account has failed too often lately (``TooManyFailures``)."""
    since = clock.now() - FAILURE_WINDOW
    row = db.session.scalar(
        select(LoginFailures).where(
            LoginFailures.account == _account(email),
            LoginFailures.failures >= MOST_FAILURES,
            LoginFailures.first_at > since,
        )
    )
    if row is not None:
        raise TooManyFailures(retry_after=int((row.first_at - since).total_seconds()) + 1)


def count_failure(email: str, user_id: int | None) -> None:
    """Count a wrong password, and record it."""
    account, now = _account(email), clock.now()
    insert = postgresql.insert if db.engine.dialect.name == "postgresql" else sqlite.insert
    statement = insert(LoginFailures).values(account=account, failures=1, first_at=now)
    is_old = LoginFailures.first_at <= now - FAILURE_WINDOW
    count = db.session.scalar(
        statement.on_conflict_do_update(
            index_elements=[LoginFailures.account],
            set_={
                "failures": case((is_old, 1), else_=LoginFailures.failures + 1),
                "first_at": case((is_old, now), else_=LoginFailures.first_at),
            },
        ).returning(LoginFailures.failures)
    )
    action = "login.blocked" if count == MOST_FAILURES else "login.failed"
    record_event(action, resource_type="user", resource_id=user_id)


def _account(email: str) -> str:
    return hashlib.sha256(email.lower().encode()).hexdigest()


def _pair(user: User, session_id: int, token: RefreshToken, lifetimes: Lifetimes) -> TokenPair:
    access_token = issue_access_token(user_id=user.id, session_id=session_id, role=Role(user.role))
    refresh_token = issue_refresh_token(
        user_id=user.id,
        session_id=session_id,
        token_id=token.id,
        issued_at=token.issued_at,
        expires_at=token.expires_at,
    )
    return TokenPair(access_token, refresh_token, token.id, lifetimes.access)
