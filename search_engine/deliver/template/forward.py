"""``forward`` with the kernel in front: in eager mode, under torch.compile, at the first trial."""

from __future__ import annotations

import copy
import inspect
import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_map

from search_engine.deliver.template.guard import Binding, accept, same_strides, untouchable
from search_engine.deliver.template.launch import (
    gpu,
    launched,
    launcher_of,
    launchers,
    trials,
    usable,
)
from search_engine.deliver.template.verified import (
    CASES,
    CLASS,
    GPU,
    KERNEL_FILE,
    MEASURED,
    MODE,
    NAMESPACE,
    OUTPUT_KIND,
    TOLERANCE,
)

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
    "mode": f"it was verified in {MODE} mode",
    "autocast": "autocast is on",
    "capture": "it was first called while a CUDA graph was being captured: call it once before",
    "hooks": "hooks or another forward are set on a submodule",
    "modules": "a submodule, or a method of a subclass, is not the one that was verified",
    "attributes": "an attribute that the kernel was made for has changed",
    "source": "the source has changed since the kernel was verified: optimize it again",
    "kernel file": f"{KERNEL_FILE} is missing or was changed since it was verified",
    "gpu": f"the kernel was verified on another GPU, {GPU}: optimize it on this one",
    "cuda": "the kernel could not be compiled or launched",
    "slower": "the kernel was no faster here, or less accurate, when it was first tried",
}

_said: set[str] = set()


def decorate(owner: type) -> type:
    """Put the kernel in front of ``owner.forward``; the class itself stays what it is."""
    original = owner.forward  # type: ignore[attr-defined]
    named = list(inspect.signature(original).parameters.values())[1:]
    binding = Binding(
        owner,
        original,
        tuple(p.name for p in named if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)),
        tuple(p.name for p in named if p.kind is p.KEYWORD_ONLY),
        {p.name: p.default for p in named if p.default is not p.empty},
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
                if usable(operands[0].device.index, index) is None:
                    return _packed(_operator(operands, index), index)
                return binding.original(module, *args, **kwargs)
            reason = _ready(binding, module, args, kwargs, index, operands)
            if reason is None:
                outputs = launched(operands, index)
                if outputs is not None:
                    return _packed(outputs, index)
                reason = "cuda"
        else:
            reason = found
    if not compiling:
        _say(reason)
    return binding.original(module, *args, **kwargs)


def explain(module: torch.nn.Module, *args: Any, **kwargs: Any) -> str:
    """Which of the two ``module(*args, **kwargs)`` runs, and why: "kernel" or a reason."""
    binding: Binding = type(module).forward.__kernel_lsp__  # type: ignore[attr-defined]
    reason = untouchable(False)
    if reason is None:
        found = accept(binding, module, args, kwargs)
        reason = found if isinstance(found, str) else usable(found[1][0].device.index, found[0])
    if reason is None:
        return "kernel"
    return f"original forward ({reason}): {REASONS[reason] or 'as it should be'}"


def _say(reason: str | None) -> None:
    text = REASONS.get(reason or "")
    if text is not None and reason not in _said:
        _said.add(reason or "")
        warnings.warn(f"{CLASS} runs its original forward: {text}.", stacklevel=4)


def _ready(
    binding: Binding,
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    index: int,
    operands: list[torch.Tensor],
) -> str | None:
    """As ``usable``, in eager mode: compiles at the first use and tries what was not measured."""
    key = (operands[0].device.index, index)
    launcher = launchers.get(key)
    if launcher is None or not (MEASURED or key in trials):
        if gpu.capturing():
            return "capture"
        launcher = launcher_of(*key)
        if not MEASURED and not isinstance(launcher, str):
            trials[key] = _trial(binding.original, module, args, kwargs, index, operands)
    if isinstance(launcher, str):
        return launcher
    return None if MEASURED or trials[key] else "slower"


def _trial(
    original: Callable[..., Any],
    module: torch.nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    index: int,
    operands: list[torch.Tensor],
) -> bool:
    """Check the kernel against the original and time both; says what came of it, once."""
    _said.add("slower")
    expected = _unpacked(original(module, *args, **kwargs))
    outputs = launched(operands, index)
    if outputs is None:
        return False
    exact = _in_double(original, module, args, kwargs) or expected
    for name, got, eager, reference in zip(
        CASES[index].outputs, outputs, expected, exact, strict=True
    ):
        error, allowed = _error(got, reference), max(2 * _error(eager, reference), TOLERANCE[name])
        if not error <= allowed:
            warnings.warn(
                f"{CLASS} keeps its original forward: the kernel's {name} has an error of "
                f"{error:.1e} on this GPU, more than {allowed:.1e}.",
                stacklevel=6,
            )
            return False
    kernel_time = gpu.seconds(lambda: launched(operands, index))
    original_time = gpu.seconds(lambda: original(module, *args, **kwargs))
    faster = kernel_time < original_time
    warnings.warn(
        f"{CLASS}'s kernel was tried for the first time on a GPU: {kernel_time * 1e3:.3f} ms, the "
        f"original forward {original_time * 1e3:.3f} ms. The {'kernel' if faster else 'original'} "
        "is kept.",
        stacklevel=6,
    )
    return faster


def _in_double(
    original: Callable[..., Any],
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
        return _unpacked(original(wide, *moved[0], **moved[1]))
    except (RuntimeError, TypeError, NotImplementedError):  # an operator without it, or memory
        return None


def _error(got: torch.Tensor, reference: torch.Tensor) -> float:
    """Relative to the reference's norm, as errors were verified."""
    reference = reference.double()
    return float((got.double() - reference).norm() / reference.norm().clamp_min(1e-300))


def _packed(outputs: list[torch.Tensor], index: int) -> Any:
    """The outputs as forward returns them."""
    if OUTPUT_KIND == "tensor":
        return outputs[0]
    if OUTPUT_KIND == "dict":
        return {
            name.removeprefix("out."): tensor
            for name, tensor in zip(CASES[index].outputs, outputs, strict=True)
        }
    return tuple(outputs) if OUTPUT_KIND == "tuple" else list(outputs)


def _unpacked(result: Any) -> list[torch.Tensor]:
    if OUTPUT_KIND == "tensor":
        return [result]
    return list(result.values() if OUTPUT_KIND == "dict" else result)


def _define_operator() -> Any:
    """The launches as one opaque operator; defined once, also when this file is reloaded.

    By hand: what torch.library.custom_op puts around a function costs 10 to 20 µs a call.
    """
    namespace = getattr(torch.ops, NAMESPACE)
    if hasattr(namespace, "forward"):
        return namespace.forward.default
    library = torch.library.Library(NAMESPACE, "FRAGMENT")
    library.define(
        "forward(Tensor[] operands, int index) -> Tensor[]",
        tags=[torch.Tag.needs_fixed_stride_order],
    )

    def run(operands, index):  # type: ignore[no-untyped-def]
        case = CASES[index]
        wanted = (*case.inputs.values(), *case.weights.values())
        laid_out = [
            tensor if same_strides(tensor, stride) else _with_strides(tensor, stride)
            for tensor, (_, _, stride) in zip(operands, wanted, strict=True)
        ]
        reason = usable(laid_out[0].device.index, index)
        outputs = None if reason is not None else launched(laid_out, index)
        if outputs is None:
            raise RuntimeError(f"{CLASS}: {REASONS[reason or 'cuda']}.")
        return outputs

    def fake(operands, index):  # type: ignore[no-untyped-def]
        return [
            torch.empty_strided(shape, stride, dtype=dtype, device=operands[0].device)
            for dtype, shape, stride in CASES[index].outputs.values()
        ]

    library.impl("forward", run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::forward", fake, lib=library)
    run.library = library  # type: ignore[attr-defined]  # torch keeps run; without it the op goes
    return namespace.forward.default


def _with_strides(tensor: torch.Tensor, stride: tuple[int, ...]) -> torch.Tensor:
    copy = torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype, device=tensor.device)
    return copy.copy_(tensor)


_operator = _define_operator()
