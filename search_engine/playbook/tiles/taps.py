"""A table of what each k adds to a window operand's offset and bounded indices.

Taking k apart into channel and taps costs some thirty instructions an element; looking it up
costs one, since all lanes of a warp ask for the same k.
"""

from __future__ import annotations

from attrs import frozen

from search_engine.playbook.contraction import Operand
from search_engine.playbook.expression import Load
from search_engine.playbook.tiles.places import apart, total

_MOST_BYTES = 16 * 1024  # of shared memory
FIELDS = "xyzw"


@frozen
class Taps:
    """The table of one operand, an ``int2`` or ``int4`` for every k of all stages."""

    name: str  # of the operand: "left", "right"
    operand: Operand
    load: Load
    k: int  # of the sum
    entries: int  # with those past the end, up to a whole stage
    threads: int

    @property
    def _numbers(self) -> int:
        """The offset, and the index along each bounded dimension."""
        return 1 + len(self.load.bounds)

    @property
    def kind(self) -> str:
        """The C type of an entry."""
        return "int2" if self._numbers <= 2 else "int4"

    @property
    def bytes(self) -> int:
        """Of shared memory."""
        return self.entries * (8 if self.kind == "int2" else 16)

    @property
    def fits(self) -> bool:
        """Whether an entry and the table are small enough."""
        return self._numbers <= 4 and self.bytes <= _MOST_BYTES

    def filled(self, indent: str) -> list[str]:
        """Lines that declare and fill the table."""
        inner = indent + "  "
        taken, where = apart(self.operand.columns, "k", inner)
        numbers = [total(self.load.strides, where)]
        numbers += [total(bound.terms, where) for bound in self.load.bounds]
        if self.load.bounds and self.entries != self.k:
            # No index past the end is inside anything.
            numbers[1] = f"k < {self.k} ? {numbers[1]} : -(1 << 30)"
        numbers += ["0"] * ((2 if self.kind == "int2" else 4) - len(numbers))
        name = f"{self.name}_taps"
        return [
            f"{indent}// What each k adds to the {self.name} operand's offset and bounded indices.",
            f"{indent}__shared__ {self.kind} {name}[{self.entries}];",
            f"{indent}for (int k = threadIdx.x; k < {self.entries}; k += {self.threads}) {{",
            *taken,
            f"{inner}{name}[k] = make_{self.kind}({', '.join(numbers)});",
            f"{indent}}}",
            f"{indent}__syncthreads();",
        ]
