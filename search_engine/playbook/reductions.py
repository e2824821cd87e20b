"""Operators over whole rows, as statistics and pointwise work on their results.

``REDUCTIONS[name](node, index, reader)`` gives the result's value at an index. Formulas are
the stable ones: squares about the mean, exponentials about the maximum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from search_engine.graph import Argument, Node
from search_engine.playbook.dtypes import is_float
from search_engine.playbook.expression import Apply, Constant, Expression, Result, Statistic
from search_engine.playbook.index import ZERO, Index
from search_engine.playbook.program import Unsupported
from search_engine.playbook.views import argument, source

if TYPE_CHECKING:
    from search_engine.playbook.analyse import Reader

Reduction = Callable[[Node, Index, "Reader"], Expression]


def _dims(value: Argument, rank: int) -> list[int]:
    """Reduced dimensions, in order; none given means all."""
    if value is None or value == ():
        return list(range(rank))
    listed = value if isinstance(value, tuple) else (value,)
    return sorted(int(d) % rank for d in listed)  # type: ignore[arg-type]


def _work_dtype(dtype: str) -> str:
    """Statistics are kept in float, in double for float64."""
    return "float64" if dtype == "float64" else "float32"


def _over(
    node: Node, dims: Sequence[int], index: Index, reader: Reader
) -> tuple[Expression, str, int]:
    """The operand at all columns, the dtype of the work, elements reduced.

    ``index`` is the result's, with or without the reduced dimensions kept.
    """
    name = source(node)
    shape = reader.shape(name)
    if not is_float(reader.dtype(name)):
        raise Unsupported(f"No playbook idea covers {node.op} over {reader.dtype(name)} yet.")
    if len(index) == len(shape):
        index = tuple(part for d, part in enumerate(index) if d not in dims)
    body = reader.value(name, reader.reduce_over(name, dims, index))
    return body, _work_dtype(reader.dtype(name)), math.prod(shape[d] for d in dims)


def _result(kind: str, part: str, body: Expression, dtype: str, count: int) -> Expression:
    """A number of a row's statistic; over one element it is pointwise work on that element."""
    if count > 1:
        return Result(Statistic(kind, body, dtype), part)
    # The difference is 0, but NaN for an infinity, as it is in torch.
    rest = Apply("sub", (body, body), dtype)
    if part == "m2":
        return Apply("mul", (rest, rest), dtype)
    return Apply("exp", (rest,), dtype) if (kind, part) == ("softmax", "sum") else body


def _scaled(value: Expression, count: float, dtype: str, name: str) -> Expression:
    return Apply("div", (value, Constant(float(count), dtype)), dtype, name)


def _extremum(kind: str) -> Reduction:
    def reduce(node: Node, index: Index, reader: Reader) -> Expression:
        dims = _dims(argument(node, 1, "dim"), len(reader.shape(source(node))))
        return _result(kind, kind, *_over(node, dims, index, reader))

    return reduce


def _sum(node: Node, index: Index, reader: Reader) -> Expression:
    dims = _dims(argument(node, 1, "dim"), len(reader.shape(source(node))))
    return _result("sum", "sum", *_over(node, dims, index, reader))


def _mean(node: Node, index: Index, reader: Reader) -> Expression:
    dims = _dims(argument(node, 1, "dim"), len(reader.shape(source(node))))
    body, dtype, count = _over(node, dims, index, reader)
    return _scaled(_result("sum", "sum", body, dtype, count), count, dtype, node.name)


def _variance(root: bool) -> Reduction:
    """var and std in their overloads: (unbiased), (dim, unbiased, keepdim), (dim, correction)."""

    def reduce(node: Node, index: Index, reader: Reader) -> Expression:
        rank = len(reader.shape(source(node)))
        overload = node.op.rsplit(".", 1)[-1]
        correction: Argument = 1
        if overload == "default":
            dims = list(range(rank))
            correction = int(bool(argument(node, 1, "unbiased", True)))
        else:
            dims = _dims(argument(node, 1, "dim"), rank)
            if overload == "dim":
                correction = int(bool(argument(node, 2, "unbiased", True)))
            else:
                correction = node.kwargs.get("correction", 1)
                correction = 1 if correction is None else correction
        body, dtype, count = _over(node, dims, index, reader)
        assert isinstance(correction, (int, float))
        squares = _result("moments", "m2", body, dtype, count)
        variance = _scaled(squares, max(count - correction, 0), dtype, node.name)
        return Apply("sqrt", (variance,), dtype, node.name) if root else variance

    return reduce


def _softmax(log: bool) -> Reduction:
    def reduce(node: Node, index: Index, reader: Reader) -> Expression:
        name = source(node)
        rank = max(len(reader.shape(name)), 1)
        dims = _dims(argument(node, 1, "dim", -1), rank)
        if not reader.shape(name):
            return Constant(0.0 if log else 1.0, node.dtype)
        over = _over(node, dims, _without(index, dims), reader)
        here, dtype = reader.value(name, index), over[1]
        top, total = (_result("softmax", part, *over) for part in ("max", "sum"))
        shifted = Apply("sub", (here, top), dtype, f"{node.name}_shifted")
        if log:
            log_total = Apply("log", (total,), dtype, "log_sum")
            return Apply("sub", (shifted, log_total), dtype, node.name)
        return Apply("div", (Apply("exp", (shifted,), dtype), total), dtype, node.name)

    return reduce


def _without(index: Index, dims: Sequence[int]) -> Index:
    return tuple(part for d, part in enumerate(index) if d not in dims)


def _logsumexp(node: Node, index: Index, reader: Reader) -> Expression:
    dims = _dims(argument(node, 1, "dim"), len(reader.shape(source(node))))
    over = _over(node, dims, index, reader)
    dtype = over[1]
    top, total = (_result("softmax", part, *over) for part in ("max", "sum"))
    log_total = Apply("log", (total,), dtype, "log_sum")
    # An infinite maximum is the result: about it, every exponential would be NaN.
    infinite = Apply("eq", (Apply("abs", (top,), dtype), Constant(math.inf, dtype)), "bool")
    finite = Apply("add", (top, log_total), dtype)
    return Apply("where", (infinite, top, finite), dtype, node.name)


def _affine(value: Expression, weight: Argument, bias: Argument, at: Index, node: Node,
            reader: Reader, dtype: str) -> Expression:  # fmt: skip
    """value · weight + bias, either of them absent."""
    for op, parameter in (("mul", weight), ("add", bias)):
        if parameter is not None:
            value = Apply(op, (value, reader.operand(parameter, at, dtype)), dtype, node.name)
    return value


def _normalised(
    name: str, dims: Sequence[int], index: Index, eps: float, node: Node, reader: Reader
) -> tuple[Expression, str]:
    """(x − mean) · rsqrt(var + eps) over the dimensions, at the index."""
    body, dtype, count = _over(node, dims, _without(index, dims), reader)
    here = reader.value(name, index)
    mean, squares = (_result("moments", part, body, dtype, count) for part in ("mean", "m2"))
    variance = _scaled(squares, count, dtype, "variance")
    rstd = Apply("rsqrt", (Apply("add", (variance, Constant(eps, dtype)), dtype),), dtype, "rstd")
    centred = Apply("sub", (here, mean), dtype, "centred")
    return Apply("mul", (centred, rstd), dtype, node.name), dtype


def _layer_norm(node: Node, index: Index, reader: Reader) -> Expression:
    name = source(node)
    rank = len(reader.shape(name))
    shape = argument(node, 1, "normalized_shape")
    assert isinstance(shape, tuple)
    dims = list(range(rank - len(shape), rank))
    eps = argument(node, 4, "eps", 1e-5)
    assert isinstance(eps, (int, float))
    value, dtype = _normalised(name, dims, index, eps, node, reader)
    weight, bias = argument(node, 2, "weight"), argument(node, 3, "bias")
    return _affine(value, weight, bias, index, node, reader, dtype)


# torch.nn.functional.rms_norm's own default where eps is None: the input dtype's epsilon,
# taken in the type that it computes in.
_EPSILON = {"float64": 2.220446049250313e-16}
_EPSILON_FLOAT = 1.1920928955078125e-07


def _rms_norm(node: Node, index: Index, reader: Reader) -> Expression:
    name = source(node)
    rank = len(reader.shape(name))
    shape = argument(node, 1, "normalized_shape")
    assert isinstance(shape, tuple)
    dims = list(range(rank - len(shape), rank))
    body, dtype, count = _over(node, dims, _without(index, dims), reader)
    eps = argument(node, 3, "eps")
    if eps is None:
        eps = _EPSILON.get(dtype, _EPSILON_FLOAT)
    assert isinstance(eps, (int, float))
    squares = _result("sum", "sum", Apply("mul", (body, body), dtype), dtype, count)
    mean = _scaled(squares, count, dtype, "mean_square")
    rrms = Apply("rsqrt", (Apply("add", (mean, Constant(eps, dtype)), dtype),), dtype, "rrms")
    value = Apply("mul", (reader.value(name, index), rrms), dtype, node.name)
    return _affine(value, argument(node, 2, "weight"), None, index, node, reader, dtype)


def _vector_norm(node: Node, index: Index, reader: Reader) -> Expression:
    order = argument(node, 1, "ord", 2)
    dims = _dims(argument(node, 2, "dim"), len(reader.shape(source(node))))
    body, dtype, count = _over(node, dims, index, reader)
    magnitude = Apply("abs", (body,), dtype)
    if count == 1 and order in (1, 2, math.inf, "inf"):
        return magnitude
    if order == 2:
        squares = _result("sum", "sum", Apply("mul", (body, body), dtype), dtype, count)
        return Apply("sqrt", (squares,), dtype, node.name)
    if order == 1:
        return _result("sum", "sum", magnitude, dtype, count)
    if order in (math.inf, "inf"):
        return _result("max", "max", magnitude, dtype, count)
    raise Unsupported(f"No playbook idea covers {node.op} of order {order} yet.")


def _batch_norm(node: Node, index: Index, reader: Reader) -> Expression:
    """Batch normalisation in eval: running statistics, one per channel; no reduction."""
    if argument(node, 5, "training", False):
        raise Unsupported(f"No playbook idea covers {node.op} in training mode yet.")
    name = source(node)
    dtype = _work_dtype(reader.dtype(name))
    channel = (index[1],)
    mean, var = argument(node, 3, "running_mean"), argument(node, 4, "running_var")
    eps = argument(node, 7, "eps", 1e-5)
    assert isinstance(eps, (int, float))
    here = reader.value(name, index)
    centred = Apply("sub", (here, reader.operand(mean, channel, dtype)), dtype, "centred")
    shifted = Apply("add", (reader.operand(var, channel, dtype), Constant(eps, dtype)), dtype)
    value = Apply("mul", (centred, Apply("rsqrt", (shifted,), dtype, "rstd")), dtype, node.name)
    weight, bias = argument(node, 1, "weight"), argument(node, 2, "bias")
    return _affine(value, weight, bias, channel, node, reader, dtype)


REDUCTIONS: dict[str, Reduction] = {
    "sum": _sum,
    "mean": _mean,
    "amax": _extremum("max"),
    "amin": _extremum("min"),
    "var": _variance(root=False),
    "std": _variance(root=True),
    "softmax": _softmax(log=False),
    "_softmax": _softmax(log=False),
    "special_softmax": _softmax(log=False),
    "log_softmax": _softmax(log=True),
    "_log_softmax": _softmax(log=True),
    "logsumexp": _logsumexp,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "linalg_vector_norm": _vector_norm,
    "batch_norm": _batch_norm,
}

__all__ = ["REDUCTIONS", "ZERO"]
