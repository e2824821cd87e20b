"""``forward`` with the kernel in front: in eager mode, under torch.compile, at the first trial."""

from __future__ import annotations

import copy
import types
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_map

from search_engine.deliver.template.arguments import parameters_of
from search_engine.deliver.template.guard import (
    Binding,
    accept,
    classes,
    same_strides,
    untouchable,
)
from search_engine.deliver.template.launch import (
    Kernel,
    gpu,
    kernels,
    launched,
    launcher_of,
    usable,
)
from search_engine.deliver.template.state import tables_of
from search_engine.deliver.template.verified import Case, Constant, Container, Verified

# Why the original forward runs. None: nobody needs to hear of it.
REASONS: dict[str, str | None] = {
    "device": None,
    "smaller batch": None,
    "tracing": None,
    "training": None,
    "tensor type": None,
    "arguments": "it was called with arguments other than the verified ones",
    "dtype": "a tensor has a dtype other than the verified one",
    "shape": "a tensor has a shape other than the verified one",
    "layout": "a tensor has strides other than the verified ones",
    "weights": "a parameter or buffer is gone, new or of another kind",
    "gradients": "gradients are needed: call it under torch.inference_mode() or torch.no_grad()",
    "mode": "it was verified in {mode} mode",
    "autocast": "autocast is on",
    "capture": "it was first called while a CUDA graph was being captured: call it once before",
    "hooks": "hooks or another forward are set on a submodule",
    "modules": "a submodule, or a method of a subclass, is not the one that was verified",
    "attributes": "an attribute that the kernel was made for has changed",
    "source": "the source has changed since the kernel was verified: optimize it again",
    "kernel file": "{file} is missing or was changed since it was verified",
    "gpu": "the kernel was verified on another GPU, {gpu}: optimize it on this one",
    "cuda": "the kernel could not be compiled or launched",
    "slower": "the kernel was no faster here, or less accurate, when it was first tried",
}


def decorate(owner: type, verified: Verified, file: str) -> type:
    """Put the kernel in front of ``owner.forward``; the class itself stays what it is.

    ``file`` is the file that ``verified`` stands in: kernel files lie beside it.
    """
    original = owner.forward  # type: ignore[attr-defined]
    kernel = Kernel(verified, Path(file).parent)
    kernels[verified.namespace] = kernel
    binding = Binding(
        owner,
        original,
        parameters_of(original),
        verified,
        tables_of(verified),
        kernel,
        _define_operator(verified.namespace),
    )
    _kernel_lsp_call = call

    def forward(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        return _kernel_lsp_call(binding, self, args, kwargs)

    # Under the user's own globals, so that torch.jit.script, which reads the original's
    # source through __wrapped__, finds the names in it.
    wrapper = types.FunctionType(
        forward.__code__, original.__globals__, "forward", None, forward.__closure__
    )
    wrapper.__dict__.update(original.__dict__)
    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__"):
        setattr(wrapper, name, getattr(original, name))
    wrapper.__wrapped__ = original  # type: ignore[attr-defined]
    wrapper.__kernel_lsp__ = binding  # type: ignore[attr-defined]
    owner.forward = wrapper  # type: ignore[attr-defined]
    return owner


def call(
    binding: Binding, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """``module(*args, **kwargs)`` by the kernel, else by the original forward."""
    compiling = torch.compiler.is_compiling()
    reason = untouchable(compiling)
    if reason is None:
        found = accept(binding, module, args, kwargs)
        if not isinstance(found, str):
            index, operands = found
            if compiling:
                namespace = binding.verified.namespace
                if usable(namespace, operands[0].device.index, index) is None:
                    return _packed(binding, binding.operator(operands, index), index)
                return binding.original(module, *args, **kwargs)
            reason = _ready(binding, module, args, kwargs, index, operands)
            if reason is None:
                outputs = launched(binding.kernel, operands, index)
                if outputs is not None:
                    return _packed(binding, outputs, index)
                reason = "cuda"
        else:
            reason = found
    if not compiling:
        _say(binding, reason)
    return binding.original(module, *args, **kwargs)


def explain(module: torch.nn.Module, *args: Any, **kwargs: Any) -> str:
    """Which of the two ``module(*args, **kwargs)`` runs, and why: "kernel" or a reason."""
    binding: Binding = type(module).forward.__kernel_lsp__  # type: ignore[attr-defined]
    reason = untouchable(False)
    if reason is None:
        found = accept(binding, module, args, kwargs)
        if isinstance(found, str):
            reason = found
        else:
            device = found[1][0].device.index
            reason = usable(binding.verified.namespace, device, found[0])
    if reason is None:
        return "kernel"
    return f"original forward ({reason}): {_text(binding, reason) or 'as it should be'}"


def _text(binding: Binding, reason: str) -> str | None:
    """A reason in words; None where it is as it should be."""
    text, verified = REASONS[reason], binding.verified
    files = ", ".join(file.name for file in verified.kernels)
    return text and text.format(mode=verified.mode, gpu=verified.gpu, file=files)


def _say(binding: Binding, reason: str | None) -> None:
    said = binding.kernel.said
    if reason is None or REASONS[reason] is None or reason in said:
        return
    said.add(reason)
    text = f"{binding.verified.name} runs its original forward: {_text(binding, reason)}."
    warnings.warn(text, stacklevel=4)


def _ready(
    binding: Binding,
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    index: int,
    operands: list[torch.Tensor],
) -> str | None:
    """As ``usable``, in eager mode: compiles at the first use and tries what was not measured."""
    kernel, measured = binding.kernel, binding.verified.measured
    key = (operands[0].device.index, index)
    launcher = kernel.launchers.get(key)
    if launcher is None or not (measured or key in kernel.trials):
        if gpu.capturing():
            return "capture"
        launcher = launcher_of(kernel, *key)
        if not measured and not isinstance(launcher, str):
            kernel.trials[key] = _trial(binding, module, args, kwargs, index, operands)
    if isinstance(launcher, str):
        return launcher
    return None if measured or kernel.trials[key] else "slower"


def _trial(
    binding: Binding,
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    index: int,
    operands: list[torch.Tensor],
) -> bool:
    """Check the kernel against the original and time both; says what came of it, once."""
    kernel, original, name = binding.kernel, binding.original, binding.verified.name
    case = binding.verified.cases[index]
    kernel.said.add("slower")
    expected = _unpacked(case, original(module, *args, **kwargs))
    outputs = launched(kernel, operands, index)
    if outputs is None:
        return False
    exact = _in_double(binding, case, module, args, kwargs) or expected
    for output, got, eager, reference in zip(case.outputs, outputs, expected, exact, strict=True):
        error = _error(got, reference)
        allowed = max(2 * _error(eager, reference), case.tolerance[output])
        if not error <= allowed:
            warnings.warn(
                f"{name} keeps its original forward: the kernel's {output} has an error of "
                f"{error:.1e} on this GPU, more than {allowed:.1e}.",
                stacklevel=6,
            )
            return False
    kernel_time = gpu.seconds(lambda: launched(kernel, operands, index))
    original_time = gpu.seconds(lambda: original(module, *args, **kwargs))
    faster = kernel_time < original_time
    warnings.warn(
        f"{name}'s kernel was tried for the first time on a GPU: {kernel_time * 1e3:.3f} ms, the "
        f"original forward {original_time * 1e3:.3f} ms. The {'kernel' if faster else 'original'} "
        "is kept.",
        stacklevel=6,
    )
    return faster


def _in_double(
    binding: Binding,
    case: Case,
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> list[torch.Tensor] | None:
    """The original's outputs in double precision, None where it does not run in it."""

    def double(value: Any) -> Any:
        floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.double() if floating else value

    try:
        wide = copy.deepcopy(module).double()
        moved = tree_map(double, (args, kwargs))
        return _unpacked(case, binding.original(wide, *moved[0], **moved[1]))
    except (RuntimeError, TypeError, NotImplementedError):  # an operator without it, or memory
        return None


def _error(got: torch.Tensor, reference: torch.Tensor) -> float:
    """Relative to the reference's norm, as errors were verified."""
    reference = reference.double()
    return float((got.double() - reference).norm() / reference.norm().clamp_min(1e-300))


# --- what forward returns -------------------------------------------------------------


def _packed(binding: Binding, outputs: list[torch.Tensor], index: int) -> Any:
    """The outputs as forward returns them."""
    case = binding.verified.cases[index]
    if isinstance(case.result, str):
        return outputs[0]
    named = dict(zip(case.outputs, outputs, strict=True))
    return _built(case.result, named, binding.owner.__module__)


def _built(part: Any, named: dict[str, torch.Tensor], home: str) -> Any:
    if isinstance(part, str):
        return named[part]
    if isinstance(part, Constant):
        return part.value
    items = [_built(item, named, home) for item in part.items]
    if part.kind == "tuple":
        return tuple(items)
    if part.kind == "list":
        return items
    pairs = dict(zip(part.keys, items, strict=False))
    if part.kind == "dict":
        return pairs
    kind = classes[part.module or home, part.qualname]
    if part.kind == "items":
        return kind(*items)
    if part.kind == "fields":
        return kind(**pairs)
    return kind(pairs if part.kind == "mapping" else items)


def _unpacked(case: Case, result: Any) -> list[torch.Tensor]:
    """The tensors of what forward returned, in the case's order."""
    named: dict[str, torch.Tensor] = {}
    _take_apart(case.result, result, named)
    return [named[name] for name in case.outputs]


def _take_apart(part: Any, value: Any, named: dict[str, torch.Tensor]) -> None:
    if isinstance(part, str):
        named[part] = value
    elif isinstance(part, Container):
        if part.kind == "fields":
            items = [getattr(value, key) for key in part.keys]
        else:
            items = list(value.values() if part.kind in ("dict", "mapping") else value)
        for inner, item in zip(part.items, items, strict=True):
            _take_apart(inner, item, named)


# --- torch.compile --------------------------------------------------------------------


def _define_operator(namespace: str) -> Any:
    """The launches as one opaque operator; defined once, also when a file is reloaded.

    By hand: what torch.library.custom_op puts around a function costs 10 to 20 µs a call.
    """
    defined = getattr(torch.ops, namespace)
    if hasattr(defined, "forward"):
        return defined.forward.default
    library = torch.library.Library(namespace, "FRAGMENT")
    library.define(
        "forward(Tensor[] operands, int index) -> Tensor[]",
        tags=[torch.Tag.needs_fixed_stride_order],
    )

    def run(operands, index):  # type: ignore[no-untyped-def]
        kernel = kernels[namespace]
        case = kernel.verified.cases[index]
        wanted = (*case.inputs.values(), *case.weights.values())
        laid_out = [
            tensor if same_strides(tensor, stride) else _with_strides(tensor, stride)
            for tensor, (_, _, stride) in zip(operands, wanted, strict=True)
        ]
        reason = usable(namespace, laid_out[0].device.index, index)
        outputs = None if reason is not None else launched(kernel, laid_out, index)
        if outputs is None:
            file = kernel.file(index).name
            raise RuntimeError(f"The kernel {file} cannot run here ({reason or 'cuda'}).")
        return outputs

    def fake(operands, index):  # type: ignore[no-untyped-def]
        return [
            torch.empty_strided(shape, stride, dtype=dtype, device=operands[0].device)
            for dtype, shape, stride in kernels[namespace].verified.cases[index].outputs.values()
        ]

    library.impl("forward", run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{namespace}::forward", fake, lib=library)
    run.library = library  # type: ignore[attr-defined]  # torch keeps run; without it the op goes
    return defined.forward.default


def _with_strides(tensor: torch.Tensor, stride: tuple[int, ...]) -> torch.Tensor:
    copy = torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype, device=tensor.device)
    return copy.copy_(tensor)
