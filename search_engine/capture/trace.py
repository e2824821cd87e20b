"""A run as steps between numbered values, for ``necessary``: which products have to be done."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from attrs import evolve
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from search_engine.capture.cost import Cost, name_of
from search_engine.capture.necessary import (
    TRIANGLES,
    Form,
    Step,
    Wanted,
    form_of,
    necessary,
    operands_share,
    triangle_share,
)

_MATRICES = frozenset({"mm", "bmm", "addmm", "baddbmm"})
_ADDED = frozenset({"addmm", "baddbmm"})  # what is added comes before the operands
_SPREADS = frozenset({"scatter_", "scatter_add_", "index_put_", "put_"})
_WRITES = _SPREADS | {"copy_", "fill_", "zero_", "masked_fill_", "masked_scatter_", "set_"}
_LARGEST_MASK = 2**26  # elements of a constant whose values are looked at


class Trace:
    """Filled by an observer, one call at a time."""

    def __init__(self, storages: Iterable[int]) -> None:
        """``storages`` are those of the task's own tensors, by address."""
        self._given = frozenset(storages)
        self._numbers: WeakIdKeyDictionary = WeakIdKeyDictionary()  # tensors live as they did
        self._places: dict[tuple[object, ...], int] = {}  # one place, one number
        self._counts: list[int] = []
        self._forms: list[Form] = []
        self._roots: list[int] = []  # what a value is a view of, itself where it is none
        self._steps: list[Step] = []
        self._wanted: dict[tuple[int, bool], Wanted] = {}
        self._written = False  # part of a value was written over: nothing is certain

    def note(
        self,
        func: torch._ops.OpOverload,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        result: Any,
        cost: Cost,
        dtype: str,
    ) -> None:
        """One call with its result; ``dtype`` is a product's."""
        name = name_of(func)
        read = [t for t in tree_leaves((args, dict(kwargs))) if isinstance(t, torch.Tensor)]
        made = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        reads = [self.number(tensor) for tensor in read]
        if not made:
            self._steps.append(Step(name, tuple(reads), ()))
            return
        if func._schema.is_mutable and name.endswith("_"):
            form = self._overwritten(name, made[0], reads)
            name = name.removesuffix("_")
        else:
            form = self._form(name, args, kwargs, read, reads, made, view=func.is_view)
        if cost.products:
            form = Form(plain=all(self._forms[number].plain for number in reads), linear=True)
        makes = tuple(self._make(t, form, reads, view=func.is_view) for t in made)
        others = [self._forms[number] for number in reads[1:]]
        step = Step(
            name,
            tuple(reads),
            makes,
            view=func.is_view,
            masked=any(not other.plain for other in others),
            through=self._through(name, args, read, reads),
        )
        if cost.products:
            step = self._product(step, args, read, cost, dtype)
        self._steps.append(step)

    def products(
        self, outputs: Iterable[torch.Tensor]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Flops of products by dtype, what the limit counts and what is certain."""
        numbers = [self.number(tensor) for tensor in outputs]
        counted, certain, self._wanted = necessary(self._steps, self._counts, numbers)
        return counted, {} if self._written else certain

    def wanted(self, number: int) -> float:
        """Of a value's entries the share that has to be read; ``products`` comes first."""
        if self._written:  # not followed through what was written over
            return 1.0
        return self._wanted.get((number, False), Wanted()).kept

    # --- values -------------------------------------------------------------------------

    def number(self, tensor: torch.Tensor) -> int:
        """The tensor's number; one that was never made here is the task's, or of unknown form."""
        number = self._numbers.get(tensor)
        if number is None:
            own = tensor.untyped_storage().data_ptr() in self._given
            place = ("given", tensor.untyped_storage().data_ptr(), *_place(tensor))
            number = self._places.get(place) if own else None
            if number is None:
                number = self._new(tensor, Form(plain=own and 0 not in tensor.stride()), None)
            if own:
                self._places[place] = number
            self._numbers[tensor] = number
        return int(number)

    def _new(self, tensor: torch.Tensor, form: Form, root: int | None) -> int:
        number = len(self._forms)
        self._forms.append(form)
        self._counts.append(tensor.numel())
        self._roots.append(number if root is None else root)
        return number

    def _make(self, tensor: torch.Tensor, form: Form, reads: Sequence[int], *, view: bool) -> int:
        if not view:
            number = self._new(tensor, form, None)
        else:
            root = self._roots[reads[0]]
            place = (root, *_place(tensor))
            if place not in self._places:
                self._places[place] = self._new(tensor, form, root)
            number = self._places[place]
        self._numbers[tensor] = number
        return number

    # --- forms --------------------------------------------------------------------------

    def _form(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        read: Sequence[torch.Tensor],
        reads: Sequence[int],
        made: Sequence[torch.Tensor],
        *,
        view: bool,
    ) -> Form:
        if name.endswith("_like") or name.startswith("new_"):
            name, reads = name.removeprefix("new_").removesuffix("_like"), ()
        known = [(self._counts[number], self._forms[number]) for number in reads]
        form = form_of(name, known, made[0].numel(), view=view)
        if name == "eye":
            rows, columns = made[0].shape
            form = evolve(form, kept=1 / max(rows, columns), distinct=1.0)
        elif name == "diag_embed":
            form = evolve(form, kept=read[0].numel() / max(1, made[0].numel()), plain=False)
        elif name in TRIANGLES and made[0].dim() >= 2:
            offset = args[1] if len(args) > 1 else kwargs.get("diagonal", 0)
            rows, columns = made[0].shape[-2:]
            kept = min(self._forms[reads[0]].kept, triangle_share(name, rows, columns, offset))
            square = rows == columns and offset == 0
            form = evolve(form, kept=kept, triangle=square, plain=False)
        through = self._through(name, args, read, reads)
        if name in ("add", "masked_fill", "where") and through < 1:
            form = evolve(form, finite=min(form.finite, through))
        if form.constant and made[0].is_floating_point():
            form = evolve(form, finite=_share(made[0] != -math.inf))
        return form

    def _overwritten(self, name: str, target: torch.Tensor, reads: Sequence[int]) -> Form:
        """The form behind an operator in place."""
        known = [(self._counts[number], self._forms[number]) for number in reads]
        whole = target.numel() * target.element_size() == target.untyped_storage().nbytes()
        if whole and name not in _WRITES:
            return form_of(name.removesuffix("_"), known, target.numel())
        self._written = True
        before = self._forms[reads[0]]
        kept = 1.0
        if name in _SPREADS:
            kept = before.kept + sum(count for count, _ in known[1:]) / max(1, target.numel())
        return Form(kept=min(1.0, kept), plain=False)

    def _through(
        self, name: str, args: tuple[Any, ...], read: Sequence[torch.Tensor], reads: Sequence[int]
    ) -> float:
        """Of the first tensor's entries the share that a constant mask or the like lets through."""
        if name in TRIANGLES and read and read[0].dim() >= 2:
            rows, columns = read[0].shape[-2:]
            return triangle_share(name, rows, columns, args[1] if len(args) > 1 else 0)
        forms = [self._forms[number] for number in reads]
        if len(forms) < 2:
            return 1.0
        if name == "mul":
            return min(form.kept for form in forms)
        if name == "add":
            return min(form.finite for form in forms)
        if name == "masked_fill" and forms[1].constant:
            return 1.0 - _share(read[1])
        if name == "where" and forms[0].constant and all(f.constant for f in forms[2:]):
            return _share(read[0])
        return 1.0

    # --- products -----------------------------------------------------------------------

    def _product(
        self,
        step: Step,
        args: tuple[Any, ...],
        read: Sequence[torch.Tensor],
        cost: Cost,
        dtype: str,
    ) -> Step:
        """The step with its flops, and how many of them its operands leave."""
        begin = 1 if step.name in _ADDED else 0
        left, right = (self._forms[number] for number in step.reads[begin : begin + 2])
        roots = {self._roots[number] for number in step.reads[begin : begin + 2]}
        own, certain = operands_share(left, right, alike=len(roots) == 1)
        if cost.convolution and len(args) > 6:
            own *= _inside(args, read)
            # Winograd's and Fourier's ways take fewer products where there are several taps.
            certain *= math.prod(read[1].shape[2:]) == 1 and not args[6]
        elif "attention" in step.name:
            causal = any(value is True for value in args)
            own, certain = own * (0.5 if causal else 1.0), 0.0
        elif step.name not in _MATRICES:
            certain = 0.0
        plain = tuple(a for a in args if not isinstance(a, torch.Tensor))
        return evolve(
            step,
            flops=cost.products,
            dtype=dtype,
            own=own,
            certain=certain,
            same=(step.name, step.reads, repr(plain)),
        )


def _place(tensor: torch.Tensor) -> tuple[object, ...]:
    return (
        tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype,
        tensor.is_neg(), tensor.is_conj(),
    )  # fmt: skip


def _share(mask: torch.Tensor) -> float:
    """Of a mask, the share that is set; all of it where it is too large to look at."""
    if mask.numel() == 0 or mask.numel() > _LARGEST_MASK:
        return 1.0
    return float((mask != 0).float().mean())


def _inside(args: tuple[Any, ...], read: Sequence[torch.Tensor]) -> float:
    """Of a convolution's taps, the share that does not lie in the padding."""
    image, weight = read[0].shape[2:], read[1].shape[2:]
    stride, padding, dilation, transposed = args[3], args[4], args[5], bool(args[6])
    share = 1.0
    for place, (size, taps) in enumerate(zip(image, weight, strict=True)):
        s, p, d = (v[min(place, len(v) - 1)] for v in (stride, padding, dilation))
        if transposed:  # from every element of the image to the result's, which is cut
            extra = args[7][min(place, len(args[7]) - 1)]
            steps, end = size, (size - 1) * s - 2 * p + d * (taps - 1) + extra + 1
        else:
            steps, end = (size + 2 * p - d * (taps - 1) - 1) // s + 1, size
        inside = sum(_hits(steps, s, t * d - p, end) for t in range(taps))
        share *= inside / max(1, steps * taps)
    return share


def _hits(steps: int, stride: int, shift: int, end: int) -> int:
    """How many of 0 … steps - 1 come to lie within [0, end) by ``i * stride + shift``."""
    first = max(0, -(shift // stride)) if shift < 0 else 0
    last = min(steps - 1, (end - 1 - shift) // stride)
    return max(0, last - first + 1)
