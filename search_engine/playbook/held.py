"""Row kernels that hold a row on chip: load once, statistics in two exact passes, store once.

The team of a row is a warp (or part of one) or a block; what it holds lies in registers and,
for a block, in shared memory as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from search_engine.contract.printer import launch_line
from search_engine.playbook import accumulators
from search_engine.playbook.dtypes import compute_type
from search_engine.playbook.emit import Element
from search_engine.playbook.expression import Expression, Result, Statistic
from search_engine.playbook.launch import rows
from search_engine.playbook.names import unused, wrapped
from search_engine.playbook.program import Program
from search_engine.playbook.rows import RowCode
from search_engine.playbook.source import Part


@frozen
class HeldRow:
    """How a row is held.

    ``lanes``: threads of a row (32 and fewer: within a warp; more: a block of its own).
    ``threads``: per block. ``registers`` and ``shared``: packs per thread in each.
    ``prefetch``: blocks stay and load the next row while they store this one.
    """

    vec: int
    lanes: int
    threads: int
    registers: int
    shared: int = 0
    prefetch: bool = False
    once: bool = False
    min_blocks: int = 1

    @property
    def is_block(self) -> bool:
        """Whether a whole block works on one row."""
        return self.lanes == self.threads and self.lanes > 32

    @property
    def capacity(self) -> int:
        """Elements of a row that fit."""
        return (self.registers + self.shared) * self.lanes * self.vec


class HeldRowKernel:
    """Writes one kernel file."""

    def __init__(self, program: Program, plan: HeldRow, function: str, comment: str) -> None:
        self.plan, self.function, self.comment = plan, function, comment
        self.code = RowCode(program, plan.vec, streaming=plan.once)
        self.program = self.code.program
        self.columns = program.column_count
        self.exact = plan.capacity == self.columns
        self.team = "block" if plan.is_block else "warp"
        self.real = self.code.real.type
        self.local_names: list[str] = []
        self.partials: dict[str, str] = {}  # shared arrays in which warps meet, and their structs
        self.idle_lanes = not plan.is_block and plan.lanes < 32

    def text(self) -> Part:
        """The kernel in parts."""
        plan, writer = self.plan, self.code.writer
        self.prologue = self.code.prologue()
        exponential = self.code.exponential()
        if exponential is not None:
            writer.names[exponential] = "exponential"
        self.held_at_end: Expression = exponential or self.code.kept
        terms = {s: self.code.body_element(s, self.code.kept) for s in self.code.statistics}
        self.epilogue = self.code.epilogue(self.held_at_end if self.code.full else None)
        self._constants()
        row_count = rows(self.program)
        per_block = plan.threads // plan.lanes
        grid = row_count if per_block == 1 else f"ceil_div({row_count}, {per_block})"
        if plan.prefetch:
            resident = f"{plan.min_blocks} * sm_count" if plan.min_blocks > 1 else "sm_count"
            grid = f"min({grid}, {resident})"
        tensors = writer.parameters(self.program.loads, self.program.stores)
        shared = plan.shared * plan.threads * plan.vec * self._item
        writer.lines.append(
            launch_line(
                self.function,
                grid,
                plan.threads,
                [*(name for _, name in tensors), row_count],
                shared=shared or None,
            )
        )
        bounds = f"__launch_bounds__(THREADS, {plan.min_blocks})"
        head = wrapped(
            f'extern "C" __global__ void {bounds} {self.function}(',
            [*(d for d, _ in tensors), f"const {self.code.index} rows"],
            ") {",
        )
        body = self._body(terms)
        writer.kernels.append("\n".join([head, *body, "}"]))
        return writer.file(self.comment)

    @property
    def _item(self) -> int:
        return 8 if self.real == "double" else 4

    def _constants(self) -> None:
        plan, writer = self.plan, self.code.writer
        writer.constant("COLS", self.columns, "elements of a row")
        if plan.vec > 1:
            writer.constant("VEC", plan.vec, "neighbours that a thread moves in one access")
        writer.constant("THREADS", plan.threads, "per block")
        if not plan.is_block:
            writer.constant("LANES", plan.lanes, "threads of a row")
        step = plan.lanes * plan.vec
        if plan.registers:
            note = f"of a row per thread in registers: {plan.registers * step:,} elements"
            writer.constant("HELD", plan.registers, f"packs {note}")
        if plan.shared:
            size = plan.shared * step * self._item / 1024
            note = f"of a row per thread in shared memory: {plan.shared * step:,} elements"
            writer.constant("PARKED", plan.shared, f"packs {note}, {size:g} KB")

    def _body(self, terms: dict[Statistic, Element | None]) -> list[str]:
        plan, code = self.plan, self.code
        lines: list[str] = []
        if plan.shared:
            vector = {("float", 4): "float4", ("float", 2): "float2", ("double", 2): "double2"}
            self.slot = vector.get((self.real, plan.vec), self.real)
            lines.append(f"  extern __shared__ {self.slot} parked[];  // each thread its own slots")
        meeting = len(lines)
        if plan.registers:
            lines.append(f"  {code.kept_type} kept[HELD][{self._width}];")
        indent = "  "
        index = code.index
        if plan.prefetch:
            places, where = code.row_places("  ", "blockIdx.x")
            lines += [
                "  // The first row of this block; each next one is loaded while the one before",
                "  // is stored.",
                "  {",
                f"    const {index} row = blockIdx.x;",
                *self._load_registers(where | {a.name: "row" for a in self.program.rows}, "    "),
                "  }",
                f"  for ({index} row = blockIdx.x; row < rows; row += gridDim.x) {{",
            ]
            indent = "    "
        elif plan.is_block:
            lines.append(f"  const {index} row = blockIdx.x;")
        else:
            wide = f"({index})" if index != "int" else ""
            own = f"{wide}blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES"
            lines.append("  const int lane = threadIdx.x % LANES;")
            if plan.lanes == 32:
                lines.append(f"  const {index} row = {own};")
                lines.append("  if (row >= rows) return;  // the whole warp leaves together")
            else:
                lines += [
                    f"  const {index} own_row = {own};",
                    "  // Shuffles need every lane of the warp: idle ones repeat the last row.",
                    "  const bool active = own_row < rows;",
                    f"  const {index} row = active ? own_row : rows - 1;",
                ]
        places, where = code.row_places(indent)
        lines += places
        if not plan.prefetch and plan.registers:
            lines += self._load_registers(where, indent)
        lines += self._load_shared(where, indent)
        for statistic in code.statistics:
            lines += self._statistic(statistic, terms[statistic], where, indent)
        lines[meeting:meeting] = [f"  __shared__ {t} {n}[32];" for n, t in self.partials.items()]
        lines += code.row_value_lines(where, indent)
        if code.per_row:
            first = "threadIdx.x == 0" if plan.is_block else "lane == 0"
            first += " && active" if self.idle_lanes else ""
            lines += [f"{indent}if ({first}) {{", *code.per_row_lines(where, indent + "  "),
                      f"{indent}}}"]  # fmt: skip
        if self.epilogue is not None:
            lines += self._epilogue(where, indent)
        if plan.prefetch:
            lines.append("  }")
        return lines

    # --- loops over what is held --------------------------------------------------------

    def _packs(self, body: list[str], indent: str, kind: str, storing: bool = False) -> list[str]:
        """The unrolled loop over packs in registers ("HELD") or in shared memory ("PARKED")."""
        lane = "threadIdx.x" if self.plan.is_block else "lane"
        lanes = "THREADS" if self.plan.is_block else "LANES"
        base = "p" if kind == "HELD" or not self.plan.registers else "(HELD + p)"
        unit = " * VEC" if self.plan.vec > 1 else ""
        uses_col = any("col" in line for line in body) or not self.exact
        head = ["#pragma unroll", f"{indent}for (int p = 0; p < {kind}; ++p) {{"]
        if uses_col:
            at = f"({base} * {lanes} + {lane}){unit}" if unit else f"{base} * {lanes} + {lane}"
            head.append(f"{indent}  const int col = {at};")
        conditions = [] if self.exact else ["col < COLS"]
        if storing and self.idle_lanes:
            conditions.append("active")
        if conditions:
            inner = ["  " + line if not line.startswith("#") else line for line in body]
            return [*head, f"{indent}  if ({' && '.join(conditions)}) {{", *inner,
                    f"{indent}  }}", f"{indent}}}"]  # fmt: skip
        return [*head, *body, f"{indent}}}"]

    def _load_registers(
        self, where: dict[str, str], indent: str, next_row: bool = False
    ) -> list[str]:
        places, columns = self.code.column_places(indent + "  ")
        if next_row:
            columns[""] = columns[""].replace("row *", "next *")
        fill = self.code.fill(self.prologue, where | columns, "kept[p]", indent + "  ")
        return self._packs([*places, *fill], indent, "HELD")

    def _slot(self) -> str:
        return "parked[p * THREADS + threadIdx.x]"

    def _load_shared(self, where: dict[str, str], indent: str) -> list[str]:
        if not self.plan.shared:
            return []
        places, columns = self.code.column_places(indent + "  ")
        inner = indent + "  "
        size = "VEC" if self.plan.vec > 1 else "1"
        body = [
            *places,
            f"{inner}{self.code.kept_type} v[{size}];",
            *self.code.fill(self.prologue, where | columns, "v", inner),
            f"{inner}{self._park('v')}",
        ]
        return self._packs(body, indent, "PARKED")

    def _park(self, array: str) -> str:
        if self.plan.vec == 1:
            return f"{self._slot()} = {array}[0];"
        items = ", ".join(f"{array}[{k}]" for k in range(self.plan.vec))
        return f"{self._slot()} = make_{self.slot}({items});"

    def _unpark(self, indent: str, writable: bool = True) -> list[str]:
        if self.plan.vec == 1:
            const = "" if writable else "const "
            return [f"{indent}{const}{self.real} v[1] = {{{self._slot()}}};"]
        items = ", ".join(f"slot.{c}" for c in "xyzw"[: self.plan.vec])
        return [
            f"{indent}const {self.slot} slot = {self._slot()};",
            f"{indent}{self.real} v[VEC] = {{{items}}};",
        ]

    def _each(
        self, body: list[str], indent: str, setup: list[str], write_back: bool = False
    ) -> list[str]:
        """Lines for every held pack, which they call ``@``, over registers and shared memory."""
        lines: list[str] = []
        if self.plan.registers:
            inner = [*setup, *(f"{indent}  {t}".replace("@", "kept[p]") for t in body)]
            lines += self._packs(unrolled(inner), indent, "HELD")
        if self.plan.shared:
            inner = [
                *setup,
                *self._unpark(indent + "  ", writable=write_back),
                *(f"{indent}  {t}".replace("@", "v") for t in body),
            ]
            if write_back:
                inner.append(f"{indent}  {self._park('v')}")
            lines += self._packs(unrolled(inner), indent, "PARKED")
        return lines

    # --- statistics ---------------------------------------------------------------------

    def _statistic(
        self, s: Statistic, term: Element | None, where: dict[str, str], indent: str
    ) -> list[str]:
        setup, value = self._term(term, where, indent + "  ")
        if s.kind == "moments":
            return self._moments(s, setup, value, indent)
        if s.kind == "softmax":
            return self._softmax(s, setup, value, indent, replaces=term is None)
        number = self.code.statistics.index(s) + 1
        own, total = self._locals(f"own_{number}", f"all_{number}")
        lines = self._pass([(s.kind, own, value, total)], s.dtype, indent, setup)
        results = self.code.accumulator(s).results
        for part, name in self.code.result_names(s).items():
            kind = compute_type(Result(s, part).dtype)
            text = results[part].format(total).removeprefix("(").removesuffix(")")
            lines.append(f"{indent}const {kind} {name} = {text};")
        return lines

    def _pass(
        self,
        terms: list[tuple[str, str, str, str]],
        dtype: str,
        indent: str,
        setup: list[str],
        before: Sequence[str] = (),
        write_back: bool = False,
    ) -> list[str]:
        """One pass over what is held: (kind, accumulator, C of an element ``@[k]``, its total).

        ``before``: statements that a pack starts with; ``write_back``: they change it.
        """
        head, body, tail = [], list(before), []
        for kind, own, value, total in terms:
            accumulator = accumulators.of_kind(kind, dtype)
            lanes = min(self.plan.lanes, 32)
            self.code.define_accumulator(accumulator, lanes=lanes, block=self.plan.is_block)
            column = ", col" if accumulator.indexed else ""
            head.append(f"{indent}{accumulator.type} {own} = {accumulator.identity};")
            if value == "@[k]":
                body.append(f"add({own}, @{column});")
            else:
                (array,) = self._locals(f"{own}_terms")
                body += [
                    f"{accumulator.value} {array}[{self._width}];",
                    self._loop(f"{array}[k] = {value};"),
                    f"add({own}, {array}{column});",
                ]
            merged = f"warp_merge({own})" if lanes > 1 else own
            if self.plan.is_block:
                partial = f"partial_{accumulator.type.lower()}"
                self.partials[partial] = accumulator.type
                merged = f"block_merge({own}, {partial})"
            tail.append(f"{indent}const {accumulator.type} {total} = {merged};")
        return [*head, *self._each(body, indent, setup, write_back), *tail]

    @property
    def _width(self) -> str:
        return "VEC" if self.plan.vec > 1 else "1"

    def _loop(self, statement: str) -> str:
        """The statement for every element ``[k]`` of a pack."""
        if self.plan.vec == 1:
            return statement.replace("[k]", "[0]")
        return f"for (int k = 0; k < VEC; ++k) {statement}"

    def _locals(self, *wishes: str) -> list[str]:
        """Variables of one statistic, different from every other's and from all parameters."""
        writer = self.code.writer
        taken = {writer.tensor(access.tensor) for access in self.program.loads}
        taken |= {writer.tensor(access.tensor) for access in self.program.stores}
        taken |= {*writer.names.values(), *self.local_names}
        names = [unused(wish, taken) for wish in wishes]
        self.local_names += names
        return names

    def _term(
        self, term: Element | None, where: dict[str, str], indent: str
    ) -> tuple[list[str], str]:
        """Lines before, and the C of, a statistic's term of the held element ``@[k]``."""
        if term is None:
            return [], "@[k]"
        places, columns = self.code.column_places(indent)
        others = [load for load in term.loads if load != self.code.kept]
        lines, at = self.code.writer.load_packs(others, where | columns, indent)
        for leaf in term.leaves:
            if isinstance(leaf, Result):
                at[leaf] = self.code.name(leaf)
        at[self.code.kept] = "@[k]"
        return ([*places, *lines] if lines else []), self.code.writer.call(term, at)

    def _moments(self, s: Statistic, setup: list[str], value: str, indent: str) -> list[str]:
        names, real = self.code.result_names(s), compute_type(s.dtype)
        own_total, total, first_mean, own_rest, own_squares, rests, squares, rest, d = self._locals(
            "own_total", "all_total", "first_mean", "own_rest", "own_squares", "all_rest",
            "all_squares", "rest", "distance",
        )  # fmt: skip
        result = accumulators.of_kind("sum", s.dtype).results["sum"]
        before = [
            f"{real} {d}[{self._width}];",
            self._loop(f"{d}[k] = {value} - {first_mean};"),
        ]
        lines = [
            *self._pass([("sum", own_total, value, total)], s.dtype, indent, setup),
            f"{indent}const {real} {first_mean} = {result.format(total)} / COLS;",
            f"{indent}// Second pass, about the mean: no digits cancel. What is left over of the",
            f"{indent}// sum mends the mean's own rounding (Chan, Golub and LeVeque).",
            *self._pass(
                [
                    ("sum", own_rest, f"{d}[k]", rests),
                    ("sum", own_squares, f"{d}[k] * {d}[k]", squares),
                ],
                s.dtype, indent, setup, before,
            ),
            f"{indent}const {real} {rest} = {result.format(rests)};",
        ]  # fmt: skip
        if "mean" in names:
            lines.append(f"{indent}const {real} {names['mean']} = {first_mean} + {rest} / COLS;")
        if "m2" in names:
            text = f"{result.format(squares)} - {rest} * ({rest} / COLS)"
            lines.append(f"{indent}const {real} {names['m2']} = {text};")
        return lines

    def _softmax(
        self, s: Statistic, setup: list[str], value: str, indent: str, replaces: bool
    ) -> list[str]:
        real, f = compute_type(s.dtype), self.code.real.suffix
        top, total = (self.code.name(Result(s, part)) for part in ("max", "sum"))
        own_max, own_sum, all_max, all_sum = self._locals(
            "own_max", "own_sum", "all_max", "all_sum"
        )
        exp = f"exp{f}({value} - {top})"
        replace = replaces and self.held_at_end != self.code.kept
        before = [self._loop(f"@[k] = {exp};")] if replace else []
        term = "@[k]" if replace else exp
        return [
            *self._pass([("max", own_max, value, all_max)], s.dtype, indent, setup),
            f"{indent}const {real} {top} = {all_max}.max;",
            *self._pass([("sum", own_sum, term, all_sum)], s.dtype, indent, setup, before, replace),
            f"{indent}const {real} {total} = {all_sum}.sum + {all_sum}.rest;",
        ]

    # --- epilogue -----------------------------------------------------------------------

    def _epilogue(self, where: dict[str, str], indent: str) -> list[str]:
        assert self.epilogue is not None
        inner = indent + "  "
        element = "[k]" if self.plan.vec > 1 else "[0]"
        lines: list[str] = []
        places, columns = self.code.column_places(inner)
        if self.plan.registers:
            held = {self.held_at_end: f"kept[p]{element}"}
            body = [*places,
                    *self.code.finish(self.epilogue, held, where | columns, inner)]  # fmt: skip
            if self.plan.prefetch:
                lines.append(f"{indent}const {self.code.index} next = row + gridDim.x;")
                _, next_columns = self.code.column_places(inner)
                next_columns[""] = next_columns[""].replace("row *", "next *")
                _, next_rows = self.code.row_places(inner, "next")
                fill = self.code.fill(
                    self.prologue, next_rows | next_columns, "kept[p]", inner + "  "
                )
                body += [f"{inner}if (next < rows) {{", *fill, f"{inner}}}"]
            lines += self._packs(body, indent, "HELD", storing=True)
        if self.plan.shared:
            held = {self.held_at_end: f"v{element}"}
            body = [
                *places,
                *self._unpark(inner),
                *self.code.finish(self.epilogue, held, where | columns, inner),
            ]
            lines += self._packs(body, indent, "PARKED", storing=True)
        return lines


def unrolled(lines: Sequence[str]) -> list[str]:
    """The lines with every loop over a pack unrolled."""
    found: list[str] = []
    for line in lines:
        if line.lstrip().startswith("for (int k") and not (found and found[-1].startswith("#")):
            found.append("#pragma unroll")
        found.append(line)
    return found
