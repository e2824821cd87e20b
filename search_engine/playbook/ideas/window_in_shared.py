"""Bring a tile of outputs' windows into shared memory once, halo included."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from search_engine.hardware import DeviceFacts
from search_engine.playbook import cost, words
from search_engine.playbook.halo import Halo, HaloKernel, halo_of, windows
from search_engine.playbook.idea import Knobs, PlaybookIdea, Variant
from search_engine.playbook.ideas.thread_per_output import instructions, short_windows
from search_engine.playbook.program import Program
from search_engine.playbook.source import Part

_MOST_SHARED = 48 * 1024  # bytes of a block without opting in to more
_EFFICIENCY = 0.88  # of the copy bandwidth: blocks wait for their tile once
_FILL = 14.0  # instructions per value of a tile: its place, its conditions, both accesses


class WindowInShared(PlaybookIdea):
    """Overlapping windows, read once per tile instead of once per tap."""

    key = "window_in_shared"
    title = "A tile of windows in shared memory, with its halo"
    category = "memory access"
    knobs: ClassVar[Knobs] = {
        "width": (
            (32, 64, 128, 256, 512),
            "memory access",
            "Wider tiles have less halo and longer accesses; narrow ones waste less at the edge.",
        ),
        "height": (
            (1, 4, 8, 16, 32),
            "memory access",
            "Higher tiles have less halo per output and need more shared memory.",
        ),
        "outputs": (
            (1, 2, 4, 8),
            "compute and instruction",
            "A thread with several outputs below each other reads what they share from shared "
            "memory once, into registers.",
        ),
    }

    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Windows that overlap along the innermost axis, whatever else they do."""
        if not short_windows(program) or halo_of(program) is None:
            return False
        return bool(self.variants(program, facts))

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """How often a value is wanted, and what a tile makes of it."""
        halo = _halo(program)
        height, width = self._sizes(self.variants(program, facts)[0])
        outputs = math.prod(halo.tile(height, width))
        held = math.prod(halo.lengths(height, width))
        taps = program.column_count
        return (
            f"Windows of {windows(program)} values overlap: a tile of {outputs:,} outputs wants "
            f"{words.counted(outputs * taps, 'value')}, of which {held:,} are different. A block "
            f"brings these into shared memory with neighbouring threads on neighbouring "
            f"addresses, checks the padding once per value and not once per tap, and computes "
            f"what comes before the window once as well."
        )

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """Tiles of a few hundred outputs."""
        offered = [
            Variant.of(width=width, height=height, outputs=outputs)
            for width, height, outputs in (
                (64, 16, 4), (32, 16, 4), (64, 8, 2), (32, 8, 1), (128, 8, 4), (32, 32, 8),
                (256, 1, 1), (512, 1, 1), (128, 1, 1), (64, 1, 1), (32, 1, 1),
            )
        ]  # fmt: skip
        valid = [v for v in offered if self.valid(program, v, facts)]
        return sorted(valid, key=lambda v: self.seconds(program, v, facts))

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """A block that exists, a tile that fits and is no larger than the outputs are."""
        halo, (height, width) = _halo(program), self._sizes(variant)
        outputs = variant.number("outputs")
        if (halo.tiled == 1) != (height == 1) or height % outputs:
            return False
        for strip, size in zip(halo.strips, halo.tile(height, width), strict=True):
            if size > 32 and size >= 2 * strip.out.size:
                return False
        threads = height * width // outputs
        fits = halo.shared_bytes(height, width) <= _MOST_SHARED
        return 32 <= threads <= 1024 and fits and not program.needs_64_bit

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """One pass with the halo read again from L2, or the instructions if those take longer."""
        halo, (height, width) = _halo(program), self._sizes(variant)
        outputs = math.prod(halo.tile(height, width))
        ratio = math.prod(halo.lengths(height, width)) / outputs
        steps = math.prod(strip.out_step for strip in halo.strips)
        read, written = cost.traffic(program)
        # What lies in the halo of another tile comes from L2 most of the time.
        again = read * max(ratio / steps - 1, 0.0) * 0.3
        moved = (read + written + again) / (facts.dram_bytes_per_second * _EFFICIENCY)
        own = variant.number("outputs")
        per_output = ratio * _FILL + 12.0 / own + 4
        for statistic in program.statistics:
            for node, held in instructions(statistic.body, halo.values):
                if not held:
                    per_output += program.column_count * node
        share = halo.strips[-2].length(own) / (own * halo.strips[-2].tap.size) if own > 1 else 1.0
        per_output += program.column_count * share * 1.5 * len(halo.values)
        waste = math.prod(
            -(-strip.out.size // size) * size / strip.out.size
            for strip, size in zip(halo.strips, halo.tile(height, width), strict=True)
        )
        lanes = facts.sm_count * 128 * facts.clock_hz
        blocks = program.row_count / outputs
        busy = min(1.0, blocks / (facts.sm_count * 2))
        return max(moved, program.row_count * per_output * waste / lanes / busy) + cost.LAUNCH

    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel in parts."""
        halo, size = _halo(program), self._sizes(variant)
        comment = (
            f"A tile of {' x '.join(map(str, halo.tile(*size)))} outputs, all their windows of "
            f"{windows(program)} values in shared memory: each value is read and checked once."
        )
        return HaloKernel(program, halo, size, variant.number("outputs"), comment).text()

    @staticmethod
    def _sizes(variant: Variant) -> tuple[int, int]:
        return variant.number("height"), variant.number("width")


def _halo(program: Program) -> Halo:
    halo = halo_of(program)
    assert halo is not None, "the idea does not apply"
    return halo
