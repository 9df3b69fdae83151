"""Text as people compare it: folded for search, and as slugs for addresses."""

import re
import unicodedata


def fold(text: str) -> str:
    """``text`` without case, accents and repeated blanks, so that "CAFÉ  table" and "cafe TABLE" are the same."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return " ".join(bare.casefold().split())


def slugify(text: str) -> str:
    """``text`` as lower-case ASCII words joined by hyphens; empty where it has no ASCII letter or digit."""
    return re.sub(r"[^a-z0-9]+", "-", fold(text).replace("&", " and ")).strip("-")
