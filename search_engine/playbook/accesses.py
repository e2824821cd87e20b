"""Accesses to tensors in CUDA-C: addresses, guarded elements, packs of neighbours.

Packs are VEC neighbours along one axis, the innermost one unless told otherwise, that a thread
moves in one access. A bounded load is guarded: where it is outside it is 0 and touches no memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from attrs import field, mutable

from search_engine.playbook import packs
from search_engine.playbook.dtypes import compute_type, literal
from search_engine.playbook.expression import (
    Apply,
    Bound,
    Expression,
    Inside,
    Load,
    Position,
    Result,
)
from search_engine.playbook.names import element_at, identifier, unused
from search_engine.playbook.program import Program, Store


@mutable
class Accesses:
    """The C of a program's loads, conditions and stores, and the names of its values."""

    program: Program
    vec: int = 1
    streaming: bool = False  # evict-first hints on accesses that are used once
    along: str = ""  # the axis of packs; empty: the innermost one
    helpers: dict[str, str] = field(factory=dict)
    names: dict[Expression, str] = field(factory=dict)

    # --- names ------------------------------------------------------------------------

    def tensor(self, name: str) -> str:
        """The C identifier of a tensor, different for every tensor of the program."""
        used = [load.tensor for load in self.program.loads]
        used += [store.tensor for store in self.program.stores]
        same = sorted({other for other in used if identifier(other) == identifier(name)})
        position = same.index(name) if name in same else 0
        return identifier(name) + (f"_{position + 1}" if position else "")

    def leaf_name(self, leaf: Expression) -> str:
        """The scalar's name for a leaf of an element function, the same everywhere."""
        if leaf not in self.names:
            if isinstance(leaf, Load):
                wish = self.tensor(leaf.tensor)
            elif isinstance(leaf, Apply):
                wish = identifier(leaf.name or leaf.op)
            elif isinstance(leaf, Inside):
                wish = "position" if isinstance(leaf, Position) else "inside_here"
            elif isinstance(leaf, Result):
                part = leaf.part
                wish = part if part in ("m2", "mean") else f"row_{part}"
            else:
                wish = "value"
            taken = set(self.names.values())
            if not isinstance(leaf, Load):
                taken |= {self.tensor(access.tensor) for access in self.program.loads}
                taken |= {self.tensor(access.tensor) for access in self.program.stores}
            self.names[leaf] = unused(wish, taken)
        return self.names[leaf]

    # --- single elements ---------------------------------------------------------------

    def address(self, access: Load | Store, where: dict[str, str]) -> str:
        """The C pointer to an access's element; ``where`` gives each axis's C expression.

        ``where[""]``, where given, is the row-major index over all axes.
        """
        text = self.tensor(access.tensor)
        if "" in where and self.row_major(access):
            return f"{text} + {where['']}"
        for axis in self.program.axes:
            stride = access.stride(axis.name)
            if not stride:
                continue
            at = where[axis.name]
            if at == "0":
                continue
            if stride != 1:
                at = f"({at})" if re.search(r"[^\w.]", at) else at
                text += f" + {at} * {stride}"
            else:
                text += f" + {at}"
        if isinstance(access, Load) and access.offset:
            text += f" {'-' if access.offset < 0 else '+'} {abs(access.offset)}"
        return text

    def item(self, load: Load | Inside, where: dict[str, str]) -> str:
        """The C of one loaded element, widened to the type it is computed in; or a condition.

        A bounded load is guarded: outside it is 0 and touches no memory.
        """
        text = self._item(load, where)
        return f"({text})" if load.bounds else text

    def _item(self, load: Load | Inside, where: dict[str, str]) -> str:
        if isinstance(load, Position):
            return self._coordinate(load.bounds[0], where)
        if isinstance(load, Inside):
            return self.inside(load.bounds, where)
        value = packs.widen(element_at(self.address(load, where)), load)
        if not load.bounds:
            return value
        return f"{self.inside(load.bounds, where)} ? {value} : {literal(0, load.dtype)}"

    def inside(self, bounds: Sequence[Bound], where: dict[str, str]) -> str:
        """The C condition that all bounds hold; ``where`` gives each axis's C expression.

        Sides that always hold are left out: ``oh * 2 + kh < 32`` where nothing is negative.
        """
        sizes, terms = self.program.sizes, []
        for bound in bounds:
            at = self._coordinate(bound, where)
            low, high = bound.reach(sizes)
            if low >= 0:
                terms.append(f"{at} < {bound.size}")
            elif high < bound.size:
                terms.append(f"{at} >= 0")
            else:
                kind = "long long" if self.program.needs_64_bit else "int"
                helper = (
                    "// Whether an index lies in [0, size).\n"
                    f"__device__ __forceinline__ bool inside({kind} at, {kind} size) {{\n"
                    "  return at >= 0 && at < size;\n}"
                )
                self.helpers.setdefault(helper, helper)
                terms.append(f"inside({at}, {bound.size})")
        return " && ".join(terms) if len(terms) < 2 else f"({' && '.join(terms)})"

    @staticmethod
    def _coordinate(bound: Bound, where: dict[str, str]) -> str:
        """``oh * 2 + kh - 1``: the index that a bound is about."""
        parts = []
        for axis, factor in bound.terms:
            at = where[axis]
            if at == "0":
                continue
            at = f"({at})" if re.search(r"[^\w.]", at) and factor != 1 else at
            parts.append(at if factor == 1 else f"{at} * {factor}")
        text = " + ".join(parts) or "0"
        if bound.constant:
            text += f" {'-' if bound.constant < 0 else '+'} {abs(bound.constant)}"
        return text

    def taken_apart(self, axis: str) -> bool:
        """Whether some access or condition needs this axis's own index."""
        accesses: list[Load | Store] = [*self.program.loads, *self.program.stores]
        if any(a.stride(axis) for a in accesses if not self.row_major(a)):
            return True
        return any(bound.factor(axis) for bound in self.program.bounds)

    def row_major(self, access: Load | Store) -> bool:
        """Whether the access walks memory in the order of all axes, without gaps."""
        expected = 1
        for axis in reversed(self.program.axes):
            if access.stride(axis.name) != expected:
                return False
            expected *= axis.size
        return not (isinstance(access, Load) and (access.offset or access.bounds))

    # --- packs ------------------------------------------------------------------------

    @property
    def pack_axis(self) -> str:
        """The name of the axis along which packs lie."""
        return self.along or self.program.inner.name

    def load_packs(
        self, loads: Iterable[Load | Inside], where: dict[str, str], indent: str
    ) -> tuple[list[str], dict[Expression, str]]:
        """Lines that load a pack of each, and the C of its k-th element.

        Packs are moved whole where no bound changes within one, else element by element.
        """
        lines: list[str] = []
        element: dict[Expression, str] = {}
        inner = self.pack_axis
        for load in loads:
            name, ctype = self.leaf_name(load), compute_type(load.dtype)
            if self.vec == 1 or inner not in load.axes:
                value = self._item(load, where)
                scalar = name if isinstance(load, Inside) else f"{name}_here"
                lines.append(f"{indent}const {ctype} {scalar} = {value};")
                element[load] = scalar
                continue
            lines.append(f"{indent}{ctype} {name}_v[VEC];")
            element[load] = f"{name}_v[k]"
            if any(bound.factor(inner) for bound in load.bounds):
                at = where[inner] if re.fullmatch(r"\w+", where[inner]) else f"({where[inner]})"
                value = self._item(load, {**where, inner: f"{at} + k"})
                lines += [
                    "#pragma unroll",
                    f"{indent}for (int k = 0; k < VEC; ++k) {name}_v[k] = {value};",
                ]
                continue
            assert isinstance(load, Load)
            if load.bounds:
                lines.append(f"{indent}for (int k = 0; k < VEC; ++k) {name}_v[k] = 0;")
                lines.append(f"{indent}if ({self.inside(load.bounds, where)}) {{")
            address, stride = self.address(load, where), load.stride(inner)
            step = indent + "  " if load.bounds else indent
            if stride == 1 and self.aligned(load):
                hint = self.streaming and self.program.streamed(load)
                helper = packs.load_helper(load.dtype, self.vec, hint)
                self.helpers[helper] = helper
                function = "load_pack_once" if hint else "load_pack"
                lines.append(f"{step}{function}({name}_v, {address});")
            else:
                k = "k" if stride == 1 else f"k * {stride}"
                value = packs.widen(f"({address})[{k}]", load)
                lines.append(f"{step}for (int k = 0; k < VEC; ++k) {name}_v[k] = {value};")
            if load.bounds:
                lines.append(f"{indent}}}")
        return lines, element

    def aligned(self, access: Load | Store) -> bool:
        """Whether packs of the access start at multiples of VEC elements."""
        inner = self.pack_axis
        axes = [axis for axis in self.program.axes if axis.name != inner and axis.size > 1]
        others = [access.stride(axis.name) for axis in axes]
        offset = access.offset if isinstance(access, Load) else 0
        return all(number % self.vec == 0 for number in (*others, offset))

    def store_pack(self, store: Store, where: dict[str, str], value: str, indent: str) -> str:
        """A line that stores the pack ``value`` (an array, or a scalar where VEC is 1)."""
        address = self.address(store, where)
        if self.vec == 1:
            return f"{indent}{element_at(address)} = {packs.narrow(value, store.dtype)};"
        if store.stride(self.pack_axis) == 1 and self.aligned(store):
            helper = packs.store_helper(store.dtype, self.vec, self.streaming)
            self.helpers[helper] = helper
            function = "store_pack_once" if self.streaming else "store_pack"
            return f"{indent}{function}({address}, {value});"
        step = store.stride(self.pack_axis)
        item = packs.narrow(f"{value}[k]", store.dtype)
        return f"{indent}for (int k = 0; k < VEC; ++k) ({address})[k * {step}] = {item};"
