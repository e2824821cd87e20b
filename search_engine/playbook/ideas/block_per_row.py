"""Give each row to one block that streams it twice: one-pass statistics, then the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from search_engine.contract.printer import launch_line
from search_engine.hardware import DeviceFacts
from search_engine.playbook import cost
from search_engine.playbook.idea import Knobs, PlaybookIdea, Variant
from search_engine.playbook.ideas import row_shape
from search_engine.playbook.launch import rows
from search_engine.playbook.names import wrapped
from search_engine.playbook.program import Program
from search_engine.playbook.rows import RowCode
from search_engine.playbook.source import Part
from search_engine.playbook.streamed import Streamed


class BlockPerRow(PlaybookIdea):
    """Statistics in one reading, the result in a second that finds much of the row in cache."""

    key = "block_per_row"
    title = "One block per row, statistics in a single reading"
    category = "compute and instruction"
    knobs: ClassVar[Knobs] = {
        "threads": (
            (128, 256, 512, 1024),
            "parallelism and occupancy",
            "More threads per row mean fewer rows open at once, so that the second reading finds "
            "more of them in cache.",
        ),
        "vector": (
            (1, 2, 4, 8),
            "memory access",
            "Wider accesses need fewer instructions for the same bytes; narrower ones leave fewer "
            "threads of a short row idle.",
        ),
        "unroll": (
            (1, 2, 4, 8),
            "asynchrony and latency hiding",
            "Unrolling lets several packs be loaded before the first is added.",
        ),
        "back": (
            ("no", "yes"),
            "control flow and loops",
            "A second reading that walks from the row's end starts with what was read last, which "
            "is what the caches still hold.",
        ),
    }

    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Any contiguous rows, long enough for a block."""
        return row_shape.has_row_statistics(program) and program.column_count >= 128

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """Passes saved by one-pass statistics."""
        statistics = row_shape.statistic_words(program)
        passes = "one reading" if program.levels == 1 else f"{program.levels} readings"
        if {s.kind for s in program.statistics} & {"moments", "softmax"}:
            text = (
                f"By the book, {statistics} take several passes over a row, and the result one "
                f"more. With {row_shape.one_pass_words(program)}, {passes} of the row "
                f"{'is' if program.levels == 1 else 'are'} enough, and no digits are lost."
            )
        else:
            text = (
                f"The {statistics} of a row {row_shape.are(program, 'takes', 'take')} {passes} "
                f"of it, with an accumulator in each thread."
            )
        text += f" {row_shape.there_are(program)}"
        if any(program.full(store) for store in program.stores):
            again = "the second reading" if program.levels == 1 else "each later reading"
            text += (
                f"; {again} follows at once, so that most of it comes from cache rather than "
                f"from device memory"
            )
        return f"{text}. Any length works, and few registers per thread leave room for many warps."

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """By block size; then walking back."""
        vector = row_shape.vector(program)
        offered = [
            Variant.of(threads=threads, vector=vector, unroll=4, back=back)
            for threads, back in (
                (1024, "yes"),
                (512, "yes"),
                (256, "yes"),
                (256, "no"),
                (128, "yes"),
            )
        ]
        good = [v for v in offered if self.valid(program, v, facts)]
        return sorted(good, key=lambda v: self.seconds(program, v, facts))

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """The pack divides the row; no thread without work."""
        vector = variant.number("vector")
        if row_shape.vector(program) % vector:
            return False
        threads = variant.number("threads")
        return threads == 128 or threads * vector <= 2 * program.column_count

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """Two readings; the second comes from L2 as far as the open rows fit there."""
        threads = variant.number("threads")
        # An online softmax takes 38 registers: then one block of 1,024 threads fits, not two.
        online = any(s.kind == "softmax" for s in program.statistics)
        fitting = facts.registers_per_sm // (threads * (40 if online else 32))
        blocks = max(1, min(facts.threads_per_sm // threads, facts.blocks_per_sm, fitting))
        again = cost.streamed_bytes(program)
        row_bytes = again / program.row_count
        open_bytes = row_bytes * min(blocks * facts.sm_count, program.row_count) * 2
        cached = cost.cached_share(open_bytes, facts)
        if variant.word("back") == "yes":
            cached = min(1.0, cached * 1.15)
        extra = again * (1 - cached) + again * cached * 0.25
        busy = cost.busy_share(program.row_count, facts, blocks)
        wide = variant.number("vector") * program.narrowest_item >= 16
        efficiency = 0.9 if wide else 0.87
        efficiency -= 0.2 if blocks == 1 else 0.0  # which idles while its rows meet
        return cost.pass_seconds(
            program, facts, extra_reads=extra, efficiency=efficiency, busy=busy
        )

    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel in parts."""
        threads, vector = variant.number("threads"), variant.number("vector")
        code = RowCode(program, vector)
        program, writer = code.program, code.writer
        streamed = Streamed(code)
        epilogue = streamed.define()
        writer.constant("COLS", program.column_count, "elements of a row")
        if vector > 1:
            writer.constant("VEC", vector, "neighbours that a thread moves in one access")
        writer.constant("THREADS", threads, "per block")
        unit = " * VEC" if vector > 1 else ""
        unroll = f"#pragma unroll {variant.number('unroll')}"
        step = f"THREADS{unit}"
        start = f"threadIdx.x{unit}"
        forward = f"for (int col = {start}; col < COLS; col += {step}) {{"
        places, where = code.row_places("  ")
        inner, columns = code.column_places("    ")
        body = [*streamed.partials("  "), f"  const {code.index} row = blockIdx.x;", *places]
        for level in code.levels():
            body += [
                *streamed.pilots(level, where, "  "),
                *streamed.accumulators(level, "  "),
                unroll,
                f"  {forward}",
                *inner,
                *streamed.absorb(level, where | columns, "    "),
                "  }",
                *streamed.block_results(level, "  "),
            ]
        body += code.row_value_lines(where, "  ")
        if code.per_row:
            body += ["  if (threadIdx.x == 0) {", *code.per_row_lines(where, "    "), "  }"]
        if epilogue is not None:
            loop = forward
            if variant.word("back") == "yes":
                body.append("  // Backwards: what was read last is still in cache.")
                last = f"(COLS - 1 - {start}) / ({step}) * ({step}) + {start}"
                loop = f"for (int col = {last}; col >= 0; col -= {step}) {{"
            body += [
                unroll,
                f"  {loop}",
                *inner,
                *code.finish(epilogue, {}, where | columns, "    "),
                "  }",
            ]
        tensors = writer.parameters(program.loads, program.stores)
        count = rows(program)
        names = [name for _, name in tensors]
        writer.lines.append(launch_line("block_per_row", count, threads, names))
        head = wrapped(
            'extern "C" __global__ void __launch_bounds__(THREADS) block_per_row(',
            [declaration for declaration, _ in tensors],
            ") {",
        )
        writer.kernels.append("\n".join([head, *body, "}"]))
        return writer.file(
            "One block per row: the statistics in a single reading, merged over the block in a "
            "fixed order, then the result in a second reading that the caches mostly serve."
        )
