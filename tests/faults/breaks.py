"""Builds that are broken on purpose: each must be caught by the tests that `make test` runs.

`python -m tests.faults.breaks` breaks a copy of the tree in one way after the other, runs the core's tests in
in it, and writes into docs/reliability.md which of them caught it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from shutil import copy

from config import ROOT
from tests.conftest import temporary_folder
from tests.faults.report import PAGE, put

BEGIN, END = "<!-- begin: made by `make breaks` -->", "<!-- end -->"
CORE = (
    *("work", "races", "ledger", "refunds", "payments_capture", "idempotency", "unknown", "acquirer_choice"),
    *("webhooks", "crashes"),
)
NAMED_MAX = 3  # tests that are named in the table, of those that caught it
LIMIT_S = 900


@dataclass(frozen=True)
class Break:
    """`old` becomes `new` in one file, once."""

    words: str
    file: str
    old: str
    new: str


BREAKS = (
    Break(
        "Settle without its guard: whoever has acted settles, whoever holds the claim",
        "jobs/work.py",
        "if row is None or row.claim_id != task.claim_id:",
        "if row is None:",
    ),
    Break(
        "Wake before the commit",
        "jobs/work.py",
        "    db.session.commit()\n    for queue in sorted(due):\n        wake_soon(queue)\n",
        "    for queue in sorted(due):\n        wake_soon(queue)\n    db.session.commit()\n",
    ),
    Break(
        "Refunds are checked without a lock on the payment",
        "models/payments.py",
        "query = select(cls).where(cls.id == payment_id).with_for_update(key_share=True)",
        "query = select(cls).where(cls.id == payment_id)",
    ),
    Break(
        "An answer is stored after its effect, in a transaction of its own",
        "routes/writes.py",
        "        IdempotencyKey.store(",
        "        work.commit()\n        IdempotencyKey.store(",
    ),
    Break(
        "No answer from the acquirer is taken for a decline",
        "jobs/payments.py",
        "            case Unknown(), _:\n                row.stay_unknown(backoff_s(row.tries))\n",
        '            case Unknown(), "authorize":\n'
        '                row.decline("PAYMENT_TIMEOUT", "payment_timed_out", "No answer.")\n'
        "            case Unknown(), _:\n                row.refuse_operation()\n",
    ),
    Break(
        "A commit in the middle of a settle, between the state and its posting",
        "models/payments.py",
        "        self.acquirer_reference = reference\n",
        "        self.acquirer_reference = reference\n        self._finish_operation()\n"
        "        self.hold_expires_at = now() + timedelta(days=HOLD_DAYS)\n        db.session.commit()\n",
    ),
    Break(
        "A refund that comes back is not posted",
        "models/refunds.py",
        '            self._post("refund_failed", ("acquirer", "merchant", self.amount))\n',
        "            pass\n",
    ),
    Break(
        "A claim leaves no lease: the row stays due while it is worked on",
        "jobs/work.py",
        'f"due_at = now() + make_interval(secs => {LEASE_S}) "',
        'f"due_at = now() "',
    ),
)


def caught_by(each: Break) -> list[str]:
    """The tests that fail in a tree that is broken so."""
    with temporary_folder() as folder:
        files = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in files.stdout.splitlines():
            if (ROOT / name).is_file():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                copy(ROOT / name, target)
        path = folder / each.file
        before = path.read_text()
        assert before.count(each.old) == 1, f"{each.file} has changed: {each.old}"
        path.write_text(before.replace(each.old, each.new))
        tests = [f"tests/test_{name}.py" for name in CORE]
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist=loadfile", "--tb=no", *tests]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        done = subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=LIMIT_S
        )
    print(f"{each.words}: {done.stdout.strip().splitlines()[-1]}", flush=True)
    return re.findall(r"^(?:FAILED|ERROR) tests/(.+?)(?: - .*)?$", done.stdout, re.MULTILINE)


def main() -> int:
    lines = ["| a build in which | is caught by |", "|---|---|"]
    uncaught = []
    for each in BREAKS:
        names = caught_by(each)
        if not names:
            uncaught.append(each.words)
        files: dict[str, list[str]] = {}
        for name in names:
            file, _, test = name.partition("::")
            files.setdefault(file, []).append(test)
        named = [f"`{file}::{tests[0]}`" for file, tests in files.items()][:NAMED_MAX]
        rest = len(names) - len(named)
        more = f" and {rest} more" if rest else ""
        lines.append(f"| {each.words[0].lower()}{each.words[1:]} | {', '.join(named)}{more} |")
    put(Path(PAGE), BEGIN, END, "\n".join(lines))
    for words in uncaught:
        print(f"NOT CAUGHT: {words}")
    return 1 if uncaught else 0


if __name__ == "__main__":
    sys.exit(main())
