"""What depends on the row alone, found and taken out of the loop over columns."""

from __future__ import annotations

from collections.abc import Sequence

from search_engine.playbook.dtypes import is_float
from search_engine.playbook.expression import (
    Apply,
    Constant,
    Expression,
    Inside,
    Load,
    Result,
    Scan,
    rewrite,
    walk,
)
from search_engine.playbook.program import Program


def hoisted(
    program: Program, values: Sequence[Expression]
) -> tuple[list[Expression], list[Expression]]:
    """Values with divisions by row constants turned to products, and the row constants.

    Returns (values, row values): the maximal subexpressions that do not change along a row,
    which kernels compute once per row. A division costs nine instructions an element, the
    product with the row's reciprocal one; it rounds once more (half an ulp).
    """
    varies: dict[Expression, bool] = {}

    def column(node: Expression) -> bool:
        if node not in varies:
            if isinstance(node, Apply):
                varies[node] = any(column(arg) for arg in node.args)
            else:
                place = isinstance(node, (Load, Inside)) and program.reads_columns(node)
                varies[node] = place or isinstance(node, Scan)
        return varies[node]

    def change(node: Expression) -> Expression | None:
        if isinstance(node, Apply) and node.op == "div" and is_float(node.dtype):
            top, bottom = node.args
            if column(top) and not column(bottom) and not isinstance(bottom, Constant):
                inverse = Apply("reciprocal", (bottom,), bottom_dtype(bottom, node), "inverse")
                return Apply("mul", (top, inverse), node.dtype, node.name)
        return None

    changed = [rewrite(value, change) for value in values]
    constants: dict[Expression, None] = {}
    stack = list(reversed(changed))
    while stack:
        node = stack.pop()
        if isinstance(node, Constant):
            continue
        if not column(node):
            if has_row_source(node):
                constants[node] = None
        elif isinstance(node, Apply):
            stack.extend(reversed(node.args))
    return changed, list(constants)


def bottom_dtype(bottom: Expression, node: Apply) -> str:
    """The dtype of a reciprocal: the divisor's own where it is floating."""
    return bottom.dtype if is_float(bottom.dtype) else node.dtype


def has_row_source(node: Expression) -> bool:
    """Whether the value reads anything at all (a pure literal needs no variable)."""
    return any(isinstance(n, (Load, Inside, Result)) for n in walk(node))
