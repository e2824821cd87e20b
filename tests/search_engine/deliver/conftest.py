"""A small module with a delivery, and a GPU that is not there."""

import importlib
import sys
import uuid
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import attrs
import pytest
import torch
from attrs import define, field, frozen

from search_engine.capture.outputs import shared, taken_apart
from search_engine.capture.structure import renamed
from search_engine.contract.parse import parse
from search_engine.deliver import edit, files
from search_engine.deliver.delivery import Delivery
from search_engine.deliver.observed import observe, observe_call
from search_engine.deliver.render import VerifiedShape, render
from search_engine.hardware import H200
from search_engine.proposers._base import Idea
from search_engine.source import fingerprint
from search_engine.task import Task, TensorSpec
from search_engine.verdict import Accuracy, Estimate, Measurement, Sample, Verdict

NET = """\
import torch
from torch import nn

GAIN = 3.0


def shifted(x):
    return x + 1.0


class Net(nn.Module):
    def __init__(self, width=8, eps=1e-5):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=eps)
        self.power = 2
        self.unrelated = 0

    def forward(self, x, scale: float = 1.0):
        return shifted(super(Net, self).__repr__ and self.norm(x) ** self.power) * GAIN * scale
"""

KERNEL = """\
// scratch: partial float32[x.size(0), 2] zeroed
// launch: moments<<<x.size(0), 32>>>(x, partial, 8)
// launch: normalize<<<x.size(0), 32, 128>>>(x, norm.weight, norm.bias, partial, out, scale)
extern "C" __global__ void moments(const float* x, float2* partial, int n) {}
extern "C" __global__ void normalize(const float* x, const float* w, const float* b,
                                     const float2* partial, float* out, float scale) {}
"""

IDEA = Idea("One block per row", "Reads once. launch: never\nmore \\", "memory access", 2.0, "row")
VERDICT = Verdict(
    accepted=True,
    device="cpu (SIMT)",
    accuracy=(Accuracy("out", "default", 1e-7, 2e-7, 4e-7, 1e-7, 4e-7),),
)


def sample(seconds: float) -> Sample:
    return Sample(seconds, seconds * 0.99, seconds * 1.01, 50)


MEASUREMENT = Measurement("NVIDIA H200", sample(1e-4), sample(1e-3), {"default": sample(2e-4)})
ESTIMATE = Estimate("NVIDIA H200", 1.2e-4, "DRAM", {"DRAM": 1.2e-4})


def spec(name: str, role: str, tensor: torch.Tensor) -> TensorSpec:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return TensorSpec(name, role, dtype, tuple(tensor.shape), tuple(tensor.stride()))


def returned(module: torch.nn.Module, call: "Call"):
    """The tensors that forward returns by name, each once, and their structure."""
    tensors, tree = taken_apart(module(*call.args, **call.kwargs))
    twice = shared(tensors)
    return {n: t for n, t in tensors.items() if n not in twice}, renamed(tree, twice)


def make_task(
    path: Path,
    module: torch.nn.Module,
    call: "Call",
    *,
    qualname: str = "Net",
    module_name: str | None = None,
    mode: str = "eval",
) -> Task:
    inputs = {"x": call.args[0]}
    outputs, _ = returned(module, call)
    tensors = [spec(name, "input", tensor) for name, tensor in inputs.items()]
    tensors += [spec(name, "parameter", tensor) for name, tensor in module.named_parameters()]
    tensors += [spec(name, "buffer", tensor) for name, tensor in module.named_buffers()]
    tensors += [spec(name, "output", tensor) for name, tensor in outputs.items()]
    return Task(
        path=str(path),
        qualname=qualname,
        module_name=module_name or path.stem,
        fingerprint=fingerprint(path.read_text("utf-8"), qualname) or "",
        inputs_from="comment",
        construction="Net()",
        tensors=tuple(tensors),
        scalars={"scale": 1.0},
        mode=mode,
        policy="match",
        target="h200",
        flops=1,
        min_bytes=1,
        longest_reduction=8,
        limit_seconds=5e-5,
        limit_reason="DRAM",
        graph=None,
    )


@frozen
class Call:
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(factory=dict)


@define
class FakeGpu:
    """Stands for CUDA on CPU tensors. ``compute`` gives the outputs; launches are recorded."""

    module: ModuleType
    device_type: str = "cpu"
    model: str = "NVIDIA H200"
    in_capture: bool = False
    fails: str = ""  # "load" or "launch"
    runs: int = 0
    loads: int = 0
    buffers: dict[str, torch.Tensor] = field(factory=dict)
    times: list[float] = field(factory=lambda: [1.0, 2.0])  # of the kernel, of the original
    factor: float = 1.0  # what the kernel's output is off by

    def name(self, index):
        return self.model

    def capturing(self):
        return self.in_capture

    def seconds(self, function):
        function()
        return self.times.pop(0)

    def load(self, index, folder, file, case):
        if self.fails == "load":
            raise RuntimeError("NVRTC: no such thing")
        self.loads += 1
        names = [*case.inputs, *case.weights, *case.outputs, *(["scratch"] if case.scratch else [])]

        def run(tensors):
            if self.fails == "launch":
                raise RuntimeError("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES")
            self.runs += 1
            self.buffers = buffers = dict(zip(names, tensors, strict=True))
            x, weight, bias = (buffers[n] for n in ("x", "norm.weight", "norm.bias"))
            with torch.no_grad():
                y = torch.nn.functional.layer_norm(x, (x.shape[-1],), weight, bias)
                for number, name in enumerate(case.outputs, 1):
                    buffers[name].copy_((y**2 + 1.0) * 3.0 * self.factor * number)

        return run


@define
class Delivered:
    """A delivery in a folder, imported."""

    folder: Path
    delivery: Delivery
    user: ModuleType  # the user's file with the edit applied
    kernel: ModuleType  # the delivered Python file
    runtime: ModuleType  # what it imports
    gpu: FakeGpu
    original: type  # the class as written
    runs: list[bool] = field(factory=list)  # what launches gave, for tests on a real GPU

    @property
    def verified(self):
        return self.kernel.VERIFIED

    @property
    def state(self):
        """What this process has compiled and tried of the kernel."""
        return self.runtime.kernels[self.verified.namespace]


@pytest.fixture
def deliver(tmp_path, monkeypatch):
    """A function that delivers a kernel for ``Net`` of a text and imports the result."""
    made: list[str] = []
    monkeypatch.syspath_prepend(tmp_path)

    def make(
        text: str = NET,
        *,
        measured: bool = True,
        build=lambda net: net(),
        call: Call | None = None,
        kernel: str = KERNEL,
        mode_matters: bool = False,
        mode: str = "eval",
        verdict: Verdict = VERDICT,
        change=lambda text: text,
        device: str = "NVIDIA H200",
        cubin: bytes | None = None,
    ) -> Delivered:
        stem = f"net_{uuid.uuid4().hex[:8]}"
        made.append(stem)
        path = tmp_path / f"{stem}.py"
        path.write_text(text, "utf-8")
        plain = importlib.import_module(stem)
        original = plain.Net
        module = build(original).train(mode == "train")
        call = call or Call((torch.randn(4, 8),))
        task = make_task(path, module, call, mode=mode)
        shape = VerifiedShape(
            task,
            parse(kernel),
            observe_call(module, call, returned(module, call)[1]),
            verdict,
            attrs.evolve(MEASUREMENT, device=device) if measured else None,
            None if measured else ESTIMATE,
            cubin,
        )
        delivery = render(
            [shape], observed=observe(module), idea=IDEA, facts=H200, mode_matters=mode_matters
        )
        files.write(tmp_path, delivery)
        path.write_text(change(edit.apply(text, edit.insert(text, delivery))), "utf-8")
        del sys.modules[stem]
        importlib.invalidate_caches()
        import linecache

        linecache.clearcache()
        user = importlib.import_module(stem)
        delivered = sys.modules[f"{stem}_cuda.Net"]
        runtime = sys.modules[delivered.decorate.__module__]
        gpu = FakeGpu(delivered)
        runtime.gpu = gpu
        return Delivered(tmp_path, delivery, user, delivered, runtime, gpu, original)

    yield make
    for stem in made:
        for name in [name for name in sys.modules if name.split(".")[0] in (stem, f"{stem}_cuda")]:
            del sys.modules[name]
    torch._dynamo.reset()


@pytest.fixture
def strict():
    """No gradients, and no warning that a test does not expect."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def expected():
    """What the forward as written gives."""

    def run(found, x, **kwargs):
        return found.user.Net.forward.__wrapped__(found.user.Net().eval(), x, **kwargs)

    return run


@pytest.fixture
def falls_back():
    """Checks that a call runs the original, without a launch; it warns once, or never."""

    def check(found, net, *args, match=None, reason=None, **kwargs):
        runs = found.gpu.runs
        wanted = net.forward.__wrapped__(net, *args, **kwargs)
        assert (reason or match) in found.kernel.explain(net, *args, **kwargs)
        if match is None:
            got = net(*args, **kwargs)
        else:
            with pytest.warns(UserWarning, match=match):
                got = net(*args, **kwargs)
        torch.testing.assert_close(got, wanted)
        torch.testing.assert_close(net(*args, **kwargs), wanted)  # now without a warning
        assert found.gpu.runs == runs

    return check


@pytest.fixture(scope="session")
def kit():
    """This file's names, for tests that build deliveries themselves."""
    return SimpleNamespace(**globals())
