"""Operators over whole rows, as statistics and pointwise work on their results.

``REDUCTIONS[name](node, index, reader)`` gives the result's value at an index. Formulas are
the stable ones: squares about the mean, exponentials about the maximum. Sums of integers are
taken in int64 and extremes in their own kind, as in torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from search_engine.graph import Argument, Node
from search_engine.playbook.dtypes import compute_type, is_float
from search_engine.playbook.expression import Apply, Constant, Expression, Result, Statistic
from search_engine.playbook.index import Index
from search_engine.playbook.program import Unsupported
from search_engine.playbook.views import argument, source

if TYPE_CHECKING:
    from search_engine.playbook.analyse import Reader

Reduction = Callable[[Node, Index, "Reader"], Expression]


def listed_dims(value: Argument, rank: int) -> list[int]:
    """Reduced dimensions, in order; none given means all."""
    if rank == 0:
        return []
    if value is None or value == ():
        return list(range(rank))
    listed = value if isinstance(value, tuple) else (value,)
    return sorted(int(d) % rank for d in listed)  # type: ignore[arg-type]


def sum_dtype(dtype: str) -> str:
    """What sums of results of the dtype are kept in: float, double for float64, int64."""
    if not is_float(dtype):
        return "int64"
    return "float64" if dtype == "float64" else "float32"


def extreme_dtype(dtype: str) -> str:
    """What extremes of values of the dtype are kept in."""
    if is_float(dtype):
        return sum_dtype(dtype)
    return "int64" if dtype == "int64" else "int32"


def cast(value: Expression, dtype: str, name: str = "") -> Expression:
    """The value in work of the dtype; halves are in float already."""
    if compute_type(value.dtype) == compute_type(dtype):
        return value
    return Apply("cast", (value,), dtype, name)


@frozen
class Over:
    """An operand at all columns: what a statistic is of.

    ``dtype`` is that of the work, ``count`` the number of elements reduced.
    """

    body: Expression
    dtype: str
    count: int

    def of(self, body: Expression) -> Over:
        """Another body over the same columns."""
        return Over(body, self.dtype, self.count)

    def result(self, kind: str, part: str = "") -> Expression:
        """A number of a row's statistic; over one element it is pointwise work on that."""
        part = part or kind
        if self.count > 1:
            return Result(Statistic(kind, self.body, self.dtype), part)
        if part == "index":
            return Constant(0, "int64")
        # The difference is 0, but NaN for an infinity, as it is in torch.
        rest = Apply("sub", (self.body, self.body), self.dtype)
        if part == "m2":
            return Apply("mul", (rest, rest), self.dtype)
        if (kind, part) == ("softmax", "sum"):
            return Apply("exp", (rest,), self.dtype)
        return self.body

    def mean(self, total: Expression, name: str, less: float = 0) -> Expression:
        """``total`` over the number of elements, ``less`` so many degrees of freedom."""
        count = Constant(float(max(self.count - less, 0)), self.dtype)
        return Apply("div", (total, count), self.dtype, name)


def over(node: Node, dims: Sequence[int], index: Index, reader: Reader, dtype: str) -> Over:
    """The node's operand at all columns, in work of the dtype.

    ``index`` is the result's, with or without the reduced dimensions kept.
    """
    name = source(node)
    shape = reader.shape(name)
    if len(index) == len(shape):
        index = without(index, dims)
    body = reader.value(name, reader.reduce_over(name, dims, index))
    return Over(cast(body, dtype), dtype, math.prod(shape[d] for d in dims))


def without(index: Index, dims: Sequence[int]) -> Index:
    """The index over the dimensions that are kept."""
    return tuple(part for d, part in enumerate(index) if d not in dims)


def _given(node: Node, index: Index, reader: Reader, dtype: str, at: int = 1) -> Over:
    """``over`` the dimensions of the argument ``dim``, the operator's argument number ``at``."""
    dims = listed_dims(argument(node, at, "dim"), len(reader.shape(source(node))))
    return over(node, dims, index, reader, dtype)


def _extremum(kind: str) -> Reduction:
    def reduce(node: Node, index: Index, reader: Reader) -> Expression:
        before = reader.dtype(source(node))
        reduced = _given(node, index, reader, extreme_dtype(before))
        return cast(reduced.result(kind), before, node.name)

    return reduce


def _place(kind: str) -> Reduction:
    """argmax, argmin: of equal values the first, a NaN before all, as torch has it."""

    def reduce(node: Node, index: Index, reader: Reader) -> Expression:
        dtype = extreme_dtype(reader.dtype(source(node)))
        return _given(node, index, reader, dtype).result(kind, "index")

    return reduce


def _sum(node: Node, index: Index, reader: Reader) -> Expression:
    reduced = _given(node, index, reader, sum_dtype(node.dtype))
    return cast(reduced.result("sum"), node.dtype, node.name)


def _product(node: Node, index: Index, reader: Reader) -> Expression:
    reduced = _given(node, index, reader, sum_dtype(node.dtype))
    return cast(reduced.result("prod"), node.dtype, node.name)


def _mean(node: Node, index: Index, reader: Reader) -> Expression:
    reduced = _given(node, index, reader, sum_dtype(node.dtype))
    return reduced.mean(reduced.result("sum"), node.name)


def _nonzero(value: Expression) -> Expression:
    """Whether the value is not zero; a NaN is not."""
    if value.dtype == "bool":
        return value
    return Apply("ne", (value, Constant(0, value.dtype)), "bool")


def _over_nonzero(node: Node, index: Index, reader: Reader, dtype: str) -> Over:
    name = source(node)
    rank = len(reader.shape(name))
    dims = listed_dims(argument(node, 1, "dim"), rank)
    reduced = over(node, dims, index, reader, reader.dtype(name))
    return Over(Apply("cast", (_nonzero(reduced.body),), dtype), dtype, reduced.count)


def _truth(kind: str) -> Reduction:
    """any, all: the largest or least of 0 and 1."""

    def reduce(node: Node, index: Index, reader: Reader) -> Expression:
        return cast(_over_nonzero(node, index, reader, "int32").result(kind), "bool", node.name)

    return reduce


def _count_nonzero(node: Node, index: Index, reader: Reader) -> Expression:
    return _over_nonzero(node, index, reader, "int64").result("sum")


def _variance(root: bool) -> Reduction:
    """var and std in their overloads: (unbiased), (dim, unbiased, keepdim), (dim, correction)."""

    def reduce(node: Node, index: Index, reader: Reader) -> Expression:
        overload = node.op.rsplit(".", 1)[-1]
        correction: Argument = 1
        dim = argument(node, 1, "dim")
        if overload == "default":
            dim, correction = None, int(bool(argument(node, 1, "unbiased", True)))
        elif overload == "dim":
            correction = int(bool(argument(node, 2, "unbiased", True)))
        else:
            correction = node.kwargs.get("correction", 1)
            correction = 1 if correction is None else correction
        assert isinstance(correction, (int, float))
        dims = listed_dims(dim, len(reader.shape(source(node))))
        reduced = over(node, dims, index, reader, sum_dtype(node.dtype))
        squares = reduced.result("moments", "m2")
        variance = reduced.mean(squares, node.name, less=correction)
        return Apply("sqrt", (variance,), reduced.dtype, node.name) if root else variance

    return reduce


def _softmax(log: bool) -> Reduction:
    def reduce(node: Node, index: Index, reader: Reader) -> Expression:
        name = source(node)
        if not reader.shape(name):
            return Constant(0.0 if log else 1.0, node.dtype)
        dtype = sum_dtype(node.dtype)
        dims = listed_dims(argument(node, 1, "dim", -1), len(reader.shape(name)))
        reduced = over(node, dims, without(index, dims), reader, dtype)
        here = cast(reader.value(name, index), dtype)
        top, total = (reduced.result("softmax", part) for part in ("max", "sum"))
        shifted = Apply("sub", (here, top), dtype, f"{node.name}_shifted")
        if log:
            log_total = Apply("log", (total,), dtype, "log_sum")
            return Apply("sub", (shifted, log_total), dtype, node.name)
        return Apply("div", (Apply("exp", (shifted,), dtype), total), dtype, node.name)

    return reduce


def _logsumexp(node: Node, index: Index, reader: Reader) -> Expression:
    dtype = sum_dtype(node.dtype)
    reduced = _given(node, index, reader, dtype)
    top, total = (reduced.result("softmax", part) for part in ("max", "sum"))
    return log_of_sum(top, total, node.name)


def log_of_sum(top: Expression, total: Expression, name: str) -> Expression:
    """The logarithm of a sum of exponentials from their maximum and the sum about it."""
    dtype = top.dtype
    log_total = Apply("log", (total,), dtype, "log_sum")
    # An infinite maximum is the result: about it, every exponential would be NaN.
    infinite = Apply("eq", (Apply("abs", (top,), dtype), Constant(math.inf, dtype)), "bool")
    finite = Apply("add", (top, log_total), dtype)
    return Apply("where", (infinite, top, finite), dtype, name)


def _norm(reduced: Over, order: Argument, name: str) -> Expression:
    """The vector norm of any order over the columns."""
    dtype = reduced.dtype
    magnitude = Apply("abs", (reduced.body,), dtype)
    order = float(order) if isinstance(order, (int, float, str)) else 2.0
    if order == 0:
        flag = Apply("cast", (_nonzero(reduced.body),), dtype)
        return reduced.of(flag).result("sum")
    if reduced.count == 1:
        return magnitude
    if math.isinf(order):
        return reduced.of(magnitude).result("max" if order > 0 else "min")
    if order == 1:
        return reduced.of(magnitude).result("sum")
    if order == 2:
        squares = reduced.of(Apply("mul", (reduced.body, reduced.body), dtype)).result("sum")
        return Apply("sqrt", (squares,), dtype, name)
    power = Apply("pow", (magnitude, Constant(order, dtype)), dtype)
    if order == 3:
        power = Apply("mul", (Apply("mul", (magnitude, magnitude), dtype), magnitude), dtype)
    total = reduced.of(power).result("sum")
    return Apply("pow", (total, Constant(1 / order, dtype)), dtype, name)


def _vector_norm(node: Node, index: Index, reader: Reader) -> Expression:
    """``linalg_vector_norm(x, ord, dim)``, ``norm(x, p, dim)`` and ``linalg_norm`` of vectors."""
    base = node.op.split(".")[1]
    order = argument(
        node, 1, "p" if base == "norm" else "ord", None if base == "linalg_norm" else 2
    )
    shape = reader.shape(source(node))
    dim = argument(node, 2, "dim")
    if base == "linalg_norm" and order is not None:
        dims = listed_dims(dim, len(shape))
        if len(dims) > 1:
            raise Unsupported(f"No playbook idea covers {node.op} of order {order!r} yet.")
    return _norm(_given(node, index, reader, sum_dtype(node.dtype), at=2), order, node.name)


def _matrix_norm(node: Node, index: Index, reader: Reader) -> Expression:
    """The Frobenius norm; ``frobenius_norm(x, dim)``, ``linalg_matrix_norm(x, ord, dim)``."""
    at = 1 if node.op.startswith("aten.frobenius_norm") else 2
    order = argument(node, 1, "ord", "fro") if at == 2 else "fro"
    if order != "fro":
        raise Unsupported(f"No playbook idea covers {node.op} of order {order!r} yet.")
    default = (-2, -1) if at == 2 else None
    dims = listed_dims(argument(node, at, "dim", default), len(reader.shape(source(node))))
    return _norm(over(node, dims, index, reader, sum_dtype(node.dtype)), 2, node.name)


REDUCTIONS: dict[str, Reduction] = {
    "sum": _sum,
    "mean": _mean,
    "prod": _product,
    "amax": _extremum("max"),
    "amin": _extremum("min"),
    "max": _extremum("max"),
    "min": _extremum("min"),
    "argmax": _place("argmax"),
    "argmin": _place("argmin"),
    "any": _truth("max"),
    "all": _truth("min"),
    "count_nonzero": _count_nonzero,
    "var": _variance(root=False),
    "std": _variance(root=True),
    "softmax": _softmax(log=False),
    "_softmax": _softmax(log=False),
    "special_softmax": _softmax(log=False),
    "log_softmax": _softmax(log=True),
    "_log_softmax": _softmax(log=True),
    "special_log_softmax": _softmax(log=True),
    "logsumexp": _logsumexp,
    "linalg_vector_norm": _vector_norm,
    "linalg_norm": _vector_norm,
    "norm": _vector_norm,
    "linalg_matrix_norm": _matrix_norm,
    "frobenius_norm": _matrix_norm,
}
