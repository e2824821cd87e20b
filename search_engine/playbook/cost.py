"""A small model of time: bytes over bandwidths, instructions over issue rate, fixed costs.

It ranks ideas before anything has run and gives their expected effect; it is no measurement.
Constants are for data-centre GPUs since Ampere and deliberately few.
"""

from __future__ import annotations

from collections.abc import Mapping

from search_engine.graph import Node
from search_engine.hardware import DeviceFacts
from search_engine.playbook.dtypes import item_bytes
from search_engine.playbook.expression import Apply, Expression, Inside, Load, walk
from search_engine.playbook.launch import ceil_div
from search_engine.playbook.primitives import PRIMITIVES
from search_engine.playbook.program import Program
from search_engine.task import ITEM_BYTES, Task

LAUNCH = 2.5e-6  # seconds from one dependent launch to the next, and the ramp of a grid
GRID_SYNC = 1.5e-6  # seconds of a grid-wide barrier
L2_RATIO = 1.3  # L2 bandwidth over DRAM bandwidth for a mix of reads and writes
EAGER_LAUNCH = 4.5e-6  # seconds from one eager operator to the next


def traffic(program: Program) -> tuple[int, int]:
    """(bytes read, bytes written) when every tensor moves once."""
    read: dict[str, int] = {}
    sizes = program.sizes
    for load in program.loads:
        count = item_bytes(load.dtype) * elements(load, sizes)
        read[load.tensor] = max(count, read.get(load.tensor, 0))
    written = 0
    for store in program.stores:
        count = item_bytes(store.dtype)
        for axis, _ in store.strides:
            count *= sizes[axis]
        written += count
    return sum(read.values()), written


def elements(load: Load, sizes: Mapping[str, int]) -> int:
    """Different elements that a load touches: windows that overlap share theirs."""
    count, reach = 1, 1
    for axis, stride in load.strides:
        count *= sizes[axis]
        reach += abs(stride) * (sizes[axis] - 1)
    return min(count, reach)


def streamed_bytes(program: Program) -> int:
    """Bytes of the loads that cover rows and columns: what a second pass reads again."""
    count = program.row_count * program.column_count
    tensors = {load.tensor: load.dtype for load in program.loads if program.streamed(load)}
    return count * sum(item_bytes(dtype) for dtype in tensors.values())


def operations(program: Program) -> int:
    """Instructions of all expressions and loads; what a row alone decides counts once a row."""
    columns = {axis.name for axis in program.columns}
    varies: dict[Expression, bool] = {}
    per_row = per_element = 0
    for node in walk(*(s.body for s in program.statistics), *program.values):
        count = 0
        if isinstance(node, Apply):
            varies[node] = any(varies[arg] for arg in node.args)
            count = PRIMITIVES[node.op].cost
        elif isinstance(node, (Load, Inside)):
            varies[node] = bool(columns & node.axes)
            count = 2 * isinstance(node, Load) + 3 * len(node.bounds)
        else:
            varies[node] = False
        if varies[node] or not columns:
            per_element += count
        else:
            per_row += count
    per_element += sum(_STATISTIC.get(s.kind, 1) for s in program.statistics)
    return program.row_count * (per_row + program.column_count * per_element)


# Instructions that a statistic takes of each element.
_STATISTIC = {"softmax": 8, "moments": 5}


def issue_seconds(program: Program, facts: DeviceFacts, factor: float = 1.0) -> float:
    """Time of the arithmetic when all multiprocessors issue at full rate."""
    lanes = facts.sm_count * 128 * facts.clock_hz
    return factor * operations(program) / lanes


def least_seconds(program: Program, facts: DeviceFacts) -> float:
    """What no kernel of the nest can beat: every byte once, products at the tensor cores' rate.

    Orders partitions of a graph before any idea is asked.
    """
    moved = sum(traffic(program)) / facts.dram_bytes_per_second
    work = issue_seconds(program, facts)
    if contracts(program):
        work = 2 * program.row_count * program.column_count / facts.half_flops
    return max(moved, work) + LAUNCH


def contracts(program: Program) -> bool:
    """Whether elements are read for several results: a matmul, a convolution."""
    columns = {axis.name for axis in program.columns}
    return any(
        isinstance(load, Load) and load.axes & columns and not program.streamed(load)
        for statistic in program.statistics
        for load in walk(statistic.body)
    ) and not any(program.streamed(load) for load in program.loads)


def requested_seconds(program: Program, facts: DeviceFacts) -> float:
    """Time in which the caches deliver what rows share, when lanes run along the columns.

    Lanes that are not neighbours in memory cost a sector of 32 bytes each.
    """
    columns, inner = {axis.name for axis in program.columns}, program.inner.name
    total = 0.0
    for load in program.loads:
        if program.streamed(load) or not load.axes & columns:
            continue
        stride = load.stride(inner)
        size = item_bytes(load.dtype) if abs(stride) == 1 else 32 if stride else 0
        total += size * program.row_count * program.column_count
    return total / (facts.sm_count * _L1_BYTES_PER_CLOCK * facts.clock_hz)


# Bytes per clock that a multiprocessor's L1 delivers: half of 128, as L2 serves part of them.
_L1_BYTES_PER_CLOCK = 64


def pass_seconds(
    program: Program,
    facts: DeviceFacts,
    *,
    extra_reads: float = 0.0,
    efficiency: float = 0.92,
    launches: int = 1,
    busy: float = 1.0,
) -> float:
    """Time of a kernel that moves everything once and re-reads ``extra_reads`` bytes.

    ``busy`` is the share of the multiprocessors that have work; ``efficiency`` the share of
    the copy bandwidth that its access pattern reaches.
    """
    read, written = traffic(program)
    moved = (read + written + extra_reads) / (facts.dram_bytes_per_second * efficiency)
    work = max(issue_seconds(program, facts), requested_seconds(program, facts))
    return max(moved, work) / max(busy, 1e-3) + launches * LAUNCH


def cached_share(size: float, facts: DeviceFacts) -> float:
    """Share of so many bytes that is still in L2 when it is read again soon."""
    return 1.0 if not size else min(1.0, facts.l2_bytes * 0.7 / size)


def busy_share(blocks: int, facts: DeviceFacts, per_sm: int) -> float:
    """Share of the chip that a grid keeps busy, its last incomplete wave counted."""
    slots = facts.sm_count * max(per_sm, 1)
    if blocks >= slots:
        waves = ceil_div(blocks, slots)
        # Blocks come and go one by one; only about half of the last wave's gap is lost.
        return (blocks / (waves * slots) + 1) / 2
    # A few resident warps per multiprocessor are enough to pull most of its bandwidth.
    return min(1.0, blocks / facts.sm_count)


_FREE = frozenset(
    [
        "view", "reshape", "flatten", "unflatten", "permute", "transpose", "t", "unsqueeze",
        "squeeze", "expand", "expand_as", "contiguous", "detach", "alias", "select",
        "slice", "narrow", "dropout", "_assert_tensor_metadata",
    ]
)  # fmt: skip


def eager_seconds(task: Task, facts: DeviceFacts) -> float:
    """What eager takes by the same model: every operator reads and writes device memory."""
    assert task.graph is not None
    shapes = {t.name: (t.shape, t.dtype) for t in task.tensors}
    shapes |= {n.name: (n.shape, n.dtype) for n in task.graph.nodes}
    total = 0.0
    for node in task.graph.nodes:
        name = node.op.split(".")[1] if "." in node.op else node.op
        if name in _FREE:
            continue
        operands = sum(_bytes(*shapes[ref]) for ref in set(node.references()) if ref in shapes)
        passes = _EAGER_PASSES.get(name, 1.0)
        moved = operands * passes + _bytes(node.shape, node.dtype)
        total += moved / (0.85 * facts.dram_bytes_per_second) * _idle(node, shapes, facts)
        total += EAGER_LAUNCH
    return max(total, EAGER_LAUNCH)


# Operand passes of eager's own kernels: LayerNorm reads its rows for the moments and again
# for the result; softmax over long rows reads them three times.
_EAGER_PASSES = {"layer_norm": 2.0, "softmax": 2.5, "log_softmax": 2.5, "rms_norm": 2.0}


def _idle(node: Node, shapes: dict[str, tuple[tuple[int, ...], str]], facts: DeviceFacts) -> float:
    """Eager norms give a row to one block: few long rows leave most of the bandwidth unused."""
    name = node.op.split(".")[1] if "." in node.op else node.op
    if name not in ("layer_norm", "rms_norm"):
        return 1.0
    normalized = node.args[1]
    columns = 1
    if isinstance(normalized, tuple):
        for size in normalized:
            columns *= size if isinstance(size, int) else 1
    elements = 1
    for size in node.shape:
        elements *= size
    rows = max(elements // columns, 1)
    return max(1.0, 0.85 * facts.dram_bytes_per_second / (rows * _EAGER_BLOCK))


# Bytes per second of one block of eager's LayerNorm: 16 rows of 16.8 MB take 8.3 ms on an H200.
_EAGER_BLOCK = 6e9


def _bytes(shape: tuple[int, ...], dtype: str) -> int:
    total = ITEM_BYTES[dtype]
    for size in shape:
        total *= size
    return total
