"""Scans along contiguous rows: a team walks each row by tiles and carries what came before."""

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

_WARPS = 128  # threads of a block of several rows
_REACHED = {8: 0.7, 16: 0.76, 32: 0.74, 128: 0.79, 256: 0.81, 512: 0.82, 1024: 0.85}
_BOUNDED = {8: 0.68, 16: 0.72, 32: 0.7, 128: 0.79, 256: 0.8, 512: 0.77, 1024: 0.74}


class ScanRows(PlaybookIdea):
    """Registers, shuffles, one carried prefix; long rows in parts, read twice."""

    key = "scan_rows"
    title = "Scan each row by tiles, the prefix carried in registers"
    category = "compute and instruction"
    knobs: ClassVar[Knobs] = {
        "team": (
            (8, 16, 32, 128, 256, 512, 1024),
            "parallelism and occupancy",
            "Threads of a row. Up to a warp needs no barrier, a block has two per tile; a larger "
            "team walks a row in fewer steps, smaller ones have more rows under way.",
        ),
        "vector": (
            (1, 2, 4, 8),
            "memory access",
            "Wider accesses need fewer instructions and fewer shuffles for the same bytes.",
        ),
        "parts": (
            (1, 4, 16, 64, 256, 1024),
            "parallelism and occupancy",
            "Blocks that share a row. Each part's total comes first, from a reading of its own; "
            "then all parts are scanned at once.",
        ),
    }

    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Scans one way along rows whose elements are neighbours."""
        return bool(program.scans) and one_way(program) and row_shape.contiguous(program)

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """Dependent steps against teams."""
        read, written = cost.traffic(program)
        text = (
            f"Each element needs all before it, so one thread would take "
            f"{program.column_count:,} dependent steps. A team takes a tile at once: every thread "
            f"adds up its own pack, shuffles give it what the threads before it have, and the "
            f"tile's total is carried to the next. {row_shape.there_are(program)}, "
            f"and each is read once and written once: {words.size(read + written)}."
        )
        parts = [variant.number("parts") > 1 for variant in self.variants(program, facts)]
        if any(parts):
            text += (
                f" {words.counted(program.row_count, 'row')} would keep few of "
                f"{facts.sm_count} multiprocessors busy: {'all' if all(parts) else 'some'} "
                f"variants cut rows into parts, whose totals come first, from one more reading."
            )
        return text

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """Warps and blocks; in parts where rows are few."""
        vector = row_shape.vector(program)
        teams = [(team, 1) for team in (8, 16, 32, 128, 256, 512, 1024)]
        parts = [(team, parts) for team in (256, 512) for parts in (4, 16, 64, 256, 1024)]
        offered = [Variant.of(team=t, vector=vector, parts=p) for t, p in (*teams, *parts)]
        good = [v for v in offered if self.valid(program, v, facts)]
        return sorted(good, key=lambda v: self.seconds(program, v, facts))[:4]

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """The pack divides the row; no team far larger than its row; parts of some tiles."""
        team, vector, parts = (variant.number(name) for name in ("team", "vector", "parts"))
        if row_shape.vector(program) % vector:
            return False
        tile = team * vector
        if parts > 1:
            return team > 32 and 2 * tile * parts <= program.column_count
        return team == 8 or tile < 2 * program.column_count

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """One pass, or two for parts; a team waits once per tile for what is carried."""
        team, vector, parts = (variant.number(name) for name in ("team", "vector", "parts"))
        size = max(team, _WARPS)
        blocks = ceil_div(program.row_count * parts * team, size)
        per_sm = max(1, facts.threads_per_sm // size)
        fill = program.column_count / (
            ceil_div(program.column_count, team * vector) * team * vector
        )
        # Shares of an H200's bandwidth, for 8,192 rows of 8,192: large teams, unless operands
        # are bounded and come one by one.
        bounded = any(load.bounds for load in program.loads)
        reached = _BOUNDED if bounded else _REACHED
        efficiency = reached[team] * (0.4 + 0.6 * fill)
        efficiency -= 0.03 if vector * program.narrowest_item < 16 else 0.0
        extra = cost.streamed_bytes(program) * 0.8 if parts > 1 else 0.0
        busy = cost.busy_share(blocks, facts, per_sm)
        tiles = ceil_div(program.column_count, team * vector * parts)
        latency = tiles * 1.2e-6  # a load, two barriers or ten shuffles, one after the other
        streamed = cost.pass_seconds(
            program, facts, extra_reads=extra, efficiency=efficiency, busy=busy,
            launches=1 if parts == 1 else 2,
        )  # fmt: skip
        return max(streamed, latency)

    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel."""
        return _ScanRows(program, variant).part()


class _ScanRows:
    """Writes one file of the idea."""

    def __init__(self, program: Program, variant: Variant) -> None:
        self.team, self.parts = variant.number("team"), variant.number("parts")
        self.block = self.team > 32
        self.threads = self.team if self.block else _WARPS
        self.scanned = Scanned(program, variant.number("vector"), tiled=True)
        self.code, self.writer = self.scanned.code, self.scanned.writer
        self.program = self.scanned.program
        self.unit = " * VEC" if self.scanned.vec > 1 else ""

    def part(self) -> Part:
        """The file."""
        writer, scanned, program = self.writer, self.scanned, self.program
        self.epilogue = scanned.define(
            lanes=min(self.team, 32), block=self.block, parts=self.parts > 1
        )
        writer.constant("COLS", program.column_count, "elements of a row")
        if scanned.vec > 1:
            writer.constant("VEC", scanned.vec, "neighbours that a thread moves in one access")
        writer.constant("THREADS", self.threads, "per block")
        if not self.block:
            writer.constant("LANES", self.team, "threads of a row")
        team = "THREADS" if self.block else "LANES"
        writer.constant("TILE", f"{team}{self.unit}", "elements that a row's team takes at once")
        count = rows(program)
        grid = count if self.block else f"ceil_div({count}, {self.threads // self.team})"
        if self.parts > 1:
            tile = self.team * scanned.vec
            share = ceil_div(program.column_count, self.parts * tile) * tile
            parts = ceil_div(program.column_count, share)
            writer.constant("PART", share, "elements of a row that one block scans")
            writer.constant("PARTS", parts, "blocks of a row")
            grid = f"{count} * {parts}"
            writer.lines += scanned.total_lines(grid)
            self._totals_kernel(grid)
        self._scan_kernel(grid, count)
        return writer.file(
            "A team of threads per row takes a tile at once: each thread's own pack, an exclusive "
            "scan over the team, then the pack again from what is before it."
            + (" Parts' totals come first." if self.parts > 1 else "")
        )

    def _head(self, name: str, tensors: list[tuple[str, str]], more: list[str]) -> str:
        return wrapped(
            f'extern "C" __global__ void __launch_bounds__(THREADS) {name}(',
            [*(declaration for declaration, _ in tensors), *more],
            ") {",
        )

    def _row(self) -> list[str]:
        """The row of this thread's team, and the span of places that it scans."""
        index = self.code.index
        if self.parts > 1:
            return [
                f"  const {index} row = blockIdx.x / PARTS;",
                "  const int part = blockIdx.x % PARTS;",
            ]
        if self.block:
            return [f"  const {index} row = blockIdx.x;"]
        wide = f"({index})" if index != "int" else ""
        return [
            f"  const {index} own_row =",
            f"      {wide}blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;",
            "  // Shuffles need every lane of the warp: idle ones repeat the last row.",
            "  const bool active = own_row < rows;",
            f"  const {index} row = active ? own_row : rows - 1;",
        ]

    def _loop(self) -> list[str]:
        """The loop over tiles up to the pack's place ``at`` and its column."""
        lane = "threadIdx.x" if self.block else "threadIdx.x % LANES"
        begin, end = ("part * PART", "end") if self.parts > 1 else ("0", "COLS")
        lines = ["  const int end = min(part * PART + PART, COLS);"] if self.parts > 1 else []
        if not self.block:
            lines.append("#pragma unroll 4  // loads of several tiles are under way at once")
        return [
            *lines,
            f"  for (int tile = {begin}; tile < {end}; tile += TILE) {{",
            f"    const int at = tile + {lane}{self.unit};" if not self.unit or self.block
            else f"    const int at = tile + ({lane}){self.unit};",
            f"    const bool inside = at < {end};",
            self.scanned.column("at", "    ", guarded=True),
        ]  # fmt: skip

    def _totals_kernel(self, grid: str) -> None:
        """The total of every part but the last, which nobody needs."""
        scanned, code = self.scanned, self.code
        places, where = code.row_places("  ")
        inner, columns = code.column_places("    ")
        tensors = self.writer.parameters(loads(*self.program.bodies), [])
        self.writer.lines.append(
            launch_line("scan_totals", grid, self.threads,
                        [*(n for _, n in tensors), *scanned.total_names()])
        )  # fmt: skip
        absorbed, _ = scanned.absorb(where | columns, "    ")
        body = [
            *scanned.partials("  ", parts=True),
            *self._row(),
            *places,
            *scanned.declared("own", "  "),
            *self._loop(),
            *inner,
            *absorbed,
            "    if (inside) {",
            *scanned.add("own", "      "),
            "    }",
            "  }",
        ]
        for s in scanned.statistics:
            kind, own, all_ = (scanned.accumulator(s).type, scanned.variable("own", s),
                               scanned.variable("all", s))  # fmt: skip
            body += [
                f"  {kind} {all_};",
                f"  block_scan({own}, {scanned.partial(s)}, {all_});",
                f"  if (threadIdx.x == 0) {scanned.variable('totals', s)}[blockIdx.x] = {all_};",
            ]
        more = scanned.total_parameters(constant=False)
        self.writer.kernels.append(
            "\n".join([self._head("scan_totals", tensors, more), *body, "}"])
        )

    def _scan_kernel(self, grid: str, count: str) -> None:
        scanned, code = self.scanned, self.code
        places, where = code.row_places("  ")
        inner, columns = code.column_places("    ")
        tensors = self.writer.parameters(self.program.loads, self.program.stores)
        arguments, more = [name for _, name in tensors], []
        if self.parts > 1:
            arguments += scanned.total_names()
            more = scanned.total_parameters(constant=True)
        elif not self.block:
            arguments.append(count)
            more = [f"const {code.index} rows"]
        self.writer.lines.append(launch_line("scan_rows", grid, self.threads, arguments))
        absorbed, at = scanned.absorb(where | columns, "    ", self.epilogue.loads)
        body = [
            *(scanned.partials("  ", parts=self.parts > 1) if self.block else []),
            *self._row(),
            *places,
            *code.row_value_lines(where, "  "),
            *scanned.declared("carry", "  "),
            *(self._carried() if self.parts > 1 else []),
            *self._loop(),
            *inner,
            *absorbed,
            *scanned.declared("own", "    ", of_tile=True),
            "    if (inside) {",
            *scanned.add("own", "      "),
            "    }",
        ]
        before = "block_scan({own}, {partial}, {all})" if self.block else "team_scan({own}, {all})"
        body += scanned.carry(before, "    ", "own")
        storing = "inside" if self.block else "inside && active"
        body += [
            f"    if ({storing}) {{",
            *scanned.finish(self.epilogue, at, where | columns, "      "),
            "    }",
            "  }",
        ]
        self.writer.kernels.append("\n".join([self._head("scan_rows", tensors, more), *body, "}"]))

    def _carried(self) -> list[str]:
        """What the parts before this one have, merged by the block in a fixed order."""
        scanned = self.scanned
        lines = ["  for (int earlier = threadIdx.x; earlier < part; earlier += THREADS) {"]
        for s in scanned.statistics:
            carry, totals = scanned.variable("carry", s), scanned.variable("totals", s)
            lines.append(f"    {carry} = merge({carry}, {totals}[row * PARTS + earlier]);")
        lines.append("  }")
        for s in scanned.statistics:
            kind, carry, before = (scanned.accumulator(s).type, scanned.variable("carry", s),
                                   scanned.variable("before_part", s))  # fmt: skip
            lines += [
                f"  {kind} {before};",
                f"  block_scan({carry}, {scanned.partial(s)}, {before});",
                f"  {carry} = {before};",
            ]
        return lines
