"""A device whose kernels are torch functions, so that verdicts are tested without a compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from search_engine.contract.parse import parse
from search_engine.devices._base import Device, Execution, Program
from search_engine.hardware import H200
from search_engine.verdict import Finding

# Its launch is the same at every size, so it may be made for one.
SOURCE = """\
// launch: k<<<1, 32>>>(x, out)
extern "C" __global__ void k(const float* x, float* out) { out[threadIdx.x] = x[threadIdx.x]; }
"""
Function = Callable[..., object]


class FakeDevice(Device):
    facts = H200
    name = "fake"
    torch_device = "cpu"
    measures = False

    def __init__(self) -> None:
        self.runs: list[tuple[bool, int, dict[str, tuple[int, ...]]]] = []
        self.findings: tuple[Finding, ...] = ()
        self.tensors: list[dict[str, torch.Tensor]] = []

    def compile(self, kernels, task):
        raise NotImplementedError

    def execute(self, program, task, tensors: Mapping[str, torch.Tensor], *, checked, offset=0):
        self.runs.append((checked, offset, {n: tuple(t.shape) for n, t in tensors.items()}))
        self.tensors.append(dict(tensors))
        poison = {
            t.name: torch.full(t.shape, float("nan") if "float" in t.dtype else 77).to(
                getattr(torch, t.dtype)
            )
            for t in task.outputs
        }
        with torch.no_grad():
            result = program.handle({k: v.clone() for k, v in tensors.items()}, poison)
        outputs = result if isinstance(result, dict) else {"out": result}
        return Execution({**poison, **outputs}, self.findings)


def kernel(function: Function) -> Program:
    """``function(tensors, poisoned outputs)`` gives a tensor or the outputs by name."""
    return Program(parse(SOURCE), (), function)
