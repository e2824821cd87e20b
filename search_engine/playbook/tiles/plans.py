"""Plans of tiled kernels by name: a variant's knobs, which fit, and the likely best first."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from search_engine.hardware import DeviceFacts
from search_engine.playbook.contraction import Contraction, match
from search_engine.playbook.expression import loads
from search_engine.playbook.idea import Knob, Variant
from search_engine.playbook.program import Program
from search_engine.playbook.tiles import time
from search_engine.playbook.tiles.access import access
from search_engine.playbook.tiles.kernel import TileKernel, TilePlan, Unit
from search_engine.playbook.tiles.movers import Copies
from search_engine.playbook.tiles.packed import channels_inside
from search_engine.playbook.tiles.shape import TileShape, Word

TILES = (
    "256x128", "128x256", "128x128", "96x256", "96x128", "64x256", "128x64", "64x128", "64x64",
    "128x32", "32x128", "64x32", "32x64", "32x32", "16x128", "16x64",
)  # fmt: skip
SPLITS = (1, 2, 4, 8, 16, 32, 64)

# Longer sums in one accumulator lose what the bound of `match` allows for (verify.bounds).
_LONGEST_SUM = 4096
_MOST_SUMS = {"registers": 96, "tensor_cores": 144}
_OFFERED = 6


@functools.lru_cache(maxsize=64)
def contraction(program: Program) -> Contraction | None:
    """``match``, remembered."""
    return match(program)


def word(c: Contraction, unit: Unit) -> Word | None:
    """What shared memory holds for the unit; None where the unit cannot take the operands."""
    if c.program.dtype == "float64":
        return Word("float64", 1) if unit == "registers" else None
    if unit == "registers":
        return Word("float32", 1)
    dtypes = {load.dtype for load in (*loads(c.left.value), *loads(c.right.value))}
    for half in ("float16", "bfloat16"):
        if dtypes == {half}:
            return Word(half, 2)
    return Word("float32", 1) if dtypes == {"float32"} else None


def warps(m: int, n: int, count: int) -> tuple[int, int]:
    """Warps along m and n that make their tiles the squarest, wider than high at a tie."""
    pairs = [(a, count // a) for a in (1, 2, 4, 8, 16) if count % a == 0]
    fitting = [(a, b) for a, b in pairs if m % (a * 16) == 0 and n % (b * 8) == 0] or pairs
    return min(fitting, key=lambda p: (m / p[0] + n / p[1], abs(m / p[0] - n / p[1]), -p[0]))


def kernel(c: Contraction, variant: Variant, unit: Unit) -> TileKernel | None:
    """The kernel of a variant; None where the unit or the operands do not allow it."""
    held = word(c, unit)
    if held is None:
        return None
    m, n = (int(size) for size in variant.word("tile").split("x"))
    warps_m, warps_n = warps(m, n, variant.number("warps"))
    shape = TileShape(
        m, n, variant.number("depth"), warps_m, warps_n,
        variant.number("stages"), variant.number("split"),
    )  # fmt: skip
    copies: Copies = "async" if variant.word("copies") == "async" else "registers"
    products = variant.number("products") if unit == "tensor_cores" else 1
    resident = variant.number("resident")
    inside = variant.word("taps") == "outside"
    if inside and not channels_inside(c, shape.k):
        return None
    return TileKernel(c, TilePlan(shape, unit, held, products, copies, inside, resident))


def valid(c: Contraction, variant: Variant, unit: Unit, facts: DeviceFacts) -> bool:
    """Whether the variant fits the contraction and the device."""
    m, n = (int(size) for size in variant.word("tile").split("x"))
    warps_m, warps_n = warps(m, n, variant.number("warps"))
    if m % warps_m or n % warps_n or facts.compute_capability < (8, 0):
        return False
    made = kernel(c, variant, unit)
    if made is None or not made.fits or made.shared_whole > facts.shared_per_block:
        return False
    if made.math.sums > _MOST_SUMS[unit]:
        return False
    resident = made.plan.resident
    if resident > 1:  # registers and shared memory for that many blocks, if nothing else
        registers = facts.registers_per_sm // (resident * made.shape.threads)
        if made.math.sums + 48 > registers or resident * made.shape.threads > facts.threads_per_sm:
            return False
        if resident * (made.shared_whole + 1024) > facts.shared_per_sm:
            return False
    split, tiles = made.shape.split, -(-c.k // made.shape.k)
    if split > 1 and tiles < 2 * split:
        return False
    if unit == "registers" and -(-tiles // split) * made.shape.k > _LONGEST_SUM:
        return False
    if unit == "tensor_cores":
        allowed = c.products if made.plan.word.dtype == "float32" else (1,)
        if made.plan.products not in allowed:
            return False
    blocks = -(-c.left.count // m) * -(-c.right.count // n) * c.batches * split
    outputs = c.left.count * c.right.count * c.batches
    return blocks < 2**31 and split * outputs < 2**31


def seconds(c: Contraction, variant: Variant, unit: Unit, facts: DeviceFacts) -> float:
    """The predicted time of a variant."""
    made = kernel(c, variant, unit)
    assert made is not None
    return time.seconds(made, facts)


@functools.lru_cache(maxsize=64)
def offered(c: Contraction, unit: Unit, facts: DeviceFacts) -> Sequence[Variant]:
    """The likely best, each of another tile, split or number of products."""
    found = [
        (seconds(c, variant, unit, facts), variant)
        for variant in _candidates(c, unit)
        if valid(c, variant, unit, facts)
    ]
    found.sort(key=lambda pair: pair[0])
    # A tile once: its best split, with either number of products.
    kept: dict[tuple[str, int], Variant] = {}
    for _, variant in found:
        number = variant.number("products") if unit == "tensor_cores" else 1
        kept.setdefault((variant.word("tile"), number), variant)
    single = [v for (_, number), v in kept.items() if number == 1]
    exact = [v for (_, number), v in kept.items() if number == 3]
    if not (single and exact):
        return [*single, *exact][:_OFFERED]
    pairs = [v for pair in zip(single, exact, strict=False) for v in pair]
    return pairs[:_OFFERED]


def _candidates(c: Contraction, unit: Unit) -> Iterator[Variant]:
    """Every tile and split, each with the settings that measured best on an H200."""
    held = word(c, unit)
    if held is None:
        return
    half = held.pack == 2
    depth = 64 if half else 32 if unit == "tensor_cores" else 16
    while depth > 16 * held.pack and depth >= 2 * c.k:
        depth //= 2
    # Single elements cost less through registers than by as many asynchronous copies.
    narrow = any(access(operand).vec == 1 for operand in (c.left, c.right))
    copies, stages = ("registers", 2) if narrow and unit == "tensor_cores" else ("async", 3)
    taps = "outside" if channels_inside(c, depth) else "inside"
    products = (1,) if half or unit == "registers" else c.products
    for tile in TILES:
        m, n = (int(size) for size in tile.split("x"))
        if (m > 32 and m >= 4 * c.left.count) or (n > 64 and n >= 4 * c.right.count):
            continue  # mostly beyond the edge
        # 64 x 64 of a warp reuse halves best; fp32 and its parts fill registers sooner.
        large = 128 * 256 if half else 96 * 128 if copies == "registers" else 128 * 128
        count = 8 if m * n >= large else 4 if m * n >= 32 * 64 else 2
        for split in SPLITS:
            for number in products:
                settings: dict[str, Knob] = {
                    "tile": tile, "depth": depth, "warps": count, "stages": stages,
                    "copies": copies, "split": split, "taps": taps, "resident": 1,
                }  # fmt: skip
                if unit == "tensor_cores":
                    settings["products"] = number
                yield Variant.of(**settings)
