"""The guard: does a call fit what was verified? Plain Python that Dynamo traces through."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from search_engine.deliver.reached import is_user_class, reachable_fingerprint, type_name
from search_engine.deliver.template.arguments import Parameters, bound, same_values
from search_engine.deliver.template.launch import Kernel, gpu, kernels
from search_engine.deliver.template.state import Tables, module_state, modules_of
from search_engine.deliver.template.verified import Container, Verified

_PLAIN_TENSORS = (torch.Tensor, torch.nn.Parameter)


class Binding(NamedTuple):
    """The decorated class, its forward as written, and what was verified of it."""

    owner: type
    original: Callable[..., Any]
    parameters: Parameters
    verified: Verified
    tables: Tables
    kernel: Kernel
    operator: Any  # the launches as torch.compile sees them


def accept(
    binding: Binding, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[int, list[torch.Tensor]] | str:
    """The case that fits the call with the tensors its launches read, or why none does.

    Plain Python over shapes, types and attributes: Dynamo traces through it.
    """
    inputs: dict[str, torch.Tensor] = {}
    others: dict[str, Any] = {}
    if not bound(binding.parameters, args, kwargs, inputs, others):
        return "arguments"
    reason = _tensor_kinds(inputs)
    if reason is not None:
        return reason
    tables = binding.tables
    modules = modules_of(module, tables)
    if modules is None:
        return "modules"
    kinds = tuple([type(item) for item in modules.values()])
    functions = tuple([getattr(modules[path], name, None) for _, path, name in tables.functions])
    reason = _recognised(binding.verified.namespace, binding.owner, kinds, functions)
    if reason is None:
        reason = module_state(binding.verified.mode, tables, module, modules)
    if reason is not None:
        return reason
    for index, case in enumerate(binding.verified.cases):
        misfit: str | None = "arguments"
        if same_values(binding.parameters.defaults, others, case.arguments):
            misfit = _fits(inputs, case.inputs)
        if misfit is None:
            return _operands(binding, index, inputs, modules)
        if reason is None or misfit == "smaller batch":
            reason = misfit
    return reason or "arguments"


def _tensor_kinds(inputs: dict[str, torch.Tensor]) -> str | None:
    if not inputs:
        return "arguments"
    for tensor in inputs.values():
        if type(tensor) not in _PLAIN_TENSORS or tensor.is_nested:
            return "tensor type"
        if tensor.device.type != gpu.device_type:
            return "device"
    return None


def _fits(tensors: dict[str, torch.Tensor], wanted: Mapping[str, Any]) -> str | None:
    """Whether inputs are those of a case."""
    if len(tensors) != len(wanted):
        return "arguments"
    smaller = False
    for name, (dtype, shape, stride) in wanted.items():
        tensor = tensors.get(name)
        if tensor is None:
            return "arguments"
        if tensor.dtype != dtype:
            return "dtype"
        if tensor.shape != shape:
            if tensor.dim() != len(shape) or tensor.shape[1:] != shape[1:]:
                return "shape"
            if tensor.shape[0] > shape[0]:
                return "shape"
            smaller = True
        elif not same_strides(tensor, stride):
            return "layout"
    return "smaller batch" if smaller else None


def same_strides(tensor: torch.Tensor, wanted: tuple[int, ...]) -> bool:
    """Whether a dense tensor lies in memory as it did when the kernel was verified."""
    if tensor.layout != torch.strided:
        return False
    strides = tensor.stride()
    if strides == wanted:
        return True
    # The stride of a dimension of one element says nothing.
    for size, stride, expected in zip(tensor.shape, strides, wanted, strict=True):
        if size != 1 and stride != expected:
            return False
    return True


def _operands(
    binding: Binding,
    index: int,
    inputs: dict[str, torch.Tensor],
    modules: dict[str, torch.nn.Module],
) -> tuple[int, list[torch.Tensor]] | str:
    """Inputs and weights in the case's order, all on one device and none needing a gradient."""
    case = binding.verified.cases[index]
    operands = [inputs[name] for name in case.inputs]
    device = operands[0].device
    for name, path, attribute in binding.tables.weights[index]:
        module = modules.get(path)
        if module is None:
            return "weights"
        tensor: Any = module._parameters.get(attribute)  # nn.Module's own look-up costs 1 µs
        if tensor is None:
            tensor = getattr(module, attribute, None)
        if type(tensor) not in _PLAIN_TENSORS:
            return "weights"
        dtype, shape, stride = case.weights[name]
        if tensor.dtype != dtype or tensor.shape != shape or not same_strides(tensor, stride):
            return "weights"
        operands.append(tensor)
    gradients = torch.is_grad_enabled()
    for tensor in operands:
        if tensor.device != device:
            return "device"
        if gradients and tensor.requires_grad:
            return "training" if modules[""].training else "gradients"
    if torch.is_autocast_enabled(gpu.device_type):
        return "autocast"
    return index, operands


_known: dict[Any, str | None] = {}


@torch.compiler.assume_constant_result
def _recognised(
    namespace: str, owner: type, kinds: tuple[type, ...], functions: tuple[Any, ...]
) -> str | None:
    """Whether these are the classes and functions, and this the source, that were verified."""
    key = (namespace, owner, kinds, functions)
    try:
        return _known[key]
    except TypeError:  # something in place of a function that cannot be hashed
        return "attributes"
    except KeyError:
        verified = kernels[namespace].verified
        return _known.setdefault(key, _recognise(verified, owner, kinds, functions))


def _recognise(
    verified: Verified, owner: type, kinds: tuple[type, ...], functions: tuple[Any, ...]
) -> str | None:
    if not _same_methods(owner, kinds[0]):
        return "modules"
    home = frozenset({owner.__module__.partition(".")[0]})
    for kind, wanted in zip(kinds[1:], list(verified.modules.values())[1:], strict=True):
        if type_name(kind, home) != wanted:
            return "modules"
    try:
        for case in verified.cases:
            _find_classes(case.result, owner.__module__)
    except (KeyError, AttributeError):
        return "source"
    roots = [owner, *(kind for kind in kinds[1:] if is_user_class(kind, home))]
    return None if reachable_fingerprint(roots, functions) == verified.source else "source"


# Classes that forward returns, by module and qualified name: where Dynamo finds them again.
classes: dict[tuple[str, str], Any] = {}


def _find_classes(result: Any, home: str) -> None:
    """Fill ``classes``; raises KeyError or AttributeError where one is not there."""
    if isinstance(result, Container):
        if result.qualname:
            module = result.module or home
            found: Any = sys.modules[module]
            for name in result.qualname.split("."):
                found = getattr(found, name)
            classes[module, result.qualname] = found
        for item in result.items:
            _find_classes(item, home)


def _same_methods(owner: type, kind: type) -> bool:
    """Whether ``kind`` is ``owner``, or a subclass that overrides nothing forward may use."""
    if kind is owner:
        return True
    if kind.__mro__[-len(owner.__mro__) :] != owner.__mro__:
        return False
    harmless = {"__init__", "forward", "extra_repr", "__doc__", "__module__", "__qualname__"}
    harmless |= {"__annotations__", "__firstlineno__", "__static_attributes__", "__parameters__"}
    harmless |= {"__annotate__", "__annotate_func__", "__annotations_cache__"}
    return all(
        name in harmless or not hasattr(owner, name)
        for base in kind.__mro__[: -len(owner.__mro__)]
        for name in vars(base)
    )


def _present() -> int:
    return 1  # a torch that has lost the question is taken to answer yes


_tracing_state = getattr(torch._C, "_get_tracing_state", _present)
_dispatch_modes = getattr(torch._C, "_len_torch_dispatch_stack", _present)
_functorch_level = getattr(torch._C._functorch, "maybe_current_level", _present)


@torch.compiler.assume_constant_result
def _exported_or_transformed() -> bool:
    return torch.compiler.is_exporting() or _functorch_level() is not None


def untouchable(compiling: bool) -> str | None:
    """Whether something watches or rewrites operators: it must see the original's."""
    if compiling:
        return "tracing" if _exported_or_transformed() else None
    if _functorch_level() is not None or _dispatch_modes() or _tracing_state() is not None:
        return "tracing"
    return None
