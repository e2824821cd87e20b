"""Single results of operators that have several, as operators with one result.

``aten.max.dim`` gives values and indices; the graph has nodes with one tensor only, so its
first result becomes ``aten.amax`` and its second ``aten.argmax``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from search_engine.graph import Argument

Arguments: TypeAlias = "tuple[Argument, ...]"
Keywords: TypeAlias = "dict[str, Argument]"
Call: TypeAlias = "tuple[str, Arguments, Keywords]"
Shape: TypeAlias = "tuple[int, ...]"
Rule: TypeAlias = "Callable[[Arguments, Keywords, int, Shape], Call | None]"


def single(op: str, args: Arguments, kwargs: Keywords, index: int, shape: Shape) -> Call | None:
    """The call that gives result ``index`` of ``op`` alone; None where there is none.

    ``shape`` is the first argument's; where that is a list, the result's own.
    """
    rule = _RULES.get(op)
    if rule is None:
        return None
    return rule(args, kwargs, index, shape)


def _extremum(values: str, indices: str) -> Rule:
    def rule(args: Arguments, kwargs: Keywords, index: int, shape: Shape) -> Call | None:
        keepdim = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
        dim = args[1] if len(args) > 1 else kwargs["dim"]
        if index == 0:
            return values, (args[0], (dim,), keepdim), {}
        return indices, (args[0], dim, keepdim), {}

    return rule


def _moments(spread: str) -> Rule:
    """var_mean, std_mean: overloads (unbiased), (dim, unbiased, keepdim), (dim, correction)."""
    overload = spread.rsplit(".", 1)[-1]

    def rule(args: Arguments, kwargs: Keywords, index: int, shape: Shape) -> Call | None:
        if index == 0:
            return spread, args, kwargs
        keepdim = kwargs.get("keepdim", False)
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        if overload == "dim":
            keepdim = args[3] if len(args) > 3 else keepdim
        if overload == "default":
            dim = None
        return "aten.mean.dim", (args[0], dim, keepdim), {}

    return rule


def _aminmax(args: Arguments, kwargs: Keywords, index: int, shape: Shape) -> Call | None:
    """``aten.aminmax(x, *, dim=None, keepdim=False)``."""
    dim = kwargs.get("dim")
    op = "aten.amax.default" if index else "aten.amin.default"
    return op, (args[0], () if dim is None else (dim,), kwargs.get("keepdim", False)), {}


def _running_extremum(values: str, indices: str) -> Rule:
    """cummax, cummin: each result by a name of its own, as ATen has none for one alone."""

    def rule(args: Arguments, kwargs: Keywords, index: int, shape: Shape) -> Call | None:
        return (indices if index else values), args, kwargs

    return rule


def _broadcast_tensors(args: Arguments, kwargs: Keywords, index: int, shape: Shape) -> Call | None:
    """Tensor ``index`` of the list, expanded to the shape that all of them get."""
    tensors = args[0]
    if not isinstance(tensors, tuple):
        return None
    return "aten.expand.default", (tensors[index], shape), {}


def _split(args: Arguments, kwargs: Keywords, index: int, shape: Shape) -> Call | None:
    """``aten.split.Tensor(x, size, dim)``: piece ``index``."""
    size = args[1]
    dim = args[2] if len(args) > 2 else kwargs.get("dim", 0)
    if not isinstance(size, int):
        return None
    return "aten.slice.Tensor", (args[0], dim, index * size, (index + 1) * size), {}


def _split_with_sizes(args: Arguments, kwargs: Keywords, index: int, shape: Shape) -> Call | None:
    sizes = args[1]
    dim = args[2] if len(args) > 2 else kwargs.get("dim", 0)
    if not isinstance(sizes, tuple):
        return None
    plain = [size for size in sizes if isinstance(size, int)]
    start = sum(plain[:index])
    return "aten.slice.Tensor", (args[0], dim, start, start + plain[index]), {}


def _chunk(args: Arguments, kwargs: Keywords, index: int, shape: Shape) -> Call | None:
    """``aten.chunk(x, count, dim)``: all pieces but the last have the same size, rounded up."""
    count = args[1]
    dim = args[2] if len(args) > 2 else kwargs.get("dim", 0)
    if not isinstance(count, int) or not isinstance(dim, int):
        return None
    return _split((args[0], -(-shape[dim] // count), dim), {}, index, shape)


def _unbind(args: Arguments, kwargs: Keywords, index: int, shape: Shape) -> Call | None:
    dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    return "aten.select.int", (args[0], dim, index), {}


def _batch_norm(args: Arguments, kwargs: Keywords, index: int, shape: Shape) -> Call | None:
    """Batch norm with running statistics, as functionalisation leaves it."""
    if index != 0:
        return None
    x, weight, bias, mean, variance, momentum, eps = args
    batch_norm = (x, weight, bias, mean, variance, False, momentum, eps, False)
    return "aten.batch_norm.default", batch_norm, {}


def _values(op: str) -> Rule:
    """The first result alone: pooling without the places of its maxima."""

    def rule(args: Arguments, kwargs: Keywords, index: int, shape: Shape) -> Call | None:
        return (op, args, kwargs) if index == 0 else None

    return rule


def _broadcast(args: Arguments, kwargs: Keywords, index: int, shape: Shape) -> Call | None:
    tensors = args[0]
    assert isinstance(tensors, tuple)
    return "aten.expand.default", (tensors[index], shape), {}


_RULES: dict[str, Rule] = {
    "aten.broadcast_tensors.default": _broadcast,
    "aten.max.dim": _extremum("aten.amax.default", "aten.argmax.default"),
    "aten.min.dim": _extremum("aten.amin.default", "aten.argmin.default"),
    **{
        f"aten.{name}_mean.{overload}": _moments(f"aten.{name}.{overload}")
        for name in ("var", "std")
        for overload in ("default", "dim", "correction")
    },
    "aten.aminmax.default": _aminmax,
    "aten.cummax.default": _running_extremum("aten.cummax.values", "aten.cummax.indices"),
    "aten.cummin.default": _running_extremum("aten.cummin.values", "aten.cummin.indices"),
    "aten.split.Tensor": _split,
    "aten.split.sizes": _split_with_sizes,
    "aten.split_with_sizes.default": _split_with_sizes,
    "aten.chunk.default": _chunk,
    "aten.unbind.int": _unbind,
    **{
        f"aten.max_pool{n}d_with_indices.default": _values(f"aten.max_pool{n}d.default")
        for n in (1, 2, 3)
    },
    **{
        f"aten.adaptive_max_pool{n}d.default": _values(f"aten.adaptive_max_pool{n}d.default")
        for n in (1, 2, 3)
    },
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
}
