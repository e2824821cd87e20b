"""The cpu device: kernels executed on the CPU with SIMT semantics, checked and estimated."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from attrs import define, evolve

from search_engine.contract.check import check
from search_engine.contract.errors import ContractError
from search_engine.contract.kernel import Kernel, Plan
from search_engine.contract.resolve import resolve
from search_engine.data_folder import data_folder
from search_engine.devices._base import Device, Execution, Program, Rejected
from search_engine.devices.arena import Arena, lay_out
from search_engine.devices.cpu.build import Build, Builder
from search_engine.devices.cpu.cache import GIGABYTE
from search_engine.devices.cpu.estimate import estimate, read_counts, sample_of
from search_engine.devices.cpu.job import (
    Limits,
    Mode,
    most_threads,
    read_findings,
    signature_findings,
    write_job,
)
from search_engine.devices.cpu.lines import line_of
from search_engine.devices.cpu.memory import SharedMemory
from search_engine.devices.cpu.module import Module
from search_engine.devices.cpu.native import NativeCompiler, Outcome
from search_engine.devices.cpu.toolchain import find_toolchain
from search_engine.devices.cpu.worker import Ending, run
from search_engine.errors import SetupError
from search_engine.hardware import DeviceFacts
from search_engine.task import Task
from search_engine.verdict import BuildInfo, Estimate, Finding

if TYPE_CHECKING:
    import torch

# A cooperative launch has all its blocks alive at once, each thread with a stack: few
# multiprocessors keep grids small that are made from `sm_count`. A grid of a fixed size may
# fill the target, and the estimate uses the target's own number.
SM_COUNT = 4

# The runner itself, the C library, stacks' bookkeeping.
RUNNER_BYTES = 2**30
STACK_BYTES = 256 * 1024
SHADOW_TIMES_ARENA = 8  # 32 bytes for each 4 of memory that may be written

UNGUARDED = (
    "This machine does not allow the lock-down (seccomp) under which unknown kernels run on the "
    "CPU: use a CUDA device, or set `unguarded` if you trust the kernels."
)


@define
class _Handle:
    build: Build
    note: str = ""  # why the target's own compiler was not asked
    passed: bool = False  # the checking build ran without a finding


class CpuDevice(Device):
    """Runs kernels in a locked-down process, one OS thread for all of a grid.

    ``target`` is the GPU that the estimate is for and whose limits hold; ``facts`` are the
    target's with a small ``sm_count``. ``timeout`` is in seconds, for one execution.
    ``unguarded`` lets unknown kernels run where the lock-down is not to be had. Builds go
    to ``cache``, by default in the user's data folder, which keeps below ``cache_bytes``.
    ``compile_for_target``: where NVRTC is
    installed, kernels are compiled for the target as well, and rejected where they do not.

    Raises SetupError without a C++ compiler, on another machine than x86-64 or aarch64
    Linux, and where the cache cannot be written.
    """

    name = "cpu (SIMT)"
    torch_device = "cpu"
    measures = False

    def __init__(
        self,
        target: DeviceFacts,
        *,
        timeout: float = 30.0,
        unguarded: bool = False,
        cache: Path | None = None,
        cache_bytes: int = 2 * GIGABYTE,
        compile_for_target: bool = True,
    ) -> None:
        self.target = target
        self.facts = evolve(target, sm_count=SM_COUNT, cooperative_sms=target.sm_count)
        self.timeout = timeout
        major, minor = target.compute_capability
        self._builder = Builder(
            find_toolchain(), cache or data_folder() / "cpu-device", 100 * major + 10 * minor,
            limit=cache_bytes,
        )  # fmt: skip
        self._native: NativeCompiler | None = None
        if compile_for_target:
            self._native = NativeCompiler(target, cache=cache / "cubins" if cache else None)
        self._unguarded = unguarded
        self._trusted: set[str] = set()
        self._guard: bool | None = None
        self._memory: SharedMemory | None = None

    # --- compiling ------------------------------------------------------------------------

    def compile(self, kernels: Sequence[Kernel], task: Task) -> list[Program | Rejected]:
        """Check, translate and build ``kernels`` in parallel."""
        results: list[Program | Rejected | None] = [None] * len(kernels)
        plans: dict[int, Plan] = {}
        for index, kernel in enumerate(kernels):
            findings = check(kernel, task, self.facts)
            if not findings:
                try:
                    plans[index] = resolve(kernel, task, self.facts)
                except ContractError as error:
                    findings = list(error.findings)
            if findings:
                results[index] = Rejected(kernel, tuple(findings))
        wanted = list(plans)
        chosen = [kernels[index] for index in wanted]
        native = self._native.start(chosen, task) if self._native else None
        built = self._builder.build(chosen)
        outcomes = native.result() if native else [Outcome()] * len(chosen)
        for index, build, outcome in zip(wanted, built, outcomes, strict=True):
            results[index] = self._program(kernels[index], plans[index], build, outcome)
        return [cast("Program | Rejected", result) for result in results]

    def _program(
        self, kernel: Kernel, plan: Plan, build: Build | list[Finding], native: Outcome
    ) -> Program | Rejected:
        if isinstance(build, list):
            return Rejected(kernel, tuple(build))
        findings = [
            *signature_findings(build.plain, plan), *self._shared_findings(build.plain, plan)
        ]  # fmt: skip
        findings = findings or list(native.findings)
        if findings:
            return Rejected(kernel, tuple(findings))
        functions = dict.fromkeys(launch.function for launch in kernel.launches)
        shared = build.plain.static_shared
        known_here = tuple(BuildInfo(name, shared_bytes=shared) for name in functions)
        return Program(kernel, native.builds or known_here, _Handle(build, native.note))

    def _shared_findings(self, module: Module, plan: Plan) -> list[Finding]:
        static, most = module.static_shared, self.facts.shared_per_block
        if static > self.facts.static_shared:
            message = (
                f"{static} bytes of static shared memory; at most {self.facts.static_shared} are "
                "possible, use dynamic shared memory for more"
            )
            return [Finding("launch-limits", message, plan.launches[0].line)]
        return [
            Finding(
                "launch-limits",
                f"{launch.function}: {static} + {launch.shared} bytes of shared memory; a block "
                f"has at most {most}",
                launch.line,
            )
            for launch in plan.launches
            if static + launch.shared > most
        ]

    def trust(self, sources: Iterable[str]) -> None:
        """Kernels of our own, which may run where there is no lock-down."""
        self._trusted |= {_digest(source) for source in sources}

    # --- executing --------------------------------------------------------------------------

    def execute(
        self,
        program: Program,
        task: Task,
        tensors: Mapping[str, torch.Tensor],
        *,
        checked: bool,
        offset: int = 0,
    ) -> Execution:
        """Run all launches once, in the checking build if asked for or never passed.

        Raises ContractError where the kernel does not resolve for ``task``, SetupError where
        the runner cannot be built or locked down.
        """
        handle: _Handle = program.handle
        handle.build = self._builder.again(program.kernel, handle.build)
        plan = resolve(program.kernel, task, self.facts)
        notes = (handle.note,) if handle.note else ()
        self._require_guard(program.kernel)
        layout = lay_out(task, plan, offset=offset)
        memory = self._shared_memory(Arena.size_of(layout))
        arena = Arena(layout, memory.tensor)
        if checked or not handle.passed:
            arena.place(tensors)
            findings = self._run("check", handle.build.hooked, plan, arena, memory)
            findings += [f for f in arena.findings() if f not in findings]
            handle.passed = handle.passed or not findings
            if checked or findings:
                return Execution(arena.outputs(), tuple(findings), notes)
        arena.place(tensors)
        findings = self._run("plain", handle.build.plain, plan, arena, memory)
        return Execution(arena.outputs(), (*findings, *arena.findings()), notes)

    def _run(
        self, mode: Mode, module: Module, plan: Plan, arena: Arena, memory: SharedMemory
    ) -> list[Finding]:
        fd = os.open(module.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            job = write_job(
                mode, module, fd, plan, arena.layout, arena.offset_of, (memory.fd, memory.size),
                self._limits(memory.size, most_threads(plan), module.span),
            )  # fmt: skip
            ending = run(self._builder.runner(), job, (memory.fd, fd), self.timeout)
        finally:
            os.close(fd)
        findings = read_findings(ending.lines, arena, lambda pc: line_of(module.path, pc))
        return findings + self._ending_findings(ending, plan, findings)

    def _limits(self, arena: int, threads: int, span: int) -> Limits:
        space = RUNNER_BYTES + arena * (1 + SHADOW_TIMES_ARENA) + threads * STACK_BYTES + span * 10
        guarded = self._guarded()
        return Limits(space, int(self.timeout) + 2, guarded)

    def _ending_findings(
        self, ending: Ending, plan: Plan, findings: Sequence[Finding]
    ) -> list[Finding]:
        line = plan.launches[0].line
        if ending.timed_out:
            message = f"the kernel did not end within {self.timeout:g} seconds"
            return [Finding("timeout", message, line)]
        if ending.code in (2, 3, 5):
            why = ending.errors.strip() or ending.cause
            raise SetupError(f"The runner of the cpu device could not start: {why}.")
        if ending.complete or findings:
            return []
        return [Finding("fault", ending.cause, line)]

    def _shared_memory(self, size: int) -> SharedMemory:
        if self._memory is None or self._memory.size < size:
            self._free_memory()
            self._memory = SharedMemory(size)
        return self._memory

    # --- the lock-down ------------------------------------------------------------------------

    def _guarded(self) -> bool:
        """Whether this machine lets the runner lock itself down; asked once."""
        if self._guard is None:
            self._guard = run(self._builder.runner(), "probe\n", (), 30.0).code == 0
        return self._guard

    def _require_guard(self, kernel: Kernel) -> None:
        if self._guarded() or self._unguarded or _digest(kernel.source) in self._trusted:
            return
        raise SetupError(UNGUARDED)

    # --- the estimate ---------------------------------------------------------------------------

    def estimate(self, program: Program, task: Task) -> Estimate | None:
        """The modelled time on ``target`` at the task's sizes, by counting sampled blocks.

        None where the kernel does not resolve for the target, cannot run on inputs of
        zeros, or takes longer than the timeout.
        """
        handle: _Handle = program.handle
        self._require_guard(program.kernel)
        try:
            plan = resolve(program.kernel, task, self.target)
        except ContractError:
            return None
        handle.build = self._builder.again(program.kernel, handle.build)
        module = handle.build.hooked
        layout = lay_out(task, plan)
        samples = [sample_of(launch, module.static_shared, self.target) for launch in plan.launches]
        fd = os.open(module.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = Arena.size_of(layout)
            job = write_job(
                "count", module, fd, plan, layout, lambda name: layout.buffer(name).start,
                (None, size), self._limits(size, most_threads(plan, samples), module.span),
                samples,
            )  # fmt: skip
            ending = run(self._builder.runner(), job, (fd,), self.timeout)
        finally:
            os.close(fd)
        if not ending.complete:
            return None
        counts = read_counts(ending.lines)
        return estimate(task, plan, layout, counts, module.static_shared, self.target)

    def close(self) -> None:
        """Give the shared memory back and end the target's compiler."""
        if self._native is not None:
            self._native.close()
        self._free_memory()

    def _free_memory(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()
