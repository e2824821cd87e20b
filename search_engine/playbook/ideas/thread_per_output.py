"""Give each output to one thread that walks its small window in registers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from search_engine.hardware import DeviceFacts
from search_engine.playbook import cost, words
from search_engine.playbook.dtypes import item_bytes
from search_engine.playbook.expression import Apply, Expression, Inside, Load, Result, walk
from search_engine.playbook.idea import Knobs, PlaybookIdea, Variant
from search_engine.playbook.primitives import PRIMITIVES
from search_engine.playbook.program import Axis, Program
from search_engine.playbook.source import Part
from search_engine.playbook.strip import Strip, best_strip
from search_engine.playbook.unrolled import FOLDS, Unrolled, UnrolledKernel, taps

# A sum of more terms, one after the other, has an error that a tree of sums has not.
_MOST_TAPS = 1024
# Bytes in flight per multiprocessor that hide the latency of device memory: 4.3 TB/s for
# 0.7 µs on 132 of them.
_LATENCY_BYTES = 24_000
_EFFICIENCY = 0.9  # of the copy bandwidth, by accesses of single elements


class ThreadPerOutput(PlaybookIdea):
    """Windows (pooling, depthwise convolution) and other short columns, a thread each."""

    key = "thread_per_output"
    title = "One thread per output, its loops unrolled"
    category = "parallelism and occupancy"
    knobs: ClassVar[Knobs] = {
        "threads": (
            (64, 128, 256, 512),
            "parallelism and occupancy",
            "Threads share nothing; smaller blocks leave less of the last wave idle.",
        ),
        "outputs": (
            (1, 2, 4, 8),
            "memory access",
            "Neighbouring outputs read most of the same values: a thread that computes several "
            "reads each of them once into registers; more outputs leave fewer threads.",
        ),
        "along": (
            ("outer", "inner"),
            "memory access",
            "Outputs of one thread below each other keep a warp's accesses side by side; outputs "
            "next to each other share where there is but one axis.",
        ),
    }

    def applies(self, program: Program, facts: DeviceFacts) -> bool:
        """Short columns, one pass over them, and results that are one number per row."""
        return short_windows(program)

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """Windows, how they overlap, and what that costs without registers."""
        read, written = cost.traffic(program)
        least = (read + written) / facts.dram_bytes_per_second
        outputs = words.counted(program.row_count, "output")
        window = taps(program.columns)
        text = (
            f"Each of {outputs} is one number made of {window} values. No thread needs another's "
            f"result, so a thread per output has neither barriers nor shuffles, and what its short "
            f"loops need of address arithmetic is mostly done by the compiler. At best "
            f"{words.size(read + written)} move once, {words.time(least)} at the copy bandwidth "
            f"of {facts.name}"
        )
        strip = self._strip(program, "outer") or self._strip(program, "inner")
        if strip is None:
            return f"{text}."
        return (
            f"{text}. Windows overlap: eight neighbouring outputs read {strip.length(8)} different "
            f"values along that axis, not {8 * strip.tap.size}, so a thread that computes several "
            f"keeps them in registers."
        )

    def variants(self, program: Program, facts: DeviceFacts) -> Sequence[Variant]:
        """Several outputs where windows overlap, one else."""
        offered = [
            Variant.of(threads=threads, outputs=outputs, along=along)
            for outputs, along, threads in (
                (4, "outer", 128), (4, "inner", 128), (2, "outer", 256), (8, "outer", 128),
                (1, "outer", 256), (1, "outer", 128),
            )
        ]  # fmt: skip
        valid = [v for v in offered if self.valid(program, v, facts)]
        return sorted(valid, key=lambda v: self.seconds(program, v, facts))

    def valid(self, program: Program, variant: Variant, facts: DeviceFacts) -> bool:
        """Several outputs only where they share; one along "outer", so that it is one variant."""
        outputs = variant.number("outputs")
        if outputs == 1:
            return variant.word("along") == "outer"
        strip = self._strip(program, variant.word("along"))
        if strip is None or not strip.shares(outputs) or strip.out.size < outputs:
            return False
        # A clamped index is an int.
        return not (program.needs_64_bit and strip.out.size % outputs)

    def seconds(self, program: Program, variant: Variant, facts: DeviceFacts) -> float:
        """One pass, or the instructions of all windows if those take longer."""
        outputs = variant.number("outputs")
        moved = sum(cost.traffic(program)) / (facts.dram_bytes_per_second * _EFFICIENCY)
        moved /= _in_flight(program, outputs, facts)
        strip = self._strip(program, variant.word("along")) if outputs > 1 else None
        per_output = 12.0 / outputs + 4
        for statistic in program.statistics:
            held = strip.held(statistic.body) if strip else ()
            for count, shared in instructions(statistic.body, held):
                share = 1.0
                if strip and shared:
                    share = strip.length(outputs) / (outputs * strip.tap.size)
                per_output += program.column_count * share * count
        lanes = facts.sm_count * 128 * facts.clock_hz
        threads = program.row_count / outputs
        busy = min(1.0, threads / (facts.sm_count * 512))
        issue = program.row_count * per_output / lanes / busy
        # Neighbours in one thread set the lanes of a warp apart in memory.
        spread = 1.15 if strip and strip.out == program.rows[-1] else 1.0
        return max(moved, issue * spread) + cost.LAUNCH

    def write(self, program: Program, variant: Variant, facts: DeviceFacts) -> Part:
        """The kernel in parts."""
        outputs = variant.number("outputs")
        strip = self._strip(program, variant.word("along")) if outputs > 1 else None
        plan = Unrolled(variant.number("threads"), outputs, strip)
        comment = f"One thread per output: {taps(program.columns)} values each, in registers."
        if strip is not None:
            comment = (
                f"One thread for {outputs} neighbouring outputs of {taps(program.columns)} values "
                "each: what their windows share is read once, into registers."
            )
        return UnrolledKernel(program, plan, comment).text()

    @staticmethod
    def _strip(program: Program, along: str) -> Strip | None:
        """The overlap along the innermost row axis, or along the next one."""
        place = {"inner": -1, "outer": -2}[along]
        # The outermost axis has its size at run time.
        axes: Sequence[Axis] = program.rows[1:]
        return best_strip(program, axes[place]) if len(axes) >= -place else None


def _in_flight(program: Program, outputs: int, facts: DeviceFacts) -> float:
    """The share of the bandwidth that a multiprocessor's outstanding loads can pull."""
    threads = min(program.row_count / outputs / facts.sm_count, 2048)
    item = min((item_bytes(load.dtype) for load in program.loads), default=4)
    ahead = min(program.column_count * outputs, 8)
    return min(1.0, threads * ahead * item / _LATENCY_BYTES)


def short_windows(program: Program) -> bool:
    """Short columns, one pass over them, and results that are one number per row."""
    results = [node for node in walk(*program.values) if isinstance(node, Result)]
    return (
        bool(program.statistics)
        and not program.scans
        and program.levels == 1
        and all(result.part == result.statistic.kind for result in results)
        and program.column_count <= _MOST_TAPS
        and all(s.kind in FOLDS for s in program.statistics)
        and not any(program.reads_columns(value) for value in program.values)
        and not any(store.stride(c.name) for store in program.stores for c in program.columns)
    )


def instructions(body: Expression, held: Sequence[Expression]) -> Iterator[tuple[float, bool]]:
    """Of every expression of a body at one place, and whether it is part of what is held.

    An access has its address and its conditions too.
    """
    inside = {node for value in held for node in walk(value)}
    for node in walk(body):
        count = 0.0
        if isinstance(node, Apply):
            count = PRIMITIVES[node.op].cost
        elif isinstance(node, Load):
            count = 2.0 + 2.0 * len(node.bounds)
        elif isinstance(node, Inside):
            count = 2.0 * len(node.bounds)
        yield count, node in inside
