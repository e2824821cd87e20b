"""Global to shared memory: where a block's threads find one operand's tile.

Neighbouring lanes take neighbours in memory, along k or along rows, up to 16 bytes each.
A tensor as it is goes by ``cp.async``, past the registers (``asynchronous``); what has to be
widened, computed or paired goes through registers (``held_tiles``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from attrs import field, mutable

from search_engine.playbook import packs
from search_engine.playbook.contraction import Contraction, Operand
from search_engine.playbook.dtypes import compute_type, item_bytes
from search_engine.playbook.emit import Element, Writer
from search_engine.playbook.expression import Expression, Inside, Load
from search_engine.playbook.tiles.access import access
from search_engine.playbook.tiles.places import apart, total
from search_engine.playbook.tiles.shape import Layout, TileShape, Word
from search_engine.playbook.tiles.taps import FIELDS, Taps

Copies = Literal["async", "registers"]


@mutable
class Mover:
    """Writes the code that brings tiles of one operand to shared memory."""

    writer: Writer
    contraction: Contraction
    operand: Operand
    name: str  # "left", "right"
    word: Word
    shape: TileShape
    copies: Copies
    rows: int = field(init=False)  # of the tile
    layout: Layout = field(init=False)
    vec: int = field(init=False)
    along_k: bool = field(init=False)
    raw: bool = field(init=False)  # the tensor's elements are the words' as they are
    _step: int = field(init=False, default=0)  # rows or k's from a thread's chunk to its next
    _element: Element | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.rows = self.shape.m if self.name == "left" else self.shape.n
        found = access(self.operand)
        self.along_k, self.vec = found.along_k, found.vec
        load = self.operand.load
        self.raw = load is not None and load.dtype == self.word.dtype
        if not self.raw or (self.word.pack == 2 and self.vec == 1):
            self.vec = 1
        if self.word.pack == 2 and not self.along_k and self.vec % 2:
            self.vec = 1
        self.layout = Layout(self.rows, self.shape.k // self.word.pack, self.along_k)
        if load is None:
            outputs = [("value", compute_type("float32"), self.operand.value)]
            if self.contraction.program.dtype == "float64":
                outputs = [("value", "double", self.operand.value)]
            self._element = self.writer.element(
                f"{self.name}_value", f"One element of the {self.name} operand.", outputs
            )

    # --- what kind it is --------------------------------------------------------------

    @property
    def interleaved(self) -> bool:
        """Halves along rows: two k's are fetched and woven into pairs."""
        return self.word.pack == 2 and not self.along_k and self.vec > 1

    @property
    def asynchronous(self) -> bool:
        """Whether tiles go past the registers."""
        size = self.vec * item_bytes(self.word.dtype)
        whole = self.vec % self.word.pack == 0 and not self.interleaved
        return self.copies == "async" and self.raw and whole and size in (4, 8, 16)

    @property
    def within(self) -> bool:
        """Whether a stage stays within one value of all column axes but the innermost."""
        columns = self.operand.columns
        return not self.along_k and len(columns) > 1 and columns[-1].size % self.shape.k == 0

    @property
    def _chunk_k(self) -> int:
        """Elements along k that a thread takes at once."""
        return max(self.vec, self.word.pack) if self.along_k else self.word.pack

    @property
    def _chunk_rows(self) -> int:
        return 1 if self.along_k else self.vec

    @property
    def _per_thread(self) -> int:
        """Chunks of a thread."""
        chunks = self.rows * self.shape.k // (self._chunk_k * self._chunk_rows)
        return -(-chunks // self.shape.threads)

    @property
    def fits(self) -> bool:
        """Whether the block's threads share a tile evenly."""
        lanes = self.shape.k // self._chunk_k if self.along_k else self.rows // self._chunk_rows
        lines = self.rows if self.along_k else self.shape.k // self._chunk_k
        threads = self.shape.threads
        return threads % lanes == 0 and lines % (threads // lanes) == 0

    @property
    def _words(self) -> int:
        """Words that a thread holds of one chunk."""
        return self._chunk_k * self._chunk_rows // self.word.pack

    # --- code -------------------------------------------------------------------------

    def hoisted(self, where: Mapping[str, str], indent: str) -> list[str]:
        """Lines before the loop: the thread's place in the tile, and where its rows start.

        ``where`` has the batch axes.
        """
        name, shape, index = self.name, self.shape, self.contraction.index_type
        lanes = shape.k // self._chunk_k if self.along_k else self.rows // self._chunk_rows
        step = shape.threads // lanes
        k_line, row_line = f"threadIdx.x % {lanes}", f"threadIdx.x / {lanes}"
        if lanes == shape.threads:  # then a chunk's other index is the same for all threads
            k_line, row_line = "threadIdx.x", "0"
        if not self.along_k:
            k_line, row_line = row_line, k_line
        k_unit = f" * {self._chunk_k}" if self._chunk_k > 1 and k_line != "0" else ""
        row_unit = f" * {self._chunk_rows}" if self._chunk_rows > 1 and row_line != "0" else ""
        what = "along k" if self.along_k else "along rows"
        size = self.vec * (item_bytes(self.word.dtype) if self.raw else 1)
        unit = f"{size} bytes" if self.raw else "single elements"
        lines = [
            f"{indent}// The {name} tile: neighbouring lanes take {unit} each, {what}.",
            f"{indent}const int {name}_k = {k_line}{k_unit};",
            f"{indent}const int {name}_row = {row_line}{row_unit};",
        ]
        self._step = step * (1 if self.along_k else self._chunk_k)
        per = self._per_thread if self.along_k else 1
        first = f"first_{name}"
        parts = self._row_parts()
        if self.along_k and per > 1:
            lines += [f"{indent}{index} {part}[{per}];" for part, _, _ in parts]
            lines += [
                "#pragma unroll",
                f"{indent}for (int i = 0; i < {per}; ++i) {{",
                f"{indent}  const {index} row = {first} + {name}_row + i * {self._step};",
            ]
            taken, at = apart(self.operand.rows, "row", indent + "  ", index)
            lines += taken
            for part, terms, constant in parts:
                value = total(terms, {**where, **at}, constant)
                lines.append(f"{indent}  {part}[i] = {value};")
            return [*lines, f"{indent}}}"]
        lines += [f"{indent}{index} {part};" for part, _, _ in parts]
        lines += [
            f"{indent}{{",
            f"{indent}  const {index} row = {first} + {name}_row;",
        ]
        taken, at = apart(self.operand.rows, "row", indent + "  ", index)
        lines += taken
        for part, terms, constant in parts:
            lines.append(f"{indent}  {part} = {total(terms, {**where, **at}, constant)};")
        return [*lines, f"{indent}}}"]

    def _row_parts(self) -> list[tuple[str, tuple[tuple[str, int], ...], int]]:
        """(C name, terms, constant) of what a row gives to each offset and bounded index."""
        found = []
        for i, leaf in enumerate(self.operand.leaves):
            if isinstance(leaf, Load):
                found.append((f"{self.name}_at{i or ''}", leaf.strides, leaf.offset))
            for j, bound in enumerate(leaf.bounds):
                found.append((f"{self.name}_edge{i or ''}_{j}", bound.terms, bound.constant))
        return found

    def _element_at(self, i: str, where: Mapping[str, str], raw: bool) -> tuple[str, str]:
        """(condition or "", C value) of the operand's element; ``where`` has the k axes."""
        per = self._per_thread if self.along_k else 1
        suffix = f"[{i}]" if per > 1 else ""
        own = (*self.operand.rows, *self.operand.columns)
        sizes = {**self.contraction.program.sizes, **{axis.name: axis.size for axis in own}}
        table = "" in where  # what the columns add is an entry of the table
        known: dict[Expression, str] = {}
        condition = ""
        for number, leaf in enumerate(self.operand.leaves):
            checks = []
            for j, bound in enumerate(leaf.bounds):
                low, high = bound.reach(sizes)
                at = f"{self.name}_edge{number or ''}_{j}{suffix}"
                more = f"{where['']}.{FIELDS[j + 1]}" if table else total(bound.terms, where)
                at = at if more == "0" else f"{at} + {more}"
                if low < 0 or table:  # the table marks what is past the end by a negative index
                    checks.append(f"unsigned({at}) < {bound.size}u")
                elif high >= bound.size:
                    checks.append(f"{at} < {bound.size}")
            condition = " & ".join(checks)
            if isinstance(leaf, Inside):
                known[leaf] = f"({condition or 'true'})"
                continue
            more = f"{where['']}.x" if table else total(leaf.strides, where)
            at = f"{self.name}_at{number or ''}{suffix}"
            at = at if more == "0" else f"{at} + {more}"
            tensor = self.writer.tensor(leaf.tensor)
            if self.operand.load is not None and raw:
                return condition, at
            value = packs.widen(f"{tensor}[{at}]", leaf)
            if self.operand.load is not None:
                return condition, value
            known[leaf] = f"({condition} ? {value} : 0)" if condition else value
        assert self._element is not None
        return "", self.writer.call(self._element, known)

    def _k_where(self, k: str, indent: str) -> tuple[list[str], dict[str, str]]:
        if self.taps is not None:
            return [f"{indent}const {self.taps.kind} tap = {self.name}_taps[{k}];"], {"": "tap"}
        return apart(self.operand.columns, k, indent)

    def _valid(self, i: str, k: str, more: str = "") -> str:
        """The C condition that an element is one, "" where all are."""
        checks = []
        total_rows = "count" if self.contraction.runtime == self.name else self.operand.count
        if not isinstance(total_rows, int) or total_rows % self.rows:
            row = f"first_{self.name} + {self.name}_row"
            row += f" + {i} * {self._step}" if self.along_k and self._per_thread > 1 else ""
            checks.append(f"{row} < {total_rows}")
        marked = self.taps is not None and bool(self.taps.load.bounds)
        if self.contraction.k % self.shape.k and not marked:
            checks.append(f"{k} < {self.contraction.k}")
        checks += [more] if more else []
        return " & ".join(checks)

    @property
    def taps(self) -> Taps | None:
        """The table that k is looked up in: for windows that no stage lies within."""
        load = self.operand.load
        if load is None or self.along_k or len(self.operand.columns) == 1 or self.within:
            return None
        entries = -(-self.contraction.k // self.shape.k) * self.shape.k
        found = Taps(self.name, self.operand, load, self.contraction.k, entries, self.shape.threads)
        return found if found.fits else None

    def _loop(self, indent: str) -> list[str]:
        return [
            "#pragma unroll",
            f"{indent}for (int i = 0; i < {self._per_thread}; ++i) {{",
        ]

    def _in_tile(self) -> tuple[str, str]:
        """C of the thread's i-th row and k in the tile."""
        row, k = f"{self.name}_row", f"{self.name}_k"
        if self._per_thread > 1:
            more = f" + i * {self._step}"
            row, k = (row + more, k) if self.along_k else (row, k + more)
        return row, k

    def _word_at(self, k: str) -> str:
        return k if self.word.pack == 1 else f"({k}) / 2"

    def _k_lines(
        self, tile: str, k: str, inner: str
    ) -> tuple[list[str], tuple[list[str], dict[str, str]]]:
        """Lines that open the loop over chunks; what takes k apart inside it, and its axes."""
        if self.along_k:
            lines = [f"{inner}const int k = {tile} * {self.shape.k} + {self.name}_k;"]
            taken, where = self._k_where("k", inner)
            return [*lines, *taken, *self._loop(inner)], ([], where)
        if self.within:
            lines, where = apart(self.operand.columns, "first_k", inner)
            last = self.operand.columns[-1].name
            head = f"{inner}const int first_k = {tile} * {self.shape.k};"
            return [head, *lines, *self._loop(inner)], ([], {**where, last: f"{last} + {k}"})
        lines = self._loop(inner)
        lines.append(f"{inner}  const int k = {tile} * {self.shape.k} + {k};")
        taken, where = self._k_where("k", inner + "  ")
        return lines, (taken, where)

    # --- what the two kinds of movers do ------------------------------------------------

    def start(self, tile: str, stage: str, indent: str) -> list[str]:
        """Lines that start asynchronous copies of a tile into a stage; none otherwise."""
        return []

    def declare(self, indent: str) -> list[str]:
        """Registers that hold a tile on its way; none for asynchronous copies."""
        return []

    def fetch(self, tile: str, indent: str) -> list[str]:
        """Lines that load a tile into registers; none for asynchronous copies."""
        return []

    def put(self, stage: str, indent: str) -> list[str]:
        """Lines that store the registers to a stage; none for asynchronous copies."""
        return []
