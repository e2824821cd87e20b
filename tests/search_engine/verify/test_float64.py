"""Tasks in float64, where eager is itself the reference."""

from __future__ import annotations

import importlib.util
import math
import shutil
from pathlib import Path

import pytest
import torch

from search_engine.contract.parse import parse
from search_engine.devices._base import Program
from search_engine.devices.cpu.device import CpuDevice
from search_engine.hardware import H200
from search_engine.verify import bounds
from search_engine.verify.errors import ErrorSums
from search_engine.verify.verify import verify

spec = importlib.util.spec_from_file_location(
    "fake_device", Path(__file__).with_name("fake_device.py")
)
fake = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake)

needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler"
)

INPUTS = "def get_inputs(): return [torch.rand(70, 96, dtype=torch.float64)]\n"
NORM = (
    "class Net(nn.Module):\n"
    "    def __init__(self):\n"
    "        super().__init__()\n"
    "        self.ln = nn.LayerNorm(96, dtype=torch.float64)\n"
    "    def forward(self, x): return self.ln(x)\n" + INPUTS
)
SOFTMAX = "class Net(nn.Module):\n    def forward(self, x): return x.softmax(-1)\n" + INPUTS
POINTWISE = (
    "class Net(nn.Module):\n    def forward(self, x): return F.gelu(1.7 * x + 0.3)\n" + INPUTS
)

SUM = """
__device__ double sum(double v) {
  for (int o = 16; o > 0; o /= 2) v += __shfl_xor_sync(~0u, v, o);
  return v;
}
__device__ double largest(double v) {
  for (int o = 16; o > 0; o /= 2) {
    const double w = __shfl_xor_sync(~0u, v, o);
    v = (w > v || w != w) ? w : v;
  }
  return v;
}
"""
NORM_HEAD = "// launch: norm<<<x.size(0), 32>>>(x, ln.weight, ln.bias, out, x.size(1))\n" + SUM
NORM_BODY = """
extern "C" __global__ void norm(const double* x, const double* weight, const double* bias,
                                double* out, int n) {
  x += (size_t)blockIdx.x * n;
  out += (size_t)blockIdx.x * n;
  double mean = 0.0, variance = 0.0;
  for (int i = threadIdx.x; i < n; i += 32) mean += x[i];
  mean = sum(mean) / n;
  for (int i = threadIdx.x; i < n; i += 32) variance += (x[i] - mean) * (x[i] - mean);
  variance = sum(variance) / n;
  for (int i = threadIdx.x; i < n; i += 32)
    out[i] = (x[i] - mean) / sqrt(variance + 1e-5) * weight[i] + bias[i];
}
"""
SOFTMAX_SOURCE = (
    "// launch: softmax<<<x.size(0), 32>>>(x, out, x.size(1))\n"
    + SUM
    + """
extern "C" __global__ void softmax(const double* x, double* out, int n) {
  x += (size_t)blockIdx.x * n;
  out += (size_t)blockIdx.x * n;
  double top = -INFINITY, total = 0.0;
  for (int i = threadIdx.x; i < n; i += 32) top = x[i] > top || x[i] != x[i] ? x[i] : top;
  top = largest(top);
  for (int i = threadIdx.x; i < n; i += 32) total += exp(x[i] - top);
  total = sum(total);
  for (int i = threadIdx.x; i < n; i += 32) out[i] = exp(x[i] - top) / total;
}
"""
)
POINTWISE_SOURCE = """\
// launch: apply<<<ceil_div(x.numel(), 64), 64>>>(x, out, x.numel())
extern "C" __global__ void apply(const double* x, double* out, int n) {
  const int i = blockIdx.x * 64 + threadIdx.x;
  if (i >= n) return;
  const double v = 1.7 * x[i] + 0.3;
  out[i] = 0.5 * v * (1.0 + erf(v * 0.70710678118654752));
}
"""
FLOAT_SUMS = NORM_BODY.replace("double mean = 0.0, variance", "float mean = 0.0f, variance")
MOMENTS = NORM_BODY.replace("(x[i] - mean) * (x[i] - mean)", "x[i] * x[i]").replace(
    "variance = sum(variance) / n", "variance = sum(variance) / n - mean * mean"
)


@pytest.fixture(scope="module")
def device():
    opened = CpuDevice(H200, timeout=30.0, compile_for_target=False)
    yield opened
    opened.close()


@pytest.fixture
def judge(module, device):
    def run(text, source):
        captured = module(text)
        (program,) = device.compile([parse(source)], captured.task)
        assert isinstance(program, Program), program
        return verify(captured, program, device, seed=1)

    return run


@needs_compiler
@pytest.mark.parametrize(
    ("text", "source"),
    [(NORM, NORM_HEAD + NORM_BODY), (SOFTMAX, SOFTMAX_SOURCE), (POINTWISE, POINTWISE_SOURCE)],
    ids=["layer norm", "softmax", "pointwise"],
)
def test_honest_kernels_are_accepted_and_the_notes_say_by_what(judge, text, source):
    found = judge(text, source)
    assert found.accepted, found.reason
    assert "mean1000" in {a.distribution for a in found.accuracy}
    assert any("that of the same module in float32, scaled" in note for note in found.notes)


@needs_compiler
@pytest.mark.parametrize(
    ("text", "source", "distribution"),
    [
        (NORM, NORM_HEAD + FLOAT_SUMS, "default"),
        (NORM, NORM_HEAD + MOMENTS, "mean1000"),
        (SOFTMAX, SOFTMAX_SOURCE.replace("-INFINITY, total", "-INFINITY; float total"), "default"),
        (POINTWISE, POINTWISE_SOURCE.replace("const double v", "const float v"), "default"),
    ],
    ids=["sums in float", "E[x²] − m²", "softmax sums in float", "pointwise in float"],
)  # fmt: skip
def test_precision_evasions_are_rejected(judge, text, source, distribution):
    (finding,) = judge(text, source).findings
    assert finding.check == "accuracy"
    assert f"on {distribution} inputs" in finding.message
    assert "told from float32" in finding.message


def verdict(captured, function):
    return verify(captured, fake.kernel(function), fake.FakeDevice(), seed=1)


def test_without_a_run_in_float32_the_floor_has_an_allowance_and_it_is_said(module):
    captured = module(
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        assert x.dtype is torch.float64\n"
        "        return x.softmax(-1)\n" + INPUTS
    )
    found = verdict(captured, lambda t, out: (t["x"] - 1).softmax(-1))
    assert found.accepted, found.reason
    assert any("cannot be told from float32 (AssertionError" in note for note in found.notes)
    assert {a.bound for a in found.accuracy} == {1024 * bounds.floor("float64", 96)}
    sums = lambda t, out: t["x"].exp() / t["x"].exp().float().sum(-1, keepdim=True)  # noqa: E731
    assert verdict(captured, sums).findings[0].check == "accuracy"


def test_values_out_of_range_of_float32(module):
    captured = module(
        "class Net(nn.Module):\n"
        "    def forward(self, x): return torch.exp(0.5 * x + 200)\n" + INPUTS
    )
    found = verdict(captured, lambda t, out: torch.exp(0.5 * t["x"] + 200))
    assert found.accepted, found.reason
    assert any("out is out of float32's range on default inputs" in n for n in found.notes)
    narrow = lambda t, out: torch.exp(0.5 * t["x"] + 200).mul(1 + 2**-26)  # noqa: E731
    assert verdict(captured, narrow).findings[0].check == "accuracy"


def test_errors_told_from_float32_leave_out_its_range_and_are_never_over_one():
    exact = torch.tensor([[1.0, 1e300, 1e-300]], dtype=torch.float64)
    narrow = torch.tensor([[1.5, math.inf, 0.0]])
    assert ErrorSums.from_float32(narrow, exact).relative == 0.5 * bounds.FLOAT64_SCALE
    wild = ErrorSums.from_float32(torch.tensor([[9.0]]), torch.tensor([[1.0]]).double())
    assert wild.relative == wild.worst_row == bounds.FLOAT64_SCALE


def test_tf32_and_its_like_do_not_widen_the_bound(module):
    text = (
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc = nn.Linear(96, 32, dtype=torch.float64)\n"
        "    def forward(self, x): return self.fc(x)\n" + INPUTS
    )
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")  # bf16 products on a CPU that has them
    try:
        found = verdict(module(text), lambda t, o: t["x"] @ t["fc.weight"].T + t["fc.bias"])
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert found.accepted, found.reason
    assert all(a.bound < 1e-14 for a in found.accuracy if a.distribution == "normal")
