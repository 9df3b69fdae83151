"""Text as people compare it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.text import MAX_WORD_LENGTH, fold, slugify, words


class TestFold:
    @pytest.mark.parametrize(
        ("text", "folded"),
        [
            ("CAFÉ  table", "cafe table"),
            ("cafe\u0301", "cafe"),
            ("Straße", "strasse"),
            ("ﬁne", "fine"),
            ("Ｗｉｄｅ", "wide"),
            ("ΣΊΣΥΦΟΣ", "σισυφοσ"),
            ("σίσυφος", "σισυφοσ"),
            ("\t two\n lines\u00a0", "two lines"),
            ("İstanbul", "istanbul"),
            ("家具", "家具"),
            ("100% _\\", "100% _\\"),
            ("", ""),
        ],
    )
    def test_drops_case_accents_and_blanks(self, text: str, folded: str) -> None:
        assert fold(text) == folded

    @given(st.text())
    def test_is_done_after_once(self, text: str) -> None:
        assert fold(fold(text)) == fold(text)

    @given(st.text(alphabet=st.characters(max_codepoint=0x24F, exclude_characters="ı")))
    def test_knows_no_case(self, text: str) -> None:
        assert fold(text.upper()) == fold(text.lower()) == fold(text)

    @given(st.text(), st.text())
    def test_keeps_words_apart(self, left: str, right: str) -> None:
        assert fold(f"{left} {right}").split() == fold(left).split() + fold(right).split()


class TestSlugify:
    @pytest.mark.parametrize(
        ("text", "slug"),
        [
            ("Outdoor furniture", "outdoor-furniture"),
            ("Café & Bar", "cafe-and-bar"),
            ("R&D", "r-and-d"),
            ("  --a--  b--  ", "a-b"),
            ("家具", ""),
            ("", ""),
        ],
    )
    def test_joins_words_by_hyphens(self, text: str, slug: str) -> None:
        assert slugify(text) == slug

    @given(st.text())
    def test_is_a_slug_or_nothing(self, text: str) -> None:
        assert re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", slugify(text))

    @given(st.text())
    def test_leaves_a_slug_alone(self, text: str) -> None:
        assert slugify(slugify(text)) == slugify(text)


class TestWords:
    @given(st.one_of(st.text(alphabet=st.characters(max_codepoint=0x7F)), st.text(), st.text("aﷺ ", max_size=40)))
    def test_are_those_of_the_folded_text(self, text: str) -> None:
        folded = fold(text)

        assert words(text) == words(folded)
        assert all(len(word) <= MAX_WORD_LENGTH and word in folded for word in words(text))

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("Oak chair, oak", ["oak", "chair"]),
            ("HAMMOCK-1 SKU_100%", ["hammock", "1", "sku", "100"]),
            ("1e5 1.5 a/b it's", ["1e5", "1", "5", "a", "b", "it", "s"]),
            ("Été ½ Straße", ["ete", "1", "2", "strasse"]),
            ("木の椅子x 🪑", ["木", "の", "椅", "子", "x"]),
            ("%_\\*'", []),
            ("x" * 100, ["x" * MAX_WORD_LENGTH]),
        ],
    )
    def test_are_folded_letters_and_digits(self, text: str, found: list[str]) -> None:
        assert words(text) == found

    @given(st.text())
    def test_are_the_words_of_their_own_text(self, text: str) -> None:
        assert words(" ".join(words(text))) == words(text)
