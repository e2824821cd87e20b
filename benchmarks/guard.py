"""What the guard of a delivered module costs, beside the module as written.

Delivers a kernel for a LayerNorm and calls it many times in eager mode. Prints medians in
microseconds: the guard alone, a whole delivered call without the GPU's work, the bare
module, and guard over bare. Where there is a GPU the bare call is of CUDA tensors and ends
when it is queued; elsewhere launches do nothing and tensors lie on the CPU.

    python benchmarks/guard.py [--rounds 50]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from search_engine.capture.capture import capture
from search_engine.contract.parse import parse
from search_engine.deliver.check import delivered_module
from search_engine.deliver.observed import observe, observe_call
from search_engine.deliver.render import VerifiedShape, render
from search_engine.hardware import H200
from search_engine.proposers._base import Idea
from search_engine.task import CaptureRequest
from search_engine.verdict import Measurement, Sample, Verdict

NET = """\
import torch
from torch import nn


# kernel-lsp: Net(768), x=float32[8, 768]
class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        return self.norm(x)
"""
KERNEL = """\
// launch: f<<<1, 32>>>(x, norm.weight, norm.bias, out)
extern "C" __global__ void f(const float* x, const float* w, const float* b, float* out) {}
"""
CALLS = 200


@contextlib.contextmanager
def delivered(path: Path, gpu_name: str) -> Iterator[tuple[torch.nn.Module, ModuleType]]:
    """The module as delivered, and the delivered file."""
    captured = capture(CaptureRequest(str(path), NET, "Net"), H200)
    sample = Sample(1e-5, 1e-5, 1e-5, 9)
    shape = VerifiedShape(
        captured.task,
        parse(KERNEL),
        observe_call(captured.module, captured.draw(0), captured.result),
        Verdict(True, gpu_name),
        Measurement(gpu_name, sample, sample, {}),
    )
    idea = Idea("A kernel that does nothing", "", "memory access", None)
    delivery = render([shape], observed=observe(captured.module), idea=idea, facts=H200)
    with delivered_module(captured, delivery, text=NET) as found:
        yield found


def runtime_of(found: ModuleType) -> ModuleType:
    """What the delivered file imports."""
    return sys.modules[found.decorate.__module__]


def stand_in(found: ModuleType) -> Any:
    """A GPU whose launches do nothing, on CPU tensors."""

    class NoGpu(runtime_of(found).Gpu):  # type: ignore[name-defined,misc]
        device_type = "cpu"

        def name(self, index: int) -> str:
            return found.VERIFIED.gpu

        def capturing(self) -> bool:
            return False

        def load(self, *_: Any) -> Any:
            return lambda tensors: None

    return NoGpu()


def microseconds(function: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(CALLS):
            function()
        times.append((time.perf_counter() - start) / CALLS * 1e6)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    cuda = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if cuda else "none"
    with (
        tempfile.TemporaryDirectory() as folder,
        torch.inference_mode(),
        delivered(Path(folder, "guarded_net.py"), name) as (net, found),
    ):
        if not cuda:
            runtime_of(found).gpu = stand_in(found)
        device = "cuda" if cuda else "cpu"
        net = net.eval().to(device)
        x = torch.randn(8, 768, device=device)
        net(x)
        assert found.explain(net, x) == "kernel", found.explain(net, x)
        binding = type(net).forward.__kernel_lsp__

        def guard() -> None:
            torch.compiler.is_compiling()
            runtime_of(found).untouchable(False)
            runtime_of(found).accept(binding, net, (x,), {})

        figures = {
            "guard": microseconds(guard, rounds),
            "delivered call": microseconds(lambda: net(x), rounds),
            "bare module": microseconds(lambda: binding.original(net, x), rounds),
        }
    for name, value in figures.items():
        print(f"{name:<16}{value:7.2f} µs")
    print(f"{'guard over bare':<16}{figures['guard'] / figures['bare module']:7.2f}")


if __name__ == "__main__":
    main()
