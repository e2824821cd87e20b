"""Rows whose elements lie apart, held on chip: a tile of neighbouring rows is read once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from search_engine.hardware import DeviceFacts
from search_engine.playbook import cost, words
from search_engine.playbook.idea import Knobs, PlaybookIdea, Variant
from search_engine.playbook.ideas import row_shape
from search_engine.playbook.ideas.tile_shape import (
    STATIC_SHARED,
    coalescing,
    row_vector,
    rows_apart,
    scattered,
    tile_efficiency,
)
from search_engine.playbook.launch import ceil_div
from search_engine.playbook.program import Program
from search_engine.playbook.source import Part
from search_engine.playbook.tiled_rows import Tile, TiledRows, meeting_bytes

_SPARE_REGISTERS = 34  # per thread, for addresses, statistics and row values, at the most
_USUAL_REGISTERS = 20  # what compiled kernels had beside what they hold (12 to 31)
_MOST_HELD = 96  # registers of a thread for its rows: with the rest, well under 255


class TileOnChip(PlaybookIdea):
    """A block reads a tile of rows once, holds it in registers, and writes it once."""

    key = "tile_on_chip"
    title = "Hold a tile of neighbouring rows on chip"
    category = "memory access"
    knobs: ClassVar[Knobs] = {
        "warps": (
            (1, 2, 4, 8, 16, 32),
            "parallelism and occupancy",
            "More warps down the columns leave each thread less to hold; fewer have less to "
            "merge and leave room for a second block that loads while the first one waits.",
        ),
        "vector": (
            (1, 2, 4, 8),
            "memory access",
            "Neighbouring rows of a lane: wider accesses need fewer instructions for the same "
            "bytes, narrower ones hold fewer values per thread.",
        ),
    }

    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Rows apart, short enough that 32 of them fit the registers of a block."""
        return (
            rows_apart(program)
            and bool(program.rows)
            and row_shape.holds_floats(program)
            and (program.levels > 1 or any(program.full(store) for store in program.stores))
            and bool(self.variants(program, facts))
        )

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """Bytes of a second reading saved."""
        again = cost.streamed_bytes(program)
        saved = again / facts.dram_bytes_per_second
        return (
            f"The {row_shape.statistic_words(program)} "
            f"{row_shape.are(program, 'runs', 'run')} over {program.column_count:,} elements that "
            f"lie apart in memory, and the result needs them again: a streaming kernel reads "
            f"everything twice. A block that takes 32 or more neighbouring rows reads whole "
            f"sectors, and {words.size(program.column_count * self._item(program))} a row are "
            f"few enough to stay in registers. Then the second reading ({words.size(again)}, "
            f"{words.time(saved)} from device memory) is free, and every pass over what is held "
            f"can be exact: {row_shape.exact_words(program)}."
        )

    @staticmethod
    def _item(program: Program) -> int:
        return 8 if program.dtype == "float64" else 4

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """Warps and packs that fit, by predicted time."""
        widest = row_vector(program)
        offered = [
            Variant.of(warps=warps, vector=vector)
            for warps in (8, 16, 4, 32, 2, 1)
            for vector in dict.fromkeys((widest, max(widest // 2, 1), 1))
        ]
        good = [v for v in offered if self.valid(program, v, facts)]
        return sorted(good, key=lambda v: self.seconds(program, v, facts))[:5]

    def _registers(self, program: Program, tile: Tile) -> int:
        """Registers in which a thread holds its rows."""
        return tile.steps(program) * tile.vec * self._item(program) // 4

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """The tile fits; no warp without a column."""
        tile = _tile(variant)
        held = self._registers(program, tile)
        room = facts.registers_per_sm // (32 * tile.warps) - _SPARE_REGISTERS - 4 * tile.vec
        return (
            tile.warps <= program.column_count
            and row_vector(program) % tile.vec == 0
            and held <= min(_MOST_HELD, room)
            and meeting_bytes(program, tile) <= STATIC_SHARED
        )

    def _blocks_per_sm(self, program: Program, tile: Tile, facts: DeviceFacts) -> int:
        words_held = self._registers(program, tile) + _USUAL_REGISTERS
        registers = facts.registers_per_sm // (32 * tile.warps * words_held)
        shared = facts.shared_per_sm // (meeting_bytes(program, tile) + 1024)
        most = facts.threads_per_sm // (32 * tile.warps)
        return max(1, min(registers, shared, most, facts.blocks_per_sm))

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """One pass; what a multiprocessor has in flight decides, and blocks that overlap."""
        tile = _tile(variant)
        blocks = self._blocks_per_sm(program, tile, facts)
        held = tile.steps(program) * tile.vec * program.narrowest_item * 32 * tile.warps
        overlap = {1: 0.9, 2: 0.97, 3: 0.975}.get(blocks, 0.98)
        # 32 values a thread were best on an H200, for 64 columns as for 256.
        overlap -= 0.01 * abs(math.log2(self._registers(program, tile) / 32))
        # Bytes in flight for full bandwidth: 4.8 TB/s times 0.8 µs over 132 multiprocessors.
        flight = min(1.0, 0.7 + 0.3 * blocks * held / _IN_FLIGHT)
        fill = program.column_count / (tile.steps(program) * tile.warps)
        busy = cost.busy_share(ceil_div(program.row_count, tile.rows), facts, blocks)
        efficiency = 0.2 if scattered(program) else tile_efficiency(program, tile, facts)
        return cost.pass_seconds(
            program,
            facts,
            efficiency=efficiency * overlap * flight * (0.8 + 0.2 * fill),
            busy=busy,
        )

    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel in parts."""
        tile = _tile(variant)
        comment = (
            f"{tile.rows} neighbouring rows per block, held in registers: lanes run over rows, "
            f"so that accesses {coalescing(program)}; warps share the columns. Read once, "
            f"written once."
        )
        return TiledRows(program, tile, "tile_on_chip", comment).text()


_IN_FLIGHT = 64 * 1024


def _tile(variant: Variant) -> Tile:
    return Tile(vec=variant.number("vector"), warps=variant.number("warps"), held=True)
