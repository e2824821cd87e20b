"""A delivery checked as the user will have it: from a scratch copy of their project.

It runs in a worker of its own, so that the edited file is imported afresh under its own
name, from a folder in which everything but the edit is a link to the user's project.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from attrs import evolve

from search_engine.capture.call import Call
from search_engine.capture.capture import capture
from search_engine.capture.captured import Captured, state_of
from search_engine.capture.loader import locate
from search_engine.contract.tokens import tokenize
from search_engine.deliver import edit, files
from search_engine.deliver.delivery import Delivery
from search_engine.devices._base import Device
from search_engine.devices.select import open_device
from search_engine.judgement import DeliveredTimes, DeliveryCheck
from search_engine.measure.measure import relative_error
from search_engine.measure.module import measure_module
from search_engine.settings import SearchSettings
from search_engine.task import CaptureRequest
from search_engine.verdict import Finding, Measurement, Sample, Verdict

_SEED = 20_250_528


class DeliveryChecker:
    """Imports a delivered module, runs it beside the original and times it."""

    def __init__(self, request: CaptureRequest, settings: SearchSettings) -> None:
        self._request = request
        self._settings = settings

    def check(
        self,
        delivery: Delivery,
        source: str,
        verdict: Verdict,
        measurement: Measurement | None,
    ) -> DeliveryCheck:
        """Whether the delivery does what was verified, and how fast it is as called from Python.

        ``source`` is the kernel that got ``verdict``, ``measurement`` its times on a GPU.
        Raises CaptureError, DeliveryError, SetupError.
        """
        findings = list(_same_code(delivery, source))
        if findings:
            return DeliveryCheck(tuple(findings))
        device = open_device(self._settings)
        try:
            with tempfile.TemporaryDirectory(prefix="kernel-lsp-") as scratch:
                pair = _Pair(self._request, delivery, Path(scratch).resolve(), device)
                findings = list(pair.findings(verdict))
                if findings or not device.measures:
                    return DeliveryCheck(tuple(findings))
                return DeliveryCheck((), pair.times(measurement))
        finally:
            device.close()


def _same_code(delivery: Delivery, source: str) -> Iterator[Finding]:
    """The delivered kernel file is the verified one but for comments."""

    def compiled(text: str) -> list[tuple[str, bool]]:
        return [(t.text, t.directive) for t in tokenize(text) if "comment" not in t.kind]

    for name, text in delivery.files.items():
        if name.endswith(".cu") and compiled(text) != compiled(source):
            yield Finding("delivery", f"{name} is not the kernel that was verified")


class _Pair:
    """The original module and the delivered one, with the same parameters."""

    def __init__(
        self, request: CaptureRequest, delivery: Delivery, scratch: Path, device: Device
    ) -> None:
        self._device = device
        path = _linked(Path(request.path), scratch)
        text = request.text
        if edit.is_applied(text, delivery):
            text = edit.apply(text, edit.remove(text, delivery))
        files.write(path.parent, delivery)
        edited = edit.apply(text, edit.insert(text, delivery))
        self.original = self._capture(evolve(request, path=str(path), text=text))
        self.delivered = self._capture(evolve(request, path=str(path), text=edited))
        theirs = state_of(self.original.module)
        with torch.no_grad():
            for name, (_, tensor) in state_of(self.delivered.module).items():
                tensor.copy_(theirs[name][1])

    def _capture(self, request: CaptureRequest) -> Captured:
        device = self._device
        return capture(request, device.facts, device=device.torch_device)

    def findings(self, verdict: Verdict) -> Iterator[Finding]:
        """What differs between the two."""
        before = self.original.module.state_dict()
        after = self.delivered.module.state_dict()
        if list(before) != list(after):
            yield _finding("the delivered module has another state_dict")
        call = self.original.draw(_SEED)
        yield from self._taken(call)
        with torch.no_grad(), warnings.catch_warnings():
            # On a GPU that nothing was measured on, the delivered file tries itself and says so.
            warnings.simplefilter("ignore")
            expected = self.original.run(call)
            got = self.delivered.run(call)
        for name, tensor in expected.items():
            allowed = self._allowed(name, verdict)
            error = relative_error(got[name], tensor) if name in got else float("inf")
            if not error <= allowed:
                yield _finding(
                    f"{name} of the delivered module is {error:.2g} of its norm off the "
                    f"original's, {allowed:.2g} at most were verified"
                )

    def _taken(self, call: Call) -> Iterator[Finding]:
        """Whether the guard lets the kernel run on the very task that it was verified for."""
        delivered = _delivered_file(self.delivered.module)
        gpu = delivered.gpu
        # Without a GPU everything but the device has to fit.
        gpu.device_type = torch.device(self._device.torch_device).type
        try:
            with torch.no_grad():
                binding = type(self.delivered.module).forward.__kernel_lsp__  # type: ignore[attr-defined]
                fit = delivered.accept(binding, self.delivered.module, call.args, call.kwargs)
                if isinstance(fit, str):
                    yield _finding(f"the delivered guard turns the verified task down ({fit})")
                elif self._device.measures:
                    reason = delivered.explain(self.delivered.module, *call.args, **call.kwargs)
                    if reason != "kernel":
                        yield _finding(f"the delivered module does not run the kernel: {reason}")
        finally:
            gpu.device_type = "cuda"

    def _allowed(self, name: str, verdict: Verdict) -> float:
        """By the triangle inequality, from what was verified of kernel and eager."""
        if not self._device.measures:
            return 0.0  # both ran the original forward
        of_output = [a for a in verdict.accuracy if a.output == name]
        return 2 * max((a.bound + a.eager_error for a in of_output), default=0.0)

    def times(self, measurement: Measurement | None) -> DeliveredTimes:
        """One call of each from Python, interleaved."""
        call = self.original.draw(_SEED)
        eager, delivered = measure_module(
            self.original.module, self.delivered.module, call, self._device
        )
        compiled: Sample | None = None
        modes = {} if measurement is None else measurement.compiled
        if modes:
            mode = min(modes, key=lambda name: modes[name].median)
            module: Any = torch.compile(self.original.module, mode=mode, dynamic=False)
            compiled, again = measure_module(module, self.delivered.module, call, self._device)
            delivered = max(delivered, again, key=lambda sample: sample.median)
        return DeliveredTimes(delivered, eager, compiled)


def _finding(message: str) -> Finding:
    return Finding("delivery", message)


def _delivered_file(module: torch.nn.Module) -> Any:
    """The delivered Python file, imported: where the class's new forward is from."""
    binding = type(module).forward.__kernel_lsp__  # type: ignore[attr-defined]
    return sys.modules[type(binding).__module__]


def _linked(path: Path, scratch: Path) -> Path:
    """The place of the user's file in ``scratch``, everything around it a link to the original.

    From the folder of the outermost package (or the file's own) down to the file; of the
    file's folder and of those above it only the entries beside the way are linked.
    """
    root = Path(locate(str(path)).root)
    source, copied = root, scratch
    for part in path.relative_to(root).parts:
        for entry in source.iterdir():
            if entry.name != part and entry.name != "__pycache__":
                (copied / entry.name).symlink_to(entry)
        source, copied = source / part, copied / part
        if source != path:
            copied.mkdir()
    return copied
