"""The memory that a kernel can reach: guarded buffers in one flat allocation.

Every tensor that a kernel's launches name, every output and every scratch buffer gets its
own place in one storage, with red zones between them::

    [red zone | x | red zone | partial | red zone | out | red zone]

Inputs are copied in, outputs and scratch are poisoned, red zones carry a pattern. After the
run the arena tells what was written that must not be. The storage is the device's: CUDA
memory, or memory shared with a worker process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from attrs import field, frozen

from search_engine.contract.kernel import Plan, Pointer
from search_engine.task import ITEM_BYTES, Task
from search_engine.verdict import Finding

BufferRole: TypeAlias = Literal["input", "output", "scratch"]

ALIGNMENT = 256  # what allocators give; `offset` then takes it away down to the contract's 16
CONTRACT_ALIGNMENT = 16
RED_ZONE = 4096  # one float4 from each of 256 threads too far still lands in the zone
EDGE_ZONE = 65536  # before the first and behind the last buffer lies memory of others

# As fp16, bf16, fp32 and fp64 this 16-bit word, repeated, is a NaN, so that a read out of
# bounds shows in the result; it is none of the NaNs that arithmetic or the poison makes,
# so that a write shows as well.
_ZONE_WORD = 0x7FF5
_ZONE_BYTES = (_ZONE_WORD & 0xFF, _ZONE_WORD >> 8)
_POISON_FLOAT = 0xFF  # NaN in every floating dtype
_POISON_OTHER = 0xA5  # int32 -1515870811; no valid bool

_INTEGER_OF_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@frozen
class Buffer:
    """One buffer of a layout. ``start`` and ``nbytes`` are in bytes, ``stride`` in elements."""

    name: str
    role: BufferRole
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    start: int
    nbytes: int  # of the span from the first to the last element, gaps included
    zeroed: bool = False

    @property
    def end(self) -> int:
        """The first byte behind the buffer."""
        return self.start + self.nbytes

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype as torch names it."""
        return getattr(torch, self.dtype)


@frozen
class Layout:
    """Where each buffer lies in a storage of ``nbytes`` whose base is aligned to 256 bytes."""

    buffers: tuple[Buffer, ...]
    nbytes: int

    _by_name: dict[str, Buffer] = field(init=False, repr=False, eq=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._by_name.update({buffer.name: buffer for buffer in self.buffers})

    def buffer(self, name: str) -> Buffer:
        """The buffer of that contract or scratch name. Raises KeyError where there is none."""
        return self._by_name[name]

    def zones(self) -> list[tuple[int, int]]:
        """The red zones as [start, end), in order: one before each buffer, one at the end."""
        edges = [0, *(b.end for b in self.buffers)]
        starts = [*(b.start for b in self.buffers), self.nbytes]
        return list(zip(edges, starts, strict=True))


def lay_out(task: Task, plan: Plan, *, offset: int = 0) -> Layout:
    """Lay out what a kernel can reach: tensors that ``plan`` names, scratch, and all outputs.

    Every buffer starts ``offset`` times 16 bytes behind a multiple of 256 bytes. Tensors
    lie with exactly the strides of their ``TensorSpec``.
    """
    named = {
        argument.name
        for launch in plan.launches
        for argument in launch.arguments
        if isinstance(argument, Pointer)
    }
    buffers: list[Buffer] = []
    position = EDGE_ZONE

    def add(
        name: str,
        role: BufferRole,
        dtype: str,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        zeroed: bool = False,
    ) -> None:
        nonlocal position
        start = -(-position // ALIGNMENT) * ALIGNMENT + offset * CONTRACT_ALIGNMENT
        nbytes = _span(shape, stride) * ITEM_BYTES[dtype]
        buffers.append(Buffer(name, role, dtype, shape, stride, start, nbytes, zeroed))
        position = start + nbytes + RED_ZONE

    for spec in task.tensors:
        if spec.role == "output":
            add(spec.name, "output", spec.dtype, spec.shape, spec.stride)
        elif spec.name in named:
            add(spec.name, "input", spec.dtype, spec.shape, spec.stride)
    for item in plan.scratch:
        add(item.name, "scratch", item.dtype, item.shape, _row_major(item.shape), item.zeroed)

    last = buffers[-1].end if buffers else 0
    return Layout(tuple(buffers), -(-(last + EDGE_ZONE) // ALIGNMENT) * ALIGNMENT)


class Arena:
    """A layout over a storage: a flat uint8 tensor of at least ``Arena.size_of(layout)`` bytes.

    Use: ``place(tensors)``, run the launches on ``pointer(name)``, then ``findings()`` and
    ``outputs()``. An arena may be placed again.
    """

    @staticmethod
    def size_of(layout: Layout) -> int:
        """Bytes to allocate: the layout, and room to align its base."""
        return layout.nbytes + ALIGNMENT

    def __init__(self, layout: Layout, storage: torch.Tensor) -> None:
        if storage.dtype != torch.uint8 or storage.dim() != 1 or not storage.is_contiguous():
            raise ValueError("an arena needs a flat, contiguous uint8 tensor")
        self.layout = layout
        self.base = -storage.data_ptr() % ALIGNMENT
        if storage.numel() < self.base + layout.nbytes:
            raise ValueError(f"the storage has {storage.numel()} bytes, too few for the layout")
        self._bytes = storage[self.base : self.base + layout.nbytes]
        self._sources: dict[str, torch.Tensor] = {}
        pair = torch.tensor(_ZONE_BYTES, dtype=torch.uint8, device=storage.device)
        # One longer than any zone: a zone that starts at an odd byte takes it shifted by one.
        longest = max(end - start for start, end in layout.zones())
        self._pattern = pair.repeat(longest // 2 + 1)

    def offset_of(self, name: str) -> int:
        """A buffer's first byte, counted from the storage's first."""
        return self.base + self.layout.buffer(name).start

    def pointer(self, name: str) -> int:
        """A buffer's address in this process (or on the GPU)."""
        return self._bytes.data_ptr() + self.layout.buffer(name).start

    def view(self, name: str) -> torch.Tensor:
        """A buffer as a tensor with its shape, strides and dtype; no copy."""
        buffer = self.layout.buffer(name)
        flat = self._bytes[buffer.start : buffer.end]
        if buffer.nbytes == 0:
            return flat.view(buffer.torch_dtype).reshape(buffer.shape)
        return flat.view(buffer.torch_dtype).as_strided(buffer.shape, buffer.stride)

    # --- before the run ---------------------------------------------------------------

    def place(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copy inputs in, poison outputs and scratch, draw the red zones.

        Raises KeyError where an input of the layout is missing from ``tensors`` and
        ValueError where its shape or dtype is not the task's.
        """
        for start, end in self.layout.zones():
            self._bytes[start:end].copy_(self._expected(start, end))
        self._sources = {}
        for buffer in self.layout.buffers:
            if buffer.role == "input":
                self._copy_in(buffer, tensors[buffer.name])
            elif buffer.zeroed:
                self._bytes[buffer.start : buffer.end].zero_()
            else:
                self._bytes[buffer.start : buffer.end].fill_(_poison_of(buffer))

    def _copy_in(self, buffer: Buffer, source: torch.Tensor) -> None:
        if tuple(source.shape) != buffer.shape or source.dtype != buffer.torch_dtype:
            raise ValueError(
                f"{buffer.name} is {source.dtype} {tuple(source.shape)}, the task says "
                f"{buffer.dtype} {buffer.shape}"
            )
        source = source.detach().to(self._bytes.device)
        self._sources[buffer.name] = source
        self._bytes[buffer.start : buffer.end].fill_(_poison_of(buffer))  # gaps of the strides
        if not buffer.nbytes:
            return
        target, source = self.view(buffer.name), _as_integers(source)
        for dim, stride in enumerate(buffer.stride):
            if stride == 0:  # expanded: one element stands for all
                target, source = target.narrow(dim, 0, 1), source.narrow(dim, 0, 1)
        _as_integers(target).copy_(source)

    def _expected(self, start: int, end: int) -> torch.Tensor:
        phase = start % 2
        return self._pattern[phase : phase + end - start]

    # --- after the run ----------------------------------------------------------------

    def findings(self) -> tuple[Finding, ...]:
        """What was written that must not be: red zones, inputs, bytes that are no bool."""
        return (*self._zone_findings(), *self._input_findings(), *self._bool_findings())

    def outputs(self) -> dict[str, torch.Tensor]:
        """The outputs, cloned out of the arena with their strides."""
        found = {}
        for buffer in self.layout.buffers:
            if buffer.role == "output":
                view = self.view(buffer.name)
                if buffer.dtype == "bool":  # any byte but 0 and 1 would be undefined in torch
                    view = view.view(torch.uint8) != 0
                out = torch.empty_strided(
                    buffer.shape, buffer.stride, dtype=view.dtype, device=view.device
                )
                found[buffer.name] = out.copy_(view)
        return found

    def _zone_findings(self) -> list[Finding]:
        zones = self.layout.zones()
        now = torch.cat([self._bytes[start:end] for start, end in zones])
        expected = torch.cat([self._expected(start, end) for start, end in zones])
        if torch.equal(now, expected):
            return []
        touched = (now != expected).cpu()
        # Distances by (buffer, side), one finding for each.
        distances: dict[tuple[str, str], list[int]] = {}
        position = 0
        buffers = self.layout.buffers
        for index, (start, end) in enumerate(zones):
            at = touched[position : position + end - start].nonzero().flatten().tolist()
            position += end - start
            for byte in at:
                behind = byte + 1 if index > 0 else end
                before = end - start - byte if index < len(buffers) else end
                if behind <= before:
                    distances.setdefault((buffers[index - 1].name, "past the end"), []).append(
                        behind
                    )
                else:
                    distances.setdefault((buffers[index].name, "before the start"), []).append(
                        before
                    )
        return [
            Finding(
                "red-zone",
                f"{len(found)} bytes were written outside {name}, from {min(found)} to "
                f"{max(found)} bytes {side}",
                place=f"{name}, {min(found)} bytes {side}",
            )
            for (name, side), found in distances.items()
        ]

    def _input_findings(self) -> list[Finding]:
        found = []
        for name, source in self._sources.items():
            if source.numel() == 0:
                continue
            now, before = _as_integers(self.view(name)), _as_integers(source)
            if torch.equal(now, before):
                continue
            changed = (now != before).nonzero()
            place = f"{name}[{', '.join(str(i) for i in changed[0].tolist())}]"
            found.append(
                Finding(
                    "input-changed",
                    f"{name} is an input, but {len(changed)} of its elements were changed",
                    place=place,
                )
            )
        return found

    def _bool_findings(self) -> list[Finding]:
        found = []
        for buffer in self.layout.buffers:
            if buffer.role != "output" or buffer.dtype != "bool" or not buffer.nbytes:
                continue
            wrong = (self.view(buffer.name).view(torch.uint8) > 1).nonzero()
            if len(wrong):
                place = f"{buffer.name}[{', '.join(str(i) for i in wrong[0].tolist())}]"
                found.append(
                    Finding(
                        "bool-bytes",
                        f"{len(wrong)} elements of {buffer.name} were not written, or hold a "
                        "byte other than 0 and 1",
                        place=place,
                    )
                )
        return found


def _span(shape: Sequence[int], stride: Sequence[int]) -> int:
    """Elements from the first to the last one in memory, both included."""
    if any(size == 0 for size in shape):
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def _poison_of(buffer: Buffer) -> int:
    return _POISON_FLOAT if buffer.torch_dtype.is_floating_point else _POISON_OTHER


def _as_integers(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as integers of the same width: equality bit for bit, NaN included."""
    return tensor.view(_INTEGER_OF_SIZE[tensor.element_size()])
