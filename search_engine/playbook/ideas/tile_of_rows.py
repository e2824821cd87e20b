"""Rows whose elements lie apart: a block takes 32 neighbouring rows, so accesses coalesce."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from search_engine.contract.printer import launch_line
from search_engine.hardware import DeviceFacts
from search_engine.playbook import cost, words
from search_engine.playbook.expression import Load
from search_engine.playbook.idea import Knobs, PlaybookIdea, Variant
from search_engine.playbook.ideas import row_shape
from search_engine.playbook.launch import ceil_div, rows
from search_engine.playbook.names import wrapped
from search_engine.playbook.program import Program, Store
from search_engine.playbook.rows import RowCode
from search_engine.playbook.source import Part
from search_engine.playbook.streamed import Streamed


class TileOfRows(PlaybookIdea):
    """Lanes run over rows, warps over columns; warps meet in shared memory."""

    key = "tile_of_rows"
    title = "Lanes across rows, warps down the columns"
    category = "memory access"
    knobs: ClassVar[Knobs] = {
        "warps": (
            (1, 2, 4, 8, 16, 32),
            "parallelism and occupancy",
            "More warps down the columns split each row's work further; fewer have less to merge.",
        ),
        "unroll": (
            (1, 2, 4, 8),
            "asynchrony and latency hiding",
            "Unrolling lets several columns be loaded before the first is added.",
        ),
        "back": (
            ("no", "yes"),
            "control flow and loops",
            "A second reading from the end starts with what the caches still hold.",
        ),
    }

    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Statistics over columns that are not neighbours in memory."""
        return (
            bool(program.statistics)
            and bool(program.columns)
            and program.column_count < 2**31 - 2**20
            and not row_shape.contiguous(program)
        )

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """Sectors wasted by walking a row."""
        accesses = [load for load in program.loads if program.streamed(load)]
        stride = max((abs(load.stride(program.inner.name)) for load in accesses), default=0)
        item = program.narrowest_item
        scattered = list(dict.fromkeys(_scattered(program)))
        text = (
            f"The {row_shape.statistic_words(program)} "
            f"{row_shape.are(program, 'runs', 'run')} over "
            f"{words.counted(program.column_count, 'element')} of a row"
        )
        if stride > 1:
            text += (
                f" that lie {stride:,} apart in memory: a warp that walked one row would use "
                f"{item} of every 32 bytes it fetched"
            )
        text += ". The 32 lanes of a warp take 32 rows instead"
        if scattered:
            text += (
                f"; not all tensors lie that way round, so that the accesses to "
                f"{words.listed(scattered)} stay uncoalesced, one sector per lane, and rely on "
                f"the caches"
            )
        else:
            text += ", which lie side by side, so that every access is coalesced"
        return (
            f"{text}. The warps of a block share the columns and meet in shared memory: "
            f"there they merge in a fixed order ({row_shape.one_pass_words(program)})."
        )

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """By warps down the columns."""
        offered = [
            Variant.of(warps=warps, unroll=unroll, back=back)
            for warps, unroll, back in ((8, 4, "yes"), (16, 4, "yes"), (4, 4, "yes"), (8, 4, "no"))
        ]
        good = [v for v in offered if self.valid(program, v, facts)]
        if not good:
            good = [Variant.of(warps=1, unroll=4, back="no")]
        return sorted(good, key=lambda v: self.seconds(program, v, facts))

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """No warp without a column."""
        return variant.number("warps") <= program.column_count

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """Two readings, the second from L2 as far as the open tiles fit there."""
        threads = variant.number("warps") * 32
        blocks = min(facts.threads_per_sm // threads, facts.blocks_per_sm)
        tiles = ceil_div(program.row_count, 32)
        again = cost.streamed_bytes(program)
        open_bytes = again / tiles * min(blocks * facts.sm_count, tiles) * 2
        cached = cost.cached_share(open_bytes, facts)
        extra = again * (1 - cached) + again * cached * 0.25
        busy = cost.busy_share(tiles, facts, blocks)
        efficiency = 0.2 if _scattered(program) else 0.82
        return cost.pass_seconds(
            program, facts, extra_reads=extra, efficiency=efficiency, busy=busy
        )

    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel in parts."""
        warps = variant.number("warps")
        code = RowCode(program, 1)
        program, writer = code.program, code.writer
        streamed = Streamed(code)
        epilogue = streamed.define(team=False)
        writer.constant("COLS", program.column_count, "elements of a row")
        writer.constant("WARPS", warps, "of a block, sharing the columns of 32 rows")
        index = code.index
        wide = f"({index})" if index != "int" else ""
        body = [
            f"  __shared__ {streamed.type(s)} meet_{i + 1}[WARPS][32];"
            for i, s in enumerate(code.statistics)
        ]
        body += [
            "  const int lane = threadIdx.x % 32;",
            "  const int warp = threadIdx.x / 32;",
            f"  const {index} own_row = {wide}blockIdx.x * 32 + lane;",
            "  // Every warp meets at the barriers: lanes past the end repeat the last row.",
            "  const bool active = own_row < rows;",
            f"  const {index} row = active ? own_row : rows - 1;",
        ]
        places, where = code.row_places("  ")
        inner, columns = code.column_places("    ")
        body += places
        unroll = f"#pragma unroll {variant.number('unroll')}"
        forward = "  for (int col = warp; col < COLS; col += WARPS) {"
        for level in code.levels():
            body += [
                *streamed.pilots(level, where, "  "),
                *streamed.accumulators(level, "  "),
                unroll,
                forward,
                *inner,
                *streamed.absorb(level, where | columns, "    "),
                "  }",
                *self._meet(streamed, level, code),
            ]
        body += code.row_value_lines(where, "  ")
        if code.per_row:
            body += ["  if (active && warp == 0) {", *code.per_row_lines(where, "    "), "  }"]
        if epilogue is not None:
            loop = forward
            if variant.word("back") == "yes":
                body.append("  // Backwards: what was read last is still in cache.")
                last = "(COLS - 1 - warp) / WARPS * WARPS + warp"
                loop = f"  for (int col = {last}; col >= 0; col -= WARPS) {{"
            body += [
                "  if (!active) return;",
                unroll,
                loop,
                *inner,
                *code.finish(epilogue, {}, where | columns, "    "),
                "  }",
            ]
        tensors = writer.parameters(program.loads, program.stores)
        count = rows(program)
        writer.lines.append(
            launch_line(
                "tile_of_rows",
                f"ceil_div({count}, 32)",
                32 * warps,
                [*(name for _, name in tensors), count],
            )
        )
        head = wrapped(
            'extern "C" __global__ void __launch_bounds__(WARPS * 32) tile_of_rows(',
            [*(d for d, _ in tensors), f"const {index} rows"],
            ") {",
        )
        writer.kernels.append("\n".join([head, *body, "}"]))
        return writer.file(
            "32 neighbouring rows per block: lanes run over rows, so that accesses "
            + (
                "of some tensors coalesce, those of others do not"
                if _scattered(program)
                else "coalesce although a row's own elements lie apart"
            )
            + "; warps share the columns."
        )

    @staticmethod
    def _meet(streamed: Streamed, level: Sequence[object], code: RowCode) -> list[str]:
        """Merge the warps' accumulators lane by lane, in a fixed order."""
        lines = []
        for i, s in enumerate(code.statistics):
            if s in level:
                lines.append(f"  meet_{i + 1}[warp][lane] = {streamed.own(s)};")
        lines.append("  __syncthreads();")
        for i, s in enumerate(code.statistics):
            if s not in level:
                continue
            total = f"all_{i + 1}"
            lines += [
                f"  {streamed.type(s)} {total} = meet_{i + 1}[0][lane];",
                f"  for (int w = 1; w < WARPS; ++w) {total} = merge({total}, "
                f"meet_{i + 1}[w][lane]);",
                *streamed.names(s, total, "  "),
            ]
        return lines


def _scattered(program: Program) -> list[str]:
    """Tensors of rows × columns in which neighbouring rows are not neighbours in memory."""
    inner = program.rows[-1].name if program.rows else ""
    accesses: list[Load | Store] = [load for load in program.loads if program.streamed(load)]
    accesses += [store for store in program.stores if program.full(store)]
    return [access.tensor for access in accesses if access.stride(inner) != 1]
