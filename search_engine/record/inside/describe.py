"""Calls in the words of the comment above a class: ``Net(512), x=float32[16, 64]``.

The same text that a person would write there, so that a recorded run and a comment are
read by one reader (``search_engine.capture.comment``). Nothing is pickled: what has no
such text is named as the reason, and what has one can be read, edited and trusted.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LONGEST = 2000  # characters of a description
_DEEPEST = 4


class Undescribed(Exception):
    """What has no text, as a clause: ``the argument `block` is a Block``."""


# --- how a module was made ------------------------------------------------------------


Made = Callable[[Any], "str | None"]  # how one of the user's own modules was made, in words


def construction(cls: type, args: tuple[Any, ...], kwargs: Mapping[str, Any], made: Made) -> str:
    """``Net(512, bias=True)``, with names as the class's own file knows them.

    Raises Undescribed where an argument is neither a literal nor made of what the file
    has names for: classes, functions, enum members, dataclasses, the user's own modules.
    """
    writer = _Writer(vars(sys.modules[cls.__module__]), made)
    parts = [writer.text(value, f"argument {i}") for i, value in enumerate(args, 1)]
    parts += [f"{k}={writer.text(v, f'argument `{k}`')}" for k, v in kwargs.items()]
    return _short(f"{cls.__name__}({', '.join(parts)})")


class _Writer:
    """Writes arguments down as expressions in one file's names."""

    def __init__(self, names: Mapping[str, Any], made: Made) -> None:
        self._names, self._made = names, made

    def text(self, value: Any, what: str, depth: int = 0) -> str:
        if depth > _DEEPEST:
            raise Undescribed(f"its {what} is nested too deep")
        kind = type(value)
        if value is None or kind in (bool, int, str, bytes):
            return repr(value)
        if kind is float:
            return _number(value, what)
        if kind in (list, tuple) and len(value) <= 64:
            return _bracketed([self.text(item, what, depth + 1) for item in value], kind)
        if kind is dict and len(value) <= 64:
            pairs = (
                f"{self.text(k, what, depth + 1)}: {self.text(v, what, depth + 1)}"
                for k, v in value.items()
            )
            return "{" + ", ".join(pairs) + "}"
        if isinstance(value, enum.Enum):
            return f"{self._name(kind, what)}.{value.name}"
        fields = _fields(value)
        if fields is not None:
            given = [f"{k}={self.text(v, what, depth + 1)}" for k, v in fields.items()]
            return f"{self._name(kind, what)}({', '.join(given)})"
        made = self._made(value)
        if made is not None:  # if its file had other names, capture will say so
            return self._name(kind, what) + made[len(kind.__name__) :]
        return self._name(value, what)

    def _name(self, value: Any, what: str) -> str:
        """The name under which the file has an object: ``Config``, ``torch.float16``."""
        own = getattr(value, "__name__", None) or str(value)  # a dtype is "torch.float16"
        module = str(getattr(value, "__module__", None))
        for prefix in ("", "nn", "F", module.rsplit(".", 1)[-1], module):
            path = [*filter(None, prefix.split(".")), *str(own).split(".")]
            if all(part.isidentifier() for part in path) and self._looked_up(path) is value:
                return ".".join(path)
        raise Undescribed(f"its {what} is a {type(value).__name__}")

    def _looked_up(self, path: list[str]) -> Any:
        found = self._names.get(path[0])
        for part in path[1:]:
            found = getattr(found, part, None)
        return found


def _fields(value: Any) -> dict[str, Any] | None:
    """What a dataclass or a named tuple is made of, None for anything else."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value, strict=True))
    return None


def _number(value: float, what: str) -> str:
    if not math.isfinite(value):
        raise Undescribed(f"its {what} is {value}")
    return repr(value)


def _bracketed(items: list[str], kind: type) -> str:
    inside = ", ".join(items)
    if kind is list:
        return f"[{inside}]"
    return f"({inside},)" if len(items) == 1 else f"({inside})"


def conversion(module: torch.nn.Module) -> str:
    """``.half()`` where the parameters are of another floating dtype than ``__init__`` gives."""
    import torch

    dtypes = {p.dtype for p in module.parameters() if p.dtype.is_floating_point}
    if len(dtypes) != 1 or dtypes == {torch.float32}:
        return ""
    named = {torch.float16: ".half()", torch.bfloat16: ".bfloat16()", torch.float64: ".double()"}
    return named.get(dtypes.pop(), "")


def state_digest(module: torch.nn.Module) -> str:
    """What a constructor call gives again or not: names and shapes of parameters and buffers.

    Not by ``state_dict``, whose hooks may gather a sharded module from other processes.
    """
    shapes = {name: list(tensor.shape) for name, tensor in module.named_parameters()}
    shapes |= {name: list(tensor.shape) for name, tensor in module.named_buffers()}
    text = ";".join(f"{name}{shape}" for name, shape in sorted(shapes.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --- what it was called on ------------------------------------------------------------


def inputs(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str, dict[str, tuple[int, ...]]]:
    """``x=float32[16, 64], scale=0.5``, and the strides of what is not contiguous.

    Raises Undescribed.
    """
    try:
        signature = inspect.signature(module.forward)
        bound = signature.bind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise Undescribed(f"its call does not fit forward ({error})") from None
    given: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            given |= value
        else:
            given[name] = value
    strides: dict[str, tuple[int, ...]] = {}
    parts = [f"{name}={_value(name, value, strides)}" for name, value in given.items()]
    return _short(", ".join(parts)), strides


def _value(name: str, value: Any, strides: dict[str, tuple[int, ...]], depth: int = 0) -> str:
    import torch

    if isinstance(value, torch.Tensor):
        return _tensor(name, value, strides)
    if value is None or type(value) in (bool, int, str):
        return repr(value)
    if type(value) is float:
        return _number(value, f"input `{name}`")
    if depth <= _DEEPEST and type(value) in (list, tuple) and len(value) <= 64:
        items = [_value(f"{name}.{i}", v, strides, depth + 1) for i, v in enumerate(value)]
        return _bracketed(items, type(value))
    if depth <= _DEEPEST and type(value) is dict and len(value) <= 64:
        pairs = [f"{k!r}: {_value(f'{name}.{k}', v, strides, depth + 1)}" for k, v in value.items()]
        return "{" + ", ".join(pairs) + "}"
    raise Undescribed(f"its input `{name}` is a {type(value).__name__}")


def _tensor(name: str, value: torch.Tensor, strides: dict[str, tuple[int, ...]]) -> str:
    import torch

    if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.layout is not torch.strided:
        raise Undescribed(f"its input `{name}` is a {type(value).__name__} of {value.layout}")
    if not value.is_contiguous():
        strides[name] = tuple(value.stride())
    text = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    whole = not value.dtype.is_floating_point and not value.dtype.is_complex
    if whole and value.dtype is not torch.bool and value.numel():
        low, high = torch.aminmax(value.detach())  # waits for a GPU: once per shape, not per call
        text += f" in {int(low)}..{int(high)}"
    return text


def _short(text: str) -> str:
    if len(text) > LONGEST:
        raise Undescribed("its arguments are too long to write down")
    return text
