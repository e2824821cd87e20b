"""Row kernels that hold a row on chip: load once, statistics in two exact passes, store once.

The team of a row is a warp (or part of one) or a block; what it holds lies in registers and,
for a block, in shared memory as well.
"""

from __future__ import annotations

from search_engine.contract.printer import launch_line
from search_engine.playbook.emit import Element
from search_engine.playbook.expression import Expression, Statistic
from search_engine.playbook.held_packs import HeldPacks, HeldRow
from search_engine.playbook.held_statistics import HeldStatistics
from search_engine.playbook.launch import rows
from search_engine.playbook.names import wrapped
from search_engine.playbook.program import Program
from search_engine.playbook.source import Part


class HeldRowKernel:
    """Writes one kernel file."""

    def __init__(self, program: Program, plan: HeldRow, function: str, comment: str) -> None:
        self.plan, self.function, self.comment = plan, function, comment
        self.packs = HeldPacks(program, plan)
        self.code, self.real = self.packs.code, self.packs.real
        self.program = self.code.program
        self.columns = program.column_count

    def text(self) -> Part:
        """The kernel in parts."""
        plan, writer = self.plan, self.code.writer
        self.prologue = self.code.prologue()
        exponential = self.code.exponential()
        if exponential is not None:
            writer.names[exponential] = "exponential"
        self.held_at_end: Expression = exponential or self.code.kept
        replaces = self.held_at_end != self.code.kept
        self.statistics = HeldStatistics(self.packs, replaces=replaces)
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
            slot = self.packs.slot
            lines.append(f"  extern __shared__ {slot} parked[];  // each thread its own slots")
        meeting = len(lines)
        if plan.registers:
            lines.append(f"  {code.kept_type} kept[HELD][{self.packs.width}];")
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
            lines += self.statistics.lines(statistic, terms[statistic], where, indent)
        lines[meeting:meeting] = [
            f"  __shared__ {t} {n}[32];" for n, t in self.statistics.partials.items()
        ]
        lines += code.row_value_lines(where, indent)
        if code.per_row:
            first = "threadIdx.x == 0" if plan.is_block else "lane == 0"
            first += " && active" if self.packs.idle_lanes else ""
            lines += [f"{indent}if ({first}) {{", *code.per_row_lines(where, indent + "  "),
                      f"{indent}}}"]  # fmt: skip
        if self.epilogue is not None:
            lines += self._epilogue(where, indent)
        if plan.prefetch:
            lines.append("  }")
        return lines

    # --- loading ------------------------------------------------------------------------

    def _load_registers(
        self, where: dict[str, str], indent: str, next_row: bool = False
    ) -> list[str]:
        places, columns = self.code.column_places(indent + "  ")
        if next_row:
            columns[""] = columns[""].replace("row *", "next *")
        fill = self.code.fill(self.prologue, where | columns, "kept[p]", indent + "  ")
        return self.packs.over([*places, *fill], indent, "HELD")

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
            f"{inner}{self.packs.park('v')}",
        ]
        return self.packs.over(body, indent, "PARKED")

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
            lines += self.packs.over(body, indent, "HELD", storing=True)
        if self.plan.shared:
            held = {self.held_at_end: f"v{element}"}
            body = [
                *places,
                *self.packs.unpark(inner),
                *self.code.finish(self.epilogue, held, where | columns, inner),
            ]
            lines += self.packs.over(body, indent, "PARKED", storing=True)
        return lines


__all__ = ["HeldRow", "HeldRowKernel"]
