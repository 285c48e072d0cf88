"""Of what docs/threat-model.md claims it says where to see it: those files and names are there."""

from __future__ import annotations

import re

import pytest

from config import ROOT

THREATS = (ROOT / "docs/threat-model.md").read_text()


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:py|sql|js|json|yml))`", THREATS)))
)
def test_a_file_that_it_names_is_there(path: str) -> None:
    assert (ROOT / path).is_file()


@pytest.mark.parametrize(
    ("path", "name"), re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:py|sql))`\s+\(`(\w+)`\)", THREATS)
)
def test_what_it_names_in_a_file_is_in_it(path: str, name: str) -> None:
    assert re.search(rf"\b{name}\b", (ROOT / path).read_text())
