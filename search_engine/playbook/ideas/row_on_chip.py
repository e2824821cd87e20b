"""Give each row to one block and keep it on chip: registers first, then shared memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from search_engine.hardware import DeviceFacts
from search_engine.playbook import cost, words
from search_engine.playbook.expression import Load
from search_engine.playbook.held import HeldRow, HeldRowKernel
from search_engine.playbook.idea import Knobs, PlaybookIdea, Variant
from search_engine.playbook.ideas import row_shape
from search_engine.playbook.launch import ceil_div
from search_engine.playbook.program import Program
from search_engine.playbook.rows import RowCode
from search_engine.playbook.source import Part

_SPARE_REGISTERS = 28  # per thread, for addresses, statistics and loads in flight
_RESERVED_SHARED = 1024 + 512  # the system's and the reduction's share of a block


class RowOnChip(PlaybookIdea):
    """A block reads its row once, holds it, and writes it once."""

    key = "row_on_chip"
    title = "Hold the row on chip between statistics and result"
    category = "memory access"
    knobs: ClassVar[Knobs] = {
        "threads": (
            (128, 256, 512, 1024),
            "parallelism and occupancy",
            "More threads share a row's reduction; fewer leave room for a second block that loads "
            "while the first one waits.",
        ),
        "registers": (
            (0, 25, 50, 75, 100),
            "memory access",
            "Per cent of the row in registers, the rest in shared memory. What is held in "
            "registers needs no address and no bank; what is parked in shared "
            "memory frees registers for loads in flight.",
        ),
        "vector": (
            (1, 2, 4, 8),
            "memory access",
            "Wider accesses need fewer instructions for the same bytes; narrower ones leave fewer "
            "threads of a short row idle.",
        ),
        "prefetch": (
            ("no", "yes"),
            "asynchrony and latency hiding",
            "A block that stays and asks for its next row while it stores this one never leaves "
            "the memory system idle between two rows.",
        ),
        "once": (
            ("no", "yes"),
            "memory access",
            "Streaming hints let rows leave L2 first, so that the shared parameters stay; "
            "without them, what fits L2 is still there for the next kernel.",
        ),
    }

    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Rows that fit one multiprocessor, long enough for a block."""
        return (
            row_shape.has_row_statistics(program)
            and row_shape.holds_floats(program)
            and program.column_count >= 256
            and bool(self.variants(program, facts))
        )

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """Bytes of a second reading saved."""
        again = cost.streamed_bytes(program)
        size = program.column_count * self._item(program)
        chip = (facts.registers_per_sm * 4 + facts.shared_per_block) / 1024
        saved = again / facts.dram_bytes_per_second
        held = (
            f"{row_shape.there_are(program)}; {words.size(size)} of values fit one "
            f"multiprocessor ({chip:,.0f} KB of registers and shared memory)"
        )
        statistics = row_shape.statistic_words(program)
        exact = f"the statistics can be the textbook ones: {row_shape.exact_words(program)}"
        if not any(program.full(store) for store in program.stores):
            return f"{held}. Held there, every row is read once for its {statistics}, and {exact}."
        return (
            f"The result needs the {statistics} of the whole row, so a streaming kernel reads "
            f"every row twice. {held}. Held there, the second reading ({words.size(again)}, "
            f"{words.time(saved)} from device memory) is free, and {exact}."
        )

    @staticmethod
    def _item(program: Program) -> int:
        return 8 if program.dtype == "float64" else 4

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """Thread counts that fit; all in registers, or half of it parked; with prefetch."""
        vector = row_shape.vector(program)
        offered = [
            Variant.of(threads=threads, registers=share, vector=vector, prefetch=prefetch,
                       once="no")
            for threads in (256, 512, 1024, 128)
            for share in (100, 75, 50)
            for prefetch in ("no", "yes")
        ]  # fmt: skip
        good = [v for v in offered if self.valid(program, v, facts)]
        return sorted(good, key=lambda v: self.seconds(program, v, facts))

    @staticmethod
    def _packs(program: Program, variant: Variant) -> tuple[int, int]:
        """(packs in registers, packs in shared memory) of a thread."""
        step = variant.number("threads") * variant.number("vector")
        packs = ceil_div(program.column_count, step)
        held = (packs * variant.number("registers") + 50) // 100
        return held, packs - held

    def _most_registers(
        self, threads: int, vector: int, program: Program, facts: DeviceFacts
    ) -> int:
        """Packs that a thread of such a block can hold in registers."""
        words = vector * self._item(program) // 4
        per_thread = min(facts.registers_per_sm // threads, 160)
        return max((per_thread - _SPARE_REGISTERS) // words, 0)

    def _most_shared(self, threads: int, vector: int, program: Program, facts: DeviceFacts) -> int:
        """Packs that a thread of such a block can park in shared memory."""
        if vector * self._item(program) not in (4, 8, 16):
            return 0
        room = facts.shared_per_block - _RESERVED_SHARED
        return room // (threads * vector * self._item(program))

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """The row fits; prefetching wants a plain load and one row axis."""
        threads, vector = variant.number("threads"), variant.number("vector")
        if row_shape.vector(program) % vector:
            return False
        held, parked = self._packs(program, variant)
        if held > self._most_registers(threads, vector, program, facts):
            return False
        if parked > self._most_shared(threads, vector, program, facts):
            return False
        if variant.word("prefetch") == "yes":
            plain = isinstance(RowCode(program, vector).kept, Load)
            many = program.row_count > facts.sm_count
            return plain and many and held > 0 and len(program.rows) == 1
        return True

    def _blocks_per_sm(self, program: Program, variant: Variant, facts: DeviceFacts) -> int:
        threads, vector = variant.number("threads"), variant.number("vector")
        held, parked_packs = self._packs(program, variant)
        words = held * vector * self._item(program) // 4
        registers = facts.registers_per_sm // (threads * (words + _SPARE_REGISTERS + 4))
        parked = parked_packs * threads * vector * self._item(program)
        shared = facts.shared_per_sm // (parked + _RESERVED_SHARED)
        return max(1, min(registers, shared, facts.threads_per_sm // threads))

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """One pass; a lone block per multiprocessor idles at its barriers unless it prefetches."""
        blocks = self._blocks_per_sm(program, variant, facts)
        threads, vector = variant.number("threads"), variant.number("vector")
        packs = ceil_div(program.column_count, threads * vector)
        fill = program.column_count / (packs * threads * vector)
        # Shares of the copy bandwidth measured on an H200 (softmax of 65,536 and 1,024 columns,
        # RMSNorm of 4,096): asking early and streaming hints did not pay there.
        overlap = {1: 0.9, 2: 0.935}.get(blocks, 0.94)
        # Eight packs a thread were best there, for 4,096 columns as for 16,384.
        overlap -= 0.01 * abs(math.log2(packs / 8))
        overlap += 0.04 if blocks == 1 and threads == 1024 else 0.0
        overlap += 0.02 if blocks == 1 and threads == 512 else 0.0
        overlap -= 0.02 if vector * program.narrowest_item < 16 else 0.0
        overlap -= 0.05 if variant.word("prefetch") == "yes" else 0.0
        overlap -= 0.03 if variant.word("once") == "yes" else 0.0
        busy = cost.busy_share(program.row_count, facts, blocks)
        return cost.pass_seconds(
            program, facts, efficiency=overlap * (0.85 + 0.15 * fill), busy=busy
        )

    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel in parts."""
        threads, vector = variant.number("threads"), variant.number("vector")
        registers, parked = self._packs(program, variant)
        prefetch = variant.word("prefetch") == "yes"
        plan = HeldRow(
            vec=vector,
            lanes=threads,
            threads=threads,
            registers=registers,
            shared=parked,
            prefetch=prefetch,
            once=variant.word("once") == "yes",
            min_blocks=self._blocks_per_sm(program, variant, facts) if prefetch else 1,
        )
        where = "registers" if not plan.shared else "registers and shared memory"
        comment = (
            f"One block per row, the row held on chip ({where if registers else 'shared memory'}): "
            "read once, two exact passes over what is held, written once."
        )
        return HeldRowKernel(program, plan, "row_on_chip", comment).text()
