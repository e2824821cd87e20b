"""Fewer axes: neighbours that every access walks as one become one."""

from __future__ import annotations

from attrs import evolve

from search_engine.playbook.expression import Expression, Inside, Load, rewrite
from search_engine.playbook.program import Axis, Program, Store


def merged(program: Program) -> Program:
    """The same program with neighbouring axes merged, rows and columns each by themselves."""
    for group in ("rows", "columns"):
        position = 0
        while position + 1 < len(getattr(program, group)):
            axes = getattr(program, group)
            outer, inner = axes[position], axes[position + 1]
            if _walked_as_one(program, outer, inner):
                program = _merge(program, group, position)
            else:
                position += 1
    return program


def _walked_as_one(program: Program, outer: Axis, inner: Axis) -> bool:
    """Whether every access, and every bound of one, moves along both as along one axis."""
    accesses: list[Load | Store] = [*program.loads, *program.stores]
    return all(a.stride(outer.name) == a.stride(inner.name) * inner.size for a in accesses) and all(
        b.factor(outer.name) == b.factor(inner.name) * inner.size for b in program.bounds
    )


def _merge(program: Program, group: str, position: int) -> Program:
    axes: list[Axis] = list(getattr(program, group))
    outer, inner = axes[position : position + 2]
    axes[position : position + 2] = [Axis(inner.name, outer.size * inner.size)]

    def without(terms: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
        return tuple((axis, step) for axis, step in terms if axis != outer.name)

    def drop(node: Expression) -> Expression | None:
        if not isinstance(node, (Load, Inside)) or outer.name not in node.axes:
            return None
        bounds = tuple(evolve(bound, terms=without(bound.terms)) for bound in node.bounds)
        if isinstance(node, Inside):
            return evolve(node, bounds=bounds)
        return evolve(node, strides=without(node.strides), bounds=bounds)

    stores = tuple(
        Store(
            store.tensor,
            store.dtype,
            rewrite(store.value, drop),
            without(store.strides),
        )
        for store in program.stores
    )
    if group == "rows":
        return evolve(program, stores=stores, rows=tuple(axes))
    return evolve(program, stores=stores, columns=tuple(axes))
