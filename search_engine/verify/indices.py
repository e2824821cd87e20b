"""Indices among the outputs: which other index is as right as eager's.

Integers are compared exactly. An index of the largest value is exact too where the values are
the kernel's own inputs: torch documents the first of equal ones (``argmax``, ``argmin``,
``max`` and ``min`` over a dimension), and a comparison rounds nothing. Where the values were
computed, two that lie closer together than eager's own rounding may change places.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from attrs import frozen
from torch.utils._python_dispatch import TorchDispatchMode

from search_engine.verify.bounds import EAGER_FACTOR

# Operators whose result, or second result, is the place of an extreme along a dimension.
_PLACES = {"aten::argmax": None, "aten::argmin": None, "aten::max": 1, "aten::min": 1}


@frozen
class Place:
    """The values that an index points into, along ``dim``; None: into all of them, flat."""

    values: torch.Tensor
    dim: int | None


class Places(TorchDispatchMode):
    """Within it, remembers what indices that torch gives point into."""

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[int, tuple[torch.Tensor, Place]] = {}

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        result = func(*args, **given)
        name = func._schema.name
        if name in _PLACES:
            second = _PLACES[name]
            dim = args[1] if len(args) > 1 else given.get("dim")
            if second is None or isinstance(result, tuple):  # the largest of all has no index
                index = result if second is None else result[second]
                # The index is kept too: its storage is nobody else's as long as it lives.
                self._found[index.untyped_storage().data_ptr()] = index, Place(args[0], dim)
        return result

    def of(self, outputs: Mapping[str, torch.Tensor]) -> dict[str, Place]:
        """The places of outputs that are such indices, views of them included."""
        found = {}
        for name, tensor in outputs.items():
            index, place = self._found.get(
                tensor.untyped_storage().data_ptr() if tensor.numel() else 0, (None, None)
            )
            if place is not None and index is not None and index.numel() == tensor.numel():
                found[name] = place
        return found


def as_right(got: torch.Tensor, eager: torch.Tensor, rounded: Place, exact: Place) -> torch.Tensor:
    """Where an index other than eager's points at a value that rounding may have put first.

    ``rounded`` holds the values as eager computed them, ``exact`` as fp64 did. The two values
    must differ: of equal ones torch documents which is given.
    """
    values, dim = exact.values.double(), exact.dim
    coarse = rounded.values.double()
    if dim is None:
        values, coarse, dim = values.reshape(-1), coarse.reshape(-1), 0
    shape = values.select(dim, 0).shape
    rounding = (values - coarse).abs().nan_to_num().amax(dim)
    chosen = got.reshape(shape).clamp(0, values.shape[dim] - 1)
    apart = _at(values, chosen, dim) - _at(values, eager.reshape(shape), dim)
    # Both values of a kernel that passes may be off by so many times eager's own error.
    near = (apart != 0) & (apart.abs() <= 2 * EAGER_FACTOR * rounding)
    return (near & (chosen == got.reshape(shape))).reshape(got.shape)


def _at(values: torch.Tensor, index: torch.Tensor, dim: int) -> torch.Tensor:
    return values.gather(dim, index.unsqueeze(dim)).squeeze(dim)
