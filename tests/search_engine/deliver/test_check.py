"""Deliveries checked as they will run; the GPU is conftest's FakeGpu, or none."""

import linecache
import sys

import pytest
import torch

from search_engine.capture.capture import capture
from search_engine.contract.parse import parse
from search_engine.deliver import check
from search_engine.deliver.observed import observe, observe_call
from search_engine.deliver.render import VerifiedShape, render
from search_engine.devices._base import Device, Execution, Program
from search_engine.errors import DeliveryError
from search_engine.hardware import H200
from search_engine.proposers._base import Idea
from search_engine.task import CaptureRequest
from search_engine.verdict import Measurement, Sample, Verdict

NET = """\
import torch
from torch import nn
{imports}

class Part(nn.Module):
    def forward(self, x):
        return x + 1.0


# kernel-lsp: Net(8), x=float32[4, 8]
class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.part = Part()

    def forward(self, x):
        return self.part(self.norm(x))
"""
KERNEL = """\
// launch: f<<<1, 32>>>(x, norm.weight, norm.bias, out)
extern "C" __global__ void f(const float* x, const float* w, const float* b, float* out) {}
"""
SAMPLE = Sample(1e-4, 1e-4, 1e-4, 9)


class EagerDevice(Device):
    """Computes the module's own answer: a kernel that is right."""

    facts, name, torch_device = H200, "fake", "cpu"

    def __init__(self, measures):
        self.measures = measures
        self.sources = []

    def compile(self, kernels, task):
        self.sources += [kernel.source for kernel in kernels]
        return [Program(kernel, (), None) for kernel in kernels]

    def execute(self, program, task, tensors, *, checked, offset=0):
        x, weight, bias = (tensors[name] for name in ("x", "norm.weight", "norm.bias"))
        out = torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias) + 1.0
        return Execution({"out": out})


@pytest.fixture(params=[False, True], ids=["file", "package"])
def captured(tmp_path, monkeypatch, request):
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder, imports = tmp_path, ""
    if request.param:
        folder, imports = tmp_path / "pkgx", "from .other import ANSWER"
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "other.py").write_text("ANSWER = 42\n")
    path = folder / "checked_net.py"
    path.write_text("stale = True\n")
    text = NET.format(imports=imports)
    yield capture(CaptureRequest(str(path), text, "Net"), H200)
    for name in [n for n in sys.modules if n.split(".")[0] in ("pkgx", "checked_net")]:
        del sys.modules[name]


def delivery(captured, *, measured=False):
    shape = VerifiedShape(
        captured.task,
        parse(KERNEL),
        observe_call(captured.module, captured.draw(0), captured.result),
        Verdict(True, "fake"),
        Measurement("NVIDIA H200", SAMPLE, SAMPLE, {}) if measured else None,
    )
    idea = Idea("t", "r", "memory access", None)
    return render([shape], observed=observe(captured.module), idea=idea, facts=H200)


def test_without_a_gpu(captured):
    device = EagerDevice(measures=False)
    modules, path = dict(sys.modules), list(sys.path)
    offer = delivery(captured)
    verdict = check.check_delivery(captured, offer, device)
    assert verdict.accepted, verdict.findings
    assert verdict.accuracy
    (source,) = device.sources
    assert source == next(iter(offer.files.values()))
    assert sys.modules[captured.task.module_name] is modules[captured.task.module_name]
    assert not [name for name in sys.modules if "checked_net_cuda" in name]
    assert sys.path == path
    assert "Net_cuda" not in "".join(linecache.getlines(captured.task.path))


def test_nothing_is_written_beside_the_users_file(captured):
    from pathlib import Path

    folder = Path(captured.task.path).parent
    before = sorted(p for p in folder.rglob("*") if "__pycache__" not in p.parts)
    check.check_delivery(captured, delivery(captured), EagerDevice(measures=False))
    assert sorted(p for p in folder.rglob("*") if "__pycache__" not in p.parts) == before


class Gpu:
    device_type = "cpu"

    def __init__(self, bias):
        self.bias = bias

    def name(self, index):
        return "NVIDIA H200"

    def capturing(self):
        return False

    def load(self, index, folder, file, case):
        names = (*case.inputs, *case.weights, *case.outputs)

        def run(tensors):
            buffers = dict(zip(names, tensors, strict=True))
            x, weight, bias = (buffers[name] for name in ("x", "norm.weight", "norm.bias"))
            with torch.no_grad():
                out = torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)
                buffers["out"].copy_(out + self.bias)

        return run


@pytest.mark.parametrize(("bias", "accepted"), [(1.0, True), (1.001, False)])
def test_the_delivered_module_is_verified_like_a_kernel(captured, bias, accepted):
    with check.delivered_module(captured, delivery(captured, measured=True)) as (module, found):
        sys.modules[found.decorate.__module__].gpu = Gpu(bias)
        assert type(module) is not type(captured.module)
        assert type(module).forward.__kernel_lsp__.owner is type(module)
        device = check.AsDelivered(EagerDevice(measures=True), captured, module, found)
        (program,) = device.compile([parse(KERNEL)], captured.task)
        verdict = check.verify(captured, program, device, seed=1)
    assert verdict.accepted is accepted
    assert len(verdict.accuracy) >= 1


def test_a_delivered_module_that_never_runs_its_kernel_is_rejected(captured):
    offer = delivery(captured, measured=True)
    verdict = check.check_delivery(captured, offer, EagerDevice(measures=True))
    assert not verdict.accepted
    assert "original forward (device)" in verdict.reason


def test_a_class_that_changed_is_refused(captured):
    text = "".join(linecache.getlines(captured.task.path)).replace("self.part(", "(")
    with pytest.raises(DeliveryError, match="has changed since"):
        check.check_delivery(captured, delivery(captured), EagerDevice(measures=False), text=text)
