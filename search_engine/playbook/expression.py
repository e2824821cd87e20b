"""Values of one element: loads, constants, operators, and results of row statistics.

Expressions are immutable and compared by content, so equal work is found by equality.
Array indices are affine in the axes of the iteration space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from attrs import field, frozen


@frozen(cache_hash=True)
class Load:
    """One element of a task's tensor: offset + Σ stride × axis, in elements."""

    tensor: str
    dtype: str
    strides: tuple[tuple[str, int], ...]  # (axis name, elements per step), zeros left out
    offset: int = 0

    def stride(self, axis: str) -> int:
        """Elements between neighbours along the axis, 0 where the load is broadcast."""
        return dict(self.strides).get(axis, 0)


@frozen(cache_hash=True)
class Constant:
    """A literal used in work of the dtype."""

    value: float | int | bool
    dtype: str


@frozen(cache_hash=True)
class Apply:
    """A pointwise operator of ``operators.OPERATORS`` on other values.

    ``name`` is the graph's name for the value; it becomes the variable's name.
    """

    op: str
    args: tuple[Expression, ...]
    dtype: str
    name: str = field(default="", eq=False)


@frozen(cache_hash=True)
class Statistic:
    """A reduction of ``body`` over all columns of a row.

    kind "sum", "max", "min"; "moments": mean and m2 = Σ(x − mean)²; "softmax": max and
    sum = Σ exp(x − max). The last two have stable one-pass and two-pass forms.
    """

    kind: str
    body: Expression
    dtype: str


@frozen(cache_hash=True)
class Result:
    """One number of a statistic: its part "sum", "max", "min", "mean" or "m2"."""

    statistic: Statistic
    part: str

    @property
    def dtype(self) -> str:
        """Results are kept in the statistic's dtype."""
        return self.statistic.dtype


Expression: TypeAlias = "Load | Constant | Apply | Result"


def walk(*roots: Expression) -> Iterator[Expression]:
    """Every distinct expression under the roots, operands first; statistics not entered."""
    seen: set[Expression] = set()
    stack: list[tuple[Expression, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        node, operands_done = stack.pop()
        if node in seen:
            continue
        if operands_done or not isinstance(node, Apply):
            seen.add(node)
            yield node
            continue
        stack.append((node, True))
        stack.extend((arg, False) for arg in reversed(node.args))


def statistics(*roots: Expression) -> tuple[Statistic, ...]:
    """The statistics under the roots, each after those that its body needs."""
    found: dict[Statistic, None] = {}

    def visit(*values: Expression) -> None:
        for node in walk(*values):
            if isinstance(node, Result) and node.statistic not in found:
                visit(node.statistic.body)
                found[node.statistic] = None

    visit(*roots)
    return tuple(found)


def loads(*roots: Expression) -> tuple[Load, ...]:
    """The distinct loads under the roots; statistics not entered."""
    return tuple(node for node in walk(*roots) if isinstance(node, Load))


def rewrite(root: Expression, change: Callable[[Expression], Expression | None]) -> Expression:
    """The expression with ``change`` applied bottom-up, also inside statistics.

    ``change`` gets a node whose operands are changed already; None keeps it.
    """
    memo: dict[Expression, Expression] = {}

    def visit(value: Expression) -> Expression:
        for node in walk(value):
            if node in memo:
                continue
            new: Expression = node
            if isinstance(node, Apply):
                new = Apply(node.op, tuple(memo[a] for a in node.args), node.dtype, node.name)
            elif isinstance(node, Result):
                old = node.statistic
                new = Result(Statistic(old.kind, visit(old.body), old.dtype), node.part)
            changed = change(new)
            memo[node] = new if changed is None else changed
        return memo[value]

    return visit(root)
