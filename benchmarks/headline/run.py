"""Optimise the headline modules through ``kernel-lsp optimize`` and print the table.

    python benchmarks/headline/run.py [--only softmax] [--rounds 3]

Needs an NVIDIA GPU. Every figure comes from the run's own measurements: kernel, eager and
torch.compile interleaved in one session.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from search_engine.store.records import Run
from search_engine.store.store import Store

HERE = Path(__file__).resolve().parent
NAMES = ("layernorm", "softmax", "pointwise")


def optimise(name: str, extra: list[str]) -> tuple[Run, float]:
    """The finished run of one module and the seconds that the command took."""
    path = HERE / f"{name}.py"
    started = time.monotonic()
    command = [sys.executable, "-m", "kernel_lsp", "optimize", str(path), *extra]
    done = subprocess.run(command, check=False)
    seconds = time.monotonic() - started
    print(f"{name}: exit code {done.returncode} after {seconds:.0f} s", flush=True)
    with Store() as store:
        run = store.latest(str(path), "Model")
    if run is None:
        raise SystemExit(f"{name}: no run was stored")
    return run, seconds


def milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:.3f}"


def row(name: str, run: Run, seconds: float) -> str:
    """One line of the table; the spread is half the 95% interval of the kernel's median."""
    limit = None if run.task is None else run.task.limit_seconds
    best = run.winner or run.best
    measured = None if best is None else best.measurement
    if measured is None or limit is None or best is None:
        return f"| {name} | – | – | – | {milliseconds(limit)} | – | – | {run.message} |"
    modes = ", ".join(
        f"{mode} {milliseconds(sample.median)}" for mode, sample in measured.compiled.items()
    )
    spread = (measured.kernel.high - measured.kernel.low) / 2 / measured.kernel.median
    over = "–" if measured.over_compile is None else f"×{measured.over_compile:.2f}"
    return (
        f"| {name} | {milliseconds(measured.eager.median)} | {modes} "
        f"| {milliseconds(measured.kernel.median)} (±{spread:.1%}) | {milliseconds(limit)} "
        f"| ×{measured.over_eager:.2f} | {over} "
        f"| {len(run.accepted_kernels)} of {len(run.kernels)} kernels verified, {seconds:.0f} s; "
        f"{'offered' if run.delivery is not None else run.message} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Other options go to `kernel-lsp optimize`.")
    parser.add_argument("--only", choices=NAMES, action="append")
    options, extra = parser.parse_known_args()
    rows = []
    for name in options.only or NAMES:
        run, seconds = optimise(name, extra)
        rows.append(row(name, run, seconds))
    print("\nTimes in milliseconds, medians; limit from measured bandwidth and datasheet rates.\n")
    print("| module | eager | torch.compile | kernel | limit | over eager | over compile | run |")
    print("|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
