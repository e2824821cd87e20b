"""What all measurements of one captured module share: draws, baselines, the timer."""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch

from search_engine.capture.call import Call
from search_engine.capture.captured import Captured
from search_engine.devices._base import Device
from search_engine.errors import SetupError
from search_engine.measure.compiled import compile_modes
from search_engine.measure.timing import Contender, Timer

if TYPE_CHECKING:
    from search_engine.devices.cuda.device import CudaDevice

DRAWS = 3  # inputs at different addresses, with different values
_SHARE = 0.1  # of the free GPU memory that the draws may take


class Session:
    """The inputs and baselines of one captured module on one GPU."""

    def __init__(self, captured: Captured, device: CudaDevice) -> None:
        self.captured = (
            captured if captured.device == device.torch_device else captured.to(device.torch_device)
        )
        self.captured.restore()
        self.device = device
        torch_device = torch.device(device.torch_device)
        self.timer = Timer(device)
        free, _ = torch.cuda.mem_get_info(torch_device)
        size = sum(spec.nbytes for spec in captured.task.inputs)
        count = max(1, min(DRAWS, int(_SHARE * free / max(size, 1))))
        # Secret seeds: what a kernel was timed on cannot be known from the code.
        self.calls = [self.captured.draw(secrets.randbits(31)) for _ in range(count)]
        self._modules, self.notes = compile_modes(self.captured.module, self.calls[0])

    def baselines(self) -> dict[str, Contender]:
        """Eager and each mode of torch.compile that worked."""
        return {
            "eager": self.contender(self.captured.module),
            **{mode: self.contender(module) for mode, module in self._modules.items()},
        }

    def call(self, turn: int) -> Call:
        """The inputs of a turn."""
        return self.calls[turn % len(self.calls)]

    def contender(self, module: Callable[..., Any]) -> Contender:
        """A module, called on the inputs of each turn."""

        def run(turn: int) -> object:
            call = self.call(turn)
            return module(*call.args, **call.kwargs)

        return Contender(run)


_sessions: weakref.WeakKeyDictionary[Captured, Session] = weakref.WeakKeyDictionary()


def measuring(device: Device) -> CudaDevice:
    """``device`` as one that measures. Raises SetupError where it only estimates."""
    if not device.measures:
        raise SetupError(f"{device.name} gives estimates; times need a GPU (device cuda).")
    return cast("CudaDevice", device)


def session_of(captured: Captured, device: Device) -> Session:
    """The session of a captured module, made at first use (torch.compile takes its time).

    Raises SetupError on a device that has no times.
    """
    gpu = measuring(device)
    session = _sessions.get(captured)
    if session is None or session.device is not device:
        session = _sessions[captured] = Session(captured, gpu)
    session.captured.restore()  # verification draws parameters of its own
    return session
