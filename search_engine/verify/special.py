"""NaN, infinities and denormals among the inputs."""

from __future__ import annotations

import torch

from search_engine.capture.call import Call, map_tensors
from search_engine.capture.captured import Captured
from search_engine.task import Task

_NAN, _INFINITY = float("nan"), float("inf")
_MANY_ROWS = 64  # then the places most likely lie in rows of their own
# The middle of fp32's denormals: 1.4e-45 to 1.2e-38.
DENORMAL_SCALE = 1e-41


def plantings(task: Task) -> list[tuple[str, tuple[float, ...]]]:
    """(name of the inputs, values to plant) for each run: one, where there is room in it."""
    largest = max(task.inputs, key=lambda t: t.numel, default=None)
    if largest is None or not any(t.dtype.startswith(("float", "bfloat")) for t in task.inputs):
        return []
    if largest.shape and largest.numel >= _MANY_ROWS * largest.shape[-1] > 0:
        return [("inputs with NaN and infinities in a few places", (_NAN, _INFINITY, -_INFINITY))]
    return [
        ("inputs with NaN in one place", (_NAN,)),
        ("inputs with infinity in one place", (_INFINITY,)),
        ("inputs with -infinity in one place", (-_INFINITY,)),
    ]


def planted(captured: Captured, seed: int, values: tuple[float, ...]) -> Call:
    """The user's own inputs with each of ``values`` at a random place of every floating tensor.

    Expanded inputs stay: one element there stands for many.
    """
    generator = torch.Generator().manual_seed(seed % 2**63)

    def plant(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point() or not tensor.numel() or 0 in tensor.stride():
            return tensor
        changed = tensor.clone()
        places = torch.randint(tensor.numel(), (len(values),), generator=generator).tolist()
        for place, value in zip(places, values, strict=True):
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
