"""Tiles in shared memory, sums in registers: every loaded element serves many products."""

from __future__ import annotations

from typing import ClassVar

from search_engine.hardware import DeviceFacts
from search_engine.playbook import words
from search_engine.playbook.contraction import Contraction
from search_engine.playbook.idea import Knobs, Variant
from search_engine.playbook.program import Program
from search_engine.playbook.tiles.idea import KNOBS, TiledIdea, sizes, tile_words


class TileRegisters(TiledIdea):
    """Products in the fp32 (or fp64) units."""

    key = "tile_registers"
    title = "Tiles in shared memory, sums in registers"
    category = "memory access"
    unit = "registers"
    knobs: ClassVar[Knobs] = KNOBS

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """Flops per byte against what the units need."""
        c = self._contraction(program)
        least = c.flops / (facts.fp64_flops if program.dtype == "float64" else facts.fp32_flops)
        best = self.variants(program, facts)[0]
        m, n = (int(size) for size in best.word("tile").split("x"))
        return (
            f"The task multiplies {sizes(c)}: {c.flops / 1e9:.3g} GFLOP, {words.time(least)} of "
            f"the {facts.name}'s plain units. A thread per output would read two elements for "
            f"every product. A block that owns {tile_words(best)} outputs reads each of its "
            f"elements once into shared memory and uses it {min(m, n)} times or more; a thread "
            f"holds a small tile of sums in registers, so that one read from shared memory serves "
            f"several products. The next stages are copied while one is multiplied, and everything "
            f"that follows the sum is done on it in registers before it is stored."
        )

    def comment(self, c: Contraction, variant: Variant) -> str:
        """What stands above the kernel."""
        return (
            f"Sums of {words.counted(c.k, 'product')}. A block owns {tile_words(variant)} outputs; "
            f"its operands pass through shared memory in stages of {variant.number('depth')} k's, "
            f"sums stay in registers."
        )
