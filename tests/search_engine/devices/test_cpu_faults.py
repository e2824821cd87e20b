"""Each fault the checking run knows, found at its line, by block and thread."""

from __future__ import annotations

import pytest
import torch

from search_engine.devices.cpu.toolchain import find_toolchain

X = torch.randn(64, generator=torch.Generator().manual_seed(0))
HEAD = 'extern "C" __global__ void f(const float* x, float* out) {\n'

FAULTS = {
    "missing __syncthreads": (
        "race", 6, "block (0, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  __shared__ float t[64];
  int i = threadIdx.x;
  t[i] = x[i];
  out[i] = t[63 - i];
}
"""),
    "missing __syncwarp": (
        "race", 6, "block (0, 0, 0)",
        "// launch: f<<<1, 32>>>(x, out)\n" + HEAD + """\
  __shared__ float t[32];
  int i = threadIdx.x;
  t[i] = x[i];
  out[i] = t[i ^ 1];
}
"""),
    "a shuffle orders no memory": (
        "race", 7, "block (0, 0, 0)",
        "// launch: f<<<1, 32>>>(x, out)\n" + HEAD + """\
  __shared__ float t[32];
  int i = threadIdx.x;
  t[i] = x[i];
  float v = __shfl_xor_sync(~0u, x[i], 1);
  out[i] = t[i ^ 1] + v;
}
"""),
    "the second barrier of a loop is missing": (
        "race", 5, "block (0, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  __shared__ float t[64];
  for (int k = 0; k < 2; ++k) {
    t[threadIdx.x] = x[threadIdx.x] + k;
    __syncthreads();
    out[threadIdx.x] = t[63 - threadIdx.x];
  }
}
"""),
    "two blocks write different values": (
        "race", 3, "block (1, 0, 0)",
        "// launch: f<<<2, 64>>>(x, out)\n" + HEAD + """\
  out[threadIdx.x] = x[threadIdx.x] + blockIdx.x;
}
"""),
    "a block reads what another writes": (
        "race", 4, "block (1, 0, 0)",
        "// launch: f<<<2, 32>>>(x, out)\n" + HEAD + """\
  int i = blockIdx.x * 32 + threadIdx.x;
  out[i] = x[i] + (i >= 32 ? out[i - 32] : 0.0f);
}
"""),
    "a plain write beside an atomic": (
        "race", 4, "block (0, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  if (threadIdx.x == 0) out[0] = 0.0f;
  atomicAdd(out, x[threadIdx.x]);
  for (int i = threadIdx.x + 1; i < 64; i += 64) out[i] = 0.0f;
}
"""),
    "read past the end": (
        "out-of-bounds", 3, "block (1, 0, 0) thread (31, 0, 0)",
        "// launch: f<<<2, 32>>>(x, out)\n" + HEAD + """\
  out[blockIdx.x * 32 + threadIdx.x] = x[blockIdx.x * 32 + threadIdx.x + 1];
}
"""),
    "write before the start": (
        "out-of-bounds", 4, "block (0, 0, 0) thread (0, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  int i = threadIdx.x;
  out[i - 1] = x[i];
}
"""),
    "a vector that ends outside": (
        "out-of-bounds", 4, "block (0, 0, 0) thread (16, 0, 0)",
        "// launch: f<<<1, 17>>>(x, out)\n" + HEAD + """\
  const float4* v = (const float4*)x;
  ((float4*)out)[threadIdx.x % 16] = v[threadIdx.x];
}
"""),
    "far away": (
        "out-of-bounds", 3, "block (0, 0, 0) thread (0, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  out[(long long)(threadIdx.x + 1) << 32] = x[threadIdx.x];
}
"""),
    "an input is written": (
        "out-of-bounds", 3, "block (0, 0, 0) thread (0, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  ((float*)x)[threadIdx.x] = out[threadIdx.x];
}
"""),
    "an atomic on an input": (
        "out-of-bounds", 3, "block (0, 0, 0) thread (0, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  out[threadIdx.x] = atomicAdd((float*)x, 1.0f);
}
"""),
    "static shared memory": (
        "out-of-bounds", 4, "block (0, 0, 0) thread (32, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  __shared__ float t[32];
  t[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = t[threadIdx.x % 32];
}
"""),
    "dynamic shared memory": (
        "out-of-bounds", 4, "block (0, 0, 0) thread (32, 0, 0)",
        "// launch: f<<<1, 64, 128>>>(x, out)\n" + HEAD + """\
  extern __shared__ float t[];
  t[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = t[threadIdx.x % 32];
}
"""),
    "a copy of bytes": (
        "out-of-bounds", 3, "block (0, 0, 0) thread (0, 0, 0)",
        "// launch: f<<<1, 1>>>(x, out)\n" + HEAD + """\
  memcpy(out, x, (size_t)(x[0] * 0.0f) + 260);
}
"""),
    "a null pointer": (
        "out-of-bounds", 4, "block (0, 0, 0) thread (0, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  float* p = (float*)(size_t)(x[0] == 1234.5f);
  p[threadIdx.x] = 1.0f;
}
"""),
    "shared memory read before it is written": (
        "uninitialised-shared", 5, "block (0, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  __shared__ float t[64];
  if (threadIdx.x < 60) t[threadIdx.x] = x[threadIdx.x]; __syncthreads();
  out[threadIdx.x] = t[63 - threadIdx.x];
}
"""),
    "left over from the block before": (
        "uninitialised-shared", 5, "block (1, 0, 0)",
        "// launch: f<<<2, 32, 128>>>(x, out)\n" + HEAD + """\
  extern __shared__ float t[];
  if (blockIdx.x == 0) t[threadIdx.x] = x[threadIdx.x];
  out[blockIdx.x * 32 + threadIdx.x] = t[threadIdx.x];
}
"""),
    "a barrier that half the block reaches": (
        "divergent-barrier", 3, "block (0, 0, 0) thread (0, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  if (threadIdx.x < 32) __syncthreads();
  out[threadIdx.x] = x[threadIdx.x];
}
"""),
    "two barriers in two branches": (
        "divergent-barrier", 4, "block (0, 0, 0) thread (0, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  out[threadIdx.x] = x[threadIdx.x];
}
"""),
    "a lane that waits elsewhere": (
        "divergent-shuffle", 4, "block (0, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  float v = x[threadIdx.x];
  if (threadIdx.x % 32 < 16) v = __shfl_xor_sync(0xffffffffu, v, 1);
  __syncthreads();
  out[threadIdx.x] = v;
}
"""),
    "a value from a lane that left": (
        "divergent-shuffle", 4, "block (0, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  if (threadIdx.x >= 48) return;
  out[threadIdx.x] = __shfl_down_sync(0xffffffffu, x[threadIdx.x], 16);
}
"""),
    "a lane outside its own mask": (
        "divergent-shuffle", 3, "block (0, 0, 0) thread (16, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  out[threadIdx.x] = __shfl_sync(0x0000ffffu, x[threadIdx.x], 0);
}
"""),
    "a misaligned vector": (
        "misaligned", 4, "block (0, 0, 0) thread (0, 0, 0)",
        "// launch: f<<<1, 8>>>(x, out)\n" + HEAD + """\
  for (int i = 0; i < 8; ++i) out[threadIdx.x * 8 + i] = 0.0f;
  float4 v = *(const float4*)(x + 1 + 4 * threadIdx.x);
  out[threadIdx.x] = v.x + v.y + v.z + v.w;
}
"""),
    "an assertion": (
        "assert", 4, "block (0, 0, 0) thread (5, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  out[threadIdx.x] = x[threadIdx.x];
  assert(threadIdx.x < 5);
}
"""),
    "a trap": (
        "assert", 3, "block (0, 0, 0) thread (7, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n" + HEAD + """\
  if (threadIdx.x == 7) __trap();
  out[threadIdx.x] = x[threadIdx.x];
}
"""),
    "a grid barrier without a cooperative launch": (
        "divergent-barrier", 4, "block (0, 0, 0) thread (0, 0, 0)",
        "// launch: f<<<1, 64>>>(x, out)\n#include <cooperative_groups.h>\n" + HEAD + """\
  cooperative_groups::this_grid().sync();
  out[threadIdx.x] = x[threadIdx.x];
}
"""),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found(name, cpu, check_run) -> None:
    check, line, place, source = FAULTS[name]
    if check == "misaligned" and not find_toolchain().gcc:
        pytest.skip("clang splits vector types before it instruments")
    findings = check_run(cpu, source, {"x": X}, {"out": X}).findings
    assert any(
        f.check == check and f.line == line and (f.place or "").startswith(place)
        for f in findings
    ), findings  # fmt: skip


@pytest.mark.parametrize("name", ["missing __syncthreads", "far away", "a trap"])
def test_the_plain_build_does_not_run_with_a_fault(name, cpu, check_run) -> None:
    """Unchecked executions are checked until one passed."""
    check, _, _, source = FAULTS[name]
    findings = check_run(cpu, source, {"x": X}, {"out": X}, checked=False).findings
    assert any(f.check == check for f in findings)


HONEST = {
    "all threads store the same value": """\
  __shared__ float t;
  t = 2.0f;
  __syncthreads();
  out[threadIdx.x] = t;
""",
    "every block stores the same value": """\
  out[threadIdx.x] = 1.0f;
""",
    "warp-synchronous with __syncwarp": """\
  __shared__ volatile float t[64];
  int i = threadIdx.x;
  t[i] = x[i];
  __syncwarp();
  float v = t[i ^ 1];
  __syncwarp();
  t[i] = v;
  __syncwarp();
  out[i] = t[i ^ 1];
""",
    "halves of a warp on their own": """\
  int lane = threadIdx.x % 32;
  unsigned mask = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  float v = x[threadIdx.x];
  if (lane < 16) v += __shfl_xor_sync(mask, v, 1, 16);
  else v -= __shfl_xor_sync(mask, v, 2, 16);
  out[threadIdx.x] = v;
""",
    "a partial mask of the lanes that stay": """\
  out[threadIdx.x] = 0.0f;
  unsigned mask = __ballot_sync(~0u, threadIdx.x < 40);
  if (threadIdx.x < 40) out[threadIdx.x] = __shfl_sync(mask, x[threadIdx.x], 0);
""",
    "converged lanes of a branch": """\
  out[threadIdx.x] = 0.0f;
  if (threadIdx.x % 3 == 0) {
    unsigned mask = __activemask();
    out[threadIdx.x] = __popc(mask) + (float)__any_sync(mask, 1);
  }
""",
    "bytes of one word by different threads": """\
  unsigned char* bytes = (unsigned char*)out;
  for (int k = 0; k < 4; ++k) bytes[threadIdx.x + 64 * k] = (unsigned char)k;
""",
    "a ring of two buffers": """\
  __shared__ float t[2][64];
  float v = x[threadIdx.x];
  for (int k = 0; k < 5; ++k) {
    t[k & 1][threadIdx.x] = v;
    __syncthreads();
    v = t[k & 1][(threadIdx.x + 1) % 64];
  }
  out[threadIdx.x] = v;
""",
    "reductions at the barrier": """\
  int n = __syncthreads_count(x[threadIdx.x] > 0.0f);
  int any = __syncthreads_or(threadIdx.x == 3), all = __syncthreads_and(threadIdx.x < 64);
  out[threadIdx.x] = n + any + all;
""",
    "a local array that is indexed at run time": """\
  float r[8];
  for (int i = 0; i < 8; ++i) r[i] = x[(threadIdx.x + i) % 64];
  out[threadIdx.x] = r[threadIdx.x % 8] + r[(int)(x[0] * 0.0f)];
""",
}


@pytest.mark.parametrize("name", HONEST)
def test_no_false_alarm(name, cpu, check_run) -> None:
    grid = 2 if name.startswith("every block") else 1
    source = f"// launch: f<<<{grid}, 64>>>(x, out)\n" + HEAD + HONEST[name] + "}\n"
    execution = check_run(cpu, source, {"x": X}, {"out": X})
    assert execution.findings == ()
    assert not execution.outputs["out"].isnan().any()


def test_votes_and_shuffles_have_cuda_values(cpu, check_run) -> None:
    """Widths, clamping and predicates as the programming guide defines them."""
    source = """\
// launch: f<<<1, 32>>>(out)
extern "C" __global__ void f(int* out) {
  int lane = threadIdx.x;
  out[lane] = __shfl_sync(~0u, lane, 3, 8);
  out[32 + lane] = __shfl_up_sync(~0u, lane, 2, 16);
  out[64 + lane] = __shfl_down_sync(~0u, lane, 5, 8);
  out[96 + lane] = __shfl_xor_sync(~0u, lane, 9, 8);
  out[128 + lane] = (int)__ballot_sync(~0u, lane % 5 == 0);
  out[160 + lane] = (int)__match_any_sync(~0u, lane / 10);
  out[192 + lane] = (int)__reduce_max_sync(~0u, (unsigned)(lane * 7 % 31));
  int all;
  out[224 + lane] = (int)__match_all_sync(~0u, 5, &all) + all;
}
"""
    out = check_run(cpu, source, {}, {"out": torch.zeros(256, dtype=torch.int32)}).outputs["out"]
    lanes = range(32)
    signed = lambda bits: bits - 2**32 if bits >= 2**31 else bits  # noqa: E731
    expected = [
        *(lane // 8 * 8 + 3 for lane in lanes),
        *(lane - 2 if lane % 16 >= 2 else lane for lane in lanes),
        *(lane + 5 if lane % 8 < 3 else lane for lane in lanes),
        # An xor into a later group of lanes keeps the own value, into an earlier one reads it.
        *(lane ^ 9 if (lane ^ 9) <= (lane | 7) else lane for lane in lanes),
        *(signed(sum(1 << k for k in range(0, 32, 5))) for _ in lanes),
        *(
            signed(sum(1 << k for k in lanes if k // 10 == lane // 10))
            for lane in lanes
        ),
        *(max(k * 7 % 31 for k in lanes) for _ in lanes),
        *(0 for _ in lanes),  # all lanes, as a signed number, and 1
    ]  # fmt: skip
    assert out.tolist() == expected


def test_double_and_long_shuffles(cpu, check_run) -> None:
    source = """\
// launch: f<<<1, 32>>>(out)
extern "C" __global__ void f(double* out) {
  double v = 1.0 / (threadIdx.x + 3);
  long long w = (1LL << 40) + threadIdx.x;
  out[threadIdx.x] = __shfl_xor_sync(~0u, v, 1) + (double)__shfl_sync(~0u, w, 31);
}
"""
    out = check_run(cpu, source, {}, {"out": torch.zeros(32, dtype=torch.float64)}).outputs["out"]
    assert out.tolist() == [1.0 / ((i ^ 1) + 3) + float(2**40 + 31) for i in range(32)]
