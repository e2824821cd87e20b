"""Row kernels that stream: one-pass statistics with accumulators, results in a second reading.

Here are the pieces of a loop over columns; ideas differ in which columns a block walks and
how accumulators meet.
"""

from __future__ import annotations

from collections.abc import Sequence

from search_engine.contract.printer import scratch_line
from search_engine.playbook.emit import Element, walk_until
from search_engine.playbook.expression import Expression, Inside, Load, Result, Statistic
from search_engine.playbook.rows import RowCode


class Streamed:
    """The text of streaming passes over ``code``'s rows.

    ``shifted``: moments are taken of the distance to the row's first element, its pilot, so
    that a mean far from zero costs no digits (the caller then places ``pilots``).
    """

    def __init__(self, code: RowCode, *, shifted: bool = True) -> None:
        self.code, self.shifted = code, shifted
        self.bodies: dict[Statistic, Element | None] = {}

    def define(self, *, team: bool = True) -> Element | None:
        """Define accumulators and element functions; returns the epilogue's, if any.

        ``team``: with merges over warps and blocks.
        """
        code = self.code
        code.define_accumulators(team=team)
        for statistic in code.statistics:
            if not isinstance(statistic.body, Load):
                self.bodies[statistic] = code.body_element(statistic, None)
        return code.epilogue(None)

    def pilot(self, statistic: Statistic) -> str:
        """The variable of the row's first value, empty where the statistic has none."""
        if not self.shifted or statistic.kind != "moments":
            return ""
        return f"pilot_{self.code.statistics.index(statistic) + 1}"

    def pilots(self, level: Sequence[Statistic], where: dict[str, str], indent: str) -> list[str]:
        """``const float pilot_1 = …;``: the body at the row's first column."""
        code, lines = self.code, []
        first = where | {axis.name: "0" for axis in code.program.columns}
        first[""] = f"row * {code.program.column_count}"
        for s in level:
            if not self.pilot(s):
                continue
            known: dict[Expression, str] = {}
            for node in walk_until([s.body], ()):
                if isinstance(node, (Load, Inside)):
                    known[node] = code.writer.item(node, first)
                elif isinstance(node, Result):
                    known[node] = code.name(node)
            value = code.writer.expression(s.body, known)
            lines.append(f"{indent}const {code.accumulator(s).value} {self.pilot(s)} = {value};")
        if lines:
            lines.insert(
                0, f"{indent}// Distances to the row's first value: large means cost no digits."
            )
        return lines

    def accumulators(self, level: Sequence[Statistic], indent: str) -> list[str]:
        """Declarations ``Moments own_1 = {0, 0, 0};``."""
        return [
            f"{indent}{self.type(s)} {self.own(s)} = {self.code.accumulator(s).identity};"
            for s in level
        ]

    def type(self, statistic: Statistic) -> str:
        """The accumulator's struct."""
        return self.code.accumulator(statistic).type

    def own(self, statistic: Statistic) -> str:
        """The variable that a thread accumulates the statistic in."""
        return f"own_{self.code.statistics.index(statistic) + 1}"

    def partials(self, indent: str) -> list[str]:
        """Shared arrays in which a block's warps meet, one per kind."""
        types = dict.fromkeys(self.type(s) for s in self.code.statistics)
        return [f"{indent}__shared__ {t} {self.partial(t)}[32];" for t in types]

    def partial(self, kind: str) -> str:
        """The shared array of a struct type."""
        return f"partial_{kind.lower()}"

    def absorb(self, level: Sequence[Statistic], where: dict[str, str], indent: str) -> list[str]:
        """Lines that load one pack of everything the level needs and add it."""
        code = self.code
        needed: dict[Load | Inside, None] = {}
        for s in level:
            body = self.bodies.get(s)
            loads = [s.body] if body is None else body.leaves
            needed.update((leaf, None) for leaf in loads if isinstance(leaf, (Load, Inside)))
        lines, at = code.writer.load_packs(needed, where, indent)
        size = "VEC" if code.vec > 1 else "1"
        for s in level:
            body, values = self.bodies.get(s), f"value_{code.statistics.index(s) + 1}"
            known: dict[Expression, str] = {**at}
            if body is None:
                assert isinstance(s.body, Load)
                text = known[s.body]
            else:
                known |= {n: code.name(n) for n in body.leaves if isinstance(n, Result)}
                text = code.writer.call(body, known)
            text += f" - {self.pilot(s)}" if self.pilot(s) else ""
            loop = "" if code.vec == 1 else "for (int k = 0; k < VEC; ++k) "
            slot = "[0]" if code.vec == 1 else "[k]"
            accumulator = code.accumulator(s)
            lines += [
                f"{indent}{accumulator.value} {values}[{size}];",
                f"{indent}{loop}{values}{slot} = {text};",
                f"{indent}add({self.own(s)}, {values}{', col' if accumulator.indexed else ''});",
            ]
        return lines

    def block_results(self, level: Sequence[Statistic], indent: str) -> list[str]:
        """Lines that merge over the block and give the results their names."""
        lines = []
        for s in level:
            total = self.all(s)
            partial = self.partial(self.type(s))
            merge = f"block_merge({self.own(s)}, {partial})"
            lines.append(f"{indent}const {self.type(s)} {total} = {merge};")
            lines += self.names(s, total, indent)
        return lines

    def names(self, statistic: Statistic, total: str, indent: str) -> list[str]:
        """``const float mean = all_1.mean;`` for each part that is used."""
        pilot, accumulator = self.pilot(statistic), self.code.accumulator(statistic)
        lines = []
        for part, name in self.code.result_names(statistic).items():
            result = Result(statistic, part)
            text = self.code.result_text(result, accumulator, total)
            text = f"{pilot} + {text}" if pilot and part == "mean" else text
            lines.append(f"{indent}const {self.code.result_type(result)} {name} = {text};")
        return lines

    def parts(self, statistic: Statistic) -> str:
        """The scratch array of a statistic's structs, one per part of a row."""
        return f"parts_{self.code.statistics.index(statistic) + 1}"

    def scratch_lines(self, count: str) -> list[str]:
        """Contract lines of the scratch arrays for ``count`` parts."""
        lines = []
        for s in self.code.statistics:
            dtype, numbers = self.code.accumulator(s).scratch
            size = f"{count} * {numbers}" if numbers > 1 else count
            lines.append(scratch_line(self.parts(s), dtype, [size]))
        return lines

    def part_arguments(self) -> list[str]:
        """The scratch arrays as launch lines name them."""
        return [self.parts(s) for s in self.code.statistics]

    def part_parameters(self, *, constant: bool) -> list[str]:
        """The scratch arrays as a kernel declares them."""
        const = "const " if constant else ""
        return [f"{const}{self.type(s)}* {self.parts(s)}" for s in self.code.statistics]

    def write_partials(self, slot: str, indent: str) -> list[str]:
        """Lines that store the merged accumulators ``all_n`` at ``parts_n[slot]``."""
        return [f"{indent}{self.parts(s)}[{slot}] = {self.all(s)};" for s in self.code.statistics]

    def read_partials(self, first: str, count: str, indent: str, per_lane: int) -> list[str]:
        """Lines that merge ``count`` parts from slot ``first`` on, into the result names.

        ``per_lane`` > 0: every warp merges all parts, that many to a lane at once, without a
        barrier; 0: the block shares the parts.
        """
        lines = [
            f"{indent}{self.type(s)} row_{self.own(s)} = {self.code.accumulator(s).identity};"
            for s in self.code.statistics
        ]
        if per_lane:
            lines += self._merge_by_warps(first, count, indent)
        else:
            lines += self._merge_by_block(first, count, indent)
        for s in self.code.statistics:
            own, total = f"row_{self.own(s)}", f"row_{self.all(s)}"
            partial = self.partial(self.type(s))
            merge = f"warp_merge({own})" if per_lane else f"block_merge({own}, {partial})"
            lines.append(f"{indent}const {self.type(s)} {total} = {merge};")
            lines += self.names(s, total, indent)
        return lines

    def all(self, statistic: Statistic) -> str:
        """The variable of the accumulator merged over the block."""
        return f"all_{self.code.statistics.index(statistic) + 1}"

    def _merge_by_block(self, first: str, count: str, indent: str) -> list[str]:
        return [
            f"{indent}for (int part = threadIdx.x; part < {count}; part += THREADS) {{",
            *(
                f"{indent}  row_{self.own(s)} = merge(row_{self.own(s)}, "
                f"{self.parts(s)}[{first} + part]);"
                for s in self.code.statistics
            ),
            f"{indent}}}",
        ]

    def _merge_by_warps(self, first: str, count: str, indent: str) -> list[str]:
        lines = [
            f"{indent}// Every warp merges all parts, in the same fixed order. All reads of a lane",
            f"{indent}// are under way before the first is merged.",
            f"{indent}for (int base = 0; base < {count}; base += 32 * LANE_PARTS) {{",
            *(
                f"{indent}  {self.type(s)} read_{self.own(s)}[LANE_PARTS];"
                for s in self.code.statistics
            ),
            "#pragma unroll",
            f"{indent}  for (int i = 0; i < LANE_PARTS; ++i) {{",
            f"{indent}    const int part = base + i * 32 + threadIdx.x % 32;",
        ]
        for s in self.code.statistics:
            identity = f"{self.type(s)}{self.code.accumulator(s).identity}"
            lines.append(
                f"{indent}    read_{self.own(s)}[i] = part < {count} ? "
                f"{self.parts(s)}[{first} + part] : {identity};"
            )
        lines += [f"{indent}  }}", "#pragma unroll"]
        lines.append(f"{indent}  for (int i = 0; i < LANE_PARTS; ++i) {{")
        for s in self.code.statistics:
            own = f"row_{self.own(s)}"
            lines.append(f"{indent}    {own} = merge({own}, read_{self.own(s)}[i]);")
        return [*lines, f"{indent}  }}", f"{indent}}}"]
