"""Text as people compare it: folded and in words for search, and as slugs for addresses."""

import re
import unicodedata

#: Two words that are alike this far are the same.
MAX_WORD_LENGTH = 64

#: The characters up to U+FFFF that show nothing, for a class of a regular expression: blanks, C1 controls, the Braille
#: blank, and Unicode's Default_Ignorable_Code_Point (Hangul fillers, zero-width and bidirectional marks).
INVISIBLE = (
    r"\u0020\u0080-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f"
    r"\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
# Those beyond the BMP, which JavaScript's expressions take only with the flag u.
_BEYOND = r"\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
_find_visible = re.compile(rf"[^\u0000-\u001f\u007f{INVISIBLE}{_BEYOND}]").search

# Thai and Lao, kana, ideographs.
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"
_find_words = re.compile(rf"[^\W_{_UNSPACED}]+|(?=\w)[{_UNSPACED}]").findall
_find_ascii_words = re.compile(r"[a-z0-9]+").findall


def is_visible(text: str) -> bool:
    """Whether ``text`` shows anything: a blank, a zero-width space or a Hangul filler alone does not."""
    return _find_visible(text) is not None


def fold(text: str) -> str:
    """``text`` without case, accents and repeated blanks, so that "CAFÉ  table" and "cafe TABLE" are the same."""
    if text.isascii():
        return " ".join(text.lower().split())
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return " ".join(bare.casefold().split())


def words(text: str) -> list[str]:
    """The words of ``text`` as search compares them: folded, without punctuation, each once.

    A run of letters and digits is a word; scripts that put no blanks between words have one in each character.
    """
    # Most texts are ASCII, in which folding a word is lowering it, and finding it takes half the time.
    found = _find_ascii_words(text.lower()) if text.isascii() else _find_words(fold(text))
    return list(dict.fromkeys(word[:MAX_WORD_LENGTH] for word in found))


def slugify(text: str) -> str:
    """``text`` as lower-case ASCII words joined by hyphens; empty where it has no ASCII letter or digit."""
    return re.sub(r"[^a-z0-9]+", "-", fold(text).replace("&", " and ")).strip("-")
