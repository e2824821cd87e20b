"""The structure that forward's tensors are returned in, as plain data. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from attrs import evolve, frozen

Kind: TypeAlias = Literal["tuple", "list", "dict", "items", "fields", "mapping", "sequence"]
Tree: TypeAlias = "Slot | Constant | Branch"


@frozen
class Slot:
    """A tensor, by its contract name."""

    name: str


@frozen
class Constant:
    """A Python value that is the same at every call of these shapes."""

    value: bool | int | float | str | None


@frozen
class Branch:
    """A container. ``kind`` says how it is made of its items:

    "tuple", "list" and "dict" are Python's own. The others are of the class ``qualname`` in
    ``module``: "items" takes items by position (a named tuple), "fields" by keyword (a
    dataclass), "mapping" as pairs (an ordered dict), "sequence" as one sequence
    (``torch.return_types.max``).
    """

    kind: Kind
    items: tuple[Tree, ...]
    keys: tuple[str | int, ...] = ()
    module: str = ""
    qualname: str = ""


def renamed(tree: Tree, names: Mapping[str, str]) -> Tree:
    """``tree`` with other names in its slots, where ``names`` has them."""
    if isinstance(tree, Slot):
        return Slot(names.get(tree.name, tree.name))
    if isinstance(tree, Branch):
        return evolve(tree, items=tuple(renamed(item, names) for item in tree.items))
    return tree


def has_numbers(tree: Tree) -> bool:
    """Whether a Python number or string is among the results."""
    if isinstance(tree, Branch):
        return any(has_numbers(item) for item in tree.items)
    return isinstance(tree, Constant) and tree.value is not None
