"""A captured module: runs eager, and draws fresh inputs and parameters for verification."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch

from search_engine.capture import values
from search_engine.capture.call import Call, leaves, map_tensors
from search_engine.capture.inputs import Source
from search_engine.capture.outputs import taken_apart
from search_engine.capture.structure import Tree, renamed
from search_engine.capture.values import Domain, Leaf
from search_engine.errors import CaptureError
from search_engine.task import Role, Task

_SEED_STEP = 1_000_003  # keeps the streams of a draw's tensors apart
_SEEDS = 2**63


def state_of(module: torch.nn.Module) -> dict[str, tuple[Role, torch.Tensor]]:
    """Parameters, buffers and other tensor attributes by path, each tensor once."""
    found: dict[str, tuple[Role, torch.Tensor]] = {}
    for name, parameter in module.named_parameters():
        found[name] = ("parameter", parameter)
    for name, buffer in module.named_buffers():
        found[name] = ("buffer", buffer)
    seen = {id(tensor) for _, tensor in found.values()}
    for path, part in module.named_modules():
        for key, value in vars(part).items():
            if isinstance(value, torch.Tensor) and id(value) not in seen:
                seen.add(id(value))
                found[f"{path}.{key}" if path else key] = ("constant", value)
    return found


def change_module(
    module: torch.nn.Module, change: Callable[[torch.Tensor], torch.Tensor]
) -> torch.nn.Module:
    """Apply ``change`` to every tensor of the module in place, plain attributes included."""
    module._apply(change)
    for part in module.modules():
        for key, value in list(vars(part).items()):
            if isinstance(value, torch.Tensor):
                setattr(part, key, change(value))
    return module


class Captured:
    """A task with its module, on one torch device.

    ``module`` is in the task's mode. Parameters are its own until ``randomise``;
    ``restore`` brings them back.
    """

    def __init__(
        self,
        task: Task,
        module: torch.nn.Module,
        device: str,
        source: Source,
        inputs: Mapping[str, Leaf],
        template: Call,
        structure: Tree | None = None,
        shared: Mapping[str, str] | None = None,
    ) -> None:
        """``structure`` is what forward returns, ``shared`` the names of tensors in it that are
        others of it (``outputs.taken_apart`` and ``outputs.shared``).
        """
        self.task = task
        self.module = module
        self.device = device
        self.notes: list[str] = []
        self.further: tuple[Captured, ...] = ()  # at the other shapes; they share the module
        self._structure = structure
        self._shared = dict(shared or {})
        self._source = source
        self._leaves = dict(inputs)
        self._template = template  # the user's call with tensors on the meta device
        self._originals: dict[str, torch.Tensor] | None = None
        self._sliced: dict[str, int] = {}  # input name → leading size
        self._reduced: dict[int, Captured | None] = {}
        self.own_integers = False  # integers and bools only as the user's get_inputs gives them
        self.accepts: Domain = "any"  # forward raises on floats outside of it
        self.keep_state = False  # parameters and buffers must stay as they are

    # --- running -------------------------------------------------------------------

    def run(self, call: Call, module: torch.nn.Module | None = None) -> dict[str, torch.Tensor]:
        """Eager outputs by contract name, of ``module`` in place of the own one if given."""
        with torch.no_grad():
            found, structure = taken_apart((module or self.module)(*call.args, **call.kwargs))
        if self._structure is None:
            self._structure = structure
        if structure != self._structure:
            raise CaptureError(
                f"{type(self.module).__qualname__}.forward returns other Python values, or another "
                "structure, for other inputs of the same shapes: return tensors alone."
            )
        return {t.name: found[t.name] for t in self.task.outputs}

    @property
    def structure(self) -> Tree:
        """What forward returns, each tensor in it by its own name."""
        assert self._structure is not None
        return self._structure

    @property
    def result(self) -> Tree:
        """What forward returns, with the task's outputs in its slots."""
        return renamed(self.structure, self._shared)

    def tensors(self, call: Call) -> dict[str, torch.Tensor]:
        """What a kernel may read, by contract name: inputs, parameters, buffers, constants."""
        found = {
            name: value
            for name, value in leaves(self.module.forward, call)
            if isinstance(value, torch.Tensor)
        }
        for name, (_, tensor) in state_of(self.module).items():
            found[name] = tensor.detach()
        return found

    # --- values --------------------------------------------------------------------

    def draw(self, seed: int, distribution: str = "default", domain: Domain = "any") -> Call:
        """Fresh inputs; the same for the same arguments on one kind of device.

        ``default`` is what the user's own ``get_inputs`` gives. The others (``values``) fill
        floating tensors. ``domain`` folds them into positive numbers or into [0, 1], for
        modules that take no others.
        """
        own: Call | None = None
        kept = {
            name
            for name, leaf in self._leaves.items()
            if leaf.fixed or (self.own_integers and not leaf.dtype.is_floating_point)
        }
        if distribution == "default" or kept:
            own = self._own(seed)
        if own is not None and distribution == "default":
            return own
        given = {} if own is None else dict(leaves(self.module.forward, own))
        order = {name: number for number, name in enumerate(self._leaves)}

        def fill(name: str, _: torch.Tensor) -> torch.Tensor:
            if name in kept:
                return given[name]
            stream = (seed + (order[name] + 1) * _SEED_STEP) % _SEEDS
            return values.draw(self._leaves[name], distribution, domain, stream, self.device)

        return map_tensors(self.module.forward, self._template, fill)

    def _own(self, seed: int) -> Call:
        call = self._source.call(self.module.forward, seed % 2**32, self.device)

        def place(name: str, tensor: torch.Tensor) -> torch.Tensor:
            tensor = tensor.detach().to(self.device)
            return tensor[: self._sliced[name]].clone() if name in self._sliced else tensor

        return map_tensors(self.module.forward, call, place)

    def randomise(self, seed: int, distribution: str = "default") -> None:
        """Fresh parameters, buffers and constants, of the same kind and scale as the originals.

        Masks, integers, infinities stay; the scale does not follow ``distribution``.
        """
        if self.keep_state:
            return
        originals = self._remember()
        with torch.no_grad():
            for number, (name, (role, tensor)) in enumerate(state_of(self.module).items()):
                original = originals[name]
                if not values.is_structure(name, original, parameter=role == "parameter"):
                    values.randomise(tensor, original, (seed + number * _SEED_STEP) % _SEEDS)

    def restore(self) -> None:
        """The module's own parameters, buffers and constants again."""
        originals = self._remember()
        with torch.no_grad():
            for name, (_, tensor) in state_of(self.module).items():
                tensor.copy_(originals[name])

    def _remember(self) -> dict[str, torch.Tensor]:
        if self._originals is None:
            state = state_of(self.module)
            self._originals = {name: t.detach().clone() for name, (_, t) in state.items()}
        return self._originals

    # --- the same elsewhere ----------------------------------------------------------

    def copied_module(self) -> torch.nn.Module:
        """A deep copy of the module with the same tensors' values."""
        try:
            return copy.deepcopy(self.module)
        except Exception:  # noqa: BLE001 (modules hold what cannot be copied: build it again)
            module = self._source.construct(self.device).train(self.module.training)
            change_module(module, lambda tensor: tensor.to(self.device))
            mine = state_of(self.module)
            with torch.no_grad():
                for name, (_, tensor) in state_of(module).items():
                    tensor.copy_(mine[name][1])
            return module

    def to(self, device: str) -> Captured:
        """A deep copy on that torch device."""
        module = change_module(self.copied_module(), lambda tensor: tensor.to(device))
        other = self._like(self.task, module, device, self._leaves, self._template)
        other._structure = self._structure
        other._sliced = dict(self._sliced)
        if self._originals is not None:
            other._originals = {k: v.to(device) for k, v in self._originals.items()}
        return other

    def _like(
        self,
        task: Task,
        module: torch.nn.Module,
        device: str,
        inputs: Mapping[str, Leaf],
        template: Call,
    ) -> Captured:
        """Another one that takes the same values."""
        other = Captured(task, module, device, self._source, inputs, template, None, self._shared)
        other.notes = list(self.notes)
        other.own_integers = self.own_integers
        other.keep_state = self.keep_state
        other.accepts = self.accepts
        return other

    # --- a smaller leading dimension ---------------------------------------------------

    @property
    def leading(self) -> int:
        """The leading size of the largest input, 0 where there is none."""
        leaf = self._largest()
        return leaf.shape[0] if leaf is not None and leaf.shape else 0

    def _largest(self) -> Leaf | None:
        return max(
            self._leaves.values(),
            key=lambda leaf: torch.Size(leaf.shape).numel(),
            default=None,
        )

    def at_leading(self, size: int) -> Captured | None:
        """The same module (shared, not copied) on inputs of a smaller leading size.

        The inputs that share the largest one's leading size get smaller; where forward
        refuses that, the largest one alone. None where neither works, and where it makes
        no output smaller.
        """
        if not 0 < size < self.leading:
            return None
        if size not in self._reduced:
            largest = self._largest()
            assert largest is not None
            sharing = [n for n, x in self._leaves.items() if x.shape[:1] == largest.shape[:1]]
            self._reduced[size] = self._sliced_to(size, sharing) or (
                self._sliced_to(size, [largest.name]) if len(sharing) > 1 else None
            )
        return self._reduced[size]

    def _sliced_to(self, size: int, names: list[str]) -> Captured | None:
        smaller = {
            name: _slice(leaf, size) if name in names else leaf
            for name, leaf in self._leaves.items()
        }
        template = map_tensors(
            self.module.forward,
            self._template,
            lambda name, _: values.empty_like(smaller[name], "meta"),
        )
        other = self._like(self.task, self.module, self.device, smaller, template)
        other._sliced = self._sliced | dict.fromkeys(names, size)
        other._originals = self._remember()
        try:
            outputs = other.run(other.draw(0))
        except Exception:  # noqa: BLE001 (whatever a forward raises on sizes it was not made for)
            return None
        before = {t.name: t.shape for t in self.task.outputs}
        if all(tuple(t.shape) == before.get(name) for name, t in outputs.items()):
            return None
        other.task = _smaller_task(self.task, smaller, outputs, size)
        return other


def _slice(leaf: Leaf, size: int) -> Leaf:
    whole = torch.empty_strided(leaf.shape, leaf.stride, device="meta")
    part = whole[:size].clone()  # keeps the order of dense strides
    return attrs.evolve(leaf, shape=tuple(part.shape), stride=tuple(part.stride()))


def _smaller_task(
    task: Task, inputs: Mapping[str, Leaf], outputs: Mapping[str, torch.Tensor], size: int
) -> Task:
    shapes: dict[str, Any] = {name: (x.shape, x.stride) for name, x in inputs.items()}
    for name, tensor in outputs.items():
        shapes[name] = (tuple(tensor.shape), dense_stride(tensor))
    tensors = tuple(
        attrs.evolve(spec, shape=shapes[spec.name][0], stride=shapes[spec.name][1])
        if spec.name in shapes
        else spec
        for spec in task.tensors
    )
    return attrs.evolve(
        task, tensors=tensors, graph=None, graph_reason=f"Reduced to a leading size of {size}."
    )


def dense_stride(tensor: torch.Tensor) -> tuple[int, ...]:
    """The strides that a fresh copy of ``tensor`` has: its own order, without gaps."""
    copied = torch.empty_strided(tensor.shape, tensor.stride(), device="meta").clone()
    return tuple(copied.stride())
