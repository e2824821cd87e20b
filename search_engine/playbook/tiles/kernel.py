"""One tiled contraction as a kernel: movers, inner product and epilogue around a ring of stages.

A block owns a tile of m × n outputs. While it multiplies one stage of k, the next ones are on
their way to shared memory. Where k is split among blocks, each writes partial sums and a second
launch adds them in a fixed order.
"""

from __future__ import annotations

from typing import Literal

from attrs import evolve, frozen

from search_engine.contract.printer import launch_line, scratch_line
from search_engine.hardware import DeviceFacts
from search_engine.playbook.contraction import Contraction
from search_engine.playbook.dtypes import compute_type
from search_engine.playbook.emit import Writer
from search_engine.playbook.expression import Load, loads
from search_engine.playbook.names import unused, wrapped
from search_engine.playbook.source import Part
from search_engine.playbook.tiles import finish, packed, registers, tensor_cores
from search_engine.playbook.tiles.movers import COMMIT, WAIT, Copies, Mover
from search_engine.playbook.tiles.places import apart, used
from search_engine.playbook.tiles.registers import Registers
from search_engine.playbook.tiles.shape import TileShape, Word
from search_engine.playbook.tiles.tensor_cores import TensorCores

Unit = Literal["registers", "tensor_cores"]

_GROUP = 8  # tiles along m that run side by side: their right tiles are shared in L2
_ADD_THREADS = 256


@frozen
class TilePlan:
    """Everything that is free in the template."""

    shape: TileShape
    unit: Unit
    word: Word
    products: int
    copies: Copies
    packed: bool = False  # a convolution's weight copied first, channels innermost
    resident: int = 1  # blocks of a multiprocessor that registers are kept for


class TileKernel:
    """Writes one contraction in one plan."""

    def __init__(self, contraction: Contraction, plan: TilePlan) -> None:
        self.copy: packed.Packed | None = None
        if plan.packed:
            contraction, self.copy = packed.packed(contraction)
        self.contraction, self.plan = contraction, plan
        self.shape = plan.shape
        rows = evolve(contraction.program, columns=())
        self.writer = Writer(rows)
        self.index = contraction.index_type
        self.real = contraction.program.real
        # The loads of operands keep their columns: names and parameters come from the whole.
        self.writer.program = contraction.program
        self.movers = [
            Mover(self.writer, contraction, operand, name, plan.word, self.shape, plan.copies)
            for operand, name in ((contraction.left, "left"), (contraction.right, "right"))
        ]
        layouts = [mover.layout for mover in self.movers]
        self.math: Registers | TensorCores
        if plan.unit == "registers":
            self.math = Registers(self.writer, self.shape, *layouts, self.real)
        else:
            self.math = TensorCores(self.writer, self.shape, *layouts, plan.word, plan.products)
        self.scratch = unused(
            "partial", [t.tensor for t in (*contraction.program.loads, *contraction.program.stores)]
        )

    # --- sizes ------------------------------------------------------------------------

    @property
    def shared(self) -> int:
        """Bytes of dynamic shared memory: the stages."""
        words = sum(mover.layout.size for mover in self.movers)
        return words * self.shape.stages * self.plan.word.bytes

    @property
    def shared_whole(self) -> int:
        """Bytes of shared memory, with tables of taps."""
        return self.shared + sum(mover.table_bytes for mover in self.movers if mover.table)

    def resident(self, facts: DeviceFacts) -> int:
        """Blocks that a multiprocessor holds at once, by shared memory and by registers."""
        held = self.math.sums + 56 + 4 * self.plan.products
        by_registers = facts.registers_per_sm // (self.shape.threads * min(max(held, 64), 255))
        by_shared = facts.shared_per_sm // (self.shared_whole + 1024)
        by_threads = facts.threads_per_sm // self.shape.threads
        return max(1, min(by_registers, by_shared, by_threads, facts.blocks_per_sm))

    @property
    def fits(self) -> bool:
        """Whether threads share tiles evenly and hold whole pieces of the result."""
        layouts = [mover.layout for mover in self.movers]
        if self.plan.unit == "registers":
            whole = registers.fits(self.shape, layouts)
        else:
            whole = tensor_cores.fits(self.shape, self.plan.word)
        return whole and all(mover.fits for mover in self.movers)

    @property
    def asynchronous(self) -> bool:
        """Whether any tile goes past the registers."""
        return any(mover.asynchronous for mover in self.movers)

    def _counts(self) -> tuple[str, str, str]:
        """C of the number of left rows, right rows and batches; one of them is ``count``."""
        c = self.contraction
        sizes = {"left": c.left.count, "right": c.right.count, "batch": c.batches}
        texts = {k: "count" if k == c.runtime else str(v) for k, v in sizes.items()}
        return texts["left"], texts["right"], texts["batch"]

    @property
    def count(self) -> str:
        """The contract's expression for the size that is known at run time."""
        c = self.contraction
        sizes = {"left": c.left.count, "right": c.right.count, "batch": c.batches}
        rest = 1
        for role, size in sizes.items():
            rest *= 1 if role == c.runtime else size
        whole = f"{c.program.stores[0].tensor}.numel()"
        return f"{whole} / {rest}" if rest > 1 else whole

    def _grid(self) -> str:
        c, shape = self.contraction, self.shape
        parts = []
        for role, size, tile in (
            ("left", c.left.count, shape.m),
            ("right", c.right.count, shape.n),
            ("batch", c.batches, 1),
        ):
            if role == c.runtime:
                parts.append(f"ceil_div({self.count}, {tile})" if tile > 1 else f"({self.count})")
            elif -(-size // tile) > 1:
                parts.append(str(-(-size // tile)))
        if shape.split > 1:
            parts.append(str(shape.split))
        return " * ".join(parts)

    # --- text -------------------------------------------------------------------------

    def part(self, comment: str) -> Part:
        """The kernel."""
        writer, c, shape = self.writer, self.contraction, self.shape
        operands = loads(c.left.value, c.right.value)
        if self.copy is not None:
            packed.write(self.copy, writer)
        if shape.split == 1:
            body = self._body(self._store("  "))
            tensors = writer.parameters([*operands, *self._after], c.program.stores)
        else:
            body = self._body(self._store_partial("  "))
            tensors = writer.parameters(operands, [])
            tensors.append((f"{self.real}* __restrict__ {self.scratch}", self.scratch))
            dtype = "float64" if self.real == "double" else "float32"
            size = f"{c.program.stores[0].tensor}.numel()"
            writer.lines.append(scratch_line(self.scratch, dtype, [shape.split, size]))
        if self.asynchronous:
            writer.helpers.setdefault(COMMIT, COMMIT)
            writer.helpers.setdefault(WAIT, WAIT)
        writer.lines.append(
            launch_line(
                "contract",
                self._grid(),
                shape.threads,
                [*(name for _, name in tensors), self.count],
                shared=self.shared,
            )
        )
        resident = f", {self.plan.resident}" if self.plan.resident > 1 else ""
        head = wrapped(
            f'extern "C" __global__ void __launch_bounds__({shape.threads}{resident}) contract(',
            [*(d for d, _ in tensors), f"const {self.index} count"],
            ") {",
        )
        writer.kernels.append("\n".join([head, *body, "}"]))
        if shape.split > 1:
            self._second_launch()
        return writer.file(comment)

    @property
    def _after(self) -> tuple[Load, ...]:
        """What the epilogue loads."""
        return loads(*self.contraction.program.values)

    def _body(self, store: list[str]) -> list[str]:
        shape, c = self.shape, self.contraction
        left = self.movers[0]
        tiles = -(-c.k // shape.k)
        lines = [
            f"  extern __shared__ {'float4' if self.plan.word.bytes == 4 else 'double2'} stages[];",
            f"  {self.plan.word.type}* const left_tiles = "
            f"reinterpret_cast<{self.plan.word.type}*>(stages);",
            f"  {self.plan.word.type}* const right_tiles = left_tiles + "
            f"{shape.stages * left.layout.size};",
            *self._place(),
        ]
        taken, where = apart(c.batch, "batch", "  ", self.index) if c.batch else ([], {})
        moving = [
            line
            for mover in self.movers
            for line in (
                *mover.hoisted(where, "  "),
                *mover.prepared("  "),
                *mover.declare("  "),
            )
        ]
        lines += [*used(taken, [*moving, *store]), *moving]
        lines += self.math.declare("  ")
        first, last = "0", str(tiles)
        if shape.split > 1:
            per = -(-tiles // shape.split)
            lines += [
                f"  const int first_tile = share * {per};",
                f"  const int last_tile = min(first_tile + {per}, {tiles});",
            ]
            first, last = "first_tile", "last_tile"
        lines += self._loop(first, last)
        lines += self.math.finish("  ")
        return [*lines, *store]

    def _place(self) -> list[str]:
        """Which tile the block has: groups of tiles along m share right tiles in L2."""
        shape = self.shape
        m, n, batches = self._counts()
        tiles_m = f"(count + {shape.m - 1}) / {shape.m}"
        tiles_n = f"(count + {shape.n - 1}) / {shape.n}"
        if m != "count":
            tiles_m = str(-(-self.contraction.left.count // shape.m))
        if n != "count":
            tiles_n = str(-(-self.contraction.right.count // shape.n))
        lines = [
            f"  const int tiles_m = {tiles_m}, tiles_n = {tiles_n};",
            "  int tile = blockIdx.x;",
        ]
        if shape.split > 1:
            lines += [
                f"  const int share = tile % {shape.split};",
                f"  tile /= {shape.split};",
            ]
        if batches != "1":
            lines += [
                f"  const {self.index} batch = tile / (tiles_m * tiles_n);",
                "  tile %= tiles_m * tiles_n;",
            ]
        return [
            *lines,
            f"  const int group = tile / ({_GROUP} * tiles_n) * {_GROUP};",
            f"  const int side = min(tiles_m - group, {_GROUP});",
            f"  tile %= {_GROUP} * tiles_n;",
            f"  const {self.index} first_left = (group + tile % side) * {shape.m};",
            f"  const {self.index} first_right = tile / side * {shape.n};",
        ]

    def _loop(self, first: str, last: str) -> list[str]:
        """The ring: stage of tile t is t % STAGES; copies run STAGES − 1 tiles ahead."""
        ahead = self.shape.stages - 1
        left, right = self.movers

        def bring(tile: str, stage: str, indent: str) -> tuple[list[str], list[str]]:
            start = [line for mover in self.movers for line in mover.start(tile, stage, indent)]
            start += [line for mover in self.movers for line in mover.fetch(tile, indent)]
            put = [line for mover in self.movers for line in mover.put(stage, indent)]
            return start, put

        slot = (
            f"(tile_k - {first}) % {self.shape.stages}"
            if first != "0"
            else (f"tile_k % {self.shape.stages}")
        )
        commit = ["copies_commit();"] if self.asynchronous else []
        start, put = bring("ahead", "stage", "      ")
        lines = [
            f"  for (int stage = 0; stage < {ahead}; ++stage) {{",
            f"    const int ahead = {first} + stage;"
            if first != "0"
            else ("    const int ahead = stage;"),
            f"    if (ahead < {last}) {{",
            *start,
            *put,
            "    }",
            *(f"    {line}" for line in commit),
            "  }",
            f"  for (int tile_k = {first}; tile_k < {last}; ++tile_k) {{",
        ]
        if self.asynchronous:
            lines.append(f"    copies_wait<{ahead - 1}>();")
        start, put = bring("ahead", "stage", "      ")
        lines += [
            "    __syncthreads();  // this tile is there, and the stage before it is free again",
            f"    const int ahead = tile_k + {ahead};",
            f"    const int stage = (ahead - {first}) % {self.shape.stages};"
            if first != "0"
            else f"    const int stage = ahead % {self.shape.stages};",
            f"    if (ahead < {last}) {{",
            *start,
            "    }",
            *(f"    {line}" for line in commit),
            f"    const {self.plan.word.type}* const left = left_tiles + {slot} * "
            f"{left.layout.size};".replace(f"+ {slot} *", f"+ ({slot}) *"),
            f"    const {self.plan.word.type}* const right = right_tiles + ({slot}) * "
            f"{right.layout.size};",
            *self.math.multiply("    "),
        ]
        if put:
            lines += [f"    if (ahead < {last}) {{", *put, "    }"]
        return [*lines, "  }"]

    # --- epilogue ---------------------------------------------------------------------

    def _each(self, vec: int, inner: list[str], indent: str) -> list[str]:
        """The loops over a thread's sums; ``inner`` sees m, n, i and j."""
        m_count, n_count, _ = self._counts()
        row, column = self.math.place("i", "j")
        step = f"j += {vec}" if vec > 1 else "++j"
        c = self.contraction
        taken_m, _ = apart(c.m, "m", indent + "  ", self.index) if c.m else ([], {})
        taken_n, _ = apart(c.n, "n", indent + "    ", self.index) if c.n else ([], {})
        return [
            "#pragma unroll",
            f"{indent}for (int i = 0; i < {self.math.rows}; ++i) {{",
            f"{indent}  const {self.index} m = first_left + {row};",
            f"{indent}  if (m >= {m_count}) continue;",
            *used(taken_m, inner),
            "#pragma unroll",
            f"{indent}  for (int j = 0; j < {self.math.columns}; {step}) {{",
            f"{indent}    const {self.index} n = first_right + {column};",
            f"{indent}    if (n >= {n_count}) continue;",
            *used(taken_n, inner),
            *inner,
            f"{indent}  }}",
            f"{indent}}}",
        ]

    def _where(self) -> dict[str, str]:
        """C names of all row axes inside the loops over sums."""
        c = self.contraction
        where: dict[str, str] = {}
        for axes, index in ((c.batch, "batch"), (c.m, "m"), (c.n, "n")):
            where.update(apart(axes, index, "")[1] if axes else {})
        return where

    def _rows_writer(self, vec: int) -> Writer:
        """A writer of the rows alone, which shares helpers and names."""
        rows = evolve(self.contraction.program, columns=())
        return evolve(self.writer, program=rows, vec=vec)

    def _store(self, indent: str) -> list[str]:
        vec = finish.pack(self.contraction, self.math.contiguous)
        writer = self._rows_writer(vec)
        if vec > 1:
            self.writer.constant("VEC", vec, "neighbouring outputs that a thread stores at once")
        epilogue = finish.Epilogue(writer, self.contraction)
        deep = indent + "    "
        ctype = compute_type(self.contraction.result.dtype)
        if vec == 1:
            inner = epilogue.store(self.math.value("i", "j"), self._where(), deep)
            return self._each(1, inner, indent)
        inner = [
            f"{deep}{ctype} sums[VEC];",
            f"{deep}for (int k = 0; k < VEC; ++k) sums[k] = {self.math.value('i', '(j + k)')};",
            *epilogue.store("sums[k]", self._where(), deep),
        ]
        return self._each(vec, inner, indent)

    def _store_partial(self, indent: str) -> list[str]:
        m, n, batches = self._counts()
        at = f"m * {n} + n"
        if batches != "1":
            at = f"(batch * {m} + m) * {n} + n"
        total = f"{m} * {n}" + (f" * {batches}" if batches != "1" else "")
        deep = indent + "    "
        inner = [
            f"{deep}{self.scratch}[(long long)share * {total} + {at}] = "
            f"{self.math.value('i', 'j')};"
        ]
        return self._each(1, inner, indent)

    def _second_launch(self) -> None:
        """Adds the partial sums of an output in order, and finishes it."""
        c, writer = self.contraction, self.writer
        rows_writer = self._rows_writer(1)
        epilogue = finish.Epilogue(rows_writer, c)
        m, n, batches = self._counts()
        tensors = rows_writer.parameters(self._after, c.program.stores)
        total = f"{c.program.stores[0].tensor}.numel()"
        arguments = [self.scratch, *(name for _, name in tensors), self.count]
        writer.lines.append(
            launch_line("add_shares", f"ceil_div({total}, {_ADD_THREADS})", _ADD_THREADS, arguments)
        )
        head = wrapped(
            f'extern "C" __global__ void __launch_bounds__({_ADD_THREADS}) add_shares(',
            [
                f"const {self.real}* __restrict__ {self.scratch}",
                *(d for d, _ in tensors),
                f"const {self.index} count",
            ],
            ") {",
        )
        all_rows = f"(long long){m} * {n}" + (f" * {batches}" if batches != "1" else "")
        body = [
            f"  const long long outputs = {all_rows};",
            f"  const long long at = blockIdx.x * (long long){_ADD_THREADS} + threadIdx.x;",
            "  if (at >= outputs) return;",
            f"  {self.real} sum = 0;",
            "#pragma unroll",
            f"  for (int share = 0; share < {self.shape.split}; ++share) "
            f"sum += {self.scratch}[share * outputs + at];",
        ]
        if c.n:
            body.append(f"  const {self.index} n = at % {n};")
        if c.m:
            body.append(f"  const {self.index} m = at / {n} % {m};")
        if c.batch:
            body.append(f"  const {self.index} batch = at / ((long long){n} * {m});")
        stores = epilogue.store("sum", self._where(), "  ")
        for axes, index in ((c.batch, "batch"), (c.m, "m"), (c.n, "n")):
            body += used(apart(axes, index, "  ", self.index)[0], stores) if axes else []
        body += stores
        writer.kernels.append("\n".join([head, *body, "}"]))
