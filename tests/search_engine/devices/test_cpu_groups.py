"""Cooperative groups and cuda::std on the cpu device, against models in torch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

KERNELS = Path(__file__).parent / "kernels"
DRAW = torch.Generator().manual_seed(0)


def _tile(x: torch.Tensor, size: int) -> torch.Tensor:
    """The eight figures of a tile, for every thread of blocks of 64."""
    tiles = x.view(-1, size)
    rank = torch.arange(size).expand_as(tiles)
    down = torch.where(rank == size - 1, tiles, tiles.roll(-1, 1))
    up = torch.where(rank == 0, tiles, tiles.roll(1, 1))
    whole = (
        tiles.sum(1, keepdim=True).expand_as(tiles),
        tiles.amax(1, keepdim=True).expand_as(tiles),
        tiles.cumsum(1),
        tiles.cumsum(1) - tiles,
        tiles[:, -1:] + tiles[:, torch.arange(size) ^ (size // 2)],
        down - up,
        (torch.arange(len(tiles)) % (64 // size))[:, None] * 1000 + rank,
        (tiles > 90).any(1, keepdim=True) * 2 + (tiles < 90).all(1, keepdim=True) + 0 * rank,
    )
    return torch.stack([figure.reshape(-1) for figure in whole], 1)


def _bits(flags: torch.Tensor) -> torch.Tensor:
    weights = 2 ** torch.arange(32, dtype=torch.int64)
    return (flags.long() * weights).sum(-1).to(torch.int32)


def test_groups_do_what_their_names_say(cpu, check_run) -> None:
    x = torch.randint(0, 100, (128,), generator=DRAW, dtype=torch.int32)
    outputs = {
        "out.tiles": torch.empty(128, 32, dtype=torch.int32),
        "out.votes": torch.empty(128, 4, dtype=torch.int32),
        "out.copied": torch.empty(128, 2, dtype=torch.int32),
    }
    ran = check_run(cpu, (KERNELS / "groups.cu").read_text(), {"x": x}, outputs)
    assert ran.findings == ()
    tiles = torch.cat([_tile(x, size) for size in (32, 16, 4, 2)], 1)
    assert torch.equal(ran.outputs["out.tiles"], tiles.to(torch.int32))

    warps = x.view(4, 32)
    ballot = _bits(warps % 3 == 0)[:, None].expand(4, 32)
    match = _bits(warps[:, :, None] % 5 == warps[:, None, :] % 5)
    odd = (warps % 2 == 1).sum(1, keepdim=True)
    coalesced = torch.where(warps % 2 == 1, odd * 100 + odd - 1, 0)
    alike = warps[:, :, None] % 3 == warps[:, None, :] % 3
    labeled = (alike * warps[:, None, :]).sum(-1)
    votes = torch.stack([t.reshape(-1) for t in (ballot, match, coalesced, labeled)], 1)
    assert torch.equal(ran.outputs["out.votes"], votes.to(torch.int32))

    blocks = x.view(2, 64)
    copied = torch.stack([blocks.flip(1).reshape(-1), blocks.flip(0).flip(1).reshape(-1)], 1)
    assert torch.equal(ran.outputs["out.copied"], copied)


def test_cuda_std(cpu, check_run) -> None:
    x = 4 * torch.randn(32, 4, generator=DRAW)
    source = (KERNELS / "cuda_std.cu").read_text()
    ran = check_run(cpu, source, {"x": x}, {"out": torch.empty(32, 8)})
    assert ran.findings == ()
    first = x[:, 0]
    expected = torch.stack(
        [x.amax(1), first - first.trunc(), first.trunc(), x[:, 1], x[:, 3], x[:, 2],
         torch.full((32,), torch.finfo(torch.float32).eps), first.clamp(0, 1) - 2.0**31], 1
    )  # fmt: skip
    assert torch.equal(ran.outputs["out"], expected)


UNSUPPORTED = {
    "clusters": ("#include <cooperative_groups.h>", "cooperative_groups::this_cluster().sync();",
                 "thread block clusters"),
    "a header that is not there": ("#include <cuda/barrier>", "", "<cuda/barrier>"),
    "a tile of two warps": ("#include <cooperative_groups.h>",
                            "cooperative_groups::thread_block_tile<64> t;", "at most a warp"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_cannot_be_executed_is_named(name, cpu, check_run) -> None:
    include, body, words = UNSUPPORTED[name]
    source = (
        f"// launch: f<<<1, 32>>>(x, out)\n{include}\n"
        f'extern "C" __global__ void f(const float* x, float* out) {{ {body} out[0] = x[0]; }}'
    )
    findings = check_run(cpu, source, {"x": torch.ones(1)}, {"out": torch.ones(1)}).findings
    assert any(words in finding.message for finding in findings), findings


def test_a_copy_of_a_group_is_waited_for(cpu, check_run) -> None:
    source = (
        "// launch: f<<<1, 32>>>(x, out)\n#include <cooperative_groups.h>\n"
        "#include <cooperative_groups/memcpy_async.h>\n"
        'extern "C" __global__ void f(const float* x, float* out) {\n'
        "  __shared__ float t[32];\n  auto block = cooperative_groups::this_thread_block();\n"
        "  cooperative_groups::memcpy_async(block, t, x, sizeof(float) * 32);\n"
        "  block.sync();\n  out[threadIdx.x] = t[31 - threadIdx.x];\n}\n"
    )
    x = torch.ones(32)
    findings = check_run(cpu, source, {"x": x}, {"out": x}).findings
    assert [(f.check, f.line) for f in findings] == [("uninitialised-shared", 9)]
