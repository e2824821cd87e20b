"""Values that follow from the place alone: ranges, one-hot vectors, triangles of matrices.

``POSITIONS[name](node, index, reader)`` gives the value at an index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_engine.graph import Node
from search_engine.playbook.expression import (
    Apply,
    Constant,
    Expression,
    Position,
)
from search_engine.playbook.index import Affine, Index
from search_engine.playbook.joined import inside, minus
from search_engine.playbook.program import Unsupported
from search_engine.playbook.reductions import Reduction
from search_engine.playbook.views import argument, source

if TYPE_CHECKING:
    from search_engine.playbook.analyse import Reader

_ANYWHERE = 2**31 - 1  # a size that no index reaches


def position(at: Affine) -> Expression:
    """The index itself, as a value in int64."""
    if not at.terms:
        return Constant(at.constant, "int64")
    return Position(inside(at, _ANYWHERE).bounds)


def _arange(node: Node, index: Index, reader: Reader) -> Expression:
    """``arange(end)``, ``arange(start, end)``, ``arange(start, end, step)``."""
    numbers = [a for a in node.args if isinstance(a, (int, float))]
    start: float = numbers[0] if len(numbers) > 1 else 0
    step: float = numbers[2] if len(numbers) > 2 else 1
    here = position(index[0])
    whole = isinstance(start, int) and isinstance(step, int)
    dtype = "int64" if whole and node.dtype == "int64" else node.dtype
    value: Expression = here if dtype == "int64" else Apply("cast", (here,), dtype)
    if step != 1:
        value = Apply("mul", (value, Constant(step, dtype)), dtype)
    if start != 0:
        value = Apply("add", (value, Constant(start, dtype)), dtype, node.name)
    return value


def _one_hot(node: Node, index: Index, reader: Reader) -> Expression:
    """1 where the last index is the class, else 0."""
    label = reader.value(source(node), index[:-1])
    if label.dtype != "int64":
        raise Unsupported(f"No playbook idea covers {node.op} of {label.dtype} yet.")
    same = Apply("eq", (position(index[-1]), label), "bool")
    return Apply("cast", (same,), node.dtype, node.name)


def _triangle(upper: bool) -> Reduction:
    """tril keeps column ≤ row + diagonal, triu column ≥ row + diagonal; 0 elsewhere."""

    def read(node: Node, index: Index, reader: Reader) -> Expression:
        diagonal = argument(node, 1, "diagonal", 0)
        assert isinstance(diagonal, int)
        row, column = index[-2:]
        distance = minus(column, row) if upper else minus(row, column)
        kept = inside(distance.scaled(1, -diagonal if upper else diagonal), _ANYWHERE)
        value = reader.value(source(node), index)
        zero = Constant(0, node.dtype)
        return Apply("where", (kept, value, zero), node.dtype, node.name)

    return read


def _eye(node: Node, index: Index, reader: Reader) -> Expression:
    """1 on the diagonal."""
    same = Apply("eq", (position(index[0]), position(index[1])), "bool")
    return Apply("cast", (same,), node.dtype, node.name)


POSITIONS: dict[str, Reduction] = {
    "arange": _arange,
    "one_hot": _one_hot,
    "tril": _triangle(upper=False),
    "triu": _triangle(upper=True),
    "eye": _eye,
}
