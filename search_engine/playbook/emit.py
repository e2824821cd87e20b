"""The one emitter: expressions, element functions, 16-byte packs, whole files in CUDA-C.

Ideas write the loops; everything that depends on the graph comes from here. An *element
function* computes one element from scalars (``prologue``, ``epilogue``, ``chain``); packs are
VEC neighbours that a thread moves in one access.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from attrs import evolve, field, frozen, mutable

from search_engine.playbook import packs
from search_engine.playbook.dtypes import (
    HEADERS,
    arithmetic,
    compute_type,
    is_float,
    literal,
    storage_type,
)
from search_engine.playbook.expression import (
    Apply,
    Bound,
    Constant,
    Expression,
    Inside,
    Load,
    Position,
    Result,
)
from search_engine.playbook.names import element_at, identifier, unused, wrapped
from search_engine.playbook.primitives import CALL, PRIMITIVES, TERNARY
from search_engine.playbook.program import Program, Store
from search_engine.playbook.source import Part


@frozen
class Element:
    """An element function: what it is called, and what it wants, in order."""

    name: str
    leaves: tuple[Expression, ...]  # loads, conditions, held values, row values
    outputs: tuple[str, ...]  # names of by-reference results; empty: it returns its value

    @property
    def loads(self) -> tuple[Load | Inside, ...]:
        """What ``load_packs`` provides: the loads and conditions among the leaves."""
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, (Load, Inside)))


@mutable
class Writer:
    """Collects one file: headers, constants, helpers, element functions, kernels, launch lines."""

    program: Program
    vec: int = 1
    streaming: bool = False  # evict-first hints on accesses that are used once
    helpers: dict[str, str] = field(factory=dict)
    kernels: list[str] = field(factory=list)
    lines: list[str] = field(factory=list)
    includes: list[str] = field(factory=list)
    constants: list[tuple[str, str]] = field(factory=list)  # definition, comment
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

    # --- expressions ------------------------------------------------------------------

    def expression(self, value: Expression, known: dict[Expression, str]) -> str:
        """C for the value, as one expression."""
        return self._text(value, known)[0]

    def _text(self, value: Expression, known: dict[Expression, str]) -> tuple[str, int]:
        if value in known:
            return known[value], CALL
        if isinstance(value, Constant):
            return literal(value.value, value.dtype), CALL
        if not isinstance(value, Apply):
            raise KeyError(f"{value} is not at hand here")
        primitive = PRIMITIVES[value.op]
        parts = []
        infix = primitive.strength < CALL
        for position, arg in enumerate(value.args):
            text, strength = self._text(arg, known)
            if value.op in ("div", "reciprocal") and not is_float(arg.dtype):
                text, strength = f"{compute_type(value.dtype)}({text})", CALL
            leftmost = primitive.text.startswith("{0}") and position == 0
            weakest = primitive.strength + (not leftmost or primitive.strength <= TERNARY)
            if infix and (strength < weakest or (text.startswith("-") and position != 1)):
                text = f"({text})"
            parts.append(text)
        kind = compute_type(value.dtype)
        suffix = arithmetic(value.dtype).suffix
        if primitive.helper:
            helper = primitive.helper.format(T=kind, f=suffix)
            self.helpers.setdefault(helper, helper)
        return primitive.text.format(*parts, f=suffix, T=kind), primitive.strength

    def statements(
        self, values: Sequence[Expression], known: dict[Expression, str], indent: str
    ) -> tuple[list[str], list[str]]:
        """Lines that name what is used twice or is long, and the final C of each value."""
        known = dict(known)
        uses: Counter[Expression] = Counter()
        for node in walk_until(values, known):
            if isinstance(node, Apply):
                uses.update(node.args)
        taken = set(known.values())
        lines: list[str] = []
        for node in walk_until(values, known):
            if not isinstance(node, Apply) or (node in values and uses[node] == 0):
                continue
            text = self.expression(node, known)
            if uses[node] > 1 or len(text) > 44:
                name = unused(identifier(node.name or node.op), taken)
                taken.add(name)
                lines.append(f"{indent}const {compute_type(node.dtype)} {name} = {text};")
                known[node] = name
        return lines, [self.expression(value, known) for value in values]

    def element(
        self,
        name: str,
        comment: str,
        outputs: Sequence[tuple[str, str, Expression]],
        held: Sequence[Expression] = (),
    ) -> Element:
        """Define an element function; ``outputs`` are (name, C type, value).

        ``held`` are values that the caller has at hand (kept values, row values).
        """
        values = [value for _, _, value in outputs]
        leaves = tuple(
            node
            for node in walk_until(values, held)
            if node in held or isinstance(node, (Load, Inside, Result))
        )
        known = {leaf: self.leaf_name(leaf) for leaf in leaves}
        lines, finals = self.statements(values, known, "  ")
        typed = [f"{self._leaf_type(leaf)} {known[leaf]}" for leaf in leaves]
        single = len(outputs) == 1
        result = outputs[0][1] if single else "void"
        if not single:
            typed += [f"{ctype}& {out}" for out, ctype, _ in outputs]
        if single:
            lines.append(f"  return {finals[0]};")
        else:
            lines += [
                f"  {out} = {final};" for (out, _, _), final in zip(outputs, finals, strict=True)
            ]
        head = wrapped(f"__device__ __forceinline__ {result} {name}(", typed, ") {")
        text = "\n".join([f"// {comment}", head, *lines, "}"])
        self.helpers[text] = text
        return Element(name, leaves, () if single else tuple(out for out, _, _ in outputs))

    @staticmethod
    def _leaf_type(leaf: Expression) -> str:
        return compute_type(leaf.dtype)

    # --- packs ------------------------------------------------------------------------

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

    def elementwise(self) -> Writer:
        """The same file, written one element at a time (for tails)."""
        return evolve(self, vec=1, streaming=False)

    def load_packs(
        self, loads: Iterable[Load | Inside], where: dict[str, str], indent: str
    ) -> tuple[list[str], dict[Expression, str]]:
        """Lines that load a pack of each, and the C of its k-th element.

        Packs are moved whole where no bound changes within one, else element by element.
        """
        lines: list[str] = []
        element: dict[Expression, str] = {}
        inner = self.program.inner.name
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
        inner = self.program.inner.name
        axes = [axis for axis in self.program.axes if axis.name != inner and axis.size > 1]
        others = [access.stride(axis.name) for axis in axes]
        offset = access.offset if isinstance(access, Load) else 0
        return all(number % self.vec == 0 for number in (*others, offset))

    def store_pack(self, store: Store, where: dict[str, str], value: str, indent: str) -> str:
        """A line that stores the pack ``value`` (an array, or a scalar where VEC is 1)."""
        address = self.address(store, where)
        if self.vec == 1:
            return f"{indent}{element_at(address)} = {packs.narrow(value, store.dtype)};"
        if store.stride(self.program.inner.name) == 1 and self.aligned(store):
            helper = packs.store_helper(store.dtype, self.vec, self.streaming)
            self.helpers[helper] = helper
            function = "store_pack_once" if self.streaming else "store_pack"
            return f"{indent}{function}({address}, {value});"
        step = store.stride(self.program.inner.name)
        item = packs.narrow(f"{value}[k]", store.dtype)
        return f"{indent}for (int k = 0; k < VEC; ++k) ({address})[k * {step}] = {item};"

    def call(self, element: Element, at: dict[Expression, str]) -> str:
        """The call of an element function that returns its value."""
        return f"{element.name}({', '.join(at[leaf] for leaf in element.leaves)})"

    def compute_and_store(
        self,
        element: Element,
        at: dict[Expression, str],
        stores: Sequence[Store],
        where: dict[str, str],
        indent: str,
    ) -> list[str]:
        """Lines that call an element function on each element of a pack and store the results."""
        if self.vec == 1 and not element.outputs:
            return [self.store_pack(stores[0], where, self.call(element, at), indent)]
        array = "" if self.vec == 1 else "[VEC]"
        names = [
            self.tensor(store.tensor) + ("_new" if self.vec == 1 else "_v") for store in stores
        ]
        lines = [
            f"{indent}{compute_type(store.dtype)} {name}{array};"
            for name, store in zip(names, stores, strict=True)
        ]
        results = names if self.vec == 1 else [f"{name}[k]" for name in names]
        inputs = [at[leaf] for leaf in element.leaves]
        if self.vec > 1:
            lines.append("#pragma unroll")
            lines.append(f"{indent}for (int k = 0; k < VEC; ++k) {{")
        step = indent if self.vec == 1 else indent + "  "
        if element.outputs:
            lines.append(wrapped(f"{step}{element.name}(", [*inputs, *results], ");", step))
        else:
            lines.append(wrapped(f"{step}{results[0]} = {element.name}(", inputs, ");", step))
        if self.vec > 1:
            lines.append(f"{indent}}}")
        return lines + [
            self.store_pack(store, where, name, indent)
            for name, store in zip(names, stores, strict=True)
        ]

    # --- the file ---------------------------------------------------------------------

    def parameters(
        self, loads: Iterable[Load | Inside], stores: Iterable[Store]
    ) -> list[tuple[str, str]]:
        """(C declaration, contract name) of the tensors, in order of first use."""
        found: dict[str, str] = {}
        for load in loads:
            if isinstance(load, Inside):
                continue
            ctype = storage_type(load.dtype)
            found[load.tensor] = f"const {ctype}* __restrict__ {self.tensor(load.tensor)}"
        for store in stores:
            found[store.tensor] = (
                f"{storage_type(store.dtype)}* __restrict__ {self.tensor(store.tensor)}"
            )
        return [(declaration, name) for name, declaration in found.items()]

    def constant(self, name: str, value: int | str, comment: str) -> None:
        """A named compile-time number, with the reason for it."""
        self.constants.append((f"constexpr int {name} = {value};", comment))

    def file(self, comment: str) -> Part:
        """Everything that was written, with the comment above it."""
        dtypes = {load.dtype for load in self.program.loads}
        dtypes |= {store.dtype for store in self.program.stores}
        headers = [*self.includes, *(HEADERS[d] for d in sorted(dtypes) if d in HEADERS)]
        return Part(
            comment=comment,
            lines=tuple(self.lines),
            includes=tuple(headers),
            constants=tuple(self.constants),
            helpers=tuple(self.helpers.values()),
            kernels=tuple(self.kernels),
        )


def walk_until(values: Sequence[Expression], stop: Iterable[Expression]) -> list[Expression]:
    """Every expression under the values, operands first, not entering those in ``stop``."""
    stop = set(stop)
    seen: dict[Expression, None] = {}
    stack: list[tuple[Expression, bool]] = [(value, False) for value in reversed(values)]
    while stack:
        node, done = stack.pop()
        if node in seen:
            continue
        if done or node in stop or not isinstance(node, Apply):
            seen[node] = None
            continue
        stack.append((node, True))
        stack.extend((arg, False) for arg in reversed(node.args))
    return list(seen)
