"""A small model of a tiled contraction's time: compute, L2, DRAM and latency; the most counts.

It ranks plans and ideas before anything has run; it is no measurement.
"""

from __future__ import annotations

import math

from search_engine.hardware import DeviceFacts
from search_engine.playbook import cost
from search_engine.playbook.contraction import Contraction
from search_engine.playbook.tiles.kernel import TileKernel, TilePlan

# Share of the datasheet's tensor-core rate that mma.sync reaches. On Hopper only wgmma reaches
# it all: Luo et al., "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture via
# Microbenchmarking", 2024, measure 62% for mma.
_MMA_SHARE = {8: 0.9, 9: 0.62, 10: 0.4, 12: 0.9}
# Of that, what kernels of this template reach: 2.45 ms for 4096³ in fp32 on an H200.
_REACHED = 0.72
_STAGE_SECONDS = 0.35e-6  # of one stage of k when nothing else hides its latency
_WARPS_TO_FILL = 8  # of a multiprocessor, to keep its units busy between barriers


def flops_per_second(plan: TilePlan, contraction: Contraction, facts: DeviceFacts) -> float:
    """What the units reach on whole tiles."""
    shape = plan.shape
    if plan.unit == "registers":
        peak = facts.fp64_flops if plan.word.dtype == "float64" else facts.fp32_flops
        rows, columns = shape.warp_m / 4, shape.warp_n / 8
        return peak * 0.9 * rows * columns / (rows * columns + rows + columns)
    half = plan.word.dtype != "float32"
    peak = facts.half_flops if half else facts.tf32_flops
    peak *= _REACHED * _MMA_SHARE.get(facts.compute_capability[0], 0.6) / plan.products
    # Fragments are loaded (and split) once per warp: small warp tiles reuse them less.
    reuse = shape.warp_m * shape.warp_n / (shape.warp_m + shape.warp_n)
    return peak * reuse / (reuse + (4 if half else 6))


def seconds(kernel: TileKernel, facts: DeviceFacts) -> float:
    """The predicted time of a plan."""
    c, plan = kernel.contraction, kernel.plan
    shape = plan.shape
    tiles_m, tiles_n = -(-c.left.count // shape.m), -(-c.right.count // shape.n)
    blocks = tiles_m * tiles_n * c.batches * shape.split
    stages = math.ceil(math.ceil(c.k / shape.k) / shape.split)
    resident = kernel.resident(facts)
    slots = facts.sm_count * resident
    waves = math.ceil(blocks / slots)
    # What one multiprocessor has to do in the fullest wave schedule.
    per_sm = math.ceil(blocks / facts.sm_count)
    block_flops = 2.0 * shape.m * shape.n * stages * shape.k
    warps = min(resident, max(per_sm, 1)) * shape.threads / 32
    fill = min(1.0, warps / _WARPS_TO_FILL)
    rate = flops_per_second(plan, c, facts) / facts.sm_count * fill
    compute = per_sm * block_flops / rate
    item = plan.word.bytes / plan.word.pack
    loaded = blocks * (shape.m + shape.n) * stages * shape.k * item
    moved = c.bytes_once / (0.9 * facts.dram_bytes_per_second)
    cached = loaded / (cost.L2_RATIO * facts.dram_bytes_per_second)
    issue = _gather_seconds(kernel, blocks * stages, facts)
    latency = waves * stages * _STAGE_SECONDS / max(plan.shape.stages - 1, 1)
    total = max(compute, moved, cached, latency) + issue + cost.LAUNCH
    if plan.packed:
        total += cost.LAUNCH
    if shape.split > 1:
        partial = 4.0 * shape.split * c.left.count * c.right.count * c.batches
        # Written and read once: from L2 where it fits.
        rate = facts.dram_bytes_per_second * (1 if partial > facts.l2_bytes / 2 else cost.L2_RATIO)
        total += 2 * partial / rate + cost.LAUNCH
    return total


def _gather_seconds(kernel: TileKernel, stages: int, facts: DeviceFacts) -> float:
    """Instructions that movers issue where they take single elements."""
    total = 0.0
    for mover in kernel.movers:
        elements = mover.rows * kernel.shape.k
        per = 12 + 6 * sum(len(leaf.bounds) for leaf in mover.operand.leaves)
        per += 8 * (len(mover.operand.columns) - 1)
        if mover.within:
            per = 4
        elif mover.taps is not None:
            per = 10
        if mover.vec > 1:
            per = 6
        total += stages * elements / mover.vec * per
    return total / (facts.sm_count * 128 * facts.clock_hz)
