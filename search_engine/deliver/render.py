"""From a verified kernel to the files and lines that a user accepts. Free of torch."""

from __future__ import annotations

import base64
import datetime
import importlib.metadata
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen

from search_engine.capture.structure import Constant, Slot, Tree
from search_engine.contract.kernel import Kernel, Number, ResolvedLaunch
from search_engine.contract.resolve import resolve
from search_engine.contract.signature import signatures
from search_engine.deliver.delivery import DeliveredShape, Delivery
from search_engine.deliver.files import signed
from search_engine.deliver.join import NAMES, runtime
from search_engine.deliver.layout import block, call, dictionary, number, plain, quoted, sequence
from search_engine.deliver.names import Names, names_of
from search_engine.deliver.observed import Called, Observed
from search_engine.errors import DeliveryError
from search_engine.hardware import DeviceFacts
from search_engine.proposers._base import Idea
from search_engine.source import digest
from search_engine.task import Task, TensorSpec
from search_engine.verdict import Estimate, Measurement, Verdict

_WIDTH = 96
_LINE = 88  # of an import, as ruff formats by default
# C's integer and floating types by the names that kernels use for them.
_C_NAMES = {
    **dict.fromkeys(("bool",), "bool"),
    **dict.fromkeys(("int", "signed int", "int32_t", "signed"), "int"),
    **dict.fromkeys(("unsigned int", "unsigned", "uint32_t", "uint"), "unsigned int"),
    **dict.fromkeys(
        ("long", "long int", "long long", "long long int", "int64_t", "ptrdiff_t"), "long"
    ),
    **dict.fromkeys(
        ("unsigned long", "unsigned long long", "uint64_t", "size_t", "unsigned long long int"),
        "unsigned long",
    ),
    **dict.fromkeys(("float",), "float"),
    **dict.fromkeys(("double",), "double"),
}


@frozen
class VerifiedShape:
    """A kernel for one set of shapes, with all that was found out of it.

    ``measurement`` is None where no GPU was at hand. ``cubin`` is the kernel compiled for
    the facts' ``arch``; it is carried only where the source includes headers, which a
    user's machine may lack.
    """

    task: Task
    kernel: Kernel
    called: Called
    verdict: Verdict
    measurement: Measurement | None = None
    estimate: Estimate | None = None
    cubin: bytes | None = None


def render(
    shapes: Sequence[VerifiedShape],
    *,
    observed: Observed,
    idea: Idea,
    facts: DeviceFacts,
    mode_matters: bool = False,
    date: datetime.date | None = None,
) -> Delivery:
    """The delivery of the kernels of one module, the task's own shapes first.

    ``observed`` is the module as it was verified, ``facts`` are of the GPU that launch
    numbers are resolved for. ``mode_matters`` says that the graphs of ``eval()`` and
    ``train()`` differ. Shapes with the same source share a kernel file.

    Raises ContractError where a plan cannot be resolved, DeliveryError where a kernel
    takes an argument that cannot be passed.
    """
    first = shapes[0]
    task, measured = first.task, first.measurement
    names = names_of(task)
    today = date or datetime.date.today()
    device = measured.device if measured is not None else first.verdict.device
    heading = f"verified by kernel-lsp {_version()} on {device}, {today.isoformat()}"
    files: dict[str, str] = {}
    kernels: list[str] = []
    places: dict[str, int] = {}
    for shape in shapes:
        source = shape.kernel.source
        if source not in places:
            places[source] = len(places)
            same = [other for other in shapes if other.kernel.source == source]
            kernels.append(_add_kernel(files, names, places[source], same, idea, heading, facts))
    verified = {
        "name": plain(task.qualname),
        "namespace": "",
        "source": plain(observed.reached),
        "gpu": plain(device if measured is not None else facts.name),
        "measured": plain(measured is not None),
        "mode": plain(task.mode if mode_matters else None),
        "modules": dictionary(observed.modules),
        "attributes": dictionary(observed.attributes),
        "functions": sequence([quoted(name) for name in observed.functions]),
        "absent": sequence([quoted(name) for name in observed.absent]),
        "tied": dictionary(observed.tied),
        "kernels": sequence(kernels),
        "cases": sequence([_case(s, places[s.kernel.source], facts) for s in shapes]),
    }
    identity = digest(repr((task.module_name, task.qualname, verified)))
    verified["namespace"] = plain(f"kernel_lsp_{identity}")
    shared, text = runtime()
    path = names.file(".py")
    files[path] = signed(path, _python_file(task, names, heading, shared, verified))
    path = f"{names.folder}/{shared}.py"
    files[path] = signed(path, text)
    if names.relative:
        # Build tools leave folders without it out of the user's package.
        path = f"{names.folder}/__init__.py"
        files[path] = signed(path, '"""CUDA kernels, verified by kernel-lsp."""\n')
    return Delivery(
        qualname=task.qualname,
        fingerprint=task.fingerprint,
        files=files,
        import_line=names.import_line,
        decorator_line=f"@{names.decorator}",
        title=idea.title,
        rationale=idea.rationale,
        summary=summary(measured),
        shapes=tuple(
            DeliveredShape(s.task.shape_text, summary(s.measurement, s.estimate)) for s in shapes
        ),
    )


def _add_kernel(
    files: dict[str, str],
    names: Names,
    number: int,
    shapes: Sequence[VerifiedShape],
    idea: Idea,
    heading: str,
    facts: DeviceFacts,
) -> str:
    """Add a kernel's files; its ``KernelFile`` as text."""
    kernel, task = shapes[0].kernel, shapes[0].task
    path = names.file(".cu", number)
    files[path] = signed(path, _kernel_file(task, kernel, idea, heading, shapes))
    name, of_text = Path(path).name, digest("".join(files[path].split()))
    fields = [plain(name), plain(of_text)]
    binary = shapes[0].cubin
    if binary and _includes(kernel):
        carried = base64.encodebytes(binary).decode()
        path = names.file(".cubin.txt", number)
        files[path] = signed(path, carried)
        fields += [plain(Path(path).name), plain(facts.arch)]
        fields.append(plain(digest("".join(carried.split()))))
    return f"KernelFile({', '.join(fields)})"


def summary(measurement: Measurement | None, estimate: Estimate | None = None) -> str:
    """One line for lens and annotation; no speedup without a measurement."""
    if measurement is None:
        told = "" if estimate is None else f", estimate {_time(estimate.seconds)}"
        return f"verified, not measured{told}"
    eager = f"×{measurement.over_eager:.2f} over eager"
    compiled = measurement.over_compile
    return eager if compiled is None else f"×{compiled:.2f} over torch.compile, {eager}"


def figures(
    task: Task, verdict: Verdict, measurement: Measurement | None, estimate: Estimate | None
) -> list[tuple[str, str]]:
    """(label, value) of all that is known of a kernel, in the order of the header."""
    rows = []
    if measurement is not None:
        rows.append(("eager", _time(measurement.eager.median)))
        best = measurement.best_compiled
        rows.append(("torch.compile", "failed" if best is None else _time(best.median)))
        rows.append(("kernel", _time(measurement.kernel.median)))
    else:
        rows.append(("kernel", "verified, not measured"))
        if estimate is not None:
            rows.append(("estimate", f"{_time(estimate.seconds)} on {estimate.target} (modelled)"))
    rows.append(("limit", f"{_time(task.limit_seconds)} ({task.limit_reason})"))
    worst = verdict.worst
    if worst is not None:
        rows.append(
            (
                "error",
                f"{worst.error:.1e} against fp64, eager's {worst.eager_error:.1e}, bound "
                f"{worst.bound:.1e} ({worst.distribution})",
            )
        )
    return rows


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.4g} ms" if seconds >= 1e-4 else f"{seconds * 1e6:.4g} µs"


def _version() -> str:
    try:
        return importlib.metadata.version("kernel-lsp")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _includes(kernel: Kernel) -> bool:
    return re.search(r"^[ \t]*#[ \t]*include\b", kernel.source, re.MULTILINE) is not None


def _tolerance(output: TensorSpec, verdict: Verdict) -> float:
    """The bound on the error that the kernel was verified under, on ordinary inputs."""
    ours = [a for a in verdict.accuracy if a.output == output.name]
    ordinary = [a.bound for a in ours if a.distribution == "default"]
    return float(f"{max(ordinary or [a.bound for a in ours], default=0.0):.3e}")


# --- the kernel file ------------------------------------------------------------------


def _kernel_file(
    task: Task, kernel: Kernel, idea: Idea, heading: str, shapes: Sequence[VerifiedShape]
) -> str:
    lines: list[str] = []
    for paragraph in (f"{task.qualname}: {idea.title}", heading, idea.rationale):
        lines += [*_comment(paragraph), "//"]
    for shape in shapes:
        outputs = [f"{t.name} {t.dtype}{list(t.shape)}" for t in shape.task.outputs]
        lines += _comment(", ".join([shape.task.shape_text, *outputs]))
        rows = figures(shape.task, shape.verdict, shape.measurement, shape.estimate)
        width = max(len(label) for label, _ in rows) + 2
        for label, value in rows:
            lines += _comment(f"  {label:<{width}}{value}", keep=True)
    return "\n".join(lines) + "\n\n" + kernel.source.lstrip("\n").rstrip() + "\n"


def _comment(text: str, *, keep: bool = False) -> list[str]:
    """Prose as ``//`` lines that the contract's parser and C take for nothing else."""
    text = re.sub(r"\b(launch|scratch|tune|aten)[ \t]*:", r"\1 -", text).replace("\\", "/")
    text = "".join(c if c.isprintable() else " " for c in text)
    wrapped = [text] if keep else textwrap.wrap(text, _WIDTH)
    return [f"// {line}".rstrip() for line in wrapped]


# --- the Python file ------------------------------------------------------------------


def _python_file(
    task: Task, names: Names, heading: str, shared: str, verified: Mapping[str, str]
) -> str:
    prose = textwrap.fill(
        f"The class decorator ``{names.decorator}`` puts the kernel in front of "
        f"``{task.qualname}.forward``. Wherever a call differs from what was verified, the forward "
        "as written runs; ``explain(module, *inputs)`` says which of the two, and why. Needs "
        "torch and cuda-core, nothing else.",
        _WIDTH,
    ).replace("\\", "/")
    heading = textwrap.fill(f"{task.qualname}.forward as a CUDA kernel, {heading}.", _WIDTH)
    values = call("Verified", [f"{name}={text}" for name, text in verified.items()])
    used = [name for name in NAMES if name in ("decorate", "explain") or f"{name}(" in values]
    imported = f"from .{shared} import {', '.join(used)}"
    if len(imported) > _LINE:
        imported = f"from .{shared} import (\n{block(used)})"
    return (
        f'"""{heading}\n\n{prose}\n"""\n\n'
        "from __future__ import annotations\n\n"
        f"import torch\n\n{imported}\n\n"
        f'__all__ = ["{names.decorator}", "explain"]\n\n'
        f"VERIFIED = {values}\n\n\n"
        f"def {names.decorator}(owner: type) -> type:\n"
        '    """Class decorator: ``forward`` by the kernel where it was verified."""\n'
        "    return decorate(owner, VERIFIED, __file__)\n"
    )


def _case(shape: VerifiedShape, place: int, facts: DeviceFacts) -> str:
    task, kernel = shape.task, shape.kernel
    plan = resolve(kernel, task, facts)
    weights = [t for t in task.tensors if t.role in ("parameter", "buffer", "constant")]
    types = signatures(kernel.source)
    scratch = {s.name: f"(torch.{s.dtype}, {s.shape!r}, {s.zeroed})" for s in plan.scratch}
    fields = {
        "kernel": plain(place),
        "arguments": dictionary({**task.scalars, **shape.called.arguments}),
        "inputs": dictionary({t.name: _tensor(t) for t in task.inputs}, raw=True),
        "weights": dictionary({t.name: _tensor(t) for t in weights}, raw=True),
        "outputs": dictionary({t.name: _tensor(t) for t in task.outputs}, raw=True),
        "result": _result(shape.called.result, task.module_name),
        "tolerance": dictionary({t.name: _tolerance(t, shape.verdict) for t in task.outputs}),
        "scratch": dictionary(scratch, raw=True),
        "launches": sequence(
            [_launch(item, types.get(item.function, ())) for item in plan.launches]
        ),
    }
    return call("Case", [f"{name}={value}" for name, value in fields.items()])


def _result(tree: Tree, home: str) -> str:
    """What forward returns: names of outputs, constants and containers of them."""
    if isinstance(tree, Slot):
        return quoted(tree.name)
    if isinstance(tree, Constant):
        return f"Constant({plain(tree.value)})"
    fields = [quoted(tree.kind), sequence([_result(item, home) for item in tree.items])]
    if tree.keys or tree.qualname:
        fields.append(plain(tree.keys))
    if tree.qualname:
        module = "" if tree.module == home else tree.module
        fields += [plain(module), quoted(tree.qualname)]
    return f"Container({', '.join(fields)})"


def _tensor(spec: TensorSpec) -> str:
    return f"(torch.{spec.dtype}, {spec.shape!r}, {spec.stride!r})"


def _launch(launch: ResolvedLaunch, types: tuple[str, ...]) -> str:
    arguments = []
    for position, argument in enumerate(launch.arguments):
        if isinstance(argument, Number):
            kind = types[position] if position < len(types) else ""
            arguments.append(_scalar(argument.value, kind, launch))
        else:
            arguments.append(quoted(argument.name))
    fields = [
        f"function={quoted(launch.function)}",
        f"grid={launch.grid!r}",
        f"block={launch.block!r}",
        f"shared={launch.shared}",
        f"arguments={sequence(arguments)}",
        f"cooperative={launch.cooperative}",
        f"cluster={launch.cluster!r}",
    ]
    return call("Launch", fields)


def _scalar(value: int | float | bool, kind: str, launch: ResolvedLaunch) -> str:
    """(C type, value) as the parameter's type wants it."""
    name = _C_NAMES.get(kind.removeprefix("const ").strip(), "")
    if name in ("float", "double"):
        value = float(value)
    elif name == "bool":
        value = bool(value)
    elif name and value != int(value):
        raise DeliveryError(f"{launch.function} takes {value!r} as {name}: it would lose digits.")
    elif name:
        value = int(value)
    return f"({quoted(name or kind)}, {number(value)})"
