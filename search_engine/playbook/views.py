"""Operators that move no values: how each changes the index, and casts.

``VIEWS[name](node, index, reader)`` gives the operand's name and the index into it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from search_engine.graph import Argument, Node, Ref
from search_engine.playbook.index import ZERO, Affine, Index, broadcast, regroup
from search_engine.playbook.program import Unsupported

if TYPE_CHECKING:
    from search_engine.playbook.analyse import Reader

View = Callable[[Node, Index, "Reader"], tuple[str, Index]]


def source(node: Node) -> str:
    """The operand's name."""
    first = node.args[0]
    assert isinstance(first, Ref), f"{node.op} of a literal"
    return first.name


def argument(node: Node, position: int, key: str, default: Argument = None) -> Argument:
    """An argument by position or keyword."""
    if key in node.kwargs:
        return node.kwargs[key]
    return node.args[position] if position < len(node.args) else default


def _integer(value: Argument) -> int:
    if not isinstance(value, int):
        raise Unsupported(f"No playbook idea covers the size {value!r} in a view yet.")
    return value


def _same(node: Node, index: Index, reader: Reader) -> tuple[str, Index]:
    return source(node), index


def _reshape(node: Node, index: Index, reader: Reader) -> tuple[str, Index]:
    name = source(node)
    shape = reader.shape(name)
    return name, regroup(index, node.shape, shape, reader.space.sizes)


def _expand(node: Node, index: Index, reader: Reader) -> tuple[str, Index]:
    name = source(node)
    return name, broadcast(index, reader.shape(name))


def _permuted(node: Node, index: Index, order: list[int]) -> tuple[str, Index]:
    """``order[d]`` is the operand's dimension that is the result's dimension d."""
    inner = [ZERO] * len(order)
    for position, dimension in enumerate(order):
        inner[dimension] = index[position]
    return source(node), tuple(inner)


def _permute(node: Node, index: Index, reader: Reader) -> tuple[str, Index]:
    dims = argument(node, 1, "dims")
    assert isinstance(dims, tuple)
    return _permuted(node, index, [_integer(d) % len(index) for d in dims])


def _movedim(node: Node, index: Index, reader: Reader) -> tuple[str, Index]:
    """``movedim(x, source, destination)``: the other dimensions keep their order."""
    rank = len(index)
    moved = []
    for position, key in ((1, "source"), (2, "destination")):
        dims = argument(node, position, key)
        listed = dims if isinstance(dims, tuple) else (dims,)
        moved.append([_integer(d) % rank for d in listed])
    at = dict(zip(moved[1], moved[0], strict=True))
    others = iter(d for d in range(rank) if d not in moved[0])
    return _permuted(node, index, [at[d] if d in at else next(others) for d in range(rank)])


def _transpose(node: Node, index: Index, reader: Reader) -> tuple[str, Index]:
    order = list(range(len(index)))
    if len(order) >= 2:
        first = _integer(argument(node, 1, "dim0", 0)) % len(order)
        second = _integer(argument(node, 2, "dim1", 1)) % len(order)
        order[first], order[second] = order[second], order[first]
    return _permuted(node, index, order)


def _slice(node: Node, index: Index, reader: Reader) -> tuple[str, Index]:
    name = source(node)
    shape = reader.shape(name)
    dim = _integer(argument(node, 1, "dim", 0)) % len(shape)
    start, step = argument(node, 2, "start"), _integer(argument(node, 4, "step", 1))
    begin = 0 if start is None else _integer(start)
    begin = min(max(begin + shape[dim] if begin < 0 else begin, 0), shape[dim])
    part = index[dim].scaled(step, begin)
    return name, (*index[:dim], part, *index[dim + 1 :])


def _narrow(node: Node, index: Index, reader: Reader) -> tuple[str, Index]:
    name = source(node)
    shape = reader.shape(name)
    dim = _integer(argument(node, 1, "dim", 0)) % len(shape)
    begin = _integer(argument(node, 2, "start", 0)) % shape[dim]
    return name, (*index[:dim], index[dim].scaled(1, begin), *index[dim + 1 :])


def _select(node: Node, index: Index, reader: Reader) -> tuple[str, Index]:
    name = source(node)
    shape = reader.shape(name)
    dim = _integer(argument(node, 1, "dim", 0)) % len(shape)
    position = _integer(argument(node, 2, "index", 0)) % shape[dim]
    return name, (*index[:dim], Affine((), position), *index[dim:])


def _unfold(node: Node, index: Index, reader: Reader) -> tuple[str, Index]:
    """``unfold(x, dim, size, step)``: windows along a dimension, each in a new last one."""
    name = source(node)
    *outer, within = index
    dim = _integer(argument(node, 1, "dimension")) % max(len(outer), 1)
    start = outer[dim].scaled(_integer(argument(node, 3, "step")))
    outer[dim] = Affine((*start.terms, *within.terms), start.constant + within.constant)
    return name, tuple(outer)


def _dropout(node: Node, index: Index, reader: Reader) -> tuple[str, Index]:
    if argument(node, 2, "train", False) and argument(node, 1, "p", 0.5) != 0:
        raise Unsupported(f"No playbook idea covers {node.op} in training mode: it is random.")
    return source(node), index


def _flip(node: Node, index: Index, reader: Reader) -> tuple[str, Index]:
    name = source(node)
    shape = reader.shape(name)
    dims = argument(node, 1, "dims")
    assert isinstance(dims, tuple)
    flipped = {_integer(d) % len(shape) for d in dims}
    parts = (
        part.scaled(-1, shape[d] - 1) if d in flipped else part for d, part in enumerate(index)
    )
    return name, tuple(parts)


def _same_count(node: Node, index: Index, reader: Reader) -> tuple[str, Index]:
    name = source(node)
    if math.prod(reader.shape(name)) != math.prod(node.shape):
        raise Unsupported(f"No playbook idea covers {node.op} with repeats yet.")
    return _reshape(node, index, reader)


# Views that keep the elements in row-major order.
RESHAPES = frozenset(
    [
        "contiguous", "clone", "alias", "detach", "lift_fresh_copy", "view", "reshape", "flatten",
        "unflatten", "unsafe_view", "_unsafe_view", "reshape_as", "view_as", "squeeze",
        "unsqueeze", "view_copy", "ravel",
    ]
)  # fmt: skip

VIEWS: dict[str, View] = {
    **dict.fromkeys(
        [
            "contiguous", "clone", "alias", "detach", "lift_fresh_copy",
            "view_as_real_copy", "positive", "resolve_conj", "resolve_neg", "identity",
        ],
        _same,
    ),
    **dict.fromkeys(
        [
            "view", "reshape", "flatten", "unflatten", "unsafe_view", "_unsafe_view",
            "reshape_as", "view_as", "squeeze", "unsqueeze", "view_copy", "ravel",
        ],
        _reshape,
    ),
    **dict.fromkeys(["expand", "expand_as", "broadcast_to"], _expand),
    "repeat": _same_count,
    "permute": _permute,
    **dict.fromkeys(["movedim", "moveaxis"], _movedim),
    **dict.fromkeys(["transpose", "t", "swapaxes", "swapdims", "numpy_T"], _transpose),
    "slice": _slice,
    "narrow": _narrow,
    "select": _select,
    "flip": _flip,
    "unfold": _unfold,
    **dict.fromkeys(["dropout", "feature_dropout", "alpha_dropout", "native_dropout"], _dropout),
}  # fmt: skip

CASTS = frozenset(
    ["to", "_to_copy", "type_as", "float", "double", "half", "bfloat16", "convert_element_type"]
)
