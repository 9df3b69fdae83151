"""What is deprecated: since when, until when it works at least, and the headers that say so (RFC 9745, RFC 8594)."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from werkzeug.http import http_date

_LINK = re.compile(r"(https?:/)?/[!#-;=?-~]+")


@dataclass(frozen=True, kw_only=True)
class Deprecation:
    """Since when an operation, a parameter or a member is deprecated, and a page about what to use instead.

    It works at least until ``sunset``, and without one until a release says more. ``link`` is a URL, or a path of this
    server. Raises ``ValueError`` for a sunset within a year of ``since``, and for a link that is neither.
    """

    since: date
    sunset: date | None = None
    link: str

    def __post_init__(self) -> None:
        """Check what is declared."""
        if self.sunset is not None and self.sunset < _a_year_after(self.since):
            raise ValueError(f"the sunset {self.sunset} is not a year after {self.since}, when the deprecation began")
        if not _LINK.fullmatch(self.link):
            raise ValueError(f"{self.link!r} is neither a URL nor a path from the root of this server")

    @property
    def sentence(self) -> str:
        """What the document says to people."""
        until = f", and works at least until {self.sunset}" if self.sunset else ""
        return f"Deprecated since {self.since}{until}: see <{self.link}>."

    @property
    def facts(self) -> Mapping[str, object]:
        """What the document says to programs."""
        return {"deprecated": True, **({"x-sunset": self.sunset.isoformat()} if self.sunset else {})}


def _a_year_after(day: date) -> date:
    if (day.month, day.day) == (2, 29):
        return date(day.year + 1, 3, 1)
    return day.replace(year=day.year + 1)


def headers_of(deprecations: Collection[Deprecation]) -> Mapping[str, str]:
    """The headers of a response to a request that uses all of these: the earliest dates, and a link to each page."""
    since = datetime.combine(min(one.since for one in deprecations), time(), UTC)
    headers = {"Deprecation": f"@{int(since.timestamp())}"}
    if sunsets := [one.sunset for one in deprecations if one.sunset]:
        headers["Sunset"] = http_date(min(sunsets))
    pages = dict.fromkeys(one.link for one in deprecations)
    return {**headers, "Link": ", ".join(f'<{page}>; rel="deprecation"' for page in pages)}
