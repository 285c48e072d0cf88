"""An accent colour can be read, whatever it is."""

from __future__ import annotations

import random

import pytest

from models.colours import PAPERS, TEXT_CONTRAST, accent, contrast


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert contrast("#ff0000", "#ffffff") == pytest.approx(4.0, abs=0.005)


def test_a_readable_colour_is_left_alone() -> None:
    assert accent("#1a56c4") == {
        "brand": "#1a56c4",
        "on_brand": "#ffffff",
        "text_light": "#1a56c4",
        "text_dark": accent("#1a56c4")["text_dark"],
    }
    assert accent("#ffdd00")["on_brand"] == "#000000"


def test_every_colour_becomes_readable() -> None:
    chance = random.Random(1)
    colours = ["#ffffff", "#000000", "#777777", "#181d24", "#ffdd00"]
    for colour in colours + [f"#{chance.randrange(2**24):06x}" for _ in range(500)]:
        shown = accent(colour)
        assert contrast(shown["on_brand"], colour) >= TEXT_CONTRAST, colour
        for name, paper in PAPERS.items():
            assert contrast(shown[f"text_{name}"], paper) >= TEXT_CONTRAST, (colour, name)
