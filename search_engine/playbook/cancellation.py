"""Where a row's result is a difference of nearly equal numbers, and its arithmetic in double.

1 − cos is 1e-6 where vectors are nearly parallel. The quotient of two floats that agree in 20
bits is 1 − m / b, m and b whole numbers of units in the last place; rounding it to a float
takes the same way for every row (m · 2⁻²⁴ against m / b), so no mean over rows takes the error
away. Once a row, double costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from search_engine.graph import Node
from search_engine.playbook.analyse import base_name
from search_engine.playbook.expression import Apply, Constant, Expression, Result, walk
from search_engine.playbook.program import Program

# Operators that hand a quotient on, whatever they do to its size.
_HANDED_ON = frozenset(
    [
        "div", "mul", "add", "sqrt", "rsqrt", "reciprocal", "pow", "clamp", "clamp_min", "maximum",
        "view", "reshape", "unsqueeze", "squeeze", "expand", "neg",
    ]
)  # fmt: skip


def cancels(value: Expression) -> bool:
    """Whether a difference is taken of a quotient of two statistics."""
    return any(
        isinstance(node, Apply)
        and node.op == "sub"
        and node.dtype == "float32"
        and any(_has_quotient(arg) for arg in node.args)
        for node in walk(value)
    )


def _has_quotient(value: Expression) -> bool:
    return any(
        isinstance(node, Apply) and node.op == "div" and all(_has_result(a) for a in node.args)
        for node in walk(value)
    )


def _has_result(value: Expression) -> bool:
    return any(isinstance(node, Result) for node in walk(value))


def in_double(value: Expression) -> Expression:
    """The expression with float work done in double; statistics and loads are as they are."""
    wide = {"float32": "float64"}
    if isinstance(value, Constant):
        return Constant(value.value, wide.get(value.dtype, value.dtype))
    if isinstance(value, Apply):
        args = tuple(in_double(arg) for arg in value.args)
        return Apply(value.op, args, wide.get(value.dtype, value.dtype), value.name)
    return value


def cut_before_difference(program: Program, later: Iterable[Node]) -> bool:
    """Whether later steps take a difference of a quotient that rests on what this nest stores.

    Stored between stages, its parts would be rounded to floats before they meet.
    """
    stored = [s for s in program.stores if not program.full(s) and s.dtype == "float32"]
    of_rows = {store.tensor for store in stored if _has_result(store.value)}
    quotients = {store.tensor for store in stored if _has_quotient(store.value)}
    for node in later if of_rows else ():
        name, read = base_name(node), node.references()
        if name in ("sub", "rsub") and quotients.intersection(read):
            return True
        if name not in _HANDED_ON or not of_rows.intersection(read):
            continue
        of_rows.add(node.name)
        of_both = len(read) > 1 and of_rows.issuperset(read)
        if quotients.intersection(read) or (name == "div" and of_both):
            quotients.add(node.name)
    return False
