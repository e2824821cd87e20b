"""Where a module's construction and inputs come from: the file's functions, or its comment."""

from __future__ import annotations

import ast
import inspect
from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any, Literal

import torch

from search_engine.capture import values
from search_engine.capture.call import Call
from search_engine.capture.comment import (
    Description,
    TensorInput,
    owns_get_inputs,
    parse_comment,
)
from search_engine.capture.where import failed
from search_engine.errors import CaptureError


class Source(ABC):
    """Constructs the module and gives calls with the user's own values."""

    kind: Literal["get_inputs", "comment"]
    construction: str  # for people: "Net(512)"

    @abstractmethod
    def construct(self) -> torch.nn.Module:
        """A new module. Raises CaptureError."""

    @abstractmethod
    def call(self, forward: Any, seed: int, device: str) -> Call:
        """Fresh inputs on ``device``. Raises CaptureError."""

    def leaf(self, name: str) -> values.Leaf | None:
        """What the source itself says of a tensor's values; None where it says nothing."""
        return None


def source_of(module: ModuleType, text: str, path: str, cls: type[torch.nn.Module]) -> Source:
    """The source for ``cls``. Raises CaptureError where there is none."""
    descriptions = parse_comment(text, cls.__qualname__)
    get_inputs = getattr(module, "get_inputs", None)
    if callable(get_inputs) and owns_get_inputs(text, cls.__qualname__):
        return _Functions(module, path, cls)
    if descriptions:
        return _Comment(module, path, cls, descriptions[0])
    raise CaptureError(
        f"Nothing says what {cls.__qualname__} is run on: add get_inputs() to the file, or "
        f"`# kernel-lsp: {cls.__name__}(…), x=float32[…]` above the class."
    )


def _construct(
    cls: type[torch.nn.Module], args: tuple[Any, ...], kwargs: dict[str, Any], path: str, how: str
) -> torch.nn.Module:
    try:
        inspect.signature(cls).bind(*args, **kwargs)
    except TypeError as error:
        raise CaptureError(
            f"{cls.__qualname__}.__init__ does not take what {how} gives ({error}): "
            f"its signature is {cls.__name__}{inspect.signature(cls)}."
        ) from error
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return cls(*args, **kwargs)
    except Exception as error:
        raise failed(
            f"{cls.__qualname__}.__init__", error, path, f"check the arguments that {how} gives"
        ) from error


class _Functions(Source):
    """``get_inputs()`` and ``get_init_inputs()``: the KernelBench convention."""

    kind = "get_inputs"

    def __init__(self, module: ModuleType, path: str, cls: type[torch.nn.Module]) -> None:
        self._module = module
        self._path = path
        self._cls = cls
        self._args, self._kwargs = self._init_inputs()
        given = [*map(repr, self._args), *(f"{k}={v!r}" for k, v in self._kwargs.items())]
        self.construction = f"{cls.__qualname__}({', '.join(given)})"

    def _init_inputs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """``[a, b]``, ``[[a, b], {"c": 1}]`` or ``{"c": 1}``; no function means no arguments."""
        function = getattr(self._module, "get_init_inputs", None)
        if function is None:
            return (), {}
        try:
            given = function()
        except Exception as error:
            raise failed("get_init_inputs()", error, self._path, "mend it") from error
        if isinstance(given, dict):
            return (), given
        if not isinstance(given, (list, tuple)):
            raise CaptureError(
                f"get_init_inputs() returns {type(given).__name__}: a list or a dict is needed."
            )
        pair = len(given) == 2 and isinstance(given[0], (list, tuple))
        if pair and isinstance(given[1], dict):
            return tuple(given[0]), given[1]
        return tuple(given), {}

    def construct(self) -> torch.nn.Module:
        how = "get_init_inputs()" if hasattr(self._module, "get_init_inputs") else "no argument"
        return _construct(self._cls, self._args, self._kwargs, self._path, how)

    def call(self, forward: Any, seed: int, device: str) -> Call:
        try:
            given = self._fresh(seed, device)
        except Exception as error:
            raise failed("get_inputs()", error, self._path, "mend it") from error
        if isinstance(given, torch.Tensor):
            return Call((given,))
        if isinstance(given, dict):
            return Call((), given)
        if isinstance(given, (list, tuple)):
            return Call(tuple(given))
        raise CaptureError(
            f"get_inputs() returns {type(given).__name__}: a list of forward's arguments is needed."
        )

    def _fresh(self, seed: int, device: str) -> Any:
        kind = torch.device(device)
        devices = [kind] if kind.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            if kind.type == "cpu":
                return self._module.get_inputs()
            try:  # drawn where they are used: a gigabyte takes seconds on the host
                with kind:
                    return self._module.get_inputs()
            except Exception:  # noqa: BLE001 (say, numpy on a CUDA tensor)
                torch.manual_seed(seed)
                return self._module.get_inputs()


class _Comment(Source):
    """A ``# kernel-lsp:`` comment above the class."""

    kind = "comment"

    def __init__(
        self, module: ModuleType, path: str, cls: type[torch.nn.Module], description: Description
    ) -> None:
        self._path = path
        self._cls = cls
        self._description = description
        self.construction = description.call or f"{cls.__qualname__}()"
        self._args: tuple[Any, ...] = ()
        self._kwargs: dict[str, Any] = {}
        if description.call is not None:
            self._args, self._kwargs = self._arguments(module, description.call)

    def _arguments(self, module: ModuleType, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        where = f"Line {self._description.line}"
        try:
            call = ast.parse(text, mode="eval").body
        except SyntaxError as error:
            raise CaptureError(f"{where}: `{text}` is no constructor call.") from error
        if not isinstance(call, ast.Call):
            raise CaptureError(f"{where}: `{text}` is no constructor call.")
        if ast.unparse(call.func).rsplit(".", 1)[-1] != self._cls.__name__:
            raise CaptureError(
                f"{where}: the call is of {ast.unparse(call.func)}, the class below is "
                f"{self._cls.__name__}."
            )
        try:
            args = tuple(_evaluate(a, module) for a in call.args)
            kwargs = {k.arg: _evaluate(k.value, module) for k in call.keywords if k.arg}
        except Exception as error:
            raise failed(
                f"{where}: evaluating `{text}`", error, self._path, "mend the comment"
            ) from error
        return args, kwargs

    def construct(self) -> torch.nn.Module:
        how = f"the comment in line {self._description.line}"
        return _construct(self._cls, self._args, self._kwargs, self._path, how)

    def leaf(self, name: str) -> values.Leaf | None:
        """What the comment says of a tensor's values."""
        given = self._description.inputs.get(name)
        if not isinstance(given, TensorInput):
            return None
        stride = torch.empty(given.shape, device="meta").stride()
        dtype = getattr(torch, given.dtype)
        return values.Leaf(name, dtype, given.shape, stride, given.low, given.high)

    def call(self, forward: Any, seed: int, device: str) -> Call:
        kwargs: dict[str, Any] = {}
        for number, (name, given) in enumerate(self._description.inputs.items()):
            leaf = self.leaf(name)
            if leaf is None:
                kwargs[name] = given
            else:
                kwargs[name] = values.draw(leaf, "default", "any", seed + number, device)
        return Call((), kwargs)


def _evaluate(node: ast.expr, module: ModuleType) -> Any:
    """A constructor argument: literals, and names and calls of what the file defines."""
    if isinstance(node, ast.Name):
        builtin = {"int": int, "float": float, "bool": bool, "dict": dict, "tuple": tuple}
        if not hasattr(module, node.id) and node.id in builtin:
            return builtin[node.id]
        return getattr(module, node.id)
    if isinstance(node, ast.Attribute):
        return getattr(_evaluate(node.value, module), node.attr)
    if isinstance(node, ast.Call):
        args = [_evaluate(a, module) for a in node.args]
        kwargs = {k.arg: _evaluate(k.value, module) for k in node.keywords if k.arg}
        return _evaluate(node.func, module)(*args, **kwargs)
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_evaluate(item, module) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict):
        keys = [None if key is None else _evaluate(key, module) for key in node.keys]
        return dict(zip(keys, [_evaluate(v, module) for v in node.values], strict=True))
    return ast.literal_eval(node)
