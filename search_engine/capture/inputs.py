"""Where a module's construction and inputs come from: the file's functions, or its comment."""

from __future__ import annotations

import ast
import contextlib
import copy
import inspect
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
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
from search_engine.recording import RecordedCall


class Source(ABC):
    """Constructs the module and gives calls with the user's own values."""

    kind: Literal["get_inputs", "comment", "recorded"]
    construction: str  # for people: "Net(512)"
    place: str  # where it stands, for people: "get_inputs()"
    further: tuple[Source, ...] = ()  # of the same module, with inputs of other shapes

    @abstractmethod
    def construct(self, device: str = "cpu") -> torch.nn.Module:
        """A new module; made on ``device`` where that works, else on the CPU.

        Raises CaptureError.
        """

    @abstractmethod
    def call(self, forward: Any, seed: int, device: str) -> Call:
        """Fresh inputs on ``device``. Raises CaptureError."""

    def leaf(self, name: str) -> values.Leaf | None:
        """What the source itself says of a tensor's values; None where it says nothing."""
        return None


def source_of(
    module: ModuleType,
    text: str,
    path: str,
    cls: type[torch.nn.Module],
    recorded: Sequence[RecordedCall] = (),
) -> Source:
    """The source for ``cls``; what was ``recorded`` counts where the file says nothing.

    Raises CaptureError where there is none.
    """
    descriptions = parse_comment(text, cls.__qualname__)
    get_inputs = getattr(module, "get_inputs", None)
    if callable(get_inputs) and owns_get_inputs(text, cls.__qualname__):
        return _Functions(module, path, cls)
    if descriptions:
        source = Comment(module, path, cls, descriptions[0])
        source.further = tuple(source.at(other) for other in descriptions[1:])
        return source
    if recorded:
        from search_engine.capture.recorded import recorded_source  # builds on this file

        return recorded_source(module, path, cls, recorded)
    raise CaptureError(
        f"Nothing says what {cls.__qualname__} is run on: add get_inputs() to the file, or "
        f"`# kernel-lsp: {cls.__name__}(…), x=float32[…]` above the class, or run your script "
        "once with `kernel-lsp record`."
    )


def _construct(
    cls: type[torch.nn.Module],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    path: str,
    how: str,
    device: str,
) -> torch.nn.Module:
    try:
        inspect.signature(cls).bind(*args, **kwargs)
    except TypeError as error:
        raise CaptureError(
            f"{cls.__qualname__}.__init__ does not take what {how} gives ({error}): "
            f"its signature is {cls.__name__}{inspect.signature(cls)}."
        ) from error
    kind = torch.device(device)
    try:
        with torch.random.fork_rng(devices=[] if kind.type == "cpu" else [kind]):
            torch.manual_seed(0)
            if kind.type != "cpu":
                # Where it is used: the random weights of a large module take seconds on the host.
                with contextlib.suppress(Exception), kind:
                    return cls(*args, **kwargs)
                torch.manual_seed(0)
            return cls(*args, **kwargs)
    except Exception as error:
        raise failed(
            f"{cls.__qualname__}.__init__", error, path, f"check the arguments that {how} gives"
        ) from error


class _Functions(Source):
    """``get_inputs()`` and ``get_init_inputs()``: the KernelBench convention."""

    kind = "get_inputs"
    place = "get_inputs()"

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

    def construct(self, device: str = "cpu") -> torch.nn.Module:
        how = "get_init_inputs()" if hasattr(self._module, "get_init_inputs") else "no argument"
        return _construct(self._cls, self._args, self._kwargs, self._path, how, device)

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


class Comment(Source):
    """A ``# kernel-lsp:`` comment above the class."""

    kind: Literal["get_inputs", "comment", "recorded"] = "comment"

    def __init__(
        self, module: ModuleType, path: str, cls: type[torch.nn.Module], description: Description
    ) -> None:
        self._path = path
        self._cls = cls
        self._description = description
        self._leaves = dict(_tensor_leaves(description.inputs))
        self.construction = description.call or f"{cls.__qualname__}()"
        self.place = f"the comment in line {description.line}"
        self._args: tuple[Any, ...] = ()
        self._kwargs: dict[str, Any] = {}
        self._dtypes: list[torch.dtype] = []
        if description.call is not None:
            self._args, self._kwargs = self._arguments(module, description.call)

    def at(self, description: Description) -> Comment:
        """The same module on the inputs of another comment.

        Raises CaptureError where that one builds another module.
        """
        call = description.call
        if call is not None and "".join(call.split()) != "".join(self.construction.split()):
            raise CaptureError(
                f"Line {description.line}: `{call}` is another module than `{self.construction}` "
                f"in line {self._description.line}: leave it out, or search for one at a time."
            )
        other = copy.copy(self)
        other._description = description
        other._leaves = dict(_tensor_leaves(description.inputs))
        other.place = f"the comment in line {description.line}"
        return other

    def _arguments(self, module: ModuleType, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        where = f"Line {self._description.line}"
        try:
            call = ast.parse(text, mode="eval").body
        except SyntaxError as error:
            raise CaptureError(f"{where}: `{text}` is no constructor call.") from error
        if not isinstance(call, ast.Call):
            raise CaptureError(f"{where}: `{text}` is no constructor call.")
        while isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Call):
            self._dtypes.insert(0, _conversion(call, where))
            call = call.func.value
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

    def construct(self, device: str = "cpu") -> torch.nn.Module:
        """The module as the comment makes it. Raises CaptureError."""
        made = _construct(self._cls, self._args, self._kwargs, self._path, self.place, device)
        for dtype in self._dtypes:
            made.to(dtype)
        return made

    def leaf(self, name: str) -> values.Leaf | None:
        """What the comment says of a tensor's values."""
        given = self._leaves.get(name)
        if given is None:
            return None
        stride = torch.empty(given.shape, device="meta").stride()
        dtype = getattr(torch, given.dtype)
        return values.Leaf(name, dtype, given.shape, stride, given.low, given.high)

    def call(self, forward: Any, seed: int, device: str) -> Call:
        """Fresh inputs of the shapes in the comment."""
        drawn = {
            name: values.draw(_present(self.leaf(name)), "default", "any", seed + number, device)
            for number, name in enumerate(self._leaves)
        }
        given = {name: _filled(name, v, drawn) for name, v in self._description.inputs.items()}
        return _as_written(forward, given)


def _tensor_leaves(inputs: Mapping[str, Any]) -> Iterator[tuple[str, TensorInput]]:
    """Tensors by contract name, those in lists and dicts too."""
    for name, value in inputs.items():
        if isinstance(value, TensorInput):
            yield name, value
        elif isinstance(value, (list, tuple)):
            yield from _tensor_leaves({f"{name}.{i}": item for i, item in enumerate(value)})
        elif isinstance(value, dict):
            yield from _tensor_leaves({f"{name}.{key}": item for key, item in value.items()})


def _present(leaf: values.Leaf | None) -> values.Leaf:
    assert leaf is not None
    return leaf


def _filled(name: str, value: Any, drawn: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, TensorInput):
        return drawn[name]
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(f"{name}.{i}", item, drawn) for i, item in enumerate(value))
    if isinstance(value, dict):
        return {key: _filled(f"{name}.{key}", item, drawn) for key, item in value.items()}
    return value


def _as_written(forward: Any, given: dict[str, Any]) -> Call:
    """The call with those arguments by name; what ``*args`` is given goes by position."""
    parameters = inspect.signature(forward).parameters
    rest = next((p.name for p in parameters.values() if p.kind is p.VAR_POSITIONAL), None)
    if rest is None or rest not in given:
        return Call((), given)
    before = [name for name in itertools.takewhile(rest.__ne__, parameters) if name in given]
    args = (*(given[name] for name in before), *given[rest])
    return Call(args, {k: v for k, v in given.items() if k not in (*before, rest)})


def _conversion(call: ast.Call, where: str) -> torch.dtype:
    """The dtype of ``.half()`` or ``.to(torch.float16)`` behind a constructor call."""
    assert isinstance(call.func, ast.Attribute)
    method = call.func.attr
    named = {"half": "float16", "bfloat16": "bfloat16", "float": "float32", "double": "float64"}
    name = named.get(method, "") if not (call.args or call.keywords) else ""
    if method == "to" and len(call.args) == 1 and not call.keywords:
        name = ast.unparse(call.args[0]).removeprefix("torch.")
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise CaptureError(
            f"{where}: behind the constructor only .half(), .bfloat16(), .float(), .double() and "
            f".to(torch.dtype) may stand, not `.{method}(…)`."
        )
    return dtype


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
