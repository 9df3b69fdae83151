"""The counters of failed logins, and the refusals of authentication."""

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.errors import Forbidden, TooManyRequests, Unauthenticated
from app.core.model import Moment
from app.extensions import Model

#: After this many failures in a window from one network, the account refuses logins from it.
MAX_FAILURES_PER_NETWORK = 10
#: After this many from all networks, it refuses logins from networks in which it had no recent session.
MAX_FAILURES_PER_ACCOUNT = 50


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


# What is counted at each scrape of the metrics: those that have reached their limit.
for _model, _limit in ((LoginFailures, MAX_FAILURES_PER_ACCOUNT), (NetworkLoginFailures, MAX_FAILURES_PER_NETWORK)):
    _reached = _model.failures >= _limit
    Index(f"ix_{_model.__tablename__}_first_at", _model.first_at, postgresql_where=_reached, sqlite_where=_reached)
