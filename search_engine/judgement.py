"""What the evaluator answers with, as plain data. Free of torch."""

from __future__ import annotations

from attrs import frozen

from search_engine.hardware import DeviceFacts
from search_engine.verdict import BuildInfo, Finding, Sample, Verdict


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
class DeliveredTimes:
    """One call from Python, launch costs included, beside what it replaces."""

    delivered: Sample
    eager: Sample
    compiled: Sample | None  # the fastest mode of the bare measurement, None where it failed

    @property
    def faster(self) -> bool:
        """Whether the delivered module beats both by more than the spread of the times."""
        rivals = [self.eager] if self.compiled is None else [self.eager, self.compiled]
        return all(self.delivered.high < rival.low for rival in rivals)


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
