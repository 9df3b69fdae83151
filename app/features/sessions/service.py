"""Use cases of sessions: open, extend by exchanging refresh tokens, list, end."""

import uuid
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import joinedload

from app.core import clock
from app.core.audit import record_event
from app.core.errors import NotFound
from app.core.listing import Listing
from app.core.pruning import delete_batch
from app.core.upserts import insert_into
from app.extensions import db
from app.features.sessions.models import (
    RefreshToken,
    RefreshTokenReused,
    RefreshTokenUsed,
    SessionEnded,
    SessionNetwork,
    UserSession,
)
from app.security.identity import Identity
from app.security.networks import network_of
from app.security.permissions import Permission
from app.security.tokens import Claims

LISTING = Listing(
    sorts={"created_at": UserSession.created_at, "last_seen_at": UserSession.last_seen_at, "id": UserSession.id},
    tie_breaker=UserSession.id,
)

#: The accuracy of `last_seen_at`, which saves an UPDATE per request.
LAST_SEEN_RESOLUTION = timedelta(minutes=1)
#: How long a network is stored as one of the account's, after a session was last opened or refreshed from it.
KNOWN_NETWORK_RETENTION = timedelta(days=90)
#: The size of a batch of `prune_sessions`; small, because a session can have thousands of tokens.
SESSIONS_PER_BATCH = 100
#: The tables of codes that are exchanged for sessions. By name, because the features that have them import this one.
CODES = ("authorization_codes", "login_codes")


def live_sessions() -> Select[UserSession]:
    """The sessions that have neither ended nor expired."""
    return select(UserSession).where(UserSession.revoked_at.is_(None), UserSession.expires_at > clock.now())


def sessions_of(user_id: int) -> Select[UserSession]:
    """The active logins of a user; what apps may do for them are grants, and not among these."""
    return live_sessions().where(UserSession.user_id == user_id, UserSession.client_id.is_(None))


def grants_of(user_id: int) -> Select[UserSession]:
    """What a user has let apps do, and has not ended, each with its client."""
    rows = live_sessions().where(UserSession.user_id == user_id, UserSession.client_id.is_not(None))
    return rows.options(joinedload(UserSession.client))


def open_session(
    user_id: int, *, device: str, address: str, lifetime: int, **origin: Any
) -> tuple[UserSession, RefreshToken]:
    """Open a session and issue its first refresh token; it expires ``lifetime`` seconds after its last refresh.

    ``origin`` are ``client_id`` and ``scopes`` of a grant, or ``identity_id`` and ``provider_session`` of a login with
    an identity provider.
    """
    now = clock.now()
    session = UserSession(
        user_id=user_id,
        # A header can contain characters that PostgreSQL's text cannot, such as NUL.
        device="".join(filter(str.isprintable, device[:200])),
        address=address[:45],
        created_at=now,
        last_seen_at=now,
        expires_at=now + timedelta(seconds=lifetime),
        **origin,
    )
    db.session.add(session)
    db.session.flush()
    _note_network(session, address)
    return session, _add_token(session.id, now, lifetime, str(uuid.uuid4()))


def exchange_token(
    claims: Claims, *, address: str, lifetime: int, grace: int, client_id: int | None = None
) -> RefreshToken:
    """Exchange a refresh token for its successor, once: one UPDATE decides which of several concurrent requests wins.

    A repeat within ``grace`` seconds returns the same successor, unless that was already used (``RefreshTokenUsed``). A
    later repeat means that two parties hold the token: it ends the session and is recorded in the audit trail
    (``RefreshTokenReused``). ``SessionEnded`` if the session has ended or expired, or does not own the token, or is not
    one of this client: an app must not make its tokens those of the person.
    """
    now = clock.now()
    successor_id = str(uuid.uuid4())
    won = db.session.scalar(
        update(RefreshToken)
        .where(
            RefreshToken.id == claims.token_id,
            RefreshToken.session_id == claims.session_id,
            RefreshToken.used_at.is_(None),
        )
        .values(used_at=now, successor_id=successor_id)
        .returning(RefreshToken.id)
    )
    session = db.session.scalar(
        live_sessions().where(
            UserSession.id == claims.session_id, UserSession.client_id.is_not_distinct_from(client_id)
        )
    )
    if session is None:
        raise SessionEnded
    if won is None:
        return _repeat_exchange(claims, session, since=now - timedelta(seconds=grace))
    session.last_seen_at = now
    session.expires_at = now + timedelta(seconds=lifetime)
    _note_network(session, address)
    return _add_token(session.id, now, lifetime, successor_id)


def require_live(session_id: int) -> None:
    """Refuse to go on with a session that has ended since the request was authorized (``SessionEnded``).

    For what outlives its session: a client that sends the body slowly could otherwise make it after the end. The row is
    locked, so that the session ends after this transaction or before it.
    """
    if db.session.scalar(live_sessions().where(UserSession.id == session_id).with_for_update(read=True)) is None:
        raise SessionEnded


def end_session(session_id: int, *, identity: Identity) -> None:
    """End a session of the authenticated user, or of any user with the permission ``users:write``.

    ``NotFound`` if ``identity`` may not see the session, or it has ended.
    """
    rows = live_sessions().where(UserSession.id == session_id)
    if not identity.can(Permission.USERS_WRITE):
        rows = rows.where(UserSession.user_id == identity.user_id)
    session = db.session.scalar(rows)
    if session is None:
        raise NotFound
    _revoke(UserSession.id == session_id)
    record_event("session.ended", resource_type="user", resource_id=session.user_id, after={"session_id": session_id})


def end_grant(session_id: int, *, user_id: int, action: str = "grant.ended") -> None:
    """End what a user has let an app do; ``action`` is for the trail. ``NotFound`` if it is over."""
    if db.session.scalar(grants_of(user_id).where(UserSession.id == session_id)) is None:
        raise NotFound
    _revoke(UserSession.id == session_id)
    record_event(action, resource_type="user", resource_id=user_id, after={"session_id": session_id})


def end_grants_to(client_id: int) -> int:
    """End every grant of a client that is about to be deleted; how many there were.

    Their rows lose the client: otherwise the database would delete them with it, each with thousands of refresh tokens,
    in one statement that takes too long. They stay, ended, until they expire.
    """
    is_of_client = UserSession.client_id == client_id
    ended = db.session.scalar(live_sessions().where(is_of_client).with_only_columns(func.count(UserSession.id)))
    revoked_at = func.coalesce(UserSession.revoked_at, clock.now())
    db.session.execute(update(UserSession).where(is_of_client).values(revoked_at=revoked_at, client_id=None))
    return ended or 0


def end_sessions(user_id: int, *, except_id: int | None = None) -> None:
    """End every session of a user, except the one with the id ``except_id``, and every code that could open one."""
    # First the codes: this waits for a concurrent exchange of one, whose session can only then be seen.
    for name in CODES:
        table = db.metadata.tables[name]
        db.session.execute(delete(table).where(table.c.user_id == user_id, table.c.used_at.is_(None)))
    _revoke(UserSession.user_id == user_id, UserSession.id != (except_id or 0))
    record_event("session.all_ended", resource_type="user", resource_id=user_id, after={"but": except_id})


def end_logins(
    user_id: int,
    *,
    identity_id: int,
    except_id: int | None = None,
    provider_session: str | None = None,
    opened_before: datetime | None = None,
) -> None:
    """End the sessions of a user that an identity has opened, except the one with the id ``except_id``.

    Only those of one session at the provider, and only those opened before a moment, if these are given.
    """
    conditions = [UserSession.user_id == user_id, UserSession.identity_id == identity_id]
    if provider_session is not None:
        conditions.append(UserSession.provider_session == provider_session)
    if opened_before is not None:
        conditions.append(UserSession.created_at < opened_before)
    _revoke(*conditions, UserSession.id != (except_id or 0))
    after = {"identity_id": identity_id, "but": except_id}
    record_event("session.identity_ended", resource_type="user", resource_id=user_id, after=after)


def end_reused(session_id: int, *, user_id: int, action: str) -> None:
    """End the session that a code was exchanged for, because the code was used again; ``action`` is for the trail."""
    _revoke(UserSession.id == session_id)
    record_event(action, resource_type="user", resource_id=user_id, after={"session_id": session_id})


def touch_session(session_id: int) -> None:
    """Set when a session was last seen, unless that is less than ``LAST_SEEN_RESOLUTION`` ago."""
    now = clock.now()
    db.session.execute(
        update(UserSession)
        .where(UserSession.id == session_id, UserSession.last_seen_at < now - LAST_SEEN_RESOLUTION)
        .values(last_seen_at=now)
    )


def prune_sessions(*, before: datetime) -> int:
    """Delete a batch of the sessions that expired before a moment, with their tokens; the number of sessions.

    Used tokens of the other sessions stay, because they reveal reuse: a token that has not expired can still name one.
    """
    return delete_batch(UserSession, UserSession.expires_at < before, max_rows=SESSIONS_PER_BATCH)


def prune_networks() -> int:
    """Delete a batch of the networks that are older than ``KNOWN_NETWORK_RETENTION``; their number."""
    return delete_batch(SessionNetwork, SessionNetwork.seen_at < clock.now() - KNOWN_NETWORK_RETENTION)


def _note_network(session: UserSession, address: str) -> None:
    """Store the network of a login as one of the account's.

    An app's is not stored: its servers must not become a place from which passwords may be guessed (decision 26).
    """
    if session.client_id is not None:
        return
    network, now = network_of(address), clock.now()
    statement = insert_into(SessionNetwork).values(user_id=session.user_id, network=network, seen_at=now)
    key = [SessionNetwork.user_id, SessionNetwork.network]
    db.session.execute(
        statement.on_conflict_do_update(index_elements=key, set_={"seen_at": statement.excluded.seen_at})
    )


def _revoke(*conditions: object) -> None:
    db.session.execute(
        update(UserSession).where(UserSession.revoked_at.is_(None), *conditions).values(revoked_at=clock.now())  # type: ignore[arg-type]  # SQL conditions
    )


def _repeat_exchange(claims: Claims, session: UserSession, since: datetime) -> RefreshToken:
    """The successor of a token that was already exchanged, or a refusal; see `exchange_token`."""
    token = db.session.get(RefreshToken, claims.token_id)
    if token is None or token.session_id != session.id:
        raise SessionEnded
    if not token.was_used_since(since):
        _revoke(UserSession.id == session.id)
        record_event(
            "refresh_token.reused",
            resource_type="user",
            resource_id=session.user_id,
            after={"session_id": session.id},
        )
        raise RefreshTokenReused
    successor = db.session.get(RefreshToken, token.successor_id)
    if successor is None or successor.used_at is not None:
        raise RefreshTokenUsed
    return successor


def _add_token(session_id: int, now: datetime, lifetime: int, token_id: str) -> RefreshToken:
    # Whole seconds, like `iat` and `exp` in the token: a repeated exchange must sign the same successor.
    issued_at = now.replace(microsecond=0)
    token = RefreshToken(
        id=token_id,
        session_id=session_id,
        issued_at=issued_at,
        expires_at=issued_at + timedelta(seconds=lifetime),
    )
    db.session.add(token)
    return token
