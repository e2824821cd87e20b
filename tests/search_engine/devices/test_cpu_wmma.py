"""nvcuda::wmma on the cpu device: every shape, type and layout against a product in fp64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

KERNEL = Path(__file__).parent / "kernels/wmma.cu"
DRAW = torch.Generator().manual_seed(0)
A = torch.randn(32, 32, generator=DRAW)
B = torch.randn(32, 32, generator=DRAW)


def _cut(x: torch.Tensor) -> torch.Tensor:
    return (x.view(torch.int32) & ~0x1FFF).view(torch.float32)


def _twice(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """What the kernel computes: 2 (1 + a b) + a b."""
    product = a.double() @ b.double()
    return 2 * (1 + product) + product


def test_products_of_every_shape(cpu, check_run) -> None:
    whole = torch.randint(-20, 20, (2, 32, 32), generator=DRAW, dtype=torch.int8)
    ah, bh, ab, bb = A.half(), B.half(), A.bfloat16(), B.bfloat16()
    inputs = {
        "a": A, "b": B, "ah": ah, "bh": bh, "ab": ab, "bb": bb, "ai": whole[0].contiguous(),
        "bi": whole[1].contiguous(),
    }  # fmt: skip
    ta, tb = _cut(A), _cut(B)
    expected = {
        "square": torch.stack(
            [_twice(ah[:16, :16], bh[:16, :16].t()), _twice(ah[:16, :16].t(), bh[:16, :16]).t()]
        ),
        "tall": _twice(ah[:32, :16], bh[:16, :8]),
        "wide": _twice(ab[:8, :16], bb[:32, :16].t()),
        "tf32": torch.stack(
            [_twice(ta[:16, :8], tb[:8, :16]), _twice(ta[:8, :16].t(), tb[:16, :8].t()).t()]
        ),
        "half": _twice(ah[:16, :16], bh[:16, :16]),
        "whole": _twice(whole[0, :16, :16], whole[1, :16, :16].t()),
    }
    dtypes = {"half": torch.float16, "whole": torch.int32}
    outputs = {
        f"out.{name}": torch.empty(want.shape, dtype=dtypes.get(name, torch.float32))
        for name, want in expected.items()
    }
    ran = check_run(cpu, KERNEL.read_text(), inputs, outputs)
    assert ran.findings == ()
    for name, want in expected.items():
        got = ran.outputs[f"out.{name}"].double()
        bound = {"half": 2**-9, "whole": 0.0}.get(name, 2**-21)
        assert torch.all((got - want).abs() <= bound * (want.abs() + 1)), name


HEAD = """\
// launch: f<<<1, 64>>>(x, out)
#include <mma.h>
using namespace nvcuda::wmma;
extern "C" __global__ void f(const __nv_bfloat16* x, float* out) {
  fragment<matrix_a, 16, 16, 16, __nv_bfloat16, row_major> a;
  fragment<matrix_b, 16, 16, 16, __nv_bfloat16, row_major> b;
  fragment<accumulator, 16, 16, 16, float> c;
  __shared__ __align__(32) __nv_bfloat16 t[256];
  fill_fragment(c, 0.0f);
"""
TAIL = """
  mma_sync(c, a, b, c);
  if (threadIdx.x < 32) store_matrix_sync(out, c, 16, mem_row_major);
}
"""
MISTAKES = {
    "the barrier before the load is missing": (
        "race", 12, "no barrier",
        "for (int i = threadIdx.x; i < 256; i += 64) t[i] = x[i];\n"
        "load_matrix_sync(b, x, 16);\nload_matrix_sync(a, t, 16);"),
    "a row past the end": (
        "out-of-bounds", 11, "past the end of x",
        "load_matrix_sync(b, x, 16);\nload_matrix_sync(a, x, 24);"),
    "rows that are not aligned": (
        "misuse", 10, "16 bytes", "load_matrix_sync(a, x, 12);"),
    "a base that is not aligned": (
        "misuse", 10, "32 bytes", "load_matrix_sync(a, x + 1, 16);"),
    "half of the warp": (
        "divergent-shuffle", 10, "is not there",
        "if (threadIdx.x % 2) load_matrix_sync(a, x, 16); __syncthreads();"),
    "shared memory that nobody filled": (
        "uninitialised-shared", 10, "not written", "load_matrix_sync(a, t, 16);"),
    "a shape that does not exist": (
        "compile", 10, "no wmma fragment", "fragment<matrix_a, 16, 8, 16, __half, row_major> z;"
        " fill_fragment(z, 0.0f);"),
    "two warps store the same tile": (
        "race", 10, "thread",
        "for (float& v : c.x) v = threadIdx.x; store_matrix_sync(out, c, 16, mem_row_major);"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_found(name, cpu, check_run) -> None:
    check, line, words, body = MISTAKES[name]
    x = torch.randn(256, generator=DRAW).bfloat16()
    source = HEAD + body + TAIL
    findings = check_run(cpu, source, {"x": x}, {"out": torch.empty(16, 16)}).findings
    assert any(
        f.check == check and f.line == line and any(w in f.message for w in words.split("|"))
        for f in findings
    ), findings  # fmt: skip
