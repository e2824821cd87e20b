"""One call of a module: arguments, and their tensors by contract name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from attrs import field, frozen

from search_engine.errors import CaptureError


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


def output_leaves(result: Any) -> dict[str, torch.Tensor]:
    """A forward's result by contract name: ``out``, ``out.0``, ``out.<key>``.

    Raises CaptureError where it is neither a tensor nor a tuple, list or dict of tensors.
    """
    if isinstance(result, torch.Tensor):
        return {"out": result}
    items: Mapping[Any, Any]
    if type(result) in (tuple, list):
        items = dict(enumerate(result))
    elif type(result) is dict:
        items = result
    else:
        raise CaptureError(
            f"forward returns {type(result).__name__}: a tensor, or a tuple, list or dict of "
            "tensors is needed."
        )
    for key, value in items.items():
        if not isinstance(value, torch.Tensor):
            raise CaptureError(
                f"forward returns {type(value).__name__} at [{key!r}]: every item must be a tensor."
            )
    if not items:
        raise CaptureError("forward returns nothing: it must return at least one tensor.")
    return {f"out.{key}": value for key, value in items.items()}


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
