"""Where to cut a graph into loop nests: a small dynamic programme over cut positions.

A cut costs what it stores, reads again and launches; a fusion what it computes twice. Every
stretch whose nest exists and that some idea covers may be part of a partition.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress

from attrs import frozen

from search_engine.hardware import DeviceFacts
from search_engine.playbook import cost
from search_engine.playbook.cancellation import cut_before_difference
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
    stretches = _Stretches(steps, facts)
    while True:
        found = _fastest(len(steps.nodes), stretches.seconds)
        # First the best partition for certain, then a few others.
        wanted = found[:1] if stretches.asked >= _ENOUGH_ASKED else found
        unknown = (set(p.stretches) - stretches.known for p in wanted)
        asked = next((some for some in unknown if some), None)
        if asked is None:
            return [p for p in found if stretches.known.issuperset(p.stretches)]
        for stretch in sorted(asked):
            stretches.ask(stretch, predicted)


class _Stretches:
    """The time of every stretch that is one loop nest: the least possible, or what is known.

    Stretches that compute the same of other values are asked for once.
    """

    def __init__(self, steps: Steps, facts: DeviceFacts) -> None:
        self.steps, self.facts = steps, facts
        self.seconds: dict[tuple[int, int], float] = {}
        self.known: set[tuple[int, int]] = set()
        self.asked = 0
        self._same: dict[Hashable, list[tuple[int, int]]] = {}
        self._signatures: dict[tuple[int, int], Hashable] = {}
        self._least: dict[Hashable, float | None] = {}
        self._rounding: set[Hashable] = set()  # nests that may not end where they do
        count = len(steps.nodes)
        for begin in range(count):
            failures = 0
            for end in range(begin + 1, min(count, begin + _LONGEST) + 1):
                failures = 0 if self._is_nest((begin, end)) else failures + 1
                if failures == _PATIENCE:
                    break
        if count > _LONGEST:
            self._is_nest((0, count))

    def _is_nest(self, stretch: tuple[int, int]) -> bool:
        signature = self.steps.signature(*stretch)
        if signature not in self._least:
            self._least[signature] = None
            with suppress(Unsupported):
                program = self.steps.program(*stretch)
                if cut_before_difference(program, self.steps.nodes[stretch[1] :]):
                    self._rounding.add(signature)
                self._least[signature] = cost.least_seconds(program, self.facts)
        least = self._least[signature]
        if least is None:
            return False
        if signature in self._rounding:
            return True  # a longer one may do without the cut
        self.seconds[stretch] = least
        self._signatures[stretch] = signature
        self._same.setdefault(signature, []).append(stretch)
        return True

    def ask(self, stretch: tuple[int, int], predicted: Callable[[Program], float]) -> None:
        """Put the predicted time in place of the least one, for all stretches like this one."""
        if stretch in self.known:
            return
        self.asked += 1
        seconds = predicted(self.steps.program(*stretch))
        for same in self._same[self._signatures[stretch]]:
            self.known.add(same)
            self.seconds[same] = seconds
            if math.isinf(seconds):
                del self.seconds[same]


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
