"""From a parsed kernel to a ``Plan``: every number known for one task and device."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from search_engine.contract.errors import ContractError
from search_engine.contract.evaluate import Scope, Unresolvable, near
from search_engine.contract.kernel import (
    Expression,
    Kernel,
    KernelArgument,
    Launch,
    Number,
    Plan,
    Pointer,
    ResolvedLaunch,
    ResolvedScratch,
    Scratch,
)
from search_engine.contract.limits import launch_findings, scratch_findings
from search_engine.hardware import DeviceFacts
from search_engine.task import Scalar, Task
from search_engine.verdict import Finding


def resolve(kernel: Kernel, task: Task, facts: DeviceFacts) -> Plan:
    """The plan of ``kernel`` for ``task``, within the limits of the device.

    ``task`` may be the task at other sizes than the kernel was compiled for. Raises
    ContractError with all findings: unknown names, expressions without a value, limits
    of the device exceeded.
    """
    plan, findings = try_resolve(kernel, task, facts)
    if plan is None or findings:
        raise ContractError(findings)
    return plan


def try_resolve(
    kernel: Kernel, task: Task, facts: DeviceFacts
) -> tuple[Plan | None, list[Finding]]:
    """As ``resolve``, with the findings as a value; the plan is None where there are any."""
    resolver = _Resolver(kernel, task, facts)
    scratch = [resolver.scratch(item) for item in kernel.scratch]
    launches = [resolver.launch(item) for item in kernel.launches]
    resolver.outputs_written()
    if resolver.findings:
        return None, resolver.findings
    return Plan(
        launches=tuple(item for item in launches if item is not None),
        scratch=tuple(item for item in scratch if item is not None),
    ), []


def _macro_value(text: str) -> Scalar | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


class _Resolver:
    def __init__(self, kernel: Kernel, task: Task, facts: DeviceFacts) -> None:
        self._kernel, self._task, self._facts = kernel, task, facts
        self.findings: list[Finding] = []
        macros = {tune.name: _macro_value(tune.values[0]) for tune in kernel.tunes}
        self._shapes = {tensor.name: tensor.shape for tensor in task.tensors}
        self._scope = Scope(
            shapes=self._shapes,
            scalars={
                "sm_count": facts.sm_count,
                **task.scalars,
                **{name: value for name, value in macros.items() if value is not None},
            },
        )

    def scratch(self, item: Scratch) -> ResolvedScratch | None:
        try:
            shape = tuple(self._scope.integer(size, "a size") for size in item.shape)
        except Unresolvable as error:
            self.findings.append(error.finding)
            self._shapes.setdefault(item.name, ())  # its uses are no second mistake
            return None
        resolved = ResolvedScratch(item.name, item.dtype, shape, item.zeroed, item.line)
        if self._task.tensor(item.name) is not None or item.name in self._scope.scalars:
            message = f"`{item.name}` is a name of the task: call the scratch buffer otherwise"
            self.findings.append(Finding("scratch-name", message, item.line))
            return None
        self._shapes[item.name] = shape
        found = scratch_findings(resolved, self._task)
        self.findings += found
        return None if found else resolved

    def launch(self, item: Launch) -> ResolvedLaunch | None:
        before = len(self.findings)
        grid = self._dimensions(item.grid, "a grid size")
        block = self._dimensions(item.block, "a block size")
        cluster = None if item.cluster is None else self._dimensions(item.cluster, "a cluster size")
        shared = 0 if item.shared is None else self._integer(item.shared, "shared memory")
        arguments = tuple(self._argument(expression) for expression in item.arguments)
        if len(self.findings) > before:
            return None
        resolved = ResolvedLaunch(
            function=item.function,
            grid=grid,
            block=block,
            shared=shared,
            arguments=tuple(argument for argument in arguments if argument is not None),
            cooperative=item.cooperative,
            cluster=cluster,
            line=item.line,
        )
        found = launch_findings(resolved, self._facts)
        self.findings += found
        return None if found else resolved

    def _integer(self, expression: Expression, what: str) -> int:
        try:
            return self._scope.integer(expression, what)
        except Unresolvable as error:
            self.findings.append(error.finding)
            return 1

    def _dimensions(self, items: Sequence[Expression], what: str) -> tuple[int, int, int]:
        sizes = [self._integer(item, what) for item in items]
        x, y, z = (*sizes, 1, 1, 1)[:3]
        return x, y, z

    def _argument(self, expression: Expression) -> KernelArgument | None:
        name = expression.tree.id if isinstance(expression.tree, ast.Name) else None
        if name in self._shapes:
            return Pointer(name)
        try:
            return Number(self._scope.value(expression))
        except Unresolvable as error:
            if name is not None:
                known = [*self._shapes, *self._scope.scalars]
                message = f"the task has no tensor or scalar `{name}`{near(name, known)}"
                self.findings.append(
                    Finding("unknown-name", message, expression.line, expression.column)
                )
            else:
                self.findings.append(error.finding)
            return None

    def outputs_written(self) -> None:
        """Every output has to be handed to some launch, so there has to be one."""
        if not self._kernel.launches:
            message = "there is no launch line, so nothing runs"
            self.findings.append(Finding("launch-missing", message))
            return
        passed = {
            expression.tree.id
            for launch in self._kernel.launches
            for expression in launch.arguments
            if isinstance(expression.tree, ast.Name)
        }
        for output in self._task.outputs:
            if output.name not in passed:
                message = f"no launch takes the output `{output.name}`, so nothing writes it"
                self.findings.append(
                    Finding("output-unwritten", message, self._kernel.launches[0].line)
                )
