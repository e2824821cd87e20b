"""Where the accuracy bound lies between honest kernels and evasions.

Simulates, in torch on the CPU, the arithmetic of kernels as people write them (the order of
sums, the width of accumulators, the formula) and of kernels that cheat on precision, and
prints each one's error as a share of the bound. A share of at most 1 is accepted.

    python benchmarks/accuracy_line.py            # the table of docs/verification.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from attrs import frozen

from search_engine.verify import bounds
from search_engine.verify.errors import ErrorSums, all_finite

Function = Callable[..., torch.Tensor]
DRAWS = 3


@frozen
class Row:
    """One simulated kernel on one task. ``share`` is the larger of error and worst row's."""

    task: str
    kernel: str
    kind: str  # "honest", "evasion", or "coarse": honest, but well behind eager
    error: float
    eager_error: float
    bound: float
    share: float


# --- ways to sum, along the last dimension ---------------------------------------------


def sequential(x: torch.Tensor) -> torch.Tensor:
    """One accumulator, one thread."""
    total = torch.zeros_like(x[..., 0])
    for column in x.unbind(-1):
        total = total + column
    return total


def lanes(x: torch.Tensor, count: int) -> torch.Tensor:
    """``count`` threads stride over the row, then a tree: a warp (32) or a block (256)."""
    padded = F.pad(x, (0, -x.shape[-1] % count))
    partial = padded.unflatten(-1, (-1, count)).movedim(-2, -1)
    return tree(sequential(partial))


def tree(x: torch.Tensor) -> torch.Tensor:
    """Pairwise, as shuffles do it; the length is a power of two."""
    while x.shape[-1] > 1:
        left, right = x.chunk(2, -1)
        x = left + right
    return x[..., 0]


def tf32(x: torch.Tensor) -> torch.Tensor:
    """Rounded to the ten bits of mantissa that TF32 keeps."""
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def warp(x: torch.Tensor) -> torch.Tensor:
    return lanes(x, 32)


def block(x: torch.Tensor) -> torch.Tensor:
    return lanes(x, 256)


# --- matrix products ---------------------------------------------------------------------


def product(a: torch.Tensor, b: torch.Tensor, *, chunk: int, acc: torch.dtype) -> torch.Tensor:
    """Sums of ``chunk`` products, each added to an accumulator of dtype ``acc``."""
    total = torch.zeros(a.shape[0], b.shape[1], dtype=acc)
    for start in range(0, a.shape[1], chunk):
        part = a[:, start : start + chunk].to(acc) @ b[start : start + chunk].to(acc)
        total = total + part
    return total.float()


def three_tf32(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """High and low halves on tensor cores: fp32 in three products."""
    a_high, b_high = tf32(a), tf32(b)
    a_low, b_low = tf32(a - a_high), tf32(b - b_high)
    return a_high @ b_high + (a_high @ b_low + a_low @ b_high)


def matmul_kernels() -> Iterator[tuple[str, str, Function]]:
    yield "one product after the other", "honest", lambda a, b: product(a, b, chunk=1, acc=a.dtype)
    yield "tiles of 8", "honest", lambda a, b: product(a, b, chunk=8, acc=a.dtype)
    yield "tiles of 32", "honest", lambda a, b: product(a, b, chunk=32, acc=a.dtype)
    yield (
        "split in 8 along K",
        "honest",
        lambda a, b: product(a, b, chunk=a.shape[1] // 8, acc=a.dtype),
    )
    yield "three TF32 products", "honest", three_tf32
    yield "one TF32 product", "evasion", lambda a, b: tf32(a) @ tf32(b)
    yield "fp16 operands", "evasion", lambda a, b: a.half().float() @ b.half().float()
    yield "bf16 operands", "evasion", lambda a, b: a.bfloat16().float() @ b.bfloat16().float()
    yield "fp16 accumulator", "evasion", lambda a, b: product(a, b, chunk=32, acc=torch.float16)


# --- rows -----------------------------------------------------------------------------------


def softmax(x: torch.Tensor, total: Function) -> torch.Tensor:
    exps = torch.exp(x - x.amax(-1, keepdim=True))
    return exps / total(exps)[..., None]


def online_softmax(x: torch.Tensor) -> torch.Tensor:
    """Running maximum and rescaled sum over tiles of 128 (Milakov and Gimelshein 2018)."""
    top = torch.full_like(x[..., 0], -torch.inf)
    total = torch.zeros_like(top)
    for tile in x.split(128, -1):
        new = torch.maximum(top, tile.amax(-1))
        total = total * torch.exp(top - new) + tree(torch.exp(tile - new[..., None]))
        top = new
    return torch.exp(x - top[..., None]) / total[..., None]


def softmax_kernels() -> Iterator[tuple[str, str, Function]]:
    yield "warp per row", "honest", lambda x: softmax(x, warp)
    yield "block per row", "honest", lambda x: softmax(x, block)
    yield "one thread per row", "honest", lambda x: softmax(x, sequential)
    yield "online", "honest", online_softmax
    yield "fp16 inputs", "evasion", lambda x: softmax(x.half().float(), block)
    yield "fp16 result", "evasion", lambda x: softmax(x, block).half().float()
    yield "TF32 result", "evasion", lambda x: tf32(softmax(x, block))


def two_pass(x: torch.Tensor, total: Function) -> torch.Tensor:
    count = x.shape[-1]
    centred = x - (total(x) / count)[..., None]
    return centred * torch.rsqrt(total(centred.square()) / count + 1e-5)[..., None]


def welford(x: torch.Tensor) -> torch.Tensor:
    """32 lanes with running moments, merged pairwise (Chan, Golub and LeVeque 1979)."""
    mean, m2, count = torch.zeros_like(x[..., :32]), torch.zeros_like(x[..., :32]), 0.0
    for part in x.split(32, -1):
        count += 1
        delta = part - mean
        mean = mean + delta / count
        m2 = m2 + delta * (part - mean)
    while mean.shape[-1] > 1:
        (left, right), (a, b) = mean.chunk(2, -1), m2.chunk(2, -1)
        delta = right - left
        mean, m2 = left + delta / 2, a + b + delta * delta * (count / 2)
        count *= 2
    return (x - mean) * torch.rsqrt(m2 / x.shape[-1] + 1e-5)


def moments(x: torch.Tensor) -> torch.Tensor:
    """E[x²] − m²."""
    mean, square = block(x) / x.shape[-1], block(x.square()) / x.shape[-1]
    variance = (square - mean.square()).clamp(min=0)
    return (x - mean[..., None]) * torch.rsqrt(variance + 1e-5)[..., None]


def norm_kernels() -> Iterator[tuple[str, str, Function]]:
    yield "two passes, warp per row", "honest", lambda x: two_pass(x, warp)
    yield "two passes, block per row", "honest", lambda x: two_pass(x, block)
    yield "Welford, merged", "honest", welford
    yield "two passes, one thread per row", "coarse", lambda x: two_pass(x, sequential)
    yield "E[x²] − m²", "evasion", moments
    yield "fp16 inputs", "evasion", lambda x: two_pass(x.half().float(), block)
    yield "fp16 result", "evasion", lambda x: two_pass(x, block).half().float()
    yield "fp16 accumulator", "evasion", lambda x: two_pass(x, lambda v: block(v.half()).float())


def gelu(x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x * 1.7 + 0.3)


def gelu_kernels() -> Iterator[tuple[str, str, Function]]:
    half = 0.7071067811865476
    yield "erf, fused", "honest", lambda x: (
        lambda y: 0.5 * y * (1 + torch.erf(y * half))
    )(torch.addcmul(torch.tensor(0.3), x, torch.tensor(1.7)))  # fmt: skip
    yield "tanh formula", "evasion", lambda x: F.gelu(x * 1.7 + 0.3, approximate="tanh")
    yield "fp16", "evasion", lambda x: gelu(x.half()).float()
    yield "TF32 result", "evasion", lambda x: tf32(gelu(x))


# --- the table -----------------------------------------------------------------------------


def tasks() -> Iterator[tuple[str, int, Function, Function, Iterator[tuple[str, str, Function]]]]:
    """(name, K, inputs, eager, kernels)."""
    yield (
        "matmul, K = 4096",
        4096,
        lambda: (torch.randn(128, 4096), torch.randn(4096, 128)),
        torch.matmul,
        matmul_kernels(),
    )
    yield (
        "softmax, rows of 4096",
        4096,
        lambda: (torch.randn(128, 4096),),
        lambda x: x.softmax(-1),
        softmax_kernels(),
    )
    for mean in (0, 1000):
        yield (
            f"layer norm, rows of 1024, mean {mean}",
            1024,
            lambda mean=mean: (torch.randn(128, 1024) + mean,),
            lambda x: F.layer_norm(x, x.shape[-1:]),
            norm_kernels(),
        )
    yield "gelu(1.7 x + 0.3)", 1, lambda: (torch.randn(128, 1024),), gelu, gelu_kernels()


def rows(seed: int = 0) -> Iterator[Row]:
    """Every simulated kernel on every task, pooled over ``DRAWS`` draws."""
    torch.manual_seed(seed)
    for task, reduction, inputs, eager, kernels in tasks():
        draws = [inputs() for _ in range(DRAWS)]
        exact = [eager(*(x.double() for x in draw)) for draw in draws]
        own = _pooled(eager, draws, exact)
        bound = bounds.bound(own.relative, "float32", reduction)
        row_bound = bounds.worst_row_bound(bound, own.worst_row)
        for name, kind, function in kernels:
            found = _pooled(function, draws, exact)
            share = max(found.relative / bound, found.worst_row / row_bound)
            yield Row(task, name, kind, found.relative, own.relative, bound, share)


def _pooled(
    function: Function, draws: list[tuple[torch.Tensor, ...]], exact: list[torch.Tensor]
) -> ErrorSums:
    sums = ErrorSums()
    for draw, expected in zip(draws, exact, strict=True):
        sums.add(ErrorSums.of(function(*draw), expected, finite=all_finite(expected)))
    return sums


def luck(rows: int, trials: int = 200) -> tuple[float, float]:
    """How far an honest layer norm lies over eager, by chance: (median, 99th percentile).

    The ratio of the errors of a two-pass kernel with a warp per row to eager's, on ``rows``
    rows of 768 around 1000.
    """
    torch.manual_seed(0)
    ratios = []
    for _ in range(trials):
        x = torch.randn(rows, 768) + 1000
        exact = F.layer_norm(x.double(), (768,))
        own = ErrorSums.of(F.layer_norm(x, (768,)), exact, finite=True).relative
        ratios.append(ErrorSums.of(two_pass(x, warp), exact, finite=True).relative / own)
    found = torch.tensor(ratios)
    return float(found.median()), float(found.quantile(0.99))


def main() -> None:
    print("| task | kernel | | error | eager's | bound | share of the bound |")
    print("|---|---|---|---|---|---|---|")
    for row in rows():
        print(
            f"| {row.task} | {row.kernel} | {row.kind} | {row.error:.1e} | {row.eager_error:.1e} | "
            f"{row.bound:.1e} | {row.share:.2g} |"
        )
    print("\nAn honest kernel's error over eager's, by how many reductions are pooled:\n")
    print("| reductions | median | 99th percentile |\n|---|---|---|")
    for count in (4, 16, 64, 256):
        median, high = luck(count)
        print(f"| {count} | {median:.2f} | {high:.2f} |")


if __name__ == "__main__":
    main()
