"""The guard: does a call fit what was verified? Plain Python that Dynamo traces through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from search_engine.deliver.reached import is_user_class, reachable_fingerprint, type_name
from search_engine.deliver.template.launch import gpu
from search_engine.deliver.template.verified import (
    ABSENT,
    ARGUMENTS,
    ATTRIBUTES,
    CASES,
    FUNCTIONS,
    MODE,
    MODULES,
    SOURCE_HASH,
)

_PLAIN_TENSORS = (torch.Tensor, torch.nn.Parameter)


class Binding(NamedTuple):
    """The decorated class, the forward as written, and its parameters."""

    owner: type
    original: Callable[..., Any]
    parameters: tuple[str, ...]  # those that may be given by position, without self
    keywords: tuple[str, ...]  # the keyword-only ones
    defaults: dict[str, Any]


def accept(
    binding: Binding, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[int, list[torch.Tensor]] | str:
    """The case that fits the call with the tensors its launches read, or why none does.

    Plain Python over shapes, types and attributes: Dynamo traces through it.
    """
    inputs = _bound(binding, args, kwargs)
    if inputs is None:
        return "arguments"
    reason = _tensor_kinds(inputs)
    if reason is not None:
        return reason
    modules = _modules(module)
    if modules is None:
        return "modules"
    kinds = tuple([type(item) for item in modules.values()])
    functions = tuple([getattr(modules[path], name, None) for _, path, name in _FUNCTIONS])
    reason = _recognised(binding.owner, kinds, functions)
    if reason is None:
        reason = _module_state(module, modules)
    if reason is not None:
        return reason
    for index, case in enumerate(CASES):
        reason = _fits(inputs, case.inputs)
        if reason is None:
            return _operands(index, inputs, modules)
    return reason or "arguments"


def _bound(
    binding: Binding, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, torch.Tensor] | None:
    """Tensor arguments by name (``x``, ``xs.0``); None where anything else differs."""
    if len(args) > len(binding.parameters):
        return None
    values = dict(zip(binding.parameters, args, strict=False))
    for name, value in kwargs.items():
        if name in values or not (name in binding.parameters or name in binding.keywords):
            return None
        values[name] = value
    for name, value in binding.defaults.items():
        if name not in values:
            values[name] = value
    tensors = {}
    others: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            tensors[name] = value
        elif isinstance(value, list | tuple | dict):
            _flatten(name, value, tensors, others)
        else:
            others[name] = value
    return tensors if _same_values(binding, others) else None


def _same_values(binding: Binding, others: dict[str, Any]) -> bool:
    """Whether arguments that are no tensors have the values that were verified."""
    for name, value in others.items():
        if name in ARGUMENTS:
            wanted = ARGUMENTS[name]
            if type(value) is not type(wanted) or value != wanted:
                return False
        elif name not in binding.defaults or value is not binding.defaults[name]:
            return False
    return True


def _flatten(
    name: str, value: Any, tensors: dict[str, torch.Tensor], others: dict[str, Any]
) -> None:
    """The items of a list or dict by name (``xs.0``, ``state.h``)."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _flatten(f"{name}.{index}", item, tensors, others)
    elif isinstance(value, dict):
        for key, item in value.items():
            _flatten(f"{name}.{key}", item, tensors, others)
    elif isinstance(value, torch.Tensor):
        tensors[name] = value
    else:
        others[name] = value


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


def _parts() -> Iterator[tuple[str, str, str, int]]:
    """(path, parent's path, name, number of children) of every module but the root."""
    for path in MODULES:
        parent, _, name = path.rpartition(".")
        if path:
            yield path, parent, name, _children(path)


def _children(path: str) -> int:
    depth = path.count(".") + 2 if path else 1
    prefix = f"{path}." if path else ""
    return sum(1 for p in MODULES if p and p.startswith(prefix) and len(p.split(".")) == depth)


def _split(names: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
    """(name, path of the module, attribute) of each dotted name."""
    return tuple((name, name.rpartition(".")[0], name.rpartition(".")[2]) for name in names)


_TREE = tuple(_parts())
_ROOT_CHILDREN = _children("")
_ATTRIBUTES = tuple((*where, ATTRIBUTES[where[0]]) for where in _split(tuple(ATTRIBUTES)))
_FUNCTIONS = _split(FUNCTIONS)
_ABSENT = _split(ABSENT)
_WEIGHTS = tuple(_split(tuple(case.weights)) for case in CASES)


def _modules(root: torch.nn.Module) -> dict[str, torch.nn.Module] | None:
    """The module and its submodules by path; None where one is missing or added."""
    if len(root._modules) != _ROOT_CHILDREN:
        return None
    modules = {"": root}
    for path, parent, name, children in _TREE:
        module = modules[parent]._modules.get(name)
        if module is None or len(module._modules) != children:
            return None
        modules[path] = module
    return modules


def _module_state(root: torch.nn.Module, modules: dict[str, torch.nn.Module]) -> str | None:
    """Hooks, training flags and attributes that the kernel was made for."""
    if MODE is not None:
        for module in modules.values():
            if module.training != (MODE == "train"):
                return "mode"
    if len(modules) > 1:
        if _hooks_everywhere():
            return "hooks"
        for module in modules.values():
            if module is not root and (
                module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__
            ):
                return "hooks"
    for _, path, attribute, wanted in _ATTRIBUTES:
        value = getattr(modules[path], attribute, None)
        if type(value) is not type(wanted) or value != wanted:
            return "attributes"
    for _, path, attribute in _ABSENT:
        if getattr(modules[path], attribute, None) is not None:
            return "weights"
    return None


@torch.compiler.assume_constant_result
def _hooks_everywhere() -> bool:
    every = torch.nn.modules.module
    return bool(every._global_forward_hooks or every._global_forward_pre_hooks)


def _operands(
    index: int, inputs: dict[str, torch.Tensor], modules: dict[str, torch.nn.Module]
) -> tuple[int, list[torch.Tensor]] | str:
    """Inputs and weights in the case's order, all on one device and none needing a gradient."""
    case = CASES[index]
    operands = [inputs[name] for name in case.inputs]
    device = operands[0].device
    for name, path, attribute in _WEIGHTS[index]:
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
def _recognised(owner: type, kinds: tuple[type, ...], functions: tuple[Any, ...]) -> str | None:
    """Whether these are the classes and functions, and this the source, that were verified."""
    key = (owner, kinds, functions)
    try:
        return _known[key]
    except TypeError:  # something in place of a function that cannot be hashed
        return "attributes"
    except KeyError:
        return _known.setdefault(key, _recognise(owner, kinds, functions))


def _recognise(owner: type, kinds: tuple[type, ...], functions: tuple[Any, ...]) -> str | None:
    if not _same_methods(owner, kinds[0]):
        return "modules"
    home = frozenset({owner.__module__.partition(".")[0]})
    for kind, wanted in zip(kinds[1:], list(MODULES.values())[1:], strict=True):
        if type_name(kind, home) != wanted:
            return "modules"
    roots = [owner, *(kind for kind in kinds[1:] if is_user_class(kind, home))]
    return None if reachable_fingerprint(roots, functions) == SOURCE_HASH else "source"


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
