"""What forward returns: its tensors by contract name, and the structure that they stand in."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import torch
from attrs import evolve

from search_engine.capture.structure import Branch, Constant, Kind, Slot, Tree
from search_engine.errors import CaptureError

_KEY = re.compile(r"\w+", re.ASCII)
_TAKEN = (
    "a tensor, or a tuple, list, dict, named tuple or dataclass of tensors, numbers, strings and "
    "None"
)


def taken_apart(result: Any) -> tuple[dict[str, torch.Tensor], Tree]:
    """The tensors by contract name (``out``, ``out.0``, ``out.<key>.1``), and their structure.

    Raises CaptureError, one sentence, where a kernel could not return such a thing.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = _tree("out", result, tensors)
    if not tensors:
        raise CaptureError(
            f"forward returns no tensor ({type(result).__name__}): it must return at least one."
        )
    return tensors, tree


def output_leaves(result: Any) -> dict[str, torch.Tensor]:
    """The tensors of ``taken_apart`` alone."""
    return taken_apart(result)[0]


def shared(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Names of tensors that were returned before, each with the first one's name."""
    first: dict[int, str] = {}
    return {
        name: first[id(tensor)]
        for name, tensor in tensors.items()
        if first.setdefault(id(tensor), name) != name
    }


def _tree(name: str, value: Any, tensors: dict[str, torch.Tensor]) -> Tree:
    if isinstance(value, torch.Tensor):
        if name in tensors:
            raise CaptureError(f"forward returns two tensors that are named {name!r}: rename one.")
        tensors[name] = value
        return Slot(name)
    if value is None or type(value) in (bool, int, float, str):
        return Constant(value)
    kind = type(value)
    branch = _branch(name, value)
    if branch.kind not in ("tuple", "list", "dict"):
        if "<locals>" in kind.__qualname__:
            raise CaptureError(
                f"forward returns {kind.__qualname__}: move the class to the top of its file."
            )
        branch = evolve(branch, module=kind.__module__, qualname=kind.__qualname__)
    keys = branch.keys or range(len(branch.items))
    items = zip(keys, branch.items, strict=True)
    return evolve(branch, items=tuple(_tree(f"{name}.{key}", item, tensors) for key, item in items))


def _branch(name: str, value: Any) -> Branch:
    """The container around its items, which are not looked at yet."""
    kind = type(value)
    where = "" if name == "out" else f" at {name}"
    if kind in (tuple, list):
        return Branch("tuple" if kind is tuple else "list", tuple(value))
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return Branch("items", tuple(value), tuple(kind._fields))
    if kind.__module__ == "torch.return_types":
        return Branch("sequence", tuple(value))
    keyed: tuple[Kind, dict[Any, Any]] | None = None
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value) if f.init]
        keyed = "fields", {key: getattr(value, key) for key in names}
    elif kind in (dict, collections.OrderedDict):
        keyed = "dict" if kind is dict else "mapping", dict(value)
    if keyed is None:
        raise CaptureError(f"forward returns {kind.__name__}{where}: {_TAKEN} is needed.")
    for key in keyed[1]:
        if type(key) not in (str, int) or not _KEY.fullmatch(str(key)):
            raise CaptureError(
                f"forward returns a {kind.__name__}{where} with the key {key!r}: keys of letters, "
                "digits and _ are needed."
            )
    return Branch(keyed[0], tuple(keyed[1].values()), tuple(keyed[1]))
