"""Times of a kernel, of eager and of torch.compile: all in one session, or none at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from search_engine.capture.captured import Captured
from search_engine.devices._base import Device, Program
from search_engine.measure.compiled import MODES
from search_engine.measure.errors import MeasurementRejected
from search_engine.measure.session import Session, session_of
from search_engine.measure.timing import Contender
from search_engine.task import Task
from search_engine.verdict import Baseline, Finding, Measurement, Sample

if TYPE_CHECKING:
    from search_engine.devices.cuda.prepared import Prepared

# A time below this share of what is certainly needed is an error of ours or of the kernel, and
# no triumph.
PHYSICS = 0.95
# Of the output's norm: the bound on a timed launch's outputs, wide open on purpose. The
# bound on accuracy is verification's; this finds launches that did not do the work.
_SANE_ERROR = {torch.float64: 1e-6, torch.float32: 5e-3, torch.float16: 2e-2, torch.bfloat16: 6e-2}
_ARENA_SHARE = 0.5  # of the free GPU memory
_GLANCE_SECONDS = 0.03  # of GPU time; the timer's least number of rounds takes over below


def baseline(captured: Captured, device: Device) -> Baseline:
    """Eager and torch.compile, interleaved. Raises SetupError on a device without times."""
    session = session_of(captured, device)
    with torch.no_grad(), torch.cuda.device(device.torch_device):
        samples = session.timer.interleave(session.baselines())
    eager, compiled = _parted(samples)
    return Baseline(device.name, eager, compiled, session.notes)


def glance(captured: Captured, program: Program, device: Device) -> Sample:
    """A short timing of a kernel alone, timed as ``measure`` does: what gives up slow ones early.

    It is no measurement: nothing is compared, neither outputs nor baselines. Raises
    SetupError on a device without times, WorkerDied where the kernel faults.
    """
    session = session_of(captured, device)
    with torch.no_grad(), torch.cuda.device(device.torch_device):
        kernel, _, _ = _contender(session, program)
        return session.timer.interleave({"kernel": kernel}, budget=_GLANCE_SECONDS)["kernel"]


def measure(captured: Captured, program: Program, device: Device) -> Measurement:
    """A kernel beside the baselines, interleaved with them.

    Each timed launch finds its inputs copied afresh, other values at other addresses than
    the launch before, and outputs and scratch poisoned; the outputs of the last ones are
    compared with eager's. Raises MeasurementRejected where they are wrong, where memory
    was touched that must not be, or where the time is below what the hardware allows;
    SetupError on a device without times; WorkerDied where the kernel faults.
    """
    session = session_of(captured, device)
    with torch.no_grad(), torch.cuda.device(device.torch_device):
        kernel, arenas, placed = _contender(session, program)
        samples = session.timer.interleave({"kernel": kernel, **session.baselines()})
        session.device.synchronize()
        findings = _findings(session, arenas, placed)

    time = samples.pop("kernel")
    eager, compiled = _parted(samples)
    findings += _impossible(captured.task, time.median)
    if findings:
        raise MeasurementRejected(findings)
    return Measurement(device.name, time, eager, compiled, session.notes)


def _impossible(task: Task, seconds: float) -> list[Finding]:
    """Whether a time is below what the hardware needs for the work, by whatever algorithm."""
    if seconds >= PHYSICS * task.certain_seconds:
        return []
    message = (
        f"{seconds * 1e6:.1f} µs is less than the hardware allows for the work "
        f"({task.certain_seconds * 1e6:.1f} µs: {task.certain_reason})"
    )
    return [Finding("faster-than-limit", message)]


def _contender(session: Session, program: Program) -> tuple[Contender, list[Prepared], list[int]]:
    """A kernel with its arenas, and the draw that each arena holds at the moment."""
    arenas = _arenas(session, program)
    tensors = [session.captured.tensors(call) for call in session.calls]
    placed = [0] * len(arenas)

    def prepare(turn: int) -> None:
        # Coprime steps, so that a draw comes to every address in time.
        arena, draw = turn % len(arenas), (turn // len(arenas) + turn) % len(tensors)
        placed[arena] = draw
        arenas[arena].place(tensors[draw])

    def run(turn: int) -> None:
        session.device.launch(arenas[turn % len(arenas)])

    return Contender(run, prepare), arenas, placed


def _parted(samples: Mapping[str, Sample]) -> tuple[Sample, dict[str, Sample]]:
    return samples["eager"], {mode: samples[mode] for mode in MODES if mode in samples}


def _arenas(session: Session, program: Program) -> list[Prepared]:
    """As many arenas as there are draws, fewer where memory is short."""
    task = session.captured.task
    first = session.device.prepare(program, task)
    free, _ = torch.cuda.mem_get_info(session.device.torch_device)
    fitting = int(_ARENA_SHARE * free / first.arena.layout.nbytes)
    wanted = min(len(session.calls), 1 + fitting)
    more = [session.device.prepare(program, task, offset=index) for index in range(1, wanted)]
    return [first, *more]


def _findings(session: Session, arenas: list[Prepared], placed: list[int]) -> list[Finding]:
    found: list[Finding] = []
    for prepared, draw in zip(arenas, placed, strict=True):
        found += prepared.arena.findings()
        expected = session.captured.run(session.calls[draw])
        for name, output in prepared.arena.outputs().items():
            error = relative_error(output, expected[name])
            if not error <= _SANE_ERROR.get(output.dtype, 0.0):
                message = (
                    f"{name} of a timed launch is off by {error:.3g} of its norm: "
                    "the launch did not do the work"
                )
                found.append(Finding("timed-output", message, place=name))
    return found


def relative_error(output: torch.Tensor, expected: torch.Tensor) -> float:
    """‖output - expected‖ / ‖expected‖ over what is finite in both; infinite if that differs."""
    if not output.dtype.is_floating_point:
        return 0.0 if torch.equal(output, expected) else float("inf")
    finite = expected.isfinite()
    if not torch.equal(output.isfinite(), finite):
        return float("inf")
    zero = torch.zeros((), dtype=output.dtype, device=output.device)
    difference = torch.where(finite, output - expected, zero)
    off = torch.linalg.vector_norm(difference, dtype=torch.float64).item()
    norm = torch.linalg.vector_norm(torch.where(finite, expected, zero), dtype=torch.float64).item()
    if norm == 0.0:
        return 0.0 if off == 0.0 else float("inf")
    return float(off / norm)
