"""NaN, infinities and denormals among the inputs."""

from __future__ import annotations

import torch

from search_engine.capture.call import Call, map_tensors
from search_engine.capture.captured import Captured

SPECIALS = {"NaN": float("nan"), "infinity": float("inf"), "-infinity": float("-inf")}
_PLACES = 2  # per tensor
# The middle of fp32's denormals: 1.4e-45 to 1.2e-38.
DENORMAL_SCALE = 1e-41


def planted(captured: Captured, seed: int, value: float) -> Call:
    """The user's own inputs with ``value`` at a few random places of every floating tensor."""
    generator = torch.Generator().manual_seed(seed)

    def plant(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point() or not tensor.numel():
            return tensor
        # clone() would give an expanded input memory of its own, which the task's strides deny
        if 0 in tensor.stride():
            return tensor
        changed = tensor.clone()
        for place in torch.randint(tensor.numel(), (_PLACES,), generator=generator).tolist():
            index = []
            for size in reversed(tensor.shape):
                index.append(place % size)
                place //= size
            changed[tuple(reversed(index))] = value
        return changed

    return map_tensors(captured.module.forward, captured.draw(seed), plant)


def denormal(captured: Captured, seed: int) -> Call:
    """Normal inputs scaled into fp32's denormals; other dtypes as they are."""

    def scale(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor * DENORMAL_SCALE if tensor.dtype is torch.float32 else tensor

    return map_tensors(captured.module.forward, captured.draw(seed, "normal"), scale)
