"""The device's limits on one launch and its scratch memory.

Numbers from the CUDA C++ programming guide, table "Technical specifications per compute
capability"; those that differ between GPUs come with ``DeviceFacts``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from search_engine.contract.kernel import ResolvedLaunch, ResolvedScratch
from search_engine.hardware import DeviceFacts
from search_engine.task import ITEM_BYTES, Task
from search_engine.verdict import Finding

LARGEST_GRID = (2**31 - 1, 65535, 65535)
LARGEST_BLOCK = (1024, 1024, 64)
# Scratch memory beyond both is taken for a slip: an honest split keeps partial results,
# which are smaller than what they were made from.
FREE_SCRATCH_BYTES = 2**28
SCRATCH_TIMES_TASK = 16


def launch_findings(launch: ResolvedLaunch, facts: DeviceFacts) -> list[Finding]:
    """What the device would refuse of a launch."""
    messages = [
        *_sizes("grid", launch.grid, LARGEST_GRID),
        *_sizes("block", launch.block, LARGEST_BLOCK),
        *_block(launch, facts),
    ]
    if not messages:
        messages += [*_cluster(launch, facts), *_cooperative(launch, facts)]
    return [
        Finding("launch-limits", f"{launch.function}: {message}", launch.line)
        for message in messages
    ]


def _sizes(what: str, sizes: tuple[int, int, int], largest: tuple[int, ...]) -> Iterator[str]:
    for axis, size, most in zip("xyz", sizes, largest, strict=True):
        if size < 1:
            yield f"{what} size {axis} is {size}; at least 1 is needed"
        elif size > most:
            yield f"{what} size {axis} is {size}; at most {most} is possible"


def _block(launch: ResolvedLaunch, facts: DeviceFacts) -> Iterator[str]:
    threads = math.prod(launch.block)
    if threads > facts.max_threads_per_block and max(launch.block) > 0:
        yield f"a block of {threads} threads; at most {facts.max_threads_per_block} are possible"
    if launch.shared < 0:
        yield f"{launch.shared} bytes of shared memory"
    elif launch.shared > facts.shared_per_block:
        yield (
            f"{launch.shared} bytes of dynamic shared memory; a block has at most "
            f"{facts.shared_per_block} on {facts.name}"
        )


def _cluster(launch: ResolvedLaunch, facts: DeviceFacts) -> Iterator[str]:
    if launch.cluster is None:
        return
    if facts.compute_capability < (9, 0):
        yield f"clusters need compute capability 9.0; {facts.name} has less"
    if min(launch.cluster) < 1 or math.prod(launch.cluster) > facts.max_cluster:
        yield f"a cluster has 1 to {facts.max_cluster} blocks, this one {launch.cluster}"
    elif any(g % c for g, c in zip(launch.grid, launch.cluster, strict=True)):
        yield f"the grid {launch.grid} is no multiple of the cluster {launch.cluster}"


def _cooperative(launch: ResolvedLaunch, facts: DeviceFacts) -> Iterator[str]:
    """All blocks of a cooperative launch must be resident at once.

    Registers and static shared memory, known after compiling, may lower the number more.
    """
    if not launch.cooperative:
        return
    per_sm = min(facts.blocks_per_sm, facts.threads_per_sm // math.prod(launch.block))
    if launch.shared:
        per_sm = min(per_sm, facts.shared_per_sm // launch.shared)
    sms = facts.sm_count if facts.cooperative_sms is None else facts.cooperative_sms
    most, blocks = per_sm * sms, math.prod(launch.grid)
    if blocks > most:
        yield (
            f"a cooperative launch of {blocks} blocks; at most {most} of this size are resident "
            f"at once on {facts.name}"
        )


def scratch_findings(scratch: ResolvedScratch, task: Task) -> list[Finding]:
    """Sizes of scratch memory that cannot be meant."""
    numel = math.prod(scratch.shape)
    most = max(FREE_SCRATCH_BYTES, SCRATCH_TIMES_TASK * sum(t.nbytes for t in task.tensors))
    if any(size < 1 for size in scratch.shape):
        message = (
            f"scratch `{scratch.name}` has the shape {list(scratch.shape)}: sizes are positive"
        )
    elif numel * ITEM_BYTES[scratch.dtype] > most:
        message = (
            f"scratch `{scratch.name}` takes {numel * ITEM_BYTES[scratch.dtype]} bytes; "
            f"at most {most} are possible here"
        )
    else:
        return []
    return [Finding("scratch-limits", message, scratch.line)]
