"""Plans: a task as one loop nest or several, launched one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from attrs import frozen

from search_engine.contract.printer import scratch_line
from search_engine.hardware import DeviceFacts
from search_engine.playbook.analyse import base_name
from search_engine.playbook.names import unused
from search_engine.playbook.partition import Partition, partitions
from search_engine.playbook.program import Program, Unsupported
from search_engine.playbook.steps import Steps, uncovered
from search_engine.task import Task, TensorSpec


@frozen
class Stage:
    """One loop nest of a plan.

    ``name`` is an identifier that tells what it does, different from every other stage's.
    ``operators`` are its ATen names in order. ``scratch`` is what it stores for later stages,
    ``lines`` the contract's lines for that.
    """

    name: str
    operators: tuple[str, ...]
    program: Program
    scratch: tuple[TensorSpec, ...] = ()
    lines: tuple[str, ...] = ()


@frozen
class Plan:
    """Stages in order of execution; ``cuts`` are the steps before which one begins."""

    stages: tuple[Stage, ...]
    cuts: tuple[int, ...] = ()
    seconds: float = 0.0  # by the partition's model

    @property
    def key(self) -> str:
        """The cut positions, for the keys of ideas: ``3-7``."""
        return "-".join(str(cut) for cut in self.cuts)

    @property
    def scratch_bytes(self) -> int:
        """Bytes that pass between the stages."""
        return sum(spec.nbytes for stage in self.stages for spec in stage.scratch)


def plans(
    task: Task, facts: DeviceFacts, predicted: Callable[[Program], float], count: int = 4
) -> Sequence[Plan]:
    """The best plans for the task, different ones, the fastest by the model first.

    Raises Unsupported with the first operator that nothing covers.
    """
    steps = Steps(task)
    found = partitions(steps, facts, predicted)
    if not found and (kept := steps.moving_views()):
        # A view may not fit the nest that reads it: as a step it can be a copy of its own.
        steps = Steps(task, kept)
        found = partitions(steps, facts, predicted)
    if not found:
        raise _reason(steps, predicted)
    return [_plan(steps, partition) for partition in found[:count]]


def _plan(steps: Steps, partition: Partition) -> Plan:
    taken = {tensor.name for tensor in steps.task.tensors}
    stages = []
    for begin, end in partition.stretches:
        name = unused(steps.name(begin, end), taken)
        taken.add(name)
        scratch = steps.scratch(begin, end)
        stages.append(
            Stage(
                name=name,
                operators=tuple(base_name(node) for node in steps.nodes[begin:end]),
                program=steps.program(begin, end),
                scratch=scratch,
                lines=tuple(_scratch_line(steps, spec) for spec in scratch),
            )
        )
    return Plan(tuple(stages), partition.cuts[1:-1], partition.seconds)


def _scratch_line(steps: Steps, spec: TensorSpec) -> str:
    """``// scratch: h float32[x.size(0), 512]``."""
    sizes: list[str | int] = list(spec.shape) or [1]
    batch = steps.batch_size(spec)
    if batch is not None:
        name, times = batch
        sizes[0] = f"{name}.size(0)" + (f" * {times}" if times > 1 else "")
    return scratch_line(spec.name, spec.dtype, sizes)


def _reason(steps: Steps, predicted: Callable[[Program], float]) -> Unsupported:
    """Why there is no plan: the first step that is no nest, or that no idea carries out."""
    for _, reason in uncovered(steps):
        return reason
    for position, node in enumerate(steps.nodes):
        program = steps.program(position, position + 1)
        if math.isinf(predicted(program)):
            return Unsupported(
                f"No playbook idea covers {node.op} over rows of this length and layout yet "
                f"({program.row_count:,} rows of {program.column_count:,} elements)."
            )
    if steps.nodes:
        return Unsupported("The playbook found no way to divide the graph into launches.")
    return Unsupported("The graph computes nothing that a kernel could do.")
