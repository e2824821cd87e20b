"""The module itself: its parts, attributes and hooks, as they were verified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from search_engine.deliver.template.verified import Verified


class Tables(NamedTuple):
    """What the guard looks at, taken apart once."""

    tree: tuple[tuple[str, str, str, int], ...]  # path, parent's path, name, number of children
    children: int  # of the root
    attributes: tuple[tuple[str, str, tuple[str, ...], Any], ...]  # path, name, further names
    functions: tuple[tuple[str, str, str], ...]
    absent: tuple[tuple[str, str, str], ...]
    tied: tuple[tuple[str, str, str, str], ...]  # path and name, those of the first
    weights: tuple[tuple[tuple[str, str, str], ...], ...]  # by case


def tables_of(verified: Verified) -> Tables:
    """The guard's tables."""
    return Tables(
        tuple(_parts(verified.modules)),
        _children(verified.modules, ""),
        tuple(
            (*_held_by(name, verified.modules), value)
            for name, value in verified.attributes.items()
        ),
        _split(verified.functions),
        _split(verified.absent),
        tuple(
            (*name[1:], *first[1:])
            for pair in verified.tied.items()
            for name, first in [_split(pair)]
        ),
        tuple(_split(tuple(case.weights)) for case in verified.cases),
    )


def _parts(modules: Mapping[str, str]) -> Iterator[tuple[str, str, str, int]]:
    """(path, parent's path, name, number of children) of every module but the root."""
    for path in modules:
        parent, _, name = path.rpartition(".")
        if path:
            yield path, parent, name, _children(modules, path)


def _children(modules: Mapping[str, str], path: str) -> int:
    depth = path.count(".") + 2 if path else 1
    prefix = f"{path}." if path else ""
    return sum(1 for p in modules if p and p.startswith(prefix) and len(p.split(".")) == depth)


def _held_by(name: str, modules: Mapping[str, str]) -> tuple[str, str, tuple[str, ...]]:
    """The innermost module of a dotted name, its attribute, and the names behind that."""
    words = name.split(".")
    count = next(n for n in range(len(words) - 1, -1, -1) if ".".join(words[:n]) in modules)
    return ".".join(words[:count]), words[count], tuple(words[count + 1 :])


def _split(names: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
    """(name, path of the module, attribute) of each dotted name."""
    return tuple((name, name.rpartition(".")[0], name.rpartition(".")[2]) for name in names)


def modules_of(root: torch.nn.Module, tables: Tables) -> dict[str, torch.nn.Module] | None:
    """The module and its submodules by path; None where one is missing or added."""
    if len(root._modules) != tables.children:
        return None
    modules = {"": root}
    for path, parent, name, children in tables.tree:
        module = modules[parent]._modules.get(name)
        if module is None or len(module._modules) != children:
            return None
        modules[path] = module
    return modules


def module_state(
    mode: str | None, tables: Tables, root: torch.nn.Module, modules: dict[str, torch.nn.Module]
) -> str | None:
    """Hooks, training flags, attributes and shared tensors that the kernel was made for."""
    if mode is not None:
        for module in modules.values():
            if module.training != (mode == "train"):
                return "mode"
    if len(modules) > 1:
        if _hooks_everywhere():
            return "hooks"
        for module in modules.values():
            if module is not root and (
                module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__
            ):
                return "hooks"
    return _attributes_changed(tables, modules)


def _attributes_changed(tables: Tables, modules: dict[str, torch.nn.Module]) -> str | None:
    for path, attribute, further, wanted in tables.attributes:
        value = getattr(modules[path], attribute, None)
        for name in further:
            value = getattr(value, name, None)
        if type(value) is not type(wanted) or value != wanted:
            return "attributes"
    for _, path, attribute in tables.absent:
        if getattr(modules[path], attribute, None) is not None:
            return "weights"
    for path, attribute, first_path, first in tables.tied:
        tensor = getattr(modules[path], attribute, None)
        if tensor is not getattr(modules[first_path], first, None):
            return "weights"
    return None


@torch.compiler.assume_constant_result
def _hooks_everywhere() -> bool:
    every = torch.nn.modules.module
    return bool(every._global_forward_hooks or every._global_forward_pre_hooks)
