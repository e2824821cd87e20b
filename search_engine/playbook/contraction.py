"""A sum of products as a contraction: which axes are batch, m, n and k, and what is multiplied.

Matrix products and convolutions are one thing here: out[b, m, n] = epilogue(Σ_k left[b, m, k] ·
right[b, n, k]). A convolution's right operand is the image, read at pixel and tap (implicit
GEMM: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014, section 3).
"""

from __future__ import annotations

import math

from attrs import evolve, frozen

from search_engine.playbook.dtypes import item_bytes
from search_engine.playbook.expression import (
    Apply,
    Expression,
    Inside,
    Load,
    Position,
    Result,
    conditions,
    loads,
    rewrite,
)
from search_engine.playbook.program import Axis, Program, Store

# What the product of a convolution is called: torch's precision flags differ for these.
CONVOLUTION = "convolution"

_LARGEST_TILE = 256  # rows by which a tile may reach past the end


@frozen
class Operand:
    """One factor of the product, over its own row axes and the columns."""

    value: Expression
    rows: tuple[Axis, ...]  # m for the left one, n for the right one; outermost first
    columns: tuple[Axis, ...]  # k, as few axes as this operand's accesses allow

    @property
    def count(self) -> int:
        """Rows in all."""
        return math.prod(axis.size for axis in self.rows)

    @property
    def load(self) -> Load | None:
        """The tensor, where the operand is one as it is."""
        return self.value if isinstance(self.value, Load) else None

    @property
    def leaves(self) -> tuple[Load | Inside, ...]:
        """What depends on the place: loads, then conditions."""
        return (*loads(self.value), *conditions(self.value))


@frozen
class Contraction:
    """The program's only statistic as a product of matrices, and its axes by their role.

    The right operand's rows (n) hold the output's contiguous axis where either has it. The
    operands see the rows and columns as fewer axes, each as far as its own accesses allow.
    """

    program: Program
    result: Result
    batch: tuple[Axis, ...]
    m: tuple[Axis, ...]
    n: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    left: Operand
    right: Operand
    convolution: bool
    left_whole: Load | None  # the left operand over the program's own axes, where it is one load
    right_whole: Expression

    @property
    def k(self) -> int:
        """Products that one output sums."""
        return math.prod(axis.size for axis in self.columns)

    @property
    def products(self) -> tuple[int, ...]:
        """TF32 products that an fp32 one may be taken as: three, or one where eager takes one."""
        kind = "convolution" if self.convolution else "matmul"
        return (3, 1) if kind in self.program.tf32 else (3,)

    @property
    def batches(self) -> int:
        """Independent products of matrices."""
        return math.prod(axis.size for axis in self.batch)

    @property
    def flops(self) -> int:
        """Multiply and add as two."""
        return 2 * self.batches * self.left.count * self.right.count * self.k

    @property
    def bytes_once(self) -> int:
        """Bytes when every tensor moves once, each distinct element of it."""
        sizes = self.program.sizes
        total = 0
        for load in {load.tensor: load for load in self.program.loads}.values():
            # Overlapping windows of a convolution read one element under several indices.
            reach = 1 + sum(abs(s) * (sizes[a] - 1) for a, s in load.strides)
            count = math.prod(sizes[axis] for axis, _ in load.strides)
            total += min(count, reach) * item_bytes(load.dtype)
        for store in self.program.stores:
            count = math.prod(sizes[axis] for axis, _ in store.strides)
            total += count * item_bytes(store.dtype)
        return total

    @property
    def index_type(self) -> str:
        """The C type of offsets into the tensors."""
        sizes = self.program.sizes
        accesses: list[Load | Store] = [*self.program.loads, *self.program.stores]
        reach = 0
        for access in accesses:
            steps = [(abs(stride), sizes[axis]) for axis, stride in access.strides]
            past = _LARGEST_TILE * max((step for step, _ in steps), default=0)
            reach = max(reach, past + sum(step * (size - 1) for step, size in steps))
        return "int" if reach < 2**31 else "long long"

    def reordered(self, columns: tuple[Axis, ...], left: Load) -> Contraction:
        """The same sum taken in another order of its columns, with another left operand."""
        program = evolve(self.program, columns=columns)
        return evolve(
            self,
            columns=columns,
            left=_operand(left, self.m, program),
            right=_operand(self.right_whole, self.n, program),
        )

    @property
    def runtime(self) -> str:
        """The role of the axis whose size is known at run time: "batch", "left" or "right"."""
        first = self.program.rows[0].name
        if any(axis.name == first for axis in self.m):
            return "left"
        return "right" if any(axis.name == first for axis in self.n) else "batch"


def match(program: Program) -> Contraction | None:
    """The program as a contraction, or None where it is none."""
    found = program.statistics
    if len(found) != 1 or found[0].kind != "sum" or not program.columns:
        return None
    if any(isinstance(leaf, Position) for leaf in program.conditions):
        return None  # tiles are copied from memory: a place is no element of it
    body = found[0].body
    if not (isinstance(body, Apply) and body.op == "mul"):
        return None
    columns = {axis.name for axis in program.columns}
    if any(columns & _axes(value) for value in program.values):
        return None
    rows = {axis.name for axis in program.rows}
    if any({name for name, _ in store.strides} != rows for store in program.stores):
        return None
    first, second = body.args
    if not (columns & _axes(first) and columns & _axes(second)):
        return None
    own, other = _axes(first) & rows, _axes(second) & rows
    if own | other != rows:
        return None
    first_rows, second_rows = (
        tuple(a for a in program.rows if a.name in mine - theirs)
        for mine, theirs in ((own, other), (other, own))
    )
    inner = [a.name for a in program.rows if program.stores[0].stride(a.name) == 1]
    if any(axis.name in inner for axis in first_rows):
        first, second, first_rows, second_rows = second, first, second_rows, first_rows
    return Contraction(
        program=program,
        result=Result(found[0], "sum"),
        batch=tuple(a for a in program.rows if a.name in own & other),
        m=first_rows,
        n=second_rows,
        columns=program.columns,
        left=_operand(first, first_rows, program),
        right=_operand(second, second_rows, program),
        convolution=body.name == CONVOLUTION,
        left_whole=first if isinstance(first, Load) else None,
        right_whole=second,
    )


def _operand(value: Expression, rows: tuple[Axis, ...], program: Program) -> Operand:
    """The factor with neighbouring axes merged that its own accesses walk as one.

    A convolution's weight is contiguous along channels and taps, its image is not.
    """
    groups = [list(rows), list(program.columns)]
    for axes in groups:
        position = 0
        while position + 1 < len(axes):
            outer, inner = axes[position : position + 2]
            leaves: tuple[Load | Inside, ...] = (*loads(value), *conditions(value))
            steps = [dict(leaf.strides) for leaf in leaves if isinstance(leaf, Load)]
            steps += [dict(bound.terms) for leaf in leaves for bound in leaf.bounds]
            if all(s.get(outer.name, 0) == s.get(inner.name, 0) * inner.size for s in steps):
                axes[position : position + 2] = [Axis(inner.name, outer.size * inner.size)]
                value = _without(value, outer.name)
            else:
                position += 1
    return Operand(value, tuple(groups[0]), tuple(groups[1]))


def _without(value: Expression, name: str) -> Expression:
    """The value with one axis left out of every index."""

    def kept(terms: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
        return tuple((axis, step) for axis, step in terms if axis != name)

    def drop(node: Expression) -> Expression | None:
        if not isinstance(node, (Load, Inside)) or name not in node.axes:
            return None
        bounds = tuple(evolve(bound, terms=kept(bound.terms)) for bound in node.bounds)
        if isinstance(node, Inside):
            return Inside(bounds)
        return evolve(node, strides=kept(node.strides), bounds=bounds)

    return rewrite(value, drop)


def _axes(value: Expression) -> frozenset[str]:
    """Names of the axes that a value changes along."""
    leaves: tuple[Load | Inside, ...] = (*loads(value), *conditions(value))
    return frozenset(name for leaf in leaves for name in leaf.axes)
