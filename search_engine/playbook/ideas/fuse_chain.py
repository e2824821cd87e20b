"""Fuse a chain of pointwise operators into one pass of 16-byte accesses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from search_engine.contract.printer import launch_line
from search_engine.hardware import DeviceFacts
from search_engine.playbook import cost, words
from search_engine.playbook.dtypes import compute_type
from search_engine.playbook.emit import Writer
from search_engine.playbook.expression import Apply, walk
from search_engine.playbook.idea import Knobs, PlaybookIdea, Variant
from search_engine.playbook.launch import count_type, elements, largest_vector
from search_engine.playbook.names import wrapped
from search_engine.playbook.program import Program
from search_engine.playbook.source import Part


class FuseChain(PlaybookIdea):
    """One kernel for the whole chain: each tensor crosses device memory once."""

    key = "fuse_chain"
    title = "Fuse the chain into one pass over memory"
    category = "memory access"
    knobs: ClassVar[Knobs] = {
        "threads": (
            (128, 256, 512),
            "parallelism and occupancy",
            "Smaller blocks retire sooner and leave less of the last wave idle; larger ones need "
            "fewer index computations.",
        ),
        "vector": (
            (1, 2, 4, 8),
            "memory access",
            "A thread that moves 16 bytes per access issues a quarter of the loads of one that "
            "moves 4; narrower accesses give a small tensor more threads.",
        ),
        "packs": (
            (1, 2, 4),
            "asynchrony and latency hiding",
            "Several independent packs per thread keep more loads in flight before the first use.",
        ),
        "waves": (
            (0, 1, 4),
            "parallelism and occupancy",
            "A grid that just fills the chip walks the tensor with a grid-stride loop and pays for "
            "block start-up once; one pack per thread leaves the scheduling to the hardware.",
        ),
        "once": (
            ("no", "yes"),
            "memory access",
            "Streaming hints (ld.cs, st.cs) let data that is used once leave L2 first, so that "
            "shared parameters stay; without them, what fits L2 is there for the next kernel.",
        ),
    }

    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Pointwise programs whose innermost axis is contiguous, or any by single elements."""
        return program.is_pointwise

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """Bytes of the chain against bytes of its operators one by one."""
        read, written = cost.traffic(program)
        operators = _operators(program)
        least = (read + written) / facts.dram_bytes_per_second
        count = program.row_count
        elements = words.counted(count, "element")
        moved = f"{words.size(read + written)}, {words.time(least)} at the copy bandwidth of "
        if len(operators) == 1:
            text = (
                f"There is one pointwise operation ({operators[0]}) on {elements}. At best "
                f"each input is read once and each output written once: {moved}{facts.name}."
            )
        elif operators:
            text = (
                f"There are {len(operators)} pointwise operations "
                f"({', '.join(operators[:6])}{', …' if len(operators) > 6 else ''}) on {elements}. "
                f"Run one by one, each would read its operands from device memory and write its "
                f"result back. Fused, every input is read once and every output written once, and "
                f"intermediates stay in registers: {moved}{facts.name}."
            )
        else:
            text = f"All there is to do is to copy {elements}: {moved}{facts.name}."
        if least < cost.LAUNCH:
            return f"{text} That is less than a launch takes: what counts is to launch only once."
        size = self._vector(program) * program.narrowest_item
        if self._vector(program) > 1:
            return (
                f"{text} A thread moves {size} bytes per access, so that few instructions keep the "
                f"memory system full."
            )
        reason = "the innermost axis does not divide into packs"
        if not program.inner_contiguous:
            reason = "not every tensor is contiguous along the innermost axis"
        return f"{text} A thread moves single elements, as {reason}."

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """Hardware-scheduled, grid-stride, several packs in flight."""
        vector = self._vector(program)
        offered = [
            Variant.of(threads=256, vector=vector, packs=1, waves=0, once="no"),
            Variant.of(threads=256, vector=vector, packs=2, waves=0, once="yes"),
            Variant.of(threads=256, vector=vector, packs=1, waves=1, once="no"),
            Variant.of(threads=128, vector=vector, packs=4, waves=0, once="no"),
        ]
        return [v for v in offered if self.valid(program, v, facts)]

    def _vector(self, program: Program) -> int:
        if not program.inner_contiguous:
            return 1
        flat = len(program.axes) == 1
        return largest_vector(program, 64 if flat else program.inner.size)

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """The pack divides the innermost axis (a flat tensor's tail is handled apart)."""
        best = self._vector(program)
        return variant.number("vector") <= best and best % variant.number("vector") == 0

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """One pass; scalar accesses reach less of the bandwidth than 16-byte ones."""
        # Shares of the copy bandwidth measured on an H200 for gelu(x * s + b) + r, 33.5 M floats.
        size = variant.number("vector") * program.narrowest_item
        efficiency = 0.985 if size >= 16 else 0.97 if size >= 8 else 0.9
        efficiency -= {1: 0.0, 2: 0.005, 4: 0.015}[variant.number("packs")]
        efficiency -= 0.015 if variant.number("waves") else 0.0
        efficiency -= 0.005 if variant.word("once") == "yes" else 0.0
        if not program.inner_contiguous:
            efficiency = 0.3
        return cost.pass_seconds(program, facts, efficiency=efficiency)

    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel in parts."""
        return _Chain(program, variant).text()


def _operators(program: Program) -> list[str]:
    """The primitives of the chain in order."""
    return [node.op for node in walk(*program.values) if isinstance(node, Apply)]


class _Chain:
    """Writes one file of the idea."""

    def __init__(self, program: Program, variant: Variant) -> None:
        self.program, self.variant = program, variant
        self.vec = variant.number("vector")
        self.writer = Writer(program, vec=self.vec, streaming=variant.word("once") == "yes")
        self.index = count_type(program)

    def text(self) -> Part:
        """The kernel in parts."""
        writer, program, variant = self.writer, self.program, self.variant
        outputs = [
            (writer.tensor(s.tensor) + "_new", compute_type(s.dtype), s.value)
            for s in program.stores
        ]
        self.element = writer.element("chain", "One element of the chain.", outputs)
        threads, per_thread = variant.number("threads"), variant.number("packs")
        count, tile = elements(program), threads * per_thread * self.vec
        grid = f"ceil_div({count}, {tile})"
        if variant.number("waves"):
            resident = variant.number("waves") * 2048 // threads
            grid = f"min({grid}, {resident} * sm_count)"
        tensors = writer.parameters(self.element.loads, program.stores)
        arguments = [*(name for _, name in tensors), count]
        writer.lines.append(launch_line("fused_chain", grid, threads, arguments))
        if self.vec > 1:
            size = program.narrowest_item * self.vec
            writer.constant(
                "VEC", self.vec, f"neighbours that a thread moves in one {size}-byte access"
            )
        writer.constant("THREADS", threads, "per block")
        writer.constant("PACKS", per_thread, "independent packs that a thread has in flight")
        writer.constant("TILE", "THREADS * PACKS" + (" * VEC" if self.vec > 1 else ""),
                        "elements of a block's step")  # fmt: skip
        head = wrapped(
            'extern "C" __global__ void __launch_bounds__(THREADS) fused_chain(',
            [*(declaration for declaration, _ in tensors), f"const {self.index} count"],
            ") {",
        )
        writer.kernels.append("\n".join([head, *self._body(), "}"]))
        return writer.file(
            "The whole chain in one pass: every input is read once, every output written once, "
            "intermediates stay in registers."
        )

    def _body(self) -> list[str]:
        """The loop over tiles (grid-stride where the grid is fixed) and over a thread's packs."""
        wide = f"({self.index})" if self.index != "int" else ""
        unit = " * VEC" if self.vec > 1 else ""
        start, indent = f"{wide}blockIdx.x * TILE", "  "
        strided = bool(self.variant.number("waves"))
        if strided:
            stride = f"{wide}gridDim.x * TILE"
            lines = [
                f"  for ({self.index} tile = {start}; tile < count; tile += {stride}) {{",
            ]
            indent = "    "
        else:
            lines = [f"  const {self.index} tile = {start};"]
        if self.variant.number("packs") > 1:
            lines += [
                "#pragma unroll",
                f"{indent}for (int p = 0; p < PACKS; ++p) {{",
                f"{indent}  const {self.index} i = tile + (p * THREADS + threadIdx.x){unit};",
                *self._pack(indent + "  "),
                f"{indent}}}",
            ]
        else:
            lines.append(f"{indent}const {self.index} i = tile + threadIdx.x{unit};")
            lines += self._pack(indent)
        return [*lines, "  }"] if strided else lines

    def _pack(self, indent: str) -> list[str]:
        """One pack; a flat tensor's last, incomplete pack goes by single elements."""
        body = self._one(self.writer, indent + "  ", "i")
        flat = len(self.program.axes) <= 1
        if self.vec == 1 or not flat:
            return [f"{indent}if (i < count) {{", *body, f"{indent}}}"]
        return [
            f"{indent}if (i + VEC <= count) {{",
            *body,
            f"{indent}}} else {{",
            f"{indent}  // The tensor's last elements, fewer than a pack.",
            f"{indent}  for ({self.index} j = i; j < count; ++j) {{",
            *self._one(self.writer.elementwise(), indent + "    ", "j"),
            f"{indent}  }}",
            f"{indent}}}",
        ]

    def _one(self, writer: Writer, indent: str, at: str) -> list[str]:
        """Load, compute, store at element ``at``; axes are taken apart only where needed."""
        where = {"": at}
        lines: list[str] = []
        inner = 1
        for position, axis in reversed(list(enumerate(self.program.axes))):
            if writer.taken_apart(axis.name):
                value = at if inner == 1 else f"{at} / {inner}"
                if position > 0:
                    value = f"{value} % {axis.size}"
                lines.append(f"{indent}const {self.index} {axis.name} = {value};")
                where[axis.name] = axis.name
            inner *= axis.size
        loads, element = writer.load_packs(self.element.loads, where, indent)
        return [
            *lines,
            *loads,
            *writer.compute_and_store(self.element, element, self.program.stores, where, indent),
        ]
