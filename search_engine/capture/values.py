"""Values for inputs and parameters: the distributions that verification draws from.

Integers and bools keep their observed range whatever the distribution; values that are
structure (infinities of an additive mask) are never replaced.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import attrs
import torch
from attrs import frozen

Domain: TypeAlias = Literal["any", "positive", "unit"]
DOMAINS: tuple[Domain, ...] = ("any", "positive", "unit")  # each within the one before

# "default": the user's own values. The others are for floating inputs.
DISTRIBUTIONS = (
    "default", "normal", "uniform", "mean1000", "wide", "tiny", "x10", "large", "shift", "ties",
)  # fmt: skip


@frozen
class Leaf:
    """An input tensor and what is known of its values.

    ``low`` and ``high`` bound integers (observed, or from the comment) and, from the comment
    alone, floats. ``fixed``: the user's own values stay, whatever the distribution.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    low: float | None = None
    high: float | None = None
    share: float = 0.5  # of True in a bool
    nonnegative: bool = False
    within_unit: bool = False
    fixed: bool = False


def observe(name: str, tensor: torch.Tensor) -> Leaf:
    """The leaf that ``tensor`` is a sample of."""
    leaf = Leaf(name, tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()))
    if tensor.numel() == 0:
        return leaf
    if tensor.dtype is torch.bool:
        return attrs.evolve(leaf, share=float(tensor.double().mean()))
    low, high = (float(v) for v in torch.aminmax(tensor.detach()))
    if not tensor.dtype.is_floating_point:
        return attrs.evolve(leaf, low=low, high=high)
    return attrs.evolve(
        leaf,
        nonnegative=low >= 0,
        within_unit=low >= 0 and high <= 1,
        fixed=not (math.isfinite(low) and math.isfinite(high)),
    )


def empty_like(leaf: Leaf, device: str) -> torch.Tensor:
    """Memory of the leaf's shape and strides, gaps included; expanded where a stride is 0."""
    once = tuple(1 if step == 0 else s for s, step in zip(leaf.shape, leaf.stride, strict=True))
    tensor = torch.empty_strided(once, leaf.stride, dtype=leaf.dtype, device=device)
    return tensor.expand(leaf.shape)


def overlaps(tensor: torch.Tensor) -> bool:
    """Whether different elements share memory other than by expansion (stride 0)."""
    sized = zip(tensor.stride(), tensor.shape, strict=True)
    span = 1
    for step, size in sorted((step, size) for step, size in sized if step and size > 1):
        if step < span:
            return True
        span += step * (size - 1)
    return False


def draw(leaf: Leaf, distribution: str, domain: Domain, seed: int, device: str) -> torch.Tensor:
    """A fresh tensor of the leaf; the same for the same arguments on one kind of device."""
    generator = torch.Generator(device=device).manual_seed(seed)
    out = empty_like(leaf, device)
    target = out  # without expanded dimensions
    for dim, step in enumerate(leaf.stride):
        target = target.narrow(dim, 0, 1) if step == 0 and leaf.shape[dim] > 1 else target
    shape = tuple(target.shape)
    if leaf.dtype is torch.bool:
        target.copy_(torch.rand(shape, generator=generator, device=device) < leaf.share)
    elif not leaf.dtype.is_floating_point:
        low = 0 if leaf.low is None else int(leaf.low)
        high = 9 if leaf.high is None else int(leaf.high)
        target.random_(low, high + 1, generator=generator)
    else:
        numbers = _floats(shape, leaf.dtype, distribution, generator, device)
        if leaf.low is not None and leaf.high is not None:
            numbers = _fold(numbers, leaf.low, leaf.high)
        elif domain == "unit":
            numbers = _fold(numbers, 0.0, 1.0)
        elif domain == "positive":
            numbers = numbers.abs_()
        target.copy_(numbers)
    return out


def _floats(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    distribution: str,
    generator: torch.Generator,
    device: str,
) -> torch.Tensor:
    values = torch.empty(shape, dtype=dtype, device=device)
    narrow = dtype is torch.float16  # largest 65504, least normal 6.1e-5
    if distribution in ("uniform", "wide"):
        values.uniform_(generator=generator)
        if distribution == "uniform":
            return values.mul_(2).sub_(1)
        decades = 2.0 if narrow else 4.0
        signs = torch.empty_like(values).bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
        return torch.pow(10.0, values.mul_(2 * decades).sub_(decades)).mul_(signs)
    values.normal_(generator=generator)
    if distribution == "ties":  # zeros, equal neighbours, clamp edges hit exactly
        return values.mul_(2).round_().div_(2)
    scale, shift = {
        "default": (1.0, 0.0),
        "normal": (1.0, 0.0),
        "mean1000": (1.0, 1000.0),
        "tiny": (1e-3 if narrow else 1e-6, 0.0),
        "x10": (10.0, 0.0),
        "large": (100.0, 0.0),
        "shift": (1.0, 3.0),
    }[distribution]
    return values.mul_(scale).add_(shift)


def _fold(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Reflect at the bounds, so that every distribution keeps its variety within them."""
    width = high - low
    if width == 0:
        return torch.full_like(values, low)
    folded = values.double().sub_(low - width).remainder_(2 * width).sub_(width).abs_().add_(low)
    return folded.clamp_(low, high).to(values.dtype)


def is_structure(name: str, tensor: torch.Tensor, *, parameter: bool) -> bool:
    """Whether a parameter's or buffer's values mean something that must stay.

    Integers, bools and infinities always do; zeros and ones mixed in a buffer are a mask.
    """
    if not tensor.dtype.is_floating_point:
        return True
    if tensor.numel() == 0 or not bool(torch.isfinite(tensor).all()):
        return True
    if parameter:
        return False
    zeros, ones = tensor == 0, tensor == 1
    return bool((zeros | ones).all() and zeros.any() and ones.any())


def randomise(tensor: torch.Tensor, original: torch.Tensor, seed: int) -> None:
    """Fill a parameter or buffer with fresh values of the original's kind and scale.

    Positive ones stay positive (a variance, a scale); constant ones (a bias of zeros) get
    a spread, so that leaving one out shows in the result.
    """
    device = str(tensor.device)
    generator = torch.Generator(device=device).manual_seed(seed)
    noise = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    noise.normal_(generator=generator)
    source = original.detach().float()
    with torch.no_grad():
        if bool((source > 0).all()):
            tensor.copy_(original.to(device) * torch.exp(0.4 * noise.clamp_(-3, 3)))
            return
        mean = float(source.mean())
        std = float(source.std(correction=0))
        tensor.copy_(noise * (std if std > 0 else max(0.3 * abs(mean), 0.1)) + mean)
