"""Text as people compare it: folded and in words for search, and as slugs for addresses."""

import re
import unicodedata

#: Two words that are alike this far are the same.
LONGEST_WORD = 64

# Thai and Lao, kana, ideographs.
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"
_find_words = re.compile(rf"[^\W_{_UNSPACED}]+|(?=\w)[{_UNSPACED}]").findall
_find_ascii_words = re.compile(r"[a-z0-9]+").findall


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
    return list(dict.fromkeys(word[:LONGEST_WORD] for word in found))


def slugify(text: str) -> str:
    """``text`` as lower-case ASCII words joined by hyphens; empty where it has no ASCII letter or digit."""
    return re.sub(r"[^a-z0-9]+", "-", fold(text).replace("&", " and ")).strip("-")
