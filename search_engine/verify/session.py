"""What verification keeps of one captured module between candidates."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import attrs
from attrs import define, field

from search_engine.capture.captured import Captured
from search_engine.devices._base import Device
from search_engine.task import Task
from search_engine.verify.draws import FEW, Plan, plan
from search_engine.verify.reference import Reference

# On a device that executes kernels on the CPU: elements of the largest tensor, at most
# (a barrier costs about 40 ns a thread), and for all draws but one.
LARGEST = 2**24
FURTHER = 2**18


@define
class Session:
    """One module at the sizes that it is checked at.

    ``full`` is the task's own size, or the largest that the device can take; ``further``
    may be smaller, for all draws but one.
    """

    full: Reference
    further: Reference
    isolated: bool  # candidates cannot reach this process's memory
    fixed_plan: Plan | None
    notes: list[str] = field(factory=list)

    def plan(self, task: Task, seed: int | None) -> Plan:
        """The draws: the session's own where answers are kept, else fresh secret ones."""
        return self.fixed_plan or plan(task, seed)


_sessions: WeakKeyDictionary[Captured, dict[tuple[str, int | None], Session]] = WeakKeyDictionary()


def session_for(captured: Captured, device: Device, seed: int | None) -> Session:
    """The session of that module on that device, made at the first call."""
    key = (device.torch_device, seed)
    known = _sessions.setdefault(captured, {})
    if key not in known:
        known[key] = _open(captured, device, seed)
    return known[key]


def _open(captured: Captured, device: Device, seed: int | None) -> Session:
    isolated = device.torch_device == "cpu"
    notes: list[str] = []
    if captured.device != device.torch_device:
        captured = captured.to(device.torch_device)
    else:
        # A copy: the caller's parameters stay as they are while ours change. A session
        # that held the caller's own object would also keep it alive for ever.
        captured = captured.to(captured.device)
    full, further = captured, captured
    if isolated:
        full = _reduced(captured, LARGEST)
        further = _reduced(captured, FURTHER)
        if full is not captured:
            notes.append(
                f"checked with a first dimension of {full.leading} instead of {captured.leading}"
            )
        elif _largest(captured.task) > LARGEST:
            notes.append("checked at full size: the leading dimension cannot be reduced")
        if further is not full:
            notes.append(f"all draws but one with a first dimension of {further.leading}")
    few = isolated and _largest(further.task) > FURTHER
    if few:
        notes.append(f"only on {', '.join(FEW)} inputs: the module is large for this device")
    # Errors grow with the reduction: the plan counts those of a draw at the size it is made at.
    steps = attrs.evolve(captured.task, tensors=further.task.tensors)
    first = Reference(full, keep=isolated)
    return Session(
        full=first,
        further=first if further is full else Reference(further, keep=isolated),
        isolated=isolated,
        fixed_plan=plan(steps, seed, few=few) if isolated else None,
        notes=notes,
    )


def _largest(task: Task) -> int:
    return max((t.numel for t in (*task.inputs, *task.outputs)), default=0)


def _reduced(captured: Captured, elements: int) -> Captured:
    """The module at a leading size that brings its largest tensor under ``elements``."""
    largest = _largest(captured.task)
    if largest <= elements or captured.leading <= 1:
        return captured
    size = max(1, captured.leading * elements // largest)
    return captured.at_leading(size) or captured
