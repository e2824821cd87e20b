"""Rows whose elements lie apart: a block takes 32 neighbouring rows, so accesses coalesce."""

from __future__ import annotations

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
        "vector": (
            (1, 2, 4, 8),
            "memory access",
            "Neighbouring rows of a lane: wider accesses need fewer instructions for the same "
            "bytes and keep more of them in flight.",
        ),
        "unroll": (
            (1, 2, 4, 8, 16),
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
        return rows_apart(program)

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """Sectors wasted by walking a row."""
        accesses = [load for load in program.loads if program.streamed(load)]
        stride = max((abs(load.stride(program.inner.name)) for load in accesses), default=0)
        item = program.narrowest_item
        uncoalesced = list(dict.fromkeys(scattered(program)))
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
        if uncoalesced:
            text += (
                f"; not all tensors lie that way round, so that the accesses to "
                f"{words.listed(uncoalesced)} stay uncoalesced, one sector per lane, and rely on "
                f"the caches"
            )
        else:
            text += ", which lie side by side, so that every access is coalesced"
        return (
            f"{text}. The warps of a block share the columns and meet in shared memory: "
            f"there they merge in a fixed order ({row_shape.one_pass_words(program)})."
        )

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """By warps down the columns and rows of a lane."""
        widest = row_vector(program)
        offered = [
            Variant.of(warps=warps, vector=vector, unroll=unroll, back=back)
            for warps, unroll, back in (
                (16, 8, "yes"), (8, 16, "yes"), (16, 4, "yes"), (8, 8, "no"), (4, 16, "yes"),
                (32, 8, "yes"),
            )
            for vector in dict.fromkeys((widest, max(widest // 2, 1)))
        ]  # fmt: skip
        good = [v for v in offered if self.valid(program, v, facts)]
        if not good:
            good = [Variant.of(warps=1, vector=1, unroll=4, back="no")]
        return sorted(good, key=lambda v: self.seconds(program, v, facts))[:5]

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """No warp without a column; packs divide the rows; warps meet in 48 KB."""
        tile = _tile(variant)
        return (
            tile.warps <= program.column_count
            and row_vector(program) % tile.vec == 0
            and meeting_bytes(program, tile) <= STATIC_SHARED
        )

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """Two readings, the second from L2 as far as the open tiles fit there."""
        tile = _tile(variant)
        threads = tile.warps * 32
        shared = facts.shared_per_sm // (meeting_bytes(program, tile) + 1024)
        blocks = max(1, min(facts.threads_per_sm // threads, facts.blocks_per_sm, shared))
        tiles = ceil_div(program.row_count, tile.rows)
        again = cost.streamed_bytes(program)
        if not any(program.full(store) for store in program.stores):
            again = again * (program.levels - 1)
        open_bytes = again / tiles * min(blocks * facts.sm_count, tiles) * 2
        cached = cost.cached_share(open_bytes, facts)
        extra = again * (1 - cached) + again * cached * 0.25
        busy = cost.busy_share(tiles, facts, blocks)
        efficiency = 0.2 if scattered(program) else tile_efficiency(program, tile, facts)
        return cost.pass_seconds(
            program, facts, extra_reads=extra, efficiency=efficiency, busy=busy
        )

    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel in parts."""
        tile = _tile(variant)
        comment = (
            f"{tile.rows} neighbouring rows per block: lanes run over rows, so that accesses "
            f"{coalescing(program)}; warps share the columns."
        )
        return TiledRows(program, tile, "tile_of_rows", comment).text()


def _tile(variant: Variant) -> Tile:
    return Tile(
        vec=variant.number("vector"),
        warps=variant.number("warps"),
        unroll=variant.number("unroll"),
        back=variant.word("back") == "yes",
    )
