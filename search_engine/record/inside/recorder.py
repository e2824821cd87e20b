"""What is kept of every call of the user's own modules.

``torch.nn.Module`` gets three wrappers as soon as the script imports it: round ``__call__``
(inputs and times), round ``__init__`` and in place of ``__new__`` (how it was made). No
module is touched: nothing appears in its attributes, hooks, ``state_dict`` or pickles.
"""

from __future__ import annotations

import atexit
import functools
import importlib.abc
import importlib.machinery
import inspect
import json
import os
import sys
import sysconfig
import time
import types
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import describe
from .clock import Clock, Times

VERSION = 1  # of the snapshot
WRITE_SECONDS = 2.0  # between snapshots: what a kill may lose
MOST_VARIANTS = 64  # of inputs per class; what comes later is counted only
MOST_CLASSES = 500
_TENSORS: set[type] = set()  # filled in once torch is there


class _Variant:
    """One way in which a class was called."""

    __slots__ = ("calls", "description", "state", "strides", "why")

    def __init__(self) -> None:
        self.calls = 0
        self.description = self.why = self.state = ""
        self.strides: dict[str, tuple[int, ...]] = {}


class _Kind:
    """One class of the user's own."""

    def __init__(self, cls: type, file: str, times: Times) -> None:
        self.cls, self.file, self.times = cls, file, times
        self.calls = 0
        self.graded = 0  # calls with gradients enabled
        self.variants: dict[object, _Variant] = {}
        self.made: dict[int, tuple[weakref.ref[Any], str]] = {}  # by id: how, in words
        self.texts: dict[str, None] = {}  # every such text of the class
        self.why = ""  # why an instance has none


_UNKNOWN: Any = object()  # a class that was not seen before


class Recorder:
    """Everything recorded in this process."""

    def __init__(self, snapshot: Path) -> None:
        self._snapshot = snapshot
        self._process = os.getpid()
        self._clock = Clock(self._step)
        self._kinds: dict[type, _Kind | None] = {}
        self._texts: dict[str, str] = {}  # of the files with classes, as they were at first sight
        self._pending: dict[int, tuple[weakref.ref[Any], str]] = {}
        self._written = time.monotonic()
        self._on = True
        self._device = "cpu"
        self._library = tuple(
            str(Path(path).resolve()) + os.sep
            for path in {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
            if path
        )

    # --- wrappers ---------------------------------------------------------------------

    def attach(self, module_type: Any) -> None:
        """Wrap ``torch.nn.Module``."""
        import torch

        _TENSORS.update((torch.Tensor, torch.nn.Parameter))
        module_type.__call__ = self._around_call(module_type.__call__, torch)
        module_type.__init__ = self._around_init(module_type.__init__)
        module_type.__new__ = self._new_for(module_type)

    def _around_call(self, call: Callable[..., Any], torch: Any) -> Callable[..., Any]:
        compiling, tracing = torch.compiler.is_compiling, torch.jit.is_tracing
        graded, clock, kinds = torch.is_grad_enabled, self._clock, self._kinds

        @functools.wraps(call)
        def recorded_call(module: Any, *args: Any, **kwargs: Any) -> Any:
            # First: torch.compile traces through here and must find nothing of ours.
            if compiling() or tracing() or not self._on:
                return call(module, *args, **kwargs)
            subject, kind = module, kinds.get(type(module), _UNKNOWN)
            if kind is None or kind is _UNKNOWN:
                subject, kind = self._subject(module)
                if kind is None:
                    return call(module, *args, **kwargs)
            self._note(kind, subject, args, kwargs, graded())
            if clock.idle:
                return call(module, *args, **kwargs)
            token = clock.enter(kind.times)
            try:
                return call(module, *args, **kwargs)
            finally:
                clock.leave(token)

        return recorded_call

    def _subject(self, module: Any) -> tuple[Any, _Kind | None]:
        """The module that a call is of: what torch.compile made of one stands for it."""
        kind = self._classify(type(module))
        if kind is None:
            module = module.__dict__.get("_modules", {}).get("_orig_mod")
            kind = None if module is None else self._classify(type(module))
        return module, kind

    def _around_init(self, init: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(init)
        def recorded_init(module: Any, *args: Any, **kwargs: Any) -> None:
            # A copy or a pickle makes an instance without this call, and without arguments.
            entry = self._pending.pop(id(module), None)
            kind = self._kinds.get(type(module))
            if entry is not None and kind is not None and entry[0]() is module:
                kind.made[id(module)] = entry
                kind.texts[entry[1]] = None
            init(module, *args, **kwargs)

        return recorded_init

    def _new_for(self, module_type: Any) -> Callable[..., Any]:
        def recorded_new(cls: Any, *args: Any, **kwargs: Any) -> Any:
            after = super(module_type, cls).__new__  # another base may have its own
            module: Any
            if after is object.__new__:
                module = after(cls)
            else:
                module = after(cls, *args, **kwargs)
            # A class with its own __new__ hands on what it likes.
            if self._on and cls.__new__ is recorded_new:
                kind = self._classify(cls)
                if kind is not None:
                    self._made(kind, module, args, kwargs)
            return module

        return recorded_new

    def _classify(self, cls: type) -> _Kind | None:
        """The class's record, None where it is not the user's own."""
        if cls in self._kinds:
            return self._kinds[cls]
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        kind = None
        if file is not None and len(self._kinds) < MOST_CLASSES:
            path = str(Path(file).resolve())
            if path.endswith(".py") and not self._is_library(path) and self._read(path):
                kind = _Kind(cls, path, self._clock.times())
        self._kinds[cls] = kind
        return kind

    def _is_library(self, path: str) -> bool:
        parts = Path(path).parts
        return (
            path.startswith(self._library) or "site-packages" in parts or "dist-packages" in parts
        )

    def _read(self, path: str) -> bool:
        """Keep a file's text as it was when its class was first seen."""
        if path not in self._texts:
            try:
                self._texts[path] = Path(path).read_bytes().decode("utf-8-sig")
            except (OSError, UnicodeDecodeError):
                return False
        return True

    # --- one instance, one call -------------------------------------------------------

    def _made(
        self, kind: _Kind, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Keep how an instance is being made, until its ``__init__`` says that it is."""
        try:
            inspect.signature(type(module).__init__).bind(module, *args, **kwargs)
        except (TypeError, ValueError):
            return  # a copy, which gets no arguments, or a mistake that Python will report
        try:
            text = describe.construction(type(module), args, kwargs, self._words)
        except describe.Undescribed as error:
            kind.why = str(error)
            return
        key = id(module)
        gone = functools.partial(_drop, self._pending, kind.made, key)
        self._pending[key] = (weakref.ref(module, gone), text)

    def _words(self, module: Any) -> str | None:
        """How one of the user's own modules was made, None for anything else."""
        kind = self._kinds.get(type(module))
        made = None if kind is None else kind.made.get(id(module))
        return None if made is None else made[1]

    def _note(
        self, kind: _Kind, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], graded: bool
    ) -> None:
        kind.calls += 1
        kind.graded += graded
        made = kind.made.get(id(module))
        try:
            key = (
                "" if made is None else made[1],
                module.training,
                _key(args),
                _key(kwargs) if kwargs else None,
            )
            variant = kind.variants.get(key)
        except Exception:  # noqa: BLE001 - sparse tensors have no strides: counted only
            return
        if variant is None:
            if len(kind.variants) >= MOST_VARIANTS:
                return
            variant = kind.variants[key] = self._describe(kind, module, args, kwargs)
        variant.calls += 1

    def _step(self) -> None:
        if time.monotonic() - self._written > WRITE_SECONDS:
            self.write()

    def _describe(
        self, kind: _Kind, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _Variant:
        variant = _Variant()
        try:
            made = self._construction(kind, module) + describe.conversion(module)
            given, variant.strides = describe.inputs(module, args, kwargs)
            variant.description = ", ".join(filter(None, [made, given]))
            variant.state = describe.state_digest(module)
        except describe.Undescribed as error:
            variant.why = str(error)
        except Exception as error:  # noqa: BLE001 - the user's run goes on, whatever we missed
            variant.why = f"it could not be described ({type(error).__name__})"
        self._device = _device_name() or self._device
        return variant

    @staticmethod
    def _construction(kind: _Kind, module: Any) -> str:
        """How an instance was made; a copy was made as the only other way that was seen."""
        made = kind.made.get(id(module))
        if made is not None:
            return made[1]
        if kind.why:
            raise describe.Undescribed(kind.why)
        if len(kind.texts) == 1:
            return next(iter(kind.texts))
        raise describe.Undescribed("it was copied or loaded, so its arguments are not known")

    # --- writing down -----------------------------------------------------------------

    def write(self) -> None:
        """The snapshot as of now, whole or not at all."""
        if os.getpid() != self._process:
            return
        self._written = time.monotonic()
        clock = self._clock
        kinds = [kind for kind in self._kinds.values() if kind is not None and kind.calls]
        content = {
            "version": VERSION,
            "device": self._device,
            "steps": clock.steps,
            "wall": clock.wall,
            "gpu": clock.gpu,
            "texts": {kind.file: self._texts[kind.file] for kind in kinds},
            "classes": [_entry(kind) for kind in kinds],
        }
        new = self._snapshot.with_suffix(".new")
        try:
            new.write_text(json.dumps(content), encoding="utf-8")
            new.replace(self._snapshot)
        except (OSError, ValueError):
            self._on = False  # a full disk is no reason to disturb the script

    def finish(self) -> None:
        """The last snapshot; later calls are not recorded."""
        if os.getpid() == self._process and self._on:
            self._on = False
            self._clock.finish()
            self.write()

    def stop(self) -> None:
        """Record nothing more: this is a forked child of the process that was recorded."""
        self._on = False


def _entry(kind: _Kind) -> dict[str, Any]:
    times = kind.times
    ordered = sorted(kind.variants.values(), key=lambda v: -v.calls)
    return {
        "file": kind.file,
        "qualname": kind.cls.__qualname__,
        "calls": kind.calls,
        "graded": kind.graded,
        "timed": times.timed,
        "cpu": times.cpu,
        "cpu_self": times.cpu_self,
        "gpu": times.gpu,
        "gpu_self": times.gpu_self,
        "variants": [
            {
                "calls": v.calls, "description": v.description, "why": v.why, "state": v.state,
                "strides": {name: list(stride) for name, stride in v.strides.items()},
            }
            for v in ordered
        ],
    }  # fmt: skip


def _drop(pending: dict[int, Any], made: dict[int, Any], key: int, gone: object) -> None:
    for table in (pending, made):
        if table.get(key, (None,))[0] is gone:
            del table[key]


def _key(value: Any, depth: int = 0) -> object:
    """What tells calls apart: shapes, strides and dtypes of tensors, values of scalars."""
    kind = type(value)
    if kind in _TENSORS:
        return (value.shape, value.dtype, value.stride())
    if kind in (tuple, list) and len(value) <= 64 and depth < 4:
        return (kind, *[_key(item, depth + 1) for item in value])
    if kind is dict and len(value) <= 64 and depth < 4:
        return tuple([(str(name), _key(item, depth + 1)) for name, item in value.items()])
    if value is None or kind in (bool, int, float, str):
        return (kind, value)
    return kind


def _device_name() -> str:
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return ""
    return str(cuda.get_device_name())


# --- from the start of the script to its import of torch ------------------------------


class _Loader(importlib.abc.Loader):
    """Loads torch and wraps ``Module`` before anybody has it."""

    def __init__(self, loader: importlib.abc.Loader, recorder: Recorder) -> None:
        self._loader, self._recorder = loader, recorder

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        self._loader.exec_module(module)
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        if hasattr(module, "nn"):  # else a file of the user's that is called torch.py
            self._recorder.attach(module.nn.Module)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._recorder)
        return spec


def start(snapshot: Path) -> Recorder:
    """Record from now on; ``finish`` is called at exit too, and before ``os._exit``."""
    recorder = Recorder(snapshot)
    sys.meta_path.insert(0, _Finder(recorder))
    os.register_at_fork(after_in_child=recorder.stop)
    atexit.register(recorder.finish)
    leave = os._exit

    @functools.wraps(leave)
    def recorded_exit(status: int) -> Any:
        recorder.finish()
        leave(status)

    os._exit = recorded_exit
    return recorder
