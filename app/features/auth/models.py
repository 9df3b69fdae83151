"""The counters of failed logins, and the refusals of authentication."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.errors import Forbidden, TooManyRequests, Unauthenticated
from app.core.model import Moment
from app.extensions import Model


class LoginFailed(Unauthenticated):
    """The e-mail address or the password is wrong, or the account is not active."""

    commits = True


class TooManyFailures(TooManyRequests):
    """Too many failed logins to this account; retry after the seconds in Retry-After. Open sessions stay valid."""

    commits = True


class RegistrationClosed(Forbidden):
    """Registration is closed; ask an administrator for an account."""


class LoginFailures(Model):
    """The failed logins to an account, existing or not, from all networks in a window; the key is a hash."""

    __tablename__ = "login_failures"

    account: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int]
    first_at: Mapped[Moment]


class NetworkLoginFailures(Model):
    """The failed logins to an account from one network in a window."""

    __tablename__ = "network_login_failures"

    account: Mapped[str] = mapped_column(String(64), primary_key=True)
    network: Mapped[str] = mapped_column(String(45), primary_key=True)
    failures: Mapped[int]
    first_at: Mapped[Moment]
