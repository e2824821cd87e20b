"""What the evaluator answers with, as plain data. Free of torch."""

from __future__ import annotations

from attrs import frozen

from search_engine.hardware import DeviceFacts
from search_engine.verdict import BuildInfo, Finding, Measurement, Verdict


@frozen
class DeviceInfo:
    """What runs the kernels of a search."""

    name: str  # "NVIDIA H200", "cpu (SIMT)"
    facts: DeviceFacts
    measures: bool  # True: real times; False: estimates


@frozen
class Judgement:
    """The verdict on one kernel, with what the compiler said of it."""

    verdict: Verdict
    builds: tuple[BuildInfo, ...]


@frozen
class DeliveryCheck:
    """The delivered module, run from a scratch copy of the user's project.

    ``measurement`` is of the module as delivered; None where the device gives no times.
    """

    verdict: Verdict
    measurement: Measurement | None


def lost(message: str, *, timed_out: bool) -> Finding:
    """The finding against a kernel that took its worker down or never came back."""
    return Finding("timeout" if timed_out else "fault", message)
