"""Hand-written norms and softmaxes, recognised and put in their stable named form.

x − mean(x) squared and summed becomes the moments of x; exp(x − amax(x)) summed becomes the
softmax statistic of x. So a hand-written LayerNorm and ``aten.layer_norm`` are one program,
and the one-pass kernels (Welford, online softmax) serve both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from search_engine.playbook.expression import (
    Apply,
    Constant,
    Expression,
    Result,
    Statistic,
    rewrite,
    statistics,
)


def canonical(values: Sequence[Expression], columns: int) -> list[Expression]:
    """The values with their statistics in named form; ``columns`` is a row's length."""
    named = [rewrite(value, lambda node: _named(node, columns)) for value in values]
    present = {(s.kind, s.body): s for s in statistics(*named)}
    return [rewrite(value, lambda node: _shared(node, columns, present)) for value in named]


def _named(node: Expression, columns: int) -> Expression | None:
    """The moments or softmax statistic that the sum is, if it is one."""
    if not (isinstance(node, Result) and node.statistic.kind == "sum"):
        return None
    body, dtype = node.statistic.body, node.statistic.dtype
    if _is(body, "mul") and body.args[0] == body.args[1] and _is(body.args[0], "sub"):
        value, mean = body.args[0].args
        if _mean_body(mean, columns) == value:
            return Result(Statistic("moments", value, dtype), "m2")
    if _is(body, "exp") and _is(body.args[0], "sub"):
        value, top = body.args[0].args
        if _is_max_of(top, value):
            return Result(Statistic("softmax", value, dtype), "sum")
    return None


def _shared(
    node: Expression, columns: int, present: dict[tuple[str, Expression], Statistic]
) -> Expression | None:
    """Use the mean of moments, and an extreme with its place or of a softmax, that are there.

    The mean only where it is subtracted from its own values: elsewhere (as an output, say)
    the plain sum stands, which survives an infinity among the values.
    """
    if _is(node, "sub") and _mean_body(node.args[1], columns) == node.args[0]:
        moments = present.get(("moments", node.args[0]))
        if moments is not None:
            centre = Result(moments, "mean")
            return Apply("sub", (node.args[0], centre), node.dtype, node.name)
    if isinstance(node, Result) and node.statistic.kind in ("max", "min"):
        kind, body = node.statistic.kind, node.statistic.body
        softmax = present.get(("softmax", body)) if kind == "max" else None
        place = present.get((f"arg{kind}", body))
        if place is not None:
            return Result(place, "value")
        return None if softmax is None else Result(softmax, "max")
    return None


def _mean_body(node: Expression, columns: int) -> Expression | None:
    """x where the node is Σx / columns."""
    if not _is(node, "div"):
        return None
    total, count = node.args
    is_sum = isinstance(total, Result) and total.statistic.kind == "sum"
    if not (is_sum and isinstance(count, Constant) and count.value == columns):
        return None
    assert isinstance(total, Result)
    return total.statistic.body


def _is(node: Expression, op: str) -> TypeGuard[Apply]:
    return isinstance(node, Apply) and node.op == op


def _is_max_of(node: Expression, value: Expression) -> bool:
    return (
        isinstance(node, Result)
        and node.part == "max"
        and node.statistic.kind in ("max", "softmax")
        and node.statistic.body == value
    )
