"""A delivery checked as it will run: what is offered is what was verified.

The user's text with the two lines in it is imported under its own package name, the
delivered files from a scratch folder; nothing is written beside the user's file.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from search_engine.capture.call import map_tensors
from search_engine.capture.captured import Captured, state_of
from search_engine.capture.loader import load
from search_engine.capture.outputs import taken_apart
from search_engine.contract.parse import parse
from search_engine.deliver import edit, files
from search_engine.deliver.delivery import Delivery
from search_engine.devices._base import Device, Execution, Program, Rejected
from search_engine.errors import DeliveryError
from search_engine.task import Task
from search_engine.verdict import Finding, Verdict
from search_engine.verify.verify import verify


def check_delivery(
    captured: Captured, delivery: Delivery, device: Device, *, text: str | None = None
) -> Verdict:
    """The verdict on the delivery as it lies on disk.

    ``captured`` is the module at one of the delivered shapes. On a GPU the delivered module
    is verified like any kernel; a call of it that runs its original forward is a finding.
    Elsewhere the delivered module must import and fall back to the original bit for bit,
    and the kernel file on disk is verified by ``device``.

    ``text`` is the user's file; by default as it was imported at capture. Raises
    DeliveryError where the edit does not fit it.
    """
    with delivered_module(captured, delivery, text=text) as (module, found):
        if device.measures:
            return verify(
                captured, _program(delivery), AsDelivered(device, captured, module, found)
            )
        problem = _falls_back(captured, module, found)
        source = _kernel_source(captured, found)
    if problem is not None:
        return Verdict(False, device.name, (problem,))
    (built,) = device.compile([parse(source)], captured.task)
    if isinstance(built, Rejected):
        return Verdict(False, device.name, built.findings)
    return verify(captured, built, device)


@contextlib.contextmanager
def delivered_module(
    captured: Captured, delivery: Delivery, *, text: str | None = None
) -> Iterator[tuple[torch.nn.Module, ModuleType]]:
    """The captured module, a copy of it, as the delivery makes it; and the delivered file.

    Only within the context: behind it the user's module is imported as it was.
    """
    task = captured.task
    if text is None:
        text = "".join(linecache.getlines(task.path))
    edited = edit.apply(text, edit.insert(text, delivery))
    with tempfile.TemporaryDirectory(prefix="kernel-lsp-") as scratch, _as_it_was(task):
        folder = Path(scratch)
        files.write(folder, delivery)
        name = _full_name(task, delivery)
        finder = _ScratchFinder(name.rpartition(".")[0], folder / _folder(delivery), task.path)
        sys.meta_path.insert(0, finder)
        try:
            user = load(task.path, edited)
            yield _converted(captured, user), sys.modules[name]
        finally:
            sys.meta_path.remove(finder)
            for loaded in [m for m in sys.modules if m.startswith(finder.package)]:
                del sys.modules[loaded]


class AsDelivered(Device):
    """A device whose kernel is the delivered module: verification runs it like any other."""

    def __init__(
        self, device: Device, captured: Captured, module: torch.nn.Module, found: ModuleType
    ) -> None:
        self.facts = device.facts
        self.name = device.name
        self.torch_device = device.torch_device
        self.measures = device.measures
        self._captured = captured
        self._module = module.to(device.torch_device)
        self._found = found

    def compile(self, kernels: Sequence[Any], task: Task) -> list[Program | Rejected]:
        """Nothing to compile: the module does that at its first call."""
        return [Program(kernel, (), None) for kernel in kernels]

    def execute(
        self,
        program: Program,
        task: Task,
        tensors: Mapping[str, torch.Tensor],
        *,
        checked: bool,
        offset: int = 0,
    ) -> Execution:
        """Call the module on the tensors; its parameters and buffers are set first."""
        with torch.no_grad():
            for name, (_, tensor) in state_of(self._module).items():
                tensor.copy_(tensors[name])
            call = map_tensors(
                self._module.forward, self._captured.draw(0), lambda name, _: tensors[name]
            )
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                result = self._module(*call.args, **call.kwargs)
            reason = self._found.explain(self._module, *call.args, **call.kwargs)
        if reason != "kernel":
            messages = "; ".join([reason, *(str(warning.message) for warning in said)])
            return Execution({}, (Finding("delivery", f"the delivered module ran its {messages}"),))
        outputs, structure = taken_apart(result)
        if structure != self._captured.structure:
            return Execution({}, (_OTHER_STRUCTURE,))
        return Execution(outputs)


_OTHER_STRUCTURE = Finding(
    "delivery", "the delivered module returns its tensors in another structure than the original"
)


def _kernel_source(captured: Captured, found: ModuleType) -> str:
    """The text of the kernel file on disk that serves the captured shapes."""
    wanted = {t.name: t.shape for t in captured.task.inputs}, captured.task.scalars
    for case in found.VERIFIED.cases:
        shapes = {name: shape for name, (_, shape, _) in case.inputs.items()}
        scalars = {k: v for k, v in case.arguments.items() if k in captured.task.scalars}
        if (shapes, scalars) == wanted:
            name = found.VERIFIED.kernels[case.kernel].name
            return (Path(found.__file__ or "").parent / name).read_text("utf-8")
    raise DeliveryError(f"The delivered file has no kernel for {captured.task.shape_text}.")


def _program(delivery: Delivery) -> Program:
    source = next(text for name, text in delivery.files.items() if name.endswith(".cu"))
    return Program(parse(source), (), None)


def _falls_back(captured: Captured, module: torch.nn.Module, found: ModuleType) -> Finding | None:
    """Without a GPU: the delivered module gives what the original gives, bit for bit."""
    call = captured.draw(0)
    reason = found.explain(module, *call.args, **call.kwargs)
    if "(device)" not in reason:
        return Finding("delivery", f"without a GPU the delivered module would run its {reason}")
    with torch.no_grad():
        got, structure = taken_apart(module(*call.args, **call.kwargs))
    if structure != captured.structure:
        return _OTHER_STRUCTURE
    for name, wanted in captured.run(call).items():
        if not torch.equal(got[name].nan_to_num(), wanted.nan_to_num()):
            return Finding("delivery", "the delivered module's fallback differs", place=name)
    return None


# --- importing ------------------------------------------------------------------------


def _folder(delivery: Delivery) -> str:
    return next(iter(delivery.files)).partition("/")[0]


def _full_name(task: Task, delivery: Delivery) -> str:
    """The delivered Python file's dotted name, as the user's file imports it."""
    words = delivery.import_line.split()  # from .net_cuda.Net import Net_cuda
    if not words[1].startswith("."):
        return words[1]
    package = Path(task.path).name == "__init__.py"
    parent = task.module_name if package else task.module_name.rpartition(".")[0]
    return f"{parent}{words[1]}"


class _ScratchFinder(importlib.abc.MetaPathFinder):
    """Finds the folder of delivered files in the scratch copy."""

    def __init__(self, package: str, folder: Path, task_path: str) -> None:
        self.package = package
        self._folder = folder
        self._task_path = task_path

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == self.package:
            spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            # Behind the scratch folder the real one, with the kernels of other classes.
            real = Path(self._task_path).parent / self._folder.name
            spec.submodule_search_locations = [str(self._folder), str(real)]
            return spec
        head, _, tail = fullname.rpartition(".")
        file = self._folder / f"{tail}.py"
        if head != self.package or not file.is_file():
            return None
        return importlib.util.spec_from_file_location(fullname, file)


@contextlib.contextmanager
def _as_it_was(task: Task) -> Iterator[None]:
    """Put the user's module and its text back as they were."""
    module = sys.modules.get(task.module_name)
    lines = linecache.cache.get(task.path)
    finders = list(sys.meta_path)
    path = list(sys.path)
    try:
        yield
    finally:
        sys.meta_path[:] = finders
        sys.path[:] = path
        sys.modules.pop(task.module_name, None)
        if module is not None:
            sys.modules[task.module_name] = module
        linecache.cache.pop(task.path, None)
        if lines is not None:
            linecache.cache[task.path] = lines


def _converted(captured: Captured, user: ModuleType) -> torch.nn.Module:
    """A copy of the captured module whose classes are those of the edited file."""
    module = captured.copied_module()
    for part in module.modules():
        kind = type(part)
        if kind.__module__ == captured.task.module_name:
            part.__class__ = _class(user, kind)
    return module


def _class(user: ModuleType, kind: type) -> type:
    if "<locals>" in kind.__qualname__:
        raise DeliveryError(
            f"{kind.__qualname__} is defined inside a function: move it to the top of the file, so "
            "that its delivered form can be checked."
        )
    found: Any = user
    for name in kind.__qualname__.split("."):
        found = getattr(found, name)
    return found
