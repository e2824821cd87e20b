"""From a verified kernel to the files and lines that a user accepts. Free of torch."""

from __future__ import annotations

import base64
import datetime
import importlib.metadata
import re
import textwrap
from collections.abc import Mapping

from search_engine.contract.kernel import Kernel, Number, Plan, ResolvedLaunch
from search_engine.contract.resolve import resolve
from search_engine.contract.signature import signatures
from search_engine.deliver.delivery import Delivery
from search_engine.deliver.files import signed
from search_engine.deliver.join import joined_template
from search_engine.deliver.names import Names, names_of
from search_engine.deliver.observed import Observed
from search_engine.errors import DeliveryError
from search_engine.hardware import DeviceFacts
from search_engine.proposers._base import Idea
from search_engine.source import digest
from search_engine.task import Task, TensorSpec
from search_engine.verdict import Estimate, Measurement, Verdict

_WIDTH = 96
_INLINE = 64  # a longer sequence gets a line per item
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


def render(
    task: Task,
    kernel: Kernel,
    *,
    observed: Observed,
    idea: Idea,
    verdict: Verdict,
    measurement: Measurement | None,
    estimate: Estimate | None,
    facts: DeviceFacts,
    mode_matters: bool = False,
    cubin: bytes | None = None,
    date: datetime.date | None = None,
) -> Delivery:
    """The delivery of ``kernel`` for ``task``.

    ``observed`` is the module as it was verified, ``facts`` are of the GPU that launch
    numbers are resolved for; ``measurement`` is None where no GPU was at hand.
    ``mode_matters`` says that the graphs of ``eval()`` and ``train()`` differ. ``cubin`` is
    the kernel compiled for ``facts.arch``; it is carried only where the source includes
    headers, which a user's machine may lack.

    Raises ContractError where the plan cannot be resolved, DeliveryError where the kernel
    takes an argument that cannot be passed.
    """
    names = names_of(task)
    plan = resolve(kernel, task, facts)
    today = date or datetime.date.today()
    device = measurement.device if measurement is not None else verdict.device
    heading = f"verified by kernel-lsp {_version()} on {device}, {today.isoformat()}"
    source = _kernel_file(
        task, kernel, idea, heading, figures(task, verdict, measurement, estimate)
    )
    files = {names.file(".cu"): signed(".cu", source)}
    carried = base64.encodebytes(cubin).decode() if cubin and _includes(kernel) else ""
    if carried:
        path = names.file(".cubin.txt")
        files[path] = signed(path, carried)
    constants = {
        "CLASS": _plain(task.qualname),
        "KERNEL_FILE": _plain(f"{names.safe}.cu"),
        "KERNEL_HASH": _plain(digest("".join(files[names.file(".cu")].split()))),
        "SOURCE_HASH": _plain(observed.reached),
        "NAMESPACE": "",
        "GPU": _plain(device if measurement is not None else facts.name),
        "MEASURED": _plain(measurement is not None),
        "CUBIN_FILE": _plain(f"{names.safe}.cubin.txt" if carried else ""),
        "CUBIN_ARCH": _plain(facts.arch if carried else ""),
        "CUBIN_HASH": _plain(digest("".join(carried.split())) if carried else ""),
        "TOLERANCE": _dictionary({t.name: _tolerance(t, verdict) for t in task.outputs}),
        "MODE": _plain(task.mode if mode_matters else None),
        "OUTPUT_KIND": _plain(observed.output_kind),
        "ARGUMENTS": _dictionary({**task.scalars, **observed.arguments}),
        "MODULES": _dictionary(observed.modules),
        "ATTRIBUTES": _dictionary(observed.attributes),
        "FUNCTIONS": _sequence([_quoted(name) for name in observed.functions]),
        "ABSENT": _sequence([_quoted(name) for name in observed.absent]),
        "CASES": _sequence([_case(task, kernel, plan)]),
    }
    constants["NAMESPACE"] = _plain(
        f"kernel_lsp_{digest(repr((task.module_name, task.qualname, constants)))}"
    )
    path = names.file(".py")
    files[path] = signed(path, _python_file(task, names, heading, constants))
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
        summary=summary(measurement),
    )


def summary(measurement: Measurement | None) -> str:
    """One line for lens and annotation; no speedup without a measurement."""
    if measurement is None:
        return "verified, not measured"
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
    task: Task, kernel: Kernel, idea: Idea, heading: str, rows: list[tuple[str, str]]
) -> str:
    tensors = ", ".join(f"{t.name} {t.dtype}{list(t.shape)}" for t in (*task.inputs, *task.outputs))
    paragraphs = [f"{task.qualname}: {idea.title}", heading, tensors, idea.rationale]
    lines: list[str] = []
    for paragraph in paragraphs:
        lines += [*_comment(paragraph), "//"]
    width = max(len(label) for label, _ in rows) + 2
    for label, value in rows:
        lines += _comment(f"{label:<{width}}{value}", keep=True)
    return "\n".join(lines) + "\n\n" + kernel.source.lstrip("\n").rstrip() + "\n"


def _comment(text: str, *, keep: bool = False) -> list[str]:
    """Prose as ``//`` lines that the contract's parser and C take for nothing else."""
    text = re.sub(r"\b(launch|scratch|tune|aten)[ \t]*:", r"\1 -", text).replace("\\", "/")
    text = "".join(c if c.isprintable() else " " for c in text)
    wrapped = [text] if keep else textwrap.wrap(text, _WIDTH)
    return [f"// {line}".rstrip() for line in wrapped]


# --- the Python file ------------------------------------------------------------------


def _python_file(task: Task, names: Names, heading: str, constants: dict[str, str]) -> str:
    prose = textwrap.fill(
        f"The class decorator ``{names.decorator}`` puts the kernel in {names.safe}.cu in front of "
        f"``{task.qualname}.forward``. Wherever a call differs from what was verified, the forward "
        "as written runs; ``explain(module, *inputs)`` says which of the two, and why. Needs "
        "torch and cuda-core, nothing else.",
        _WIDTH,
    ).replace("\\", "/")
    heading = textwrap.fill(f"{task.qualname}.forward as a CUDA kernel, {heading}.", _WIDTH)
    export = (
        f"def {names.decorator}(owner: type) -> type:\n"
        f'    """Class decorator: ``forward`` by the kernel where it was verified."""\n'
        "    return decorate(owner)\n"
    )
    return joined_template(f'"""{heading}\n\n{prose}\n"""', constants, export)


def _case(task: Task, kernel: Kernel, plan: Plan) -> str:
    weights = [t for t in task.tensors if t.role in ("parameter", "buffer", "constant")]
    types = signatures(kernel.source)
    scratch = {s.name: f"(torch.{s.dtype}, {s.shape!r}, {s.zeroed})" for s in plan.scratch}
    fields = {
        "inputs": _dictionary({t.name: _tensor(t) for t in task.inputs}, raw=True),
        "weights": _dictionary({t.name: _tensor(t) for t in weights}, raw=True),
        "outputs": _dictionary({t.name: _tensor(t) for t in task.outputs}, raw=True),
        "scratch": _dictionary(scratch, raw=True),
        "launches": _sequence(
            [_launch(item, types.get(item.function, ())) for item in plan.launches]
        ),
    }
    return _call("Case", [f"{name}={value}" for name, value in fields.items()])


def _tensor(spec: TensorSpec) -> str:
    return f"(torch.{spec.dtype}, {spec.shape!r}, {spec.stride!r})"


def _launch(launch: ResolvedLaunch, types: tuple[str, ...]) -> str:
    arguments = []
    for position, argument in enumerate(launch.arguments):
        if isinstance(argument, Number):
            kind = types[position] if position < len(types) else ""
            arguments.append(_scalar(argument.value, kind, launch))
        else:
            arguments.append(_quoted(argument.name))
    fields = [
        f"function={_quoted(launch.function)}",
        f"grid={launch.grid!r}",
        f"block={launch.block!r}",
        f"shared={launch.shared}",
        f"arguments={_sequence(arguments)}",
        f"cooperative={launch.cooperative}",
        f"cluster={launch.cluster!r}",
    ]
    return _call("Launch", fields)


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
    return f"({_quoted(name or kind)}, {_number(value)})"


def _number(value: int | float | bool) -> str:
    return f'float("{value}")' if value in (float("inf"), float("-inf")) else repr(value)


# --- layout, as a formatter would have it ---------------------------------------------


def _call(name: str, fields: list[str]) -> str:
    return f"{name}(\n{_block(fields)})"


def _dictionary(items: Mapping[str, object], *, raw: bool = False) -> str:
    entries = [f"{_quoted(key)}: {value if raw else _plain(value)}" for key, value in items.items()]
    return f"{{\n{_block(entries)}}}" if entries else "{}"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, list | tuple):
        items = ", ".join(_plain(item) for item in value)
        comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
        return f"[{items}]" if isinstance(value, list) else f"({items}{comma})"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    """A string in double quotes where that needs no escapes."""
    printed = repr(text)
    return f'"{printed[1:-1]}"' if printed[0] == "'" and '"' not in text else printed


def _sequence(items: list[str]) -> str:
    inline = ", ".join(items) + ("," if len(items) == 1 else "")
    if len(inline) <= _INLINE and "\n" not in inline:
        return f"({inline})"
    return f"(\n{_block(items)})"


def _block(items: list[str]) -> str:
    return "".join(textwrap.indent(f"{item},\n", "    ") for item in items)
