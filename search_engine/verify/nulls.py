"""Null kernels: outputs that cost nothing. A check that they pass proves nothing.

Zeros, the mean everywhere, a copy of an input. A draw tells them from the real thing
where their error is over the bound; at least one draw must do so for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch


def nulls(
    tensors: Mapping[str, torch.Tensor], exact: torch.Tensor
) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, output) of every null kernel for an output with that fp64 reference.

    ``tensors`` are what the kernel could read, by contract name.
    """
    finite = torch.isfinite(exact)
    yield "zeros", torch.zeros((), dtype=exact.dtype, device=exact.device).expand(exact.shape)
    if bool(finite.any()):
        yield "its mean everywhere", exact[finite].mean().expand(exact.shape)
    for name, tensor in tensors.items():
        if tensor.shape == exact.shape and tensor.is_floating_point():
            yield f"a copy of {name}", tensor


class NullKernels:
    """Which null kernels some draw has told from the real output."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], bool] = {}  # (output, null kernel) → told apart

    def add(
        self, output: str, tensors: Mapping[str, torch.Tensor], exact: torch.Tensor, bound: float
    ) -> None:
        """Take in one draw. Null kernels that an earlier draw told apart are not run again."""
        if not exact.is_floating_point() or not exact.numel():
            return
        finite = torch.where(torch.isfinite(exact), exact, 0.0)
        norm = float(torch.linalg.vector_norm(finite))
        for name, null in nulls(tensors, exact):
            if self._seen.get((output, name)):
                continue
            difference = torch.where(torch.isfinite(exact), null.double() - finite, 0.0)
            error = float(torch.linalg.vector_norm(difference))
            self._seen[output, name] = error > bound * norm

    def notes(self) -> tuple[str, ...]:
        """What the user should know: null kernels that every draw would have let pass."""
        return tuple(
            f"{output} equals {name} on every draw: the module does no more than that"
            for (output, name), told in self._seen.items()
            if not told
        )
