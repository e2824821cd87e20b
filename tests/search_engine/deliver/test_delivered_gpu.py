"""Delivered files on a real GPU: NVRTC, launches, torch.compile, CUDA graphs."""

import copy
import threading
import warnings

import pytest
import torch
from torch import nn

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]

ROWS, WIDTH = 512, 1024
NET = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=1024, eps=1e-5):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=eps)

    def forward(self, x, scale: float = 1.0):
        return self.norm(x) * scale
"""
# Two launches that share scratch, scalars of both kinds, dynamic shared memory.
KERNEL = """\
// scratch: moments float32[x.size(0), 2] zeroed
// launch: measure<<<x.size(0), 256, 1024>>>(x, moments, x.size(1))
// launch: normalize<<<x.size(0), 256>>>(x, norm.weight, norm.bias, moments, out, x.size(1), 1e-5)
extern "C" __global__ void measure(const float* x, float2* moments, int n) {
    extern __shared__ float part[];
    const float* row = x + (long long)blockIdx.x * n;
    float sum = 0.f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += row[i];
    part[threadIdx.x] = sum;
    for (int s = 128; s; s >>= 1) {
        __syncthreads();
        if (threadIdx.x < s) part[threadIdx.x] += part[threadIdx.x + s];
    }
    __syncthreads();
    const float mean = part[0] / n;
    __syncthreads();
    sum = 0.f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += (row[i] - mean) * (row[i] - mean);
    part[threadIdx.x] = sum;
    for (int s = 128; s; s >>= 1) {
        __syncthreads();
        if (threadIdx.x < s) part[threadIdx.x] += part[threadIdx.x + s];
    }
    if (threadIdx.x == 0) {  // on top of the zeros
        moments[blockIdx.x].x += mean;
        moments[blockIdx.x].y += part[0] / n;
    }
}
extern "C" __global__ void normalize(const float* x, const float* w, const float* b,
                                     const float2* moments, float* out, long long n, float eps) {
    const float2 m = moments[blockIdx.x];
    const float inv = rsqrtf(m.y + eps);
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const long long at = blockIdx.x * n + i;
        out[at] = (x[at] - m.x) * inv * w[i] + b[i];
    }
}
"""


@pytest.fixture
def real(deliver, kit):
    """A delivery whose GPU is the real one, and its module."""

    def make(kernel=KERNEL, **changes):
        found = deliver(
            NET,
            kernel=kernel,
            call=kit.Call((torch.randn(ROWS, WIDTH),)),
            build=lambda net: net(WIDTH),
            **{"device": torch.cuda.get_device_name()} | changes,
        )
        found.runtime.gpu = found.runtime.Gpu()
        launched = found.runtime.launched

        def counted(kernel, operands, index):
            outputs = launched(kernel, operands, index)
            found.runs.append(outputs is not None)
            return outputs

        found.runtime.launched = counted
        module = found.user.Net().eval().cuda()
        nn.init.normal_(module.norm.weight)
        nn.init.normal_(module.norm.bias)
        return found, module

    return make


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode(), warnings.catch_warnings():
        # The delivered file's own: torch warns of other things, of an empty CUDA graph say.
        warnings.filterwarnings("error", "Net", UserWarning)
        yield


def original(module, *args):
    return module.forward.__wrapped__(module, *args)


def close(got, want):
    torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-5)


def test_eager(real):
    found, module = real()
    x = torch.randn(ROWS, WIDTH, device="cuda")
    close(module(x), original(module, x))
    module.norm.bias.add_(1)
    close(module(x), original(module, x))
    close(copy.deepcopy(module)(x), original(module, x))
    assert found.runs == [True] * 3
    assert found.kernel.explain(module, x) == "kernel"
    assert found.kernel.explain(module, x[:5]).startswith("original forward (smaller batch)")


def test_a_base_that_is_not_aligned(real):
    found, module = real()
    x = torch.randn(ROWS * WIDTH + 1, device="cuda")[1:].view(ROWS, WIDTH)
    assert x.data_ptr() % 16
    close(module(x), original(module, x))
    assert found.runs == [True]


def test_the_current_stream(real):
    found, module = real()
    x = torch.randn(ROWS, WIDTH, device="cuda")
    module(x)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # the input is made late, on this stream
        y = torch.full_like(x, 2.0).mul_(x)
        got = module(y)
        want = original(module, y)
    stream.synchronize()
    close(got, want)
    assert found.runs == [True] * 2


def test_threads(real):
    _, module = real()
    x = torch.randn(ROWS, WIDTH, device="cuda")
    want = original(module, x)
    results = []

    def work():
        with torch.inference_mode():
            results.append(module(x))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        close(result, want)


def test_cuda_graph(real):
    found, module = real()
    x = torch.randn(ROWS, WIDTH, device="cuda")
    module(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = module(x)
    assert found.runs == [True] * 2
    x.copy_(torch.randn_like(x))
    graph.replay()
    torch.cuda.synchronize()
    close(out, original(module, x))


def test_first_use_in_a_capture_takes_the_original(real):
    found, module = real()
    x = torch.randn(ROWS, WIDTH, device="cuda")
    original(module, x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with pytest.warns(UserWarning, match="while a CUDA graph was being captured"):  # noqa: SIM117
        with torch.cuda.graph(graph):
            out = module(x)
    graph.replay()
    torch.cuda.synchronize()
    close(out, original(module, x))
    assert found.runs == []


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune-no-cudagraphs"])
def test_compile_takes_it_whole(real, mode):
    found, module = real()
    compiled = torch.compile(
        lambda x: module(x * 2) + 1, fullgraph=True, mode=None if mode == "default" else mode
    )
    with torch.no_grad():
        for _ in range(4):
            x = torch.randn(ROWS, WIDTH, device="cuda")
            close(compiled(x).clone(), original(module, x * 2) + 1)
    assert found.runs
    assert all(found.runs)


def test_compile_of_another_shape_takes_the_original(real):
    found, module = real()
    compiled = torch.compile(module, fullgraph=True)
    x = torch.randn(7, WIDTH, device="cuda")
    with torch.no_grad():
        close(compiled(x), original(module, x))
    assert found.runs == []


def test_more_than_48_kib_of_shared_memory(real):
    found, module = real(KERNEL.replace("256, 1024>>>", "256, 65536>>>"))
    x = torch.randn(ROWS, WIDTH, device="cuda")
    close(module(x), original(module, x))
    assert found.runs == [True]


COOPERATIVE = """\
// launch: f<<<min(sm_count, 64), 256>>>(x, norm.weight, norm.bias, out) cooperative
#include <cooperative_groups.h>
extern "C" __global__ void f(const float* x, const float* w, const float* b, float* out) {
    cooperative_groups::this_grid().sync();
    __shared__ float part[256];
    for (int r = blockIdx.x; r < 512; r += gridDim.x) {
        const float* row = x + r * 1024;
        float sum = 0.f, centred = 0.f;
        for (int i = 0; i < 4; ++i) sum += row[threadIdx.x + 256 * i];
        for (int turn = 0; turn < 2; ++turn) {
            part[threadIdx.x] = turn ? centred : sum;
            for (int s = 128; s; s >>= 1) {
                __syncthreads();
                if (threadIdx.x < s) part[threadIdx.x] += part[threadIdx.x + s];
            }
            __syncthreads();
            const float total = part[0] / 1024;
            __syncthreads();
            if (turn) { centred = total; break; }
            sum = total;
            for (int i = 0; i < 4; ++i) {
                const float d = row[threadIdx.x + 256 * i] - sum;
                centred += d * d;
            }
        }
        for (int i = threadIdx.x; i < 1024; i += 256)
            out[r * 1024 + i] = (row[i] - sum) * rsqrtf(centred + 1e-5f) * w[i] + b[i];
    }
}
"""


def test_cooperative_launch_with_headers_from_wheels(real):
    found, module = real(COOPERATIVE)
    x = torch.randn(ROWS, WIDTH, device="cuda")
    close(module(x), original(module, x))
    assert found.runs == [True]


def test_a_carried_cubin_needs_no_compiler(real, monkeypatch):
    from cuda import core

    major, minor = torch.cuda.get_device_capability()
    arch = f"sm_{major}{minor}" + ("a" if major >= 9 else "")
    if arch != "sm_90a":
        pytest.skip("rendered for sm_90a")
    probe, _ = real(COOPERATIVE)
    options = core.ProgramOptions(
        arch=arch, std="c++17", include_path=probe.runtime._include_folders()
    )
    cubin = core.Program(COOPERATIVE, "c++", options).compile("cubin").code
    found, module = real(COOPERATIVE, cubin=bytes(cubin))

    def refuse(*_):
        raise AssertionError("compiled although a cubin is there")

    monkeypatch.setattr(core, "Program", refuse)
    x = torch.randn(ROWS, WIDTH, device="cuda")
    close(module(x), original(module, x))
    assert found.runs == [True]


CLUSTER = """\
// launch: f<<<1024, 512>>>(x, norm.weight, norm.bias, out) cluster=(2, 1, 1)
extern "C" __global__ void f(const float* x, const float* w, const float* b, float* out) {
    unsigned rank, size;
    asm("mov.u32 %0, %cluster_ctarank;" : "=r"(rank));
    asm("mov.u32 %0, %cluster_nctarank;" : "=r"(size));
    const float* row = x + (blockIdx.x / 2) * 1024;
    __shared__ float part[512];
    float mean = 0.f;
    for (int turn = 0; turn < 2; ++turn) {
        const float a = row[threadIdx.x] - mean, c = row[threadIdx.x + 512] - mean;
        part[threadIdx.x] = turn ? a * a + c * c : a + c;
        for (int s = 256; s; s >>= 1) {
            __syncthreads();
            if (threadIdx.x < s) part[threadIdx.x] += part[threadIdx.x + s];
        }
        __syncthreads();
        if (turn == 0) mean = part[0] / 1024;
        else if (size == 2) {
            const int i = rank * 512 + threadIdx.x;
            out[(blockIdx.x / 2) * 1024 + i] =
                (row[i] - mean) * rsqrtf(part[0] / 1024 + 1e-5f) * w[i] + b[i];
        }
        __syncthreads();
    }
}
"""


@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < (9, 0),
    reason="clusters need compute capability 9.0",
)
def test_cluster_launch(real):
    found, module = real(CLUSTER)
    x = torch.randn(ROWS, WIDTH, device="cuda")
    close(module(x), original(module, x))
    assert found.runs == [True]


def test_a_launch_that_the_driver_refuses(real):
    found, module = real(KERNEL.replace("256, 1024>>>", "256, 231424>>>"))
    x = torch.randn(ROWS, WIDTH, device="cuda")
    if torch.cuda.get_device_properties(0).shared_memory_per_block_optin >= 231424:
        found.runtime._raise_limits = lambda *_: None  # so that the driver refuses
        found.state.launchers.clear()
    with pytest.warns(UserWarning, match="could not be compiled or launched"):
        close(module(x), original(module, x))
    close(module(x), original(module, x))


def test_a_source_that_does_not_compile(real):
    found, module = real(KERNEL.replace("rsqrtf(m.y", "no_such(m.y"))
    x = torch.randn(ROWS, WIDTH, device="cuda")
    with pytest.warns(UserWarning, match="could not be compiled or launched"):
        close(module(x), original(module, x))
    assert found.runs == []


def test_another_gpu(real):
    found, module = real(device="NVIDIA GeForce GTX 1080")
    x = torch.randn(ROWS, WIDTH, device="cuda")
    with pytest.warns(UserWarning, match="verified on another GPU"):
        close(module(x), original(module, x))
    assert found.runs == []


def test_autocast_and_gradients(real):
    found, module = real()
    x = torch.randn(ROWS, WIDTH, device="cuda")
    with pytest.warns(UserWarning, match="autocast"), torch.autocast("cuda"):
        module(x)
    with torch.inference_mode(False):
        fresh = found.user.Net().eval().cuda()
        x = torch.randn(ROWS, WIDTH, device="cuda")
        with pytest.warns(UserWarning, match="gradients"):
            out = fresh(x)
        out.sum().backward()
    assert fresh.norm.weight.grad is not None
    assert found.runs == []


def test_first_use_of_what_was_never_measured(real):
    found, module = real(measured=False)
    x = torch.randn(ROWS, WIDTH, device="cuda")
    with pytest.warns(UserWarning, match=r"first time on a GPU: .* is kept"):
        close(module(x), original(module, x))
    close(module(x), original(module, x))
    assert list(found.state.trials) == [(0, 0)]


def test_first_use_of_a_wrong_kernel(real):
    found, module = real(KERNEL.replace("+ b[i]", "+ b[i] + 1e-3f"), measured=False)
    x = torch.randn(ROWS, WIDTH, device="cuda")
    with pytest.warns(UserWarning, match="has an error of"):
        close(module(x), original(module, x))
    assert found.state.trials == {(0, 0): False}


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_the_tensors_gpu_not_the_current_one(real):
    found, module = real()
    module = module.to("cuda:1")
    x = torch.randn(ROWS, WIDTH, device="cuda:1")
    close(module(x), original(module, x))
    assert torch.cuda.current_device() == 0
    assert found.runs == [True]
