"""A call's arguments by name, as they were verified. Plain Python that Dynamo traces through."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch


class Parameters(NamedTuple):
    """What the forward as written takes, without self."""

    positional: tuple[str, ...]  # those that may be given by position
    keywords: tuple[str, ...]  # the keyword-only ones
    rest: str | None  # the name behind *
    others: bool  # whether there is a **
    defaults: dict[str, Any]


def parameters_of(forward: Callable[..., Any]) -> Parameters:
    """The parameters of a forward as written."""
    named = list(inspect.signature(forward).parameters.values())[1:]
    return Parameters(
        tuple(p.name for p in named if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)),
        tuple(p.name for p in named if p.kind is p.KEYWORD_ONLY),
        next((p.name for p in named if p.kind is p.VAR_POSITIONAL), None),
        any(p.kind is p.VAR_KEYWORD for p in named),
        {p.name: p.default for p in named if p.default is not p.empty},
    )


def bound(
    parameters: Parameters,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    others: dict[str, Any],
) -> bool:
    """Sort arguments by name (``x``, ``xs.0``); False where the signature does not take them."""
    positional = parameters.positional
    values = dict(zip(positional, args, strict=False))
    if len(args) > len(positional):
        if parameters.rest is None:
            return False
        values[parameters.rest] = args[len(positional) :]
    for name, value in kwargs.items():
        known = name in positional or name in parameters.keywords or parameters.others
        if name in values or not known:
            return False
        values[name] = value
    for name, value in parameters.defaults.items():
        if name not in values:
            values[name] = value
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            tensors[name] = value
        elif isinstance(value, list | tuple | dict):
            _flatten(name, value, tensors, others)
        else:
            others[name] = value
    return True


def same_values(defaults: dict[str, Any], others: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether arguments that are no tensors have the values that were verified."""
    found = 0
    for name, value in others.items():
        if name in wanted:
            if type(value) is not type(wanted[name]) or value != wanted[name]:
                return False
            found += 1
        elif name not in defaults or value is not defaults[name]:
            return False
    return found == len(wanted)


def _flatten(
    name: str, value: Any, tensors: dict[str, torch.Tensor], others: dict[str, Any]
) -> None:
    """The items of a list or dict by name (``xs.0``, ``state.h``)."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _flatten(f"{name}.{index}", item, tensors, others)
    elif isinstance(value, dict):
        for key, item in value.items():
            _flatten(f"{name}.{key}", item, tensors, others)
    elif isinstance(value, torch.Tensor):
        tensors[name] = value
    else:
        others[name] = value
