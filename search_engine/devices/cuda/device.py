"""A real GPU as a device: NVRTC, the driver, torch's memory and current stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from search_engine.contract.errors import ContractError
from search_engine.contract.kernel import Kernel, Plan
from search_engine.contract.resolve import resolve
from search_engine.devices._base import Device, Execution, Program, Rejected
from search_engine.devices.cuda import driver
from search_engine.devices.cuda.build import build
from search_engine.devices.cuda.compiler import Compiler
from search_engine.devices.cuda.facts import facts_of
from search_engine.devices.cuda.prepared import Loaded, Prepared
from search_engine.errors import SetupError, WorkerDied
from search_engine.task import Task
from search_engine.verdict import Finding
from search_engine.workers.retire import retire

_REMEMBERED_PLANS = 64


class CudaDevice(Device):
    """CUDA device ``index`` by torch's numbering.

    A kernel that faults takes this process's CUDA context with it: WorkerDied is raised,
    then and at every later call, and the process must be replaced.
    """

    measures = True

    def __init__(self, index: int = 0) -> None:
        """Raises SetupError where torch sees no such GPU or NVRTC is missing."""
        if not torch.cuda.is_available() or index >= torch.cuda.device_count():
            raise SetupError(
                f"torch sees no CUDA device {index}: choose another device, or install a "
                "CUDA build of torch (https://pytorch.org/get-started)."
            )
        self.index = index
        self.torch_device = f"cuda:{index}"
        self._device = torch.device(self.torch_device)
        torch.zeros(1, device=self._device)  # makes the context, and makes it current
        self.facts = facts_of(index)
        self.name = torch.cuda.get_device_properties(index).name
        self._compiler = Compiler()
        self._fault: str | None = None
        self._plans: dict[tuple[int, int], tuple[Kernel, Task, Plan]] = {}

    def compile(self, kernels: Sequence[Kernel], task: Task) -> list[Program | Rejected]:
        """As in the protocol; kernels are also loaded, so that the driver has its say."""
        self._check_alive()
        results: list[Program | Rejected] = []
        for item in build(kernels, task, self.facts, self._compiler):
            if isinstance(item, Rejected):
                results.append(item)
                continue
            try:
                with torch.cuda.device(self._device):
                    loaded = Loaded(item)
                    loaded.allow(self._plan(item.kernel, task), self.facts)
                    results.append(Program(item.kernel, loaded.builds(), loaded))
            except ContractError as error:
                results.append(Rejected(item.kernel, error.findings))
            except driver.ContextLost as error:
                raise self._dead(error) from None
            except driver.DriverError as error:
                results.append(Rejected(item.kernel, (Finding("load", str(error)),)))
        return results

    def prepare(self, program: Program, task: Task, *, offset: int = 0) -> Prepared:
        """The program on an arena of its own, to be placed and launched by the caller.

        Raises ContractError where the task's sizes do not allow it, torch.OutOfMemoryError.
        """
        self._check_alive()
        loaded: Loaded = program.handle
        plan = self._plan(program.kernel, task)
        with torch.cuda.device(self._device):
            loaded.allow(plan, self.facts)
            return Prepared(loaded, plan, task, self._device, offset=offset)

    def launch(self, prepared: Prepared) -> None:
        """Enqueue a prepared program on torch's current stream.

        Raises driver.DriverError where the driver refuses the launch, WorkerDied where a
        kernel faulted before.
        """
        try:
            prepared.launch(torch.cuda.current_stream(self._device).cuda_stream)
        except driver.ContextLost as error:
            raise self._dead(error) from None

    def reset_persisting_l2(self) -> None:
        """Turn lines of L2 that a kernel marked as persisting into normal ones."""
        try:
            driver.reset_persisting_l2()
        except driver.ContextLost as error:
            raise self._dead(error) from None

    def synchronize(self) -> None:
        """Wait for all that was enqueued. Raises WorkerDied where a kernel faulted."""
        try:
            torch.cuda.synchronize(self._device)
        except RuntimeError as error:  # torch.AcceleratorError since 2.8
            raise self._dead(error) from None

    def execute(
        self,
        program: Program,
        task: Task,
        tensors: Mapping[str, torch.Tensor],
        *,
        checked: bool,
        offset: int = 0,
    ) -> Execution:
        """As in the protocol. ``checked`` adds nothing here: red zones are always checked."""
        self._check_alive()
        try:
            with torch.cuda.device(self._device):
                prepared = self.prepare(program, task, offset=offset)
                prepared.place(tensors)
                self.launch(prepared)
                self.synchronize()
                return Execution(prepared.arena.outputs(), prepared.arena.findings())
        except ContractError as error:
            return Execution(self._unwritten(task), error.findings)
        except driver.DriverError as error:
            return Execution(self._unwritten(task), (Finding("launch", str(error)),))
        except torch.OutOfMemoryError:
            free, total = torch.cuda.mem_get_info(self._device)
            message = (
                f"the kernel's buffers do not fit: {free / 2**30:.1f} of {total / 2**30:.1f} GiB "
                "of GPU memory are free"
            )
            return Execution(self._unwritten(task), (Finding("memory", message),))

    def binary(self, program: Program) -> bytes | None:
        """The cubin, as NVRTC made it."""
        loaded: Loaded = program.handle
        return loaded.built.compiled.cubin

    def close(self) -> None:
        """End the compile helpers."""
        self._compiler.close()

    def _plan(self, kernel: Kernel, task: Task) -> Plan:
        key = (id(kernel), id(task))
        known = self._plans.get(key)
        if known is None:
            if len(self._plans) >= _REMEMBERED_PLANS:
                self._plans.clear()
            # Kernel and task are kept, so that their ids stay theirs.
            known = self._plans[key] = (kernel, task, resolve(kernel, task, self.facts))
        return known[2]

    def _unwritten(self, task: Task) -> dict[str, torch.Tensor]:
        outputs = {}
        for spec in task.outputs:
            dtype = getattr(torch, spec.dtype)
            value = float("nan") if dtype.is_floating_point else 0
            one = torch.full((), value, dtype=dtype, device=self._device)
            outputs[spec.name] = one.expand(spec.shape)  # no memory: it may have run out
        return outputs

    def _check_alive(self) -> None:
        if self._fault is not None:
            raise WorkerDied(self._fault)

    def _dead(self, error: BaseException) -> WorkerDied:
        reason = str(error).strip().splitlines()[0]
        self._fault = f"The kernel faulted and took the CUDA context with it: {reason}."
        retire(self._fault)
        return WorkerDied(self._fault)
