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
from search_engine.playbook.contraction import Contraction, Operand
from search_engine.playbook.emit import Writer
from search_engine.playbook.expression import loads
from search_engine.playbook.names import unused, wrapped
from search_engine.playbook.source import Part
from search_engine.playbook.tiles import packed, registers, tensor_cores
from search_engine.playbook.tiles.asynchronous import AsynchronousMover
from search_engine.playbook.tiles.copies import COMMIT, WAIT
from search_engine.playbook.tiles.finish import Finish
from search_engine.playbook.tiles.held_tiles import HeldMover
from search_engine.playbook.tiles.movers import Copies, Mover
from search_engine.playbook.tiles.places import apart, used
from search_engine.playbook.tiles.registers import Registers
from search_engine.playbook.tiles.shape import TileShape, Word
from search_engine.playbook.tiles.tensor_cores import TensorCores

Unit = Literal["registers", "tensor_cores"]

_GROUP = 8  # tiles along m that run side by side: their right tiles are shared in L2


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


def _mover(
    writer: Writer, contraction: Contraction, operand: Operand, name: str, plan: TilePlan
) -> Mover:
    """The mover of an operand: asynchronous where the plan wants that and the tensor allows it."""
    settings = (contraction, operand, name, plan.word, plan.shape, plan.copies)
    plain = Mover(evolve(writer), *settings)
    return (AsynchronousMover if plain.asynchronous else HeldMover)(writer, *settings)


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
            _mover(self.writer, contraction, operand, name, plan)
            for operand, name in ((contraction.left, "left"), (contraction.right, "right"))
        ]
        left, right = (mover.layout for mover in self.movers)
        self.math: Registers | TensorCores
        if plan.unit == "registers":
            self.math = Registers(self.writer, self.shape, left, right, self.real)
        else:
            words, products = plan.word, plan.products
            self.math = TensorCores(self.writer, self.shape, left, right, words, products)
        used_names = [load.tensor for load in contraction.program.loads]
        used_names += [store.tensor for store in contraction.program.stores]
        self.scratch = unused("partial", used_names)

    # --- sizes ------------------------------------------------------------------------

    @property
    def shared(self) -> int:
        """Bytes of dynamic shared memory: the stages."""
        words = sum(mover.layout.size for mover in self.movers)
        return words * self.shape.stages * self.plan.word.bytes

    @property
    def shared_whole(self) -> int:
        """Bytes of shared memory, with tables of taps."""
        return self.shared + sum(
            mover.taps.bytes for mover in self.movers if mover.taps is not None
        )

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
        end = Finish(writer, c, self.math, self._counts(), self.count, self.scratch, shape.split)
        if self.copy is not None:
            packed.write(self.copy, writer)
        if shape.split == 1:
            body = self._body(end.stored("  "))
            tensors = writer.parameters([*operands, *end.after], c.program.stores)
        else:
            body = self._body(end.stored_partial("  "))
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
            end.second_launch()
        return writer.file(comment)

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
                *(mover.taps.filled("  ") if mover.taps is not None else ()),
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
