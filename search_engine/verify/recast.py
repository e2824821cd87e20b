"""The module in another precision: fp64, which every error is measured against, and fp32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from search_engine.capture.call import Call, map_tensors
from search_engine.capture.captured import Captured, change_module, state_of

NARROW = (torch.float32, torch.float16, torch.bfloat16)


class CannotRecast(Exception):
    """The module does not run in that precision; the message says why."""


class _Fixed(TorchDispatchMode):
    """Turns every dtype that forward asks for by name: ``x.float()``, factories."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self._change = change

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = {name: self._change(value) for name, value in (kwargs or {}).items()}
        return func(*(self._change(value) for value in args), **named)


class Recast:
    """A copy of a captured module in another precision that follows the original's parameters.

    Tensors of the dtypes ``before`` become ``dtype``: inputs, parameters, buffers, and what
    ``forward`` makes by naming a dtype.
    """

    def __init__(
        self, captured: Captured, before: tuple[torch.dtype, ...], dtype: torch.dtype
    ) -> None:
        self._captured = captured
        self._before, self._dtype = before, dtype
        self._module = change_module(captured.copied_module(), self._cast)

    @classmethod
    def doubled(cls, captured: Captured) -> Recast:
        """In fp64."""
        return cls(captured, NARROW, torch.float64)

    @classmethod
    def narrowed(cls, captured: Captured) -> Recast:
        """One precision below fp64: what is fp64 becomes fp32."""
        return cls(captured, (torch.float64,), torch.float32)

    def run(self, call: Call) -> dict[str, torch.Tensor]:
        """Outputs by contract name. Raises CannotRecast."""
        mine = state_of(self._module)
        default = torch.get_default_dtype()
        with torch.no_grad():
            for name, (_, tensor) in state_of(self._captured.module).items():
                mine[name][1].copy_(tensor)
        cast = map_tensors(self._captured.module.forward, call, lambda _, t: self._cast(t))
        try:
            torch.set_default_dtype(self._dtype)
            full = _full_float32() if self._dtype is torch.float32 else nullcontext()
            with full, _Fixed(self._named):
                outputs = self._captured.run(cast, self._module)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise CannotRecast(f"{type(error).__name__}: {reason}") from error
        finally:
            torch.set_default_dtype(default)
        for name, tensor in outputs.items():
            if tensor.dtype in self._before:
                raise CannotRecast(f"forward fixes the dtype of {name}")
        return outputs

    def _cast(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._dtype) if tensor.dtype in self._before else tensor

    def _named(self, value: Any) -> Any:
        return self._dtype if isinstance(value, torch.dtype) and value in self._before else value


@contextmanager
def _full_float32() -> Iterator[None]:
    """fp32 products in fp32, whatever the user's flags: TF32 is no precision below fp64.

    Set through torch's newer settings, which can be read and put back also where the user
    mixed both kinds.
    """
    backends: Any = torch.backends
    places = (
        *(backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn),
        *(backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn),
    )
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision
