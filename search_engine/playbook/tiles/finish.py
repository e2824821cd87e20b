"""What becomes of the sums: the epilogue and the stores, or partial sums for a second launch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from attrs import evolve

from search_engine.playbook.contraction import Contraction
from search_engine.playbook.dtypes import compute_type
from search_engine.playbook.emit import Element, Writer
from search_engine.playbook.tiles.places import apart


def rows_only(contraction: Contraction) -> Contraction:
    """The same with the columns left out of the program: what the epilogue runs over."""
    return evolve(contraction, program=evolve(contraction.program, columns=()))


def pack(contraction: Contraction, contiguous: int) -> int:
    """Neighbouring outputs that a thread of a tile stores at once."""
    inner = contraction.program.rows[-1]
    right = contraction.n
    if not right or right[-1] != inner:
        return 1
    if any(store.stride(inner.name) != 1 for store in contraction.program.stores):
        return 1
    return math.gcd(inner.size, contiguous)


class Epilogue:
    """Defines the epilogue's element function and writes its calls."""

    def __init__(self, writer: Writer, contraction: Contraction) -> None:
        self.writer, self.contraction = writer, contraction
        program = writer.program
        outputs = [
            (writer.tensor(s.tensor) + "_new", compute_type(s.dtype), s.value)
            for s in program.stores
        ]
        self.element: Element = writer.element(
            "epilogue", "One output of its sum of products.", outputs, [contraction.result]
        )

    def store(self, sums: str, where: Mapping[str, str], indent: str) -> list[str]:
        """Lines that turn a pack of sums (``sums`` with k for its element) into outputs."""
        writer = self.writer
        where = dict(where)
        lines, at = writer.load_packs(self.element.loads, where, indent)
        at[self.contraction.result] = sums
        return [
            *lines,
            *writer.compute_and_store(self.element, at, writer.program.stores, where, indent),
        ]

    def places(
        self, m: str, n: str, indent: str, index: str
    ) -> tuple[Sequence[str], dict[str, str], Sequence[str], dict[str, str]]:
        """Lines and names of the left and of the right operand's axes."""
        first = apart(self.contraction.m, m, indent, index)
        second = apart(self.contraction.n, n, indent + "  ", index)
        return first[0], first[1], second[0], second[1]
