"""A kernel as parsed from its ``.cu`` file, and a kernel as resolved for one task."""

from __future__ import annotations

import ast
from typing import TypeAlias

from attrs import field, frozen


@frozen
class Expression:
    """An expression of a launch or scratch line, kept as written and as a syntax tree.

    ``tree`` has passed the grammar: literals, names, ``name.size(i)``, ``name.numel()``,
    ``+ - * / // %``, unary minus, ``ceil_div``, ``min``, ``max``; nothing else. ``/`` is
    the integer division of C.
    """

    text: str
    line: int
    column: int
    tree: ast.expr = field(eq=False, repr=False)


@frozen
class Launch:
    """One ``// launch:`` line. ``grid`` and ``block`` have one to three components."""

    function: str
    grid: tuple[Expression, ...]
    block: tuple[Expression, ...]
    shared: Expression | None
    arguments: tuple[Expression, ...]  # tensor and scratch names, or scalar expressions
    cooperative: bool
    cluster: tuple[Expression, ...] | None
    line: int


@frozen
class Scratch:
    """One ``// scratch:`` line: memory that the launches share."""

    name: str
    dtype: str
    shape: tuple[Expression, ...]
    zeroed: bool
    line: int


@frozen
class Tune:
    """One ``// tune:`` line: a macro with the values worth trying."""

    name: str
    values: tuple[str, ...]
    line: int


@frozen
class Kernel:
    """A parsed ``.cu`` file. ``source`` is the whole file, lines included."""

    source: str
    launches: tuple[Launch, ...]
    scratch: tuple[Scratch, ...]
    tunes: tuple[Tune, ...]


# --- resolved for one task and device ------------------------------------------------


@frozen
class Pointer:
    """An argument that is the address of a task's tensor or of a scratch buffer."""

    name: str


@frozen
class Number:
    """A scalar argument; the compiled signature decides its width."""

    value: int | float | bool


KernelArgument: TypeAlias = "Pointer | Number"


@frozen
class ResolvedLaunch:
    """A launch with every number known. ``shared`` is in bytes."""

    function: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    arguments: tuple[KernelArgument, ...]
    cooperative: bool
    cluster: tuple[int, int, int] | None
    line: int


@frozen
class ResolvedScratch:
    """A scratch buffer with its shape known."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    zeroed: bool
    line: int


@frozen
class Plan:
    """What a device does for one kernel: scratch to allocate, launches in order."""

    launches: tuple[ResolvedLaunch, ...]
    scratch: tuple[ResolvedScratch, ...]
