"""Amounts and currencies: what ISO 4217 says of them, and how amounts are written."""

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iso4217 import raw_table, raw_xml

from app.core.money import (
    CURRENCIES,
    MAX_AMOUNT,
    STORED_DECIMALS,
    amount_text,
    decimals_of,
    fits,
    is_written_exactly,
    max_amount,
    minor_unit,
    round_amount,
)

amounts = st.decimals(0, MAX_AMOUNT, places=STORED_DECIMALS)

#: ISO 4217's own mark of what is a fund and no money that is paid with.
FUNDS = {
    str(entry.findtext("Ccy"))
    for entry in raw_xml.iter("CcyNtry")
    if any("IsFund" in name.attrib for name in entry.findall("CcyNm"))
}
#: What the list has without minor units: metals, bonds, the codes for tests and for nothing.
NO_MONEY = {code for code, entry in raw_table.items() if not str(entry["CcyMnrUnts"]).isdecimal()}


class TestCurrencies:
    def test_are_three_capital_letters(self) -> None:
        assert all(re.fullmatch("[A-Z]{3}", code) for code in CURRENCIES)

    def test_are_the_active_ones(self) -> None:
        assert {"USD", "EUR", "SAR", "JPY", "KWD", "XCG", "ZWG"} <= CURRENCIES
        assert CURRENCIES.isdisjoint({"DEM", "HRK", "XAU", "XXX", "XTS"})

    def test_are_those_of_the_list_but_for_what_was_reviewed(self) -> None:
        # Review both when the library is updated. Products may still be priced in what has left the list, and nothing
        # is sold for the accounting units that are left out.
        assert CURRENCIES - raw_table.keys() == {"ANG", "BGN"}
        assert {"CLF", "UYI"} >= CURRENCIES & FUNDS
        assert raw_table.keys() - CURRENCIES - FUNDS - NO_MONEY - {None} == {"UYW", "XAD"}


class TestDecimals:
    def test_are_what_the_standard_says(self) -> None:
        by_decimals: dict[int, set[str]] = {}
        for code in CURRENCIES:
            by_decimals.setdefault(decimals_of(code), set()).add(code)

        assert by_decimals.keys() == {0, 2, 3, 4}
        assert by_decimals[4] == {"CLF"}
        assert by_decimals[0] == set("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split())  # noqa: SIM905 -- readable as a line
        assert by_decimals[3] == {"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"}

    @pytest.mark.parametrize(
        ("currency", "unit", "greatest"),
        [("JPY", "1", "9999999999"), ("EUR", "0.01", "9999999999.99"), ("KWD", "0.001", "9999999999.999")],
    )
    def test_bound_an_amount(self, currency: str, unit: str, greatest: str) -> None:
        assert (str(minor_unit(currency)), str(max_amount(currency))) == (unit, greatest)

    @pytest.mark.parametrize(
        ("amount", "currency", "written", "value"),
        [
            *(("1200", "JPY", True, True), ("1200.0", "JPY", False, True), ("1200.5", "JPY", False, False)),
            *(("12", "EUR", True, True), ("1.250", "EUR", False, True), ("1.255", "EUR", False, False)),
            *(("1.250", "KWD", True, True), ("0", "JPY", True, True), ("0.00", "JPY", False, True)),
        ],
    )
    def test_are_counted_as_written_or_as_needed(self, amount: str, currency: str, written: Any, value: Any) -> None:
        assert (is_written_exactly(Decimal(amount), currency), fits(Decimal(amount), currency)) == (written, value)

    @pytest.mark.parametrize(("currency", "rounded"), [("JPY", "19"), ("EUR", "18.90"), ("KWD", "18.900")])
    def test_round_what_we_make_up(self, currency: str, rounded: str) -> None:
        assert str(round_amount(Decimal("18.90"), currency)) == rounded


class TestText:
    @pytest.mark.parametrize(
        ("amount", "currency", "text"),
        [
            *(("1200.0000", "JPY", "1200"), ("1200", "JPY", "1200"), ("0.0000", "JPY", "0"), ("0", "EUR", "0.00")),
            *(("12", "EUR", "12.00"), ("12.3", "EUR", "12.30"), ("12.3000", "EUR", "12.30"), ("0.0100", "EUR", "0.01")),
            *(("45.5", "KWD", "45.500"), ("0.0010", "KWD", "0.001"), ("9999999999.9990", "KWD", "9999999999.999")),
            *(("1E+3", "EUR", "1000.00"), ("12", "XXX", "12.00"), ("12", None, "12.00")),
        ],
    )
    def test_has_the_decimals_of_the_currency(self, amount: str, currency: str | None, text: str) -> None:
        assert amount_text(Decimal(amount), currency) == text

    @pytest.mark.parametrize(
        ("amount", "currency", "text"),
        [
            ("100.5000", "JPY", "100.5"),
            ("0.0100", "JPY", "0.01"),
            ("1.2345", "KWD", "1.2345"),
            ("1.005", "EUR", "1.005"),
        ],
    )
    def test_has_more_rather_than_another_value(self, amount: str, currency: str, text: str) -> None:
        assert amount_text(Decimal(amount), currency) == text

    @given(amounts, st.sampled_from(sorted(CURRENCIES)))
    def test_is_the_amount(self, amount: Decimal, currency: str) -> None:
        text = amount_text(amount, currency)

        assert Decimal(text) == amount
        assert len(text.partition(".")[2]) >= decimals_of(currency)
        assert re.fullmatch(r"(0|[1-9][0-9]*)(\.[0-9]+)?", text)
