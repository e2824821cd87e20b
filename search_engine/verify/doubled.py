"""The module in fp64: what every error is measured against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from search_engine.capture.call import Call, map_tensors
from search_engine.capture.captured import Captured, change_module, state_of

_NARROW = (torch.float32, torch.float16, torch.bfloat16)


class NoReference(Exception):
    """The module does not run in fp64; the message says why."""


class _Widen(TorchDispatchMode):
    """Turns every dtype that forward asks for by name into fp64: ``x.float()``, factories."""

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        wide = {k: torch.float64 if v in _NARROW else v for k, v in (kwargs or {}).items()
                if not isinstance(v, torch.Tensor)}  # fmt: skip
        tensors = {k: v for k, v in (kwargs or {}).items() if isinstance(v, torch.Tensor)}
        positional = tuple(
            torch.float64 if isinstance(a, torch.dtype) and a in _NARROW else a for a in args
        )
        return func(*positional, **wide, **tensors)


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.dtype in _NARROW else tensor


class Doubled:
    """A copy of a captured module in fp64 that follows the original's parameters."""

    def __init__(self, captured: Captured) -> None:
        self._captured = captured
        self._module = change_module(captured.copied_module(), _widened)

    def run(self, call: Call) -> dict[str, torch.Tensor]:
        """fp64 outputs by contract name. Raises NoReference."""
        mine = state_of(self._module)
        default = torch.get_default_dtype()
        with torch.no_grad():
            for name, (_, tensor) in state_of(self._captured.module).items():
                mine[name][1].copy_(tensor)
        wide = map_tensors(self._captured.module.forward, call, lambda _, t: _widened(t))
        try:
            torch.set_default_dtype(torch.float64)
            with _Widen():
                outputs = self._captured.run(wide, self._module)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise NoReference(f"{type(error).__name__}: {reason}") from error
        finally:
            torch.set_default_dtype(default)
        for name, tensor in outputs.items():
            if tensor.dtype in _NARROW:
                raise NoReference(f"forward fixes the dtype of {name}")
        return outputs
