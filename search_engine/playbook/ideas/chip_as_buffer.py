"""Use the whole chip as one buffer: a row lies spread over all multiprocessors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from search_engine.contract.printer import launch_line, scratch_line
from search_engine.hardware import DeviceFacts
from search_engine.playbook import cost
from search_engine.playbook.dtypes import compute_type
from search_engine.playbook.emit import Element
from search_engine.playbook.expression import Expression, Load
from search_engine.playbook.idea import Knobs, PlaybookIdea, Variant
from search_engine.playbook.ideas import row_shape
from search_engine.playbook.launch import rows
from search_engine.playbook.names import wrapped
from search_engine.playbook.program import Program
from search_engine.playbook.rows import RowCode
from search_engine.playbook.streamed import Streamed

_SPARE_REGISTERS = 22  # per thread, for addresses, parameters and results
_SPARE_SHARED = 4096  # the reductions' share of a block, and the system's


class ChipAsBuffer(PlaybookIdea):
    """A cooperative launch: registers hold the row, shared memory the parameters."""

    key = "chip_as_buffer"
    title = "Hold a row across the whole chip, meet at a grid barrier"
    category = "memory access"
    knobs: ClassVar[Knobs] = {
        "threads": (
            (256, 512, 1024),
            "parallelism and occupancy",
            "Fewer threads have more registers each, so more loads in flight per thread; more "
            "threads share the work of the reductions.",
        ),
        "parked": (
            (0, 25, 50, 75, 100),
            "memory access",
            "Per cent of the shared memory that holds parameters: every row needs the same ones, "
            "and what is not parked comes from L2 each time.",
        ),
        "ahead": (
            (0, 1, 2, 3, 4, 6, 8),
            "asynchrony and latency hiding",
            "Packs of the next row that a thread asks for before the grid barrier: they travel "
            "while the blocks meet, when nothing else would use the memory system.",
        ),
    }

    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Rows too large for one multiprocessor that fit (nearly) all of them together."""
        return (
            row_shape.has_row_statistics(program)
            and program.levels == 1
            and len(program.rows) <= 1
            and program.column_count >= 64 * 1024
            and bool(self.variants(program, facts))
        )

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """One reading instead of two."""
        size = program.column_count * 4 / 1e6
        chip = facts.sm_count * facts.registers_per_sm * 4 / 1e6
        again = cost.streamed_bytes(program)
        return (
            f"A row of {program.column_count:,} elements ({size:.1f} MB) is far too large for one "
            f"multiprocessor, so its {row_shape.statistic_words(program)} seem to cost a second "
            f"reading of {again / 1e6:,.0f} MB ({again / facts.dram_bytes_per_second * 1e6:,.0f} "
            f"µs). But the registers of all {facts.sm_count} together hold {chip:.0f} MB. In a "
            f"cooperative launch every block keeps its part of the row, the parts' statistics meet "
            f"at one grid barrier per row, and the result is written from registers. Parameters "
            f"stay in shared memory for all {program.row_count} rows, and the next row's loads are "
            f"already under way while this one is stored."
        )

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """Parameters parked; as much of the next row ahead as registers allow, and less."""
        parked = 100 if self._parameters(program) else 0
        offered = [
            Variant.of(threads=threads, parked=parked, ahead=ahead)
            for threads, ahead in ((512, 6), (512, 3), (1024, 2), (1024, 1), (512, 0), (1024, 0))
        ]
        return [v for v in offered if self.valid(program, v, facts)]

    @staticmethod
    def _parameters(program: Program) -> list[Load]:
        """Loads that change along a row and are the same for every row, 4 bytes an element."""
        row_names = {axis.name for axis in program.rows}
        return [
            load
            for load in program.loads
            if program.reads_columns(load)
            and not row_names & {name for name, _ in load.strides}
            and compute_type(load.dtype) == "float"
            and load.stride(program.inner.name) == 1
        ]

    @staticmethod
    def packs(program: Program, threads: int, facts: DeviceFacts) -> int:
        """Packs of a row per thread when the row is spread over the chip."""
        vector = row_shape.vector(program)
        per_block = row_shape.ceil_div(
            row_shape.ceil_div(program.column_count, vector), facts.sm_count
        )
        return row_shape.ceil_div(per_block, threads)

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """A thread's share of the row fits half of its registers, or a little more."""
        threads, vector = variant.number("threads"), row_shape.vector(program)
        held, ahead = self.packs(program, threads, facts), variant.number("ahead")
        words = (held + ahead) * vector * (2 if program.real == "double" else 1)
        room = min(facts.registers_per_sm // threads, 255) - _SPARE_REGISTERS
        if variant.number("parked") and not self._parameters(program):
            return False
        return words <= room and ahead <= held

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """One pass plus, per row, a barrier that what travels meanwhile hides in part."""
        threads, vector = variant.number("threads"), row_shape.vector(program)
        moved = variant.number("ahead") * threads * vector * 4 * facts.sm_count
        hidden = moved / facts.dram_bytes_per_second
        barriers = program.row_count * max(cost.GRID_SYNC + 1.5e-6 - hidden, 0.3e-6)
        parameters = len(self._parameters(program)) * program.column_count * 4 * program.row_count
        unparked = parameters * (1 - 0.85 * variant.number("parked") / 100)
        from_l2 = unparked / (facts.dram_bytes_per_second * cost.L2_RATIO * 2)
        base = cost.pass_seconds(program, facts, efficiency=0.92)
        return base + barriers + from_l2 + 1e-6

    def render(self, program: Program, variant: Variant, facts: DeviceFacts) -> str:
        """The kernel text."""
        return _Spread(program, variant, facts, self).text()


class _Spread:
    """Writes one file of the idea."""

    def __init__(
        self, program: Program, variant: Variant, facts: DeviceFacts, idea: ChipAsBuffer
    ) -> None:
        self.threads = variant.number("threads")
        self.held = idea.packs(program, self.threads, facts)
        self.ahead = variant.number("ahead")
        self.code = RowCode(program, row_shape.vector(program))
        self.program, self.writer = self.code.program, self.code.writer
        self.streamed = Streamed(self.code)
        self.vec = self.code.vec
        self.unit = " * VEC" if self.vec > 1 else ""
        parameters = idea._parameters(self.program) if variant.number("parked") else []
        room = (facts.shared_per_block - _SPARE_SHARED) * variant.number("parked") // 100
        slot = self.threads * self.vec * 4
        self.slots = min(self.held, room // (slot * len(parameters))) if parameters else 0
        self.parked = parameters if self.slots else []
        self.shared = self.slots * slot * len(self.parked)

    def text(self) -> str:
        """The file."""
        writer, code = self.writer, self.code
        code.define_accumulators(team=True)
        self.prologue = code.prologue()
        self.bodies = {s: code.body_element(s, code.kept) for s in code.statistics}
        self.epilogue = code.epilogue(code.kept if code.full else None)
        self._constants()
        count, width = rows(self.program), self.streamed.scratch_width()
        real = code.real.type
        dtype = "float64" if real == "double" else "float32"
        writer.lines.append(scratch_line("parts", dtype, [f"{count} * sm_count * {width}"]))
        tensors = writer.parameters(self.program.loads, self.program.stores)
        arguments = [*(name for _, name in tensors), "parts", count]
        writer.lines.append(
            launch_line(
                "chip_as_buffer",
                "sm_count",
                self.threads,
                arguments,
                shared=self.shared or None,
                cooperative=True,
            )
        )
        writer.includes.append("cooperative_groups.h")
        head = wrapped(
            'extern "C" __global__ void __launch_bounds__(THREADS, 1) chip_as_buffer(',
            [*(d for d, _ in tensors), f"{real}* parts", f"const {code.index} rows"],
            ") {",
        )
        writer.kernels.append("\n".join([head, *self._body(), "}"]))
        return writer.file(
            "The whole chip as one buffer: each block holds its part of the row in registers, "
            "the parts' statistics meet at a grid barrier, and the result is written from "
            "registers. One reading, one writing."
        )

    def _constants(self) -> None:
        writer = self.writer
        writer.constant("COLS", self.program.column_count, "elements of a row")
        if self.vec > 1:
            writer.constant("VEC", self.vec, "neighbours that a thread moves in one access")
        writer.constant("THREADS", self.threads, "per block, one block per multiprocessor")
        step = self.threads * self.vec
        writer.constant("HELD", self.held, f"packs per thread in registers: {self.held * step:,} "
                        "elements a block")  # fmt: skip
        if self.parked:
            note = "of each parameter per thread in shared memory, for all rows"
            writer.constant("PARKED", self.slots, f"packs {note}")
        if self.ahead:
            writer.constant(
                "AHEAD", self.ahead, "packs of the next row on their way during the barrier"
            )

    # --- loops --------------------------------------------------------------------------

    def _held(self, body: list[str], indent: str, *, count: str = "HELD") -> list[str]:
        """The unrolled loop over a thread's packs of the row."""
        return [
            "#pragma unroll",
            f"{indent}for (int p = 0; p < {count}; ++p) {{",
            f"{indent}  const int col = begin + (p * THREADS + threadIdx.x){self.unit};",
            f"{indent}  if (col < end) {{",
            *body,
            f"{indent}  }}",
            f"{indent}}}",
        ]

    def _rest(self, body: list[str], indent: str) -> list[str]:
        """The loop over packs that are not held: none where the grid is as large as meant."""
        start = f"begin + (HELD * THREADS + threadIdx.x){self.unit}"
        return [
            f"{indent}for (int col = {start}; col < end; col += THREADS{self.unit}) {{",
            *body,
            f"{indent}}}",
        ]

    def _fill(self, row: str, target: str, indent: str) -> list[str]:
        places, columns = self.code.column_places(indent)
        columns[""] = columns[""].replace("row *", f"{row} *")
        _, where = self.code.row_places(indent, row)
        return [*places, *self.code.fill(self.prologue, where | columns, target, indent)]

    def _add(self, array: str, indent: str) -> list[str]:
        """Lines that add a pack of kept values to every statistic."""
        lines: list[str] = []
        code = self.code
        for s in code.statistics:
            own, body = self.streamed.own(s), self.bodies[s]
            if body is None:
                lines.append(f"{indent}add({own}, {array});")
                continue
            name = f"term_{code.statistics.index(s) + 1}"
            size = "VEC" if self.vec > 1 else "1"
            loop = "for (int k = 0; k < VEC; ++k) " if self.vec > 1 else ""
            at = "[k]" if self.vec > 1 else "[0]"
            places, columns = code.column_places(indent)
            _, where = code.row_places(indent)
            others = [load for load in body.loads if load != code.kept]
            extra, known = code.writer.load_packs(others, where | columns, indent)
            known[code.kept] = f"{array}{at}"
            lines += [
                *(places if extra else []),
                *extra,
                f"{indent}{code.real.type} {name}[{size}];",
                f"{indent}{loop}{name}{at} = {code.writer.call(body, known)};",
                f"{indent}add({own}, {name});",
            ]
        return lines

    # --- the kernel ---------------------------------------------------------------------

    def _body(self) -> list[str]:
        code, streamed = self.code, self.streamed
        index = code.index
        packs_of_row = "COLS / VEC" if self.vec > 1 else "COLS"
        lines = []
        if self.parked:
            kind = {4: "float4", 2: "float2", 1: "float"}.get(self.vec, "float4")
            lines.append(f"  extern __shared__ {kind} parked[];  // each thread its own slots")
        lines += [
            *streamed.partials("  "),
            f"  {code.real.type} kept[HELD][{'VEC' if self.vec > 1 else '1'}];",
            "  // This block's columns, the same ones of every row.",
            f"  const int share = ({packs_of_row} + gridDim.x - 1) / gridDim.x{self.unit};",
            "  const int begin = min((int)blockIdx.x * share, COLS);",
            "  const int end = min(begin + share, COLS);",
            *self._park(),
            "  {",
            f"    const {index} row = 0;",
            *self._held(self._fill("row", "kept[p]", "        "), "    "),
            "  }",
            f"  for ({index} row = 0; row < rows; ++row) {{",
            *self._own_statistics(),
            "    // Columns beyond what is held, if the grid is smaller than meant.",
            *self._rest(
                [
                    f"      {code.real.type} v[{'VEC' if self.vec > 1 else '1'}];",
                    *self._fill("row", "v", "      "),
                    *self._add("v", "      "),
                ],
                "    ",
            ),
        ]
        for s in code.statistics:
            number = code.statistics.index(s) + 1
            merge = f"block_merge(own_{number}, {streamed.partial(streamed.type(s))})"
            lines.append(f"    const {streamed.type(s)} all_{number} = {merge};")
        slot = "row * gridDim.x + blockIdx.x"
        lines += [
            "    if (threadIdx.x == 0) {",
            *streamed.write_partials(slot, "      "),
            "    }",
            f"    const {index} next = row + 1;",
            *self._ask_ahead(),
            "    cooperative_groups::this_grid().sync();",
            *self._merged(),
        ]
        return [*lines, "  }"]

    def _merged(self) -> list[str]:
        """After the barrier: merge, row values, result, and the next row's loads."""
        code = self.code
        merged = self.streamed.read_partials(
            "row * gridDim.x", "gridDim.x", "    ", by_warp=True, prefix="row_"
        )
        places, where = code.row_places("    ")
        lines = [*merged, *places, *code.row_value_lines(where, "    ")]
        if code.per_row:
            lines += ["    if (blockIdx.x == 0 && threadIdx.x == 0) {",
                      *code.per_row_lines(where, "      "), "    }"]  # fmt: skip
        if self.epilogue is not None:
            rest_places, columns = code.column_places("      ")
            size = "VEC" if self.vec > 1 else "1"
            element = "[k]" if self.vec > 1 else "[0]"
            lines += self._result(self.epilogue, where, element)
            lines += self._rest(
                [
                    f"      {code.real.type} v[{size}];",
                    *self._fill("row", "v", "      "),
                    *rest_places,
                    *code.finish(self.epilogue, {code.kept: f"v{element}"}, where | columns,
                                 "      "),
                ],
                "    ",
            )  # fmt: skip
        else:
            lines += [
                "    if (next < rows) {",
                *self._held(self._next_pack("          "), "      "),
                "    }",
            ]
        return lines

    def _ask_ahead(self) -> list[str]:
        """Before the barrier: the next row's first packs."""
        if not self.ahead:
            return []
        size = "VEC" if self.vec > 1 else "1"
        return [
            "    // On their way while the blocks meet.",
            f"    {self.code.real.type} coming[AHEAD][{size}];",
            "    if (next < rows) {",
            *self._held(self._fill("next", "coming[p]", "          "), "      ", count="AHEAD"),
            "    }",
        ]

    def _next_pack(self, indent: str) -> list[str]:
        """The next row's pack takes the place of the one just stored."""
        fill = self._fill("next", "kept[p]", indent + ("  " if self.ahead else ""))
        if not self.ahead:
            return fill
        copy = (
            f"{indent}  for (int k = 0; k < VEC; ++k) kept[p][k] = coming[p][k];"
            if self.vec > 1
            else f"{indent}  kept[p][0] = coming[p][0];"
        )
        return [f"{indent}if (p < AHEAD) {{", copy, f"{indent}}} else {{", *fill, f"{indent}}}"]

    def _own_statistics(self) -> list[str]:
        """The statistics of what this thread holds; moments in two exact passes."""
        code = self.code
        kinds = [s.kind for s in code.statistics]
        if kinds != ["moments"] or self.bodies[code.statistics[0]] is not None:
            return [
                *self.streamed.accumulators(code.statistics, "    "),
                *self._held(self._add("kept[p]", "        "), "    "),
            ]
        real = code.real.type
        each, inner = (
            ("for (int k = 0; k < VEC; ++k) ", "        ") if self.vec > 1 else ("", "        ")
        )
        at = "kept[p][k]" if self.vec > 1 else "kept[p][0]"
        step = " VEC" if self.vec > 1 else " 1"
        add = [f"{inner}count +={step};", f"{inner}{each}total += {at};"]
        square = [f"{inner}{each}squares += ({at} - own_mean) * ({at} - own_mean);"]
        return [
            f"    {real} count = 0, total = 0, squares = 0;",
            *self._held(add, "    "),
            f"    const {real} own_mean = count > 0 ? total / count : 0;",
            *self._held(square, "    "),
            "    Moments own_1 = {count, own_mean, squares};",
        ]

    def _result(self, epilogue: Element, where: dict[str, str], element: str) -> list[str]:
        """Store each held pack, then ask for the next row's pack in its place."""
        code, inner = self.code, "        "
        places, columns = code.column_places(inner)
        held: dict[Expression, str] = {code.kept: f"kept[p]{element}"}
        parked = self._unparked(inner)
        for load in self.parked:
            held[load] = f"{code.writer.leaf_name(load)}_v{element}"
        body = [*places, *parked, *code.finish(epilogue, held, where | columns, inner)]
        body += [f"{inner}if (next < rows) {{", *self._next_pack(inner + "  "), f"{inner}}}"]
        return self._held(body, "    ")

    def _slot(self, position: int) -> str:
        base = f"({position} * PARKED + p)" if position else "p"
        return f"parked[{base} * THREADS + threadIdx.x]"

    def _park(self) -> list[str]:
        """Bring the parameters' first packs into shared memory, once for all rows."""
        if not self.parked:
            return []
        code, inner = self.code, "      "
        places, columns = code.column_places(inner)
        lines, at = code.writer.load_packs(self.parked, columns, inner)
        for position, load in enumerate(self.parked):
            name = at[load].removesuffix("[k]")
            if self.vec == 1:
                lines.append(f"{inner}{self._slot(position)} = {name};")
            else:
                items = ", ".join(f"{name}[{k}]" for k in range(self.vec))
                lines.append(f"{inner}{self._slot(position)} = make_float{self.vec}({items});")
        return self._held([*places, *lines], "  ", count="PARKED")

    def _unparked(self, indent: str) -> list[str]:
        """Lines that bring a pack of each parked parameter back, from L2 where it is not parked."""
        code = self.code
        lines: list[str] = []
        _, columns = code.column_places(indent)
        for position, load in enumerate(self.parked):
            name = f"{code.writer.leaf_name(load)}_v"
            size = "VEC" if self.vec > 1 else "1"
            lines.append(f"{indent}{code.real.type} {name}[{size}];")
            from_l2 = code.writer.load_packs([load], columns, indent + "  ")[0]
            if self.vec > 1:
                slot = [f"{indent}  const float{self.vec} slot = {self._slot(position)};"]
                slot += [f"{indent}  {name}[{k}] = slot.{'xyzw'[k]};" for k in range(self.vec)]
                from_l2 = from_l2[1:]
            else:
                slot = [f"{indent}  {name}[0] = {self._slot(position)};"]
                from_l2 = [f"{indent}  {name}[0] = {code.writer.item(load, columns)};"]
            if self.slots < self.held:
                lines += [f"{indent}if (p < PARKED) {{", *slot, f"{indent}}} else {{", *from_l2,
                          f"{indent}}}"]  # fmt: skip
            else:
                lines += [f"{indent}{{", *slot, f"{indent}}}"]
        return lines
