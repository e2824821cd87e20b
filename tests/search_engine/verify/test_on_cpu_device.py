"""Verdicts on the real cpu device: CUDA-C, compiled and executed."""

from __future__ import annotations

import shutil

import pytest

from search_engine.contract.parse import parse
from search_engine.devices._base import Program
from search_engine.devices.cpu.device import CpuDevice
from search_engine.devices.cpu.toolchain import find_toolchain
from search_engine.errors import SetupError
from search_engine.hardware import H200
from search_engine.verify.verify import verify

pytestmark = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler"
)

try:
    TOOLCHAIN = find_toolchain()
except SetupError:
    TOOLCHAIN = None

SOFTMAX = """
class Net(nn.Module):
    def forward(self, x): return x.softmax(-1)
def get_inputs(): return [torch.rand(70, 100)]
"""
HEAD = "// launch: softmax<<<x.size(0), 32>>>(x, out, x.size(1))\n"
BODY = """
__device__ float warp_max(float v) {
  for (int o = 16; o > 0; o /= 2) {
    const float w = __shfl_xor_sync(~0u, v, o);
    v = (w > v || w != w) ? w : v;
  }
  return v;
}
__device__ float warp_sum(float v) {
  for (int o = 16; o > 0; o /= 2) v += __shfl_xor_sync(~0u, v, o);
  return v;
}
extern "C" __global__ void softmax(const float* x, float* out, int n) {
  x += (size_t)blockIdx.x * n;
  out += (size_t)blockIdx.x * n;
  float top = -INFINITY, sum = 0.0f;
  for (int i = threadIdx.x; i < n; i += 32) top = fmaxf(top, x[i]);
  top = warp_max(top);
  for (int i = threadIdx.x; i < n; i += 32) sum += expf(x[i] - top);
  sum = warp_sum(sum);
  for (int i = threadIdx.x; i < n; i += 32) out[i] = expf(x[i] - top) / sum;
}
"""


@pytest.fixture(scope="module")
def device():
    opened = CpuDevice(H200, timeout=30.0, compile_for_target=False)
    yield opened
    opened.close()


@pytest.fixture
def judge(module, device):
    def run(source, text=SOFTMAX):
        captured = module(text)
        (program,) = device.compile([parse(source)], captured.task)
        assert isinstance(program, Program), program
        return verify(captured, program, device, seed=1)

    return run


def test_an_honest_kernel_is_accepted(judge):
    found = judge(HEAD + BODY)
    assert found.accepted, found.reason
    assert found.worst.error <= found.worst.bound


WRONG = {
    "row past the end": (HEAD.replace("x.size(0)", "x.size(0) + 1"), BODY, None),
    "last row missing": (HEAD.replace("x.size(0)", "x.size(0) - 1"), BODY, "unwritten"),
    "no maximum": (HEAD, BODY.replace("top = warp_max(top);", "top = 0.0f;"), "unwritten"),
    "half precision": (
        "// launch: softmax<<<x.size(0), 32>>>(x, out, x.size(1))\n#include <cuda_fp16.h>\n",
        BODY.replace(
            "expf(x[i] - top) / sum", "__half2float(__float2half(expf(x[i] - top) / sum))"
        ),
        "accuracy",
    ),
    "input changed": (
        HEAD,
        BODY.replace("const float* x", "float* x").replace("  float top", "  x[0] = 0; float top"),
        None,
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_kernels_are_rejected(judge, name):
    head, body, check = WRONG[name]
    found = judge(head + body)
    assert not found.accepted
    if check is not None:
        assert found.findings[0].check == check


def test_remembered_results_are_rejected(judge):
    source = (
        "// launch: scale<<<ceil_div(x.numel(), 64), 64>>>(x, out, x.numel())\n"
        'extern "C" __global__ void scale(const float* x, float* out, int n) {\n'
        "  int i = blockIdx.x * 64 + threadIdx.x;\n"
        "  if (i < n) out[i] = 0.25f;\n"
        "}\n"
    )
    text = "class Net(nn.Module):\n    def forward(self, x): return x * 0.5\n"
    text += "def get_inputs(): return [torch.full((8, 8), 0.5)]\n"
    found = judge(source, text)
    assert found.findings[0].check == "accuracy"
    assert "mean1000" in found.findings[0].message


@pytest.mark.parametrize("function", ["tanh", "sinh", "atanh", "lgamma"])
def test_a_function_by_its_own_name_is_as_accurate_as_eager(judge, function):
    text = f"class Net(nn.Module):\n    def forward(self, x): return torch.{function}(x)\n"
    text += "def get_inputs(): return [0.3 * torch.rand(64, 64)]\n"
    source = (
        "// launch: apply<<<64, 64>>>(x, out)\n"
        'extern "C" __global__ void apply(const float* x, float* out) {\n'
        "  int i = blockIdx.x * 64 + threadIdx.x;\n"
        f"  out[i] = {function}f(x[i]);\n"
        "}\n"
    )
    found = judge(source, text)
    assert found.accepted, found.reason


def test_a_cooperative_grid_that_fills_the_target_is_taken(judge):
    text = "class Net(nn.Module):\n    def forward(self, x): return x + x.mean()\n"
    text += "def get_inputs(): return [torch.rand(132, 32)]\n"
    source = (
        "// scratch: parts float32[132]\n"
        "// launch: shift<<<132, 32, 130000>>>(x, parts, out) cooperative\n"
        "#include <cooperative_groups.h>\n"
        'extern "C" __global__ void shift(const float* x, float* parts, float* out) {\n'
        "  int i = blockIdx.x * 32 + threadIdx.x;\n"
        "  float sum = x[i];\n"
        "  for (int o = 16; o > 0; o /= 2) sum += __shfl_xor_sync(~0u, sum, o);\n"
        "  if (threadIdx.x == 0) parts[blockIdx.x] = sum;\n"
        "  cooperative_groups::this_grid().sync();\n"
        "  sum = 0.0f;\n"
        "  for (int b = threadIdx.x; b < 132; b += 32) sum += parts[b];\n"
        "  for (int o = 16; o > 0; o /= 2) sum += __shfl_xor_sync(~0u, sum, o);\n"
        "  out[i] = x[i] + sum / 4224.0f;\n"
        "}\n"
    )
    found = judge(source, text)
    assert found.accepted, found.reason


def test_a_build_that_a_full_disk_ended_is_no_rejection(judge, device, monkeypatch, module):
    captured = module(SOFTMAX)
    broken = parse(HEAD + BODY.replace("float top", "flaot top", 1))
    (rejected,) = device.compile([broken], captured.task)
    assert rejected.findings[0].check == "compile"
    usage = shutil.disk_usage("/")._replace(free=4096)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SetupError, match="is full, so kernels cannot be built: free some space"):
        device.compile([broken], captured.task)


def test_a_loop_without_end_is_not_optimised_away(module):
    body = BODY.replace("float top", "while (x[0] != 3.0f) {} float top", 1)
    captured = module(SOFTMAX)
    hasty = CpuDevice(H200, timeout=2.0, compile_for_target=False)
    try:
        (program,) = hasty.compile([parse(HEAD + body)], captured.task)
        (finding,) = verify(captured, program, hasty, seed=1).findings
    finally:
        hasty.close()
    assert finding.check == "timeout"


def test_a_compiler_that_runs_over_its_limits_is_said(device, module, monkeypatch):
    monkeypatch.setattr("search_engine.devices.cpu.parallel.COMPILER_SECONDS", 1)
    bomb = (
        "template <int N, int M> struct T { static constexpr int v = T<N - 1, 2 * M>::v + "
        "T<N - 1, 2 * M + 1>::v; };\n"
        "template <int M> struct T<0, M> { static constexpr int v = 1; };\n"
    )
    body = BODY.replace("float top", "out[0] = T<22, 1>::v; float top", 1)
    (rejected,) = device.compile([parse(HEAD + bomb + body)], module(SOFTMAX).task)
    assert "the compiler ran over its limits" in rejected.findings[0].message


@pytest.mark.skipif(
    "-fno-ipa-reference-addressable" not in getattr(TOOLCHAIN, "optional", ()),
    reason="clang takes a static variable that nothing writes for zero",
)
@pytest.mark.parametrize("scope", ["kernel", "file"])
def test_shared_memory_that_nothing_writes_is_found(judge, scope):
    shared = "__shared__ float top_of[32];\n"
    body = BODY.replace("x[i] - top)", "x[i] - top - top_of[threadIdx.x])")
    if scope == "file":
        body = shared + body
    else:
        body = body.replace("  float top", f"  {shared}  float top", 1)
    found = judge(HEAD + body)
    assert found.findings
    assert found.findings[0].check == "uninitialised-shared"
