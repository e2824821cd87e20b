"""Modules whose parts no kernel can stand in for, told before anything runs."""

from __future__ import annotations

import inspect

import torch
from torch.nn.parameter import is_lazy

from search_engine.capture.call import Call, leaves
from search_engine.errors import CaptureError


def check_parts(module: torch.nn.Module) -> None:
    """Raises CaptureError where a submodule is lazy, hooked, compiled or scripted."""
    name = type(module).__qualname__
    if hasattr(type(module).forward, "_torchdynamo_orig_callable"):
        raise CaptureError(
            f"{name}.forward is compiled by torch.compile already: take the decorator off to "
            "optimise it, and compile the module where it is used."
        )
    for path, part in module.named_modules():
        where = f"{name}.{path}" if path else name
        kind = type(part).__name__
        if isinstance(part, torch.jit.ScriptModule):
            raise CaptureError(
                f"{where} is a TorchScript module ({kind}): put the module itself in its place, "
                "so that its operators can be read."
            )
        if kind == "OptimizedModule":
            raise CaptureError(
                f"{where} is compiled by torch.compile already: optimise the module as written, "
                "and compile it where it is used."
            )
        if any(is_lazy(p) for p in (*part._parameters.values(), *part._buffers.values())):
            raise CaptureError(
                f"{where} is a {kind}, whose sizes come from its first input: write "
                f"{kind.removeprefix('Lazy')} with its sizes, so that the module is the same at "
                "every call."
            )
        _check_hooks(where, part)


def _check_hooks(where: str, part: torch.nn.Module) -> None:
    for hook in part._forward_pre_hooks.values():
        old = type(hook).__name__ in ("WeightNorm", "SpectralNorm")
        if old and type(hook).__module__.startswith("torch.nn.utils."):
            new = type(hook).__module__.rpartition(".")[2]
            raise CaptureError(
                f"{where} is under torch.nn.utils.{new}, which sets its weight at each call: use "
                f"torch.nn.utils.parametrizations.{new}."
            )
    if part._forward_hooks or part._forward_pre_hooks:
        raise CaptureError(
            f"{where} has forward hooks, which a kernel would leave out: do their work in forward, "
            "or register them where the module is used."
        )


def check_arguments(module: torch.nn.Module, call: Call) -> None:
    """Raises CaptureError where an argument is none that a delivered kernel could check.

    Tensors, None, numbers, strings, dtypes, and lists, tuples and dicts of them are.
    """
    for name, value in leaves(module.forward, call):
        if isinstance(value, (torch.Tensor, bool, int, float, str, torch.dtype)) or value is None:
            continue
        signature = inspect.signature(module.forward)
        raise CaptureError(
            f"The argument {name!r} of {type(module).__qualname__}.forward{signature} is a "
            f"{type(value).__name__}: give it tensors, numbers, strings, None, or lists, tuples "
            "and dicts of these."
        )
