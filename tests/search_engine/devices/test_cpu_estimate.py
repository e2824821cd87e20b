"""The estimate: counts by hand, reference kernels near their modelled times, the right order."""

from __future__ import annotations

import pytest
import torch
from attrs import evolve

from search_engine.contract.kernel import ResolvedLaunch
from search_engine.devices._base import Program
from search_engine.devices.cpu.estimate import (
    LAUNCH_SECONDS,
    resident_blocks,
    sample_of,
)
from search_engine.hardware import H200

SIGNATURE = 'extern "C" __global__ void f(const float* x, float* out, int n) {\n'
PLACE = "int i = blockIdx.x * 32 + threadIdx.x, j = blockIdx.y * 32 + threadIdx.y;\n"
LOOP = "for (int k = 0; k < 32; k += 8) "


def _square(statements: str) -> str:
    return (
        "// launch: f<<<(x.size(0) / 32, x.size(1) / 32), (32, 8)>>>(x, out, x.size(0))\n"
        + SIGNATURE + PLACE + statements + "}\n"
    )  # fmt: skip


def _tiled(pitch: int) -> str:
    return _square(
        f"__shared__ float t[32][{pitch}];\n"
        + LOOP + "t[threadIdx.y + k][threadIdx.x] = x[(j + k) * n + i];\n"
        "__syncthreads();\n"
        "i = blockIdx.y * 32 + threadIdx.x, j = blockIdx.x * 32 + threadIdx.y;\n"
        + LOOP + "out[(j + k) * n + i] = t[threadIdx.x][threadIdx.y + k];\n"
    )  # fmt: skip


COPY = _square(LOOP + "out[(j + k) * n + i] = x[(j + k) * n + i];\n")
NAIVE = _square(LOOP + "out[i * n + j + k] = x[(j + k) * n + i];\n")

# Modelled microseconds for 2,048 squared on an H200, from an earlier model of the same kind;
# they are no measurements. The copy and the padded transpose move 33.6 MB at 4.28 TB/s; 32-way
# bank conflicts and scattered 32-byte sectors set the others.
REFERENCE = {
    "copy": (COPY, 9.5, "DRAM"),
    "naive transpose": (NAIVE, 30.0, "L2"),
    "tiled, unpadded": (_tiled(32), 21.0, "shared memory"),
    "tiled, padded": (_tiled(33), 9.5, "DRAM"),
}


def _estimate(cpu, compile_one, source, inputs, out, flops=0):
    task, program = compile_one(cpu, source, inputs, {"out": out})
    assert isinstance(program, Program), program
    estimate = cpu.estimate(program, evolve(task, flops=flops))
    assert estimate is not None
    return estimate


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_kernels(name, cpu, compile_one) -> None:
    source, microseconds, unit = REFERENCE[name]
    x = torch.empty(2048, 2048, device="meta")
    estimate = _estimate(cpu, compile_one, source, {"x": x}, x)
    assert estimate.seconds == pytest.approx(microseconds * 1e-6, rel=0.15)
    assert estimate.bound_by == unit
    assert estimate.target == "NVIDIA H200"


MATMUL = """\
// launch: f<<<(32, 32), (16, 16)>>>(x, y, out, 512)
extern "C" __global__ void f(const float* a, const float* b, float* out, int n) {
  int i = blockIdx.x * 16 + threadIdx.x, j = blockIdx.y * 16 + threadIdx.y;
  float sum = 0.0f;
  for (int k = 0; k < n; ++k) sum += a[%(row)s * n + k] * b[k * n + %(column)s];
  out[%(row)s * n + %(column)s] = sum;
}
"""


def test_coalescing_is_told_apart(cpu, compile_one) -> None:
    x = torch.empty(512, 512, device="meta")
    times = [
        _estimate(
            cpu, compile_one, MATMUL % {"row": row, "column": column}, {"x": x, "y": x}, x
        ).seconds
        for row, column in (("j", "i"), ("i", "j"))
    ]  # fmt: skip
    assert times[1] > 2.5 * times[0]


def test_scratch_that_stays_in_l2_costs_no_dram(cpu, compile_one) -> None:
    """Two launches through 4 MB of scratch against one that reads and writes the same."""
    launch = "<<<x.numel() / 256, 256>>>"
    body = "int i = blockIdx.x * 256 + threadIdx.x;\n out[i] = 2 * x[i];\n}\n"
    one = f"// launch: f{launch}(x, out, 0)\n" + SIGNATURE + body
    two = (
        "// scratch: half_way float32[x.numel()]\n"
        f"// launch: f{launch}(x, half_way, 0)\n// launch: f{launch}(half_way, out, 0)\n"
        + SIGNATURE + body
    )  # fmt: skip
    x = torch.empty(2**20, device="meta")
    first, second = (_estimate(cpu, compile_one, source, {"x": x}, x) for source in (one, two))
    assert first.breakdown["DRAM"] == pytest.approx(8 * 2**20 / H200.dram_bytes_per_second)
    assert second.breakdown["DRAM"] == pytest.approx(first.breakdown["DRAM"])
    assert second.breakdown["launch"] == 2 * LAUNCH_SECONDS


def test_a_row_read_twice_is_read_once_if_it_fits_the_cache(cpu, compile_one) -> None:
    source = """\
// launch: f<<<x.size(0), 256>>>(x, out, x.size(1))
extern "C" __global__ void f(const float* x, float* out, int n) {
  float sum = 0.0f;
  for (int pass = 0; pass < 2; ++pass)
    for (int i = threadIdx.x; i < n; i += 256) sum += x[(long long)blockIdx.x * n + i] * pass;
  out[blockIdx.x * 256 + threadIdx.x] = sum;
}
"""
    rows = {}
    for columns in (1024, 65536):
        x = torch.empty(4096, columns, device="meta")
        out = torch.empty(4096, 256, device="meta")
        estimate = _estimate(cpu, compile_one, source, {"x": x}, out)
        rows[columns] = estimate.breakdown["DRAM"] * H200.dram_bytes_per_second
    assert rows[1024] == pytest.approx(4096 * (1024 + 256) * 4)
    assert rows[65536] > 1.8 * 4096 * 65536 * 4


def test_flops_bound_the_time_from_below(cpu, compile_one) -> None:
    x = torch.empty(2048, 2048, device="meta")
    estimate = _estimate(cpu, compile_one, COPY, {"x": x}, x, flops=int(67e12))
    assert estimate.bound_by == "fp32"
    assert estimate.seconds == pytest.approx(1.0, rel=0.01)


def test_full_sizes_take_no_memory(cpu, compile_one) -> None:
    """16 GiB of input and as much output, neither of which this machine need have."""
    x = torch.empty(2**16, 2**16, device="meta")
    source = COPY.replace("int n", "long long n").replace("int i", "long long i")
    estimate = _estimate(cpu, compile_one, source, {"x": x}, x)
    assert estimate.seconds == pytest.approx(2 * 2**34 / H200.dram_bytes_per_second, rel=0.05)


def test_grid_barriers_are_estimated(cpu, compile_one) -> None:
    source = """\
// launch: f<<<sm_count, 128>>>(x, out, x.numel()) cooperative
#include <cooperative_groups.h>
extern "C" __global__ void f(const float* x, float* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  float v = i < n ? x[i] : 0.0f;
  cooperative_groups::this_grid().sync();
  if (i < n) out[i] = v;
}
"""
    x = torch.empty(10000, device="meta")
    assert _estimate(cpu, compile_one, source, {"x": x}, x).seconds > LAUNCH_SECONDS


def _launch(grid: int, block: int, shared: int = 0) -> ResolvedLaunch:
    return ResolvedLaunch("f", (grid, 1, 1), (block, 1, 1), shared, (), False, None, 1)


@pytest.mark.parametrize(
    ("block", "shared", "expected"),
    [(1024, 0, 2), (256, 0, 8), (32, 0, 32), (33, 0, 32), (128, 100_000, 2), (128, 232448, 1)],
)
def test_resident_blocks(block, shared, expected) -> None:
    assert resident_blocks(_launch(1, block, shared), 0, H200) == expected


def test_samples_span_the_grid() -> None:
    sample = sample_of(_launch(100_000, 128), 0, H200)
    assert len(sample.blocks) == 64
    assert (sample.blocks[0], sample.blocks[-1]) == (0, 99_999)
    assert sample_of(_launch(50, 128), 0, H200).blocks == tuple(range(50))


MMA = """\
// launch: f<<<1056, 256>>>(x, out)
extern "C" __global__ void f(const float* x, float* out) {
  float d[4] = {};
  unsigned a = __float_as_uint(x[threadIdx.x]);
  for (int k = 0; k < 1000; ++k)
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%4,%4,%4},"
                 " {%4,%4}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a));
  out[blockIdx.x * 256 + threadIdx.x] = d[0] + d[1] + d[2] + d[3];
}
"""


def test_matrix_instructions_take_the_tensor_cores(cpu, compile_one) -> None:
    """What the tensor cores do is not charged to the fp32 units again."""
    flops = 1056 * 8 * 1000 * 2 * 16 * 8 * 8
    x, out = torch.ones(256), torch.ones(1056 * 256)
    estimate = _estimate(cpu, compile_one, MMA, {"x": x}, out, flops=flops)
    assert estimate.bound_by == "tensor cores"
    assert estimate.breakdown["fp32"] == 0.0
    assert estimate.seconds == pytest.approx(flops / H200.tf32_flops + LAUNCH_SECONDS)
