"""A cheap cost model: which configuration of one kernel to try first.

All configurations of a kernel do the same work, so only what differs between them is
modelled: how much of the GPU a launch keeps busy and what goes through scratch memory. It
orders configurations; nobody is told its seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attrs import frozen

from search_engine.contract.kernel import Plan, ResolvedLaunch
from search_engine.hardware import DeviceFacts
from search_engine.task import ITEM_BYTES, Task
from search_engine.verdict import BuildInfo

LAUNCH_SECONDS = 2.5e-6  # from one dependent launch to the next
# Share of the resident warps from which on more warps hide no more latency: a streaming
# kernel with a few independent loads per thread is at its bandwidth there.
ENOUGH_WARPS = 0.5
TYPICAL_REGISTERS = 32  # per thread, where no configuration was compiled yet
RESERVED_SHARED = 1024  # bytes that the runtime takes of each block's shared memory from 8.0 on
_REGISTER_UNIT = 256  # registers are given out to warps in such units (occupancy calculator)


@frozen
class Occupancy:
    """What of a launch fits on one multiprocessor at once."""

    blocks: int
    warps: int


def occupancy(
    launch: ResolvedLaunch, facts: DeviceFacts, registers: int, static_shared: int = 0
) -> Occupancy:
    """Resident blocks and warps, by threads, registers and shared memory; 0 where none fits.

    ``registers`` is per thread, ``static_shared`` in bytes per block. As NVIDIA's occupancy
    calculator counts.
    """
    warps = math.ceil(math.prod(launch.block) / 32)
    per_warp = math.ceil(max(registers, 1) * 32 / _REGISTER_UNIT) * _REGISTER_UNIT
    shared = launch.shared + static_shared
    blocks = min(
        facts.blocks_per_sm,
        facts.threads_per_sm // (32 * warps),
        facts.registers_per_sm // per_warp // warps,
    )
    if shared:
        blocks = min(blocks, facts.shared_per_sm // (shared + RESERVED_SHARED))
    return Occupancy(blocks, blocks * warps)


def forecast(
    plan: Plan,
    task: Task,
    facts: DeviceFacts,
    builds: Sequence[BuildInfo] = (),
) -> float | None:
    """Modelled seconds of a plan, None where a block of it does not fit on the GPU.

    ``builds`` is what the compiler said of this configuration, or of one like it.
    """
    known: Mapping[str, BuildInfo] = {build.function: build for build in builds}
    sizes = [math.prod(launch.grid) * math.prod(launch.block) for launch in plan.launches]
    slowdown = 0.0
    for launch, threads in zip(plan.launches, sizes, strict=True):
        build = known.get(launch.function)
        registers = TYPICAL_REGISTERS if build is None else build.registers or TYPICAL_REGISTERS
        static = 0 if build is None else build.shared_bytes or 0
        resident = occupancy(launch, facts, registers, static)
        if resident.blocks == 0:
            return None
        # How the work is parted between launches is not known: by their threads.
        slowdown += threads / sum(sizes) / _utilisation(launch, facts, resident)
    scratch = sum(math.prod(s.shape) * ITEM_BYTES[s.dtype] for s in plan.scratch)
    moved = 2 * scratch / facts.dram_bytes_per_second  # written once, read once
    return task.limit_seconds * slowdown + moved + len(plan.launches) * LAUNCH_SECONDS


def _utilisation(launch: ResolvedLaunch, facts: DeviceFacts, resident: Occupancy) -> float:
    """The share of the GPU's rate that a launch can reach, from 0 to 1."""
    threads, blocks = math.prod(launch.block), math.prod(launch.grid)
    warps = math.ceil(threads / 32)
    lanes = threads / (32 * warps)
    slots = facts.sm_count * resident.blocks
    if blocks <= slots:
        busy = min(1.0, blocks / facts.sm_count)
        at_once = warps * max(1.0, blocks / facts.sm_count)
    else:
        waves = math.ceil(blocks / slots)
        # Blocks come and go one by one: about half of the last wave's gap is lost.
        busy = (blocks / (waves * slots) + 1) / 2
        at_once = resident.warps
    hidden = min(1.0, at_once / (ENOUGH_WARPS * facts.threads_per_sm / 32))
    return lanes * busy * hidden
