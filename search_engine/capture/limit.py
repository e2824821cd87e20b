"""The limit: the least time that a GPU allows for a task. Free of torch.

A roofline (Williams, Waterman, Patterson 2009) over three resources that can all work at
the same time: DRAM, the fp32 units and the tensor cores. The slowest one is the limit.

- **DRAM.** Every byte of the inputs and parameters that has to be read (of masked scores
  those that a constant mask lets through) comes from DRAM: the L2 cache is flushed before
  each measured run. What is written may end in the L2 cache, so only outputs beyond its
  size are charged; intermediate values never are.
- **Tensor cores.** Products of matrices, less those that the module's structure makes
  needless (``diag(a) @ b`` scales rows), run on the fastest unit that can meet the
  precision policy. An fp32 product needs three TF32 products (high and low halves), unless
  the user's own flags let torch use TF32: then eager itself does, and one is enough.
- **fp32 units.** Everything that is no product of matrices.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from search_engine.hardware import DeviceFacts

TF32_PRODUCTS = 3  # of the high and low halves of two fp32 numbers, low times low left out


@frozen
class Work:
    """What a task has to do. ``products`` maps "float32", "tf32", "bfloat16" … to flops."""

    read_bytes: int
    written_bytes: int
    products: Mapping[str, int] = field(factory=dict)
    other_flops: int = 0  # outside products of matrices
    other_dtype: str = "float32"
    longest_reduction: int = 1
    # What the module's structure leaves of them (``necessary``): as all of them where it is None,
    # and the part that no rearrangement of the sums can do without.
    least_products: Mapping[str, float] | None = None
    certain_products: Mapping[str, float] = field(factory=dict)

    @property
    def flops(self) -> int:
        """All flops, multiply and add as two."""
        return sum(self.products.values()) + self.other_flops

    @property
    def min_bytes(self) -> int:
        """Every tensor that is read once, plus every output written once."""
        return self.read_bytes + self.written_bytes


@frozen
class Limit:
    """The least time in seconds, and which unit sets it."""

    seconds: float
    reason: str


def product_rate(dtype: str, facts: DeviceFacts) -> tuple[float, str]:
    """Flops per second of the fastest unit for products of matrices in ``dtype``, by name."""
    if dtype == "float64":
        # A100 and H100 multiply matrices in fp64 by tensor cores, at twice the units' rate.
        if facts.compute_capability in ((8, 0), (9, 0)):
            return 2 * facts.fp64_flops, "fp64 tensor cores"
        return facts.fp64_flops, "fp64 units"
    if dtype in ("float16", "bfloat16"):
        return facts.half_flops, f"{dtype} tensor cores"
    if dtype == "tf32":
        return facts.tf32_flops, "TF32 tensor cores"
    split = facts.tf32_flops / TF32_PRODUCTS
    if split > facts.fp32_flops:
        return split, "tensor cores, fp32 as three TF32 products"
    return facts.fp32_flops, "fp32 units"


def limit(work: Work, facts: DeviceFacts) -> Limit:
    """The roofline of ``work`` on ``facts``."""
    bounds = [_dram(work, facts)]
    units: dict[str, tuple[float, float]] = {}
    products = work.products if work.least_products is None else work.least_products
    for dtype, flops in products.items():
        rate, unit = product_rate(dtype, facts)
        seconds, total = units.get(unit, (0.0, 0))
        units[unit] = (seconds + flops / rate, total + flops)
    rate = facts.fp64_flops if work.other_dtype == "float64" else facts.fp32_flops
    unit = "fp64 units" if work.other_dtype == "float64" else "fp32 units"
    seconds, total = units.get(unit, (0.0, 0))
    units[unit] = (seconds + work.other_flops / rate, total + work.other_flops)
    for unit, (seconds, total) in units.items():
        bounds.append(Limit(seconds, f"{unit}: {total / 1e9:.3g} GFLOP"))
    return max(bounds, key=lambda bound: bound.seconds)


def certain(work: Work, facts: DeviceFacts) -> Limit:
    """What no kernel can be faster than: the bytes, and products that cannot be rearranged.

    These are counted at the rate of fp16, which has TF32's mantissa at twice its rate, three
    of them for an fp32 product. Nothing else is: fewer operations may give the same result.
    """
    bounds = [_dram(work, facts)]
    for dtype, flops in work.certain_products.items():
        if dtype == "float64":
            rate, _ = product_rate(dtype, facts)
        else:
            count = TF32_PRODUCTS if dtype == "float32" else 1
            rate = max(facts.half_flops / count, facts.fp32_flops)
        bounds.append(Limit(flops / rate, f"products in {dtype}: {flops / 1e9:.3g} GFLOP"))
    return max(bounds, key=lambda bound: bound.seconds)


def _dram(work: Work, facts: DeviceFacts) -> Limit:
    dram_bytes = work.read_bytes + max(0, work.written_bytes - facts.l2_bytes)
    return Limit(
        dram_bytes / facts.dram_bytes_per_second,
        f"DRAM: {_size(dram_bytes)} at {facts.dram_bytes_per_second / 1e12:.3g} TB/s",
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
