"""The task as one loop nest: rows × columns, what each element loads, what is stored.

Every idea reads this. A task without reductions has rows and no columns; one with row
statistics computes them over all columns of a row ("prologue → statistics → epilogue").
"""

from __future__ import annotations

import math
from functools import cached_property

from attrs import frozen

from search_engine.playbook.dtypes import arithmetic, is_float, item_bytes
from search_engine.playbook.expression import (
    Bound,
    Expression,
    Inside,
    Load,
    Result,
    Scan,
    Statistic,
    conditions,
    loads,
    scans,
    statistics,
    walk,
)
from search_engine.task import ProductKind

# What a grid-stride loop may add to an index past the end of the tensor.
_STEP = 2**26


class Unsupported(Exception):
    """The playbook has nothing for the task; the message is one sentence that says why."""


@frozen
class Axis:
    """One axis of the iteration space."""

    name: str
    size: int


@frozen
class Store:
    """One output: the value of every element, and where it goes (strides in elements)."""

    tensor: str
    dtype: str
    value: Expression
    strides: tuple[tuple[str, int], ...]

    def stride(self, axis: str) -> int:
        """Elements between neighbours along the axis; 0 along the columns of a row's result."""
        return dict(self.strides).get(axis, 0)


@frozen
class Program:
    """The loop nest, axes outermost first and merged as far as every access allows.

    The outermost row axis is the one whose size kernels take at run time.
    """

    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    stores: tuple[Store, ...]
    tf32: tuple[ProductKind, ...] = ()  # products that eager takes in TF32, as in the task

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All axes, rows before columns."""
        return self.rows + self.columns

    @property
    def row_count(self) -> int:
        """Rows of the iteration space."""
        return math.prod(axis.size for axis in self.rows)

    @property
    def column_count(self) -> int:
        """Elements of a row; 1 where there are no columns."""
        return math.prod(axis.size for axis in self.columns)

    @property
    def values(self) -> tuple[Expression, ...]:
        """What is stored, by output."""
        return tuple(store.value for store in self.stores)

    @cached_property
    def statistics(self) -> tuple[Statistic, ...]:
        """Row statistics in an order in which they can be computed."""
        return statistics(*self.values)

    @cached_property
    def scans(self) -> tuple[Scan, ...]:
        """Prefix statistics; a nest that has them has no row statistics."""
        return scans(*self.values)

    @cached_property
    def bodies(self) -> tuple[Expression, ...]:
        """What row and prefix statistics are of."""
        found = [s.body for s in self.statistics] + [s.statistic.body for s in self.scans]
        return tuple(dict.fromkeys(found))

    @cached_property
    def loads(self) -> tuple[Load, ...]:
        """Every load, those of the statistics first."""
        return loads(*self.bodies, *self.values)

    @cached_property
    def conditions(self) -> tuple[Inside, ...]:
        """Every condition on the place alone (padding)."""
        return conditions(*self.bodies, *self.values)

    @cached_property
    def bounds(self) -> tuple[Bound, ...]:
        """Every bound of a load or a condition, once."""
        leaves: list[Load | Inside] = [*self.loads, *self.conditions]
        return tuple(dict.fromkeys(bound for leaf in leaves for bound in leaf.bounds))

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Size of every axis by name."""
        return {axis.name: axis.size for axis in self.axes}

    @cached_property
    def dtype(self) -> str:
        """The dtype that decides the arithmetic: float64 if anything is float64."""
        wide = any(load.dtype == "float64" for load in self.loads)
        wide = wide or any(getattr(v, "dtype", "") == "float64" for v in self.values)
        return "float64" if wide else "float32"

    @property
    def real(self) -> str:
        """The C type of floating work."""
        return arithmetic(self.dtype).type

    @cached_property
    def levels(self) -> int:
        """How many passes over a row the statistics need, one after the other."""
        depth: dict[Statistic, int] = {}
        for statistic in self.statistics:
            before = (depth[n.statistic] for n in walk(statistic.body) if isinstance(n, Result))
            depth[statistic] = 1 + max(before, default=0)
        return max(depth.values(), default=0)

    @property
    def is_pointwise(self) -> bool:
        """No statistics: every element by itself."""
        return not self.statistics and not self.scans

    def reads_columns(self, value: Expression) -> bool:
        """Whether the value changes along a row."""
        names = {axis.name for axis in self.columns}
        leaves: list[Load | Inside] = [*loads(value), *conditions(value)]
        return any(names & leaf.axes for leaf in leaves)

    def streamed(self, load: Load) -> bool:
        """Whether the load covers rows and columns (not a parameter that rows share)."""
        touched = {name for name, _ in load.strides}
        return all(axis.name in touched for axis in self.axes)

    @property
    def widest_item(self) -> int:
        """Bytes of the widest element among streamed loads and stores."""
        streamed = [item_bytes(load.dtype) for load in self.loads if self.streamed(load)]
        return max(streamed + [item_bytes(store.dtype) for store in self.stores])

    @property
    def narrowest_item(self) -> int:
        """Bytes of the narrowest floating element among streamed loads and stores."""
        dtypes = [load.dtype for load in self.loads if self.streamed(load)]
        dtypes += [store.dtype for store in self.stores]
        return min((item_bytes(d) for d in dtypes if is_float(d)), default=4)

    @property
    def inner(self) -> Axis:
        """The innermost axis: neighbouring threads take neighbouring elements of it."""
        return self.axes[-1]

    @property
    def inner_contiguous(self) -> bool:
        """Whether every streamed access moves by one element along the innermost axis."""
        name = self.inner.name
        strides = [load.stride(name) for load in self.loads if self.streamed(load)]
        strides += [store.stride(name) for store in self.stores if self.full(store)]
        return all(stride == 1 for stride in strides)

    def full(self, store: Store) -> bool:
        """Whether the output has an element per row and column (not one per row)."""
        touched = {name for name, _ in store.strides}
        return all(axis.name in touched for axis in self.axes)

    @cached_property
    def needs_64_bit(self) -> bool:
        """Whether an element index can pass 2³¹."""
        extent = 0
        accesses: list[Load | Store] = [*self.loads, *self.stores]
        for access in accesses:
            reach = sum(abs(access.stride(a.name)) * (a.size - 1) for a in self.axes)
            extent = max(extent, reach)
        return max(extent, self.row_count * self.column_count) >= 2**31 - _STEP
