"""Split each row over many blocks: partial statistics to scratch, then the result."""

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

# Parts that every warp of the second launch merges by itself: eight to a lane, no barrier.
_BY_WARP = 256


class SplitRows(PlaybookIdea):
    """Two launches: blocks share a row's statistics through scratch memory."""

    key = "split_rows"
    title = "Split each row over many blocks"
    category = "parallelism and occupancy"
    knobs: ClassVar[Knobs] = {
        "threads": (
            (128, 256, 512, 1024),
            "parallelism and occupancy",
            "The block that reads a part of a row; smaller ones retire sooner.",
        ),
        "vector": (
            (1, 2, 4, 8),
            "memory access",
            "Wider accesses need fewer instructions for the same bytes; narrower ones leave fewer "
            "threads of a short row idle.",
        ),
        "packs": (
            (1, 2, 4, 8, 16, 32),
            "control flow and loops",
            "More packs per thread mean fewer parts to merge; fewer mean more blocks to balance.",
        ),
        "order": (
            ("forward", "reversed"),
            "memory access",
            "Walking the second reading from the last part back finds the tail of the first "
            "reading in L2.",
        ),
    }

    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Rows too few to fill the chip and long enough to share."""
        return (
            row_shape.has_row_statistics(program)
            and program.levels == 1
            and program.column_count >= 4096
            and program.row_count < 16 * facts.sm_count
        )

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """Multiprocessors without work."""
        share = min(1.0, program.row_count / facts.sm_count)
        kept = words.size(min(facts.l2_bytes, cost.streamed_bytes(program)))
        rows = words.counted(program.row_count, "row")
        second = f"; walked from the end back, it finds up to {kept} still in L2"
        if not any(program.full(store) for store in program.stores):
            second = ""
        if program.row_count < facts.sm_count:
            busy = (
                f"{rows} {'keeps' if program.row_count == 1 else 'keep'} {program.row_count} of "
                f"{facts.sm_count} multiprocessors busy ({share:.0%}), and each row"
            )
        else:
            busy = (
                f"{rows} on {facts.sm_count} multiprocessors leave part of the last wave idle, "
                f"and each row"
            )
        return (
            f"With one block per row, {busy} of {program.column_count:,} elements is walked by "
            f"one of them alone. Split into parts, all multiprocessors read at once, and the "
            f"parts' statistics merge in a fixed order "
            f"({row_shape.one_pass_words(program)}). A second launch merges a few "
            f"numbers per row and writes the result{second}."
        )

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """By the size of parts, reversed; forward for comparison."""
        vector = row_shape.vector(program)
        offered = [
            Variant.of(threads=threads, vector=vector, packs=packs, order=order)
            for threads, packs, order in (
                (1024, 8, "reversed"), (256, 8, "reversed"), (512, 16, "reversed"),
                (512, 16, "forward"), (512, 32, "reversed"), (256, 2, "reversed"),
            )
        ]  # fmt: skip
        good = [v for v in offered if self.valid(program, v, facts)]
        return sorted(good, key=lambda v: self.seconds(program, v, facts))

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """At least two parts to a row, the pack divides it."""
        vector = variant.number("vector")
        chunk = variant.number("threads") * variant.number("packs") * vector
        return row_shape.vector(program) % vector == 0 and 2 * chunk <= 2 * program.column_count

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """Two readings of the rows, one where the result is a number per row.

        Shares of the bandwidth are an H200's, for a norm over 268 MB and one over 256 rows of
        1 MB: parts of 8 packs took 0.203 ms, of 32 packs 0.212 ms.
        """
        full = any(program.full(store) for store in program.stores)
        again = float(cost.streamed_bytes(program)) if full else 0.0
        if variant.word("order") == "reversed":
            again -= min(again, 0.1 * facts.l2_bytes)
        chunk = variant.number("threads") * variant.number("packs") * variant.number("vector")
        parts = program.row_count * ceil_div(program.column_count, chunk)
        busy = cost.busy_share(parts, facts, facts.threads_per_sm // variant.number("threads"))
        reached = {32: 0.8, 16: 0.815, 8: 0.83} if full else {32: 0.82, 16: 0.83, 8: 0.81}
        efficiency = reached.get(variant.number("packs"), 0.76)
        return cost.pass_seconds(
            program, facts, extra_reads=again, efficiency=efficiency, busy=busy, launches=2
        )

    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel in parts."""
        return _Split(program, variant).text()


class _Split:
    """Writes one file of the idea."""

    def __init__(self, program: Program, variant: Variant) -> None:
        self.variant = variant
        self.code = RowCode(program, variant.number("vector"))
        self.program, self.writer = self.code.program, self.code.writer
        self.streamed = Streamed(self.code)
        self.threads = variant.number("threads")
        self.unit = " * VEC" if self.code.vec > 1 else ""

    def text(self) -> Part:
        """The kernel in parts."""
        writer, program = self.writer, self.program
        epilogue = self.streamed.define()
        chunk = self.threads * self.variant.number("packs") * self.code.vec
        splits = ceil_div(program.column_count, chunk)
        writer.constant("COLS", program.column_count, "elements of a row")
        if self.code.vec > 1:
            writer.constant("VEC", self.code.vec, "neighbours that a thread moves in one access")
        writer.constant("THREADS", self.threads, "per block")
        writer.constant("PACKS", self.variant.number("packs"), "of a part, per thread")
        writer.constant("PART", f"THREADS * PACKS{self.unit}", "elements that one block walks")
        writer.constant("PARTS", splits, "blocks of a row")
        self.per_lane = ceil_div(splits, 32) if splits <= _BY_WARP else 0
        if self.per_lane:
            writer.constant("LANE_PARTS", self.per_lane, "parts that a lane merges at once")
        count = rows(program)
        writer.lines += self.streamed.scratch_lines(f"{count} * {splits}")
        self._statistics_kernel(f"{count} * {splits}")
        # Without a result of full size a block per row is enough to merge the parts.
        self._result_kernel(epilogue, count if epilogue is None else f"{count} * {splits}")
        return writer.file(
            "A row's parts on many blocks: each stores its own statistics, then every block "
            "merges its row's and writes its part of the result."
        )

    def _place(self) -> list[str]:
        index = self.code.index
        return [
            f"  const {index} row = block / PARTS;",
            "  const int begin = block % PARTS * PART;",
            "  const int end = min(begin + PART, COLS);",
        ]

    def _loop(self, body: list[str]) -> list[str]:
        head = f"for (int col = begin + threadIdx.x{self.unit}; col < end; "
        return [
            "#pragma unroll 4",
            f"  {head}col += THREADS{self.unit}) {{",
            *body,
            "  }",
        ]

    def _statistics_kernel(self, grid: str) -> None:
        code, streamed = self.code, self.streamed
        places, where = code.row_places("  ")
        inner, columns = code.column_places("    ")
        tensors = self.writer.parameters(loads(*(s.body for s in code.statistics)), [])
        self.writer.lines.append(
            launch_line(
                "row_parts",
                grid,
                self.threads,
                [*(n for _, n in tensors), *streamed.part_arguments()],
            )
        )
        head = wrapped(
            'extern "C" __global__ void __launch_bounds__(THREADS) row_parts(',
            [*(d for d, _ in tensors), *streamed.part_parameters(constant=False)],
            ") {",
        )
        body = [
            *streamed.partials("  "),
            f"  const {code.index} block = blockIdx.x;",
            *self._place(),
            *places,
            *streamed.pilots(code.statistics, where, "  "),
            *streamed.accumulators(code.statistics, "  "),
            *self._loop([*inner, *streamed.absorb(code.statistics, where | columns, "    ")]),
        ]
        for s in code.statistics:
            number = code.statistics.index(s) + 1
            merge = f"block_merge(own_{number}, {streamed.partial(streamed.type(s))})"
            body.append(f"  const {streamed.type(s)} all_{number} = {merge};")
        body += ["  if (threadIdx.x == 0) {", *streamed.write_partials("block", "    "), "  }"]
        self.writer.kernels.append("\n".join([head, *body, "}"]))

    def _result_kernel(self, epilogue: Element | None, grid: str) -> None:
        code, streamed = self.code, self.streamed
        places, where = code.row_places("  ")
        inner, columns = code.column_places("    ")
        needed = self.program.loads
        if epilogue is None:
            shifted = [s.body for s in code.statistics if streamed.pilot(s)]
            needed = loads(*code.row_sources, *shifted)
        tensors = self.writer.parameters(needed, self.program.stores)
        names = [name for _, name in tensors]
        names += streamed.part_arguments()
        self.writer.lines.append(launch_line("row_results", grid, self.threads, names))
        head = wrapped(
            'extern "C" __global__ void __launch_bounds__(THREADS) row_results(',
            [*(d for d, _ in tensors), *streamed.part_parameters(constant=True)],
            ") {",
        )
        body = [] if self.per_lane else streamed.partials("  ")
        if epilogue is None:
            body.append(f"  const {code.index} row = blockIdx.x;")
        elif self.variant.word("order") == "reversed":
            body += [
                "  // From the end back: the last parts that were read are still in L2.",
                f"  const {code.index} block = gridDim.x - 1 - blockIdx.x;",
            ]
        else:
            body.append(f"  const {code.index} block = blockIdx.x;")
        body += [
            *(self._place() if epilogue is not None else []),
            *places,
            *streamed.pilots(code.statistics, where, "  "),
            *streamed.read_partials("row * PARTS", "PARTS", "  ", self.per_lane),
            *code.row_value_lines(where, "  "),
        ]
        if code.per_row:
            first = "" if epilogue is None else " && begin == 0"
            body += [f"  if (threadIdx.x == 0{first}) {{",
                     *code.per_row_lines(where, "    "), "  }"]  # fmt: skip
        if epilogue is not None:
            body += self._loop([*inner, *code.finish(epilogue, {}, where | columns, "    ")])
        self.writer.kernels.append("\n".join([head, *body, "}"]))
