"""Whether a kernel keeps the contract for a task on a device, before anything compiles."""

from __future__ import annotations

from collections.abc import Iterator

from search_engine.contract.declarations import Declaration, declarations
from search_engine.contract.evaluate import near
from search_engine.contract.kernel import Kernel, Launch, Number, Plan, Pointer
from search_engine.contract.resolve import try_resolve
from search_engine.contract.screen import screen
from search_engine.contract.signature import parameter_types
from search_engine.contract.tokens import macros, tokenize
from search_engine.hardware import DeviceFacts
from search_engine.task import Task
from search_engine.verdict import Finding

_PLAIN_NUMBERS = frozenset({
    "bool", "char", "short", "int", "long", "long long", "float", "double", "unsigned",
    "unsigned int", "unsigned long", "unsigned long long", "size_t", "int32_t", "int64_t",
    "uint32_t", "uint64_t",
})  # fmt: skip


def check(kernel: Kernel, task: Task, facts: DeviceFacts) -> list[Finding]:
    """All findings against ``kernel`` by its text alone, in the order of its lines.

    Names that the task lacks, launches of functions that are not there, argument counts,
    the device's limits, host code, includes outside CUDA's own headers. What only a
    compiler can know (types behind templates and aliases, static shared memory,
    registers) is left to the device.
    """
    plan, findings = try_resolve(kernel, task, facts)
    findings = [*findings, *screen(kernel.source), *_functions(kernel, plan)]
    return sorted(findings, key=lambda f: (f.line or 0, f.column or 0))


def _functions(kernel: Kernel, plan: Plan | None) -> Iterator[Finding]:
    defined = {
        d.function.text: d
        for d in declarations(kernel.source)
        if d.function is not None and "__global__" in d.words
    }
    known_macros = macros(tokenize(kernel.source))
    made_by_macro = any(
        token.text == "__global__" for body in known_macros.values() for token in body
    )
    for index, launch in enumerate(kernel.launches):
        declaration = defined.get(launch.function)
        if declaration is not None:
            yield from _arguments(launch, declaration, set(known_macros), plan, index)
        elif not made_by_macro:
            message = f"no `__global__` function is called `{launch.function}`"
            message += near(launch.function, list(defined))
            yield Finding("unknown-function", message, launch.line)


def _arguments(
    launch: Launch, declaration: Declaration, known_macros: set[str], plan: Plan | None, index: int
) -> Iterator[Finding]:
    if any(token.text in known_macros for token in declaration.parameters):
        return
    types = parameter_types(declaration)
    if len(types) != len(launch.arguments):
        message = (
            f"`{launch.function}` takes {len(types)} arguments ({', '.join(types)}), "
            f"the launch line gives {len(launch.arguments)}"
        )
        yield Finding("arguments", message, launch.line)
        return
    if plan is None:
        return
    resolved = plan.launches[index].arguments
    for expression, argument, kind in zip(launch.arguments, resolved, types, strict=True):
        plain = kind.removeprefix("const ")
        if isinstance(argument, Pointer) and plain in _PLAIN_NUMBERS:
            message = f"`{expression.text}` is a tensor, `{launch.function}` takes a number here"
        elif isinstance(argument, Number) and kind.endswith("*"):
            message = f"`{expression.text}` is a number, `{launch.function}` takes a `{kind}` here"
        else:
            continue
        yield Finding("arguments", message, expression.line, expression.column)
