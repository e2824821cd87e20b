"""Scans along a dimension whose elements lie apart: lanes across rows, warps down the columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from search_engine.contract.printer import launch_line
from search_engine.hardware import DeviceFacts
from search_engine.playbook import cost, words
from search_engine.playbook.expression import loads
from search_engine.playbook.idea import Knobs, PlaybookIdea, Variant
from search_engine.playbook.ideas import row_shape
from search_engine.playbook.launch import ceil_div, rows
from search_engine.playbook.names import wrapped
from search_engine.playbook.program import Program
from search_engine.playbook.scanned import Scanned, one_way
from search_engine.playbook.source import Part


class ScanColumns(PlaybookIdea):
    """32 neighbouring rows to a block; each warp scans a stretch of their columns."""

    key = "scan_columns"
    title = "Scan across rows: a thread walks down each, warps share the columns"
    category = "memory access"
    knobs: ClassVar[Knobs] = {
        "warps": (
            (1, 2, 4, 8, 16, 32),
            "parallelism and occupancy",
            "Warps that share the columns of 32 rows: each adds up its stretch first, then scans "
            "it from what the stretches before it have.",
        ),
        "parts": (
            (1, 4, 16, 64),
            "parallelism and occupancy",
            "Blocks that share a row, where rows are few: the parts' totals come from a launch of "
            "their own.",
        ),
        "unroll": (
            (1, 2, 4, 8),
            "asynchrony and latency hiding",
            "Unrolling lets several columns be loaded before the first is added.",
        ),
    }

    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Scans one way along columns that are not neighbours in memory, or along short rows."""
        return (
            bool(program.scans)
            and one_way(program)
            and program.column_count < 2**31 - 2**20
            and not row_shape.contiguous(program)
        )

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """Sectors wasted by walking a row; readings."""
        accesses = [load for load in program.loads if program.streamed(load)]
        stride = max((abs(load.stride(program.inner.name)) for load in accesses), default=0)
        return (
            f"The scan runs over {words.counted(program.column_count, 'element')} that lie "
            f"{stride:,} apart in memory: a warp along a row would use one element of every sector "
            f"it fetches. The 32 lanes of a warp take 32 neighbouring rows instead, and each "
            f"thread walks down its own with the running value in registers. The warps of a block "
            f"share the columns: each adds up its stretch, they meet in shared memory, and each "
            f"scans its stretch again from what comes before it, mostly from cache."
        )

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """By warps; in parts where rows are few."""
        offered = [
            Variant.of(warps=warps, parts=parts, unroll=4)
            for warps in (1, 4, 8, 16)
            for parts in (1, 4, 16, 64)
        ]
        good = [v for v in offered if self.valid(program, v, facts)]
        return sorted(good, key=lambda v: self.seconds(program, v, facts))[:4]

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """No warp without a column."""
        walkers = variant.number("warps") * variant.number("parts")
        return walkers == 1 or 2 * walkers <= program.column_count

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """One reading by a lone warp; two by several, the second partly from cache."""
        warps, parts = variant.number("warps"), variant.number("parts")
        tiles = ceil_div(program.row_count, 32)
        blocks = max(1, min(facts.threads_per_sm // (32 * warps), facts.blocks_per_sm))
        again = cost.streamed_bytes(program)
        open_bytes = again / (tiles * parts) * min(blocks * facts.sm_count, tiles * parts) * 2
        cached = min(1.0, facts.l2_bytes * 0.7 / open_bytes) if parts == 1 else 0.1
        extra = 0.0 if warps * parts == 1 else again * (1 - 0.75 * cached)
        # A warp keeps a few hundred bytes in flight: it takes many to pull the bandwidth.
        busy = min(1.0, tiles * parts * warps / (facts.sm_count * 12))
        steps = program.column_count / (warps * parts)
        streamed = cost.pass_seconds(
            program, facts, extra_reads=extra, efficiency=0.8, busy=busy,
            launches=1 if parts == 1 else 2,
        )  # fmt: skip
        return max(streamed, steps * 0.15e-6)

    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel."""
        return _ScanColumns(program, variant).part()


class _ScanColumns:
    """Writes one file of the idea."""

    def __init__(self, program: Program, variant: Variant) -> None:
        self.warps, self.parts = variant.number("warps"), variant.number("parts")
        self.unroll = f"#pragma unroll {variant.number('unroll')}"
        self.scanned = Scanned(program, 1)
        self.code, self.writer = self.scanned.code, self.scanned.writer
        self.program = self.scanned.program

    def part(self) -> Part:
        """The file."""
        writer, program = self.writer, self.program
        self.epilogue = self.scanned.define()
        walkers = self.warps * self.parts
        share = ceil_div(program.column_count, walkers)
        writer.constant("COLS", program.column_count, "elements of a row")
        writer.constant("WARPS", self.warps, "of a block, sharing the columns of 32 rows")
        writer.constant("STRETCH", share, "columns of a warp")
        count = rows(program)
        grid = f"ceil_div({count}, 32)"
        if self.parts > 1:
            writer.constant("PARTS", self.parts, "blocks that share 32 rows")
            grid += f" * {self.parts}"
            writer.lines += self.scanned.total_lines(f"{count} * {self.parts}")
            self._totals_kernel(grid, count)
        self._scan_kernel(grid, count)
        return writer.file(
            "32 neighbouring rows per block, a lane to a row: every warp walks down a stretch of "
            "the columns with the running value in registers"
            + (", from what the stretches before it have." if walkers > 1 else ".")
        )

    def _kernel(self, name: str, tensors: list[tuple[str, str]], more: list[str],
                body: list[str]) -> None:  # fmt: skip
        head = wrapped(
            f'extern "C" __global__ void __launch_bounds__(WARPS * 32) {name}(',
            [*(d for d, _ in tensors), *more, f"const {self.code.index} rows"],
            ") {",
        )
        self.writer.kernels.append("\n".join([head, *body, "}"]))

    def _place(self) -> list[str]:
        index = self.code.index
        wide = f"({index})" if index != "int" else ""
        tile, part = "blockIdx.x", "0"
        if self.parts > 1:
            tile, part = "(blockIdx.x / PARTS)", "blockIdx.x % PARTS"
        lines = [
            "  const int lane = threadIdx.x % 32;",
            "  const int warp = threadIdx.x / 32;",
            f"  const {index} own_row = {wide}{tile} * 32 + lane;",
            "  // Every warp meets at the barriers: lanes past the end repeat the last row.",
            "  const bool active = own_row < rows;",
            f"  const {index} row = active ? own_row : rows - 1;",
        ]
        if self.parts > 1:
            lines.append(f"  const int part = {part};")
        first = "(part * WARPS + warp) * STRETCH" if self.parts > 1 else "warp * STRETCH"
        return [
            *lines,
            f"  const int begin = min({first}, COLS);",
            "  const int end = min(begin + STRETCH, COLS);",
        ]

    def _loop(self, body: list[str]) -> list[str]:
        return [
            self.unroll,
            "  for (int at = begin; at < end; ++at) {",
            self.scanned.column("at", "    ", guarded=False),
            *body,
            "  }",
        ]

    def _stretch_totals(self, where: dict[str, str]) -> list[str]:
        """Each warp adds up its stretch."""
        inner, columns = self.code.column_places("    ")
        absorbed, _ = self.scanned.absorb(where | columns, "    ")
        return [
            *self.scanned.declared("own", "  "),
            *self._loop([*inner, *absorbed, *self.scanned.add("own", "    ")]),
        ]

    def _meet(self) -> list[str]:
        """The warps' totals to shared memory, lane by lane."""
        scanned = self.scanned
        return [
            *(f"  {scanned.variable('meet', s)}[warp][lane] = {scanned.variable('own', s)};"
              for s in scanned.statistics),
            "  __syncthreads();",
        ]  # fmt: skip

    def _shared(self) -> list[str]:
        return [f"  __shared__ {self.scanned.accumulator(s).type} "
                f"{self.scanned.variable('meet', s)}[WARPS][32];"
                for s in self.scanned.statistics]  # fmt: skip

    def _totals_kernel(self, grid: str, count: str) -> None:
        """The total of every part of every row."""
        scanned = self.scanned
        places, where = self.code.row_places("  ")
        tensors = self.writer.parameters(loads(*self.program.bodies), [])
        names = [*(n for _, n in tensors), *scanned.total_names(), count]
        self.writer.lines.append(launch_line("scan_totals", grid, self.warps * 32, names))
        body = [
            *self._shared(),
            *self._place(),
            *places,
            *self._stretch_totals(where),
            *self._meet(),
            "  if (warp > 0 || !active) return;",
        ]
        for s in scanned.statistics:
            own, meet = scanned.variable("own", s), scanned.variable("meet", s)
            totals = scanned.variable("totals", s)
            body += [
                f"  for (int w = 1; w < WARPS; ++w) {own} = merge({own}, {meet}[w][lane]);",
                f"  {totals}[part * rows + row] = {own};",
            ]
        self._kernel("scan_totals", tensors, scanned.total_parameters(constant=False), body)

    def _scan_kernel(self, grid: str, count: str) -> None:
        scanned, code = self.scanned, self.code
        places, where = code.row_places("  ")
        tensors = self.writer.parameters(self.program.loads, self.program.stores)
        names, more = [name for _, name in tensors], []
        if self.parts > 1:
            names += scanned.total_names()
            more = scanned.total_parameters(constant=True)
        launch = launch_line("scan_columns", grid, self.warps * 32, [*names, count])
        self.writer.lines.append(launch)
        body = [*(self._shared() if self.warps > 1 else []), *self._place(), *places]
        body += scanned.declared("run", "  ")
        if self.parts > 1:
            body += ["  for (int earlier = 0; earlier < part; ++earlier) {",
                     *(f"    {scanned.variable('run', s)} = merge({scanned.variable('run', s)}, "
                       f"{scanned.variable('totals', s)}[earlier * rows + row]);"
                       for s in scanned.statistics),
                     "  }"]  # fmt: skip
        if self.warps > 1:
            body += [*self._stretch_totals(where), *self._meet()]
            body += ["  for (int w = 0; w < warp; ++w) {",
                     *(f"    {scanned.variable('run', s)} = merge({scanned.variable('run', s)}, "
                       f"{scanned.variable('meet', s)}[w][lane]);" for s in scanned.statistics),
                     "  }"]  # fmt: skip
        body += [*code.row_value_lines(where, "  "), "  if (!active) return;"]
        inner, columns = code.column_places("    ")
        absorbed, at = scanned.absorb(where | columns, "    ", self.epilogue.loads)
        finished = scanned.finish(self.epilogue, at, where | columns, "    ")
        body += self._loop([*inner, *absorbed, *finished])
        self._kernel("scan_columns", tensors, more, body)
