"""Tiles of outputs with the halo that their windows reach, in shared memory."""

from __future__ import annotations

import math

from attrs import frozen

from search_engine.contract.printer import launch_line
from search_engine.playbook.dtypes import compute_type, item_bytes, literal
from search_engine.playbook.expression import Apply, Expression, Load, walk
from search_engine.playbook.launch import rows
from search_engine.playbook.names import unused, wrapped
from search_engine.playbook.program import Axis, Program
from search_engine.playbook.source import Part
from search_engine.playbook.strip import Strip, best_strip
from search_engine.playbook.unrolled import Unrolled, UnrolledKernel, taps

# The tile's own first places along the last two axes, and loop variables of its fill.
_ORIGINS = ("top", "left")
_PLACES = ("part", "row", "col")

_NEIGHBOURS = 32  # outputs of a tile along an axis, about: their windows have to overlap


@frozen
class Halo:
    """The row axes along which windows overlap, innermost last, and what a tile holds.

    Tiles extend along the last ``tiled`` of the axes; along the others they are one output deep.
    """

    strips: tuple[Strip, ...]
    values: tuple[Expression, ...]
    tiled: int

    def tile(self, height: int, width: int) -> tuple[int, ...]:
        """Outputs of a tile along every axis."""
        lead = (1,) * (len(self.strips) - self.tiled)
        return (*lead, *((height, width) if self.tiled == 2 else (width,)))

    def lengths(self, height: int, width: int) -> tuple[int, ...]:
        """Values of a tile with its halo along every axis."""
        sizes = self.tile(height, width)
        return tuple(strip.length(size) for strip, size in zip(self.strips, sizes, strict=True))

    def shared_bytes(self, height: int, width: int) -> int:
        """Of all values of a tile."""
        each = sum(_value_bytes(value) for value in self.values)
        return math.prod(self.lengths(height, width)) * each


def _value_bytes(value: Expression) -> int:
    return max(item_bytes(value.dtype), 4)  # narrow floats are widened


def halo_of(program: Program) -> Halo | None:
    """The program's halo where every column axis is a window's along a row axis of its own."""
    found = [(axis, best_strip(program, axis, _NEIGHBOURS)) for axis in program.rows[1:]]
    strips = tuple(strip for _, strip in found if strip is not None)
    inner = program.rows[-1]
    if not strips or strips[-1].out != inner:
        return None
    if sorted(strip.tap.name for strip in strips) != sorted(c.name for c in program.columns):
        return None
    values = dict.fromkeys(
        value for statistic in program.statistics for value in _held(statistic.body, strips)
    )
    if not values:
        return None
    next_out = len(program.rows) > 2 and len(strips) > 1 and strips[-2].out == program.rows[-2]
    return Halo(strips, tuple(values), 2 if next_out else 1)


def _held(body: Expression, strips: tuple[Strip, ...]) -> list[Expression]:
    """The largest parts of the body that move with every strip, and are read from memory."""
    if all(strip.holds(body) for strip in strips):
        return [body] if any(isinstance(node, Load) for node in walk(body)) else []
    if not isinstance(body, Apply):
        return []
    return [value for arg in body.args for value in _held(arg, strips)]


class HaloKernel(UnrolledKernel):
    """The windows of a tile from shared memory; each thread has outputs below each other.

    Indices are ints: not for programs that need 64 bits.
    """

    def __init__(
        self, program: Program, halo: Halo, size: tuple[int, int], outputs: int, comment: str
    ) -> None:
        self.halo, (self.height, self.width) = halo, size
        strip = halo.strips[-2] if outputs > 1 else None
        threads = self.height * self.width // outputs
        super().__init__(program, Unrolled(threads, outputs, strip), comment)
        self.lengths = halo.lengths(self.height, self.width)
        self.arrays: dict[Expression, str] = {}
        for value in halo.values:
            self.arrays[value] = unused(f"{self._stem(value)}_tile", self.arrays.values())
        # The tile's first output along each axis of the halo.
        lead = [strip.out.name for strip in halo.strips[: -halo.tiled]]
        self.origins = [*lead, *_ORIGINS[-halo.tiled :]]

    def text(self) -> Part:
        """The file."""
        writer, program, plan = self.writer, self.program, self.plan
        tensors = writer.parameters(program.loads, program.stores)
        sizes, counts = self._tiled_axes(), self._tiles()
        tiles, outputs = math.prod(counts), math.prod(axis.size for axis in sizes)
        grid = f"{rows(program)} / {outputs}" + (f" * {tiles}" if tiles > 1 else "")
        writer.constant("THREADS", plan.threads, "per block")
        writer.constant("WIDTH", self.width, "outputs of a tile side by side")
        if self.strip is not None:
            writer.constant("OUTPUTS", plan.outputs, "outputs of a thread, below each other")
            writer.constant("STRIP", self.strip.length(plan.outputs), "values that they share")
        shape = " x ".join(map(str, self.lengths))
        writer.constant("TILE", math.prod(self.lengths), f"values of a tile: {shape}")
        arguments = [name for _, name in tensors]
        writer.lines.append(launch_line("window_in_shared", grid, plan.threads, arguments))
        head = wrapped(
            'extern "C" __global__ void __launch_bounds__(THREADS) window_in_shared(',
            [declaration for declaration, _ in tensors],
            ") {",
        )
        body = [
            *self._place(), *self._fill(), *self._leave(), *self._begin(), *self._windows(),
            *self._end(),
        ]  # fmt: skip
        writer.kernels.append("\n".join([head, *body, "}"]))
        return writer.file(self.comment)

    def _tiled_axes(self) -> list[Axis]:
        return [strip.out for strip in self.halo.strips[-self.halo.tiled :]]

    def _tiles(self) -> list[int]:
        """Tiles along the tiled axes."""
        sizes = (self.height, self.width)[-self.halo.tiled :]
        return [-(-a.size // s) for a, s in zip(self._tiled_axes(), sizes, strict=True)]

    def _place(self) -> list[str]:
        """The tile, and the thread's first output in it."""
        tiled, counts = self._tiled_axes(), self._tiles()
        sizes = (self.height, self.width)[-len(tiled) :]
        lines, inner = [], 1
        for count, size, origin in reversed(
            list(zip(counts, sizes, self.origins[-len(tiled) :], strict=True))
        ):
            value = "blockIdx.x" if inner == 1 else f"blockIdx.x / {inner}"
            # The outermost axis is never tiled, so more blocks than these follow.
            value = f"{value} % {count} * {size}" if count > 1 else "0"
            lines.append(f"  const int {origin} = {value};")
            inner *= count
        names = {axis.name for axis in tiled}
        outer = [axis for axis in self.program.rows if axis.name not in names]
        for position, axis in reversed(list(enumerate(outer))):
            value = "blockIdx.x" if inner == 1 else f"blockIdx.x / {inner}"
            value += f" % {axis.size}" if position else ""
            lines.append(f"  const int {axis.name} = {value};")
            inner *= axis.size
        own = ["threadIdx.x % WIDTH", "threadIdx.x / WIDTH" + (" * OUTPUTS" if self.out else "")]
        for axis, origin, place in zip(reversed(tiled), reversed(self.origins), own, strict=False):
            lines.append(f"  const int {axis.name} = {origin} + {place};")
        return lines

    def _fill(self) -> list[str]:
        """All threads bring the tile and its halo in, neighbours next to each other."""
        places = _PLACES[-len(self.lengths) :]
        where = {axis.name: axis.name for axis in self.program.rows}
        guards = []
        tile = self.halo.tile(self.height, self.width)
        for strip, origin, place, size in zip(
            self.halo.strips, self.origins, places, tile, strict=True
        ):
            where |= strip.where(origin, place)
            if strip.out.size % size and not self._checked(strip):
                first = origin if strip.out_step == 1 else f"{origin} * {strip.out_step}"
                guards.append(f"{first} + {place} < {strip.whole}")
        lines = [
            f"  __shared__ {compute_type(value.dtype)} {name}[TILE];"
            for value, name in self.arrays.items()
        ]
        lines.append("  for (int at = threadIdx.x; at < TILE; at += THREADS) {")
        inner = 1
        for position, (place, length) in reversed(
            list(enumerate(zip(places, self.lengths, strict=True)))
        ):
            value = "at" if inner == 1 else f"at / {inner}"
            value += f" % {length}" if position else ""
            lines.append(f"    const int {place} = {value};")
            inner *= length
        for held, name in self.arrays.items():
            text = self._inline(held, {}, where)
            if guards:
                text = f"{' && '.join(guards)} ? ({text}) : {literal(0, held.dtype)}"
            lines.append(f"    {name}[at] = {text};")
        return [*lines, "  }", "  __syncthreads();"]

    def _checked(self, strip: Strip) -> bool:
        """Whether padding keeps every load from places beyond the axis's last window anyway."""
        loads = [node for v in self.arrays for node in walk(v) if isinstance(node, Load)]
        return all(
            any(
                bound.factor(strip.out.name) and bound.reach(self.program.sizes)[1] >= bound.size
                for bound in load.bounds
            )
            for load in loads
        )

    def _leave(self) -> list[str]:
        """Threads beyond the outputs have nothing more to do."""
        beyond = [
            f"{strip.out.name} >= {strip.out.size}"
            for strip, size in zip(
                self.halo.strips, self.halo.tile(self.height, self.width), strict=True
            )
            if strip.out.size % size
        ]
        return [f"  if ({' || '.join(beyond)}) return;"] if beyond else []

    def _at_hand(self, where: dict[str, str]) -> dict[Expression, str]:
        """The tile's values, from shared memory."""
        return {value: f"{name}[{self._index(where)}]" for value, name in self.arrays.items()}

    def _index(self, where: dict[str, str]) -> str:
        """The place in a tile of the values that the axes' C expressions point at."""
        parts = []
        stride = math.prod(self.lengths)
        for strip, origin, length in zip(self.halo.strips, self.origins, self.lengths, strict=True):
            stride //= length
            out, tap = where[strip.out.name], where[strip.tap.name]
            own = "" if out == origin else f"{out} - {origin}"
            if strip.out_step != 1 and own:
                own = f"({own}) * {strip.out_step}"
            tap = "" if tap == "0" else tap
            if strip.tap_step != 1 and tap:
                tap = f"{tap} * {strip.tap_step}"
            at = " + ".join(part for part in (own, tap) if part) or "0"
            parts.append(f"({at}) * {stride}" if stride != 1 else at)
        return " + ".join(parts)

    @staticmethod
    def _guarded(text: str, condition: str, dtype: str) -> str:
        """Nothing to guard: a tile has all values of its outputs."""
        return text


def windows(program: Program) -> str:
    """``3 × 3``, for people."""
    return taps(program.columns)
