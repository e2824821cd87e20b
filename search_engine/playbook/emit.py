"""The one emitter: expressions, element functions, whole kernels in CUDA-C.

Ideas write the loops; everything that depends on the graph comes from here and from
``accesses``. An *element function* computes one element from scalars (``prologue``,
``epilogue``, ``chain``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from attrs import evolve, field, frozen, mutable

from search_engine.playbook.accesses import Accesses
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
    Constant,
    Expression,
    Inside,
    Load,
    Result,
)
from search_engine.playbook.names import identifier, unused, wrapped
from search_engine.playbook.primitives import CALL, PRIMITIVES, TERNARY
from search_engine.playbook.program import Store
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
class Writer(Accesses):
    """Collects one file: headers, constants, helpers, element functions, kernels, launch lines."""

    kernels: list[str] = field(factory=list)
    lines: list[str] = field(factory=list)
    includes: list[str] = field(factory=list)
    constants: list[tuple[str, str]] = field(factory=list)  # definition, comment

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

    # --- elements of packs --------------------------------------------------------------

    def elementwise(self) -> Writer:
        """The same file, written one element at a time (for tails)."""
        return evolve(self, vec=1, streaming=False)

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
