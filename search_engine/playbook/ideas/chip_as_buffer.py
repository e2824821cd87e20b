"""Use the whole chip as one buffer: a row lies spread over all multiprocessors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from search_engine.hardware import DeviceFacts
from search_engine.playbook import cost, words
from search_engine.playbook.idea import Knobs, PlaybookIdea, Variant
from search_engine.playbook.ideas import row_shape
from search_engine.playbook.launch import ceil_div
from search_engine.playbook.program import Program
from search_engine.playbook.source import Part
from search_engine.playbook.spread import SpreadRow, SpreadRowKernel, shared_parameters

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
        "held": (
            (100, 94, 88, 75, 50),
            "asynchrony and latency hiding",
            "Per cent of a block's part of the row that stays in registers. The rest is streamed "
            "while the blocks meet, so that the barrier finds the memory system at work.",
        ),
        "once": (
            ("no", "yes"),
            "memory access",
            "Streaming hints let what was read and written leave L2 first: the next row and the "
            "parameters need the room.",
        ),
    }

    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Rows too large for one multiprocessor that fit (nearly) all of them together."""
        return (
            row_shape.has_row_statistics(program)
            and row_shape.holds_floats(program)
            and program.levels == 1
            and len(program.rows) <= 1
            and program.row_count <= facts.sm_count
            and program.column_count >= 64 * 1024
            and bool(self.variants(program, facts))
        )

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """One reading instead of two."""
        size = program.column_count * (8 if program.real == "double" else 4)
        room = facts.registers_per_sm * 4 + facts.shared_per_block
        fit = "does not fit" if size > room else "fills most of"
        chip = facts.sm_count * facts.registers_per_sm * 4 / 1e6
        again = cost.streamed_bytes(program)
        text = f"A row of {program.column_count:,} elements ({words.size(size)}) {fit} one "
        statistics = row_shape.statistic_words(program)
        meet = (
            f"the registers of all {facts.sm_count} together hold {chip:.0f} MB. In a cooperative "
            f"launch every block keeps its part of the row, and the parts' statistics meet at one "
            f"grid barrier per row"
        )
        if not any(program.full(store) for store in program.stores):
            return (
                f"{text}multiprocessor, and its {statistics} would keep only that one busy; {meet}."
            )
        between = ""
        if program.row_count > 1:
            between = (
                " The next row's loads are under way while this one is stored, and what is not "
                "held is streamed while the blocks meet."
            )
            if shared_parameters(program):
                between = f" Parameters stay in shared memory for all rows.{between}"
        return (
            f"{text}multiprocessor, so its {statistics} "
            f"{row_shape.are(program, 'seems', 'seem')} to cost a second reading of "
            f"{words.size(again)} ({words.time(again / facts.dram_bytes_per_second)}). But {meet}; "
            f"the result is written from registers.{between}"
        )

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """All held, then parts of the row streamed during the barrier."""
        parked = 100 if shared_parameters(program) else 0
        offered = [
            Variant.of(threads=threads, parked=parked, held=held, once="yes")
            for threads, held in ((512, 88), (512, 100), (512, 75), (256, 88), (1024, 75))
        ]
        return [v for v in offered if self.valid(program, v, facts)]

    @staticmethod
    def packs(program: Program, threads: int, facts: DeviceFacts) -> int:
        """Packs of a row per thread when the row is spread over the chip."""
        vector = row_shape.vector(program)
        per_block = ceil_div(ceil_div(program.column_count, vector), facts.sm_count)
        return ceil_div(per_block, threads)

    def _held(self, program: Program, variant: Variant, facts: DeviceFacts) -> int:
        """Packs of a row per thread in registers."""
        packs = self.packs(program, variant.number("threads"), facts)
        return max(1, (packs * variant.number("held") + 50) // 100)

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """A thread's share of the row fits half of its registers, or a little more."""
        threads, vector = variant.number("threads"), row_shape.vector(program)
        held = self._held(program, variant, facts)
        words = held * vector * (2 if program.real == "double" else 1)
        room = min(facts.registers_per_sm // threads, 255) - _SPARE_REGISTERS
        if variant.number("parked") and not shared_parameters(program):
            return False
        return words <= room

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """One pass plus, per row, a barrier that what travels meanwhile hides in part."""
        # Measured on an H200: 16 rows of 16.8 MB took 5 µs each beyond their bytes, all held.
        streamed = 1 - variant.number("held") / 100
        row = program.column_count * 4
        hidden = min(2.5e-6, streamed * 4 * row / facts.dram_bytes_per_second)
        again = streamed * row / (facts.dram_bytes_per_second * cost.L2_RATIO)
        barriers = program.row_count * (cost.GRID_SYNC + 3.5e-6 - hidden + again)
        parameters = len(shared_parameters(program)) * program.column_count * 4 * program.row_count
        unparked = parameters * (1 - 0.85 * variant.number("parked") / 100)
        from_l2 = unparked / (facts.dram_bytes_per_second * cost.L2_RATIO * 2)
        base = cost.pass_seconds(program, facts, efficiency=0.92)
        return base + barriers + from_l2 + 1e-6

    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel in parts."""
        room = facts.shared_per_block - _SPARE_SHARED
        plan = SpreadRow(
            vec=row_shape.vector(program),
            threads=variant.number("threads"),
            held=self._held(program, variant, facts),
            parked=room * variant.number("parked") // 100,
            blocks=facts.sm_count,
            once=variant.word("once") == "yes",
        )
        return SpreadRowKernel(program, plan).text()
