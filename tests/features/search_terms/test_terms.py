"""Which term a search is counted under, and what is never stored of one."""

import pytest

from app.features.search_terms.terms import term_of


class TestTerm:
    @pytest.mark.parametrize(
        ("search", "term"),
        [
            ("oak chair", "oak chair"),
            ("  Oak   CHAIR! ", "oak chair"),
            ("chair oak", "chair oak"),
            ("oak, oak", "oak"),
            ("Café «Noir»", "cafe noir"),
            ("tisch 120x80 cm", "tisch 120x80 cm"),
            ("CHR-00-OAK", "chr 00 oak"),
            ("table 123456", "table 123456"),
            ("50% wool", "50 wool"),
            ("made in st. ives", "made in st ives"),
            ("椅子", "椅 子"),
            ("10.0.0.1", "10 0 1"),
            # A word of two letters or more separates numbers.
            ("1234 oak 5678", "1234 oak 5678"),
            ("120x80 cm 4000 mm", "120x80 cm 4000 mm"),
            ("oak (natural)", "oak natural"),
            ("look at oak", "look at oak"),
            ("polka dot", "polka dot"),
            ("oak_chair", "oak chair"),
            ("password", "password"),
            ("a passwordless lock", "a passwordless lock"),
            ("Donaudampfschiff", "donaudampfschiff"),
        ],
    )
    def test_is_made_of_the_words_that_are_compared(self, search: str, term: str) -> None:
        assert term_of(search) == term

    @pytest.mark.parametrize("search", ["", "  ", "!?", "-", "&%$"])
    def test_is_none_without_words(self, search: str) -> None:
        assert term_of(search) is None

    @pytest.mark.parametrize(
        "search",
        [
            "bob@example.com",
            "order of bob@example",
            "bob @ example . com",
            "bob＠example.com",
            "b@b",
            "bob[at]example",
            "bob (at) example [dot] com",
            "bob {AT} example",
            "bob at example dot com",
            "example{dot}com",
            "bob＠例え。テスト",
        ],
    )
    def test_is_none_for_an_e_mail_address(self, search: str) -> None:
        assert term_of(search) is None

    @pytest.mark.parametrize(
        "search",
        [
            "1234567",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "+49 (0) 30 / 123 456",
            "030.1234567",
            "call 123 - 45 - 67 now",
            "１２３４５６７",
            "٠١٢٣٤٥٦",
            "1_2_3_4_5_6_7",
            "born 1980-05-17",
            "oak 4006381333931",
            "555x123x4567",
            "1000 x 1200 mm",
            "5 5 5 a 1 b 2 c 3 4",
            "555é123é4567",
        ],
    )
    def test_is_none_for_seven_digits_whatever_separates_them(self, search: str) -> None:
        assert term_of(search) is None

    @pytest.mark.parametrize(
        "search",
        [
            "https://shop.example/a?b=c",
            "ftp://x",
            "www.shop",
            "shop.example",
            "shop.example/private",
            "see oak.de",
            "магазин.рф",
            "例え。テスト",
            "例え｡テスト",
            "दुकान.भारत",
            "मेरी.भारत",
        ],
    )
    def test_is_none_for_a_url(self, search: str) -> None:
        assert term_of(search) is None

    @pytest.mark.parametrize(
        "search",
        [
            "cat_12_secret",
            "eyJhbGciOiJIUzI1NiJ9",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "550e8400-e29b-41d4-a716-446655440000",
            "da39a3ee5e6b4b0d",
            "abcdefghijklmnopqrstuvwxyzabcdefgh",
            "ghp_abcdefghijklmnop",
            "sk_live_abcdefgh",
            "whsec_abcdefghijkl",
            "abcdefghijkl_abc",
            "key: ab_12345678",
        ],
    )
    def test_is_none_for_a_token(self, search: str) -> None:
        assert term_of(search) is None

    @pytest.mark.parametrize(
        "search",
        ["password hunter", "Passwort: geheim", "my passwd=x", "pwd x", "the password is oak", "DB_PASSWORD=oak"],
    )
    def test_is_none_for_what_follows_the_word_password(self, search: str) -> None:
        assert term_of(search) is None

    def test_is_none_for_what_is_longer_than_people_type(self) -> None:
        assert term_of("oak " * 26) is None
        assert term_of(" ".join(f"word{letter}" for letter in "abcdefghijkl")) is None
        assert len(term_of(" ".join("abcdefghijklmnop")) or "") == 23

    def test_is_found_in_linear_time(self) -> None:
        for piece in ("1 ", "a.", "a-", "_", "٠", "ab1", "1a", "1 a", "at ", "at a dot ", "a_", "pwd", "[ ", "。a"):
            assert term_of(piece * 50) is None or len(piece * 50) <= 100
