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
    | [\[({<]\s*(?:at|dot)\s*[\])}>]|\bat\s+\S+\s+dot\b   # the same, spelt out
    # A phone or card number, a date of birth, two measures: digits with signs and single letters between them.
    | \d(?:(?:[\W_]|(?<![^\W\d_])[^\W\d_](?![^\W\d_]))*\d){6}
    # A URL, or the name of a host in any alphabet. In some, a letter is followed by a mark, which is no \w.
    | ://|\bwww\.|[^\s.][.\u3002][^\W\d_](?:[^\W\d_]|[^\x00-\x7f\s])
    | \bcat_\d+_                    # a key of this API
    | [0-9a-f]{8}-[0-9a-f]{4}-      # a UUID
    | \b[a-z]{2,4}_\w{8}            # a key with a prefix, as many services have them
    | _[^\W_]{12}|[^\W_]{12}_       # a token of long parts
    | (?=[a-z_+/=]*\d)[a-z0-9_+/=]{16}  # a token: letters and digits in one long word
    | \w{30}                        # a token of letters
    | (?:password|passwort|passwd|(?<![^\W_])pwd)[\W_]+[^\W_]  # what follows such a word""",
    re.IGNORECASE | re.VERBOSE,
)


def term_of(search: str) -> str | None:
    """The term under which a search is counted: its words as they are compared, in their order; None for no term.

    There is none for a search without words, for one that is longer than people type, and for one that has something
    like an e-mail address, a URL, a host, a token, a word after "password", or seven digits or more that no word of two
    letters or more separates. A person's name has no form by which it could be recognised.
    """
    if len(search) > MAX_SEARCH_LENGTH or _PRIVATE.search(unicodedata.normalize("NFKC", search)):
        return None
    term = " ".join(words(search)[:MAX_WORDS])
    return term if term and len(term) <= MAX_TERM_LENGTH else None
