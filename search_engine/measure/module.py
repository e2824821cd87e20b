"""A delivered module timed as people will call it: from Python, launch costs included."""

from __future__ import annotations

import random
import time

import torch

from search_engine.capture.call import Call
from search_engine.devices._base import Device
from search_engine.measure.session import measuring
from search_engine.measure.statistics import sample_of
from search_engine.measure.timing import LEAST_ROUNDS, MOST_ROUNDS, WARM_UPS, Timer
from search_engine.verdict import Sample

BUDGET_SECONDS = 1.0


def measure_module(
    original: torch.nn.Module, replacement: torch.nn.Module, call: Call, device: Device
) -> tuple[Sample, Sample]:
    """Wall time of one call of each, from Python to the GPU having finished, in seconds.

    Interleaved in random order, L2 cold. Raises SetupError on a device without times.
    """
    gpu = measuring(device)
    target = torch.device(gpu.torch_device)
    timer = Timer(gpu)
    modules = (original, replacement)
    times: tuple[list[float], list[float]] = ([], [])

    def once(module: torch.nn.Module) -> float:
        timer.flush()
        torch.cuda.synchronize(target)
        started = time.perf_counter()
        module(*call.args, **call.kwargs)
        torch.cuda.synchronize(target)
        return time.perf_counter() - started

    with torch.no_grad(), torch.cuda.device(target):
        warm = [min(once(module) for _ in range(WARM_UPS)) for module in modules]
        rounds = max(LEAST_ROUNDS, min(MOST_ROUNDS, int(BUDGET_SECONDS / sum(warm))))
        for _ in range(rounds):
            for index in random.sample((0, 1), 2):
                times[index].append(once(modules[index]))
    return sample_of(times[0]), sample_of(times[1])
