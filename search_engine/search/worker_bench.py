"""The bench of a search: an evaluator in a worker process.

A candidate that takes the worker down is lost, nothing else: the next call finds a fresh
worker that captures the module again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search_engine.deliver.delivery import Delivery
from search_engine.errors import CaptureError, WorkerDied
from search_engine.judgement import DeliveryCheck, DeviceInfo, Judgement, lost
from search_engine.settings import SearchSettings
from search_engine.task import CaptureRequest, Task
from search_engine.verdict import Baseline, Estimate, Finding, Measurement, Verdict
from search_engine.workers.worker import Worker

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
        self._captured = False
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
        self._captured = True
        return task

    def device(self) -> DeviceInfo:
        """What runs the kernels; asked of the worker once."""
        if self._device is None:
            self._device = self._worker.call("device", timeout=EXPORT_SECONDS)
        return self._device

    def prepare(self, sources: Sequence[str]) -> None:
        """Compile ahead; a compiler that dies is left for ``verify`` to find out."""
        try:
            self._call("prepare", list(sources), timeout=COMPILE_SECONDS)
        except WorkerDied:
            return None  # verify compiles one by one and finds out which it was

    def verify(self, source: str) -> Judgement:
        """The verdict; a kernel that takes the worker down is rejected for it."""
        hung = self._settings.kernel_timeout * VERIFY_KERNELS
        seconds = hung if self.device().measures else VERIFY_SECONDS_CPU + hung
        try:
            return self._call("verify", source, timeout=seconds)
        except WorkerDied as error:
            return Judgement(Verdict(False, self.device().name, (_lost(error),)), ())

    def estimate(self, source: str) -> Estimate | None:
        """The modelled time, None where the worker did not survive it."""
        try:
            return self._call("estimate", source, timeout=COMPILE_SECONDS)
        except WorkerDied:
            return None

    def baseline(self) -> Baseline:
        """Times of eager and torch.compile. Raises WorkerDied."""
        return self._call("baseline", timeout=BASELINE_SECONDS)

    def measure(self, source: str) -> Measurement:
        """Times of a kernel. Raises WorkerDied."""
        return self._call("measure", source, timeout=BASELINE_SECONDS)

    def check_delivery(self, delivery: Delivery) -> DeliveryCheck:
        """The delivered module's verdict and times, from a scratch copy."""
        try:
            return self._call("check_delivery", delivery, timeout=DELIVERY_SECONDS)
        except WorkerDied as error:
            return DeliveryCheck(Verdict(False, self.device().name, (_lost(error),)), None)

    def close(self) -> None:
        """End the worker."""
        self._worker.close()

    def _call(self, method: str, *arguments: object, timeout: float) -> Any:
        """Call the evaluator; a fresh worker captures the module first, in time of its own."""
        if not self._captured:
            self.capture()
        try:
            return self._worker.call(method, *arguments, timeout=timeout)
        except WorkerDied:
            self._captured = False
            raise


def _lost(error: WorkerDied) -> Finding:
    return lost(str(error), timed_out=error.timed_out)
