"""Currencies."""

import re

from app.core.money import CURRENCIES


class TestCurrencies:
    def test_are_three_capital_letters(self) -> None:
        assert all(re.fullmatch("[A-Z]{3}", code) for code in CURRENCIES)

    def test_are_the_active_ones(self) -> None:
        assert {"USD", "EUR", "SAR", "JPY", "KWD", "XCG", "ZWG"} <= CURRENCIES
        assert CURRENCIES.isdisjoint({"DEM", "HRK", "XAU", "XXX", "XTS"})
