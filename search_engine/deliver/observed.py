"""What a delivered file checks of a module before it runs the kernel. Free of torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from attrs import field, frozen

from search_engine.capture.structure import Slot, Tree
from search_engine.deliver.reached import (
    attribute_names,
    home_of,
    is_function,
    is_user_class,
    literal,
    reachable_fingerprint,
    type_name,
)
from search_engine.errors import DeliveryError


class Arguments(Protocol):
    """A call's arguments, as ``capture`` draws them."""

    @property
    def args(self) -> tuple[Any, ...]:
        """By position."""

    @property
    def kwargs(self) -> dict[str, Any]:
        """By name."""


@frozen
class Observed:
    """A module as it was verified.

    ``modules`` maps submodule paths ("" is the module itself, parents first) to class
    names; ``attributes`` maps dotted names to plain Python values that the kernel may have
    been made for, those of configuration objects too (``config.eps``); ``functions`` are
    attributes that are code (``act``), which ``reached`` covers; ``absent`` are parameters
    and buffers that are None; ``tied`` maps further names of shared ones to the first;
    ``reached`` is the hash of all user code that ``forward`` reaches.
    """

    modules: dict[str, str]
    attributes: dict[str, Any]
    functions: tuple[str, ...]
    absent: tuple[str, ...]
    reached: str
    tied: dict[str, str] = field(factory=dict)


@frozen
class Called:
    """A call as it was verified: arguments that are no tensors, and what came back."""

    arguments: dict[str, Any] = field(factory=dict)
    result: Tree = field(factory=lambda: Slot("out"))


def observe(module: Any, *, texts: Mapping[str, str] | None = None) -> Observed:
    """Look at an ``nn.Module``.

    ``texts`` gives files' texts by path where they differ from the disk (a buffer that is
    not saved). Raises DeliveryError where the source of code that ``forward`` reaches
    cannot be read.
    """
    parts = dict(module.named_modules(remove_duplicate=False))
    kinds = [type(part) for part in parts.values()]
    home = home_of(kinds)
    roots = [kinds[0], *(kind for kind in kinds[1:] if is_user_class(kind, home))]
    used = attribute_names(roots, texts)
    attributes: dict[str, Any] = {}
    functions: dict[str, Any] = {}
    absent: list[str] = []
    for path, part in parts.items():
        prefix = f"{path}." if path else ""
        everything = "*" in used or not is_user_class(type(part), home)
        for name, value in vars(part).items():
            wanted = not name.startswith("_") if everything else name in used
            if wanted and name != "training" and _is_plain(value):
                attributes[prefix + name] = value
            elif wanted and is_function(value):
                functions[prefix + name] = value
            elif wanted:
                for key, item in _plain_fields(value, used):
                    attributes[f"{prefix}{name}.{key}"] = item
        for table in (part._parameters, part._buffers):
            absent += [prefix + name for name, value in table.items() if value is None]
    reached = reachable_fingerprint(roots, tuple(functions.values()), texts)
    if reached is None:
        raise DeliveryError(
            f"The source of code that {kinds[0].__name__}.forward calls cannot be read: "
            "a kernel for it could not tell when that code changes."
        )
    return Observed(
        modules={path: type_name(type(part), home) for path, part in parts.items()},
        attributes=attributes,
        functions=tuple(functions),
        absent=tuple(absent),
        reached=reached,
        tied=_tied(module),
    )


def _tied(module: Any) -> dict[str, str]:
    """Names of parameters and buffers that another name is first for."""
    first = {id(p): name for name, p in (*module.named_parameters(), *module.named_buffers())}
    every = (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    )
    return {name: first[id(tensor)] for name, tensor in every if first[id(tensor)] != name}


def observe_call(module: Any, call: Arguments, result: Tree) -> Called:
    """Look at one call, whose outputs stand in ``result``.

    Raises DeliveryError where an argument is none that a delivered file could check.
    """
    return Called(_plain_arguments(module, call), result)


def _is_plain(value: Any) -> bool:
    """Whether ``value`` can stand in the delivered file as it prints."""
    if value is None or type(value) in (bool, int, float, str):
        return True
    if type(value) in (tuple, list):
        return all(_is_plain(item) for item in value)
    if type(value) is dict:
        return all(_is_plain(item) for pair in value.items() for item in pair)
    torch = sys.modules.get("torch")
    return torch is not None and type(value) is torch.dtype


def _plain_fields(value: Any, used: set[str]) -> Iterator[tuple[str, Any]]:
    """(name, value) of what a configuration object holds, as far as the code uses the names."""
    if isinstance(value, type) or hasattr(value, "forward") or hasattr(value, "data_ptr"):
        return
    names = [*getattr(value, "__dict__", ())]
    names += [name for name in getattr(type(value), "__slots__", ()) if hasattr(value, name)]
    for name in names:
        wanted = "*" in used or name in used
        if wanted and not name.startswith("_") and _is_plain(getattr(value, name)):
            yield name, getattr(value, name)


def _plain_arguments(module: Any, call: Arguments) -> dict[str, Any]:
    import inspect

    bound = inspect.signature(module.forward).bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            for key, item in value.items():
                _plain_leaves(key, item, found)
        else:
            _plain_leaves(name, value, found)
    return found


def _plain_leaves(name: str, value: Any, found: dict[str, Any]) -> None:
    if isinstance(value, tuple | list):
        for index, item in enumerate(value):
            _plain_leaves(f"{name}.{index}", item, found)
    elif isinstance(value, dict):
        for key, item in value.items():
            _plain_leaves(f"{name}.{key}", item, found)
    elif _is_plain(value):
        found[name] = value
    elif not hasattr(value, "data_ptr") and literal(value) is None:
        raise DeliveryError(
            f"forward's argument {name} is a {type(value).__name__}: a delivered kernel could "
            "not check it."
        )
