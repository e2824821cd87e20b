"""Operators that move whole elements, as the views and joins that they are.

``REARRANGED`` holds the rules: shuffles of channels and pixels, enlargement by whole factors,
rotation, and the paddings that repeat the image's own elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from search_engine.graph import Argument, Ref
from search_engine.playbook.decompose import Builder, Rule, Shape
from search_engine.playbook.program import Unsupported


def _pixel_shuffle(b: Builder) -> Ref:
    """[…, C·r², H, W] → […, C, H·r, W·r]."""
    x, r = b.ref(0, "self"), int(b.number(1, "upscale_factor", 1))
    *lead, channels, height, width = b.shape(x)
    n = len(lead)
    split = b.view(x, (*lead, channels // r**2, r, r, height, width))
    return b.view(_permuted(b, split, (*range(n + 1), n + 3, n + 1, n + 4, n + 2)), b.node.shape)


def _pixel_unshuffle(b: Builder) -> Ref:
    """[…, C, H·r, W·r] → […, C·r², H, W]."""
    x, r = b.ref(0, "self"), int(b.number(1, "downscale_factor", 1))
    *lead, channels, height, width = b.shape(x)
    n = len(lead)
    split = b.view(x, (*lead, channels, height // r, r, width // r, r))
    return b.view(_permuted(b, split, (*range(n + 1), n + 2, n + 4, n + 1, n + 3)), b.node.shape)


def _channel_shuffle(b: Builder) -> Ref:
    """Channels [groups, n] → [n, groups]."""
    x, groups = b.ref(0, "self"), int(b.number(1, "groups", 1))
    batch, channels, *rest = b.shape(x)
    split = b.view(x, (batch, groups, channels // groups, *rest))
    return b.view(_permuted(b, split, (0, 2, 1, *range(3, 3 + len(rest)))), b.node.shape)


def _upsample_nearest(b: Builder) -> Ref:
    """Every element as often as the size grows by, a whole number in each dimension."""
    x = b.ref(0, "input")
    before, after = b.shape(x), b.node.shape
    scales = [factor for factor in b.node.args[1:] if isinstance(factor, tuple)]
    whole = all(new % old == 0 for old, new in zip(before, after, strict=True))
    # A given scale need not be the quotient of the sizes (2.3 of 3 gives 6): torch goes by it.
    for given in scales[-1:]:
        factors = [new / old for old, new in zip(before[2:], after[2:], strict=True)]
        numbers = [v for v in given if isinstance(v, float)]
        whole = whole and (not numbers or numbers == factors)
    if not whole:
        raise Unsupported(f"No playbook idea covers {b.node.op} by factors that are not whole.")
    return _repeated(b, x, [new // old for old, new in zip(before, after, strict=True)])


def _repeat_interleave(b: Builder) -> Ref:
    """``repeat_interleave(x, n, dim)``: every element n times, one after the other."""
    x, times, dim = b.ref(0, "self"), b.given(1, "repeats"), b.given(2, "dim")
    if not isinstance(times, int):
        raise Unsupported(f"No playbook idea covers {b.node.op} by several counts.")
    if dim is None:
        x = b.view(x, (math.prod(b.shape(x)),))
        dim = 0
    assert isinstance(dim, int)
    rank = b.rank(x)
    return _repeated(b, x, [times if d == dim % rank else 1 for d in range(rank)])


def _repeated(b: Builder, x: Ref, factors: Sequence[int]) -> Ref:
    """Every element ``factors`` times along each dimension, copies side by side."""
    pairs = list(zip(b.shape(x), factors, strict=True))
    apart = tuple(s for n, f in pairs for s in ((n, 1) if f > 1 else (n,)))
    wide = tuple(s for n, f in pairs for s in ((n, f) if f > 1 else (n,)))
    return b.view(_expand(b, b.view(x, apart), wide), b.node.shape)


def _repeat(b: Builder) -> Ref:
    """``repeat(x, counts)``: the whole tensor side by side."""
    x = b.ref(0, "self")
    counts = _numbers(b.given(1, "dims" if "tile" in b.node.op else "repeats"))
    counts = (1,) * (b.rank(x) - len(counts)) + counts  # torch.tile may give fewer
    shape = (1,) * (len(counts) - b.rank(x)) + b.shape(x)
    pairs = list(zip(shape, counts, strict=True))
    apart = tuple(s for n, c in pairs for s in ((1, n) if c > 1 else (n,)))
    wide = tuple(s for n, c in pairs for s in ((c, n) if c > 1 else (n,)))
    return b.view(_expand(b, b.view(x, apart), wide), b.node.shape)


def _roll(b: Builder) -> Ref:
    """``roll(x, shifts, dims)``: what leaves at one end comes in at the other."""
    x = b.ref(0, "self")
    shifts, dims = _numbers(b.given(1, "shifts")), _numbers(b.given(2, "dims", ()))
    shape = b.shape(x)
    if not dims:
        x, dims = b.view(x, (math.prod(shape),)), (0,)
    for shift, dim in zip(shifts, dims, strict=True):
        size = b.shape(x)[dim]
        cut = -shift % size
        if cut:
            x = _joined(b, [_slice(b, x, dim, cut, size), _slice(b, x, dim, 0, cut)], dim)
    return b.view(x, shape)


def _pad(b: Builder) -> Ref:
    """``pad(x, amounts, mode)`` other than by a constant; the last dimension's amounts first."""
    x, mode = b.ref(0, "self"), b.given(2, "mode", "constant")
    if mode == "constant":  # a join by itself
        return b.unchanged()
    amounts = _numbers(b.given(1, "pad"))
    for number, (before, after) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
        dim = b.rank(x) - 1 - number
        size = b.shape(x)[dim]
        if before < 0 or after < 0:
            raise Unsupported(f"No playbook idea covers {b.node.op} by less than nothing.")
        if mode == "reflect":
            first = _flipped(b, x, dim, 1, before + 1)
            last = _flipped(b, x, dim, size - 1 - after, size - 1)
        elif mode == "circular":
            first = _slice(b, x, dim, size - before, size)
            last = _slice(b, x, dim, 0, after)
        else:
            first, last = _slice(b, x, dim, 0, 1), _slice(b, x, dim, size - 1, size)
            first = _expand(b, first, _changed(b.shape(x), dim, before))
            last = _expand(b, last, _changed(b.shape(x), dim, after))
        pieces = [(first, before), (x, size), (last, after)]
        x = _joined(b, [piece for piece, length in pieces if length], dim)
    return b.view(x, b.node.shape)


# --- pieces ---------------------------------------------------------------------------------


def _permuted(b: Builder, x: Ref, order: Sequence[int]) -> Ref:
    shape = tuple(b.shape(x)[d] for d in order)
    return b.add("aten.permute.default", x, tuple(order), shape=shape, dtype=b.tensor(x).dtype)


def _changed(shape: Shape, dim: int, size: int) -> Shape:
    return (*shape[:dim], size, *shape[dim % len(shape) + 1 :])


def _slice(b: Builder, x: Ref, dim: int, begin: int, end: int) -> Ref:
    shape = _changed(b.shape(x), dim, end - begin)
    return b.add("aten.slice.Tensor", x, dim, begin, end, shape=shape, dtype=b.tensor(x).dtype)


def _flipped(b: Builder, x: Ref, dim: int, begin: int, end: int) -> Ref:
    part = _slice(b, x, dim, begin, end)
    shape, dtype = b.shape(part), b.tensor(x).dtype
    return b.add("aten.flip.default", part, (dim,), shape=shape, dtype=dtype)


def _expand(b: Builder, x: Ref, shape: Shape) -> Ref:
    return b.add("aten.expand.default", x, shape, shape=shape, dtype=b.tensor(x).dtype)


def _joined(b: Builder, pieces: Sequence[Ref], dim: int) -> Ref:
    shape = _changed(b.shape(pieces[0]), dim, sum(b.shape(piece)[dim] for piece in pieces))
    dtype = b.tensor(pieces[0]).dtype
    return b.add("aten.cat.default", tuple(pieces), dim, shape=shape, dtype=dtype)


def _numbers(value: Argument) -> tuple[int, ...]:
    listed = value if isinstance(value, tuple) else (value,)
    numbers = tuple(v for v in listed if isinstance(v, int))
    assert len(numbers) == len(listed), f"{value!r} are no whole numbers"
    return numbers


REARRANGED: dict[str, Rule] = {
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "upsample_nearest1d": _upsample_nearest,
    "upsample_nearest2d": _upsample_nearest,
    "upsample_nearest3d": _upsample_nearest,
    "repeat_interleave": _repeat_interleave,
    "repeat": _repeat,
    "tile": _repeat,
    "roll": _roll,
    "pad": _pad,
}
