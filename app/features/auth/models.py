"""The counters of failed logins, and the refusals of logging in."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.errors import Forbidden, TooManyRequests, Unauthenticated
from app.core.model import Moment
from app.extensions import Model


class LoginFailed(Unauthenticated):
    """The e-mail address and password do not fit, or the account is not active."""

    commits = True


class TooManyFailures(TooManyRequests):
    """Too many failed logins to this account; wait as long as Retry-After says. Open sessions go on working."""

    commits = True


class RegistrationClosed(Forbidden):
    """Accounts are made by administrators here."""


class LoginFailures(Model):
    """How often logging in to an account failed lately, from anywhere; kept for unknown accounts alike, by a hash."""

    __tablename__ = "login_failures"

    account: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int]
    first_at: Mapped[Moment]


class NetworkLoginFailures(Model):
    """How often it failed from one network."""

    __tablename__ = "network_login_failures"

    account: Mapped[str] = mapped_column(String(64), primary_key=True)
    network: Mapped[str] = mapped_column(String(45), primary_key=True)
    failures: Mapped[int]
    first_at: Mapped[Moment]
