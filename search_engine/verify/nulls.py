"""Null kernels: outputs that cost nothing. A check that they pass proves nothing.

Zeros, the mean everywhere, a copy of an input. A draw tells them from the real thing
where their error is over the bound; at least one draw must do so for each.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch


class NullKernels:
    """Which null kernels some draw has told from the real output."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], bool] = {}  # (output, null kernel) → told apart

    def add(
        self,
        output: str,
        tensors: Mapping[str, torch.Tensor],
        exact: torch.Tensor,
        bound: float,
        *,
        finite: bool,
    ) -> None:
        """Take in one draw of an fp64 reference, ``finite`` where it is so throughout.

        ``tensors`` are what the kernel could read, by contract name. Null kernels that an
        earlier draw told apart are not run again.
        """
        if not exact.numel() or not self._open(output, tensors, exact):
            return
        if not finite:
            where = torch.isfinite(exact)
            exact = torch.where(where, exact, 0.0)
        norm = float(torch.linalg.vector_norm(exact))
        zero = torch.zeros((), dtype=exact.dtype, device=exact.device)
        nulls = {"zeros": zero}
        if exact.numel() > 1:
            nulls["its mean everywhere"] = exact.mean()
        nulls |= {f"a copy of {name}": t for name, t in tensors.items() if _like(t, exact)}
        for name, null in nulls.items():
            if self._seen.get((output, name)):
                continue
            difference = exact - null
            if not finite:
                difference = torch.where(where, difference, 0.0)
            error = float(torch.linalg.vector_norm(difference))
            self._seen[output, name] = error > bound * norm

    def _open(self, output: str, tensors: Mapping[str, torch.Tensor], exact: torch.Tensor) -> bool:
        names = ["zeros"] + ["its mean everywhere"] * (exact.numel() > 1)
        names += [f"a copy of {name}" for name, t in tensors.items() if _like(t, exact)]
        return not all(self._seen.get((output, name)) for name in names)

    def notes(self) -> tuple[str, ...]:
        """What the user should know: null kernels that every draw would have let pass."""
        return tuple(
            f"{output} equals {name} on every draw: the module does no more than that"
            for (output, name), told in self._seen.items()
            if not told
        )


def _like(tensor: torch.Tensor, exact: torch.Tensor) -> bool:
    return tensor.shape == exact.shape and tensor.is_floating_point()
