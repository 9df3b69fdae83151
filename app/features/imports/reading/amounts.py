"""Numbers as people write them: with marks between thousands, with a currency beside them, with zeros at the end.

Nothing is guessed: a number that the stated marks do not explain in one way is left as it is, and refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from app.core.money import CURRENCIES
from app.features.imports.reading.options import Reading

#: The currencies that a sign is used for.
SIGNS: Mapping[str, frozenset[str]] = {
    sign: frozenset(codes.split())
    for sign, codes in {
        "$": "ARS AUD BBD BMD BND BSD BZD CAD CLP COP CUP CVE DOP FJD GYD HKD JMD KYD LRD MXN NAD NZD SBD SGD SRD TTD"
        " TWD USD UYU XCD",
        "US$": "USD",
        "R$": "BRL",
        "€": "EUR",
        "£": "GBP EGP FKP GIP LBP SHP SDG SSP SYP",
        "¥": "CNY JPY",
        "₹": "INR",
        "₽": "RUB",
        "₺": "TRY",
        "₩": "KRW KPW",
        "₫": "VND",
        "₪": "ILS",
        "₴": "UAH",
        "₦": "NGN",
        "₱": "PHP",
        "฿": "THB",
        "zł": "PLN",
        "Kč": "CZK",
        "Ft": "HUF",
        "lei": "RON MDL",
        "лв": "BGN",
        "kr": "DKK ISK NOK SEK",
        "Fr": "CHF",
        "R": "ZAR",
    }.items()
}
_BLANKS = r" \u00a0\u2009\u202f"
_APOSTROPHES = "'\u2019"
#: Marks that look alike, of which a spreadsheet writes now this and now that.
_ALIKE = {" ": _BLANKS, **dict.fromkeys(_APOSTROPHES, _APOSTROPHES)}
_MARKS = "|".join(re.escape(mark) for mark in sorted([*SIGNS, *CURRENCIES], key=len, reverse=True))
_find_marks = re.compile(
    rf"(?:(?P<before>{_MARKS})\.?[{_BLANKS}]*)?(?P<number>-?[0-9].*?)(?:[{_BLANKS}]*(?P<after>{_MARKS})\.?)?"
).fullmatch


#: Of a cell in which a currency is looked for: far more than an amount has, and no time for the search to grow in.
MAX_LENGTH = 60


@dataclass(frozen=True)
class Amount:
    """An amount as a body states it, and the currencies that it can be in; None where nothing beside it says."""

    text: str
    currencies: frozenset[str] | None = None
    #: Whether a code stands beside it, and no mere sign.
    has_code: bool = False


class NumberReader:
    """Reads numbers with the marks that a `Reading` states."""

    def __init__(self, reading: Reading) -> None:
        groups = "".join(_ALIKE.get(mark, re.escape(mark)) for mark in reading.thousands)
        grouped = rf"[0-9]{{1,3}}(?P<mark>[{groups}])[0-9]{{3}}(?:(?P=mark)[0-9]{{3}})*|" if groups else ""
        self._match = re.compile(
            rf"(?P<sign>-?)(?P<whole>{grouped}[0-9]+)(?:{re.escape(reading.decimal)}(?P<fraction>[0-9]+))?"
        ).fullmatch
        self._has_marks, self._drops_zeros = reading.currency_marks, reading.trailing_zeros
        self._is_plain = not groups and reading.decimal == "." and not reading.trailing_zeros

    def amount(self, cell: str) -> Amount:
        """An amount. One that cannot be read becomes what the schema refuses."""
        currencies, has_code = None, False
        if self._has_marks and len(cell) <= MAX_LENGTH and (found := _find_marks(cell)):
            marks = [mark for mark in (found["before"], found["after"]) if mark]
            if marks:
                meant = [SIGNS.get(mark, frozenset({mark})) for mark in marks]
                currencies, has_code = frozenset.intersection(*meant), any(mark in CURRENCIES for mark in marks)
                cell = found["number"]
        return Amount(cell if self._is_plain else self._plain(cell), currencies, has_code)

    def integer(self, cell: str) -> int | str:
        """A whole number, or the cell where it is none; ``2.0000`` is one.

        ``2.000`` is one only where zeros at the end are stated to mean nothing: two thousand are written so as well.
        """
        if cell.isdecimal() and cell.isascii() and len(cell) <= 20:
            return int(cell)
        number = self._match(cell) if len(cell) <= 40 else None
        if number is None:
            return cell
        fraction = number["fraction"] or ""
        if fraction.strip("0") or (len(fraction) == 3 and not self._drops_zeros):
            return cell
        digits = re.sub(r"[^0-9]", "", number["whole"])
        return int(number["sign"] + digits) if len(digits) <= 20 else cell

    def _plain(self, cell: str) -> str:
        number = self._match(cell)
        if number is None:
            # What others may read as an amount must not pass as one that these marks do not explain.
            return f"?{cell}"
        fraction = number["fraction"] or ""
        if self._drops_zeros:
            fraction = fraction.rstrip("0")
        whole = re.sub(r"[^0-9]", "", number["whole"])
        return f"{number['sign']}{whole}.{fraction}" if fraction else f"{number['sign']}{whole}"
