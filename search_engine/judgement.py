"""What the evaluator answers with, as plain data. Free of torch."""

from __future__ import annotations

from attrs import frozen

from search_engine.hardware import DeviceFacts
from search_engine.verdict import BuildInfo, Estimate, Finding, Measurement, Sample, Verdict


@frozen
class DeviceInfo:
    """What runs the kernels of a search.

    ``facts`` are of the GPU that kernels are made for: the one at hand, or the one that
    the cpu device stands in for.
    """

    name: str  # "NVIDIA H200", "cpu (SIMT)"
    facts: DeviceFacts
    measures: bool  # True: real times; False: estimates


@frozen
class Judgement:
    """The verdict on one kernel, with what the compiler said of it."""

    verdict: Verdict
    builds: tuple[BuildInfo, ...]


@frozen
class ShapeKernel:
    """A verified kernel for one of the task's further shapes.

    ``shape`` is its number: 1 is the first of ``Task.further``, 0 the task itself.
    """

    shape: int
    source: str
    verdict: Verdict
    measurement: Measurement | None = None
    estimate: Estimate | None = None


@frozen
class SideBySide:
    """The delivered module and what it replaces, timed in one session in the same way."""

    delivered: Sample
    eager: Sample
    compiled: Sample | None  # torch.compile's fastest mode; None where it failed

    @property
    def rivals(self) -> list[Sample]:
        """What there is to beat."""
        return [self.eager] if self.compiled is None else [self.eager, self.compiled]

    @property
    def faster(self) -> bool:
        """Whether the delivered module beats all by more than the spread of the times."""
        return all(self.delivered.high < rival.low for rival in self.rivals)


@frozen
class DeliveredTimes:
    """The delivered module in GPU time, as kernels are timed, and called alone.

    ``alone`` is wall time from the call in Python until the GPU has finished. In a model
    whose GPU has work queued the launch costs in it are hidden; a small module's are not.
    """

    gpu: SideBySide
    alone: SideBySide

    @property
    def slower_than_eager_alone(self) -> bool:
        """Whether launch costs eat up what the GPU gains, by more than the spread."""
        return self.alone.delivered.low > self.alone.eager.high

    @property
    def slower_than_compile_alone(self) -> bool:
        """The same beside torch.compile."""
        compiled = self.alone.compiled
        return compiled is not None and self.alone.delivered.low > compiled.high


@frozen
class DeliveryCheck:
    """The delivered module, imported from a scratch folder.

    ``times`` is None where the device gives none, and where the verdict is a rejection.
    """

    verdict: Verdict
    times: DeliveredTimes | None = None


def lost(message: str, *, timed_out: bool) -> Finding:
    """The finding against a kernel that took its worker down or never came back."""
    return Finding("timeout" if timed_out else "fault", message)
