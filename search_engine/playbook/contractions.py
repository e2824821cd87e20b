"""Products of matrices and convolutions, as row sums of products.

``CONTRACTIONS[name](node, index, reader)`` gives the result's value at an index, as the
entries of ``reductions.REDUCTIONS`` do. All of them are one thing, an index expression in
labels (einsum): labels of the result are rows, the others are columns and are summed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from search_engine.graph import Argument, Node, Ref
from search_engine.playbook.contraction import CONVOLUTION
from search_engine.playbook.dtypes import is_float
from search_engine.playbook.expression import Apply, Constant, Expression, Result, Statistic
from search_engine.playbook.index import ZERO, Affine, Index, broadcast, regroup
from search_engine.playbook.program import Unsupported
from search_engine.playbook.views import argument

if TYPE_CHECKING:
    from search_engine.playbook.analyse import Reader

Contracting = Callable[[Node, Index, "Reader"], Expression]


def _name(value: Argument, node: Node) -> str:
    if not isinstance(value, Ref):
        raise Unsupported(f"No playbook idea covers {node.op} of a literal.")
    return value.name


def _work_dtype(node: Node) -> str:
    """Products are summed in float, in double for float64."""
    if not is_float(node.dtype):
        raise Unsupported(f"No playbook idea covers {node.op} over {node.dtype} yet.")
    return "float64" if node.dtype == "float64" else "float32"


def _summed(
    left: Expression, right: Expression, node: Node, count: int, name: str = ""
) -> Expression:
    """Σ left · right over all columns; one product where there is but one column."""
    dtype = _work_dtype(node)
    product = Apply("mul", (left, right), dtype, name or node.name)
    return Result(Statistic("sum", product, dtype), "sum") if count > 1 else product


def _plus(first: Affine, second: Affine, constant: int = 0) -> Affine:
    """The sum of two indices and a constant."""
    terms: dict[str, int] = {}
    for axis, factor in (*first.terms, *second.terms):
        terms[axis] = terms.get(axis, 0) + factor
    kept = tuple((axis, factor) for axis, factor in terms.items() if factor)
    return Affine(kept, first.constant + second.constant + constant)


def _labelled(
    node: Node, index: Index, reader: Reader, names: Sequence[str], labels: Sequence[str], out: str
) -> Expression:
    """The einsum of two values: ``labels`` of their dimensions, ``out`` those of the result."""
    sizes: dict[str, int] = {}
    for name, own in zip(names, labels, strict=True):
        for label, size in zip(own, reader.shape(name), strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    at = dict(zip(out, index, strict=True))
    summed = [label for label in sizes if label not in at]
    for label in summed:
        if sum(label in own for own in labels) < len(labels):
            raise Unsupported(f"No playbook idea covers {node.op} that sums one operand alone.")
    at.update(zip(summed, reader.reduced([sizes[label] for label in summed]), strict=True))
    count = 1
    for label in summed:
        count *= sizes[label]
    values = []
    for name, own in zip(names, labels, strict=True):
        shape = reader.shape(name)
        whole = tuple(at[label] for label in own)
        values.append(reader.value(name, broadcast(whole, shape) if shape else ()))
    return _summed(values[0], values[1], node, count)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _by_diagonal(
    node: Node, index: Index, reader: Reader, first: str, second: str
) -> Expression | None:
    """A product with a diagonal matrix made from a vector: rows or columns are scaled.

    The product's other terms are zeros, times infinities or NaN where the other matrix has
    any: such an element makes its whole column (its row, for a diagonal on the right) NaN.
    """
    if len(reader.shape(first)) != 2 or len(reader.shape(second)) != 2:
        return None
    for name, other, dim in ((first, second, 0), (second, first, 1)):
        made = reader.piece.nodes.get(name)
        if made is None or made.op not in ("aten.diag.default", "aten.diag_embed.default"):
            continue
        vector, dtype = _name(made.args[0], made), _work_dtype(node)
        if len(reader.shape(vector)) != 1 or len(made.args) > 1 or made.kwargs:
            continue
        value = reader.value(other, index)
        scaled = Apply("mul", (reader.value(vector, (index[dim],)), value), dtype, node.name)
        if reader.shape(other)[dim] == 1:
            return scaled
        line = reader.reduce_over(other, [dim], (index[1 - dim],))
        count = Result(
            Statistic("sum", _not_finite(reader.value(other, line), dtype), dtype), "sum"
        )
        others = Apply("gt", (count, _not_finite(value, dtype)), "bool")
        return Apply("where", (others, Constant(math.nan, dtype), scaled), dtype, node.name)
    return None


def _not_finite(value: Expression, dtype: str) -> Expression:
    """1 for a NaN or an infinity, else 0."""
    finite = Apply("eq", (Apply("sub", (value, value), dtype), Constant(0, dtype)), "bool")
    return Apply("where", (finite, Constant(0, dtype), Constant(1, dtype)), dtype)


def _matmul(node: Node, index: Index, reader: Reader) -> Expression:
    """torch.matmul: vectors lose their own dimension, batch dimensions broadcast."""
    first, second = (_name(value, node) for value in node.args[:2])
    scaled = _by_diagonal(node, index, reader, first, second)
    if scaled is not None:
        return scaled
    one, two = len(reader.shape(first)), len(reader.shape(second))
    batch = _LETTERS[: max(one, two, 2) - 2]
    left = batch[len(batch) - max(one - 2, 0) :] + ("MK" if one > 1 else "K")
    right = batch[len(batch) - max(two - 2, 0) :] + ("KN" if two > 1 else "K")
    out = batch + ("M" if one > 1 else "") + ("N" if two > 1 else "")
    return _labelled(node, index, reader, [first, second], [left, right], out)


def _inner(node: Node, index: Index, reader: Reader) -> Expression:
    first, second = (_name(value, node) for value in node.args[:2])
    one, two = len(reader.shape(first)), len(reader.shape(second))
    if not (one and two):
        raise Unsupported(f"No playbook idea covers {node.op} of a single number yet.")
    left, right = _LETTERS[: one - 1], _LETTERS[one - 1 : one + two - 2]
    return _labelled(node, index, reader, [first, second], [left + "K", right + "K"], left + right)


def _outer(node: Node, index: Index, reader: Reader) -> Expression:
    first, second = (_name(value, node) for value in node.args[:2])
    values = [
        reader.value(name, (part,)) for name, part in zip((first, second), index, strict=True)
    ]
    return Apply("mul", tuple(values), node.dtype, node.name)


def _linear(node: Node, index: Index, reader: Reader) -> Expression:
    """x · wᵀ + bias."""
    names = [_name(value, node) for value in node.args[:2]]
    rank = len(reader.shape(names[0]))
    lead = _LETTERS[: rank - 1]
    weight = "NK" if len(reader.shape(names[1])) == 2 else "K"
    out = lead + weight[:-1]
    value = _labelled(node, index, reader, names, [lead + "K", weight], out)
    bias = argument(node, 2, "bias")
    if bias is None:
        return value
    return Apply("add", (value, reader.operand(bias, index, _work_dtype(node))), value.dtype)


def _addmm(node: Node, index: Index, reader: Reader) -> Expression:
    """beta · input + alpha · (first @ second): addmm, baddbmm, addmv."""
    product = Node(node.name, node.op, node.args[1:3], {}, node.dtype, node.shape)
    value = _matmul(product, index, reader)
    dtype = _work_dtype(node)
    alpha, beta = argument(node, 4, "alpha", 1), argument(node, 3, "beta", 1)
    assert isinstance(alpha, (int, float))
    assert isinstance(beta, (int, float))
    if alpha != 1:
        value = Apply("mul", (value, Constant(alpha, dtype)), dtype)
    if beta == 0:  # then torch does not read the input: a NaN there does not count
        return value
    added = reader.operand(node.args[0], index, dtype)
    if beta != 1:
        added = Apply("mul", (added, Constant(beta, dtype)), dtype)
    return Apply("add", (value, added), dtype, node.name)


def _einsum(node: Node, index: Index, reader: Reader) -> Expression:
    equation, operands = node.args[:2]
    assert isinstance(equation, str)
    assert isinstance(operands, tuple)
    text = equation.replace(" ", "")
    if len(operands) != 2:
        raise Unsupported(f"No playbook idea covers the einsum {equation!r} yet.")
    names = [_name(value, node) for value in operands]
    inputs, arrow, out = text.partition("->")
    if not arrow:
        once = [c for c in sorted(set(inputs)) if c not in ",." and inputs.count(c) == 1]
        out = ("..." if "..." in inputs else "") + "".join(once)
    labels = inputs.split(",")
    # The dimensions behind the dots broadcast: the last of them have the same labels.
    free = [c for c in _LETTERS if c not in text]
    counts = [
        len(reader.shape(name)) - len(own.replace("...", ""))
        for name, own in zip(names, labels, strict=True)
    ]
    most = max((n for n, own in zip(counts, labels, strict=True) if "..." in own), default=0)
    labels = [
        own.replace("...", "".join(free[most - count : most]))
        for own, count in zip(labels, counts, strict=True)
    ]
    out = out.replace("...", "".join(free[:most]))
    if any(len(set(own)) < len(own) for own in (*labels, out)):
        raise Unsupported(f"No playbook idea covers the diagonal in the einsum {equation!r} yet.")
    return _labelled(node, index, reader, names, labels, out)


def _tensordot(node: Node, index: Index, reader: Reader) -> Expression:
    names = [_name(value, node) for value in node.args[:2]]
    left = list(_LETTERS[: len(reader.shape(names[0]))])
    right = list(_LETTERS[26 : 26 + len(reader.shape(names[1]))])
    dims = [tuple(dims) for dims in node.args[2:4] if isinstance(dims, tuple)]
    for one, two in zip(*dims, strict=True):
        assert isinstance(one, int)
        assert isinstance(two, int)
        right[two] = left[one]
    out = [c for c in left if c not in right] + [c for c in right if c not in left]
    return _labelled(node, index, reader, names, ["".join(left), "".join(right)], "".join(out))


# --- convolutions --------------------------------------------------------------------------


def each(value: Argument, rank: int) -> list[int]:
    """A number for every spatial dimension; one stands for all."""
    listed = value if isinstance(value, tuple) else (value,)
    numbers = [int(v) for v in listed]  # type: ignore[arg-type]
    return numbers * rank if len(numbers) == 1 else numbers


def _paddings(node: Node, rank: int, taps: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Elements of padding before each spatial dimension ("same" puts the odd one behind)."""
    padding = argument(node, 4, "padding", 0)
    if padding == "valid":
        return [0] * rank
    if padding == "same":
        return [d * (t - 1) // 2 for d, t in zip(dilation, taps, strict=True)]
    return each(padding, rank)


def _convolution(node: Node, index: Index, reader: Reader) -> Expression:
    """Direct convolution: Σ over channels of the group and taps, 0 outside the image.

    The arguments of aten.conv1d, conv2d, conv3d: input, weight, bias, stride, padding,
    dilation, groups. aten.convolution has transposed and output_padding before groups.
    """
    general = node.op.split(".")[1] == "convolution"
    if general and argument(node, 6, "transposed", False):
        raise Unsupported(f"No playbook idea covers {node.op} with transposed strides yet.")
    names = [_name(value, node) for value in node.args[:2]]
    image, weight = (reader.shape(name) for name in names)
    rank = len(weight) - 2
    if len(image) == rank + 1:  # no batch dimension
        index = (ZERO, *index)
    groups = argument(node, 8 if general else 6, "groups", 1)
    assert isinstance(groups, int)
    stride = each(argument(node, 3, "stride", 1), rank)
    dilation = each(argument(node, 5, "dilation", 1), rank)
    padding = _paddings(node, rank, weight[2:], dilation)
    channel, *taps = reader.reduced(weight[1:])
    position = tuple(
        _plus(here.scaled(step), tap.scaled(apart), -before)
        for here, tap, step, apart, before in zip(
            index[2:], taps, stride, dilation, padding, strict=True
        )
    )
    if groups > 1:
        split = (groups, weight[0] // groups)
        group = regroup((index[1],), (weight[0],), split, reader.space.sizes)[0]
        channel_in = _plus(group.scaled(weight[1]), channel)
    else:
        channel_in = channel
    at = (channel_in, *position)
    pixel = reader.bounded(names[0], at if len(image) == rank + 1 else (index[0], *at))
    factor = reader.value(names[1], (index[1], channel, *taps))
    count = 1
    for size in weight[1:]:
        count *= size
    value = _summed(pixel, factor, node, count, CONVOLUTION)
    bias = argument(node, 2, "bias")
    if bias is None:
        return value
    added = reader.operand(bias, (index[1],), _work_dtype(node))
    return Apply("add", (value, added), value.dtype, node.name)


CONTRACTIONS: dict[str, Contracting] = {
    **dict.fromkeys(["matmul", "mm", "bmm", "mv", "dot", "vdot", "linalg_matmul"], _matmul),
    "inner": _inner,
    **dict.fromkeys(["outer", "ger"], _outer),
    "linear": _linear,
    **dict.fromkeys(["addmm", "baddbmm", "addmv"], _addmm),
    "einsum": _einsum,
    "tensordot": _tensordot,
    **dict.fromkeys(["conv1d", "conv2d", "conv3d", "convolution"], _convolution),
}
