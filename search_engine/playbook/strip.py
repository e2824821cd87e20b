"""Overlapping windows: values that neighbouring outputs share, as strips in registers.

Along one row axis (``out``) and one column axis (``tap``) a window's index moves as
out_step · out + tap_step · tap. Outputs next to each other then read the same values at
other taps: ``outputs`` of them with ``taps`` each need a strip of
out_step · (outputs − 1) + tap_step · (taps − 1) + 1 values, not outputs · taps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from attrs import frozen

from search_engine.playbook.expression import Apply, Constant, Expression, Inside, Load, Result
from search_engine.playbook.program import Axis, Program


@frozen
class Strip:
    """How outputs along one axis share their windows."""

    out: Axis  # the row axis along which a thread has several outputs
    tap: Axis  # the column axis along which their windows overlap
    out_step: int
    tap_step: int

    def length(self, outputs: int) -> int:
        """Values that so many neighbouring outputs need."""
        return self.out_step * (outputs - 1) + self.tap_step * (self.tap.size - 1) + 1

    @property
    def whole(self) -> int:
        """Places along the whole axis: a strip's last ones may lie beyond."""
        return self.length(self.out.size)

    def shares(self, outputs: int) -> bool:
        """Whether a strip has fewer values than the windows one by one."""
        return self.length(outputs) < outputs * self.tap.size

    def position(self, out: str, tap: str) -> str:
        """The C index into the strip of a tap of an output."""
        first = out if self.out_step == 1 else f"{out} * {self.out_step}"
        return f"{first} + {tap if self.tap_step == 1 else f'{tap} * {self.tap_step}'}"

    def where(self, first: str, step: str) -> dict[str, str]:
        """The axes' C expressions at place ``step`` of the strip that output ``first`` begins."""
        if self.out_step == 1:
            return {self.out.name: f"{first} + {step}", self.tap.name: "0"}
        return {self.out.name: first, self.tap.name: step}

    def holds(self, value: Expression) -> bool:
        """Whether the value is one of a strip: it changes with out and tap only as one place."""
        return _steps_of(value, self.out.name, self.tap.name) == {(self.out_step, self.tap_step)}

    def held(self, body: Expression) -> tuple[Expression, ...]:
        """The largest parts of the body that are values of the strip."""
        found: dict[Expression, None] = {}

        def visit(value: Expression) -> None:
            if self.holds(value):
                found[value] = None
            elif isinstance(value, Apply):
                for arg in value.args:
                    visit(arg)

        visit(body)
        return tuple(found)


def best_strip(program: Program, out: Axis, outputs: int = 8) -> Strip | None:
    """The column axis in which so many neighbours along ``out`` share most, if any does."""
    found: set[tuple[Axis, tuple[int, int]]] = set()
    for statistic in program.statistics:
        for tap in program.columns:
            for steps in _all_steps(statistic.body, out.name, tap.name):
                # A place must be a whole step along one of the two axes.
                if min(steps) == 1:
                    found.add((tap, steps))
    strips = [Strip(out, tap, *steps) for tap, steps in found]
    # Steps as long as the axis overlap nowhere: a plain reduction over a dimension before it.
    outputs = min(outputs, out.size)
    return min(
        (strip for strip in strips if strip.shares(outputs)),
        key=lambda s: (s.length(outputs) / s.tap.size, s.tap.name, s.out_step),
        default=None,
    )


def _all_steps(body: Expression, out: str, tap: str) -> set[tuple[int, int]]:
    found = set()
    for leaf in _leaves(body):
        for steps in _steps_of(leaf, out, tap):
            if all(steps):
                found.add(steps)
    return found


def _steps_of(value: Expression, out: str, tap: str) -> set[tuple[int, int]]:
    """In how many ways the value moves with the two axes, as least (out, tap) steps."""
    found: set[tuple[int, int]] = set()
    for leaf in _leaves(value):
        if isinstance(leaf, Load):
            found.add(_least(leaf.stride(out), leaf.stride(tap)))
        if isinstance(leaf, (Load, Inside)):
            found |= {_least(bound.factor(out), bound.factor(tap)) for bound in leaf.bounds}
    return found - {(0, 0)}


def _least(out: int, tap: int) -> tuple[int, int]:
    common = math.gcd(out, tap)
    if common == 0 or out < 0 or tap < 0:
        return out, tap
    return out // common, tap // common


def _leaves(value: Expression) -> Iterator[Expression]:
    if isinstance(value, Apply):
        for arg in value.args:
            yield from _leaves(arg)
    elif not isinstance(value, (Constant, Result)):
        yield value
