"""From a class in a buffer to a task. Runs the user's code: call it in a worker process."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import attrs
import torch

from search_engine.capture import values
from search_engine.capture.call import Call, leaves, map_tensors
from search_engine.capture.captured import Captured, change_module, dense_stride, state_of
from search_engine.capture.choose import choose
from search_engine.capture.export import Names, Unsupported, export
from search_engine.capture.inputs import Source, source_of
from search_engine.capture.limit import Work, certain, limit
from search_engine.capture.loader import load, locate, quiet
from search_engine.capture.observe import Observer, RandomState, attributes, tf32_products
from search_engine.capture.outputs import shared, taken_apart
from search_engine.capture.parts import check_arguments, check_parts
from search_engine.capture.probe import probe
from search_engine.capture.structure import has_numbers
from search_engine.capture.where import failed
from search_engine.errors import CaptureError
from search_engine.graph import Graph
from search_engine.hardware import DeviceFacts
from search_engine.source import fingerprint
from search_engine.task import ITEM_BYTES, CaptureRequest, Role, Scalar, Task, TensorSpec

_SEED = 0  # of the sample that shapes, flops and the graph are taken from


def capture(
    request: CaptureRequest,
    facts: DeviceFacts,
    *,
    device: str = "cpu",
    imported: ModuleType | None = None,
    further: bool = True,
) -> Captured:
    """Import the buffer, build the module on ``device``, run it once and describe the task.

    ``facts`` is the GPU of the limit; ``imported`` is the buffer as ``load`` imported it,
    where the caller did that already. Where the file gives several shapes, the first is the
    task's; the others are its ``further``, unless that is False. Raises CaptureError, one
    sentence that names the user's line where there is one: the file does not import,
    nothing gives inputs, shapes do not fit, forward changes its inputs or buffers, returns
    views of them or draws random numbers.
    """
    path = str(Path(request.path).absolute())
    if imported is None:
        imported = load(path, request.text)
    cls = choose(imported, request.text, path, request.qualname)
    with quiet():
        source = source_of(imported, request.text, path, cls, request.recorded)
        module = source.construct(device)
        check_parts(module)
        module.train(request.mode == "train")
        change_module(module, lambda tensor: tensor.to(device))
        captured = _at(source, module, request, path, facts, device)
        if further:
            others = [_at(s, module, request, path, facts, device) for s in source.further]
            captured.further = tuple(others)
            tasks = tuple(other.task for other in others)
            captured.task = attrs.evolve(captured.task, further=tasks)
    return captured


def _at(
    source: Source,
    module: torch.nn.Module,
    request: CaptureRequest,
    path: str,
    facts: DeviceFacts,
    device: str,
) -> Captured:
    """The module at the shapes of one source."""
    call = _sample(source, module, device)
    check_arguments(module, call)
    observer, result = _observe(module, call, device, path, source)
    outputs, structure = taken_apart(result)
    if observer.reads_numbers and has_numbers(structure):
        raise CaptureError(
            "forward returns a Python number that it reads from a tensor (.item()): return the "
            "tensor, a kernel has no other way to give it."
        )
    twice = shared(outputs)
    outputs = {name: tensor for name, tensor in outputs.items() if name not in twice}
    _check_views(observer, outputs)
    specs = _specs(module, call, outputs)
    graph, reason = _graph(module, call, tuple(outputs), path)
    work = observer.work(outputs.values())
    del result, outputs
    kind = type(module).__qualname__
    task = _task(request, path, kind, source, module, call, specs, work, facts)
    task = attrs.evolve(task, graph=graph, graph_reason=reason, tf32=tf32_products(device))
    inputs, template = _template(module, call, source)
    captured = Captured(task, module, device, source, inputs, template, structure, twice)
    probe(captured, dynamic=observer.dynamic_op)
    return captured


def _sample(source: Source, module: torch.nn.Module, device: str) -> Call:
    """The user's own call, arguments by position as far as they go."""
    call = source.call(module.forward, _SEED, device)
    try:
        bound = inspect.signature(module.forward).bind(*call.args, **call.kwargs)
    except TypeError as error:
        signature = inspect.signature(module.forward)
        raise CaptureError(
            f"{type(module).__qualname__}.forward{signature} does not take the inputs given "
            f"({error}): change {_giver(source)}."
        ) from error
    call = Call(bound.args, bound.kwargs)
    return map_tensors(module.forward, call, lambda _, tensor: tensor.detach().to(device))


def _giver(source: Source) -> str:
    return "get_inputs()" if source.kind == "get_inputs" else source.place


def _observe(
    module: torch.nn.Module, call: Call, device: str, path: str, source: Source
) -> tuple[Observer, object]:
    """Run forward once, watched. Raises CaptureError for what no kernel can stand in for."""
    name = type(module).__qualname__
    if type(module).forward is torch.nn.Module.forward:
        raise CaptureError(f"{name} has no forward: there is nothing to make faster.")
    watched = {
        key: value for key, value in leaves(module.forward, call) if isinstance(value, torch.Tensor)
    }
    state = {key: tensor.detach() for key, (_, tensor) in state_of(module).items()}
    changed = attributes(module)
    observer = Observer(watched | state)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operator that hides what it computes
    try:
        with torch.no_grad(), RandomState(device) as generators, observer:
            result = module(*call.args, **call.kwargs)
    except Exception as error:
        given = ", ".join(
            f"{key} {str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
            for key, value in watched.items()
        )
        advice = f"check the shapes that {_giver(source)} gives ({given or 'no tensor'})"
        narrow, own = _floating(watched.values()), _floating(module.parameters())
        if len(narrow) == len(own) == 1 and narrow != own:
            advice = (
                f"the inputs are {narrow.pop()} and the parameters {own.pop()}: convert one of "
                "them, say by .half() in __init__ or behind the constructor in the comment"
            )
        raise failed(f"{name}.forward", error, path, advice) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    if observer.mutation is not None:
        tensor, op = observer.mutation
        what = "input" if tensor in watched else "tensor"
        raise CaptureError(
            f"{name}.forward changes its {what} {tensor!r} in place ({op}): modules that change "
            "inputs or buffers are not optimised; work on a copy."
        )
    attribute = changed()
    if attribute is not None:
        raise CaptureError(
            f"{name}.forward sets self.{attribute}: modules that keep state between calls are "
            "not optimised."
        )
    if generators.drawn:
        op = observer.random_op or "a generator of Python or numpy"
        raise CaptureError(
            f"{name}.forward draws random numbers ({op}), so no kernel can be checked against it: "
            "use eval mode, or take the randomness out of forward."
        )
    return observer, result


def _floating(tensors: Iterable[torch.Tensor]) -> set[str]:
    dtypes = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return {str(dtype).removeprefix("torch.") for dtype in dtypes}


def _check_views(observer: Observer, outputs: dict[str, torch.Tensor]) -> None:
    for name, tensor in outputs.items():
        view = observer.view_of(tensor)
        if view is not None:
            source, op = view
            how = f"through {op}" if op else "unchanged"
            raise CaptureError(
                f"forward returns {source!r} {how} as {name}, a view and no new tensor: there is "
                "nothing for a kernel to write."
            )


def _specs(
    module: torch.nn.Module, call: Call, outputs: dict[str, torch.Tensor]
) -> tuple[TensorSpec, ...]:
    specs: dict[str, TensorSpec] = {}

    def add(name: str, role: Role, tensor: torch.Tensor, stride: tuple[int, ...]) -> None:
        dtype = str(tensor.dtype).removeprefix("torch.")
        if name in specs:
            raise CaptureError(
                f"Two tensors are named {name!r} ({specs[name].role} and {role}): rename one."
            )
        if dtype not in ITEM_BYTES or tensor.layout is not torch.strided:
            raise CaptureError(
                f"The {role} {name!r} is {dtype} ({str(tensor.layout).removeprefix('torch.')}): "
                f"kernels take dense {', '.join(ITEM_BYTES)}."
            )
        specs[name] = TensorSpec(name, role, dtype, tuple(tensor.shape), stride)

    for name, value in leaves(module.forward, call):
        if isinstance(value, torch.Tensor):
            if values.overlaps(value):
                raise CaptureError(
                    f"Elements of the input {name!r} share memory: give forward a copy "
                    f"({name}.contiguous())."
                )
            add(name, "input", value, tuple(value.stride()))
    for name, (role, tensor) in state_of(module).items():
        add(name, role, tensor, tuple(tensor.stride()))
    for name, tensor in outputs.items():
        add(name, "output", tensor, dense_stride(tensor))
    return tuple(specs.values())


def _graph(
    module: torch.nn.Module, call: Call, outputs: tuple[str, ...], path: str
) -> tuple[Graph | None, str | None]:
    own = {id(tensor): name for name, (_, tensor) in state_of(module).items()}
    state = {name: name for name in own.values()}
    # A tied parameter has several names; the contract knows the first.
    for name, tensor in module.named_parameters(remove_duplicate=False):
        state[name] = own[id(tensor)]
    for name, buffer in module.named_buffers(remove_duplicate=False):
        state[name] = own[id(buffer)]
    inputs = tuple(
        name for name, value in leaves(module.forward, call) if isinstance(value, torch.Tensor)
    )
    try:
        return export(module, call, Names(inputs, state, outputs), path), None
    except Unsupported as error:
        return None, str(error)


def _template(
    module: torch.nn.Module, call: Call, source: Source
) -> tuple[dict[str, values.Leaf], Call]:
    """What is known of each input's values, and the call without memory."""
    found: dict[str, values.Leaf] = {}

    def note(name: str, tensor: torch.Tensor) -> torch.Tensor:
        found[name] = source.leaf(name) or values.observe(name, tensor)
        return tensor.to("meta")

    template = map_tensors(module.forward, call, note)
    return found, template


def _task(
    request: CaptureRequest,
    path: str,
    qualname: str,
    source: Source,
    module: torch.nn.Module,
    call: Call,
    specs: tuple[TensorSpec, ...],
    work: Work,
    facts: DeviceFacts,
) -> Task:
    scalars: dict[str, Scalar] = {
        name: value
        for name, value in leaves(module.forward, call)
        if isinstance(value, (bool, int, float))
    }
    bound, sure = limit(work, facts), certain(work, facts)
    return Task(
        path=path,
        qualname=qualname,
        module_name=locate(path, request.text).module_name,
        fingerprint=fingerprint(request.text, qualname) or "",
        inputs_from=source.kind,
        construction=source.construction,
        tensors=specs,
        scalars=scalars,
        mode=request.mode,
        policy="match",
        target=facts.key,
        flops=work.flops,
        min_bytes=work.min_bytes,
        longest_reduction=work.longest_reduction,
        limit_seconds=bound.seconds,
        limit_reason=bound.reason,
        certain_seconds=sure.seconds,
        certain_reason=sure.reason,
        graph=None,
    )
