"""How products are found by words: each word of a search must begin a word of the product or of its brand's name.

``Product.search_text`` is indexed by the database's own means: PostgreSQL makes a tsvector of it, with the weights A, B
and C for its three lines, SQLite an FTS5 table with a column for each. Words are letters and digits only, cut by
``core.text.words`` and not by the databases, so that both find the same, and no word is an operator of either's query
language. (decision 16)

The names of brands are not among the words of their products: a search looks for its words among the brands first, and
then for the products of those that it has found (decision 35).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    DDL,
    ColumnElement,
    Select,
    Text,
    and_,
    case,
    cast,
    column,
    event,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import TSQUERY, TSVECTOR
from sqlalchemy.orm import aliased

from app.core import reads
from app.core.listing import Search
from app.core.membership import ValueList, is_one_of
from app.core.model import big_integer
from app.core.text import words
from app.extensions import db
from app.features.brands import service as brands
from app.features.brands.service import Named
from app.features.products.models import Product

#: The words of a search that are looked at: each costs, and a person's search has few.
MAX_WORDS = 12
#: The products with similar words that are considered: each is compared letter by letter.
MAX_SIMILAR = 1000

# Each exists on one of the databases only, so the mapper cannot map them.
_VECTOR = literal_column("products.search_vector", TSVECTOR)
_FTS = table("products_search", column("rowid"), column("products_search", Text))

# Where typos are forgiven; of all words of a description, the index would double the time of an import.
_NAME_AND_LABELS = literal_column(
    "(split_part(products.search_text, chr(10), 1) || split_part(products.search_text, chr(10), 2))", Text
)

reads.stand_for(Product.search_text, _VECTOR, _FTS, _NAME_AND_LABELS)

# Where a word must be, as SQLite says it before the word and PostgreSQL after it.
_ANYWHERE, _NAME_OR_LABELS, _NAME = ("", ""), ("{name labels} : ", "AB"), ("name : ", "A")


@dataclass(frozen=True)
class _Sought:
    """A word of a search, and the brands that have it in their name."""

    word: str
    named: Named


def find_words(search: str) -> Search:
    """The products of which each word of the search begins a word, or a word of the name of their brand.

    A search without words finds nothing. One statement looks for its words among the brands.
    """
    found = _words_of(search)
    sought = [*map(_Sought, found, brands.find_named(found))]
    return Search(_has_words(sought), lambda: _relevance(sought))


def find_similar_words(search: str) -> Search:
    """The products whose name, sku and tags have something like each word of the search."""
    return Search(_has_similar_words(search), lambda: _similarity(search))


def can_compare() -> bool:
    """Whether the database finds similar words: PostgreSQL does, where the migration found pg_trgm."""
    return _is_postgresql() and bool(
        db.session.scalar(select(func.to_regclass("ix_products_search_trigrams").is_not(None)))
    )


def _has_words(sought: Sequence[_Sought]) -> ColumnElement[bool]:
    """Whether a product has each word. Those that no brand has are one query to the index of words."""
    plain = [_beginning(one.word) for one in sought if not one.named.beginning]
    conditions = [_matches((" & " if _is_postgresql() else " AND ").join(plain))] if plain else []
    conditions += [_has_word_or_brand(one) for one in sought if one.named.beginning]
    return and_(*conditions) if conditions else false()


def _has_word_or_brand(sought: _Sought) -> ColumnElement[bool]:
    query = _beginning(sought.word)
    if _is_postgresql():
        return or_(_matches(query), _is_of(sought.named.beginning))
    # One set of ids: SQLite looks them up as it does those of the index of words alone.
    other = aliased(Product)
    of_brands = select(other.id).where(_is_of(sought.named.beginning, other.brand_id))
    return Product.id.in_(_ids_matching(query).union_all(of_brands))


def _is_of(brand_ids: Collection[int], column: Any = Product.brand_id) -> ColumnElement[bool]:
    return is_one_of(column, literal(brand_ids, ValueList(big_integer)))


def _relevance(sought: Sequence[_Sought]) -> ColumnElement[int]:
    """How well a product fits: each word counts most in the name, least in the description, and more when whole.

    In the name of the brand it counts as much as in a label.
    """
    score: ColumnElement[int] = literal(0)
    for one in sought:
        places: Sequence[tuple[str, Collection[int], int]] = (
            (_beginning(one.word, _NAME), (), 4),
            (_beginning(one.word, _NAME_OR_LABELS), one.named.beginning, 2),
            (_whole(one.word), one.named.whole, 1),
        )
        for query, brand_ids, weight in places:
            fits = or_(_matches(query), _is_of(brand_ids)) if brand_ids else _matches(query)
            score += case((fits, weight), else_=0)
    return score


def _has_similar_words(search: str) -> ColumnElement[bool]:
    sought = [literal(word, Text).bool_op("<%")(_NAME_AND_LABELS) for word in _words_of(search)]
    return and_(*sought) if sought else false()


def _similarity(search: str) -> ColumnElement[float]:
    """How much alike the words are."""
    score: ColumnElement[float] = literal(0.0)
    for word in _words_of(search):
        score += func.word_similarity(word, _NAME_AND_LABELS)
    return score


def _words_of(search: str) -> list[str]:
    return words(search)[:MAX_WORDS]


def _is_postgresql() -> bool:
    return db.engine.dialect.name == "postgresql"


def _beginning(word: str, place: tuple[str, str] = _ANYWHERE) -> str:
    columns, weights = place
    return f"{word}:*{weights}" if _is_postgresql() else f'{columns}"{word}" *'


def _whole(word: str) -> str:
    return word if _is_postgresql() else f'"{word}"'


def _matches(query: str) -> ColumnElement[bool]:
    if _is_postgresql():
        # Not by to_tsquery, which would cut the words once more and in its own way.
        return _VECTOR.bool_op("@@")(cast(query, TSQUERY))
    return Product.id.in_(_ids_matching(query))


def _ids_matching(query: str) -> Select[Any]:
    return select(_FTS.c.rowid).where(_FTS.c.products_search.match(query))


def _line(number: int, weight: str) -> str:
    return f"replace(split_part(search_text, chr(10), {number}), ' ', ':1{weight} ')"


_ON_POSTGRESQL = (
    f"""ALTER TABLE products ADD COLUMN search_vector tsvector GENERATED ALWAYS AS (
        CAST({_line(1, "A")} || {_line(2, "B")} || {_line(3, "C")} AS tsvector)) STORED""",
    "CREATE INDEX ix_products_search_vector ON products USING gin (search_vector) WHERE deleted_at IS NULL",
    # An extension that may not be installed, or not permitted; without it no typos are forgiven.
    f"""DO $$ BEGIN
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
        CREATE INDEX ix_products_search_trigrams ON products USING gin ({_NAME_AND_LABELS} gin_trgm_ops)
        WHERE deleted_at IS NULL;
    EXCEPTION WHEN OTHERS THEN
        RAISE NOTICE USING MESSAGE = 'searches forgive no typos: ' || SQLERRM;
    END $$""",
)

_COLUMNS = "rowid, name, labels, description"


def _row(which: str) -> str:
    lines = f"""'["' || replace({which}.search_text, char(10), '","') || '"]'"""
    places = ", ".join(f"json_extract(lines, '$[{number}]')" for number in range(3))
    return f"id, {places} FROM (SELECT {which}.id AS id, {lines} AS lines)"


# The FTS table stores no contents, so a deletion from its index must state the words again.
_TAKE_OUT = f"INSERT INTO products_search (products_search, {_COLUMNS}) SELECT 'delete', {_row('old')}"
_PUT_IN = f"INSERT INTO products_search ({_COLUMNS}) SELECT {_row('new')}"
_ON_SQLITE = (
    """CREATE VIRTUAL TABLE products_search USING fts5(
        name, labels, description, content='', columnsize=0, detail='column', tokenize='ascii')""",
    f"CREATE TRIGGER products_search_insert AFTER INSERT ON products BEGIN {_PUT_IN}; END",
    f"CREATE TRIGGER products_search_delete AFTER DELETE ON products BEGIN {_TAKE_OUT}; END",
    f"""CREATE TRIGGER products_search_update AFTER UPDATE OF search_text ON products
        WHEN old.search_text <> new.search_text BEGIN {_TAKE_OUT}; {_PUT_IN}; END""",
)

for _dialect, _statements in (("postgresql", _ON_POSTGRESQL), ("sqlite", _ON_SQLITE)):
    for _statement in _statements:
        # SQLAlchemy has not annotated execute_if.
        _on_dialect = DDL(_statement).execute_if(dialect=_dialect)  # type: ignore[no-untyped-call]
        event.listen(Product.__table__, "after_create", _on_dialect)
