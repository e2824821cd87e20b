"""Pooling: every output is a statistic over a window of its input.

``WINDOWS[name](node, index, reader)`` gives the result's value at an index. Outputs are the
rows of the iteration space and a window's places its columns; what a window holds beyond the
input is a bounded load.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from search_engine.graph import Argument, Node
from search_engine.playbook.dtypes import is_float
from search_engine.playbook.expression import (
    Apply,
    Bound,
    Constant,
    Expression,
    Inside,
    Result,
    Statistic,
)
from search_engine.playbook.index import Affine, Index
from search_engine.playbook.program import Unsupported
from search_engine.playbook.views import argument, source

if TYPE_CHECKING:
    from search_engine.playbook.analyse import Reader

Window = Callable[[Node, Index, "Reader"], Expression]


def window(out: Affine, column: Affine, stride: int, dilation: int, padding: int) -> Affine:
    """The index along an input dimension: stride × out + dilation × column − padding."""
    terms: dict[str, int] = {}
    for part in (out.scaled(stride), column.scaled(dilation)):
        for axis, factor in part.terms:
            terms[axis] = terms.get(axis, 0) + factor
    constant = stride * out.constant + dilation * column.constant - padding
    return Affine(tuple(terms.items()), constant)


def sizes_of(value: Argument, rank: int, default: Sequence[int]) -> list[int]:
    """One integer per spatial dimension of an argument that may be one for all, or left out."""
    if value is None or value == ():
        return list(default)
    listed = list(value) if isinstance(value, tuple) else [value]
    numbers = [int(item) for item in listed]  # type: ignore[arg-type]
    return numbers * rank if len(numbers) == 1 else numbers


def _floating(node: Node, reader: Reader) -> str:
    dtype = reader.dtype(source(node))
    if not is_float(dtype):
        raise Unsupported(f"No playbook idea covers {node.op} over {dtype} yet.")
    return "float64" if dtype == "float64" else "float32"


def _statistic(kind: str, body: Expression, dtype: str, count: int) -> Expression:
    """The window's number; a window of one element is that element."""
    return body if count == 1 else Result(Statistic(kind, body, dtype), kind)


def _max_pool(rank: int) -> Window:
    def pool(node: Node, index: Index, reader: Reader) -> Expression:
        dtype = _floating(node, reader)
        kernel = sizes_of(argument(node, 1, "kernel_size"), rank, ())
        strides = sizes_of(argument(node, 2, "stride"), rank, kernel)
        padding = sizes_of(argument(node, 3, "padding"), rank, [0] * rank)
        dilation = sizes_of(argument(node, 4, "dilation"), rank, [1] * rank)
        columns = reader.reduced(kernel)
        lead, spatial = index[:-rank], index[-rank:]
        places = map(window, spatial, columns, strides, dilation, padding)
        body = reader.bounded(source(node), (*lead, *places), -math.inf)
        return _statistic("max", body, dtype, math.prod(kernel))

    return pool


def _avg_pool(rank: int) -> Window:
    def pool(node: Node, index: Index, reader: Reader) -> Expression:
        dtype = _floating(node, reader)
        kernel = sizes_of(argument(node, 1, "kernel_size"), rank, ())
        strides = sizes_of(argument(node, 2, "stride"), rank, kernel)
        padding = sizes_of(argument(node, 3, "padding"), rank, [0] * rank)
        with_padding = bool(argument(node, 5, "count_include_pad", True))
        divisor = argument(node, 6, "divisor_override")
        columns = reader.reduced(kernel)
        lead, spatial = index[:-rank], index[-rank:]
        places = [
            window(out, column, stride, 1, pad)
            for out, column, stride, pad in zip(spatial, columns, strides, padding, strict=True)
        ]
        count = math.prod(kernel)
        total = _statistic("sum", reader.bounded(source(node), (*lead, *places)), dtype, count)
        by: Expression = Constant(float(count), dtype)
        if divisor is not None:
            assert isinstance(divisor, int)
            by = Constant(float(divisor), dtype)
        else:
            sizes = reader.shape(source(node))[-rank:]
            pads = padding if with_padding else [0] * rank
            counted = _counted(places, sizes, pads, reader)
            if counted:
                one, zero = Constant(1.0, dtype), Constant(0.0, dtype)
                by = _statistic(
                    "sum", Apply("where", (Inside(counted), one, zero), dtype), dtype, count
                )
        return Apply("div", (total, by), dtype, node.name)

    return pool


def _counted(
    places: Sequence[Affine], sizes: Sequence[int], padding: Sequence[int], reader: Reader
) -> tuple[Bound, ...]:
    """The bounds of places that count towards an average, where not all do.

    Padding counts or not; what a window has beyond the padded input (ceil_mode) never does.
    """
    bounds = [
        Bound(tuple(sorted(place.terms)), place.constant + pad, size + 2 * pad)
        for place, size, pad in zip(places, sizes, padding, strict=True)
    ]
    return tuple(bound for bound in bounds if not bound.always(reader.space.sizes))


def _adaptive(kind: str, rank: int) -> Window:
    """Adaptive pooling whose windows are all of one size."""

    def pool(node: Node, index: Index, reader: Reader) -> Expression:
        dtype = _floating(node, reader)
        name = source(node)
        before, after = reader.shape(name)[-rank:], node.shape[-rank:]
        if any(old % new for old, new in zip(before, after, strict=True)):
            raise Unsupported(f"No playbook idea covers {node.op} with windows of several sizes.")
        kernel = [old // new for old, new in zip(before, after, strict=True)]
        lead, spatial = index[:-rank], index[-rank:]
        if math.prod(after) == 1:
            # The mean or maximum of everything, as if it were spelt so.
            dims = range(len(lead), len(lead) + rank)
            whole = reader.reduce_over(name, dims, lead)
        else:
            columns = reader.reduced(kernel)
            places = [
                window(out, column, size, 1, 0)
                for out, column, size in zip(spatial, columns, kernel, strict=True)
            ]
            whole = (*lead, *places)
        count = math.prod(kernel)
        value = _statistic(kind, reader.value(name, whole), dtype, count)
        if kind == "max":
            return value
        return Apply("div", (value, Constant(float(count), dtype)), dtype, node.name)

    return pool


WINDOWS: dict[str, Window] = {
    **{f"max_pool{rank}d": _max_pool(rank) for rank in (1, 2, 3)},
    **{f"avg_pool{rank}d": _avg_pool(rank) for rank in (1, 2, 3)},
    **{f"adaptive_avg_pool{rank}d": _adaptive("sum", rank) for rank in (1, 2, 3)},
    **{f"adaptive_max_pool{rank}d": _adaptive("max", rank) for rank in (1, 2, 3)},
}
