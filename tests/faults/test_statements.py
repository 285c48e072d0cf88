"""A crash at every statement: tests/test_crashes.py has it, for `make test`; here its points are counted."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

from config import ROOT
from tests.faults.report import Row, keep


def test_a_crash_at_every_statement(tmp_path: Path) -> None:
    results, started = tmp_path / "results.xml", time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "tests/test_crashes.py", f"--junitxml={results}"]
    # Only the older format of the two has properties.
    subprocess.run([*command, "-o", "junit_family=xunit1"], cwd=ROOT, check=True)
    properties = ElementTree.parse(results).iter("property")  # noqa: S314 (our own file)
    points = [int(each.attrib["value"]) for each in properties if each.attrib["name"] == "points"]
    keep(
        Row(
            16,
            "A crash (`SIGKILL`) at every statement and commit of settle, refund, capture, void, deliver, "
            "begin and sweep",
            f"{sum(points)} times, in {len(points)} acts",
            "one act each",
            0,
            0,
            None,
            "invariants at each point",
            f"all ended as without the crash; took {time.monotonic() - started:.0f} s",
        )
    )
    assert len(points) >= 10
