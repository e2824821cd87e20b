"""The target's own compiler, where it is installed: does what runs here compile for the GPU?

NVRTC needs no GPU. A kernel that its target's compiler refuses would be of no use, and what
the compiler says of registers, shared memory and spills is worth knowing without one. It
works in confined processes beside the C++ compiler's, so that it costs little time.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from search_engine.contract.kernel import Kernel
from search_engine.devices._base import Rejected
from search_engine.errors import SetupError
from search_engine.hardware import DeviceFacts
from search_engine.task import Task
from search_engine.verdict import BuildInfo, Finding

if TYPE_CHECKING:
    from search_engine.devices.cuda.compiler import Compiler

# What NVRTC says where not the kernel but the installation is at fault.
_NOT_THE_KERNEL = ("cannot open source file", "invalid value for --gpu-architecture")


def _is_not_the_kernels(message: str) -> bool:
    return any(words in message for words in _NOT_THE_KERNEL)


@frozen
class Outcome:
    """What the target's compiler made of one kernel.

    ``builds`` are empty and ``note`` says why where it was not compiled.
    """

    builds: tuple[BuildInfo, ...] = ()
    findings: tuple[Finding, ...] = ()
    note: str = ""


class NativeCompiler:
    """Compiles for ``facts.arch`` in the background; nothing where NVRTC is not installed.

    ``cache`` is the folder of cubins, by default the cuda device's own.
    """

    def __init__(self, facts: DeviceFacts, *, cache: Path | None = None) -> None:
        self._facts = facts
        self._cache = cache
        self._compiler: Compiler | None = None
        self._missing = ""  # why there is none
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="native")

    def start(self, kernels: Sequence[Kernel], task: Task) -> Future[list[Outcome]]:
        """Begin to compile; the result has one outcome for each kernel, in order."""
        return self._thread.submit(self._compile, list(kernels), task)

    def close(self) -> None:
        """End the compiler's processes."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._compiler is not None:
            self._compiler.close()

    def _compile(self, kernels: list[Kernel], task: Task) -> list[Outcome]:
        if not kernels:
            return []
        if not self._missing:
            try:
                return self._outcomes(kernels, task)
            except (ImportError, SetupError) as error:
                self._missing = self._reason(error)
        return [Outcome(note=self._missing)] * len(kernels)

    def _outcomes(self, kernels: list[Kernel], task: Task) -> list[Outcome]:
        from search_engine.devices.cuda.build import build
        from search_engine.devices.cuda.compiler import Compiler

        if self._compiler is None:
            self._compiler = Compiler(helpers=1, cache=self._cache)
        outcomes = []
        for built in build(kernels, task, self._facts, self._compiler):
            if not isinstance(built, Rejected):
                outcomes.append(Outcome(builds=built.builds()))
                continue
            blame = [f.message for f in built.findings if _is_not_the_kernels(f.message)]
            if blame:
                outcomes.append(Outcome(note=self._reason(blame[0].strip())))
            else:
                outcomes.append(Outcome(findings=self._named(built.findings)))
        return outcomes

    def _named(self, findings: Sequence[Finding]) -> tuple[Finding, ...]:
        """It ran here: that it is the GPU's compiler that refuses must be said."""
        return tuple(
            evolve(f, message=f"{f.message.strip()} (NVRTC, {self._facts.arch})") for f in findings
        )

    def _reason(self, error: object) -> str:
        from search_engine.devices.cuda.headers import ADVICE

        text = str(error)
        if isinstance(error, ImportError):
            text = f"NVRTC is not installed: {ADVICE}"
        return f"not compiled for {self._facts.arch}: {text[:1].lower() + text[1:]}".rstrip(".")
