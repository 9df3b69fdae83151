"""Text as people compare it."""

import html
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.text import MAX_WORD_LENGTH, fold, plain_text, slugify, words


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


#: What a parser that reads a text again from each of its marks takes quadratic time for, or raises at.
FLOODS = [
    *("<", "<a ", "<a a='", '<a a="', "<a a=\"<a b='", '<a "', "<a=", "<a =" + " " * 1000, "<a b b b b b b", "<a-"),
    *("</", "</a ", "<!", "<!--", "<!-- --!", "<!----", "<![", "<![CDATA[", "<?", "<a>"),
    *("<script ", "<script>", "<script></script", "<style>a</style", "</script ", "<script a='"),
    *("&", "&#", "&#9", "&#x", "&amp", "&abcdefghijklmnopqrstuvwxyz", "&#" + "9" * 99, "&#" + "9" * 5000),
]


class TestPlainText:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("<p>One</p><p>two</p>", ["one", "two"]),
            ("one<br>two<BR/>three", ["one", "two", "three"]),
            ("<ul><li>one<li>two</ul>three", ["one", "two", "three"]),
            ("<td>1</td><td>2</td>", ["1", "2"]),
            ("<o:p>one</o:p><my-element>two</my-element>three", ["one", "two", "three"]),
            ("<b>bold</b>er H<sub>2</sub>O ta<wbr>ble", ["bolder", "h2o", "table"]),
            ('<a href="/oak?a=b&c" data-x=ash title = "a > b" hidden>link</a>', ["link"]),
            ("<img alt='<b>big</b> c'>one", ["one"]),
            ("<p it's>don't", ["don", "t"]),
            ('<a href="oak>link</a> one', ["link", "one"]),
            ("<!-- oak -->one<!-->two<!-- --!>three<!-- ash", ["onetwothree"]),
            ("one<script src='>'>var oak = '<p>'</SCRIPT >two<style>p { }</style> three", ["onetwo", "three"]),
            ("one<script>var oak", ["one"]),
            ("<scripted>one</scripted>", ["one"]),
            ("<!DOCTYPE html><?xml oak?>one<![CDATA[ <p>two</p> ]]>three", ["one", "two", "three"]),
            ("caf&eacute; M&amp;M 1&nbsp;000 &#111;&#x61;k", ["cafe", "m", "1", "000", "oak"]),
            ("caf&eacute R&D", ["cafe", "r", "d"]),
            ("&lt;p&gt; &amp;eacute;", ["p", "eacute"]),
            (f"&#{'9' * 5000}; &#0; &#xD800; &#x110000; one", ["one"]),
        ],
    )
    def test_is_what_a_browser_shows(self, text: str, found: list[str]) -> None:
        assert words(plain_text(text)) == found

    @pytest.mark.parametrize(
        "text",
        [
            "width < 40 cm, height > 20",
            "3<4, 5>2, I <3 oak",
            "sizes <xl in red",
            "sizes <small, medium> <large, wide>",
            "bob <bob@example.com>",
            "<small and <large",
            "a <> b </ c",
            "<",
            "</p",
        ],
    )
    def test_keeps_signs_that_begin_no_tag(self, text: str) -> None:
        assert plain_text(text) == text

    @given(st.text(alphabet=st.characters(exclude_characters="<&")))
    def test_is_the_same_object_without_markup(self, text: str) -> None:
        # So that most texts cost nothing.
        assert plain_text(text) is text

    @given(st.text())
    def test_undoes_escaping(self, text: str) -> None:
        assert plain_text(html.escape(text)) == text

    @given(st.text(alphabet="<>/!-?&#;='\"[] \nabp1é\0"))
    def test_is_there_for_every_text(self, text: str) -> None:
        assert "<p>" not in plain_text(f"{text}' \"><p>").removeprefix(text)

    @pytest.mark.parametrize("opening", ["", "<script>"])
    @pytest.mark.parametrize("flood", FLOODS, ids=lambda flood: f"{flood[:20]} {len(flood)}")
    def test_takes_linear_time(self, flood: str, opening: str) -> None:
        # Twenty times what a description may have: in quadratic time it would take seconds to minutes.
        text = opening + (flood * (200_000 // len(flood) + 1))[:200_000]
        started = time.thread_time()

        plain_text(text)

        assert time.thread_time() - started < 1
