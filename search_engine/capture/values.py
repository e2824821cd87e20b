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
    """Memory of the leaf's shape and stride; row-major where its strides overlap."""
    tensor = torch.empty_strided(leaf.shape, leaf.stride, dtype=leaf.dtype, device=device)
    dense = tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()
    return tensor if dense else torch.empty(leaf.shape, dtype=leaf.dtype, device=device)


def draw(leaf: Leaf, distribution: str, domain: Domain, seed: int, device: str) -> torch.Tensor:
    """A fresh tensor of the leaf; the same for the same arguments on one kind of device."""
    generator = torch.Generator(device=device).manual_seed(seed)
    out = empty_like(leaf, device)
    if leaf.dtype is torch.bool:
        return out.copy_(torch.rand(leaf.shape, generator=generator, device=device) < leaf.share)
    if not leaf.dtype.is_floating_point:
        low = 0 if leaf.low is None else int(leaf.low)
        high = 9 if leaf.high is None else int(leaf.high)
        return out.random_(low, high + 1, generator=generator)
    values = _floats(leaf, distribution, generator, device)
    if leaf.low is not None and leaf.high is not None:
        values = _fold(values, leaf.low, leaf.high)
    elif domain == "unit":
        values = _fold(values, 0.0, 1.0)
    elif domain == "positive":
        values = values.abs_()
    return out.copy_(values)


def _floats(leaf: Leaf, distribution: str, generator: torch.Generator, device: str) -> torch.Tensor:
    dtype = leaf.dtype
    values = torch.empty(leaf.shape, dtype=dtype, device=device)
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
