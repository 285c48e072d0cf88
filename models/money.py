"""Currencies, the limits of an amount, and the fee. Amounts are integers in minor units everywhere."""

from decimal import ROUND_HALF_UP, Decimal

AMOUNT_MIN_MINOR = 100  # one rupee, one euro: less costs more to move than it is worth
AMOUNT_MAX_MINOR = 999_999_999_999  # below 10^12: exact in a JavaScript number, with room to add up

# Active currency codes of ISO 4217, without funds, metals and test codes.
CURRENCIES = frozenset(
    """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF
    CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ
    GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP
    LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR
    PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC
    SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND VUV WST XAF XCD XCG XOF
    XPF YER ZAR ZMW ZWG
    """.split()  # noqa: SIM905 (a list of strings would be a page long)
)


def fee_of(amount: int, percent: Decimal) -> int:
    """What the gateway keeps of a captured amount: `percent` of it, half a minor unit rounded up."""
    return int((amount * percent / 100).quantize(Decimal(1), ROUND_HALF_UP))
