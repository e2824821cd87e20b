"""The kernel of ``thread_per_output``: a thread computes whole outputs, its loops unrolled."""

from __future__ import annotations

import re

from attrs import evolve, frozen

from search_engine.contract.printer import launch_line
from search_engine.playbook.accumulators import accumulator
from search_engine.playbook.dtypes import compute_type, literal
from search_engine.playbook.emit import Writer, walk_until
from search_engine.playbook.expression import (
    Apply,
    Constant,
    Expression,
    Inside,
    Load,
    Result,
    Statistic,
)
from search_engine.playbook.launch import count_type, rows
from search_engine.playbook.names import element_at, unused, wrapped
from search_engine.playbook.packs import narrow
from search_engine.playbook.program import Axis, Program
from search_engine.playbook.source import Part
from search_engine.playbook.strip import Strip

# Statistics that are one number each, taken in one value at a time.
FOLDS = frozenset({"sum", "prod", "max", "min"})
_COMBINE = {"max": "maximum", "min": "minimum"}
_AHEAD = 8  # steps of longer loops that run together
_UNROLLED = 64  # taps of a thread's innermost loops that are spelt out by the compiler


@frozen
class Unrolled:
    """How a thread goes through its windows."""

    threads: int
    outputs: int = 1  # neighbours along ``strip.out`` that a thread computes
    strip: Strip | None = None


class UnrolledKernel:
    """Writes one kernel: rows are threads, columns are loops."""

    def __init__(self, program: Program, plan: Unrolled, comment: str) -> None:
        self.program, self.plan, self.comment = program, plan, comment
        self.writer = Writer(program)
        self.index = count_type(program)
        self.strip = plan.strip
        self.out = plan.strip.out.name if plan.strip else ""
        self.tail = plan.strip is not None and plan.strip.out.size % plan.outputs != 0
        self.own = "[p]" if plan.strip else ""  # an output's place among the thread's own

    def text(self) -> Part:
        """The file."""
        writer, program, plan = self.writer, self.program, self.plan
        tensors = writer.parameters(program.loads, program.stores)
        count = rows(program)
        if self.strip is not None:
            size = self.strip.out.size
            tiles = -(-size // plan.outputs)
            count = f"{count} / {size}" + (f" * {tiles}" if tiles > 1 else "")
            writer.constant("OUTPUTS", plan.outputs, f"neighbours that a thread computes: their "
                            f"windows overlap in {self.strip.tap.size} taps")  # fmt: skip
            writer.constant("STRIP", self.strip.length(plan.outputs), "values that they share")
        writer.constant("THREADS", plan.threads, "per block")
        arguments = [*(name for _, name in tensors), count]
        grid = f"ceil_div({count}, {plan.threads})"
        writer.lines.append(launch_line("thread_per_output", grid, plan.threads, arguments))
        head = wrapped(
            'extern "C" __global__ void __launch_bounds__(THREADS) thread_per_output(',
            [*(declaration for declaration, _ in tensors), f"const {self.index} count"],
            ") {",
        )
        body = [*self._place(), *self._begin(), *self._windows(), *self._end()]
        writer.kernels.append("\n".join([head, *body, "}"]))
        return writer.file(self.comment)

    # --- where the thread is ----------------------------------------------------------

    def _place(self) -> list[str]:
        """The row axes' indices, innermost fastest; a strip's is that of its first output."""
        wide = f"({self.index})" if self.index != "int" else ""
        lines = [
            f"  const {self.index} at = {wide}blockIdx.x * THREADS + threadIdx.x;",
            "  if (at >= count) return;",
        ]
        inner = 1
        for position, axis in reversed(list(enumerate(self.program.rows))):
            size = axis.size
            value = "at" if inner == 1 else f"at / {inner}"
            if axis.name == self.out:
                size = -(-size // self.plan.outputs)
            if position > 0:
                value += f" % {size}"
            if axis.name == self.out:
                value = f"({value}) * OUTPUTS" if "%" in value else f"{value} * OUTPUTS"
            lines.append(f"  const {self.index} {axis.name} = {value};")
            inner *= size
        return lines

    # --- the statistics ---------------------------------------------------------------

    def _name(self, statistic: Statistic) -> str:
        return self.writer.leaf_name(Result(statistic, statistic.kind))

    def _begin(self) -> list[str]:
        lines = []
        for statistic in self.program.statistics:
            # The first field's; sums of a few values need not keep what rounding takes.
            identity = accumulator(statistic).identity
            start = identity.strip("{}").split(", ")[0]
            kind, name = compute_type(statistic.dtype), self._name(statistic)
            if self.strip is None:
                lines.append(f"  {kind} {name} = {start};")
                continue
            lines += [
                f"  {kind} {name}[OUTPUTS];",
                "#pragma unroll",
                f"  for (int p = 0; p < OUTPUTS; ++p) {name}[p] = {start};",
            ]
        return lines

    def _windows(self) -> list[str]:
        """Loops over the columns, those of the strip innermost."""
        tap = self.strip.tap.name if self.strip else ""
        outer = [axis for axis in self.program.columns if axis.name != tap]
        lines, indent, loops = [], "  ", []
        spelt = self.strip.tap.size if self.strip else 1
        for axis in reversed(outer):
            # Steps of a loop that is too long to be spelt out still load ahead of each other.
            steps = min(_AHEAD, _UNROLLED // spelt)
            spelt *= axis.size
            pragma = "#pragma unroll"
            if spelt > _UNROLLED:
                pragma += f" {steps}" if steps > 1 else " 1"
            loops.append((axis, pragma))
        for axis, pragma in reversed(loops):
            name = axis.name
            lines.append(pragma)
            lines.append(f"{indent}for (int {name} = 0; {name} < {axis.size}; ++{name}) {{")
            indent += "  "
        where = {axis.name: axis.name for axis in self.program.axes}
        for statistic in self.program.statistics:
            if self.strip is None:
                lines += self._take_in(statistic, {}, where, indent)
            else:
                lines += self._along(self.strip, statistic, where, indent)
        for _ in outer:
            indent = indent[2:]
            lines.append(f"{indent}}}")
        return lines

    def _along(
        self, strip: Strip, statistic: Statistic, where: dict[str, str], indent: str
    ) -> list[str]:
        """One statistic over the taps of all the thread's outputs, shared values read once."""
        lines: list[str] = []
        known: dict[Expression, str] = {}
        for value in strip.held(statistic.body):
            name = unused(
                f"{self._stem(value)}_strip", (k.partition("[")[0] for k in known.values())
            )
            known[value] = f"{name}[{strip.position('p', strip.tap.name)}]"
            at = where | strip.where(self.out, "step")
            text = self._inline(value, self._at_hand(at), at)
            if self.tail:
                first = self.out if strip.out_step == 1 else f"{self.out} * {strip.out_step}"
                text = self._guarded(text, f"{first} + step < {strip.whole}", value.dtype)
            lines += [
                f"{indent}{compute_type(value.dtype)} {name}[STRIP];",
                "#pragma unroll",
                f"{indent}for (int step = 0; step < STRIP; ++step) {{",
                f"{indent}  {name}[step] = {text};",
                f"{indent}}}",
            ]
        tap, inner = strip.tap.name, indent + "  "
        lines += ["#pragma unroll"] if strip.tap.size <= _UNROLLED else []
        lines.append(f"{indent}for (int {tap} = 0; {tap} < {strip.tap.size}; ++{tap}) {{")
        shared = [
            leaf
            for leaf in walk_until([statistic.body], known)
            if isinstance(leaf, (Load, Inside)) and leaf not in known and self.out not in leaf.axes
        ]
        for leaf in shared:
            name = f"{self.writer.leaf_name(leaf)}_here"
            text = self._inline(leaf, {}, where)
            lines.append(f"{inner}const {compute_type(leaf.dtype)} {name} = {text};")
            known[leaf] = name
        lines += ["#pragma unroll", f"{inner}for (int p = 0; p < OUTPUTS; ++p) {{"]
        lines += self._take_in(statistic, known, self._at_output(where), inner + "  ")
        return [*lines, f"{inner}}}", f"{indent}}}"]

    def _stem(self, value: Expression) -> str:
        """What a strip is called after: the tensor that its values come from."""
        loads = [leaf for leaf in walk_until([value], ()) if isinstance(leaf, Load)]
        return self.writer.tensor(loads[0].tensor) if loads else "inside"

    def _at_output(self, where: dict[str, str]) -> dict[str, str]:
        """The axes at the thread's p-th output; beyond the axis, at its last element."""
        if self.strip is None:
            return where
        last = self.strip.out.size - 1
        text = f"{self.out} + p"
        return where | {self.out: f"min({text}, {last})" if self.tail else text}

    def _take_in(
        self,
        statistic: Statistic,
        known: dict[Expression, str],
        where: dict[str, str],
        indent: str,
    ) -> list[str]:
        """One value into the running statistic, by an element function where it is long."""
        writer, body, known = self.writer, statistic.body, self._at_hand(where) | known
        value = self._inline(body, known, where)
        work = [node for node in walk_until([body], known) if isinstance(node, Apply)]
        if len(work) > 4 and body not in known:
            number = self.program.statistics.index(statistic) + 1
            kind = compute_type(statistic.dtype)
            element = writer.element(
                f"term{number}", "What one tap adds to the statistic.", [("value", kind, body)],
                tuple(known),
            )  # fmt: skip
            at = {leaf: known.get(leaf) or writer.item(leaf, where) for leaf in element.leaves}  # type: ignore[arg-type]
            value = writer.call(element, at)
        into = self._name(statistic) + self.own
        if statistic.kind == "sum":
            return [f"{indent}{into} += {value};"]
        if statistic.kind == "prod":
            return [f"{indent}{into} *= {value};"]
        # The running value comes first: a NaN in it or in the new one wins.
        both = (Result(statistic, statistic.kind), Constant(0, statistic.dtype))
        fold = Apply(_COMBINE[statistic.kind], both, statistic.dtype)
        text = writer.expression(fold, {both[0]: into, both[1]: value})
        return [f"{indent}{into} = {text};"]

    # --- values in place --------------------------------------------------------------

    def _at_hand(self, where: dict[str, str]) -> dict[Expression, str]:
        """C of values that need not be read from memory at ``where``; other kernels have some."""
        return {}

    def _inline(
        self, value: Expression, known: dict[Expression, str], where: dict[str, str]
    ) -> str:
        """C for the value where its leaves are read at ``where``, as one expression."""
        writer, known = self.writer, dict(known)
        for leaf in walk_until([value], known):
            if isinstance(leaf, (Load, Inside)) and leaf not in known:
                known[leaf] = self._leaf(leaf, where)
        if _guards(value):
            # The condition that stands before it guards the load too.
            inside, load, _ = value.args  # type: ignore[union-attr]
            if load.bounds == inside.bounds:  # type: ignore[union-attr]
                known[load] = writer.item(evolve(load, bounds=()), where)  # type: ignore[arg-type]
        text = writer.expression(value, known)
        whole = isinstance(value, (Load, Inside)) and re.fullmatch(r"\(.*\)", text)
        return text[1:-1] if whole else text

    def _leaf(self, leaf: Load | Inside, where: dict[str, str]) -> str:
        text = self.writer.item(leaf, where)
        twice = isinstance(leaf, Inside) and len(leaf.bounds) > 1 and text.startswith("((")
        return text[1:-1] if twice else text

    @staticmethod
    def _guarded(text: str, condition: str, dtype: str) -> str:
        """The text where the condition holds, else 0."""
        return f"{condition} ? ({text}) : {literal(0, dtype)}" if "?" in text else (
            f"{condition} ? {text} : {literal(0, dtype)}"
        )  # fmt: skip

    # --- the outputs ------------------------------------------------------------------

    def _end(self) -> list[str]:
        """Results through the epilogue into the outputs, one by one."""
        writer, program = self.writer, self.program
        where = {axis.name: axis.name for axis in program.rows}
        lines, indent = [], "  "
        if self.strip is not None:
            where[self.out] = f"{self.out} + p"
            lines += ["#pragma unroll", "  for (int p = 0; p < OUTPUTS; ++p) {"]
            indent = "    "
            if self.tail:
                lines.append(f"    if ({self.out} + p >= {self.strip.out.size}) break;")
        results = [n for n in walk_until(program.values, ()) if isinstance(n, Result)]
        known: dict[Expression, str] = {r: self._name(r.statistic) + self.own for r in results}
        if all(value in known for value in program.values):
            for store in program.stores:
                place = element_at(writer.address(store, where))
                lines.append(f"{indent}{place} = {narrow(known[store.value], store.dtype)};")
        else:
            outputs = [
                (writer.tensor(s.tensor) + "_new", compute_type(s.dtype), s.value)
                for s in program.stores
            ]
            element = writer.element("epilogue", "One output from its window's result.", outputs)
            at = known | {leaf: writer.item(leaf, where) for leaf in element.loads}
            lines += writer.compute_and_store(element, at, program.stores, where, indent)
        return [*lines, "  }"] if self.strip is not None else lines


def _guards(value: Expression) -> bool:
    """Whether it is a load that a condition chooses over a constant: padding."""
    if not (isinstance(value, Apply) and value.op == "where"):
        return False
    condition, chosen, other = value.args
    return (
        isinstance(condition, Inside) and isinstance(chosen, Load) and isinstance(other, Constant)
    )


def taps(axes: tuple[Axis, ...]) -> str:
    """``3 × 3``: the columns of a window, for people."""
    return " × ".join(str(axis.size) for axis in axes)
