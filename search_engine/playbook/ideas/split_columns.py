"""Few rows whose elements lie apart: their columns split over many blocks, in two launches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from search_engine.contract.printer import launch_line
from search_engine.hardware import DeviceFacts
from search_engine.playbook import cost, words
from search_engine.playbook.emit import Element
from search_engine.playbook.expression import loads
from search_engine.playbook.idea import Knobs, PlaybookIdea, Variant
from search_engine.playbook.ideas import row_shape
from search_engine.playbook.launch import ceil_div, rows
from search_engine.playbook.names import wrapped
from search_engine.playbook.program import Program
from search_engine.playbook.rows import RowCode
from search_engine.playbook.source import Part
from search_engine.playbook.streamed import Streamed


class SplitColumns(PlaybookIdea):
    """Tiles of 32 rows by stretches of columns; stretches meet in scratch memory."""

    key = "split_columns"
    title = "Split the columns of neighbouring rows over many blocks"
    category = "parallelism and occupancy"
    knobs: ClassVar[Knobs] = {
        "warps": (
            (4, 8, 16, 32),
            "parallelism and occupancy",
            "Warps of a block that share a stretch of columns.",
        ),
        "parts": (
            (4, 8, 16, 32, 64, 128, 256),
            "parallelism and occupancy",
            "Stretches of columns: more keep more multiprocessors reading, fewer leave less to "
            "merge.",
        ),
        "unroll": (
            (1, 2, 4, 8),
            "asynchrony and latency hiding",
            "Unrolling lets several columns be loaded before the first is added.",
        ),
    }

    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Row tiles too few to fill the chip, columns enough to share."""
        return (
            bool(program.statistics)
            and program.levels == 1
            and 512 <= program.column_count < 2**31 - 2**20
            and program.row_count < 32 * 4 * facts.sm_count
            and not row_shape.contiguous(program)
            and not cost.contracts(program)
        )

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """Multiprocessors without work."""
        tiles = ceil_div(program.row_count, 32)
        return (
            f"A row's {program.column_count:,} elements lie apart in memory, so 32 neighbouring "
            f"rows go to a warp, a lane to a row, and every access is coalesced. But "
            f"{words.counted(program.row_count, 'row')} make only {words.counted(tiles, 'tile')} "
            f"for {facts.sm_count} multiprocessors. Cut into stretches of columns, there is work "
            f"for all of them; the stretches' statistics "
            f"({row_shape.statistic_words(program)}) go to scratch memory, and a second launch "
            f"merges them in a fixed order."
        )

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """Enough blocks for some waves, by several shapes."""
        offered = [
            Variant.of(warps=warps, parts=parts, unroll=4)
            for warps in (8, 16)
            for parts in (8, 16, 32, 64, 128, 256)
        ]
        good = [v for v in offered if self.valid(program, v, facts)]
        return sorted(good, key=lambda v: self.seconds(program, v, facts))[:4]

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """Some columns to every warp."""
        walkers = variant.number("warps") * variant.number("parts")
        return 4 * walkers <= program.column_count

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """One reading, two where the result is of full size."""
        tiles = ceil_div(program.row_count, 32)
        threads = 32 * variant.number("warps")
        blocks = tiles * variant.number("parts")
        full = any(program.full(store) for store in program.stores)
        again = cost.streamed_bytes(program) if full else 0.0
        busy = cost.busy_share(blocks, facts, max(facts.threads_per_sm // threads, 1))
        lanes = min(1.0, program.row_count / 32)
        return cost.pass_seconds(
            program, facts, extra_reads=again, efficiency=0.8 * (0.2 + 0.8 * lanes), busy=busy,
            launches=2,
        )  # fmt: skip

    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel."""
        return _SplitColumns(program, variant).part()


class _SplitColumns:
    """Writes one file of the idea."""

    def __init__(self, program: Program, variant: Variant) -> None:
        self.warps, self.parts = variant.number("warps"), variant.number("parts")
        self.unroll = f"#pragma unroll {variant.number('unroll')}"
        self.code = RowCode(program, 1)
        self.program, self.writer = self.code.program, self.code.writer
        self.streamed = Streamed(self.code)

    def part(self) -> Part:
        """The file."""
        writer, program = self.writer, self.program
        epilogue = self.streamed.define(team=False)
        writer.constant("COLS", program.column_count, "elements of a row")
        writer.constant("WARPS", self.warps, "of a block, sharing the columns of 32 rows")
        writer.constant("PARTS", self.parts, "stretches of columns")
        share = ceil_div(program.column_count, self.parts)
        writer.constant("PART", share, "columns of a stretch")
        count = rows(program)
        tiles = f"ceil_div({count}, 32)"
        writer.lines += self.streamed.scratch_lines(f"{count} * {self.parts}")
        self._statistics_kernel(f"{tiles} * {self.parts}", count)
        grid = tiles if epilogue is None else f"{tiles} * {self.parts}"
        self._result_kernel(epilogue, grid, count)
        return writer.file(
            "Tiles of 32 neighbouring rows by stretches of columns: a lane to a row, each "
            "stretch's statistics to scratch memory, then merged in a fixed order."
        )

    def _kernel(self, name: str, grid: str, count: str, tensors: list[tuple[str, str]],
                body: list[str], *, constant: bool) -> None:  # fmt: skip
        arguments = [*(n for _, n in tensors), *self.streamed.part_arguments(), count]
        self.writer.lines.append(launch_line(name, grid, 32 * self.warps, arguments))
        parameters = [
            *(d for d, _ in tensors),
            *self.streamed.part_parameters(constant=constant),
            f"const {self.code.index} rows",
        ]
        start = f'extern "C" __global__ void __launch_bounds__(WARPS * 32) {name}('
        self.writer.kernels.append("\n".join([wrapped(start, parameters, ") {"), *body, "}"]))

    def _place(self, *, split: bool) -> list[str]:
        index = self.code.index
        wide = f"({index})" if index != "int" else ""
        tile = f"{wide}(blockIdx.x / PARTS)" if split else f"{wide}blockIdx.x"
        lines = [
            *(f"  __shared__ {self.streamed.type(s)} meet_{i}[WARPS][32];"
              for i, s in enumerate(self.code.statistics, 1)),
            "  const int lane = threadIdx.x % 32;",
            "  const int warp = threadIdx.x / 32;",
            f"  const {index} own_row = {tile} * 32 + lane;",
            "  // Every warp meets at the barriers: lanes past the end repeat the last row.",
            "  const bool active = own_row < rows;",
            f"  const {index} row = active ? own_row : rows - 1;",
        ]  # fmt: skip
        if split:
            lines += [
                "  const int part = blockIdx.x % PARTS;",
                "  const int end = min((part + 1) * PART, COLS);",
            ]
        return lines

    def _loop(self, body: list[str]) -> list[str]:
        head = "  for (int col = part * PART + warp; col < end; col += WARPS) {"
        return [self.unroll, head, *body, "  }"]

    def _meet(self, stem: str) -> list[str]:
        """The warps' accumulators ``stem_n`` merged lane by lane into ``all_n``."""
        streamed = self.streamed
        found = list(enumerate(self.code.statistics, 1))
        lines = [f"  meet_{i}[warp][lane] = {stem}_{i};" for i, _ in found]
        lines.append("  __syncthreads();")
        for i, s in found:
            lines += [
                f"  {streamed.type(s)} all_{i} = meet_{i}[0][lane];",
                f"  for (int w = 1; w < WARPS; ++w) all_{i} = merge(all_{i}, meet_{i}[w][lane]);",
            ]
        return lines

    def _statistics_kernel(self, grid: str, count: str) -> None:
        code, streamed = self.code, self.streamed
        places, where = code.row_places("  ")
        inner, columns = code.column_places("    ")
        body = [
            *self._place(split=True),
            *places,
            *streamed.pilots(code.statistics, where, "  "),
            *streamed.accumulators(code.statistics, "  "),
            *self._loop([*inner, *streamed.absorb(code.statistics, where | columns, "    ")]),
            *self._meet("own"),
            "  if (warp == 0 && active) {",
            *streamed.write_partials("part * rows + row", "    "),
            "  }",
        ]
        tensors = self.writer.parameters(loads(*(s.body for s in code.statistics)), [])
        self._kernel("column_parts", grid, count, tensors, body, constant=False)

    def _result_kernel(self, epilogue: Element | None, grid: str, count: str) -> None:
        code, streamed = self.code, self.streamed
        places, where = code.row_places("  ")
        inner, columns = code.column_places("    ")
        body = [
            *self._place(split=epilogue is not None),
            *places,
            *streamed.pilots(code.statistics, where, "  "),
            *streamed.accumulators(code.statistics, "  "),
            "  for (int from = warp; from < PARTS; from += WARPS) {",
            *(f"    {streamed.own(s)} = merge({streamed.own(s)}, "
              f"{streamed.parts(s)}[from * rows + row]);" for s in code.statistics),
            "  }",
            *self._meet("own"),
        ]  # fmt: skip
        for s in code.statistics:
            body += streamed.names(s, streamed.all(s), "  ")
        body += code.row_value_lines(where, "  ")
        needed = self.program.loads
        if epilogue is None:
            shifted = [s.body for s in code.statistics if streamed.pilot(s)]
            needed = loads(*code.row_sources, *shifted)
        if code.per_row:
            once = "" if epilogue is None else " && part == 0"
            body += [f"  if (warp == 0 && active{once}) {{",
                     *code.per_row_lines(where, "    "), "  }"]  # fmt: skip
        if epilogue is not None:
            body.append("  if (!active) return;")
            body += self._loop([*inner, *code.finish(epilogue, {}, where | columns, "    ")])
        tensors = self.writer.parameters(needed, self.program.stores)
        self._kernel("column_results", grid, count, tensors, body, constant=True)
