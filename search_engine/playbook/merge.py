"""Fewer axes: neighbours that every access walks as one become one."""

from __future__ import annotations

from attrs import evolve

from search_engine.playbook.expression import Expression, Load, rewrite
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
    accesses: list[Load | Store] = [*program.loads, *program.stores]
    return all(a.stride(outer.name) == a.stride(inner.name) * inner.size for a in accesses)


def _merge(program: Program, group: str, position: int) -> Program:
    axes: list[Axis] = list(getattr(program, group))
    outer, inner = axes[position : position + 2]
    axes[position : position + 2] = [Axis(inner.name, outer.size * inner.size)]

    def drop(node: Expression) -> Expression | None:
        if isinstance(node, Load) and node.stride(outer.name):
            kept = tuple((a, s) for a, s in node.strides if a != outer.name)
            return evolve(node, strides=kept)
        return None

    stores = tuple(
        Store(
            store.tensor,
            store.dtype,
            rewrite(store.value, drop),
            tuple((a, s) for a, s in store.strides if a != outer.name),
        )
        for store in program.stores
    )
    return evolve(program, stores=stores, **{group: tuple(axes)})
