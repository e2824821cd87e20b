"""What a row kernel holds on chip: packs in registers and in shared memory, and loops over them."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from search_engine.playbook.program import Program
from search_engine.playbook.rows import RowCode


@frozen
class HeldRow:
    """How a row is held.

    ``lanes``: threads of a row (32 and fewer: within a warp; more: a block of its own).
    ``threads``: per block. ``registers`` and ``shared``: packs per thread in each.
    ``prefetch``: blocks stay and load the next row while they store this one.
    """

    vec: int
    lanes: int
    threads: int
    registers: int
    shared: int = 0
    prefetch: bool = False
    once: bool = False
    min_blocks: int = 1

    @property
    def is_block(self) -> bool:
        """Whether a whole block works on one row."""
        return self.lanes == self.threads and self.lanes > 32

    @property
    def capacity(self) -> int:
        """Elements of a row that fit."""
        return (self.registers + self.shared) * self.lanes * self.vec


class HeldPacks:
    """The text of loops over what a thread holds of its row."""

    def __init__(self, program: Program, plan: HeldRow) -> None:
        self.plan = plan
        self.code = RowCode(program, plan.vec, streaming=plan.once)
        self.real = self.code.real.type
        self.exact = plan.capacity == program.column_count
        self.idle_lanes = not plan.is_block and plan.lanes < 32
        vectors = {("float", 4): "float4", ("float", 2): "float2", ("double", 2): "double2"}
        self.slot = vectors.get((self.real, plan.vec), self.real)  # a pack in shared memory

    def over(self, body: list[str], indent: str, kind: str, storing: bool = False) -> list[str]:
        """The unrolled loop over packs in registers ("HELD") or in shared memory ("PARKED")."""
        lane = "threadIdx.x" if self.plan.is_block else "lane"
        lanes = "THREADS" if self.plan.is_block else "LANES"
        base = "p" if kind == "HELD" or not self.plan.registers else "(HELD + p)"
        unit = " * VEC" if self.plan.vec > 1 else ""
        uses_col = any("col" in line for line in body) or not self.exact
        head = ["#pragma unroll", f"{indent}for (int p = 0; p < {kind}; ++p) {{"]
        if uses_col:
            at = f"({base} * {lanes} + {lane}){unit}" if unit else f"{base} * {lanes} + {lane}"
            head.append(f"{indent}  const int col = {at};")
        conditions = [] if self.exact else ["col < COLS"]
        if storing and self.idle_lanes:
            conditions.append("active")
        if conditions:
            inner = ["  " + line if not line.startswith("#") else line for line in body]
            return [*head, f"{indent}  if ({' && '.join(conditions)}) {{", *inner,
                    f"{indent}  }}", f"{indent}}}"]  # fmt: skip
        return [*head, *body, f"{indent}}}"]

    def _slot(self) -> str:
        return "parked[p * THREADS + threadIdx.x]"

    def park(self, array: str) -> str:
        """The statement that puts a pack into this thread's slot of shared memory."""
        if self.plan.vec == 1:
            return f"{self._slot()} = {array}[0];"
        items = ", ".join(f"{array}[{k}]" for k in range(self.plan.vec))
        return f"{self._slot()} = make_{self.slot}({items});"

    def unpark(self, indent: str, writable: bool = True) -> list[str]:
        """Lines that bring the pack back, as the array ``v``."""
        if self.plan.vec == 1:
            const = "" if writable else "const "
            return [f"{indent}{const}{self.real} v[1] = {{{self._slot()}}};"]
        items = ", ".join(f"slot.{c}" for c in "xyzw"[: self.plan.vec])
        return [
            f"{indent}const {self.slot} slot = {self._slot()};",
            f"{indent}{self.real} v[VEC] = {{{items}}};",
        ]

    def each(
        self, body: list[str], indent: str, setup: list[str], write_back: bool = False
    ) -> list[str]:
        """Lines for every held pack, which they call ``@``, over registers and shared memory."""
        lines: list[str] = []
        if self.plan.registers:
            inner = [*setup, *(f"{indent}  {t}".replace("@", "kept[p]") for t in body)]
            lines += self.over(unrolled(inner), indent, "HELD")
        if self.plan.shared:
            inner = [
                *setup,
                *self.unpark(indent + "  ", writable=write_back),
                *(f"{indent}  {t}".replace("@", "v") for t in body),
            ]
            if write_back:
                inner.append(f"{indent}  {self.park('v')}")
            lines += self.over(unrolled(inner), indent, "PARKED")
        return lines

    @property
    def width(self) -> str:
        """Elements of a pack, in C."""
        return "VEC" if self.plan.vec > 1 else "1"

    def each_element(self, statement: str) -> str:
        """The statement for every element ``[k]`` of a pack."""
        if self.plan.vec == 1:
            return statement.replace("[k]", "[0]")
        return f"for (int k = 0; k < VEC; ++k) {statement}"


def unrolled(lines: Sequence[str]) -> list[str]:
    """The lines with every loop over a pack unrolled."""
    found: list[str] = []
    for line in lines:
        if line.lstrip().startswith("for (int k") and not (found and found[-1].startswith("#")):
            found.append("#pragma unroll")
        found.append(line)
    return found
