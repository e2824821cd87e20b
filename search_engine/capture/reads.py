"""Of a tensor that an operator is given, the share of the elements that it has to read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from search_engine.capture.necessary import TRIANGLES, triangle_share


def read_share(name: str, args: tuple[Any, ...], position: int) -> float:
    """At least this share of the ``position``-th tensor argument, by the operator's name.

    Shapes alone are read by ``zeros_like``, one side of a diagonal by ``tril``, one of two
    tensors, perhaps, by ``where``, and not every element by windows that step further than
    they reach.
    """
    if name.endswith("_like") or name.startswith("new_"):
        return 0.0
    tensors = [a for a in args if isinstance(a, torch.Tensor)]
    if name == "where" and len(tensors) == 3 and position > 0:  # the values may all choose one
        one, other = tensors[1].numel(), tensors[2].numel()
        return min(1.0, other / max(1, one)) if position == 1 else 0.0
    if position > 0 or not tensors:
        return 1.0
    first = tensors[0]
    if name in TRIANGLES and first.dim() >= 2:
        diagonal = args[1] if len(args) > 1 else 0
        rows, columns = first.shape[-2:]
        return triangle_share(name, rows, columns, diagonal)
    if "convolution" in name and len(args) > 6 and not args[6]:
        return _windows(args[1].shape[2:], args[3])
    if "pool" in name and "adaptive" not in name and len(args) > 1:
        stride = args[2] if len(args) > 2 and args[2] else args[1]
        return _windows(_each(args[1]), _each(stride))
    return 1.0


def _each(value: Any) -> Sequence[int]:
    return value if isinstance(value, (list, tuple)) else (value,)


def _windows(reach: Sequence[int], stride: Sequence[int]) -> float:
    """Elements that windows of ``reach`` touch of those that they step over."""
    steps = [stride[min(place, len(stride) - 1)] for place in range(len(reach))]
    return math.prod(min(1.0, r / s) for r, s in zip(reach, steps, strict=True))
