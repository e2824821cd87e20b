"""The evaluator: the user's module and a device, judging kernels. It lives in a worker.

A search and ``kernel-lsp verify`` both go through it, so a kernel written by hand gets the
same verdict as one from a search.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal

from attrs import evolve

from search_engine.capture.capture import capture
from search_engine.capture.captured import Captured
from search_engine.capture.loader import load
from search_engine.contract.errors import ContractError
from search_engine.contract.kernel import Kernel
from search_engine.contract.parse import parse
from search_engine.contract.tune import fill
from search_engine.deliver.check import check_delivery, delivered_module
from search_engine.deliver.delivery import Delivery
from search_engine.deliver.observed import observe, observe_call
from search_engine.deliver.render import VerifiedShape, render
from search_engine.devices._base import Device, Program, Rejected
from search_engine.devices.select import open_device
from search_engine.errors import CaptureError, KernelLspError
from search_engine.hardware import DeviceFacts
from search_engine.judgement import DeliveryCheck, DeviceInfo, Judgement, ShapeKernel
from search_engine.measure.measure import baseline, glance, measure
from search_engine.measure.module import measure_delivered
from search_engine.proposers._base import Idea
from search_engine.settings import SearchSettings
from search_engine.task import CaptureRequest, Task
from search_engine.verdict import Baseline, Estimate, Finding, Measurement, Sample, Verdict
from search_engine.verify.verify import verify


class Evaluator:
    """Judges kernels, given by their source, for one module on one device.

    ``shape`` says at which shapes: 0 are the task's own, 1 the first of ``Task.further``.
    """

    def __init__(self, request: CaptureRequest, settings: SearchSettings) -> None:
        self._request = request
        self._settings = settings
        self._opened: Device | None = None
        self._module: Captured | None = None
        self._programs: dict[tuple[str, int], Program | tuple[Finding, ...]] = {}

    # --- the module and the device ----------------------------------------------------

    @property
    def _device(self) -> Device:
        if self._opened is None:
            self._opened = open_device(self._settings)
        return self._opened

    @property
    def _captured(self) -> Captured:
        if self._module is None:
            self._module = self._capture(self._request)
        return self._module

    def _at(self, shape: int) -> Captured:
        return self._captured.further[shape - 1] if shape else self._captured

    def _capture(self, request: CaptureRequest, *, further: bool = True) -> Captured:
        name = Path(request.path).name
        advice = "make it quick to import, or raise the setting import_timeout"
        too_long = f"Importing {name} takes more than {request.import_timeout:g} s: {advice}."
        with _time_limit(request.import_timeout, CaptureError(too_long)):
            imported = load(request.path, request.text)
        _take_off(vars(imported).values(), imported.__name__)
        device = self._device
        return capture(
            request,
            device.facts,
            device=device.torch_device,
            imported=imported,
            further=further,
        )

    def device(self) -> DeviceInfo:
        """What runs the kernels. Raises SetupError where there is nothing to run them."""
        device = self._device
        return DeviceInfo(device.name, target_of(device), device.measures)

    def capture(self) -> Task:
        """Import the user's file and capture the module. Raises CaptureError, SetupError."""
        return self._captured.task

    # --- kernels ----------------------------------------------------------------------

    def trust(self, sources: Iterable[str]) -> None:
        """Take these kernels for our own."""
        self._device.trust(sources)

    def prepare(self, sources: Sequence[str], shape: int = 0) -> None:
        """Compile kernels in parallel; ``verify`` finds them ready."""
        waiting: dict[str, Kernel] = {}
        for source in sources:
            if (source, shape) not in self._programs:
                try:
                    kernel = parse(source)
                    waiting[source] = parse(fill(kernel)) if kernel.tunes else kernel
                except ContractError as error:
                    self._programs[source, shape] = error.findings
        if waiting:
            built = self._device.compile(list(waiting.values()), self._at(shape).task)
            for source, result in zip(waiting, built, strict=True):
                kept = result.findings if isinstance(result, Rejected) else result
                self._programs[source, shape] = kept

    def verify(self, source: str, shape: int = 0) -> Judgement:
        """The verdict on a kernel. A kernel that does not compile is rejected, not an error."""
        started = time.monotonic()
        program = self._program(source, shape)
        if not isinstance(program, Program):
            seconds = time.monotonic() - started
            return Judgement(Verdict(False, self._device.name, program, seconds=seconds), ())
        return Judgement(verify(self._at(shape), program, self._device), program.builds)

    def estimate(self, source: str, shape: int = 0) -> Estimate | None:
        """The modelled time of a kernel at the task's full sizes, where the device models."""
        return self._device.estimate(self._verified(source, shape), self._at(shape).task)

    def baseline(self) -> Baseline:
        """Times of eager and torch.compile, without any kernel."""
        return baseline(self._captured, self._device)

    def glance(self, source: str) -> Sample:
        """A first, short timing of a kernel, alone."""
        return glance(self._captured, self._verified(source), self._device)

    def measure(self, source: str, shape: int = 0) -> Measurement:
        """Times of a kernel beside the baselines. Raises MeasurementRejected."""
        return measure(self._at(shape), self._verified(source, shape), self._device)

    def _program(self, source: str, shape: int) -> Program | tuple[Finding, ...]:
        if (source, shape) not in self._programs:
            self.prepare([source], shape)
        return self._programs[source, shape]

    def _verified(self, source: str, shape: int = 0) -> Program:
        """The program of a kernel that compiled before; a fresh worker compiles it again."""
        program = self._program(source, shape)
        if not isinstance(program, Program):
            raise ContractError(program)
        return program

    # --- delivery ---------------------------------------------------------------------

    def render(
        self,
        source: str,
        idea: Idea,
        verdict: Verdict,
        measurement: Measurement | None,
        estimate: Estimate | None,
        further: Sequence[ShapeKernel] = (),
    ) -> Delivery:
        """What would be delivered of a verified kernel, and of those for ``further`` shapes.

        Raises DeliveryError.
        """
        captured = self._captured
        captured.restore()
        chosen = [ShapeKernel(0, source, verdict, measurement, estimate), *further]
        return render(
            [self._verified_shape(kernel) for kernel in chosen],
            observed=observe(captured.module),
            idea=idea,
            facts=target_of(self._device),
            mode_matters=self._mode_matters(captured.task),
        )

    def _verified_shape(self, chosen: ShapeKernel) -> VerifiedShape:
        captured = self._at(chosen.shape)
        program = self._verified(chosen.source, chosen.shape)
        return VerifiedShape(
            captured.task,
            program.kernel,
            observe_call(captured.module, captured.draw(0), captured.result),
            chosen.verdict,
            chosen.measurement,
            chosen.estimate,
            self._device.binary(program),
        )

    def _mode_matters(self, task: Task) -> bool:
        """Whether the module computes something else in its other mode."""
        other: Literal["eval", "train"] = "train" if self._request.mode == "eval" else "eval"
        try:
            changed = self._capture(evolve(self._request, mode=other), further=False)
        except CaptureError:  # dropout draws random numbers, batch norm changes its buffers
            return True
        return task.graph is None or changed.task.graph != task.graph

    def check_delivery(self, delivery: Delivery, shape: int = 0) -> DeliveryCheck:
        """Verify and time the delivered module, imported from a scratch folder.

        Raises DeliveryError.
        """
        captured, device = self._at(shape), self._device
        captured.restore()
        verdict = check_delivery(captured, delivery, device, text=self._request.text)
        if not verdict.accepted or not device.measures:
            return DeliveryCheck(verdict)
        captured.restore()
        with delivered_module(captured, delivery, text=self._request.text) as (module, _):
            return DeliveryCheck(verdict, measure_delivered(captured, module, device))

    def close(self) -> None:
        """Give back the device."""
        if self._opened is not None:
            self._opened.close()


def target_of(device: Device) -> DeviceFacts:
    """The GPU that kernels are made for: the cpu device stands in for one."""
    facts: DeviceFacts = getattr(device, "target", device.facts)
    return facts


def _take_off(values: Iterable[object], module_name: str) -> None:
    """Give classes with a delivered kernel their original forward back.

    The module as the user wrote it is what kernels are held against and timed beside.
    """
    for value in values:
        if isinstance(value, type) and value.__module__ == module_name:
            forward = vars(value).get("forward")
            if hasattr(forward, "__kernel_lsp__"):
                value.forward = forward.__wrapped__  # type: ignore[attr-defined,union-attr]
            _take_off([v for v in vars(value).values() if v is not value], module_name)


class _TooLong(BaseException):
    """Not an Exception: user code and the import machinery would take it for their own."""


@contextmanager
def _time_limit(seconds: float, error: KernelLspError) -> Iterator[None]:
    """Raises ``error`` where the block takes longer. For a process's main thread."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _TooLong:
        raise error from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
