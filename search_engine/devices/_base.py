"""The protocol that every device follows.

A device compiles kernels of the contract and executes them on tensors. It owns the
memory that a kernel can reach: inputs are copied into fresh guarded buffers, outputs and
scratch are poisoned with NaN, red zones lie round every buffer. It knows nothing of
references, accuracy or ideas.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from search_engine.contract.kernel import Kernel
from search_engine.hardware import DeviceFacts
from search_engine.task import Task
from search_engine.verdict import BuildInfo, Estimate, Finding

if TYPE_CHECKING:
    import torch


@frozen
class Program:
    """A compiled kernel, ready to execute on the device that made it."""

    kernel: Kernel
    builds: tuple[BuildInfo, ...]
    handle: Any = field(repr=False, eq=False)  # the device's own


@frozen
class Rejected:
    """A kernel that did not get as far as running: contract, screen, compiler, signature."""

    kernel: Kernel
    findings: tuple[Finding, ...]


@frozen
class Execution:
    """One run of all launches.

    ``outputs`` are fresh tensors on the device's torch device; findings name red zones
    written, inputs changed, faults, races and whatever else the device can see.
    """

    outputs: Mapping[str, torch.Tensor]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


class Device(ABC):
    """What runs a kernel."""

    facts: DeviceFacts  # what the contract is checked against and launch sizes come from
    name: str  # for verdicts: "NVIDIA H200", "cpu (SIMT)"
    torch_device: str  # where the caller's tensors live: "cpu", "cuda:0"
    measures: bool  # True: real times; False: estimates

    @abstractmethod
    def compile(self, kernels: Sequence[Kernel], task: Task) -> list[Program | Rejected]:
        """Compile kernels in parallel; the result is in the same order.

        Raises SetupError where the device lacks a compiler.
        """

    @abstractmethod
    def execute(
        self,
        program: Program,
        task: Task,
        tensors: Mapping[str, torch.Tensor],
        *,
        checked: bool,
        offset: int = 0,
    ) -> Execution:
        """Run all launches once on ``tensors`` (everything but outputs and scratch, by name).

        ``task`` gives the outputs' shapes and dtypes; it may be the task at other sizes
        than the one compiled for. ``checked`` asks for the device's own fault finding
        (the cpu device's checking build). ``offset`` moves every buffer's base by that
        many multiples of 16 bytes, so that alignment beyond the contract's 16 bytes is
        never relied on.

        Raises WorkerDied where the kernel took the process down.
        """

    def estimate(self, program: Program, task: Task) -> Estimate | None:
        """A modelled time at the task's full sizes, None where the device measures."""
        return None

    def trust(self, sources: Iterable[str]) -> None:
        """Take these kernels for our own: they may run where nothing can be locked down."""
        return None

    def binary(self, program: Program) -> bytes | None:
        """The kernel compiled for ``facts.arch``, None where there is no such thing."""
        return None

    def close(self) -> None:
        """Give back processes and memory."""
        return None
