"""Transposed convolutions as products and convolutions of an image with gaps.

``TRANSPOSED`` holds the rules (Dumoulin and Visin, *A guide to convolution arithmetic for deep
learning*, 2016, chapter 4).
"""

from __future__ import annotations

from search_engine.graph import Ref
from search_engine.playbook.contractions import each
from search_engine.playbook.decompose import Builder, Rule
from search_engine.playbook.program import Unsupported


def _transposed(b: Builder) -> Ref:
    """``conv_transposeNd(x, weight, bias, stride, padding, output_padding, groups, dilation)``."""
    x, weight, bias = b.ref(0, "input"), b.ref(1, "weight"), b.given(2, "bias")
    rank = b.rank(weight) - 2
    stride, padding, behind, dilation = (
        each(b.given(at, key, default), rank)
        for at, key, default in (
            (3, "stride", 1), (4, "padding", 0), (5, "output_padding", 0), (7, "dilation", 1),
        )
    )  # fmt: skip
    groups = int(b.number(6, "groups", 1))
    if b.rank(x) == rank + 1:
        x = b.view(x, (1, *b.shape(x)))
    taps = b.shape(weight)[2:]
    if groups == 1 and list(taps) == stride and not any(padding) and not any(behind):
        return _patches(b, x, weight, bias)
    if any(d * (k - 1) < p for d, k, p in zip(dilation, taps, padding, strict=True)):
        raise Unsupported(f"No playbook idea covers {b.node.op} with more padding than taps.")
    return _convolved(b, x, weight, bias, stride, padding, behind, dilation, groups)


def _patches(b: Builder, x: Ref, weight: Ref, bias: object) -> Ref:
    """Taps as wide as the stride: every pixel becomes a patch that no other one reaches."""
    batch, _, *size = b.shape(x)
    _, out, *taps = b.shape(weight)
    rank = len(size)
    names, patch = "hwd"[:rank], "xyz"[:rank]
    woven = "".join(a + c for a, c in zip(names, patch, strict=True))
    shape = (batch, out, *(n for pair in zip(size, taps, strict=True) for n in pair))
    product = b.add(
        "aten.einsum.default", f"nc{names},co{patch}->no{woven}", (x, weight),
        shape=shape, dtype=b.work,
    )  # fmt: skip
    if isinstance(bias, Ref):
        product = b.plus(product, b.along(bias, 1, len(shape)))
    return b.view(product, b.node.shape)


def _convolved(
    b: Builder, x: Ref, weight: Ref, bias: object, stride: list[int], padding: list[int],
    behind: list[int], dilation: list[int], groups: int,
) -> Ref:  # fmt: skip
    """The image with stride − 1 zeros between its pixels, convolved with the taps turned over."""
    batch, channels, *size = b.shape(x)
    rank, dtype = len(size), b.tensor(x).dtype
    _, out, *taps = b.shape(weight)
    gaps = [step - 1 for step in stride]
    if any(gaps):
        apart = b.view(x, (batch, channels, *(s for n in size for s in (n, 1))))
        amounts = tuple(a for gap in reversed(gaps) for a in (0, gap, 0, 0))
        wide = (
            batch,
            channels,
            *(s for n, step in zip(size, stride, strict=True) for s in (n, step)),
        )
        apart = b.add("aten.constant_pad_nd.default", apart, amounts, shape=wide, dtype=dtype)
        x = b.view(apart, (batch, channels, *(n * s for n, s in zip(size, stride, strict=True))))
    # Room for every tap that reaches a pixel, less the gap behind the last one; what torch
    # crops from the front is not made.
    before = [d * (k - 1) - p for d, k, p in zip(dilation, taps, padding, strict=True)]
    after = [at + more - gap for at, more, gap in zip(before, behind, gaps, strict=True)]
    if any(before) or any(after):
        amounts = tuple(a for pair in reversed(list(zip(before, after, strict=True))) for a in pair)
        shape = tuple(
            n + one + two for n, one, two in zip(b.shape(x)[2:], before, after, strict=True)
        )
        shape = (batch, channels, *shape)
        x = b.add("aten.constant_pad_nd.default", x, amounts, shape=shape, dtype=dtype)
    # [groups · c, out, …] → [groups · out, c, …], turned over.
    own = b.tensor(weight).dtype
    each_group = (groups, channels // groups, out, *taps)
    turned = b.view(weight, each_group)
    swapped = (groups, out, channels // groups, *taps)
    turned = b.add("aten.transpose.int", turned, 1, 2, shape=swapped, dtype=own)
    spatial = tuple(range(3, 3 + rank))
    turned = b.add("aten.flip.default", turned, spatial, shape=swapped, dtype=own)
    turned = b.view(turned, (groups * out, channels // groups, *taps))
    full = (batch, groups * out, *b.node.shape[-rank:])
    y = b.add(
        f"aten.conv{rank}d.default", x, turned, bias if isinstance(bias, Ref) else None,
        (1,) * rank, (0,) * rank, tuple(dilation), groups, shape=full, dtype=b.work,
    )  # fmt: skip
    return y if full == b.node.shape else b.view(y, b.node.shape)


TRANSPOSED: dict[str, Rule] = {f"conv_transpose{rank}d": _transposed for rank in (1, 2, 3)}
