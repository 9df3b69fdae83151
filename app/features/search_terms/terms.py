"""Which term a search is counted under; and which are not counted, as they may be about a person or a secret."""

import re
import unicodedata

from app.core.text import words
from app.features.products.search import MAX_WORDS
from app.features.search_terms.models import MAX_TERM_LENGTH

#: Longer texts are pasted, and not typed.
MAX_SEARCH_LENGTH = 100

#: What a search may have that is not to be stored, after compatibility forms (full-width digits) are made plain ones.
_PRIVATE = re.compile(
    r"""\S\s*@\s*\S                 # an e-mail address
    | (?:\d[\W_]*){7}               # a phone or card number, a date of birth: digits with whatever separates them
    | ://|\bwww\.|\w\.[a-z]{2,}     # a URL, or the name of a host
    | \bcat_\d+_                    # a key of this API
    | [0-9a-f]{8}-[0-9a-f]{4}-      # a UUID
    | (?=[a-z_+/=]*\d)[a-z0-9_+/=]{16}  # a token: letters and digits in one long word
    | \w{30}                        # a token of letters""",
    re.IGNORECASE | re.VERBOSE,
)


def term_of(search: str) -> str | None:
    """The term under which a search is counted: its words as they are compared, in their order; None for no term.

    There is none for a search without words, for one that is longer than people type, and for one that has something
    like an e-mail address, seven digits or more, a URL, or a token.
    """
    if len(search) > MAX_SEARCH_LENGTH or _PRIVATE.search(unicodedata.normalize("NFKC", search)):
        return None
    term = " ".join(words(search)[:MAX_WORDS])
    return term if term and len(term) <= MAX_TERM_LENGTH else None
