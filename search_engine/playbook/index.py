"""Indices into tensors as sums of loop axes, and how view operators change them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from attrs import frozen

from search_engine.playbook.program import Unsupported


@frozen(cache_hash=True)
class Affine:
    """The index along one dimension: constant + Σ factor × axis."""

    terms: tuple[tuple[str, int], ...] = ()
    constant: int = 0

    def scaled(self, factor: int, shift: int = 0) -> Affine:
        """factor × index + shift."""
        terms = tuple((axis, coefficient * factor) for axis, coefficient in self.terms)
        return Affine(terms, self.constant * factor + shift)


Index: TypeAlias = "tuple[Affine, ...]"
ZERO = Affine()


class SplitAxis(Exception):
    """A view cuts the axis: it has to become two, the inner one of that size."""

    def __init__(self, axis: str, inner: int) -> None:
        self.axis, self.inner = axis, inner
        super().__init__(f"{axis} by {inner}")


def strides_of(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides of a shape, in elements."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def broadcast(index: Index, shape: Sequence[int]) -> Index:
    """The index into an operand of that shape that is broadcast to the indexed value."""
    tail = index[len(index) - len(shape) :]
    return tuple(ZERO if size == 1 else part for part, size in zip(tail, shape, strict=True))


def regroup(
    index: Index, shape: Sequence[int], target: Sequence[int], sizes: dict[str, int]
) -> Index:
    """The index into ``target`` of the element at ``index`` of ``shape`` (a reshape).

    ``sizes`` are the axes'. Dimensions that both shapes have keep their index as it is, so
    that one which leaves its bounds (padding) may pass. Raises SplitAxis where an axis
    straddles a dimension of the target, Unsupported where the cut does not divide it.
    """
    result: list[Affine] = []
    for here, there in _segments(shape, target):
        parts, inner = index[here], shape[here]
        wanted = target[there]
        large = [part for part, size in zip(parts, inner, strict=True) if size > 1]
        if len(large) == sum(size > 1 for size in wanted) == 1:
            result += [large[0] if size > 1 else ZERO for size in wanted]
        else:
            result += _regrouped(parts, inner, wanted, sizes)
    return tuple(result)


def _segments(shape: Sequence[int], target: Sequence[int]) -> list[tuple[slice, slice]]:
    """The shortest runs of dimensions with equal products in both shapes."""
    found = []
    i = j = 0
    while i < len(shape) or j < len(target):
        here, there, first, second = i, j, 1, 1
        if i < len(shape):
            first, i = shape[i], i + 1
        if j < len(target):
            second, j = target[j], j + 1
        while first != second:
            if (first < second or j == len(target)) and i < len(shape):
                first, i = first * shape[i], i + 1
            else:
                second, j = second * target[j], j + 1
        found.append((slice(here, i), slice(there, j)))
    return found


def _regrouped(
    index: Index, shape: Sequence[int], target: Sequence[int], sizes: dict[str, int]
) -> list[Affine]:
    terms: list[tuple[str, int]] = []
    constant = 0
    for part, stride in zip(index, strides_of(shape), strict=True):
        constant += part.constant * stride
        terms += [(axis, factor * stride) for axis, factor in part.terms]
    result = []
    for size, stride in zip(target, strides_of(target), strict=True):
        if size == 1:
            result.append(ZERO)
            continue
        taken, rest = [], []
        for axis, factor in terms:
            if factor >= stride:
                if factor % stride:
                    raise Unsupported(_UNEVEN)
                taken.append((axis, factor // stride))
            else:
                if factor < 0:
                    raise Unsupported(_UNEVEN)
                if factor * sizes[axis] > stride:
                    inner = stride // factor
                    if stride % factor or sizes[axis] % inner:
                        raise Unsupported(_UNEVEN)
                    raise SplitAxis(axis, inner)
                rest.append((axis, factor))
        low = constant % stride
        if low + sum(factor * (sizes[axis] - 1) for axis, factor in rest) >= stride:
            raise Unsupported(_UNEVEN)
        result.append(Affine(tuple(taken), constant // stride))
        terms, constant = rest, low
    return result


_UNEVEN = (
    "No playbook idea covers a view whose sizes cut across another operator's dimensions unevenly."
)
