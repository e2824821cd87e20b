"""Inline PTX on the cpu device: every instruction against a model, and the mistakes it can hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

KERNELS = Path(__file__).parent / "kernels"

DRAW = torch.Generator().manual_seed(0)
A = torch.randn(16, 32, generator=DRAW)
B = torch.randn(32, 8, generator=DRAW)  # K by N
C = torch.randn(16, 8, generator=DRAW)


def _cut(x: torch.Tensor) -> torch.Tensor:
    """fp32 numbers with the low 13 bits of the mantissa zero."""
    return (x.view(torch.int32) & ~0x1FFF).view(torch.float32)


def _rounded(x: torch.Tensor) -> torch.Tensor:
    """fp32 to TF32, to nearest with ties away from zero."""
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def test_mma_follows_the_fragment_tables(cpu, check_run) -> None:
    whole = torch.randint(-128, 128, (48, 32), generator=DRAW, dtype=torch.int8)
    inputs = {
        "a": A, "b": B, "c": C, "ah": A.half(), "bh": B.half().t().contiguous(),
        "ab": A.bfloat16(), "bb": B.bfloat16().t().contiguous(),
        "ai": whole[:16].contiguous(), "bi": whole[16:24].contiguous(),
    }  # fmt: skip
    double = {name: tensor.double() for name, tensor in inputs.items()}
    expected = {
        "f16": C.double() + double["ah"][:, :16] @ double["bh"][:, :16].t(),
        "f16_8": C.double() + double["ah"][:, :8] @ double["bh"][:, :8].t(),
        "bf16": C.double() + double["ab"][:, :16] @ double["bb"][:, :16].t(),
        "tf32": C.double() + _rounded(A)[:, :8].double() @ _rounded(B)[:8].double(),
        "tf32_4": C.double() + _cut(A)[:, :4].double() @ _cut(B)[:4].double(),
        "half": C.half().double() + double["ah"][:, :16] @ double["bh"][:, :16].t(),
        "whole": C.int().double() + double["ai"] @ double["bi"].t(),
    }
    dtypes = {"half": torch.float16, "whole": torch.int32}
    outputs = {f"out.{n}": torch.empty(16, 8, dtype=dtypes.get(n, C.dtype)) for n in expected}
    for checked in (True, False):
        ran = check_run(cpu, (KERNELS / "mma.cu").read_text(), inputs, outputs, checked=checked)
        assert ran.findings == ()
        for name, want in expected.items():
            got = ran.outputs[f"out.{name}"].double()
            if name == "half":
                assert torch.equal(got, want.half().double())
            elif name == "whole":
                assert torch.equal(got, want)
            else:  # one rounding toward zero, at most one unit in the last place
                assert torch.all((got - want).abs() <= want.abs() * 2**-23), name
                assert torch.all(got.abs() <= want.abs()), name


def test_copies_arrive_when_they_are_waited_for(cpu, check_run) -> None:
    x = torch.randn(224, generator=DRAW)
    ran = check_run(
        cpu, (KERNELS / "async_copies.cu").read_text(), {"x": x}, {"out": torch.empty(160)}
    )
    assert ran.findings == ()
    second = torch.cat([x[128:160], torch.zeros(32)])
    third = torch.where(torch.arange(32) % 2 == 0, x[160:192], -torch.ones(32))
    expected = torch.cat(
        [x[96:128].flip(0), second[32:].flip(0), second[:32].flip(0), third.flip(0),
         x[192:224].flip(0)]
    )  # fmt: skip
    assert torch.equal(ran.outputs["out"], expected)


def test_matrices_and_memory(cpu, check_run) -> None:
    x = torch.randint(0, 32000, (256,), generator=DRAW, dtype=torch.int16)
    outputs = {
        "out.plain": torch.empty(4, 32, dtype=torch.int32),
        "out.trans": torch.empty(3, 32, dtype=torch.int32),
        "out.back": torch.empty(256, dtype=torch.int16),
        "out.wide": torch.empty(32, 8, dtype=torch.int32),
    }
    source = (KERNELS / "ldmatrix.cu").read_text()
    ran = check_run(cpu, source, {"x": x}, outputs)
    assert ran.findings == ()
    tiles = x.view(4, 8, 8)
    words = tiles.contiguous().view(torch.int32).view(4, 32)
    assert torch.equal(ran.outputs["out.plain"], words)
    turned = tiles.transpose(1, 2).contiguous().view(torch.int32).view(4, 32)
    assert torch.equal(ran.outputs["out.trans"], turned[:3])
    assert torch.equal(ran.outputs["out.back"].view(4, 8, 8), tiles.transpose(1, 2))
    rows = x.view(torch.int32).view(32, 4)
    lane = torch.arange(32, dtype=torch.int32)
    bf16 = torch.stack([lane.bfloat16(), torch.ones(32).bfloat16()], 1).view(torch.int32)[:, 0]
    want = torch.stack(
        [rows[:, 0] ^ rows[:, 1] ^ rows[:, 2], rows[:, 1], rows[:, 3],
         torch.where(lane > 15, 7, lane + 1), 2 * lane + 1, x[:32].int(), bf16, lane], 1
    )  # fmt: skip
    assert torch.equal(ran.outputs["out.wide"], want.to(torch.int32))


HEAD = 'extern "C" __global__ void f(const float* x, float* out) {\n'
COPY = """\
  __shared__ __align__(16) float t[128];
  int i = threadIdx.x; unsigned to = (unsigned)__cvta_generic_to_shared(t + 4 * i);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(x + 4 * i));
"""
LAUNCH = "// launch: f<<<1, 32>>>(x, out)\n"
MISTAKES = {
    "the wait is forgotten": (
        "uninitialised-shared", 7, "wait",
        COPY + "  __syncthreads();\n  out[i] = t[i];\n"),
    "a thread reads its own copy before the wait": (
        "uninitialised-shared", 6, "wait",
        COPY + "  out[i] = t[4 * i];\n"),
    "the wait leaves the newest group": (
        "uninitialised-shared", 6, "wait",
        COPY + '  asm volatile("cp.async.commit_group; cp.async.wait_group 1;"); __syncthreads();'
        " out[i] = t[i];\n"),
    "the barrier is forgotten": (
        "race", 7, "no barrier",
        COPY + '  asm volatile("cp.async.wait_all;");\n  out[i] = t[127 - i];\n'),
    "the barrier comes before the wait": (
        "race", 7, "no barrier",
        COPY + '  __syncthreads(); asm volatile("cp.async.wait_all;");\n  out[i] = t[127 - i];\n'),
    "the tile is overwritten while others read it": (
        "race", 5, "no barrier",
        "  __shared__ __align__(16) float t[128]; int i = threadIdx.x;\n"
        "  for (int k = i; k < 128; k += 32) t[k] = x[k]; __syncthreads(); float v = t[127 - i];\n"
        '  asm volatile("cp.async.cg.shared.global [%0], [%1], 16; cp.async.wait_all;" ::'
        ' "r"((unsigned)__cvta_generic_to_shared(t + 4 * i)), "l"(x + 4 * i));\n'
        "  out[i] = v;\n"),
    "a copy from past the end": (
        "out-of-bounds", 5, "past the end of x", COPY.replace("x + 4 * i", "x + 4 * i + 4")),
    "a copy that is not aligned": (
        "misaligned", 5, "multiple", COPY.replace("x + 4 * i", "x + 4 * i % 100 + 1")),
    "a copy of 8 bytes past L1": (
        "misuse", 5, "16 bytes", COPY.replace("[%1], 16", "[%1], 8")),
    "an address that is none of shared memory": (
        "out-of-bounds", 5, "shared memory", COPY.replace("shared(t + 4 * i)", "shared(out)")),
    "half a warp at the matrix unit": (
        "divergent-shuffle", 5, "32 lanes",
        '  unsigned a = 0; float d[4] = {};\n  if (threadIdx.x > 15) return;\n'
        '  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%4},'
        ' {%4}, {%0,%1,%2,%3};" : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a));\n'
        "  out[threadIdx.x] = d[0] + x[0];\n"),
    "an instruction that is not known": (
        "unsupported", 3, "`wgmma.fence.sync.aligned`; it can be verified on a GPU",
        '  asm volatile("wgmma.fence.sync.aligned;"); out[threadIdx.x] = x[threadIdx.x];\n'),
    "a barrier of a part of the block": (
        "unsupported", 3, "`bar.sync`",
        '  asm volatile("bar.sync 1, 32;"); out[threadIdx.x] = x[threadIdx.x];\n'),
    "too few registers": (
        "unsupported", 4, "operands",
        '  float d[4] = {};\n  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32'
        ' {%0,%1,%2,%3}, {%4,%4}, {%4}, {%0,%1,%2,%3};" : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]),'
        ' "+f"(d[3]) : "r"(0));\n  out[threadIdx.x] = x[0];\n'),
    "an operand of another size": (
        "compile", 3, "size",
        '  asm volatile("mov.u32 %0, %1;" : "=r"(*(unsigned*)out) : "r"((long long)1));\n'),
    "an operand that is not there": (
        "compile", 3, "%3",
        '  asm volatile("mov.u32 %0, %3;" : "=r"(*(unsigned*)out) : "r"(1));\n'),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_found(name, cpu, check_run) -> None:
    check, line, words, body = MISTAKES[name]
    x = torch.randn(128, generator=DRAW)
    source = LAUNCH + HEAD + body + "}\n"
    findings = check_run(cpu, source, {"x": x}, {"out": torch.empty(32)}).findings
    assert any(
        f.check == check and f.line == line and words in f.message for f in findings
    ), findings  # fmt: skip
