"""What the search asks of a bench: judgements on kernels for one task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from search_engine.deliver.delivery import Delivery
from search_engine.judgement import DeliveryCheck, DeviceInfo, Judgement, ShapeKernel
from search_engine.proposers._base import Idea
from search_engine.store.records import KernelRecord
from search_engine.task import Task
from search_engine.verdict import Baseline, Estimate, Measurement, Sample


class Bench(Protocol):
    """Judges kernels for one task. Kernels are given by their source.

    ``shape`` says at which shapes: 0 are the task's own, 1 the first of ``Task.further``.
    """

    def capture(self) -> Task:
        """The task. Raises CaptureError, SetupError."""

    def device(self) -> DeviceInfo:
        """What runs the kernels."""

    def trust(self, sources: Sequence[str]) -> None:
        """Take these kernels for our own: they run where nothing can be locked down too."""

    def prepare(self, sources: Sequence[str]) -> None:
        """Compile kernels in parallel, ahead of ``verify``."""

    def verify(self, source: str, shape: int = 0) -> Judgement:
        """Compile (unless prepared) and verify one kernel."""

    def estimate(self, source: str, shape: int = 0) -> Estimate | None:
        """The modelled time of a verified kernel."""

    def baseline(self) -> Baseline:
        """Times of eager and torch.compile. Raises WorkerDied."""

    def glance(self, source: str) -> Sample:
        """A first, short timing of a verified kernel, alone. Raises WorkerDied."""

    def measure(self, source: str, shape: int = 0) -> Measurement:
        """Times of a verified kernel beside the baselines.

        Raises WorkerDied, MeasurementRejected.
        """

    def render(
        self, kernel: KernelRecord, idea: Idea, further: Sequence[ShapeKernel] = ()
    ) -> Delivery:
        """What would be delivered of a verified kernel, and of those for ``further`` shapes.

        Raises DeliveryError, WorkerDied.
        """

    def check_delivery(
        self, delivery: Delivery, kernel: KernelRecord, shape: int = 0
    ) -> DeliveryCheck:
        """Import, run and time what would be delivered, as it would lie on disk."""

    def reset(self) -> None:
        """Give up the call that was interrupted; the next one starts afresh."""

    def close(self) -> None:
        """End the worker."""
