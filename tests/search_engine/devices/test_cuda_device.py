"""The cuda device on a real GPU: launches of every kind, guards, faults, hangs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from search_engine.contract.parse import parse
from search_engine.devices._base import Program, Rejected
from search_engine.errors import WorkerDied
from search_engine.task import Task, TensorSpec
from search_engine.workers.worker import Worker

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

ROWS, COLUMNS = 1024, 256


def make_task(rows: int = ROWS) -> Task:
    tensors = (
        TensorSpec("x", "input", "float32", (rows, COLUMNS), (COLUMNS, 1)),
        TensorSpec("out", "output", "float32", (rows, COLUMNS), (COLUMNS, 1)),
    )
    return Task(
        path="net.py", qualname="Net", module_name="net", fingerprint="f",
        inputs_from="get_inputs", construction="Net()", tensors=tensors, scalars={},
        mode="eval", policy="match", target="h200", flops=0, min_bytes=8 * rows * COLUMNS,
        longest_reduction=1, limit_seconds=1e-9, limit_reason="DRAM", graph=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def device():
    from search_engine.devices.cuda.device import CudaDevice

    made = CudaDevice()
    yield made
    made.close()


SIGNATURE = 'extern "C" __global__ void f(const float* x, float* out, int n)'
LINE = "// launch: f<<<ceil_div(x.numel(), 256), 256>>>(x, out, x.numel())\n"
INDEX = "int i = blockIdx.x * blockDim.x + threadIdx.x;"

DOUBLING = {
    "plain": LINE + SIGNATURE + "{" + INDEX + " if (i < n) out[i] = 2 * x[i]; }",
    "two launches": (
        "// scratch: half_way float32[x.numel()]\n"
        "// launch: f<<<ceil_div(x.numel(), 256), 256>>>(x, half_way, x.numel())\n"
        "// launch: f<<<ceil_div(x.numel(), 256), 256>>>(half_way, out, x.numel())\n"
        + SIGNATURE + "{" + INDEX + " if (i < n) out[i] = 1.41421356f * x[i] * 1.0f; }"
    ),
    "dynamic shared memory over 48 KB": (
        "// launch: f<<<8, 1024, 160000>>>(x, out, x.numel())\n"
        + SIGNATURE + "{ extern __shared__ float tile[]; for (int i = blockIdx.x * 1024 + "
        "threadIdx.x; i < n; i += 8192) { tile[39999 - threadIdx.x] = x[i]; __syncthreads(); "
        "out[i] = 2 * tile[39999 - threadIdx.x]; __syncthreads(); } }"
    ),
    "cooperative": (
        "// scratch: copy float32[x.numel()]\n"
        "// launch: f<<<sm_count, 512>>>(x, copy, out, x.numel()) cooperative\n"
        "#include <cooperative_groups.h>\n"
        'extern "C" __global__ void f(const float* x, float* copy, float* out, int n) {'
        "int t = gridDim.x * blockDim.x, first = blockIdx.x * blockDim.x + threadIdx.x;"
        "for (int i = first; i < n; i += t) copy[i] = x[i];"
        "cooperative_groups::this_grid().sync();"
        "for (int i = first; i < n; i += t) out[n - 1 - i] = 2 * copy[n - 1 - i]; }"
    ),
    "cluster": (
        "// launch: f<<<128, 256>>>(x, out, x.numel()) cluster=(4, 1, 1)\n"
        "#include <cooperative_groups.h>\n" + SIGNATURE + "{ __shared__ float mine[256];"
        "auto cluster = cooperative_groups::this_cluster();"
        "unsigned peer = cluster.block_rank() ^ 1;"
        "for (int base = blockIdx.x / 4 * 1024; base < n; base += 32768) {"
        "mine[threadIdx.x] = x[base + cluster.block_rank() * 256 + threadIdx.x];"
        "cluster.sync();"
        "out[base + peer * 256 + threadIdx.x] = 2 * cluster.map_shared_rank(mine, peer)"
        "[threadIdx.x]; cluster.sync(); } }"
    ),
    "cluster of 16": (
        "// launch: f<<<256, 256>>>(x, out, x.numel()) cluster=(16)\n"
        + SIGNATURE + "{ for (int i = blockIdx.x * 256 + threadIdx.x; i < n; i += 65536) "
        "out[i] = 2 * x[i]; }"
    ),
    "zeroed scratch": (
        "// scratch: done int32[1] zeroed\n"
        "// launch: f<<<ceil_div(x.numel(), 256), 256>>>(x, out, done, x.numel())\n"
        'extern "C" __global__ void f(const float* x, float* out, int* done, int n) {' + INDEX +
        " int before = threadIdx.x ? 0 : atomicAdd(done, 1);"
        " if (i < n) out[i] = before < 0 || before >= gridDim.x ? 0 : 2 * x[i]; }"
    ),
    "vector loads and asm": (
        "// launch: f<<<ceil_div(x.numel(), 1024), 256>>>(x, out, x.numel())\n"
        + SIGNATURE + "{" + INDEX + " if (4 * i < n) { float4 v = ((const float4*)x)[i];"
        'asm("add.f32 %0, %0, %0;" : "+f"(v.x)); v.y *= 2; v.z *= 2; v.w *= 2;'
        "((float4*)out)[i] = v; } }"
    ),
}  # fmt: skip


def compile_one(device, source, task=None):
    (result,) = device.compile([parse(source)], task or make_task())
    return result


@pytest.mark.parametrize("offset", [0, 1, 7])
@pytest.mark.parametrize("source", DOUBLING.values(), ids=DOUBLING)
def test_every_kind_of_launch_gives_the_right_answer(device, source, offset):
    program = compile_one(device, source)
    assert isinstance(program, Program), program
    x = torch.randn(ROWS, COLUMNS, device=device.torch_device)
    for _ in range(2):  # zeroed scratch is zero each time
        execution = device.execute(program, make_task(), {"x": x}, checked=True, offset=offset)
        assert execution.findings == ()
        torch.testing.assert_close(execution.outputs["out"], 2 * x, rtol=1e-5, atol=1e-6)
    assert all(info.registers > 0 for info in program.builds)


def test_the_binary_is_the_cubin_of_this_gpu(device):
    program = compile_one(device, DOUBLING["plain"])
    binary = device.binary(program)
    assert binary[:4] == b"\x7fELF"
    assert b".text.f" in binary


def test_other_sizes_than_compiled_for(device):
    program = compile_one(device, DOUBLING["plain"])
    task = make_task(rows=13)
    x = torch.randn(13, COLUMNS, device=device.torch_device)
    execution = device.execute(program, task, {"x": x}, checked=False)
    assert torch.equal(execution.outputs["out"], 2 * x)


@pytest.mark.parametrize(
    ("change", "check", "place"),
    [
        (("i < n", "i <= n"), "red-zone", "out, 1 bytes past the end"),
        (("out[i] = 2", "out[i - 1] = 2"), "red-zone", "out, 1 bytes before the start"),
        (("out[i] = 2", "((float*)x)[i] = 3, out[i] = 2"), "input-changed", "x[0, 0]"),
    ],
)
def test_guards(device, change, check, place):
    source = DOUBLING["plain"].replace(*change).replace("256), 256>>>", "256) + 1, 256>>>")
    program = compile_one(device, source)
    x = torch.randn(ROWS, COLUMNS, device=device.torch_device)
    (finding,) = device.execute(program, make_task(), {"x": x}, checked=True).findings
    assert (finding.check, finding.place) == (check, place)


def test_what_is_not_written_is_nan(device):
    program = compile_one(device, DOUBLING["plain"].replace("i < n", "i < n / 2"))
    x = torch.randn(ROWS, COLUMNS, device=device.torch_device)
    out = device.execute(program, make_task(), {"x": x}, checked=True).outputs["out"]
    assert torch.equal(out[: ROWS // 2], 2 * x[: ROWS // 2])
    assert out[ROWS // 2 :].isnan().all()


@pytest.mark.parametrize(
    ("source", "check"),
    [
        (DOUBLING["cooperative"].replace("<<<sm_count", "<<<16 * sm_count"), None),
        (
            # 100,000 bytes of static and dynamic memory: two blocks fit an SM, not three.
            DOUBLING["cooperative"].replace("sm_count, 512", "3 * sm_count, 512, 60000").replace(
                "int t =", "__shared__ float s[10000]; s[threadIdx.x] = n; __syncthreads();"
                "if (s[511 - threadIdx.x] < 0) out[0] = 1; int t ="),
            "cooperative-grid",
        ),
        (
            DOUBLING["plain"].replace("__global__ void", "__global__ void __launch_bounds__(128)"),
            "launch-limits",
        ),
    ],
)  # fmt: skip
def test_launches_that_the_gpu_refuses_are_findings(device, source, check):
    result = compile_one(device, source)
    assert isinstance(result, Rejected), result
    if check is not None:
        assert [finding.check for finding in result.findings] == [check]


def test_facts_are_of_the_gpu(device):
    properties = torch.cuda.get_device_properties(0)
    assert device.name == properties.name
    assert device.facts.sm_count == properties.multi_processor_count
    assert device.facts.l2_bytes == properties.L2_cache_size
    assert 1e11 < device.facts.dram_bytes_per_second < 2e13


def test_facts_that_are_queried_are_near_the_table(device):
    from search_engine.devices.cuda import facts
    from search_engine.hardware import GPUS

    known = next((gpu for gpu in GPUS.values() if gpu.name == device.name), None)
    if known is None:
        pytest.skip("this GPU is not in the table")
    sizes = {
        "sm_count": known.sm_count, "shared_per_block": known.shared_per_block,
        "shared_per_sm": known.shared_per_sm, "l2_bytes": known.l2_bytes,
    }  # fmt: skip
    queried = facts._queried(known.name, 0, sizes)
    for name in ("dram_bytes_per_second", "fp32_flops", "tf32_flops", "half_flops", "fp64_flops"):
        assert getattr(queried, name) == pytest.approx(getattr(known, name), rel=0.15), name
    assert queried.compute_capability == known.compute_capability


def test_a_stream_of_the_callers_choice(device):
    program = compile_one(device, DOUBLING["plain"])
    x = torch.randn(ROWS, COLUMNS, device=device.torch_device)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        execution = device.execute(program, make_task(), {"x": x}, checked=True)
    assert torch.equal(execution.outputs["out"], 2 * x)


class Faulty:
    """Lives in a worker: runs one source on the GPU."""

    def __init__(self) -> None:
        from search_engine.devices.cuda.device import CudaDevice

        self.device = CudaDevice()

    def run(self, source: str) -> bool:
        program = compile_one(self.device, source)
        x = torch.ones(ROWS, COLUMNS, device="cuda")
        out = self.device.execute(program, make_task(), {"x": x}, checked=True).outputs["out"]
        return bool((out == 2).all())


ILLEGAL = DOUBLING["plain"].replace("out[i] =", "out[(long long)i << 40 | 1LL << 45] =")
MISALIGNED = DOUBLING["plain"].replace("out[i] =", "*(float*)((char*)out + 4 * i + 1) =")
ENDLESS = DOUBLING["plain"].replace("if (i < n)", "while (((volatile float*)x)[i] == 1); if (i)")


def test_a_fault_or_a_hang_costs_one_worker(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with Worker(f"{Path(__file__).stem}:Faulty", log=tmp_path / "log") as worker:
        assert worker.call("run", DOUBLING["plain"], timeout=120)
        with pytest.raises(WorkerDied, match=r"illegal|invalid"):
            worker.call("run", ILLEGAL, timeout=60)
        assert worker.call("run", DOUBLING["plain"], timeout=120)
        with pytest.raises(WorkerDied, match="misaligned"):
            worker.call("run", MISALIGNED, timeout=60)
        with pytest.raises(WorkerDied, match="more than 5 s"):
            worker.call("run", DOUBLING["plain"], timeout=120) and worker.call(
                "run", ENDLESS, timeout=5
            )
        assert worker.call("run", DOUBLING["plain"], timeout=120)
        assert worker.starts == 4
