"""A row kernel that spreads each row over the whole chip: cooperative, one block per SM.

Each block holds its part of the row in registers from the first reading to the result. The
grid barrier comes in two halves; between them the block streams what it could not hold.
"""

from __future__ import annotations

from attrs import evolve, frozen

from search_engine.contract.printer import launch_line
from search_engine.playbook.dtypes import compute_type
from search_engine.playbook.expression import Expression, Load, Result, Statistic
from search_engine.playbook.launch import ceil_div, rows
from search_engine.playbook.names import wrapped
from search_engine.playbook.program import Program
from search_engine.playbook.rows import RowCode
from search_engine.playbook.source import Part
from search_engine.playbook.streamed import Streamed


@frozen
class SpreadRow:
    """How a row is spread over the chip.

    ``threads``: per block, one block per multiprocessor. ``held``: packs of ``vec`` elements
    per thread in registers. ``parked``: bytes of shared memory for parameters. ``blocks``:
    multiprocessors that are meant; any grid gives the right result. ``once``: streaming hints.
    """

    vec: int
    threads: int
    held: int
    parked: int
    blocks: int
    once: bool


def shared_parameters(program: Program) -> list[Load]:
    """Loads that change along a row, are the same for every row, and are float to compute in."""
    row_names = {axis.name for axis in program.rows}
    return [
        load
        for load in program.loads
        if program.reads_columns(load)
        and not row_names & load.axes
        and not load.bounds
        and compute_type(load.dtype) == "float"
        and load.stride(program.inner.name) == 1
    ]


class SpreadRowKernel:
    """Writes one kernel file."""

    def __init__(self, program: Program, plan: SpreadRow) -> None:
        self.threads, self.held = plan.threads, plan.held
        self.lane_parts = ceil_div(plan.blocks, 32)
        self.code = RowCode(program, plan.vec, streaming=plan.once)
        self.program, self.writer = self.code.program, self.code.writer
        self.streamed = Streamed(self.code, shifted=False)
        self.vec = self.code.vec
        self.unit = " * VEC" if self.vec > 1 else ""
        self.each = "for (int k = 0; k < VEC; ++k) " if self.vec > 1 else ""
        self.slot_k = "[k]" if self.vec > 1 else "[0]"
        self.size = "VEC" if self.vec > 1 else "1"
        parameters = shared_parameters(self.program)
        slot = self.threads * self.vec * 4
        self.slots = min(self.held, plan.parked // (slot * len(parameters))) if parameters else 0
        self.parked = parameters if self.slots else []
        self.shared = self.slots * slot * len(self.parked)

    def text(self) -> Part:
        """The kernel in parts."""
        writer, code = self.writer, self.code
        code.define_accumulators(team=True)
        self.prologue = code.prologue()
        self.bodies = {s: code.body_element(s, code.kept) for s in code.statistics}
        self.epilogue = code.epilogue(code.kept if code.full else None)
        self._constants()
        count = rows(self.program)
        writer.lines += self.streamed.scratch_lines(f"{count} * sm_count")
        tensors = writer.parameters(self.program.loads, self.program.stores)
        arguments = [*(name for _, name in tensors), *self.streamed.part_arguments(), count]
        shared = self.shared or None
        writer.lines.append(
            launch_line("chip_as_buffer", "sm_count", self.threads, arguments, shared=shared,
                        cooperative=True)
        )  # fmt: skip
        writer.includes.append("cooperative_groups.h")
        head = wrapped(
            'extern "C" __global__ void __launch_bounds__(THREADS, 1) chip_as_buffer(',
            [
                *(d for d, _ in tensors),
                *self.streamed.part_parameters(constant=False),
                f"const {code.index} rows",
            ],
            ") {",
        )
        writer.kernels.append("\n".join([head, *self._body(), "}"]))
        return writer.file(
            "The whole chip as one buffer: each block holds its part of the row in registers, "
            "the parts' statistics meet at a grid barrier, and the result is written from "
            "registers. What is not held is streamed while the blocks meet."
        )

    def _constants(self) -> None:
        writer = self.writer
        writer.constant("COLS", self.program.column_count, "elements of a row")
        if self.vec > 1:
            writer.constant("VEC", self.vec, "neighbours that a thread moves in one access")
        writer.constant("THREADS", self.threads, "per block, one block per multiprocessor")
        block = self.held * self.threads * self.vec
        writer.constant("HELD", self.held, f"packs per thread in registers: {block:,} a block")
        if self.parked:
            note = "of each parameter per thread in shared memory, for all rows"
            writer.constant("PARKED", self.slots, f"packs {note}")
        writer.constant("LANE_PARTS", self.lane_parts, "blocks' statistics that a lane merges")

    # --- loops over this block's columns ------------------------------------------------

    def _over_held(self, body: list[str], indent: str, count: str = "HELD") -> list[str]:
        """The unrolled loop over a thread's packs of the row in registers."""
        return [
            "#pragma unroll",
            f"{indent}for (int p = 0; p < {count}; ++p) {{",
            f"{indent}  const int col = begin + (p * THREADS + threadIdx.x){self.unit};",
            f"{indent}  if (col < end) {{",
            *body,
            f"{indent}  }}",
            f"{indent}}}",
        ]

    def _over_rest(self, body: list[str], indent: str) -> list[str]:
        """The loop over packs that are not held."""
        start = f"begin + (HELD * THREADS + threadIdx.x){self.unit}"
        return [
            "#pragma unroll 4",
            f"{indent}for (int col = {start}; col < end; col += THREADS{self.unit}) {{",
            *body,
            f"{indent}}}",
        ]

    def _at(self, row: str, indent: str) -> tuple[list[str], dict[str, str]]:
        """Lines before, and the place of, element ``col`` of a row."""
        places, columns = self.code.column_places(indent)
        columns[""] = columns[""].replace("row *", f"{row} *")
        return places, columns | self.code.row_places(indent, row)[1]

    def _fill(self, row: str, target: str, indent: str) -> list[str]:
        """Lines that bring a pack of the row into an array."""
        places, where = self._at(row, indent)
        return [*places, *self.code.fill(self.prologue, where, target, indent)]

    # --- statistics ---------------------------------------------------------------------

    def _add(self, array: str, row: str, into: str, indent: str, placed: bool = False) -> list[str]:
        """Lines that add a pack of kept values to the accumulators ``into`` + name.

        ``placed``: the column is taken apart already around this. A statistic that loads more
        than what is kept has a scope of its own: another may load the same.
        """
        lines: list[str] = []
        for s in self.code.statistics:
            own, body = f"{into}{self.streamed.own(s)}", self.bodies[s]
            accumulator = self.code.accumulator(s)
            column = ", col" if accumulator.indexed else ""
            if body is None:
                lines.append(f"{indent}add({own}, {array}{column});")
                continue
            term = f"term_{self.code.statistics.index(s) + 1}"
            others = [load for load in body.loads if load != self.code.kept]
            inner = indent + "  " if others else indent
            places, where = self._at(row, inner)
            extra, known = self.writer.load_packs(others, where, inner)
            known[self.code.kept] = f"{array}{self.slot_k}"
            call = self.writer.call(body, known)
            scoped = [
                *(places if others and not placed else []),
                *extra,
                f"{inner}{accumulator.value} {term}[{self.size}];",
                f"{inner}{self.each}{term}{self.slot_k} = {call};",
                f"{inner}add({own}, {term}{column});",
            ]
            lines += [f"{indent}{{", *scoped, f"{indent}}}"] if others else scoped
        return lines

    def _stream_in(self, row: str, indent: str) -> list[str]:
        """Add what is not held of a row to the accumulators ``coming_``.

        It is read again for the result, so it is not marked as used once.
        """
        self.code.writer, hinted = evolve(self.writer, streaming=False), self.code.writer
        body = [
            f"{indent}  {self.code.kept_type} v[{self.size}];",
            *self._fill(row, "v", indent + "  "),
            *self._add("v", row, "coming_", indent + "  ", placed=True),
        ]
        self.code.writer = hinted
        return self._over_rest(body, indent)

    def _held_statistics(self, indent: str) -> list[str]:
        """The statistics of what this thread holds; moments in two exact passes."""
        code, inner = self.code, indent + "    "
        struct = self.streamed.type(code.statistics[0])
        simple = [s.kind for s in code.statistics] == ["moments"] and None in self.bodies.values()
        if not simple:
            return [
                *self.streamed.accumulators(code.statistics, indent),
                *self._over_held(self._add("kept[p]", "row", "", inner), indent),
            ]
        real, at = code.real.type, f"kept[p]{self.slot_k}"
        square = f"({at} - own_mean) * ({at} - own_mean)"
        return [
            f"{indent}{real} count = 0, total = 0, squares = 0;",
            *self._over_held(
                [f"{inner}count += {self.size};", f"{inner}{self.each}total += {at};"], indent
            ),
            f"{indent}const {real} own_mean = count > 0 ? total / count : 0;",
            *self._over_held([f"{inner}{self.each}squares += {square};"], indent),
            f"{indent}{struct} own_1 = {{count, own_mean, squares}};",
        ]

    # --- the kernel ---------------------------------------------------------------------

    def _body(self) -> list[str]:
        code, streamed = self.code, self.streamed
        index = code.index
        packs_of_row = "COLS / VEC" if self.vec > 1 else "COLS"
        lines = []
        if self.parked:
            kind = f"float{self.vec}" if self.vec > 1 else "float"
            lines.append(f"  extern __shared__ {kind} parked[];  // each thread its own slots")
        carried = self._carried()
        lines += [
            *streamed.partials("  "),
            f"  {code.kept_type} kept[HELD][{self.size}];",
            "  const cooperative_groups::grid_group grid = cooperative_groups::this_grid();",
            "  // This block's columns, the same ones of every row.",
            f"  const int share = ({packs_of_row} + gridDim.x - 1) / gridDim.x{self.unit};",
            "  const int begin = min((int)blockIdx.x * share, COLS);",
            "  const int end = min(begin + share, COLS);",
            *self._park(),
            *(f"  {kind} {name} = 0;" for name, kind in carried.items()),
            *(f"  {streamed.type(s)} coming_{streamed.own(s)} = {self._zero(s)};"
              for s in code.statistics),
            *self._stream_in("0", "  "),
            *self._over_held(self._fill("0", "kept[p]", "      "), "  "),
            f"  for ({index} row = 0;; ++row) {{",
            "    cooperative_groups::grid_group::arrival_token token = 0;",
            "    if (row < rows) {",
            *self._held_statistics("      "),
            *self._publish("      "),
            "      token = grid.barrier_arrive();",
            "    }",
            *self._while_blocks_meet(),
            "    grid.barrier_wait(cooperative_groups::grid_group::arrival_token(token));",
            *self._after_barrier(carried),
            "  }",
        ]  # fmt: skip
        return lines

    def _zero(self, statistic: Statistic) -> str:
        return self.code.accumulator(statistic).identity

    def _carried(self) -> dict[str, str]:
        """Row values that the row's streamed part needs after the next barrier is arrived at.

        Their names, and their C types.
        """
        if self.epilogue is None:
            return {}
        return {
            self.code.name(leaf): compute_type(leaf.dtype)
            for leaf in self.epilogue.leaves
            if isinstance(leaf, Result) or leaf in self.code.row_values
        }

    def _publish(self, indent: str) -> list[str]:
        """Merge over the block, with what was streamed, and store for all blocks to read."""
        streamed = self.streamed
        lines = []
        for s in self.code.statistics:
            own = f"merge({streamed.own(s)}, coming_{streamed.own(s)})"
            merge = f"block_merge({own}, {streamed.partial(streamed.type(s))})"
            lines.append(f"{indent}const {streamed.type(s)} {streamed.all(s)} = {merge};")
        slot = "row * gridDim.x + blockIdx.x"
        return [
            *lines,
            f"{indent}if (threadIdx.x == 0) {{",
            *streamed.write_partials(slot, indent + "  "),
            f"{indent}}}",
        ]

    def _while_blocks_meet(self) -> list[str]:
        """What is not held: the result of the row before, the statistics of the next."""
        lines = [
            "    // While the blocks meet: what is not held, of the row before and of the next."
        ]
        if self.epilogue is not None:
            places, where = self._at("last", "        ")
            held: dict[Expression, str] = {self.code.kept: f"v{self.slot_k}"}
            # What is computed has a scope of its own: the result may load the same.
            scoped = self.code.kept_is_load is None
            fill = self.code.fill(self.prologue, where, "v", "          " if scoped else "        ")
            result = [
                *places,
                f"        {self.code.kept_type} v[{self.size}];",
                *(["        {", *fill, "        }"] if scoped else fill),
                *self.code.finish(self.epilogue, held, where, "        "),
            ]
            lines += [
                "    if (row > 0) {",
                f"      const {self.code.index} last = row - 1;",
                *self._over_rest(result, "      "),
                "    }",
            ]
        lines += ["    if (row == rows) break;", f"    const {self.code.index} next = row + 1;"]
        for s in self.code.statistics:
            zero = f"{self.streamed.type(s)}{self._zero(s)}"
            lines.append(f"    coming_{self.streamed.own(s)} = {zero};")
        return [*lines, "    if (next < rows) {", *self._stream_in("next", "      "), "    }"]

    def _after_barrier(self, carried: dict[str, str]) -> list[str]:
        """Merge all blocks' statistics, store what is held, load the next row in its place."""
        code = self.code
        lines = self.streamed.read_partials("row * gridDim.x", "gridDim.x", "    ", self.lane_parts)
        where = code.row_places("    ")[1]
        lines += code.row_value_lines(where, "    ")
        for name, kind in carried.items():
            lines = [line.replace(f"const {kind} {name} =", f"{name} =") for line in lines]
        if code.per_row:
            lines += ["    if (blockIdx.x == 0 && threadIdx.x == 0) {",
                      *code.per_row_lines(where, "      "), "    }"]  # fmt: skip
        inner = "        "
        body: list[str] = []
        if self.epilogue is not None:
            places, at = self._at("row", inner)
            held: dict[Expression, str] = {code.kept: f"kept[p]{self.slot_k}"}
            held |= {p: f"{self.writer.leaf_name(p)}_v{self.slot_k}" for p in self.parked}
            body += [*places, *self._unpark(inner), *code.finish(self.epilogue, held, at, inner)]
        fill = self._fill("next", "kept[p]", inner + "  ")
        body += [f"{inner}if (next < rows) {{", *fill, f"{inner}}}"]
        return [*lines, *self._over_held(body, "    ")]

    # --- parameters ---------------------------------------------------------------------

    def _slot(self, position: int) -> str:
        base = f"({position} * PARKED + p)" if position else "p"
        return f"parked[{base} * THREADS + threadIdx.x]"

    def _park(self) -> list[str]:
        """Bring the parameters' first packs into shared memory, once for all rows."""
        if not self.parked:
            return []
        inner = "      "
        places, columns = self.code.column_places(inner)
        lines, at = self.writer.load_packs(self.parked, columns, inner)
        for position, load in enumerate(self.parked):
            name = at[load].removesuffix("[k]")
            value = name
            if self.vec > 1:
                items = [f"{name}[{k}]" for k in range(self.vec)]
                value = f"make_float{self.vec}({', '.join(items)})"
            lines.append(f"{inner}{self._slot(position)} = {value};")
        return self._over_held([*places, *lines], "  ", count="PARKED")

    def _unpark(self, indent: str) -> list[str]:
        """Lines that bring a pack of each parameter back, from L2 where it is not parked."""
        lines: list[str] = []
        columns = self.code.column_places(indent)[1]
        for position, load in enumerate(self.parked):
            name = f"{self.writer.leaf_name(load)}_v"
            lines.append(f"{indent}{self.code.real.type} {name}[{self.size}];")
            if self.vec > 1:
                from_l2 = self.writer.load_packs([load], columns, indent + "  ")[0][1:]
                slot = [f"{indent}  const float{self.vec} slot = {self._slot(position)};"]
                slot += [f"{indent}  {name}[{k}] = slot.{'xyzw'[k]};" for k in range(self.vec)]
            else:
                from_l2 = [f"{indent}  {name}[0] = {self.writer.item(load, columns)};"]
                slot = [f"{indent}  {name}[0] = {self._slot(position)};"]
            if self.slots < self.held:
                lines += [f"{indent}if (p < PARKED) {{", *slot, f"{indent}}} else {{", *from_l2,
                          f"{indent}}}"]  # fmt: skip
            else:
                lines += [f"{indent}{{", *slot, f"{indent}}}"]
        return lines
