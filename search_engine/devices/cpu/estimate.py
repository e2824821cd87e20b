"""From counts of sampled blocks to a modelled time: a roofline with seven roofs.

The counting run (``runtime/src/count.cpp``) replays the accesses of a sample of blocks warp
by warp. Scaled to the whole grid they load seven units of the GPU, and the slowest decides:

- DRAM: bytes of sectors touched for the first time, or again after L2 could not keep them
- L2: sectors that L1 did not have, and all stores and atomics
- shared memory: cycles of the load/store pipe that L1 and shared memory have in common; one
  for each 128-byte line of a global access, one for each bank conflict
- issue: instructions of the warps, told from their accesses and collectives
- latency: what one warp waits for in a row, times the waves of blocks
- tensor cores: the operations of the matrix instructions
- fp32: the task's operations, less those of the tensor cores

It is uncalibrated: no figure of it has been set beside a GPU. x86 code tells little of how many
instructions the GPU's compiler needs, so the bound by issue is the weakest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from attrs import define, field, frozen

from search_engine.contract.kernel import Plan, Pointer, ResolvedLaunch
from search_engine.devices.arena import Layout
from search_engine.devices.cpu.job import Sample
from search_engine.hardware import DeviceFacts
from search_engine.task import Task
from search_engine.verdict import Estimate

SAMPLED_BLOCKS = 64
NEIGHBOURS = 4  # sampled blocks come in groups, as neighbours share sectors in L2

SECTOR = 32  # bytes: the unit of transfer between L1, L2 and DRAM
# L1 and shared memory share one memory; L1 gets what blocks leave of it. 256 KiB on compute
# capability 9.0, 228 of them at most for shared memory (CUDA C++ programming guide).
L1_BEYOND_SHARED = 28 * 1024
RESERVED_SHARED = 1024  # per block, for the system
# The figures down to INSTRUCTIONS_PER_ACCESS are assumptions, none measured or calibrated here;
# L2's was chosen so that a naive transpose of 2,048 squared comes out near 30 microseconds.
L2_BYTES_PER_CLOCK = 21  # per multiprocessor: 5.5 TB/s on an H200, read plus written
PORT_BYTES_PER_CLOCK = 64  # from L2 into one multiprocessor
SCHEDULERS = 4  # instructions that a multiprocessor issues per clock
LAUNCH_SECONDS = 1.7e-6  # from one kernel's end to the next one's first blocks
DRAM_SECONDS = 500e-9  # from a load to its use, past L2
SHARED_CLOCKS = 25  # the same in shared memory, and for a shuffle
BARRIER_CLOCKS = 30
LOADS_IN_FLIGHT = 4  # independent loads of one warp, after the compiler's unrolling
# Instructions for an access beside itself: address, loop and arithmetic. Typical of
# element-wise kernels and reductions.
INSTRUCTIONS_PER_ACCESS = 3

UNITS = ("DRAM", "L2", "shared memory", "issue", "latency", "tensor cores", "fp32")


@frozen
class Touched:
    """Sectors of one buffer: read and written for the first time, asked of L2 in all."""

    read: int
    written: int
    requested: int


@define
class Counts:
    """The counting run's figures for one launch, over ``blocks`` blocks; by warps, not lanes."""

    blocks: int
    loads: int
    stores: int
    atomics: int
    lines: int
    shared: int
    shared_cycles: int
    load_sectors: int
    l2_read_sectors: int
    l2_write_sectors: int
    collectives: int
    barriers: int
    longest_chain: int
    mma: int = 0  # matrix instructions; their operations by the inputs' size:
    flops_tf32: int = 0
    flops_half: int = 0
    flops_byte: int = 0
    touched: list[Touched] = field(factory=list, init=False)


def resident_blocks(launch: ResolvedLaunch, static_shared: int, facts: DeviceFacts) -> int:
    """Blocks of the launch that one multiprocessor holds at once, registers not considered."""
    threads = math.prod(launch.block)
    warps = math.ceil(threads / 32) * 32
    shared = launch.shared + static_shared + RESERVED_SHARED
    limits = facts.blocks_per_sm, facts.threads_per_sm // warps, facts.shared_per_sm // shared
    return max(1, min(limits))


def sample_of(launch: ResolvedLaunch, static_shared: int, facts: DeviceFacts) -> Sample:
    """Blocks spread over the grid, in small groups of neighbours."""
    blocks = math.prod(launch.grid)
    if blocks <= SAMPLED_BLOCKS:
        chosen = tuple(range(blocks))
    else:
        groups = SAMPLED_BLOCKS // NEIGHBOURS
        starts = (group * (blocks - NEIGHBOURS) // (groups - 1) for group in range(groups))
        chosen = tuple(sorted({start + index for start in starts for index in range(NEIGHBOURS)}))
    resident = min(
        resident_blocks(launch, static_shared, facts), math.ceil(blocks / facts.sm_count)
    )
    shared = resident * (launch.shared + static_shared + RESERVED_SHARED)
    l1 = max(facts.shared_per_sm + L1_BEYOND_SHARED - shared, L1_BEYOND_SHARED)
    return Sample(chosen, l1 // resident)


def read_counts(lines: Sequence[str]) -> list[Counts]:
    """The runner's figures, one for each launch."""
    counts: list[Counts] = []
    for line in lines:
        word, *rest = line.split()
        if word == "count":
            counts.append(Counts(*(int(figure) for figure in rest[1:])))
        elif word == "touch":
            counts[-1].touched.append(Touched(*(int(figure) for figure in rest[2:])))
    return counts


def estimate(
    task: Task,
    plan: Plan,
    layout: Layout,
    counts: Sequence[Counts],
    static_shared: int,
    facts: DeviceFacts,
) -> Estimate:
    """The modelled time of all launches of ``plan`` on ``facts``, L2 cold at the start."""
    total = 0.0
    breakdown = dict.fromkeys(UNITS, 0.0)
    decided = dict.fromkeys(UNITS, 0.0)
    cached: dict[str, float] = {}  # buffers in L2, with their bytes
    for launch, count in zip(plan.launches, counts, strict=True):
        traffic = _dram_bytes(launch, layout, count, cached, facts)
        units = _units(launch, count, traffic, static_shared, facts)
        worst = max(units, key=lambda unit: units[unit])
        decided[worst] += units[worst]
        total += LAUNCH_SECONDS + units[worst]
        for unit, seconds in units.items():
            breakdown[unit] += seconds
    on_tensor_cores = sum(
        (count.flops_tf32 + count.flops_half + count.flops_byte)
        * math.prod(launch.grid) / count.blocks
        for launch, count in zip(plan.launches, counts, strict=True)
    )  # fmt: skip
    breakdown["fp32"] = max(0.0, task.flops - on_tensor_cores) / facts.fp32_flops
    bound_by = max(decided, key=lambda unit: decided[unit])
    if breakdown["fp32"] + LAUNCH_SECONDS * len(plan.launches) > total:
        total, bound_by = breakdown["fp32"] + LAUNCH_SECONDS * len(plan.launches), "fp32"
    breakdown["launch"] = LAUNCH_SECONDS * len(plan.launches)
    return Estimate(facts.name, total, bound_by, breakdown)


def _dram_bytes(
    launch: ResolvedLaunch,
    layout: Layout,
    count: Counts,
    cached: dict[str, float],
    facts: DeviceFacts,
) -> float:
    """Bytes between L2 and DRAM; ``cached`` is brought up to date."""
    names = dict.fromkeys(a.name for a in launch.arguments if isinstance(a, Pointer))
    scale = math.prod(launch.grid) / count.blocks
    footprint: dict[str, float] = {}
    fetched = again = written = 0.0
    for name, touched in zip(names, count.touched, strict=True):
        size = -(-layout.buffer(name).nbytes // SECTOR) * SECTOR
        reads = min(touched.read * scale * SECTOR, size)
        writes = min(touched.written * scale * SECTOR, size)
        footprint[name] = max(reads, writes)
        if name not in cached:
            fetched += reads
        again += max(0.0, touched.requested * scale * SECTOR - reads)
        if layout.buffer(name).role == "output":
            written += writes
    # Sectors asked for again come from L2 as far as it holds all that the launch touches.
    space = sum(footprint.values())
    lost = max(0.0, 1 - facts.l2_bytes / space) if space else 0.0
    for name, nbytes in footprint.items():
        spills = layout.buffer(name).role == "scratch" and nbytes > facts.l2_bytes / 2
        written += nbytes if spills else 0.0
    cached.update(footprint)
    if sum(cached.values()) > facts.l2_bytes:
        cached.clear()
        if space <= facts.l2_bytes:
            cached.update(footprint)
    return fetched + again * lost + written


def _units(
    launch: ResolvedLaunch,
    count: Counts,
    dram_bytes: float,
    static_shared: int,
    facts: DeviceFacts,
) -> dict[str, float]:
    """Seconds by unit, each as if it were the only one."""
    blocks = math.prod(launch.grid)
    scale = blocks / count.blocks
    clock = facts.clock_hz
    # Work of the busiest multiprocessor, as a share of all.
    share = math.ceil(blocks / facts.sm_count) / blocks
    resident = resident_blocks(launch, static_shared, facts)
    waves = math.ceil(blocks / (resident * facts.sm_count))

    l2_sectors = (count.l2_read_sectors + count.l2_write_sectors) * scale
    l2_bytes = l2_sectors * SECTOR
    accesses = count.loads + count.stores + count.atomics + count.shared
    instructions = INSTRUCTIONS_PER_ACCESS * (accesses + count.collectives) + count.barriers
    instructions += count.mma
    warps = count.blocks * math.ceil(math.prod(launch.block) / 32)
    waiting = (
        math.ceil(count.longest_chain / LOADS_IN_FLIGHT) * DRAM_SECONDS
        + (count.shared / LOADS_IN_FLIGHT + count.collectives) / warps * SHARED_CLOCKS / clock
        + count.barriers / warps * BARRIER_CLOCKS / clock
    )
    return {
        "DRAM": dram_bytes / facts.dram_bytes_per_second,
        "L2": max(
            l2_bytes / (L2_BYTES_PER_CLOCK * facts.sm_count * clock),
            l2_bytes * share / (PORT_BYTES_PER_CLOCK * clock),
        ),
        "shared memory": (count.lines + count.shared_cycles) * scale * share / clock,
        "issue": instructions * scale * share / (SCHEDULERS * clock),
        "latency": waiting * waves,
        "tensor cores": (
            count.flops_tf32 / facts.tf32_flops
            + count.flops_half / facts.half_flops
            + count.flops_byte / (2 * facts.half_flops)
        )
        * scale
        * share
        * facts.sm_count,
        "fp32": 0.0,
    }
