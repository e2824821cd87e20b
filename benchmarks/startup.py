"""``initialize`` of kernel-lsp beside a bare pygls server, interleaved.

Prints both medians in milliseconds, from the start of the process to the answer, and their
ratio. The target is 1.25.

    python benchmarks/startup.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from wire import Wire, python

BARE = """
from pygls.lsp.server import LanguageServer
LanguageServer("bare", "1").start_io()
"""


def answered(command: list[str]) -> float:
    start = time.perf_counter()
    wire = Wire(command)
    wire.request("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
    seconds = time.perf_counter() - start
    wire.end()
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    commands = {
        "bare pygls": python("-c", BARE),
        "kernel-lsp": python("-m", "kernel_lsp", "serve"),
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        answered(command)  # warm the page cache
    for _ in range(options.rounds):
        for name, command in commands.items():
            times[name].append(answered(command))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:12}{median * 1e3:8.0f} ms")
    print(f"ratio {medians['kernel-lsp'] / medians['bare pygls']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
