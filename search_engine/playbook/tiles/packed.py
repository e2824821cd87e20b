"""A convolution's weight in the order that a tile wants it: taps outside, channels inside.

Then a stage of k lies within one tap: bounds are checked once per stage, and neighbouring k's
of the image are one channel apart. A first launch copies the weight, which is small.
"""

from __future__ import annotations

from attrs import frozen

from search_engine.contract.printer import launch_line, scratch_line
from search_engine.playbook.contraction import Contraction
from search_engine.playbook.dtypes import storage_type
from search_engine.playbook.emit import Writer
from search_engine.playbook.expression import Load
from search_engine.playbook.names import unused
from search_engine.playbook.program import Axis
from search_engine.playbook.tiles.places import apart, total

_THREADS = 256


@frozen
class Packed:
    """A copy of the left operand, row by row, with its columns in another order."""

    source: Load
    target: Load
    axes: tuple[Axis, ...]  # of the copy, outermost first


def channels_inside(c: Contraction, depth: int) -> bool:
    """Whether stages of that many k's can lie within one tap."""
    return (
        c.convolution
        and len(c.columns) > 1
        and c.columns[0].size % depth == 0
        and c.left_whole is not None
        and c.right.load is not None
    )


def packed(c: Contraction) -> tuple[Contraction, Packed]:
    """The contraction over the copied weight, and what to copy."""
    source = c.left_whole
    assert source is not None
    columns = (*c.columns[1:], c.columns[0])
    axes = tuple(a for a in (*c.batch, *c.m, *columns) if a.name in source.axes)
    strides, step = [], 1
    for axis in reversed(axes):
        strides.append((axis.name, step))
        step *= axis.size
    used = [load.tensor for load in c.program.loads]
    used += [store.tensor for store in c.program.stores]
    target = Load(unused("packed", used), source.dtype, tuple(sorted(strides)))
    return c.reordered(columns, target), Packed(source, target, axes)


def write(copy: Packed, writer: Writer) -> None:
    """The scratch line, the launch and the kernel of the copy."""
    count = 1
    for axis in copy.axes:
        count *= axis.size
    ctype = storage_type(copy.source.dtype)
    source, target = writer.tensor(copy.source.tensor), copy.target.tensor
    writer.lines.append(scratch_line(target, copy.source.dtype, [count]))
    grid = -(-count // _THREADS)
    writer.lines.append(launch_line("pack", grid, _THREADS, [copy.source.tensor, target]))
    taken, where = apart(copy.axes, "at", "  ")
    body = [
        f'extern "C" __global__ void __launch_bounds__({_THREADS}) '
        f"pack(const {ctype}* __restrict__ {source}, {ctype}* __restrict__ {target}) {{",
        f"  const int at = blockIdx.x * {_THREADS} + threadIdx.x;",
        f"  if (at >= {count}) return;",
        *taken,
        f"  {target}[at] = {source}[{total(copy.source.strides, where, copy.source.offset)}];",
        "}",
    ]
    writer.kernels.append("\n".join(body))
