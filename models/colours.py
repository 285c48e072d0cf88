"""A merchant's accent colour, made readable: WCAG 2.2 (1.4.3) asks for 4.5:1 of text, whatever was chosen."""

from __future__ import annotations

TEXT_CONTRAST = 4.5
PAPERS = {"light": "#ffffff", "dark": "#181d24"}  # --card of static/checkout/checkout.css
INKS = {"light": "#000000", "dark": "#ffffff"}  # what text on them may end as
STEPS = 25


def accent(colour: str) -> dict[str, str]:
    """The colours to show an accent with: itself, what is written on it, and itself as text on a page."""
    on_colour = max(INKS.values(), key=lambda ink: contrast(ink, colour))  # one of them reaches 4.58:1
    text = {f"text_{name}": readable(colour, paper, INKS[name]) for name, paper in PAPERS.items()}
    return {"brand": colour, "on_brand": on_colour, **text}


def readable(colour: str, paper: str, towards: str) -> str:
    """`colour`, mixed with `towards` until it can be read on `paper`."""
    for step in range(STEPS):
        mixed = _mix(colour, towards, step / STEPS)
        if contrast(mixed, paper) >= TEXT_CONTRAST:
            return mixed
    return towards


def contrast(one: str, other: str) -> float:
    """1 to 21, by the relative luminance of both (WCAG 2.2)."""
    dark, light = sorted([_luminance(one), _luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    shares = [value / 255 for value in _channels(colour)]
    red, green, blue = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _mix(one: str, other: str, share: float) -> str:
    pairs = zip(_channels(one), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
