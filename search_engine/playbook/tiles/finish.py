"""What becomes of the sums: the epilogue and the stores, or partial sums for a second launch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from attrs import evolve, frozen

from search_engine.contract.printer import launch_line
from search_engine.playbook.contraction import Contraction
from search_engine.playbook.dtypes import compute_type
from search_engine.playbook.emit import Element, Writer
from search_engine.playbook.expression import Load, loads
from search_engine.playbook.names import wrapped
from search_engine.playbook.tiles.places import apart, used
from search_engine.playbook.tiles.registers import Registers
from search_engine.playbook.tiles.tensor_cores import TensorCores

_ADD_THREADS = 256


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


@frozen
class Finish:
    """Writes the end of a tiled kernel, and the second launch where k is split."""

    writer: Writer
    contraction: Contraction
    math: Registers | TensorCores
    counts: tuple[str, str, str]  # C of the numbers of left rows, right rows and batches
    count: str  # the contract's expression for the one known at run time
    scratch: str  # the name of the partial sums
    split: int

    @property
    def index(self) -> str:
        """The C type of indices."""
        return self.contraction.index_type

    @property
    def real(self) -> str:
        """The C type of sums."""
        return self.contraction.program.real

    @property
    def after(self) -> tuple[Load, ...]:
        """What the epilogue loads."""
        return loads(*self.contraction.program.values)

    def _each(self, vec: int, inner: list[str], indent: str) -> list[str]:
        """The loops over a thread's sums; ``inner`` sees m, n, i and j."""
        m_count, n_count, _ = self.counts
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

    def stored(self, indent: str) -> list[str]:
        """Lines that finish a thread's sums and store them."""
        vec = pack(self.contraction, self.math.contiguous)
        writer = self._rows_writer(vec)
        if vec > 1:
            self.writer.constant("VEC", vec, "neighbouring outputs that a thread stores at once")
        epilogue = Epilogue(writer, self.contraction)
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

    def stored_partial(self, indent: str) -> list[str]:
        """Lines that store a thread's sums of the block's share of k."""
        m, n, batches = self.counts
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

    def second_launch(self) -> None:
        """Adds the partial sums of an output in order, and finishes it."""
        c, writer = self.contraction, self.writer
        rows_writer = self._rows_writer(1)
        epilogue = Epilogue(rows_writer, c)
        m, n, batches = self.counts
        tensors = rows_writer.parameters(self.after, c.program.stores)
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
            f"  for (int share = 0; share < {self.split}; ++share) "
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
