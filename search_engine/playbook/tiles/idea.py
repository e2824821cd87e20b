"""What both ideas over tiles have in common: knobs, validity, order, rendering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from search_engine.hardware import DeviceFacts
from search_engine.playbook import words
from search_engine.playbook.contraction import Contraction
from search_engine.playbook.idea import Knobs, PlaybookIdea, Variant
from search_engine.playbook.program import Program
from search_engine.playbook.source import Part
from search_engine.playbook.tiles import plans
from search_engine.playbook.tiles.kernel import Unit

KNOBS: Knobs = {
    "tile": (
        plans.TILES,
        "memory access",
        "A larger tile uses every element that it loads for more products; a smaller one gives "
        "the multiprocessors more even shares.",
    ),
    "depth": (
        (8, 16, 32, 64),
        "asynchrony and latency hiding",
        "A deeper stage meets at fewer barriers; a shallower one leaves room for more stages and "
        "wastes less of a short sum.",
    ),
    "warps": (
        (2, 4, 8, 16),
        "parallelism and occupancy",
        "More warps hide each other's latencies; fewer hold larger pieces of the tile in registers "
        "and read shared memory less.",
    ),
    "stages": (
        (2, 3, 4, 5),
        "asynchrony and latency hiding",
        "More stages keep more copies in flight; fewer leave shared memory for a second block.",
    ),
    "copies": (
        ("async", "registers"),
        "asynchrony and latency hiding",
        "Asynchronous copies go past the registers; through registers, loads can be combined and "
        "stored in another order.",
    ),
    "taps": (
        ("inside", "outside"),
        "memory access",
        "With a convolution's taps outside and channels inside, a stage lies within one tap: its "
        "bounds are checked once, and the weight is copied into that order by a first launch.",
    ),
    "resident": (
        (1, 2, 3, 4),
        "parallelism and occupancy",
        "Registers kept for more blocks on a multiprocessor let one multiply while another waits "
        "at its barrier; kept for fewer, the compiler can load further ahead.",
    ),
    "split": (
        plans.SPLITS,
        "parallelism and occupancy",
        "Where tiles are fewer than multiprocessors, several blocks share the sum of one tile and "
        "a second launch adds their parts, in a fixed order.",
    ),
}


class TiledIdea(PlaybookIdea):
    """A contraction in shared-memory tiles; subclasses say which units multiply."""

    unit: ClassVar[Unit]

    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Products of two matrices with at least two rows and two columns."""
        c = plans.contraction(program)
        if c is None or not (c.m and c.n) or plans.word(c, self.unit) is None:
            return False
        return bool(plans.offered(c, self.unit, facts))

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """The likely best tiles, each with its best split."""
        return plans.offered(self._contraction(program), self.unit, facts)

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """Threads share tiles evenly, everything fits the device, sums are not too long."""
        return plans.valid(self._contraction(program), variant, self.unit, facts)

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """The slowest of compute, L2, DRAM and latency."""
        return plans.seconds(self._contraction(program), variant, self.unit, facts)

    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel."""
        made = plans.kernel(self._contraction(program), variant, self.unit)
        assert made is not None
        return made.part(self.comment(made.contraction, variant))

    def comment(self, c: Contraction, variant: Variant) -> str:
        """What stands above the kernel."""
        raise NotImplementedError

    @staticmethod
    def _contraction(program: Program) -> Contraction:
        c = plans.contraction(program)
        assert c is not None
        return c


def sizes(c: Contraction) -> str:
    """``64 products of 512 x 128 by 128 x 512``, ``the convolution as …``."""
    what = f"{c.left.count:,} × {c.k:,} by {c.k:,} × {c.right.count:,}"
    if c.batches > 1:
        what = f"{words.counted(c.batches, 'product')} of {what}"
    return what


def tile_words(variant: Variant) -> str:
    """``128 × 64``."""
    return variant.word("tile").replace("x", " × ")
