"""Where to cut a graph into loop nests: a small dynamic programme over cut positions.

A cut costs what it stores, reads again and launches; a fusion what it computes twice. Every
stretch whose nest exists and that some idea covers may be part of a partition.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from contextlib import suppress

from attrs import frozen

from search_engine.hardware import DeviceFacts
from search_engine.playbook import cost
from search_engine.playbook.program import Program, Unsupported
from search_engine.playbook.steps import Steps

# A stretch that is no nest rarely becomes one by growing: stop after so many failures.
_PATIENCE = 3
_LONGEST = 48  # steps of a stretch, unless it is the whole graph
_BEST = 4  # partitions that are followed up to each position
_ENOUGH_ASKED = 12  # stretches of which ideas are asked; more only for the best partition


@frozen
class Partition:
    """Cut positions from 0 to the number of steps, and the modelled time in seconds."""

    cuts: tuple[int, ...]
    seconds: float

    @property
    def stretches(self) -> tuple[tuple[int, int], ...]:
        """(begin, end) of every stretch."""
        return tuple(zip(self.cuts, self.cuts[1:], strict=False))


def partitions(
    steps: Steps, facts: DeviceFacts, predicted: Callable[[Program], float]
) -> Sequence[Partition]:
    """Different partitions, the fastest by prediction first; none where a step fits no nest.

    ``predicted`` gives the seconds that the best idea promises for a nest, infinity where no
    idea covers it. As it costs milliseconds it is asked only of stretches that good
    partitions use: until then a stretch counts with the least time that is possible.
    """
    seconds = _least_seconds(steps, facts)
    known: set[tuple[int, int]] = set()
    while True:
        found = _fastest(len(steps.nodes), seconds)
        # First the best partition for certain, then a few others.
        wanted = found[:1] if len(known) >= _ENOUGH_ASKED else found
        asked: set[tuple[int, int]] = set()
        for partition in wanted:
            asked = set(partition.stretches) - known
            if asked:
                break
        if not asked:
            return [p for p in found if known.issuperset(p.stretches)]
        for stretch in asked:
            known.add(stretch)
            seconds[stretch] = predicted(steps.program(*stretch))
            if math.isinf(seconds[stretch]):
                del seconds[stretch]


def _least_seconds(steps: Steps, facts: DeviceFacts) -> dict[tuple[int, int], float]:
    """The least time of every stretch that is one loop nest."""
    found: dict[tuple[int, int], float] = {}
    count = len(steps.nodes)
    for begin in range(count):
        failures = 0
        for end in range(begin + 1, min(count, begin + _LONGEST) + 1):
            try:
                found[begin, end] = cost.least_seconds(steps.program(begin, end), facts)
                failures = 0
            except Unsupported:
                failures += 1
                if failures == _PATIENCE:
                    break
    if count > _LONGEST:
        with suppress(Unsupported):
            found[0, count] = cost.least_seconds(steps.program(0, count), facts)
    return found


def _fastest(count: int, seconds: dict[tuple[int, int], float]) -> list[Partition]:
    """The few fastest partitions of ``count`` steps, the fastest first."""
    ending: dict[int, list[tuple[int, float]]] = {}
    for (begin, end), time in seconds.items():
        ending.setdefault(end, []).append((begin, time))
    best: list[list[tuple[float, tuple[int, ...]]]] = [[(0.0, (0,))]]
    for end in range(1, count + 1):
        reached = (
            (total + time, (*cuts, end))
            for begin, time in ending.get(end, [])
            for total, cuts in best[begin]
        )
        best.append(heapq.nsmallest(_BEST, reached, key=_order))
    return [Partition(cuts, total) for total, cuts in best[count]]


def _order(partition: tuple[float, tuple[int, ...]]) -> tuple[float, tuple[int, ...]]:
    """By time; of equal ones that which cuts late: work goes behind what it follows."""
    total, cuts = partition
    return round(total, 9), tuple(-cut for cut in cuts)
