"""The leanest client of a webhook receiver in Python: http.client in some threads of two processes, each on a
connection that stays open. Nothing is signed, looked up or written down: what is left is the limit.

`python -m bench.posts PORT SECONDS` is one of the processes; it prints how many posts were answered.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time

from config import ROOT

PROCESSES = 2  # as many as the machine of the targets has cores
THREADS = 4  # in each: while one waits, another sends
BODY = (
    b'{"id":"evt_0000000000000000","event":"payment.success","data":"' + b"x" * 700 + b'"}'
)  # a usual length
HEADERS = {"Content-Type": "application/json; charset=utf-8"}


def rate(port: int, duration_s: float) -> float:
    """Posts a second, of all processes together."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.posts", str(port), str(duration_s)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    counts = [int(process.communicate()[0]) for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("a process of the bare POST loop broke")
    return sum(counts) / duration_s


def main(port: int, duration_s: float) -> None:
    deadline = time.monotonic() + duration_s
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(post_until(port, deadline))) for _ in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sum(counts))


def post_until(port: int, deadline: float) -> int:
    """Post one after the other on one connection; gives how many were answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    count = 0
    while time.monotonic() < deadline:
        connection.request("POST", "/hook", BODY, HEADERS)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the receiver answered {answer.status}")
        count += 1
    connection.close()
    return count


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
