"""Which inputs a kernel is checked on."""

from __future__ import annotations

import os

from attrs import frozen

from search_engine.task import Task

# In the order of the check: the user's own values first, then what breaks most wrong kernels.
# What each is for:
#   default   the module's own inputs (get_inputs), or standard normal
#   mean1000  unstable formulas: E[x²] − m²
#   normal    the ordinary case
#   x10       soft caps and clamps at a few units; parameters left out
#   wide      eight decades of magnitude: one small row beside a large one
#   tiny      eps in denominators, sums that vanish beside it
#   large     saturation; exp without the maximum taken off
#   ties      exact zeros and equal neighbours: argmax, max-pool, comparisons
#   shift     a mean that is not zero
#   uniform   [-1, 1]
DISTRIBUTIONS = (
    "default", "mean1000", "normal", "x10", "wide", "tiny", "large", "ties", "shift", "uniform",
)  # fmt: skip

# Where one run takes seconds, what each of the others finds these find as well, most of the time.
FEW = ("default", "mean1000", "wide", "large", "ties")

# Errors are pooled over so many independent reductions, where _MOST_DRAWS get there: around
# 1000 an honest kernel on four rows is 4.9 times over eager once in a hundred times, on 64
# rows 1.7 times (benchmarks/accuracy_line.py).
_REDUCTIONS = 64
_FEW_DRAWS = 3
_MOST_DRAWS = 8
_LUCKY = ("mean1000", "shift")


@frozen
class Plan:
    """What to draw, in order: (distribution, number of draws)."""

    steps: tuple[tuple[str, int], ...]
    seed: int

    def seed_of(self, distribution: str, index: int) -> int:
        """The seed of one draw; different for each."""
        step = [name for name, _ in self.steps].index(distribution)
        return self._stream(step * 64 + index)

    def special_seed(self, number: int) -> int:
        """The seed of a run on special values; different from all of ``seed_of``."""
        return self._stream(64 * 64 + number)

    def _stream(self, number: int) -> int:
        return (self.seed + number * 0x9E3779B97F4A7C15) % 2**62


def plan(task: Task, seed: int | None, *, few: bool = False) -> Plan:
    """The draws for a task; ``seed`` None takes a secret one from the system.

    ``few`` leaves out distributions that others nearly cover, for slow devices.

    Errors are pooled over the draws of a distribution: the fewer reductions a draw has, the
    more draws.
    """
    largest = max((t.numel for t in (*task.inputs, *task.outputs)), default=1)
    reductions = max(1, largest // max(1, task.longest_reduction))
    wanted = -(-_REDUCTIONS // reductions)
    if seed is None:
        seed = int.from_bytes(os.urandom(8), "little") >> 2
    floating = any(t.dtype.startswith(("float", "bfloat")) for t in task.inputs)
    names: tuple[str, ...] = FEW if few else DISTRIBUTIONS
    if not floating:
        names = ("default", "uniform")

    def draws(name: str) -> int:
        most = _MOST_DRAWS if name in _LUCKY else _FEW_DRAWS
        least = 2 if name in ("default", "normal") and not few else 1
        return max(least, min(wanted, most))

    steps = tuple((name, draws(name)) for name in names)
    return Plan(steps, seed)
