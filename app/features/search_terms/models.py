"""The table of search terms."""

from sqlalchemy import CheckConstraint, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.model import Keyed, big_integer, ordered_text
from app.extensions import Model

MAX_TERM_LENGTH = 64


class SearchTerm(Keyed, Model):
    """How often a term was searched for in a week (ISO 8601, UTC), over all processes."""

    __tablename__ = "search_terms"
    __table_args__ = (
        CheckConstraint("searches > 0", name="searches_positive"),
        CheckConstraint("empty_searches BETWEEN 0 AND searches", name="empty_searches_among_searches"),
        {"sqlite_autoincrement": True},
    )

    week: Mapped[str] = mapped_column(String(8))
    term: Mapped[str] = mapped_column(ordered_text(MAX_TERM_LENGTH))
    searches: Mapped[int] = mapped_column(big_integer)
    empty_searches: Mapped[int] = mapped_column(big_integer)


Index("uq_search_terms_week_term", SearchTerm.week, SearchTerm.term, unique=True)
