"""Column types and mixins: what every table says the same way."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import orjson
from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer, Numeric, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, declared_attr, mapped_column
from sqlalchemy.types import TypeDecorator, TypeEngine

from app.core import clock
from app.core.money import STORED_DECIMALS

#: The largest id: a signed 64-bit integer, on both databases and on the wire.
MAX_ID = 2**63 - 1


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware in Python, UTC in the database. SQLite has no time zones and hands back naive values."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive value rather than guess its zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment needs a time zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Give the value its zone."""
        return _in_utc(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """The same, without the steps between where the driver makes moments itself."""
        return super().result_processor(dialect, coltype) if dialect.name == "sqlite" else _in_utc


def _in_utc(value: datetime | None) -> datetime | None:
    if value is None or value.tzinfo is UTC:
        return value
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Money(TypeDecorator[Decimal]):
    """An exact amount with four decimals: NUMERIC(14, 4), or integer ten-thousandths where there is no true decimal."""

    impl = Numeric(14, STORED_DECIMALS)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """SQLite would store NUMERIC as a float."""
        return dialect.type_descriptor(BigInteger() if dialect.name == "sqlite" else self.impl)

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Decimal | int | None:
        """Refuse what would have to be rounded."""
        if value is None:
            return None
        units = value.scaleb(STORED_DECIMALS)
        if units != units.to_integral_value():
            raise ValueError("an amount has at most four decimals")
        return int(units) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Decimal | int | None, _dialect: Dialect) -> Decimal | None:
        """Always four decimals."""
        if value is None:
            return None
        return Decimal(value).scaleb(-STORED_DECIMALS) if isinstance(value, int) else value

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """None where the database has decimals."""
        return super().result_processor(dialect, coltype) if dialect.name == "sqlite" else None


#: A text that sorts by code point on both databases, so that a sorted list and its cursors mean the same on each and
#: no upgrade of the system's collations can corrupt an index.
def ordered_text(length: int) -> String:
    """A string column of at most ``length`` characters that is sorted by code point."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


class Json(JSON):
    """JSON in which 1, 1.0 and true differ, as they do on the wire; to Python they are equal, and a change was none."""

    def compare_values(self, x: Any, y: Any) -> bool:
        """Whether two values are the same JSON, whatever the order of their members."""
        if type(x) is not type(y):  # SQLAlchemy also compares with its marks for a value that was never loaded
            return False
        return orjson.dumps(x, option=orjson.OPT_SORT_KEYS) == orjson.dumps(y, option=orjson.OPT_SORT_KEYS)


#: JSON that PostgreSQL can index.
json_type: TypeEngine[Any] = Json().with_variant(JSONB(), "postgresql")

#: The same, in which None is the database's NULL and not JSON's.
nullable_json_type: TypeEngine[Any] = Json(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

#: A 64-bit key; SQLite makes only INTEGER PRIMARY KEY a row id.
big_integer = BigInteger().with_variant(Integer(), "sqlite")

Moment = Annotated[datetime, mapped_column(UtcDateTime())]


class Keyed:
    """A positive 64-bit primary key that is never used twice."""

    id: Mapped[int] = mapped_column(big_integer, primary_key=True, sort_order=-10)

    @declared_attr.directive
    def __table_args__(cls) -> Any:
        """AUTOINCREMENT: else SQLite reuses the ids of deleted rows, and an ETag of the old row would fit the new."""
        return {"sqlite_autoincrement": True}


def _created_at(context: Any) -> datetime:
    moment: datetime = context.get_current_parameters()["created_at"]
    return moment


class Stamped:
    """When the row was made and last changed; a row that never changed says the same twice."""

    created_at: Mapped[Moment] = mapped_column(default=clock.now, sort_order=10)
    updated_at: Mapped[Moment] = mapped_column(default=_created_at, onupdate=clock.now, sort_order=11)


class Versioned:
    """A row version, counted up by each UPDATE and compared inside it: a lost update is impossible."""

    version: Mapped[int] = mapped_column(Integer, sort_order=12)

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:
        """Let the mapper count, and compare, the version."""
        return {"version_id_col": cls.version}


class Live:
    """A second counter, of what happens to a row beside the writes of clients, such as a sale (decision 29).

    The use case that makes it happen raises ``live`` in its UPDATE; the mapper neither counts nor compares it.
    """

    live: Mapped[int] = mapped_column(big_integer, default=0, server_default="0", sort_order=13)
