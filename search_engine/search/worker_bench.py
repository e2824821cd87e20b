"""The bench of a search: an evaluator in a worker process.

A candidate that takes the worker down is lost, nothing else: the next call finds a fresh
worker that captures the module again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from search_engine.deliver.delivery import Delivery
from search_engine.errors import CaptureError, WorkerDied
from search_engine.judgement import DeliveryCheck, DeviceInfo, Judgement, ShapeKernel, lost
from search_engine.proposers._base import Idea
from search_engine.settings import SearchSettings
from search_engine.store.records import KernelRecord
from search_engine.task import CaptureRequest, Task
from search_engine.verdict import Baseline, Estimate, Measurement, Sample, Verdict
from search_engine.workers.worker import Replay, Worker

logger = logging.getLogger(__name__)

# Seconds beyond the user's own limits. Export traces the module, a baseline compiles it in
# two modes; the fp64 reference of a large task runs on the CPU where there is no GPU.
EXPORT_SECONDS = 240.0
COMPILE_SECONDS = 600.0
BASELINE_SECONDS = 1200.0
DELIVERY_SECONDS = 1200.0
VERIFY_KERNELS = 4  # a verification may take as long as so many hung kernels, on a GPU
VERIFY_SECONDS_CPU = 900.0


class WorkerBench:
    """The bench of a search: one worker process with the user's module and a device."""

    def __init__(self, request: CaptureRequest, settings: SearchSettings) -> None:
        self._request = request
        self._settings = settings
        self._worker = Worker(
            "search_engine.evaluate:Evaluator", {"request": request, "settings": settings}
        )
        self._device: DeviceInfo | None = None

    def capture(self) -> Task:
        """Import the user's file in the worker, within the user's limit."""
        seconds = self._request.import_timeout + EXPORT_SECONDS
        try:
            task: Task = self._worker.call("capture", timeout=seconds)
        except WorkerDied as error:
            name = Path(self._request.path).name
            raise CaptureError(
                f"Importing {name} or building its module did not come to an end ({error}): make "
                "it quick to import, or raise the setting import_timeout."
            ) from None
        self._worker.on_restart.append(Replay("capture", timeout=seconds))
        return task

    def device(self) -> DeviceInfo:
        """What runs the kernels; asked of the worker once."""
        if self._device is None:
            self._device = self._worker.call("device", timeout=EXPORT_SECONDS)
        return self._device

    def trust(self, sources: Sequence[str]) -> None:
        """Told to the worker and to those that replace it."""
        self._worker.call("trust", list(sources), timeout=EXPORT_SECONDS)
        self._worker.on_restart.append(Replay("trust", (list(sources),)))

    def prepare(self, sources: Sequence[str]) -> None:
        """Compile ahead; a compiler that dies is left for ``verify`` to find out."""
        try:
            self._worker.call("prepare", list(sources), timeout=COMPILE_SECONDS)
        except WorkerDied as error:
            logger.warning("compiling %d kernels together failed: %s", len(sources), error)

    def verify(self, source: str, shape: int = 0) -> Judgement:
        """The verdict; a kernel that takes the worker down is rejected for it."""
        device = self.device()
        seconds = self._settings.kernel_timeout * VERIFY_KERNELS
        if not device.measures:
            seconds += VERIFY_SECONDS_CPU
        try:
            judgement: Judgement = self._worker.call("verify", source, shape, timeout=seconds)
            return judgement
        except WorkerDied as error:
            finding = lost(str(error), timed_out=error.timed_out)
            return Judgement(Verdict(False, device.name, (finding,)), ())

    def estimate(self, source: str, shape: int = 0) -> Estimate | None:
        """The modelled time, None where the worker did not survive it."""
        try:
            estimate: Estimate | None = self._worker.call(
                "estimate", source, shape, timeout=COMPILE_SECONDS
            )
            return estimate
        except WorkerDied as error:
            logger.warning("a verified kernel has no estimate: %s", error)
            return None

    def baseline(self) -> Baseline:
        """Times of eager and torch.compile. Raises WorkerDied."""
        baseline: Baseline = self._worker.call("baseline", timeout=BASELINE_SECONDS)
        return baseline

    def glance(self, source: str) -> Sample:
        """A short timing of a kernel. Raises WorkerDied."""
        sample: Sample = self._worker.call("glance", source, timeout=BASELINE_SECONDS)
        return sample

    def measure(self, source: str, shape: int = 0) -> Measurement:
        """Times of a kernel. Raises WorkerDied, MeasurementRejected."""
        measurement: Measurement = self._worker.call(
            "measure", source, shape, timeout=BASELINE_SECONDS
        )
        return measurement

    def render(
        self, kernel: KernelRecord, idea: Idea, further: Sequence[ShapeKernel] = ()
    ) -> Delivery:
        """What would be delivered of a verified kernel, and of those for ``further`` shapes.

        Raises DeliveryError, WorkerDied.
        """
        delivery: Delivery = self._worker.call(
            "render", kernel.source, idea, kernel.verdict, kernel.measurement, kernel.estimate,
            list(further), timeout=EXPORT_SECONDS + self._request.import_timeout,
        )  # fmt: skip
        return delivery

    def check_delivery(
        self, delivery: Delivery, kernel: KernelRecord, shape: int = 0
    ) -> DeliveryCheck:
        """The delivered module, verified and timed."""
        try:
            checked: DeliveryCheck = self._worker.call(
                "check_delivery", delivery, shape, timeout=DELIVERY_SECONDS
            )
            return checked
        except WorkerDied as error:
            finding = lost(str(error), timed_out=error.timed_out)
            return DeliveryCheck(Verdict(False, self.device().name, (finding,)))

    def reset(self) -> None:
        """End the worker: a late answer would be taken for that to the next call."""
        self._worker.close()

    def close(self) -> None:
        """End the worker."""
        self._worker.close()
