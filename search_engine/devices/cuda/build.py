"""From a kernel's text to a cubin whose launches are known to be possible. Needs no GPU."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from search_engine.contract.check import check
from search_engine.contract.errors import ContractError
from search_engine.contract.kernel import Kernel, Plan
from search_engine.contract.resolve import resolve
from search_engine.contract.signature import signatures
from search_engine.contract.tune import fill
from search_engine.devices._base import Rejected
from search_engine.devices.cuda.compiler import Compiled, Compiler, Failed
from search_engine.devices.cuda.signature import Parameter, parameters_of
from search_engine.hardware import DeviceFacts
from search_engine.task import Task
from search_engine.verdict import BuildInfo, Finding


@frozen
class Built:
    """A compiled kernel. ``types`` are the parameter types of each function by the text."""

    kernel: Kernel
    compiled: Compiled
    types: dict[str, tuple[str, ...]]

    def builds(self) -> tuple[BuildInfo, ...]:
        """What the compiler said of each function that is launched."""
        launched = dict.fromkeys(launch.function for launch in self.kernel.launches)
        functions = [self.compiled.functions[name] for name in launched]
        return tuple(
            BuildInfo(f.name, f.registers, f.shared_bytes, f.local_bytes, self.compiled.log)
            for f in functions
        )

    def parameters(self, plan: Plan) -> list[tuple[Parameter, ...]]:
        """How the arguments of each launch are passed. Raises ContractError."""
        found, findings = [], []
        for launch in plan.launches:
            sizes = self.compiled.functions[launch.function].parameters
            parameters, problems = parameters_of(launch, sizes, self.types.get(launch.function))
            found.append(parameters)
            findings += problems
        if findings:
            raise ContractError(findings)
        return found


def build(
    kernels: Sequence[Kernel], task: Task, facts: DeviceFacts, compiler: Compiler
) -> list[Built | Rejected]:
    """Check, compile (in parallel) and check again what only the compiled kernel tells.

    Raises SetupError where NVRTC is missing.
    """
    results: list[Built | Rejected | None] = []
    for kernel in kernels:
        findings = tuple(check(kernel, task, facts))
        results.append(Rejected(kernel, findings) if findings else None)
    waiting = [index for index, result in enumerate(results) if result is None]
    outcomes = compiler.compile([fill(kernels[index]) for index in waiting], facts.arch)
    for index, outcome in zip(waiting, outcomes, strict=True):
        kernel = kernels[index]
        if isinstance(outcome, Failed):
            results[index] = Rejected(kernel, outcome.findings)
            continue
        built = Built(kernel, outcome, signatures(kernel.source))
        findings = _compiled_findings(built, task, facts)
        results[index] = Rejected(kernel, findings) if findings else built
    return [result for result in results if result is not None]


def _compiled_findings(built: Built, task: Task, facts: DeviceFacts) -> tuple[Finding, ...]:
    findings = [
        Finding(
            "kernel-name",
            f'{launch.function} is not in the compiled kernel: declare it `extern "C" __global__`',
            launch.line,
        )
        for launch in built.kernel.launches
        if launch.function not in built.compiled.functions
    ]
    findings += [
        Finding(
            "device-state",
            f"the variable {name} outlives a launch: keep state in scratch memory, and "
            "constants in __constant__ or in registers",
        )
        for name in built.compiled.globals
    ]
    if findings:
        return tuple(findings)
    try:
        plan = resolve(built.kernel, task, facts)
        built.parameters(plan)
    except ContractError as error:
        return error.findings
    for launch in plan.launches:
        static = built.compiled.functions[launch.function].shared_bytes
        if static + launch.shared > facts.shared_per_block:
            findings.append(
                Finding(
                    "launch-limits",
                    f"{launch.function}: {static} bytes of static and {launch.shared} of dynamic "
                    f"shared memory; a block has at most {facts.shared_per_block} on {facts.name}",
                    launch.line,
                )
            )
    return tuple(findings)
