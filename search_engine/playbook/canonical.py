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

    def mean_body(node: Expression) -> Expression | None:
        """x where the node is Σx / columns."""
        if not (isinstance(node, Apply) and node.op == "div"):
            return None
        total, count = node.args
        if not (isinstance(total, Result) and total.statistic.kind == "sum"):
            return None
        if not (isinstance(count, Constant) and count.value == columns):
            return None
        return total.statistic.body

    def name(node: Expression) -> Expression | None:
        """Σ(x − mean)² and Σexp(x − max), where the node is one of them."""
        if not (isinstance(node, Result) and node.statistic.kind == "sum"):
            return None
        body, dtype = node.statistic.body, node.statistic.dtype
        if _is(body, "mul") and body.args[0] == body.args[1] and _is(body.args[0], "sub"):
            value, mean = body.args[0].args
            if mean_body(mean) == value:
                return Result(Statistic("moments", value, dtype), "m2")
        if _is(body, "exp") and _is(body.args[0], "sub"):
            value, top = body.args[0].args
            if _is_max_of(top, value):
                return Result(Statistic("softmax", value, dtype), "sum")
        return None

    named = [rewrite(value, name) for value in values]
    present = {(s.kind, s.body): s for s in statistics(*named)}

    def share(node: Expression) -> Expression | None:
        """Use the mean of moments, and the maximum of a softmax, that are there anyway.

        The mean only where it is subtracted from its own values: elsewhere (as an output, say)
        the plain sum stands, which survives an infinity among the values.
        """
        if _is(node, "sub") and mean_body(node.args[1]) == node.args[0]:
            moments = present.get(("moments", node.args[0]))
            if moments is not None:
                centre = Result(moments, "mean")
                return Apply("sub", (node.args[0], centre), node.dtype, node.name)
        if isinstance(node, Result) and node.statistic.kind == "max":
            softmax = present.get(("softmax", node.statistic.body))
            return None if softmax is None else Result(softmax, "max")
        return None

    return [rewrite(value, share) for value in named]


def _is(node: Expression, op: str) -> TypeGuard[Apply]:
    return isinstance(node, Apply) and node.op == op


def _is_max_of(node: Expression, value: Expression) -> bool:
    return (
        isinstance(node, Result)
        and node.part == "max"
        and node.statistic.kind in ("max", "softmax")
        and node.statistic.body == value
    )
