"""Give each row to one warp: its statistics are shuffles, without any barrier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from search_engine.hardware import DeviceFacts
from search_engine.playbook import cost, words
from search_engine.playbook.held import HeldRow, HeldRowKernel
from search_engine.playbook.idea import Knobs, PlaybookIdea, Variant
from search_engine.playbook.ideas import row_shape
from search_engine.playbook.launch import ceil_div
from search_engine.playbook.program import Program
from search_engine.playbook.source import Part

_MOST_HELD = 64  # floats of a row per thread: with the rest, under 128 registers


class WarpPerRow(PlaybookIdea):
    """A row in the registers of one warp, or of part of one."""

    key = "warp_per_row"
    title = "One warp per row, statistics by shuffles"
    category = "parallelism and occupancy"
    knobs: ClassVar[Knobs] = {
        "threads": (
            (64, 128, 256, 512),
            "parallelism and occupancy",
            "Warps share nothing here; smaller blocks let the scheduler fill gaps row by row.",
        ),
        "lanes": (
            (1, 2, 4, 8, 16, 32),
            "parallelism and occupancy",
            "Fewer lanes per row mean more packs per thread, more loads in flight and shorter "
            "shuffle trees; more lanes mean more rows' worth of threads.",
        ),
        "vector": (
            (1, 2, 4, 8),
            "memory access",
            "Wider accesses need fewer instructions for the same bytes; narrower ones leave fewer "
            "threads of a short row idle.",
        ),
        "once": (
            ("no", "yes"),
            "memory access",
            "Streaming hints let rows leave L2 first, so that the shared parameters stay; "
            "without them, what fits L2 is still there for the next kernel.",
        ),
    }

    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Rows that fit a warp's registers; small contractions too, whose operands L1 holds."""
        fits = program.column_count <= 32 * _MOST_HELD
        rows = bool(program.statistics) and bool(program.columns)
        return rows and fits and row_shape.contiguous(program)

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """Barriers against shuffles."""
        per_lane = words.counted(ceil_div(program.column_count, 32), "element")
        if cost.contracts(program):
            return (
                f"Each of {program.row_count:,} results is a reduction over "
                f"{words.counted(program.column_count, 'element')} that other results read too. "
                f"With a warp for each, {per_lane} per lane, neighbouring lanes read neighbours "
                f"in memory where the layout allows it, what is shared comes from cache, and the "
                f"reduction is at most five shuffles: no tile has to be filled, which is what "
                f"small or narrow problems lack."
            )
        whole = any(program.full(store) for store in program.stores)
        return (
            f"{row_shape.there_are(program)}, and the {row_shape.statistic_words(program)} of "
            f"{'it' if program.row_count == 1 else 'each'} {row_shape.are(program)} needed. "
            f"A block per row would meet at several barriers for every "
            f"{words.counted(program.column_count, 'element')}; a warp needs none: {per_lane} per "
            f"lane stay in registers, and every reduction is at most five shuffles. Each row is "
            f"read once{' and written once' if whole else ''}, and pointwise work before and "
            f"after it costs no memory traffic."
        )

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """A full warp, and fewer lanes with more packs each where rows are short."""
        vector = row_shape.vector(program)
        lanes = min(32, row_shape.power_of_two(ceil_div(program.column_count, vector)))
        offered = [
            Variant.of(threads=128, lanes=lanes, vector=vector, once="no"),
            Variant.of(threads=256, lanes=lanes, vector=vector, once="yes"),
            Variant.of(threads=128, lanes=max(lanes // 2, 1), vector=vector, once="no"),
            Variant.of(threads=128, lanes=max(lanes // 4, 1), vector=vector, once="no"),
        ]
        unique = dict.fromkeys(v for v in offered if self.valid(program, v, facts))
        return list(unique)

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """The pack divides the row and a lane's share fits its registers."""
        vector, best = variant.number("vector"), row_shape.vector(program)
        if best % vector:
            return False
        packs = ceil_div(program.column_count, variant.number("lanes") * vector)
        return packs * vector <= _MOST_HELD and (packs == 1 or variant.number("lanes") > 0)

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """One pass; few lanes per row spread a warp's access over many rows."""
        lanes, vector = variant.number("lanes"), variant.number("vector")
        packs = ceil_div(program.column_count, lanes * vector)
        segment = lanes * vector * program.narrowest_item
        efficiency = 0.95 if segment >= 256 else 0.9 if segment >= 128 else 0.8
        efficiency -= 0.02 if vector * program.narrowest_item < 16 else 0.0
        efficiency -= 0.01 if variant.word("once") == "yes" else 0.0
        efficiency *= program.column_count / (packs * lanes * vector) * 0.2 + 0.8
        warps = program.row_count * lanes / 32
        busy = min(1.0, warps / (facts.sm_count * 8))
        return cost.pass_seconds(program, facts, efficiency=efficiency, busy=busy)

    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel in parts."""
        lanes, vector = variant.number("lanes"), variant.number("vector")
        plan = HeldRow(
            vec=vector,
            lanes=lanes,
            threads=variant.number("threads"),
            registers=ceil_div(program.column_count, lanes * vector),
            once=variant.word("once") == "yes",
        )
        comment = (
            f"{'One warp' if lanes == 32 else f'{lanes} lanes'} per row: the row stays in "
            "registers, its statistics are shuffles, and no block ever waits at a barrier."
        )
        return HeldRowKernel(program, plan, "row_per_warp", comment).text()
