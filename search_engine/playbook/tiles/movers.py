"""Global to shared memory: how a block's threads fetch one operand's tile.

Neighbouring lanes take neighbours in memory, along k or along rows, up to 16 bytes each.
A tensor as it is goes by ``cp.async``, past the registers; what has to be widened, computed
or paired goes through registers: fetched before a tile's products, put after them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen, mutable

from search_engine.playbook import packs
from search_engine.playbook.contraction import Contraction, Operand
from search_engine.playbook.dtypes import compute_type, item_bytes
from search_engine.playbook.emit import Element, Writer
from search_engine.playbook.expression import Inside, Load, loads
from search_engine.playbook.tiles.places import apart, total
from search_engine.playbook.tiles.shape import Layout, TileShape, Word

Copies = Literal["async", "registers"]

_ASYNC = """\
// {size} bytes from global to shared memory, past the registers; zeros where not valid, unread.
__device__ __forceinline__ void copy_async_{size}(void* to, const void* from, bool valid) {{
  const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(to));
  const int bytes = valid ? {size} : 0;
  asm volatile("cp.async.{cache}.shared.global [%0], [%1], {size}, %2;"
               :: "r"(shared), "l"(from), "r"(bytes) : "memory");
}}"""

COMMIT = """\
// Ends a group of asynchronous copies.
__device__ __forceinline__ void copies_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}"""

WAIT = """\
// Waits until at most PENDING groups of asynchronous copies are under way.
template <int PENDING>
__device__ __forceinline__ void copies_wait() {
  asm volatile("cp.async.wait_group %0;" :: "n"(PENDING) : "memory");
}"""

_FIELDS = "xyzw"
_MOST_TABLE = 16 * 1024  # bytes of shared memory for a table of taps

_PAIRS = """\
// Two words of halves that neighbour along rows, at k and k + 1, as two words of pairs along k.
__device__ __forceinline__ uint2 pairs(unsigned even, unsigned odd) {
  return make_uint2((even & 0xffffu) | (odd << 16), (even >> 16) | (odd & 0xffff0000u));
}"""


@frozen
class Access:
    """What an operand's layout in memory allows: which way lanes run, neighbours at once."""

    along_k: bool
    vec: int


# Lanes along rows as far apart as this still share the sectors that they fetch between them.
_NEAR = 8


def access(operand: Operand) -> Access:
    """The widest aligned access along the contiguous axis; single elements where there is none.

    Windows (several axes along k) go along rows: then a warp shares the tap and its bounds.
    """
    main = max(operand.leaves, key=lambda leaf: len(leaf.axes))
    if not isinstance(main, Load):
        main = max(loads(operand.value), key=lambda load: len(load.strides))
    inner_k, inner_row = operand.columns[-1], operand.rows[-1] if operand.rows else None
    step_k = abs(main.stride(inner_k.name)) or 2**62
    step_row = (abs(main.stride(inner_row.name)) if inner_row is not None else 0) or 2**62
    along_k = step_k <= step_row
    if len(operand.columns) > 1 and step_row <= _NEAR:
        along_k = False
    inner = inner_k if along_k else inner_row
    assert inner is not None
    if operand.load is None or (step_k if along_k else step_row) != 1:
        return Access(along_k, 1)
    if any(bound.factor(inner.name) for bound in main.bounds):
        return Access(along_k, 1)
    fit = math.gcd(inner.size, main.offset, *(s for axis, s in main.strides if axis != inner.name))
    return Access(along_k, math.gcd(fit, 16 // item_bytes(main.dtype)))


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
        if self.asynchronous:
            size = self.vec * item_bytes(self.word.dtype)
            text = _ASYNC.format(size=size, cache="cg" if size == 16 else "ca")
            self.writer.helpers.setdefault(text, text)
        if self.interleaved:
            self.writer.helpers.setdefault(_PAIRS, _PAIRS)

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
        table = "" in where
        known: dict[Load | Inside, str] = {}
        condition = ""
        for number, leaf in enumerate(self.operand.leaves):
            checks = []
            for j, bound in enumerate(leaf.bounds):
                low, high = bound.reach(sizes)
                at = f"{self.name}_edge{number or ''}_{j}{suffix}"
                more = f"{where['']}.{_FIELDS[j + 1]}" if table else total(bound.terms, where)
                at = at if more == "0" else f"{at} + {more}"
                if low < 0:
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
        return "", self.writer.call(self._element, dict(known))

    def _k_where(self, k: str, indent: str) -> tuple[list[str], dict[str, str]]:
        if self.table:
            kind = "int2" if self._fields == 2 else "int4"
            return [f"{indent}const {kind} tap = {self.name}_taps[{k}];"], {"": "tap"}
        return apart(self.operand.columns, k, indent)

    def _valid(self, i: str, k: str, more: str = "") -> str:
        """The C condition that an element is one, "" where all are."""
        checks = []
        total_rows = "count" if self.contraction.runtime == self.name else self.operand.count
        if not isinstance(total_rows, int) or total_rows % self.rows:
            row = f"first_{self.name} + {self.name}_row"
            row += f" + {i} * {self._step}" if self.along_k and self._per_thread > 1 else ""
            checks.append(f"{row} < {total_rows}")
        marked = self.table and any(leaf.bounds for leaf in self.operand.leaves)
        if self.contraction.k % self.shape.k and not marked:
            checks.append(f"{k} < {self.contraction.k}")
        checks += [more] if more else []
        return " & ".join(checks)

    @property
    def table(self) -> bool:
        """Whether what a k adds to the indices is looked up: windows that no stage lies within."""
        load = self.operand.load
        windows = not self.along_k and len(self.operand.columns) > 1 and not self.within
        return windows and load is not None and 0 < self.table_bytes <= _MOST_TABLE

    @property
    def _fields(self) -> int:
        """Numbers of an entry: the offset, and the index along each bounded dimension."""
        load = self.operand.load
        count = 1 + (len(load.bounds) if load is not None else 9)
        return 2 if count <= 2 else 4 if count <= 4 else 0

    @property
    def _entries(self) -> int:
        """Every k of all stages, those past the end included."""
        return -(-self.contraction.k // self.shape.k) * self.shape.k

    @property
    def table_bytes(self) -> int:
        """Of shared memory that the table takes."""
        return 4 * self._fields * self._entries

    def prepared(self, indent: str) -> list[str]:
        """Lines that fill the table; none where there is none."""
        if not self.table:
            return []
        load = self.operand.load
        assert load is not None
        kind = "int2" if self._fields == 2 else "int4"
        inner = indent + "  "
        taken, where = apart(self.operand.columns, "k", inner)
        numbers = [total(load.strides, where)]
        numbers += [total(bound.terms, where) for bound in load.bounds]
        if load.bounds and self._entries != self.contraction.k:
            # No index past the end is inside anything.
            numbers[1] = f"k < {self.contraction.k} ? {numbers[1]} : -(1 << 30)"
        numbers += ["0"] * (self._fields - len(numbers))
        return [
            f"{indent}// What each k adds to the {self.name} operand's offset and bounded indices.",
            f"{indent}__shared__ {kind} {self.name}_taps[{self._entries}];",
            f"{indent}for (int k = threadIdx.x; k < {self._entries}; k += {self.shape.threads}) {{",
            *taken,
            f"{inner}{self.name}_taps[k] = make_{kind}({', '.join(numbers)});",
            f"{indent}}}",
            f"{indent}__syncthreads();",
        ]

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

    def start(self, tile: str, stage: str, indent: str) -> list[str]:
        """Lines that start asynchronous copies of a tile into a stage; none otherwise."""
        if not self.asynchronous:
            return []
        row, k = self._in_tile()
        inner = indent + "  "
        lines = [
            f"{indent}{{",
            f"{inner}{self.word.type}* to = {self.name}_tiles + ({stage}) * {self.layout.size};",
        ]
        head, at = self._k_lines(tile, k, inner)
        lines += head
        taken, where = at
        condition, offset = self._element_at("i", where, raw=True)
        valid = self._valid("i", "k", condition)
        assert self.operand.load is not None
        tensor = self.writer.tensor(self.operand.load.tensor)
        size = self.vec * item_bytes(self.word.dtype)
        place = self.layout.at(row, self._word_at(k))
        lines += taken
        lines.append(
            f"{inner}  copy_async_{size}(to + {place}, {tensor} + {offset}, {valid or 'true'});"
        )
        return [*lines, f"{inner}}}", f"{indent}}}"]

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

    def declare(self, indent: str) -> list[str]:
        """Registers that hold a tile on its way."""
        if self.asynchronous:
            return []
        if self.interleaved:
            return [f"{indent}unsigned {self.name}_held[{self._per_thread}][2][{self.vec // 2}];"]
        return [f"{indent}{self.word.type} {self.name}_held[{self._per_thread}][{self._words}];"]

    def fetch(self, tile: str, indent: str) -> list[str]:
        """Lines that load a tile into registers; none for asynchronous copies."""
        if self.asynchronous:
            return []
        _, k = self._in_tile()
        inner = indent + "  "
        held = f"{self.name}_held[i]"
        lines = [f"{indent}{{"]
        if self.interleaved:
            return [*lines, *self._fetch_interleaved(tile, k, inner), f"{indent}}}"]
        if self.word.pack == 2:
            return [*lines, *self._fetch_pairs(tile, k, inner), f"{indent}}}"]
        if self.raw and self.vec > 1:
            return [*lines, *self._fetch_vector(tile, k, inner), f"{indent}}}"]
        head, (taken, where) = self._k_lines(tile, k, inner)
        condition, value = self._element_at("i", where, raw=False)
        valid = self._valid("i", "k", condition)
        value = f"{valid} ? {value} : 0" if valid else value
        lines += [*head, *taken, f"{inner}  {held}[0] = {value};"]
        return [*lines, f"{inner}}}", f"{indent}}}"]

    def _fetch_vector(self, tile: str, k: str, inner: str) -> list[str]:
        """One wide load a chunk of elements as they are."""
        helper = packs.load_helper(self.word.dtype, self.vec, False)
        self.writer.helpers[helper] = helper
        assert self.operand.load is not None
        tensor = self.writer.tensor(self.operand.load.tensor)
        head, (taken, where) = self._k_lines(tile, k, inner)
        condition, offset = self._element_at("i", where, raw=True)
        valid = self._valid("i", "k", condition)
        held = f"{self.name}_held[i]"
        load = f"load_pack({held}, {tensor} + {offset});"
        lines = [*head, *taken]
        if valid:
            lines += [
                f"{inner}  if ({valid}) {{",
                f"{inner}    {load}",
                f"{inner}  }} else {{",
                f"{inner}    for (int v = 0; v < {self.vec}; ++v) {held}[v] = 0;",
                f"{inner}  }}",
            ]
        else:
            lines.append(f"{inner}  {load}")
        return [*lines, f"{inner}}}"]

    def _fetch_pairs(self, tile: str, k: str, inner: str) -> list[str]:
        """A word of two halves, each loaded or computed by itself (or all at once along k)."""
        half = self.word.dtype == "float16"
        held = f"{self.name}_held[i]"
        lines: list[str] = []
        if self.along_k and self.vec > 1:
            head, (taken, where) = self._k_lines(tile, k, inner)
            condition, offset = self._element_at("i", where, raw=True)
            valid = self._valid("i", "k", condition)
            assert self.operand.load is not None
            tensor = self.writer.tensor(self.operand.load.tensor)
            source = f"reinterpret_cast<const unsigned*>({tensor} + {offset})[v]"
            value = f"{valid} ? {source} : 0u" if valid else source
            loop = f"for (int v = 0; v < {self._words}; ++v) {held}[v] = {value};"
            return [*head, *taken, f"{inner}  {loop}", f"{inner}}}"]
        outer: dict[str, str] = {}
        if self.within:
            taken, outer = apart(self.operand.columns, "first_k", inner)
            lines += [f"{inner}const int first_k = {tile} * {self.shape.k};", *taken]
        lines += self._loop(inner)
        body = inner + "  "
        for number in range(2):
            own = self.name + "_k" if self.along_k else k
            base = f"{tile} * {self.shape.k} + {own}"
            name = ("even", "odd")[number]
            ctype = "unsigned" if self.raw else "float"
            lines += [f"{body}{ctype} {name};", f"{body}{{"]
            if self.within:
                taken = []
                last = self.operand.columns[-1].name
                where = {**outer, last: f"{last} + {own}{' + 1' if number else ''}"}
            else:
                lines.append(f"{body}  const int k = {base}{' + 1' if number else ''};")
                taken, where = self._k_where("k", body + "  ")
            condition, value = self._element_at("i", where, raw=self.raw)
            valid = self._valid("i", "k", condition)
            if self.raw:
                assert self.operand.load is not None
                tensor = self.writer.tensor(self.operand.load.tensor)
                value = f"reinterpret_cast<const unsigned short*>({tensor})[{value}]"
            value = f"{valid} ? {value} : 0" if valid else value
            lines += [*taken, f"{body}  {name} = {value};", f"{body}}}"]
        if self.raw:
            lines.append(f"{body}{held}[0] = even | odd << 16;")
        else:
            kind = "__half2" if half else "__nv_bfloat162"
            function = "__floats2half2_rn" if half else "__floats2bfloat162_rn"
            lines += [
                f"{body}const {kind} both = {function}(even, odd);",
                f"{body}{held}[0] = *reinterpret_cast<const unsigned*>(&both);",
            ]
        return [*lines, f"{inner}}}"]

    def _fetch_interleaved(self, tile: str, k: str, inner: str) -> list[str]:
        """The same rows at two neighbouring k's, each in one access."""
        words = self.vec // 2
        kind = {1: "unsigned", 2: "uint2", 4: "uint4"}[words]
        zero = {1: "0u", 2: "make_uint2(0, 0)", 4: "make_uint4(0, 0, 0, 0)"}[words]
        assert self.operand.load is not None
        tensor = self.writer.tensor(self.operand.load.tensor)
        body = inner + "  "
        lines = self._loop(inner)
        for number in range(2):
            lines += [
                f"{body}{{",
                f"{body}  const int k = {tile} * {self.shape.k} + {k}{' + 1' if number else ''};",
            ]
            taken, where = self._k_where("k", body + "  ")
            condition, offset = self._element_at("i", where, raw=True)
            valid = self._valid("i", "k", condition)
            source = f"*reinterpret_cast<const {kind}*>({tensor} + {offset})"
            value = f"{valid} ? {source} : {zero}" if valid else source
            lines += [*taken, f"{body}  const {kind} raw = {value};"]
            fields = [""] if words == 1 else [f".{c}" for c in "xyzw"[:words]]
            lines += [
                f"{body}  {self.name}_held[i][{number}][{j}] = raw{f};"
                for j, f in enumerate(fields)
            ]
            lines.append(f"{body}}}")
        return [*lines, f"{inner}}}"]

    def put(self, stage: str, indent: str) -> list[str]:
        """Lines that store the registers to a stage; none for asynchronous copies."""
        if self.asynchronous:
            return []
        row, k = self._in_tile()
        name, layout = self.name, self.layout
        to = f"{name}_tiles + ({stage}) * {layout.size} + {layout.at(row, self._word_at(k))}"
        lines = [*self._loop(indent)]
        lines.append(f"{indent}  {self.word.type}* to = {to};")
        if self.interleaved:
            lines += [
                f"{indent}  for (int v = 0; v < {self.vec // 2}; ++v) {{",
                f"{indent}    reinterpret_cast<uint2*>(to)[v] = "
                f"pairs({name}_held[i][0][v], {name}_held[i][1][v]);",
                f"{indent}  }}",
            ]
        elif self._words == 4 and self.word.bytes == 4:
            kind = "float4" if self.word.type == "float" else "uint4"
            held = ", ".join(f"{name}_held[i][{v}]" for v in range(4))
            lines.append(f"{indent}  *reinterpret_cast<{kind}*>(to) = make_{kind}({held});")
        else:
            lines.append(
                f"{indent}  for (int v = 0; v < {self._words}; ++v) to[v] = {name}_held[i][v];"
            )
        return [*lines, f"{indent}}}"]
