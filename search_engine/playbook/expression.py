"""Values of one element: loads, constants, operators, and results of row statistics.

Expressions are immutable and compared by content, so equal work is found by equality.
Array indices are affine in the axes of the iteration space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from attrs import field, frozen


@frozen(cache_hash=True)
class Bound:
    """The condition 0 ≤ constant + Σ factor × axis < size: inside along one dimension."""

    terms: tuple[tuple[str, int], ...]  # (axis name, factor), zeros left out, by axis name
    constant: int
    size: int

    def factor(self, axis: str) -> int:
        """How far the index moves with one step of the axis."""
        return dict(self.terms).get(axis, 0)

    def reach(self, sizes: Mapping[str, int]) -> tuple[int, int]:
        """The least and the greatest index, over axes of these sizes."""
        ends = [factor * (sizes[axis] - 1) for axis, factor in self.terms]
        return (
            self.constant + sum(min(end, 0) for end in ends),
            self.constant + sum(max(end, 0) for end in ends),
        )

    def always(self, sizes: Mapping[str, int]) -> bool:
        """Whether the condition holds everywhere, so that nobody need check it."""
        low, high = self.reach(sizes)
        return low >= 0 and high < self.size


@frozen(cache_hash=True)
class Load:
    """One element of a task's tensor: offset + Σ stride × axis, in elements.

    Where one of ``bounds`` does not hold the value is 0 and no memory is touched.
    """

    tensor: str
    dtype: str
    strides: tuple[tuple[str, int], ...]  # (axis name, elements per step), zeros left out
    offset: int = 0
    bounds: tuple[Bound, ...] = ()

    def stride(self, axis: str) -> int:
        """Elements between neighbours along the axis, 0 where the load is broadcast."""
        return dict(self.strides).get(axis, 0)

    @property
    def axes(self) -> frozenset[str]:
        """Names of the axes along which the value may change."""
        names = {name for name, _ in self.strides}
        return frozenset(names | {name for bound in self.bounds for name, _ in bound.terms})


@frozen(cache_hash=True)
class Inside:
    """True where all bounds hold: padding with c is ``where(Inside(b), value, c)``."""

    bounds: tuple[Bound, ...]

    @property
    def dtype(self) -> str:
        """A condition."""
        return "bool"

    @property
    def axes(self) -> frozenset[str]:
        """Names of the axes along which the value may change."""
        return frozenset(name for bound in self.bounds for name, _ in bound.terms)


@frozen(cache_hash=True)
class Position(Inside):
    """The index itself that its one bound is about: ``arange``, and what compares with it."""

    @property
    def dtype(self) -> str:
        """An index, as torch has them."""
        return "int64"


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

    kind "sum", "prod", "max", "min"; "argmax", "argmin": value and index, the column's number
    in the order of the program's columns; "moments": mean and m2 = Σ(x − mean)²; "softmax":
    max and sum = Σ exp(x − max). The last two have stable one-pass and two-pass forms. Kinds
    are open: an idea applies to those that it can accumulate.
    """

    kind: str
    body: Expression
    dtype: str


@frozen(cache_hash=True)
class Result:
    """One number of a statistic: its part "sum", "max", "min", "mean", "m2", ….

    A part is named after the statistic's kind where the kind has one number.
    """

    statistic: Statistic
    part: str

    @property
    def dtype(self) -> str:
        """Results are kept in the statistic's dtype, the place of an extreme in int64."""
        return "int64" if self.part == "index" else self.statistic.dtype


@frozen(cache_hash=True)
class Scan:
    """One number of a statistic over the columns up to this one: a prefix sum and its like.

    ``exclusive``: without this one; ``reverse``: over the columns from the last one down.
    """

    statistic: Statistic
    part: str
    exclusive: bool = False
    reverse: bool = False

    @property
    def dtype(self) -> str:
        """That of the statistic's result."""
        return Result(self.statistic, self.part).dtype


Expression: TypeAlias = "Load | Inside | Constant | Apply | Result | Scan"


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


def scans(*roots: Expression) -> tuple[Scan, ...]:
    """The distinct scans under the roots; statistics not entered."""
    return tuple(node for node in walk(*roots) if isinstance(node, Scan))


def loads(*roots: Expression) -> tuple[Load, ...]:
    """The distinct loads under the roots; statistics not entered."""
    return tuple(node for node in walk(*roots) if isinstance(node, Load))


def conditions(*roots: Expression) -> tuple[Inside, ...]:
    """The distinct conditions under the roots; statistics not entered."""
    return tuple(node for node in walk(*roots) if isinstance(node, Inside))


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
            elif isinstance(node, Scan):
                old = node.statistic
                body = Statistic(old.kind, visit(old.body), old.dtype)
                new = Scan(body, node.part, node.exclusive, node.reverse)
            changed = change(new)
            memo[node] = new if changed is None else changed
        return memo[value]

    return visit(root)
