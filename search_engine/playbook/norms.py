"""Normalisations: moments or mean squares over trailing dimensions, then a scale and a shift.

``NORMS[name](node, index, reader)`` gives the result's value at an index. Group and instance
norms are views around these (``decompose``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from search_engine.graph import Argument, Node
from search_engine.playbook.expression import Apply, Constant, Expression
from search_engine.playbook.index import Index
from search_engine.playbook.program import Unsupported
from search_engine.playbook.reductions import Reduction, cast, over, sum_dtype, without
from search_engine.playbook.views import argument, source

if TYPE_CHECKING:
    from search_engine.playbook.analyse import Reader


def _affine(value: Expression, weight: Argument, bias: Argument, at: Index, node: Node,
            reader: Reader, dtype: str) -> Expression:  # fmt: skip
    """value · weight + bias, either of them absent."""
    for op, parameter in (("mul", weight), ("add", bias)):
        if parameter is not None:
            value = Apply(op, (value, reader.operand(parameter, at, dtype)), dtype, node.name)
    return value


def _rsqrt(variance: Expression, eps: Argument, dtype: str, name: str) -> Expression:
    assert isinstance(eps, (int, float))
    return Apply("rsqrt", (Apply("add", (variance, Constant(eps, dtype)), dtype),), dtype, name)


def _trailing(node: Node, rank: int) -> list[int]:
    shape = argument(node, 1, "normalized_shape")
    assert isinstance(shape, tuple)
    return list(range(rank - len(shape), rank))


def normalised(
    name: str, dims: Sequence[int], index: Index, eps: Argument, node: Node, reader: Reader
) -> tuple[Expression, str]:
    """(x − mean) · rsqrt(var + eps) over the dimensions, at the index; the dtype of the work."""
    dtype = sum_dtype(reader.dtype(name))
    reduced = over(node, dims, without(index, dims), reader, dtype)
    here = reader.value(name, index)
    mean, squares = (reduced.result("moments", part) for part in ("mean", "m2"))
    rstd = _rsqrt(reduced.mean(squares, "variance"), eps, dtype, "rstd")
    centred = Apply("sub", (here, mean), dtype, "centred")
    return Apply("mul", (centred, rstd), dtype, node.name), dtype


def _layer_norm(node: Node, index: Index, reader: Reader) -> Expression:
    name = source(node)
    dims = _trailing(node, len(reader.shape(name)))
    value, dtype = normalised(name, dims, index, argument(node, 4, "eps", 1e-5), node, reader)
    weight, bias = argument(node, 2, "weight"), argument(node, 3, "bias")
    return _affine(value, weight, bias, index, node, reader, dtype)


# torch.nn.functional.rms_norm's own default where eps is None: the input dtype's epsilon,
# taken in the type that it computes in.
_EPSILON = {"float64": 2.220446049250313e-16}
_EPSILON_FLOAT = 1.1920928955078125e-07


def _rms_norm(node: Node, index: Index, reader: Reader) -> Expression:
    name = source(node)
    dims = _trailing(node, len(reader.shape(name)))
    dtype = sum_dtype(reader.dtype(name))
    reduced = over(node, dims, without(index, dims), reader, dtype)
    eps = argument(node, 3, "eps")
    if eps is None:
        eps = _EPSILON.get(dtype, _EPSILON_FLOAT)
    squares = reduced.of(Apply("mul", (reduced.body, reduced.body), dtype)).result("sum")
    rrms = _rsqrt(reduced.mean(squares, "mean_square"), eps, dtype, "rrms")
    value = Apply("mul", (reader.value(name, index), rrms), dtype, node.name)
    return _affine(value, argument(node, 2, "weight"), None, index, node, reader, dtype)


def _batch_norm(node: Node, index: Index, reader: Reader) -> Expression:
    """Batch normalisation in eval: running statistics, one per channel; no reduction."""
    mean, var = argument(node, 3, "running_mean"), argument(node, 4, "running_var")
    if argument(node, 5, "training", False) or mean is None or var is None:
        raise Unsupported(f"No playbook idea covers {node.op} by the batch's own statistics yet.")
    name = source(node)
    dtype = sum_dtype(reader.dtype(name))
    channel = (index[1],)
    here = cast(reader.value(name, index), dtype)
    centred = Apply("sub", (here, reader.operand(mean, channel, dtype)), dtype, "centred")
    eps = argument(node, 7, "eps", 1e-5)
    scale = _rsqrt(reader.operand(var, channel, dtype), eps, dtype, "rstd")
    weight, bias = argument(node, 1, "weight"), argument(node, 2, "bias")
    if weight is not None:  # one factor per channel: an element is rounded once less
        scale = Apply("mul", (scale, reader.operand(weight, channel, dtype)), dtype, "scale")
    value = Apply("mul", (centred, scale), dtype, node.name)
    return _affine(value, None, bias, channel, node, reader, dtype)


NORMS: dict[str, Reduction] = {
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "batch_norm": _batch_norm,
}
