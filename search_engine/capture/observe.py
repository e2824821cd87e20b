"""What a module does when it runs: one eager run, watched at the level of ATen calls.

Sees what export leaves out or hides: which operator changed an input, which drew random
numbers, of which tensor an output is a view; and counts flops and the bytes that must move.
"""

from __future__ import annotations

import math
import pickle
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

import numpy
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from search_engine.capture.cost import Cost, cost_of, name_of
from search_engine.capture.limit import Work
from search_engine.capture.reads import read_share
from search_engine.capture.trace import Trace
from search_engine.task import ProductKind

# Read only where an index points, so at most as much as comes out.
_GATHERS = frozenset(("embedding", "index", "index_select", "gather", "select", "masked_select"))
# Operators of CUDA and MKL-DNN that change running statistics without saying so.
_BATCH_NORMS = frozenset(
    ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_native_batch_norm_legit")
)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Observer(TorchDispatchMode):
    """Watches one run; ``watched`` are the tensors that it may read but not change."""

    def __init__(self, watched: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self._names: dict[int, str] = {}
        for name, tensor in watched.items():
            if tensor.numel():
                self._names.setdefault(_storage(tensor), name)
        self._sizes = {_storage(t): t.numel() * t.element_size() for t in watched.values()}
        self._trace = Trace(self._names)
        self._read: dict[int, dict[int, tuple[int, int]]] = {}  # bytes read, and in all
        self._last_view: dict[int, str] = {}
        self._products: Counter[str] = Counter()
        self._other = 0
        self._reduction = 1
        self.mutation: tuple[str, str] | None = None  # (tensor's name, operator)
        self.random_op: str | None = None  # the first that may draw random numbers
        self.dynamic_op: str | None = None  # the first whose result's shape depends on values
        self.reads_numbers = False  # a tensor's value became a Python number

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        result = func(*args, **given)
        name = str(func)
        if torch.Tag.nondeterministic_seeded in func.tags and self.random_op is None:
            self.random_op = name
        if torch.Tag.dynamic_output_shape in func.tags and self.dynamic_op is None:
            self.dynamic_op = name
        self.reads_numbers |= name == "aten._local_scalar_dense.default"
        self._note_mutation(func, args, given)
        if func.is_view:
            self._note_view(name, args, result)
            self._trace.note(func, args, given, result, Cost(), "")
            return result
        cost = cost_of(func, args, given, result)
        self._other += cost.other
        self._reduction = max(self._reduction, cost.reduction)
        dtype = ""
        if cost.products:
            tensor = next(t for t in args if isinstance(t, torch.Tensor))
            dtype = _product_dtype(tensor, convolution=cost.convolution)
            self._products[dtype] += cost.products
        self._trace.note(func, args, given, result, cost, dtype)
        self._note_reads(func, args, given, result)
        return result

    def _note_mutation(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if self.mutation is not None:
            return
        for index, argument in enumerate(func._schema.arguments):
            written = argument.alias_info is not None and argument.alias_info.is_write
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            if written and isinstance(value, torch.Tensor) and _storage(value) in self._names:
                self.mutation = (self._names[_storage(value)], str(func))
        if name_of(func) in _BATCH_NORMS and len(args) > 5 and args[5] is True:
            statistics = args[3]
            if isinstance(statistics, torch.Tensor) and _storage(statistics) in self._names:
                self.mutation = (self._names[_storage(statistics)], str(func))

    def _note_view(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.numel():
                self._last_view[_storage(tensor)] = name

    def _note_reads(
        self,
        func: torch._ops.OpOverload,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,
    ) -> None:
        produced = sum(
            t.numel() * t.element_size() for t in tree_leaves(result) if isinstance(t, torch.Tensor)
        )
        gathers = name_of(func) in _GATHERS
        place = -1  # among the tensors
        for position, tensor in enumerate(tree_leaves((args, kwargs))):
            place += isinstance(tensor, torch.Tensor)
            if not isinstance(tensor, torch.Tensor) or _storage(tensor) not in self._names:
                continue
            # Sizes of broadcast (stride 0) dimensions are not read again.
            distinct = math.prod(
                s for s, step in zip(tensor.shape, tensor.stride(), strict=True) if step
            )
            whole = distinct * tensor.element_size()
            nbytes = math.ceil(whole * read_share(name_of(func), args, place))
            if gathers and position == 0:
                nbytes = min(nbytes, produced)
            key = self._trace.number(tensor)
            views = self._read.setdefault(_storage(tensor), {})
            views[key] = max(views.get(key, (0, whole)), (nbytes, whole))

    def _needed_bytes(self, views: Mapping[int, tuple[int, int]]) -> int:
        """Of the bytes that were read of views, those that anything came of."""
        return sum(
            min(read, math.ceil(whole * self._trace.wanted(view)))
            for view, (read, whole) in views.items()
        )

    def view_of(self, output: torch.Tensor) -> tuple[str, str | None] | None:
        """(watched tensor's name, the last view operator) where ``output`` shares its memory."""
        if not output.numel() or _storage(output) not in self._names:
            return None
        return self._names[_storage(output)], self._last_view.get(_storage(output))

    def work(self, outputs: Iterable[torch.Tensor]) -> Work:
        """What the run had to do at least."""
        produced = list(outputs)
        counted, certain = self._trace.products(produced)
        read = sum(
            min(self._sizes[storage], self._needed_bytes(views))
            for storage, views in self._read.items()
        )
        floating = [t.dtype for t in produced if t.dtype.is_floating_point]
        return Work(
            read_bytes=read,
            written_bytes=sum(t.numel() * t.element_size() for t in produced),
            products=dict(self._products),
            least_products=counted,
            certain_products=certain,
            other_flops=self._other,
            other_dtype="float64" if torch.float64 in floating else "float32",
            longest_reduction=self._reduction,
        )


def _product_dtype(tensor: torch.Tensor, *, convolution: bool) -> str:
    """The precision that torch's own flags give a product on a GPU."""
    name = str(tensor.dtype).removeprefix("torch.")
    if name != "float32":
        return name
    return "tf32" if _tf32_allowed("convolution" if convolution else "matmul") else "float32"


def _tf32_allowed(kind: ProductKind) -> bool:
    try:
        if kind == "convolution":
            return bool(torch.backends.cudnn.allow_tf32)
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # the user mixed torch's old and new precision settings
        return False


def tf32_products(device: str) -> tuple[ProductKind, ...]:
    """The fp32 products that eager takes in TF32 on a torch device: none but on a GPU."""
    if torch.device(device).type != "cuda":
        return ()
    kinds: tuple[ProductKind, ...] = ("matmul", "convolution")
    return tuple(kind for kind in kinds if _tf32_allowed(kind))


class RandomState:
    """Whether any of the usual generators was drawn from between ``enter`` and ``exit``."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self.drawn = False

    def _read(self) -> list[object]:
        states: list[object] = [torch.get_rng_state().numpy().tobytes(), random.getstate()]
        states.append(pickle.dumps(numpy.random.get_state()))
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device).numpy().tobytes())
        return states

    def __enter__(self) -> RandomState:
        self._before = self._read()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.drawn = self._read() != self._before


def attributes(module: torch.nn.Module) -> Callable[[], str | None]:
    """Remember every attribute of every submodule; the result names one that changed since."""
    before = {
        (path, key): value
        for path, part in module.named_modules()
        for key, value in _own(part).items()
    }

    def changed() -> str | None:
        for path, part in module.named_modules():
            for key, value in _own(part).items():
                if (path, key) not in before or before[path, key] is not value:
                    return f"{path}.{key}" if path else key
        return None

    return changed


def _own(part: torch.nn.Module) -> dict[str, Any]:
    plain = {k: v for k, v in vars(part).items() if k not in ("_parameters", "_buffers")}
    return plain | part._parameters | part._buffers
