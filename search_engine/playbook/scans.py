"""Running statistics along a dimension: cumulative sums, products, extremes.

``SCANS[name](node, index, reader)`` gives the result's value at an index. Reversed by
flipping before and after, shifted by one (exclusive), cut short: all are one scan of the
operand in its own order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from search_engine.graph import Node
from search_engine.playbook.dtypes import is_float
from search_engine.playbook.expression import Apply, Constant, Expression, Scan, Statistic
from search_engine.playbook.index import Affine, Index
from search_engine.playbook.program import Unsupported
from search_engine.playbook.reductions import cast, extreme_dtype, log_of_sum, sum_dtype
from search_engine.playbook.views import argument, source

if TYPE_CHECKING:
    from search_engine.playbook.analyse import Reader

Prefix = Callable[[str, str], Expression]  # (kind, part) → the running value


def _walked(at: Affine, size: int, node: Node, reader: Reader) -> tuple[Affine, bool, bool]:
    """The operand's index along the columns, whether exclusive, whether reversed.

    ``at`` is the wanted index into the dimension of that size: up to it all is taken.
    """
    sizes = reader.space.sizes
    terms = sorted(at.terms, key=lambda term: -abs(term[1]))
    sign, count = (1 if not terms or terms[-1][1] > 0 else -1), 1
    for axis, factor in reversed(terms):
        if factor != sign * count:
            raise Unsupported(
                f"No playbook idea covers {node.op} whose result is cut up like this."
            )
        count *= sizes[axis]
    if not terms:
        raise Unsupported(f"No playbook idea covers a single place of {node.op} yet.")
    if sign > 0 and at.constant in (0, -1):
        return Affine(tuple(terms)), at.constant < 0, False
    last = count - 1
    if sign < 0 and at.constant in (last, last - 1):
        return Affine(tuple(terms), last), at.constant < last, True
    raise Unsupported(f"No playbook idea covers {node.op} cut up like this.")


def _prefix(node: Node, index: Index, reader: Reader, dtype: str) -> Prefix:
    """Running values of the operand, in work of the dtype, at the index."""
    name = source(node)
    shape = reader.shape(name)
    dim = argument(node, 1, "dim")
    assert isinstance(dim, int)
    if not shape or shape[dim] == 1:
        value = cast(reader.value(name, index), dtype)

        def alone(kind: str, part: str) -> Expression:
            if part == "index":
                return Constant(0, "int64")
            exponential = Apply("exp", (Apply("sub", (value, value), dtype),), dtype)
            return exponential if (kind, part) == ("softmax", "sum") else value

        return alone
    dim %= len(shape)
    along, exclusive, reverse = _walked(index[dim], shape[dim], node, reader)
    body = cast(reader.running(name, (*index[:dim], along, *index[dim + 1 :]), dim), dtype)

    def prefix(kind: str, part: str) -> Expression:
        if part == "index" and (reverse or exclusive):
            raise Unsupported(f"No playbook idea covers {node.op} in reverse yet.")
        return Scan(Statistic(kind, body, dtype), part, exclusive, reverse)

    return prefix


def _cumulative(kind: str) -> Callable[[Node, Index, Reader], Expression]:
    """cumsum, cumprod: of integers in int64."""

    def read(node: Node, index: Index, reader: Reader) -> Expression:
        value = _prefix(node, index, reader, sum_dtype(node.dtype))(kind, kind)
        return cast(value, node.dtype, node.name)

    return read


def _running(kind: str) -> Callable[[Node, Index, Reader], Expression]:
    """cummax, cummin: the extreme so far and where it was; of equal ones the last."""

    def read(node: Node, index: Index, reader: Reader) -> Expression:
        before = reader.dtype(source(node))
        prefix = _prefix(node, index, reader, extreme_dtype(before))
        if node.op.endswith(".indices"):
            return prefix(f"last{kind}", "index")
        return cast(prefix(kind, kind), before, node.name)

    return read


def _logcumsumexp(node: Node, index: Index, reader: Reader) -> Expression:
    if not is_float(node.dtype):
        raise Unsupported(f"No playbook idea covers {node.op} of {node.dtype} yet.")
    prefix = _prefix(node, index, reader, sum_dtype(node.dtype))
    return log_of_sum(prefix("softmax", "max"), prefix("softmax", "sum"), node.name)


SCANS: dict[str, Callable[[Node, Index, Reader], Expression]] = {
    "cumsum": _cumulative("sum"),
    "cumprod": _cumulative("prod"),
    "cummax": _running("max"),
    "cummin": _running("min"),
    "logcumsumexp": _logcumsumexp,
}
