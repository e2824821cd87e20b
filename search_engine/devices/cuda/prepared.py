"""A compiled kernel bound to memory: ready to be launched, again and again."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from search_engine.contract.errors import ContractError
from search_engine.contract.kernel import Plan, ResolvedLaunch
from search_engine.devices.arena import Arena, lay_out
from search_engine.devices.cuda import driver
from search_engine.devices.cuda.build import Built
from search_engine.hardware import DeviceFacts
from search_engine.task import Task
from search_engine.verdict import BuildInfo, Finding


class Loaded:
    """A built kernel in the GPU's memory."""

    def __init__(self, built: Built) -> None:
        self.built = built
        module = driver.Module(built.compiled.cubin)
        names = dict.fromkeys(launch.function for launch in built.kernel.launches)
        self.functions = {name: module.function(name) for name in names}

    def builds(self) -> tuple[BuildInfo, ...]:
        """As the driver sees the functions, which is what counts on this GPU."""
        return tuple(
            BuildInfo(
                name,
                function.attribute("NUM_REGS"),
                function.attribute("SHARED_SIZE_BYTES"),
                function.attribute("LOCAL_SIZE_BYTES"),
                self.built.compiled.log,
            )
            for name, function in self.functions.items()
        )

    def allow(self, plan: Plan, facts: DeviceFacts) -> None:
        """Raise the functions' limits for ``plan``. Raises ContractError where none suffices."""
        findings = [
            finding for launch in plan.launches for finding in self._findings(launch, facts)
        ]
        if findings:
            raise ContractError(findings)

    def _findings(self, launch: ResolvedLaunch, facts: DeviceFacts) -> list[Finding]:
        function = self.functions[launch.function]
        threads, most = math.prod(launch.block), function.attribute("MAX_THREADS_PER_BLOCK")
        if threads > most:
            message = (
                f"{launch.function} can run {most} threads a block (its registers or "
                f"__launch_bounds__), the launch line asks for {threads}"
            )
            return [Finding("launch-limits", message, launch.line)]
        try:
            function.allow(launch)
            clusters = None if launch.cluster is None else function.active_clusters(launch)
            resident = function.blocks_per_sm(launch) * facts.sm_count
        except driver.ContextLost:
            raise
        except driver.DriverError as error:
            return [Finding("launch-limits", f"{launch.function}: {error}", launch.line)]
        if clusters == 0:
            message = f"{launch.function}: no cluster of {launch.cluster} blocks fits {facts.name}"
            return [Finding("cluster", message, launch.line)]
        if clusters is not None and launch.cluster is not None:
            resident = clusters * math.prod(launch.cluster)
        if launch.cooperative and math.prod(launch.grid) > resident:
            message = (
                f"{launch.function}: a cooperative launch needs all {math.prod(launch.grid)} "
                f"blocks resident at once, {resident} are with its registers and shared memory"
            )
            return [Finding("cooperative-grid", message, launch.line)]
        return []


class Prepared:
    """One kernel on one arena of GPU memory, for one task."""

    def __init__(
        self,
        loaded: Loaded,
        plan: Plan,
        task: Task,
        device: torch.device,
        *,
        offset: int = 0,
    ) -> None:
        """Allocates the arena. Raises ContractError where an argument does not fit."""
        layout = lay_out(task, plan, offset=offset)
        storage = torch.empty(Arena.size_of(layout), dtype=torch.uint8, device=device)
        self.arena = Arena(layout, storage)
        self._zeroed = [
            (self.arena.pointer(item.name), layout.buffer(item.name).nbytes)
            for item in plan.scratch
            if item.zeroed
        ]
        self._launches = []
        for launch, parameters in zip(plan.launches, loaded.built.parameters(plan), strict=True):
            arguments = [
                item.pack(0 if item.pointer is None else self.arena.pointer(item.pointer))
                for item in parameters
            ]
            function = loaded.functions[launch.function]
            self._launches.append(driver.BoundLaunch(function, launch, arguments))

    def place(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copy inputs in and poison the rest (``Arena.place``)."""
        self.arena.place(tensors)

    def launch(self, stream: int) -> None:
        """Enqueue what one call of the delivered kernel does: zeroed scratch, then the launches.

        Raises driver.DriverError.
        """
        for address, size in self._zeroed:
            driver.zero(address, size, stream)
        for launch in self._launches:
            launch(stream)
