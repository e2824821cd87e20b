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

_MANY_ROWS = 64  # so many rows in one draw make up for further draws
_DRAWS = 3


@frozen
class Plan:
    """What to draw, in order: (distribution, number of draws)."""

    steps: tuple[tuple[str, int], ...]
    seed: int

    def seed_of(self, distribution: str, index: int) -> int:
        """The seed of one draw; different for each."""
        step = [name for name, _ in self.steps].index(distribution)
        return (self.seed + (step * 64 + index) * 0x9E3779B97F4A7C15) % 2**62


def plan(task: Task, seed: int | None) -> Plan:
    """The draws for a task; ``seed`` None takes a secret one from the system.

    Errors are pooled over the draws of a distribution. Outputs of few rows need several:
    eager may be lucky on one.
    """
    rows = min((t.numel // max(t.shape[-1:] or (1,)) for t in task.outputs), default=1)
    few = rows < _MANY_ROWS
    if seed is None:
        seed = int.from_bytes(os.urandom(8), "little") >> 2
    floating = any(t.dtype.startswith(("float", "bfloat")) for t in task.inputs)
    names = DISTRIBUTIONS if floating else ("default", "uniform")
    steps = tuple(
        (name, _DRAWS if few else 2 if name in ("default", "normal") else 1) for name in names
    )
    return Plan(steps, seed)
