"""The check digit of card numbers."""


def luhn(digits: str) -> bool:
    """Whether the last digit fits the others (ISO/IEC 7812-1, Annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
