"""One call of a module: arguments, and their tensors by contract name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from attrs import field, frozen


@frozen
class Call:
    """Arguments of ``forward``."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(factory=dict)


def leaves(forward: Callable[..., Any], call: Call) -> Iterator[tuple[str, Any]]:
    """(contract name, value) of every argument given, in the order of the signature.

    A list or a dict gives one leaf per item: ``xs.0``, ``state.h``. Raises TypeError where
    the arguments do not fit the signature.
    """
    for name, value in _by_parameter(forward, call):
        yield from _flatten(name, value)


def map_tensors(
    forward: Callable[..., Any], call: Call, change: Callable[[str, torch.Tensor], torch.Tensor]
) -> Call:
    """The same call with each tensor replaced by ``change(name, tensor)``."""
    bound = inspect.signature(forward).bind(*call.args, **call.kwargs)
    for name, parameter in bound.signature.parameters.items():
        if name not in bound.arguments:
            continue
        value = bound.arguments[name]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            bound.arguments[name] = {k: _rebuild(k, v, change) for k, v in value.items()}
        else:
            bound.arguments[name] = _rebuild(name, value, change)
    return Call(bound.args, bound.kwargs)


def _by_parameter(forward: Callable[..., Any], call: Call) -> Iterator[tuple[str, Any]]:
    bound = inspect.signature(forward).bind(*call.args, **call.kwargs)
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            yield from value.items()
        else:
            yield name, value


def _flatten(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _flatten(f"{name}.{index}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(f"{name}.{key}", item)
    else:
        yield name, value


def _rebuild(name: str, value: Any, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(name, value)
    if isinstance(value, (list, tuple)):
        items = [_rebuild(f"{name}.{i}", item, change) for i, item in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: _rebuild(f"{name}.{key}", item, change) for key, item in value.items()}
    return value
