"""Kernels of scans: what a thread's pack adds, what is before it, the running values in it.

Every kernel has the same three steps, whoever the team is: an accumulator of each thread's own
pack, an exclusive scan of those over the team, then the pack again, element by element, from
what is before it. Sums carry what rounding takes from them, so that their error does not grow
along the row; the order is fixed, so that every run gives the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence

from search_engine.contract.printer import scratch_line
from search_engine.playbook.accumulators import Accumulator, accumulator, of_kind
from search_engine.playbook.dtypes import compute_type, is_float
from search_engine.playbook.emit import Element
from search_engine.playbook.expression import Expression, Inside, Load, Scan, Statistic
from search_engine.playbook.program import Program
from search_engine.playbook.rows import RowCode


def warp_scan(a: Accumulator, lanes: int) -> str:
    """``team_scan(v, all)``: what the lanes before this one have; ``all``: what all have."""
    width = "" if lanes == 32 else f", {lanes}"
    team = "the warp" if lanes == 32 else f"{lanes} neighbouring lanes"

    def shuffled(kind: str, source: str, target: str, by: str) -> list[str]:
        return [f"{target}.{f} = {kind}(0xffffffffu, {source}.{f}, {by}{width});"
                for f, _ in a.fields]  # fmt: skip

    return "\n".join([
        f"// Over {team}: what the lanes before this one have, and in `all` what all have.",
        f"__device__ __forceinline__ {a.type} team_scan({a.type} v, {a.type}& all) {{",
        f"  const int lane = threadIdx.x % {lanes};",
        f"  {a.type} other;",
        "#pragma unroll",
        f"  for (int offset = 1; offset < {lanes}; offset *= 2) {{",
        *("    " + line for line in shuffled("__shfl_up_sync", "v", "other", "offset")),
        "    if (lane >= offset) v = merge(other, v);",
        "  }",
        *("  " + line for line in shuffled("__shfl_sync", "v", "all", str(lanes - 1))),
        *("  " + line for line in shuffled("__shfl_up_sync", "v", "other", "1")),
        f"  return lane == 0 ? {a.type}{a.identity} : other;",
        "}",
    ])  # fmt: skip


def block_scan(a: Accumulator) -> str:
    """``block_scan(v, partial, all)``: the same over the block's threads, in their order."""
    return "\n".join([
        "// Over the block: what the threads before this one have; in `all` what all have.",
        f"__device__ __forceinline__ {a.type} block_scan({a.type} v, {a.type}* partial, "
        f"{a.type}& all) {{",
        "  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;",
        f"  {a.type} warp_all;",
        f"  const {a.type} before = team_scan(v, warp_all);",
        "  if (lane == 0) partial[warp] = warp_all;",
        "  __syncthreads();",
        "  // Every warp scans the warps' totals, and takes its own place in them.",
        f"  {a.type} warps = lane < THREADS / 32 ? partial[lane] : {a.type}{a.identity};",
        "  warps = team_scan(warps, all);",
        f"  {a.type} earlier;",
        *(f"  earlier.{f} = __shfl_sync(0xffffffffu, warps.{f}, warp);" for f, _ in a.fields),
        "  __syncthreads();  // partial may be used again",
        "  return merge(earlier, before);",
        "}",
    ])  # fmt: skip


def one_way(program: Program) -> bool:
    """Whether scans are all there is besides pointwise work, and all run the same way."""
    ways = {scan.reverse for scan in program.scans}
    return len(ways) == 1 and all(program.full(store) for store in program.stores)


class Scanned:
    """The text of scan kernels for packs of ``vec`` along the columns.

    ``tiled``: within a tile sums are plain, and only what is carried from tile to tile keeps
    what rounding takes: a tile is short, a row is long.
    """

    def __init__(self, program: Program, vec: int, *, tiled: bool = False) -> None:
        self.tiled = tiled
        self.code = RowCode(program, vec)
        self.program, self.writer = self.code.program, self.code.writer
        self.vec = vec
        self.scans: tuple[Scan, ...] = self.program.scans
        self.statistics: list[Statistic] = list(
            dict.fromkeys(scan.statistic for scan in self.scans)
        )
        self.reverse = self.scans[0].reverse
        self.bodies: dict[Statistic, Element] = {}
        for number, scan in enumerate(self.scans, 1):
            stem = "before" if scan.exclusive else "running"
            self.writer.names[scan] = f"{stem}_{number}"

    def define(self, *, lanes: int = 1, block: bool = False, parts: bool = False) -> Element:
        """Define accumulators, their scans and element functions; returns the epilogue's.

        ``parts``: what is carried is scanned over the block too, once for the parts of a row.
        """
        code, writer = self.code, self.writer
        for s in self.statistics:
            kinds = [self.accumulator(s)]
            for a in [self.of_tile(s), *kinds] if self.is_plain(s) else kinds:
                code.define_accumulator(a, lanes=1, block=False)
                scans = parts or a == self.of_tile(s)
                texts = [warp_scan(a, lanes)] if lanes > 1 and scans else []
                texts += [block_scan(a)] if block and scans else []
                writer.helpers.update((text, text) for text in texts)
            if not isinstance(s.body, Load):
                self.bodies[s] = writer.element(
                    f"term{self._number(s)}",
                    "What one element adds to a running value.",
                    [("value", self.accumulator(s).value, s.body)],
                )
        outputs = [
            (writer.tensor(store.tensor) + "_new", compute_type(store.dtype), store.value)
            for store in code.full
        ]
        held = [*code.row_values, *self.scans]
        return writer.element("epilogue", "One element of the result.", outputs, held)

    # --- names ------------------------------------------------------------------------

    def _number(self, statistic: Statistic) -> int:
        return self.statistics.index(statistic) + 1

    def accumulator(self, statistic: Statistic) -> Accumulator:
        """The statistic's struct."""
        return accumulator(statistic)

    def of_tile(self, statistic: Statistic) -> Accumulator:
        """The struct within a tile."""
        plain = self.tiled and statistic.kind == "sum" and is_float(statistic.dtype)
        return of_kind("short_sum", statistic.dtype) if plain else self.accumulator(statistic)

    def is_plain(self, statistic: Statistic) -> bool:
        """Whether a tile's struct is another than what is carried."""
        return self.of_tile(statistic) != self.accumulator(statistic)

    def variable(self, stem: str, statistic: Statistic) -> str:
        """``run_1``, ``carry_1``: a variable of the statistic."""
        return f"{stem}_{self._number(statistic)}"

    def declared(self, stem: str, indent: str, *, of_tile: bool = False) -> list[str]:
        """``Sum run_1 = {0, 0};`` for every statistic."""
        kinds = [(s, self.of_tile(s) if of_tile else self.accumulator(s)) for s in self.statistics]
        return [f"{indent}{a.type} {self.variable(stem, s)} = {a.identity};" for s, a in kinds]

    def carry(self, before: str, indent: str, own: str) -> list[str]:
        """Lines from what a thread has of a tile to what is before it, and to the next tile.

        ``before`` and ``own`` are calls with places for the struct and the variables.
        """
        lines = []
        for s in self.statistics:
            a, kind = self.accumulator(s), self.of_tile(s).type
            all_, carry, run = (self.variable(stem, s) for stem in ("all", "carry", "run"))
            call = before.format(own=self.variable(own, s), partial=self.partial(s, True), all=all_)
            lines += [f"{indent}{kind} {all_};", f"{indent}{kind} {run} = {call};"]
            if not self.is_plain(s):
                lines += [f"{indent}{run} = merge({carry}, {run});",
                          f"{indent}{carry} = merge({carry}, {all_});"]  # fmt: skip
                continue
            base, rest = self.variable("base", s), self.variable("rest", s)
            lines += [
                f"{indent}const {a.value} {base} = {carry}.sum;",
                f"{indent}const {a.value} {rest} = {base} - {base} == 0 ? {carry}.rest : 0;",
                f"{indent}{carry} = merge({carry}, {a.type}{{{all_}.sum, 0}});",
            ]
        return lines

    def partials(self, indent: str, *, parts: bool = False) -> list[str]:
        """Shared arrays in which a block's warps meet, one per struct."""
        kinds = [self.of_tile(s) for s in self.statistics]
        kinds += [self.accumulator(s) for s in self.statistics if parts]
        types = dict.fromkeys(a.type for a in kinds)
        return [f"{indent}__shared__ {t} partial_{t.lower()}[32];" for t in types]

    def partial(self, statistic: Statistic, of_tile: bool = False) -> str:
        """The shared array of the statistic's struct."""
        a = self.of_tile(statistic) if of_tile else self.accumulator(statistic)
        return f"partial_{a.type.lower()}"

    # --- totals of parts in scratch memory ----------------------------------------------

    def total_lines(self, count: str) -> list[str]:
        """Contract lines of the parts' totals."""
        lines = []
        for s in self.statistics:
            dtype, numbers = self.accumulator(s).scratch
            size = f"{count} * {numbers}" if numbers > 1 else count
            lines.append(scratch_line(self.variable("totals", s), dtype, [size]))
        return lines

    def total_names(self) -> list[str]:
        """The totals as launch lines name them."""
        return [self.variable("totals", s) for s in self.statistics]

    def total_parameters(self, *, constant: bool) -> list[str]:
        """The totals as a kernel declares them."""
        const = "const " if constant else ""
        return [f"{const}{self.accumulator(s).type}* {self.variable('totals', s)}"
                for s in self.statistics]  # fmt: skip

    # --- one pack -----------------------------------------------------------------------

    def column(self, at: str, indent: str, *, guarded: bool) -> str:
        """``col``, the first column of the pack at place ``at`` in the order of the scan."""
        step = "VEC" if self.vec > 1 else "1"
        value = f"COLS - {step} - {at}" if self.reverse else at
        return f"{indent}const int col = {f'inside ? {value} : 0' if guarded else value};"

    def absorb(
        self, where: dict[str, str], indent: str, also: Sequence[Load | Inside] = ()
    ) -> tuple[list[str], dict[Expression, str]]:
        """Lines that load a pack of the operands and of ``also``, and fill ``value_n``.

        Also the C of each load's k-th element.
        """
        needed: dict[Load | Inside, None] = dict.fromkeys(also)
        for s in self.statistics:
            leaves = self.bodies[s].loads if s in self.bodies else (s.body,)
            needed.update((leaf, None) for leaf in leaves if isinstance(leaf, (Load, Inside)))
        lines, at = self.writer.load_packs(needed, where, indent)
        size, loop, slot = self._pack()
        for s in self.statistics:
            text = self.writer.call(self.bodies[s], at) if s in self.bodies else at[s.body]
            values = self.variable("value", s)
            lines += [
                f"{indent}{self.accumulator(s).value} {values}[{size}];",
                f"{indent}{loop}{values}{slot} = {text};",
            ]
        return lines, at

    def _pack(self) -> tuple[str, str, str]:
        if self.vec == 1:
            return "1", "", "[0]"
        return "VEC", "for (int k = 0; k < VEC; ++k) ", "[k]"

    def add(self, stem: str, indent: str) -> list[str]:
        """Lines that take the pack ``value_n`` into the accumulators ``stem_n``."""
        return [
            f"{indent}add({self.variable(stem, s)}, {self.variable('value', s)}"
            f"{', col' if self.accumulator(s).indexed else ''});"
            for s in self.statistics
        ]

    def finish(
        self,
        epilogue: Element,
        at: dict[Expression, str],
        where: dict[str, str],
        indent: str,
    ) -> list[str]:
        """Lines that walk the pack from ``run_n`` on, compute the outputs and store them."""
        size, _, slot = self._pack()
        lines = [
            f"{indent}{compute_type(scan.dtype)} {self.writer.names[scan]}[{size}];"
            for scan in self.scans
        ]
        inner = indent
        if self.vec > 1:
            inner += "  "
            loop = "int k = VEC - 1; k >= 0; --k" if self.reverse else "int k = 0; k < VEC; ++k"
            lines += ["#pragma unroll", f"{indent}for ({loop}) {{"]
        for s in self.statistics:
            a, run, value = self.of_tile(s), self.variable("run", s), self.variable("value", s)
            place = "col + k" if self.vec > 1 else "col"
            lines += self._running(s, inner, exclusive=True)
            single = f"{a.type}{{{a.single.format(value + slot, place)}}}"
            lines.append(f"{inner}{run} = merge({run}, {single});")
            lines += self._running(s, inner, exclusive=False)
        if self.vec > 1:
            lines.append(f"{indent}}}")
        held = at | {scan: f"{self.writer.names[scan]}{slot}" for scan in self.scans}
        return [*lines, *self.code.finish(epilogue, held, where, indent)]

    def _running(self, statistic: Statistic, indent: str, *, exclusive: bool) -> list[str]:
        results, run = self.of_tile(statistic).results, self.variable("run", statistic)
        if self.is_plain(statistic):
            base, rest = self.variable("base", statistic), self.variable("rest", statistic)
            results = {"sum": f"{base} + ({rest} + {{0}}.sum)"}
        _, _, slot = self._pack()
        return [
            f"{indent}{self.writer.names[scan]}{slot} = {_bare(results[scan.part].format(run))};"
            for scan in self.scans
            if scan.statistic == statistic and scan.exclusive == exclusive
        ]


def _bare(text: str) -> str:
    """The expression without the parentheses around all of it."""
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text
