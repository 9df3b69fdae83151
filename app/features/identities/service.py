"""Use cases of logins with identity providers: find or make the account, open a session, link, unlink, end sessions."""

import contextlib
import hmac
import re
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from sqlalchemy import Select, delete, func, select

from app.clients.oidc_tokens import LogoutToken, Person
from app.core import clock
from app.core.audit import record_event
from app.core.constraints import refusing
from app.core.errors import NotFound
from app.core.listing import Listing
from app.core.metrics import LOGINS
from app.core.pruning import delete_batch
from app.extensions import db
from app.features.auth import service as auth
from app.features.identities.models import (
    REFUSALS,
    EmailUnverified,
    ExternalIdentity,
    IdentityTaken,
    IdentityUnknown,
    LastWayIn,
    LoginCode,
    LoginCodeInvalid,
)
from app.features.sessions import service as sessions
from app.features.sessions.models import SessionEnded, UserSession
from app.features.users import service as users
from app.features.users.models import EmailTaken, LastAdmin, User, UsernameTaken
from app.security.api_keys import hash_secret
from app.security.identity import Identity
from app.security.permissions import Role
from app.security.tokens import LEEWAY

T = TypeVar("T")

LISTING = Listing(
    sorts={
        "created_at": ExternalIdentity.created_at,
        "last_used_at": ExternalIdentity.last_used_at,
        "id": ExternalIdentity.id,
    },
    tie_breaker=ExternalIdentity.id,
)

#: How long the code of a native app can be exchanged.
CODE_LIFETIME = timedelta(seconds=60)
#: How long the row of a code stays after it has expired: its second use still ends the session.
CODE_RETENTION = timedelta(days=1)
#: Attempts to write what a concurrent login may write first: an identity, an address, a username.
ATTEMPTS = 4
#: The length of a username that is made here, without what tells it from another.
_MAX_NAME_LENGTH = 40


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a provider may do beyond letting in those who are linked."""

    trusted: bool
    creates_accounts: bool


def prune_codes() -> int:
    """Delete a batch of the codes that expired ``CODE_RETENTION`` ago; their number."""
    return delete_batch(LoginCode, LoginCode.expires_at < clock.now() - CODE_RETENTION)


def identities_of(user_id: int) -> Select[ExternalIdentity]:
    """The identities that are linked to an account."""
    return select(ExternalIdentity).where(ExternalIdentity.user_id == user_id)


def get_identity(identity_id: int, *, identity: Identity, lock: bool = False) -> ExternalIdentity:
    """An identity of the authenticated user, or ``NotFound``.

    With ``lock`` their account is locked: of two that are unlinked at once, the second must see that the first is gone.
    """
    users.get_me(identity=identity, lock=lock)
    rows = identities_of(identity.user_id or 0).where(ExternalIdentity.id == identity_id)
    found = db.session.scalar(rows.execution_options(populate_existing=lock))
    if found is None:
        raise NotFound
    return found


def log_in(person: Person, policy: Policy, *, device: str, address: str, lifetimes: auth.Lifetimes) -> auth.TokenPair:
    """Open a session for the account of a person, which is found or made; refuses what `admit` does."""
    user, found = admit(person, policy)
    origin = {"identity_id": found.id, "provider_session": person.provider_session}
    pair = auth.start_session(user, device=device, address=address, lifetimes=lifetimes, **origin)
    LOGINS.labels("succeeded").inc()
    return pair


def issue_code(person: Person, policy: Policy, *, code_challenge: str) -> str:
    """A code for the account of a person, which a native app exchanges for tokens; refuses what `admit` does."""
    user, found = admit(person, policy)
    code = secrets.token_urlsafe(32)
    db.session.add(
        LoginCode(
            code_hash=hash_secret(code),
            user_id=user.id,
            identity_id=found.id,
            provider_session=person.provider_session,
            code_challenge=code_challenge,
            expires_at=clock.now() + CODE_LIFETIME,
        )
    )
    return code


def exchange_code(
    *, code: str, code_verifier: str, device: str, address: str, lifetimes: auth.Lifetimes
) -> auth.TokenPair:
    """Open the session that a code stands for, once.

    A second use means that two parties know the code: it ends the session. ``LoginCodeInvalid`` for that, for an
    unknown or expired code, and for another verifier than that of its challenge (RFC 7636).
    """
    row = db.session.scalar(select(LoginCode).where(LoginCode.code_hash == hash_secret(code)).with_for_update())
    if row is not None and row.session_id is not None:
        sessions.end_reused(row.session_id, user_id=row.user_id, action="login_code.reused")
    is_valid = row is not None and row.is_valid_at(clock.now())
    if row is None or not is_valid or not _fits(code_verifier, row.code_challenge):
        LOGINS.labels("failed").inc()
        raise LoginCodeInvalid
    user = db.session.scalar(select(User).where(User.id == row.user_id, User.is_active))
    if user is None:
        raise LoginCodeInvalid
    row.used_at = clock.now()
    origin = {"identity_id": row.identity_id, "provider_session": row.provider_session}
    pair = auth.start_session(user, device=device, address=address, lifetimes=lifetimes, **origin)
    row.session_id = pair.session_id
    LOGINS.labels("succeeded").inc()
    return pair


def record_refusal(provider: str, code: str) -> None:
    """Count a login that was refused, and record it in the audit trail with the reason's code."""
    LOGINS.labels("failed").inc()
    record_event("login.failed", resource_type="user", after={"provider": provider, "reason": code})


def admit(person: Person, policy: Policy) -> tuple[User, ExternalIdentity]:
    """The account of a person who has logged in with a provider, and the identity; both may be new.

    An identity that is known leads to its account, whatever the provider is trusted with. Otherwise only a trusted
    provider leads to an account, by an address that it calls verified (else ``EmailUnverified``): to the one that has
    it, where its owner is known to have the address and has no other identity at this provider, or to a new one.
    ``IdentityUnknown`` in every other case, and for an inactive account.
    """
    user, found = _repeated(lambda: _find_account(person) or _match_account(person, policy))
    found.email, found.last_used_at = person.email, clock.now()
    if person.role is not None and person.role != user.role:
        # The last administrator stays one, whatever the provider says.
        with contextlib.suppress(LastAdmin):
            users.update_user(user, role=person.role)
    db.session.flush()
    return user, found


def link(person: Person, *, user_id: int, session_id: int) -> None:
    """Link a person's identity to the account of a session that is still open.

    Refuses an identity of another account (``IdentityTaken``), and a session that has ended (``SessionEnded``).
    """
    rows = sessions.sessions_of(user_id).where(UserSession.id == session_id)
    user = _lock_user(User.id == user_id)
    if user is None or db.session.scalar(rows) is None:
        raise SessionEnded
    _repeated(lambda: _link_once(person, user_id))


def unlink(found: ExternalIdentity, *, session_id: int, issuers: Collection[str]) -> None:
    """Unlink an identity, and end the sessions that it opened, except the one with the id ``session_id``.

    Refuses to take the last way in (``LastWayIn``): a password, or another identity of one of ``issuers``. The caller
    has locked the account, by `get_identity`.
    """
    others = identities_of(found.user_id).where(ExternalIdentity.id != found.id, ExternalIdentity.issuer.in_(issuers))
    has_password = db.session.scalar(select(User.password_hash).where(User.id == found.user_id))
    if not has_password and db.session.scalar(others.limit(1)) is None:
        raise LastWayIn
    _delete_codes(found.id, None)
    sessions.end_logins(found.user_id, identity_id=found.id, except_id=session_id)
    _record("identity.unlinked", found)
    db.session.delete(found)


def unlink_all(user_id: int) -> None:
    """Unlink every identity of an account, which leaves no way in but a password; the caller ends the sessions."""
    for found in db.session.scalars(identities_of(user_id)):
        _record("identity.unlinked", found)
        db.session.delete(found)


def end_by_provider(token: LogoutToken) -> None:
    """End the sessions that a provider says have ended (OpenID Connect Back-Channel Logout 1.0 section 2.7).

    Only those that were open when it said so: a token that is sent again ends no later login.
    """
    rows = select(ExternalIdentity).where(ExternalIdentity.issuer == token.issuer)
    if token.subject is not None:
        rows = rows.where(ExternalIdentity.subject == token.subject)
    else:
        opened = select(UserSession.identity_id).where(UserSession.provider_session == token.provider_session)
        begun = select(LoginCode.identity_id).where(LoginCode.provider_session == token.provider_session)
        rows = rows.where(ExternalIdentity.id.in_(opened) | ExternalIdentity.id.in_(begun))
    for found in db.session.scalars(rows):
        _delete_codes(found.id, token.provider_session)
        sessions.end_logins(
            found.user_id,
            identity_id=found.id,
            provider_session=token.provider_session,
            opened_before=token.issued_at + timedelta(seconds=LEEWAY),
        )


def _delete_codes(identity_id: int, provider_session: str | None) -> None:
    """Delete codes, before what ends sessions: this waits for an exchange, whose session can only then be seen."""
    statement = delete(LoginCode).where(LoginCode.identity_id == identity_id, LoginCode.used_at.is_(None))
    if provider_session is not None:
        statement = statement.where(LoginCode.provider_session == provider_session)
    db.session.execute(statement)


def _find_account(person: Person) -> tuple[User, ExternalIdentity] | None:
    """The account and the identity of a person who is linked; ``IdentityUnknown`` if the account is inactive."""
    named = ExternalIdentity.issuer == person.issuer, ExternalIdentity.subject == person.subject
    user_id = db.session.scalar(select(ExternalIdentity.user_id).where(*named))
    if user_id is None:
        return None
    user = _lock_user(User.id == user_id)
    found = db.session.scalar(select(ExternalIdentity).where(*named).execution_options(populate_existing=True))
    if user is None or found is None or found.user_id != user.id:
        raise IdentityUnknown
    return user, found


def _match_account(person: Person, policy: Policy) -> tuple[User, ExternalIdentity]:
    """The account with the person's address, or a new one, linked to the identity."""
    if not policy.trusted:
        raise IdentityUnknown
    if person.email is None or not person.has_verified_email:
        # Before any look at accounts, so that the response tells nothing of them.
        raise EmailUnverified
    is_known = db.session.scalar(select(User.id).where(User.email == person.email)) is not None
    if is_known:
        user = _lock_user(User.email == person.email, User.email_verified)
    else:
        user = _make_account(person, person.email) if policy.creates_accounts else None
    if user is None or _has_another_subject(person, user.id):
        raise IdentityUnknown
    return user, _add_identity(person, user.id)


def _has_another_subject(person: Person, user_id: int) -> bool:
    """Whether an account has another identity at the person's provider, which then has given its address away.

    A subject is never reassigned, and an address may be (OpenID Connect Core 1.0 section 5.7). The person's own
    identity is none of these: a login at the same moment may have made it. The caller has locked the account.
    """
    others = identities_of(user_id).where(
        ExternalIdentity.issuer == person.issuer, ExternalIdentity.subject != person.subject
    )
    return db.session.scalar(others.limit(1)) is not None


def _make_account(person: Person, email: str) -> User:
    username = _free_username(person.username or email.partition("@")[0])
    return users.create_user_without_password(email=email, username=username, role=person.role or Role.USER)


def _link_once(person: Person, user_id: int) -> ExternalIdentity:
    named = ExternalIdentity.issuer == person.issuer, ExternalIdentity.subject == person.subject
    found = db.session.scalar(select(ExternalIdentity).where(*named))
    if found is None:
        return _add_identity(person, user_id)
    if found.user_id != user_id:
        raise IdentityTaken
    return found


def _add_identity(person: Person, user_id: int) -> ExternalIdentity:
    found = ExternalIdentity(user_id=user_id, issuer=person.issuer, subject=person.subject, email=person.email)
    with refusing(REFUSALS):
        db.session.add(found)
    _record("identity.linked", found)
    return found


def _lock_user(*conditions: object) -> User | None:
    """The active account that meets the conditions, locked until this transaction ends."""
    rows = select(User).where(User.is_active, *conditions)  # type: ignore[arg-type]  # SQL conditions
    return db.session.scalar(rows.with_for_update(key_share=True).execution_options(populate_existing=True))


def _free_username(wanted: str) -> str:
    """A username of the form that usernames have, after the one that is wanted, which no account has now."""
    base = re.sub(r"[^A-Za-z0-9_.-]+", "", wanted, flags=re.ASCII).lstrip("_.-")[:_MAX_NAME_LENGTH]
    if len(base) >= 3 and db.session.scalar(select(User.id).where(func.lower(User.username) == base.lower())) is None:
        return base
    return f"{base or 'user'}-{secrets.token_hex(4)}"


def _repeated(write: Callable[[], T]) -> T:
    """What ``write`` returns, done again where a concurrent login has written the same first."""
    for attempt in range(ATTEMPTS):
        try:
            # A savepoint: what a constraint refuses must not end the transaction.
            with db.session.begin_nested():
                return write()
        except (IdentityTaken, EmailTaken, UsernameTaken):
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError


def _record(action: str, found: ExternalIdentity) -> None:
    """Record that an identity was linked or unlinked, with its issuer; the subject would say who it is elsewhere."""
    described = {"identity_id": found.id, "issuer": found.issuer}
    is_linked = action == "identity.linked"
    record_event(
        action,
        resource_type="user",
        resource_id=found.user_id,
        before=None if is_linked else described,
        after=described if is_linked else None,
        actor_id=found.user_id,
    )


def _fits(code_verifier: str, code_challenge: str) -> bool:
    return hmac.compare_digest(create_s256_code_challenge(code_verifier), code_challenge)
