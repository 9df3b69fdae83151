"""Text as people compare it: without markup, folded and in words for search, and as slugs for addresses."""

import html
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

# A quotation mark begins a value only behind an equals sign. Possessive quantifiers give nothing back, so that no text,
# however malformed, is read twice from one place.
_ATTRIBUTES = r"""(?:[^<>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?+)*+"""
# A comment, script or style that is not closed hides the rest of the text, as in a browser (WHATWG HTML, section 13.2).
_substitute_markup = re.compile(
    rf"""<!--(?:-?>|.*?(?:--!?>|\Z))
    |<(?P<hidden>script|style)(?=[\s/>]){_ATTRIBUTES}>.*?(?:</(?P=hidden)(?=[\s/>]|\Z)[^>]*+>?|\Z)
    |</?(?P<name>[a-z][\w:.-]*+)(?=[\s/>]){_ATTRIBUTES}(?P<end>>)?
    |<!\[CDATA\[|<[!?][^<>]*+>""",
    re.ASCII | re.DOTALL | re.IGNORECASE | re.VERBOSE,
).sub
#: The elements that format a part of a word or of a line; all others separate words.
_is_inline = re.compile(
    r"a|abbr|b|bdi|bdo|big|cite|code|em|font|i|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|tt|u|var|wbr",
    re.IGNORECASE,
).fullmatch
# Python refuses to convert thousands of digits. No character has a number as long as these.
_substitute_endless_references = re.compile(r"&#[0-9]{100,};?").sub


def is_visible(text: str) -> bool:
    """Whether ``text`` shows anything: a blank, a zero-width space or a Hangul filler alone does not."""
    return _find_visible(text) is not None


def plain_text(text: str) -> str:
    """The text that a browser shows of ``text``, which may be HTML: without markup, and with entities read.

    Tags of blocks separate words, and tags within a line do not. A ``<`` that begins no tag, as in "width < 40 cm", is
    a character. Takes linear time whatever the text, and does not raise. ``html.parser`` does neither: its time is
    quadratic for unclosed tags, it raises AssertionError for ``<![``, and its results differ between Python versions.
    """
    if "<" in text:
        text = _substitute_markup(_shown, text)
    if "&" in text:
        text = html.unescape(_substitute_endless_references(" ", text))
    return text


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


def _shown(markup: re.Match[str]) -> str:
    """What stands in the place of markup: nothing, a blank that separates words, or an incomplete tag as it is."""
    if markup["name"] is None:
        return ""
    if markup["end"] is None:
        return markup[0]
    return "" if _is_inline(markup["name"]) else " "
