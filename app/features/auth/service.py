"""Use cases of logging in, staying logged in, and logging out."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update

from app.core import clock
from app.core.database import release_connection
from app.extensions import db
from app.features.auth.models import (
    LoginFailed,
    RefreshToken,
    RefreshTokenReused,
    RefreshTokenUsed,
    SessionEnded,
    UserSession,
)
from app.features.users.models import User
from app.security.identity import Identity
from app.security.passwords import verify_password
from app.security.permissions import Role
from app.security.tokens import Claims, issue_access_token, issue_refresh_token


@dataclass(frozen=True)
class TokenPair:
    """What a login or a refresh answers with. ``expires_in`` are the access token's seconds."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "Bearer"  # noqa: S105 -- the name of a scheme


@dataclass(frozen=True, kw_only=True)
class Lifetimes:
    """How long tokens live, and how long the exchange of a refresh token may be repeated; in seconds."""

    access: int
    refresh: int
    grace: int


def load_identity(claims: Claims) -> Identity | None:
    """Who the claims name, by the database: nobody once the session is revoked or the account inactive."""
    row = db.session.execute(
        select(User.id, User.role)
        .join(UserSession, UserSession.user_id == User.id)
        .where(
            User.id == claims.user_id,
            User.is_active,
            UserSession.id == claims.session_id,
            UserSession.revoked_at.is_(None),
        )
    ).one_or_none()
    if row is None:
        return None
    return Identity.of_user(user_id=row.id, role=Role(row.role), session_id=claims.session_id)


def log_in(*, email: str, password: str, device: str, address: str, lifetimes: Lifetimes) -> TokenPair:
    """Open a session. Unknown address, wrong password and inactive account are refused alike, in the same time."""
    # Columns and not the user, whose attributes the release would expire and the hashing would load again.
    account = db.session.execute(select(User.id, User.password_hash).where(User.email == email.lower())).one_or_none()
    release_connection()
    if not verify_password(password, account.password_hash if account else None) or account is None:
        raise LoginFailed
    # Asked again, because an account can be closed or its password changed while this one was hashed.
    unchanged = User.id == account.id, User.password_hash == account.password_hash, User.is_active
    user = db.session.scalar(select(User).where(*unchanged))
    if user is None:
        raise LoginFailed
    now = clock.now()
    session = UserSession(
        user_id=user.id,
        # A header may hold what a text column may not, such as NUL.
        device="".join(filter(str.isprintable, device[:200])),
        address=address[:45],
        created_at=now,
        last_seen_at=now,
        expires_at=now + timedelta(seconds=lifetimes.refresh),
    )
    db.session.add(session)
    db.session.flush()
    return _pair(user, session.id, _add_token(session.id, now, lifetimes), lifetimes)


def refresh(claims: Claims, lifetimes: Lifetimes) -> TokenPair:
    """Exchange a refresh token for a new pair, once: one UPDATE decides who of several wins.

    A repeat within the grace gets the same successor again, unless that was used already (``RefreshTokenUsed``). A
    later repeat means that two parties hold the token, and ends the session (``RefreshTokenReused``).
    """
    now = clock.now()
    successor_id = str(uuid.uuid4())
    won = db.session.execute(
        update(RefreshToken)
        .where(
            RefreshToken.id == claims.token_id,
            RefreshToken.session_id == claims.session_id,
            RefreshToken.used_at.is_(None),
        )
        .values(used_at=now, successor_id=successor_id)
    )
    user, session = _session_of(claims)
    if won.rowcount == 1:  # type: ignore[attr-defined]  # an UPDATE's result has it
        session.last_seen_at = now
        session.expires_at = now + timedelta(seconds=lifetimes.refresh)
        token = _add_token(session.id, now, lifetimes, successor_id)
    else:
        token = _successor(claims, session, since=now - timedelta(seconds=lifetimes.grace))
    return _pair(user, session.id, token, lifetimes)


def log_out(identity: Identity) -> None:
    """End the session of whoever asks; its access and refresh tokens are refused from now on."""
    db.session.execute(update(UserSession).where(UserSession.id == identity.session_id).values(revoked_at=clock.now()))


def _session_of(claims: Claims) -> tuple[User, UserSession]:
    row = db.session.execute(
        select(User, UserSession)
        .join(UserSession, UserSession.user_id == User.id)
        .where(
            User.id == claims.user_id,
            User.is_active,
            UserSession.id == claims.session_id,
            UserSession.revoked_at.is_(None),
            UserSession.expires_at > clock.now(),
        )
    ).one_or_none()
    if row is None:
        raise SessionEnded
    return row[0], row[1]


def _successor(claims: Claims, session: UserSession, since: datetime) -> RefreshToken:
    token = db.session.get(RefreshToken, claims.token_id)
    if token is None or token.session_id != session.id:
        raise SessionEnded
    if not token.was_used_since(since):
        session.revoke()
        raise RefreshTokenReused
    successor = db.session.get(RefreshToken, token.successor_id)
    if successor is None or successor.used_at is not None:
        raise RefreshTokenUsed
    return successor


def _add_token(session_id: int, now: datetime, lifetimes: Lifetimes, token_id: str | None = None) -> RefreshToken:
    # Whole seconds, as the token will say them: a repeat must sign the very same successor.
    issued_at = now.replace(microsecond=0)
    token = RefreshToken(
        id=token_id or str(uuid.uuid4()),
        session_id=session_id,
        issued_at=issued_at,
        expires_at=issued_at + timedelta(seconds=lifetimes.refresh),
    )
    db.session.add(token)
    return token


def _pair(user: User, session_id: int, token: RefreshToken, lifetimes: Lifetimes) -> TokenPair:
    access_token = issue_access_token(user_id=user.id, session_id=session_id, role=Role(user.role))
    refresh_token = issue_refresh_token(
        user_id=user.id,
        session_id=session_id,
        token_id=token.id,
        issued_at=token.issued_at,
        expires_at=token.expires_at,
    )
    return TokenPair(access_token, refresh_token, lifetimes.access)
