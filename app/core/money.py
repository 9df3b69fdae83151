"""Amounts and currencies: exact decimals, the codes of ISO 4217 and the minor units that it gives each of them.

An amount stands beside the code of its currency, in the attribute ``CURRENCY`` of the same row. It is stored with
``STORED_DECIMALS``, which no currency exceeds, and written with exactly those of its currency.
"""

from decimal import ROUND_HALF_UP, Decimal

from iso4217 import raw_table

#: The name of the attribute that says the currency of a row's amounts.
CURRENCY = "currency"

#: How many decimals an amount is stored with, whatever its currency.
STORED_DECIMALS = 4

#: An amount lies between these, both included.
MIN_AMOUNT = Decimal(0)
MAX_AMOUNT = Decimal("9999999999.9999")

#: The active codes of ISO 4217 (2024), of its funds those that prices are stated in, and no metals. A test compares
#: them with the list of the library.
CURRENCIES = frozenset(
    """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF
    CLF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG
    HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA
    MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD
    RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX
    USD UYI UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG
    """.split()  # noqa: SIM905 -- readable as a block
)

#: What most currencies have, and those that the list of the library no longer has: hundredths.
_USUAL_DECIMALS = 2


def _decimals(currency: str) -> int:
    units = str(raw_table.get(currency, {}).get("CcyMnrUnts", ""))
    return int(units) if units.isdecimal() else _USUAL_DECIMALS


_DECIMALS = {currency: _decimals(currency) for currency in CURRENCIES}
#: The end of a stored amount that is not written, by currency.
_UNWRITTEN: dict[str | None, str] = {
    currency: "0" * (STORED_DECIMALS - decimals) if decimals else "." + "0" * STORED_DECIMALS
    for currency, decimals in _DECIMALS.items()
}


def decimals_of(currency: str) -> int:
    """How many decimals the amounts of a currency have."""
    return _DECIMALS.get(currency, _USUAL_DECIMALS)


def minor_unit(currency: str) -> Decimal:
    """The least amount of a currency but 0: 0.01 for EUR, 1 for JPY."""
    return Decimal(1).scaleb(-decimals_of(currency))


def max_amount(currency: str) -> Decimal:
    """The greatest amount of a currency."""
    return Decimal(int(MAX_AMOUNT) + 1) - minor_unit(currency)


def round_amount(amount: Decimal, currency: str) -> Decimal:
    """An amount that we make up ourselves, as the currency can have it. What a client states is never rounded."""
    return amount.quantize(minor_unit(currency), ROUND_HALF_UP)


def is_written_exactly(amount: Decimal, currency: str) -> bool:
    """Whether an amount is written with no more decimals than its currency has: 1.250 is not, for EUR."""
    exponent = amount.as_tuple().exponent
    return isinstance(exponent, int) and -exponent <= decimals_of(currency)


def fits(amount: Decimal, currency: str) -> bool:
    """Whether a currency can have an amount, however many zeros it is written with."""
    return is_written_exactly(amount.normalize(), currency)


def amount_text(amount: Decimal, currency: str | None) -> str:
    """An amount with exactly the decimals of its currency.

    Where one that was stored before currencies had their own decimals needs more, it is written with as many as it
    needs, and never rounded.
    """
    text = str(amount)
    # Nearly every amount comes from the database, with all its decimals; formatting takes twice as long.
    if text[-5:-4] != ".":
        text = f"{amount:.{STORED_DECIMALS}f}"
    unwritten = _UNWRITTEN.get(currency, "00")
    return text.removesuffix(unwritten) if text.endswith(unwritten) else text.rstrip("0")
