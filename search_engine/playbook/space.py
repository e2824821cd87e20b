"""The iteration space of one loop nest: its axes, and what the nest is to compute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attrs import frozen

from search_engine.graph import Graph, Node
from search_engine.playbook.index import ZERO, Affine, Index, SplitAxis, regroup
from search_engine.playbook.program import Axis, Unsupported
from search_engine.task import ProductKind, TensorSpec

# The axis of an output with a single element: every access walks it, by one.
ONE = "one"

DIFFERENT_ROWS = "No playbook idea covers two reductions over different dimensions yet."


@frozen
class Piece:
    """What one loop nest computes: the whole of a task's graph, or a part of it.

    ``nodes`` are computed here, by name; every other value is loaded from the tensor that
    ``tensors`` has for it. ``outputs`` pairs where to store with the value's name.
    """

    graph: Graph  # the whole task's
    nodes: Mapping[str, Node]
    tensors: Mapping[str, TensorSpec]
    outputs: tuple[tuple[TensorSpec, str], ...]
    tf32: tuple[ProductKind, ...] = ()  # as in the task


class Space:
    """The iteration space: axes of the largest output, then columns that are only reduced."""

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        largest = max((spec for spec, _ in piece.outputs), key=lambda spec: spec.numel)
        self.shape = largest.shape
        self.axes = [Axis(f"i{d}", size) for d, size in enumerate(self.shape) if size > 1]
        if not self.axes:
            self.axes = [Axis(ONE, 1)]
        self.reduced: list[Axis] = []

    @property
    def sizes(self) -> dict[str, int]:
        """Size of every axis by name."""
        return {axis.name: axis.size for axis in (*self.axes, *self.reduced)}

    def split(self, request: SplitAxis) -> None:
        """Replace one axis by an outer and an inner one."""
        for axes in (self.axes, self.reduced):
            for position, axis in enumerate(axes):
                if axis.name == request.axis:
                    outer = Axis(f"{axis.name}o", axis.size // request.inner)
                    inner = Axis(f"{axis.name}i", request.inner)
                    axes[position : position + 1] = [outer, inner]

    def flat(self, axes: Sequence[Axis]) -> Affine:
        """The row-major index over the axes."""
        stride, terms = 1, []
        axes = [axis for axis in axes if axis.name != ONE]
        for axis in reversed(axes):
            terms.append((axis.name, stride))
            stride *= axis.size
        return Affine(tuple(reversed(terms)))

    def index(self, axes: Sequence[Axis], shape: Sequence[int]) -> Index:
        """The index into a tensor of that shape whose elements the axes enumerate."""
        return regroup((self.flat(axes),), (math.prod(shape),), shape, self.sizes)

    def columns(self, outer: Index, shape: Sequence[int]) -> Index:
        """The index over reduced dimensions of that shape, for a result at index ``outer``.

        Reduced dimensions run over the output's axes that the result does not use (then
        the operand is the very value that the epilogue sees), else over new axes.
        """
        if math.prod(shape) == 1:  # nothing to run over, whatever else is reduced
            return tuple(ZERO for _ in shape)
        used = {axis for part in outer for axis, _ in part.terms}
        free = [axis for axis in self.axes if axis.name not in used]
        if math.prod(axis.size for axis in free) == math.prod(shape):
            return self.index(free, shape)
        if any(axis.size > 1 for axis in free):
            raise Unsupported(
                "No playbook idea covers a reduction whose result is used along other dimensions "
                "than the reduced ones."
            )
        return self.summed(outer, shape)

    def summed(self, outer: Index, shape: Sequence[int]) -> Index:
        """The same over axes that are no output's: new ones, or those of another reduction."""
        if not self.reduced:
            self.reduced = [Axis(f"r{d}", size) for d, size in enumerate(shape) if size > 1]
        own = {axis.name for axis in self.reduced}
        nested = any(axis in own for part in outer for axis, _ in part.terms)
        if nested or math.prod(axis.size for axis in self.reduced) != math.prod(shape):
            raise Unsupported(DIFFERENT_ROWS)
        return self.index(self.reduced, shape)
