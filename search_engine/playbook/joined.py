"""Values pieced together by place: concatenation, padding, diagonals.

``JOINED[name](node, index, reader)`` gives the result's value at an index. No piece touches
memory where another one, or the padding, is wanted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from search_engine.graph import Argument, Node, Ref
from search_engine.playbook.expression import Apply, Bound, Constant, Expression, Inside
from search_engine.playbook.index import Affine, Index
from search_engine.playbook.program import Unsupported
from search_engine.playbook.reductions import Reduction
from search_engine.playbook.views import argument, source

if TYPE_CHECKING:
    from search_engine.playbook.analyse import Reader


def inside(at: Affine, size: int) -> Inside:
    """The condition 0 ≤ at < size."""
    total: dict[str, int] = {}
    for axis, factor in at.terms:
        total[axis] = total.get(axis, 0) + factor
    terms = tuple(sorted((axis, factor) for axis, factor in total.items() if factor))
    return Inside((Bound(terms, at.constant, size),))


def minus(first: Affine, second: Affine) -> Affine:
    """The difference of two indices."""
    other = second.scaled(-1)
    return Affine((*first.terms, *other.terms), first.constant + other.constant)


def _names(node: Node, values: Argument, reader: Reader) -> list[str]:
    """The pieces' names; they have the result's dtype."""
    assert isinstance(values, tuple)
    names = [value.name for value in values if isinstance(value, Ref)]
    if any(reader.dtype(name) != node.dtype for name in names):
        raise Unsupported(f"No playbook idea covers {node.op} of several dtypes yet.")
    # Empty tensors of any shape may be among them.
    return [name for name in names if math.prod(reader.shape(name))]


def _cat(node: Node, index: Index, reader: Reader) -> Expression:
    dim = argument(node, 1, "dim", 0)
    assert isinstance(dim, int)
    dim %= len(index)
    names = _names(node, node.args[0], reader)
    sizes = [reader.shape(name)[dim] for name in names]
    pieces = []
    start = 0
    for name, size in zip(names, sizes, strict=True):
        own = index[dim].scaled(1, -start)
        shifted = (*index[:dim], own, *index[dim + 1 :])
        pieces.append((inside(own, size), reader.bounded(name, shifted)))
        start += size
    return _chosen(node, pieces)


def _stack(node: Node, index: Index, reader: Reader) -> Expression:
    dim = argument(node, 1, "dim", 0)
    assert isinstance(dim, int)
    dim %= len(index)
    rest = (*index[:dim], *index[dim + 1 :])
    pieces = []
    for number, name in enumerate(_names(node, node.args[0], reader)):
        pieces.append((inside(index[dim].scaled(1, -number), 1), reader.value(name, rest)))
    return _chosen(node, pieces)


def _chosen(node: Node, pieces: list[tuple[Inside, Expression]]) -> Expression:
    """The piece whose condition holds; the last one where no other does."""
    value = pieces[-1][1]
    for condition, piece in reversed(pieces[:-1]):
        value = Apply("where", (condition, piece, value), node.dtype, node.name)
    return value


def _pad(node: Node, index: Index, reader: Reader) -> Expression:
    """Constant padding; the amounts are (before, after) of the last dimension first."""
    mode = argument(node, 2, "mode", "constant") if "pad.default" in node.op else "constant"
    if mode != "constant":
        raise Unsupported(f"No playbook idea covers {node.op} in mode {mode!r} yet.")
    amounts = argument(node, 1, "pad")
    assert isinstance(amounts, tuple)
    place = 3 if "pad.default" in node.op else 2
    value = argument(node, place, "value", 0)
    if value is None:
        value = 0
    assert isinstance(value, (int, float))
    shifted = list(index)
    for number, before in enumerate(amounts[::2]):
        assert isinstance(before, int)
        at = len(index) - 1 - number
        shifted[at] = index[at].scaled(1, -before)
    return reader.bounded(source(node), tuple(shifted), value)


def _diagonal_matrix(offset_key: str) -> Reduction:
    """A vector on the diagonal of a matrix of zeros; of a matrix, its diagonal."""

    def read(node: Node, index: Index, reader: Reader) -> Expression:
        offset = argument(node, 1, offset_key, 0)
        assert isinstance(offset, int)
        name = source(node)
        if len(reader.shape(name)) > len(node.shape):  # torch.diag of a matrix
            row = index[0].scaled(1, max(-offset, 0))
            return reader.value(name, (row, index[0].scaled(1, max(offset, 0))))
        if any(argument(node, at, key, dim) not in (dim, dim + len(node.shape))
               for at, key, dim in ((2, "dim1", -2), (3, "dim2", -1))):  # fmt: skip
            raise Unsupported(f"No playbook idea covers {node.op} over such dimensions yet.")
        row, column = index[-2:]
        at = row if offset >= 0 else column
        on_diagonal = inside(minus(column, row).scaled(1, -offset), 1)
        value = reader.bounded(name, (*index[:-2], at))
        zero = Constant(0, node.dtype)
        return Apply("where", (on_diagonal, value, zero), node.dtype, node.name)

    return read


JOINED: dict[str, Reduction] = {
    "cat": _cat,
    "concat": _cat,
    "concatenate": _cat,
    "stack": _stack,
    "constant_pad_nd": _pad,
    "pad": _pad,
    "diag": _diagonal_matrix("diagonal"),
    "diag_embed": _diagonal_matrix("offset"),
}
