"""The task's graph: the exported ATen graph as plain data, free of torch.

The playbook reads it, the store keeps it, prompts print it. ``capture`` makes it
from ``torch.export``'s graph with composite operators kept (``aten.layer_norm``
stays one node), in the order of execution.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import field, frozen


@frozen
class Ref:
    """A use of another value of the graph, by name."""

    name: str


# An operator's argument: a value of the graph, a literal, or a list of them. Dtypes,
# layouts and memory formats are strings as torch prints them without "torch.".
Argument: TypeAlias = "Ref | int | float | bool | str | tuple[Argument, ...] | None"


@frozen
class Node:
    """One ATen operator call with one tensor result.

    ``op`` is the overload's full name, for example ``aten.layer_norm.default``.
    Arguments are positional as called, with the operator's defaults left out.
    ``shape`` and ``dtype`` ("float32") are the result's.
    """

    name: str
    op: str
    args: tuple[Argument, ...]
    kwargs: dict[str, Argument]
    dtype: str
    shape: tuple[int, ...]

    def references(self) -> tuple[str, ...]:
        """Names of the values this node reads, in order, with repeats."""
        found: list[str] = []

        def visit(argument: Argument) -> None:
            if isinstance(argument, Ref):
                found.append(argument.name)
            elif isinstance(argument, tuple):
                for item in argument:
                    visit(item)

        for argument in (*self.args, *self.kwargs.values()):
            visit(argument)
        return tuple(found)


@frozen
class Graph:
    """Nodes in order of execution.

    ``inputs`` are the names of the task's tensors that the graph reads (the same
    names as in the kernel contract: ``x``, ``ln.weight``); ``outputs`` pairs the
    task's output names (``out``, ``out.0``) with the values that they are.
    """

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[tuple[str, str], ...]

    _by_name: dict[str, Node] = field(init=False, repr=False, eq=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._by_name.update({node.name: node for node in self.nodes})

    def node(self, name: str) -> Node | None:
        """The node that makes the value ``name``, or None for an input."""
        return self._by_name.get(name)

    def users(self, name: str) -> tuple[Node, ...]:
        """The nodes that read the value ``name``."""
        return tuple(node for node in self.nodes if name in node.references())
